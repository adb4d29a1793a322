//! Which server to ask.

use std::fs;
use std::path::{Path, PathBuf};

use tonic::transport::Channel;

/// Where agents and labs put their sockets.
const RUN: &str = "/run/signet";
/// The socket of this host's agent.
const AGENT: &str = "agent.sock";
/// The socket of a lab, inside the lab's directory.
const RELAY: &str = "relay.sock";

/// Where to ask.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServerArgs {
    /// Unix socket to ask [default: this host's agent, else the only lab]
    #[arg(long, value_name = "[unix://]PATH")]
    pub server: Option<String>,
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Not a socket's path.
    #[error("--server `{0}` is no unix socket: give unix:///PATH or a path")]
    NotUnix(String),
    /// Nothing to be found.
    #[error(
        "nothing to ask: no {RUN}/{AGENT} and no lab runs; start one (`signet lab up DIR`), or give --server"
    )]
    None,
    /// More than one lab.
    #[error("several labs run; say which with --server:{}", list(.0))]
    Several(Vec<PathBuf>),
    /// It does not answer.
    #[error(transparent)]
    Connect(#[from] api::client::ConnectError),
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("\n  {}", path.display())).collect()
}

/// Connects to the server of the flags, or to the one there is.
pub async fn connect(args: &ServerArgs) -> Result<Channel, ServerError> {
    let path = match &args.server {
        Some(text) => path(text)?,
        None => find(Path::new(RUN))?,
    };
    Ok(api::client::connect(&path).await?)
}

fn path(text: &str) -> Result<PathBuf, ServerError> {
    let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
    // `localhost:4245` and `tls://...` are what Hubble takes and this slice does not.
    let looks_like_a_path = path.contains('/') || !path.contains(':');
    if path.is_empty() || path.contains("://") || !looks_like_a_path {
        return Err(ServerError::NotUnix(text.to_owned()));
    }
    Ok(path.into())
}

/// The agent's socket, else that of the only lab.
fn find(run: &Path) -> Result<PathBuf, ServerError> {
    let agent = run.join(AGENT);
    if agent.exists() {
        return Ok(agent);
    }
    let labs = fs::read_dir(run).into_iter().flatten().flatten();
    let mut relays: Vec<PathBuf> =
        labs.map(|lab| lab.path().join(RELAY)).filter(|relay| relay.exists()).collect();
    relays.sort();
    match relays.len() {
        0 => Err(ServerError::None),
        1 => Ok(relays.remove(0)),
        _ => Err(ServerError::Several(relays)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(files: &[&str]) -> tempfile::TempDir {
        let run = tempfile::tempdir().unwrap();
        for file in files {
            let path = run.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        run
    }

    #[track_caller]
    fn check_found(files: &[&str], want: &str) {
        let run = run(files);
        assert_eq!(find(run.path()).unwrap(), run.path().join(want));
    }

    #[test]
    fn the_hosts_agent_is_asked_before_any_lab() {
        check_found(&["agent.sock", "tiny/relay.sock"], "agent.sock");
    }

    #[test]
    fn the_only_lab_is_asked() {
        check_found(&["tiny/relay.sock", "other/lab.json"], "tiny/relay.sock");
    }

    #[test]
    fn several_labs_are_listed() {
        let run = run(&["b/relay.sock", "a/relay.sock"]);
        let error = find(run.path()).unwrap_err().to_string();
        let [a, b] = ["a", "b"].map(|lab| run.path().join(lab).join("relay.sock"));
        let want = format!(
            "several labs run; say which with --server:\n  {}\n  {}",
            a.display(),
            b.display()
        );
        assert_eq!(error, want);
    }

    #[test]
    fn nothing_to_ask_is_said() {
        assert!(matches!(find(run(&[]).path()), Err(ServerError::None)));
        assert!(matches!(find(Path::new("/nonexistent")), Err(ServerError::None)));
    }

    #[track_caller]
    fn check_path(text: &str, want: Option<&str>) {
        assert_eq!(path(text).ok(), want.map(PathBuf::from), "{text}");
    }

    #[test]
    fn a_server_is_a_unix_socket() {
        check_path("/run/x.sock", Some("/run/x.sock"));
        check_path("unix:///run/x.sock", Some("/run/x.sock"));
        check_path("unix:/run/x.sock", Some("/run/x.sock"));
        check_path("x.sock", Some("x.sock"));
        check_path("localhost:4245", None);
        check_path("tls://relay/x", None);
        check_path("unix://", None);
    }
}
