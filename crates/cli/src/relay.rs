//! `signet relay`: several agents as one, on a socket or on TCP.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::TcpSettings;
use agent::tcp::Listening;
use api::client::ClientTls;
use api::relay::{Member, Place, Relay};
use api::server::{Services, listener, serve_all, serve_relay_tls};
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::TcpArgs;
use crate::error::Error;

/// Serve several agents as one, flows and status merged
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  signet relay --listen /run/signet/relay.sock \\
    --node node-a=/run/signet/a/agent.sock --node node-b=/run/signet/b/agent.sock
  signet relay --listen /run/signet/relay.sock --node c1/node-a=tls://10.0.0.1:4244 \\
    --node-ca-files ca.pem --node-client-cert-file relay.pem --node-client-key-file relay.key")]
pub struct RelayArgs {
    /// Unix socket to serve on
    #[arg(long, value_name = "PATH")]
    listen: PathBuf,

    /// An agent: its node's name, as its flows carry it, and where it serves
    #[arg(
        long = "node", value_name = "NAME=PATH|tls://HOST:PORT", value_parser = node,
        required_unless_present = "nodes_file"
    )]
    nodes: Vec<Node>,

    /// More of them, one a line; read again when it changes
    #[arg(long, value_name = "FILE")]
    nodes_file: Option<PathBuf>,

    #[command(flatten)]
    reach: ReachArgs,

    #[command(flatten)]
    tcp: Option<TcpArgs>,
}

/// How agents on TCP are met. Their certificates name them as Hubble's do:
/// `<node>.<cluster>.hubble-grpc.cilium.io`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Agents by TLS")]
struct ReachArgs {
    /// Roots of the agents' certificates, in PEM
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    node_ca_files: Vec<PathBuf>,

    /// Our certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "node_client_key_file")]
    node_client_cert_file: Option<PathBuf>,

    /// Its key, in PEM
    #[arg(long, value_name = "FILE", requires = "node_client_cert_file")]
    node_client_key_file: Option<PathBuf>,
}

/// A node as the command line names it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Node {
    name: String,
    place: Where,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Where {
    Socket(PathBuf),
    /// Host and port.
    Tls(String),
}

fn node(text: &str) -> Result<Node, String> {
    const FORM: &str = "give NAME=PATH or NAME=tls://HOST:PORT";
    let (name, place) = text.split_once('=').ok_or(FORM)?;
    let place = match place.strip_prefix("tls://") {
        Some(address) if address.contains(':') => Where::Tls(address.to_owned()),
        Some(_) => return Err(FORM.to_owned()),
        None => Where::Socket(place.strip_prefix("unix://").unwrap_or(place).into()),
    };
    if name.is_empty() || place == Where::Socket(PathBuf::new()) {
        return Err(FORM.to_owned());
    }
    Ok(Node { name: name.to_owned(), place })
}

impl ReachArgs {
    fn read(&self) -> Result<ClientTls, Error> {
        let read = |path: &PathBuf| {
            fs::read(path)
                .map_err(|error| Error::Usage(format!("cannot read `{}`: {error}", path.display())))
        };
        let roots: Result<Vec<Vec<u8>>, Error> = self.node_ca_files.iter().map(read).collect();
        let identity = match (&self.node_client_cert_file, &self.node_client_key_file) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            _ => None,
        };
        Ok(ClientTls { roots: roots?.concat(), identity, server_name: None })
    }

    fn members(&self, nodes: &[Node]) -> Result<Vec<Member>, Error> {
        let any = nodes.iter().any(|node| matches!(node.place, Where::Tls(_)));
        if any && (self.node_ca_files.is_empty() || self.node_client_cert_file.is_none()) {
            let missing = "an agent on tls:// needs --node-ca-files, --node-client-cert-file and \
                           --node-client-key-file";
            return Err(Error::Usage(missing.to_owned()));
        }
        let tls = self.read()?;
        let member = |Node { name, place }: &Node| {
            let place = match place.clone() {
                Where::Socket(path) => Place::Socket(path),
                Where::Tls(address) => Place::Tls { address, tls: tls.clone() },
            };
            Member { name: name.clone(), place }
        };
        Ok(nodes.iter().map(member).collect())
    }
}

/// Serves until it is told to stop.
pub async fn run(args: RelayArgs) -> Result<(), Error> {
    let RelayArgs { listen, nodes, nodes_file, reach, tcp } = args;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let relay = match nodes_file {
        None => Relay::new("relay", reach.members(&nodes)?),
        Some(path) => {
            let text = read(&path)?;
            let relay = Relay::new("relay", members(&reach, &nodes, &text)?);
            tokio::spawn(follow(path, text, reach, nodes, relay.clone()));
            relay
        }
    };
    let encrypted = tcp.map(|tcp| serve_tcp(relay.clone(), tcp.settings()));
    let socket = listener(&listen)?;
    tracing::info!(listen = %listen.display(), "relay started");
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let plain = serve_all(socket, services(relay), stop);
    let served = match encrypted {
        Some(encrypted) => tokio::select! {
            served = plain => served.map_err(Error::from),
            served = encrypted => served,
        },
        None => plain.await.map_err(Error::from),
    };
    // A socket that nobody answers would look like a relay that hangs.
    let _ = fs::remove_file(&listen);
    served
}

/// How often the file of nodes is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

fn read(path: &Path) -> Result<String, Error> {
    let failed = |error| Error::Usage(format!("cannot read `{}`: {error}", path.display()));
    fs::read_to_string(path).map_err(failed)
}

/// The nodes of the flags and those of the file, of two with one name the flag's.
fn members(reach: &ReachArgs, nodes: &[Node], text: &str) -> Result<Vec<Member>, Error> {
    let mut all = nodes.to_vec();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let refused = |form| Error::Usage(format!("line {number} of the nodes: {form}"));
        let new = node(line).map_err(refused)?;
        if !all.iter().any(|known| known.name == new.name) {
            all.push(new);
        }
    }
    reach.members(&all)
}

/// Makes the relay merge what the file names, for as long as it is polled. A file that
/// cannot be used changes nothing, and is told once.
async fn follow(path: PathBuf, text: String, reach: ReachArgs, nodes: Vec<Node>, relay: Relay) {
    let mut last = Ok(text);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = read(&path).map_err(|error| error.to_string());
        if now == last {
            continue;
        }
        let found = now
            .clone()
            .and_then(|text| members(&reach, &nodes, &text).map_err(|error| error.to_string()));
        match found {
            Ok(members) => {
                tracing::info!(nodes = members.len(), "other nodes");
                relay.set(members);
            }
            Err(error) => tracing::error!(error, "the nodes stay as they were"),
        }
        last = now;
    }
}

fn services(relay: Relay) -> Services<Relay, Relay> {
    Services { peers: relay.peers(), observer: relay.clone(), signet: relay }
}

/// Serves on TCP for as long as it is polled.
async fn serve_tcp(relay: Relay, settings: TcpSettings) -> Result<(), Error> {
    let address = settings.listen;
    let listening = Listening::open(settings).await?;
    tracing::info!(%address, "relay serves on TCP");
    let serve = |listener, tls, access, stop| {
        serve_relay_tls(listener, tls, access, services(relay.clone()), stop)
    };
    listening.serve(serve, |text| tracing::warn!(text, "told")).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<(&str, Where)>) {
        let want = want.map(|(name, place)| Node { name: name.to_owned(), place });
        assert_eq!(node(text).ok(), want, "{text}");
    }

    #[test]
    fn a_node_is_a_name_and_where_it_serves() {
        check("a=/run/a=b.sock", Some(("a", Where::Socket("/run/a=b.sock".into()))));
        check("a=unix:///run/a.sock", Some(("a", Where::Socket("/run/a.sock".into()))));
        check("c/a=tls://10.0.0.1:4244", Some(("c/a", Where::Tls("10.0.0.1:4244".into()))));
        for text in ["a", "=x", "a=", "a=tls://host", "=tls://h:1"] {
            check(text, None);
        }
    }

    #[test]
    fn a_file_names_more_nodes_a_line_each() {
        let named = [node("a=/run/a.sock").unwrap()];
        let names = |text: &str| {
            let members = members(&ReachArgs::default(), &named, text);
            members.map(|all| all.into_iter().map(|it| it.name).collect::<Vec<_>>())
        };
        assert_eq!(names("").unwrap(), ["a"]);
        let text = "# two\n\nb=/run/b.sock\na=/run/other.sock\n";
        assert_eq!(names(text).unwrap(), ["a", "b"]);
        let error = names("b=/run/b.sock\nnonsense\n").unwrap_err().to_string();
        assert!(error.contains("line 2 of the nodes: give NAME=PATH"), "{error}");
    }

    #[test]
    fn agents_on_the_network_are_met_with_certificates_or_not_at_all() {
        let nodes = || vec![node("a=tls://10.0.0.1:4244").unwrap()];
        let error = ReachArgs::default().members(&nodes()).unwrap_err().to_string();
        assert!(error.contains("--node-ca-files"), "{error}");
        let missing = ReachArgs {
            node_ca_files: vec!["/nonexistent.pem".into()],
            node_client_cert_file: Some("/nonexistent.pem".into()),
            node_client_key_file: Some("/nonexistent.key".into()),
        };
        let error = missing.members(&nodes()).unwrap_err().to_string();
        assert!(error.contains("cannot read `/nonexistent.pem`"), "{error}");
    }
}
