//! `signet watch peers`: which nodes serve flows, as they come and go.

use std::io::{self, Write};

use api::proto::peer::peer_client::PeerClient;
use api::proto::peer::{ChangeNotification, NotifyRequest};

use crate::error::Error;
use crate::observe::text::escape;
use crate::server::{self, ServerArgs};

/// What is watched.
#[derive(Debug, clap::Subcommand)]
pub enum WatchCommand {
    /// Nodes that serve flows, until interrupted
    #[command(visible_alias = "peer", after_help = "Example:\n  signet watch peers")]
    Peers {
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Runs the command.
pub async fn run(command: WatchCommand) -> Result<(), Error> {
    let WatchCommand::Peers { server } = command;
    let mut client = PeerClient::new(server::connect(&server).await?);
    let mut changes = client.notify(NotifyRequest {}).await?.into_inner();
    let mut out = io::stdout().lock();
    while let Some(change) = changes.message().await? {
        writeln!(out, "{}", line(&change))?;
        out.flush()?;
    }
    Ok(())
}

/// As Hubble prints it.
fn line(change: &ChangeNotification) -> String {
    let ChangeNotification { name, address, tls, .. } = change;
    let kind = change.r#type().as_str_name();
    let tls = match tls {
        Some(tls) => format!(" (TLS.ServerName: {})", escape(&tls.server_name)),
        None => String::new(),
    };
    format!("{kind:<12} {} {}{tls}", escape(address), escape(name))
}

#[cfg(test)]
mod tests {
    use api::proto::peer::{ChangeNotificationType, Tls};

    use super::*;

    #[test]
    fn a_change_prints_as_hubble_prints_it() {
        let change = ChangeNotification {
            name: "c1/node-a".into(),
            address: "10.0.0.1:4244".into(),
            r#type: ChangeNotificationType::PeerAdded.into(),
            tls: Some(Tls { server_name: "node-a.c1.hubble-grpc.cilium.io".into() }),
        };
        assert_eq!(
            line(&change),
            "PEER_ADDED   10.0.0.1:4244 c1/node-a (TLS.ServerName: node-a.c1.hubble-grpc.cilium.io)"
        );
    }
}
