//! Which server to ask.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::observer::{AGENT_VERSION_HEADER, HUBBLE_VERSION, RELAY_VERSION_HEADER};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::observe::text::escape;
use crate::observe::time;

/// Where agents and labs put their sockets.
const RUN: &str = "/run/signet";
/// The socket of this host's agent.
const AGENT: &str = "agent.sock";
/// The socket of a lab, inside the lab's directory.
const RELAY: &str = "relay.sock";

/// Where to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// Unix socket to ask [default: this host's agent, else the only lab]
    #[arg(long, value_name = "[unix://]PATH")]
    pub server: Option<String>,

    /// How long to wait for a connection
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub timeout: Duration,

    /// How long to wait for an answer that is not a stream
    #[arg(long, value_name = "DURATION", default_value = "12s", value_parser = duration)]
    pub request_timeout: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let ns = time::duration_ns(text).ok_or("give a duration: 5s, 1m30s")?;
    Ok(Duration::from_nanos(ns))
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
    /// Nobody accepts in time.
    #[error("no connection to `{}` within {:?}: give more with --timeout", .0.display(), .1)]
    Timeout(PathBuf, Duration),
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
    match tokio::time::timeout(args.timeout, api::client::connect(&path)).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(ServerError::Timeout(path, args.timeout)),
    }
}

impl ServerArgs {
    /// The answer to a call, in time.
    pub async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        match tokio::time::timeout(self.request_timeout, call).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded(format!(
                "no answer within {:?}: give more with --request-timeout",
                self.request_timeout
            ))),
        }
    }
}

/// Says on stderr when the server speaks a newer version than this client.
pub fn warn_of_newer(metadata: &MetadataMap) {
    let headers = [AGENT_VERSION_HEADER, RELAY_VERSION_HEADER];
    let version = headers.iter().find_map(|header| metadata.get(*header)?.to_str().ok());
    if let Some(version) = version
        && is_newer(version)
    {
        let version = escape(version);
        eprintln!("signet: the server speaks Hubble {version}, this client {HUBBLE_VERSION}");
    }
}

/// Whether its minor version is above ours; what is no version is not.
fn is_newer(version: &str) -> bool {
    let minor = |text: &str| -> Option<(u64, u64)> {
        let mut numbers = text.trim_start_matches('v').split(['.', '-', '+']);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    minor(version).is_some_and(|version| Some(version) > minor(HUBBLE_VERSION))
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
    fn only_a_newer_minor_version_is_worth_a_word() {
        assert!(is_newer("1.20.0") && is_newer("v2.0.0-dev"));
        assert!(!is_newer("1.19.9") && !is_newer("0.1.0") && !is_newer("next"));
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
