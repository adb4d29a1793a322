//! Which server to ask.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::client::ClientTls;
use api::observer::{AGENT_VERSION_HEADER, HUBBLE_VERSION, RELAY_VERSION_HEADER};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::observe::text::escape;
use crate::observe::time;
use hubble::HubbleArgs;

mod hubble;

/// Where agents and labs put their sockets.
const RUN: &str = "/run/signet";
/// The socket of this host's agent.
const AGENT: &str = "agent.sock";
/// The socket of a lab, inside the lab's directory.
const RELAY: &str = "relay.sock";

/// Where to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// Whom to ask [default: this host's agent, else the only lab]
    #[arg(long, value_name = "[unix://]PATH|tls://HOST:PORT")]
    pub server: Option<String>,

    #[command(flatten)]
    pub tls: TlsArgs,

    /// How long to wait for a connection
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub timeout: Duration,

    /// How long to wait for an answer that is not a stream
    #[arg(long, value_name = "DURATION", default_value = "12s", value_parser = duration)]
    pub request_timeout: Duration,

    /// Say on stderr whom is asked and for what, and which nodes come and go
    #[arg(short = 'D', long)]
    pub debug: bool,

    #[command(flatten)]
    hubble: HubbleArgs,
}

/// How to meet a server on TCP.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// The server is HOST:PORT and speaks TLS, as with tls://
    #[arg(long)]
    pub tls: bool,

    /// Roots of the server's certificate, in PEM
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    pub tls_ca_cert_files: Vec<PathBuf>,

    /// Our certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_client_key_file")]
    pub tls_client_cert_file: Option<PathBuf>,

    /// Its key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_client_cert_file")]
    pub tls_client_key_file: Option<PathBuf>,

    /// Name in the server's certificate [default: the host's]
    #[arg(long, value_name = "NAME")]
    pub tls_server_name: Option<String>,

    /// A file with a token that says who we are
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Who we are to a proxy before the server that wants a password (HTTP basic)
    #[arg(
        long,
        value_name = "NAME",
        requires = "basic_auth_password",
        conflicts_with = "token_file"
    )]
    pub basic_auth_username: Option<String>,

    /// The password
    #[arg(long, value_name = "PASSWORD", requires = "basic_auth_username")]
    pub basic_auth_password: Option<String>,
}

impl TlsArgs {
    fn read(&self) -> Result<ClientTls, ServerError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|source| ServerError::File { path: path.clone(), source })
        };
        let roots: Result<Vec<Vec<u8>>, ServerError> =
            self.tls_ca_cert_files.iter().map(read).collect();
        let identity = match (&self.tls_client_cert_file, &self.tls_client_key_file) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            _ => None,
        };
        Ok(ClientTls {
            roots: roots?.concat(),
            identity,
            server_name: self.tls_server_name.clone(),
        })
    }

    /// The `authorization` of every call.
    fn token(&self) -> Result<Option<AsciiMetadataValue>, ServerError> {
        if let (Some(name), Some(password)) = (&self.basic_auth_username, &self.basic_auth_password)
        {
            let value = STANDARD.encode(format!("{name}:{password}"));
            // What base 64 writes a header can hold.
            return Ok(format!("Basic {value}").parse().ok());
        }
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        let failed = |source| ServerError::File { path: path.clone(), source };
        let text = fs::read_to_string(path).map_err(failed)?;
        let value = format!("Bearer {}", text.trim());
        value.parse().map(Some).map_err(|_| failed(io::Error::other("it holds no token")))
    }
}

/// Says with every call who we are.
#[derive(Clone, Debug)]
pub struct Token(Option<AsciiMetadataValue>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A connection that is ready to be asked.
pub type Connection = InterceptedService<Channel, Token>;

fn duration(text: &str) -> Result<Duration, String> {
    let ns = time::duration_ns(text).ok_or("give a duration: 5s, 1m30s")?;
    Ok(Duration::from_nanos(ns))
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Not a socket's path.
    #[error("--server `{0}` is no unix socket: give unix:///PATH, a path, or tls://HOST:PORT")]
    NotUnix(String),
    /// Flags that are known, and not done.
    #[error("{0}")]
    Refused(String),
    /// Nothing to be found.
    #[error(
        "nothing to ask: no {RUN}/{AGENT} and no lab runs; start one (`signet lab up DIR`), or give --server"
    )]
    None,
    /// More than one lab.
    #[error("several labs run; say which with --server:{}", list(.0))]
    Several(Vec<PathBuf>),
    /// Nobody accepts in time.
    #[error("no connection to `{0}` within {1:?}: give more with --timeout")]
    Timeout(String, Duration),
    /// A file of the TLS flags.
    #[error("cannot read `{}`", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not answer.
    #[error(transparent)]
    Connect(#[from] api::client::ConnectError),
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("\n  {}", path.display())).collect()
}

/// Connects to the server of the flags, or to the one there is.
pub async fn connect(args: &ServerArgs) -> Result<Connection, ServerError> {
    args.check()?;
    let place = match &args.server {
        Some(text) => place(text, args.tls.tls)?,
        None => Place::Socket(find(Path::new(RUN))?),
    };
    if matches!(place, Place::Socket(_)) && args.tls.basic_auth_username.is_some() {
        return Err(ServerError::Refused(
            "--basic-auth-username: a password is sent by TLS only: give --server tls://HOST:PORT"
                .to_owned(),
        ));
    }
    let connecting = async {
        match &place {
            Place::Socket(path) => api::client::connect(path).await,
            Place::Tls(address) => api::client::connect_tls(address, args.tls.read()?).await,
        }
        .map_err(ServerError::Connect)
    };
    let channel = match tokio::time::timeout(args.timeout, connecting).await {
        Ok(connected) => connected?,
        Err(_) => return Err(ServerError::Timeout(place.to_string(), args.timeout)),
    };
    args.say(format_args!("connected to {place}"));
    Ok(InterceptedService::new(channel, Token(args.tls.token()?)))
}

/// Where a server is.
#[derive(Debug, Eq, PartialEq)]
enum Place {
    Socket(PathBuf),
    /// Host and port.
    Tls(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Tls(address) => address.fmt(f),
        }
    }
}

/// Reads `--server`: what is on the network is met with TLS, or not at all.
fn place(text: &str, tls: bool) -> Result<Place, ServerError> {
    match text.strip_prefix("tls://").or_else(|| tls.then_some(text)) {
        Some(address) if address.contains(':') && !address.contains('/') => {
            Ok(Place::Tls(address.to_owned()))
        }
        Some(_) => Err(ServerError::NotUnix(text.to_owned())),
        None => path(text).map(Place::Socket),
    }
}

impl ServerArgs {
    /// Refuses flags that ask for what is not done.
    pub fn check(&self) -> Result<(), ServerError> {
        self.hubble.check().map_err(ServerError::Refused)
    }

    /// What is done, for who wants to see it.
    pub fn say(&self, what: fmt::Arguments<'_>) {
        if self.debug {
            eprintln!("signet: {what}");
        }
    }

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
    // `localhost:4245` is what Hubble takes in the clear, and nobody here.
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

    #[test]
    fn a_server_on_the_network_is_met_with_tls_or_not_at_all() {
        let tls = Place::Tls("relay:4245".into());
        assert_eq!(place("tls://relay:4245", false).unwrap(), tls);
        assert_eq!(place("relay:4245", true).unwrap(), tls);
        for (text, flag) in [("relay:4245", false), ("tls://relay", false), ("/x", true)] {
            assert!(place(text, flag).is_err(), "{text}");
        }
    }
}
