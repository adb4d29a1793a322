//! `signet relay`: several agents behind one socket.

use std::path::PathBuf;

use api::relay::{Member, Relay};
use api::server::{Services, listener, serve_all};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::Error;

/// Serve several agents as one, flows and status merged
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  signet relay --listen /run/signet/relay.sock \\
    --node node-a=/run/signet/a/agent.sock --node node-b=/run/signet/b/agent.sock")]
pub struct RelayArgs {
    /// Unix socket to serve on
    #[arg(long, value_name = "PATH")]
    listen: PathBuf,

    /// An agent: its node's name, as its flows carry it, and its socket
    #[arg(long = "node", value_name = "NAME=PATH", required = true, value_parser = member)]
    nodes: Vec<Member>,
}

fn member(text: &str) -> Result<Member, String> {
    match text.split_once('=') {
        Some((name, socket)) if !name.is_empty() && !socket.is_empty() => {
            Ok(Member { name: name.to_owned(), socket: socket.into() })
        }
        _ => Err("give NAME=PATH".to_owned()),
    }
}

/// Serves until it is told to stop.
pub async fn run(args: RelayArgs) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let socket = listener(&args.listen)?;
    let relay = Relay::new("relay", args.nodes);
    let services = Services { peers: relay.peers(), observer: relay.clone(), signet: relay };
    tracing::info!(listen = %args.listen.display(), "relay started");
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let served = serve_all(socket, services, stop).await;
    // A socket that nobody answers would look like a relay that hangs.
    let _ = std::fs::remove_file(&args.listen);
    Ok(served?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_name_and_a_socket() {
        let node = Member { name: "a".into(), socket: "/run/a=b.sock".into() };
        assert_eq!(member("a=/run/a=b.sock"), Ok(node));
        for text in ["a", "=x", "a="] {
            assert!(member(text).is_err(), "{text}");
        }
    }
}
