//! Hubble's Peer service: tells a relay which nodes serve flows, first those
//! there are, then every change.

use std::collections::{BTreeMap, VecDeque};

use futures::stream;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::observer::Answers;
use crate::proto::peer::peer_server;
use crate::proto::peer::{ChangeNotification, ChangeNotificationType, NotifyRequest, Tls};

/// A node that serves flows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Name as its flows carry it.
    pub name: String,
    /// `host:port`, or `unix://PATH` for one that serves on no network.
    pub address: String,
    /// Whether it serves with TLS, under the name that [`server_name`] makes.
    pub tls: bool,
}

/// The name in a node's certificate, as Hubble's relay asks for it.
pub fn server_name(node_name: &str) -> String {
    let (cluster, node) = node_name.split_once('/').unwrap_or(("default", node_name));
    let label = |name: &str| name.replace('.', "-");
    format!("{}.{}.hubble-grpc.cilium.io", label(node), label(cluster))
}

/// All nodes that serve; clones are the same list.
#[derive(Clone, Debug)]
pub struct Peers(watch::Sender<BTreeMap<String, Peer>>);

impl Default for Peers {
    fn default() -> Self {
        Self::new([])
    }
}

impl Peers {
    /// These nodes.
    pub fn new(peers: impl IntoIterator<Item = Peer>) -> Self {
        Self(watch::Sender::new(by_name(peers)))
    }

    /// Makes these the nodes there are; who listens is told the difference.
    pub fn set(&self, peers: impl IntoIterator<Item = Peer>) {
        self.0.send_replace(by_name(peers));
    }

    /// The node of this name.
    pub fn get(&self, name: &str) -> Option<Peer> {
        self.0.borrow().get(name).cloned()
    }
}

fn by_name(peers: impl IntoIterator<Item = Peer>) -> BTreeMap<String, Peer> {
    peers.into_iter().map(|peer| (peer.name.clone(), peer)).collect()
}

/// What to tell who knows `before`: a node of another name is another node.
fn changes(
    before: &BTreeMap<String, Peer>,
    now: &BTreeMap<String, Peer>,
) -> VecDeque<ChangeNotification> {
    let gone = before.values().filter(|peer| !now.contains_key(&peer.name));
    let deleted = gone.map(|peer| notification(peer, ChangeNotificationType::PeerDeleted));
    let others = now.values().filter_map(|peer| match before.get(&peer.name) {
        None => Some(notification(peer, ChangeNotificationType::PeerAdded)),
        Some(known) if known != peer => {
            Some(notification(peer, ChangeNotificationType::PeerUpdated))
        }
        Some(_) => None,
    });
    deleted.chain(others).collect()
}

fn notification(peer: &Peer, kind: ChangeNotificationType) -> ChangeNotification {
    ChangeNotification {
        name: peer.name.clone(),
        address: peer.address.clone(),
        r#type: kind.into(),
        tls: peer.tls.then(|| Tls { server_name: server_name(&peer.name) }),
    }
}

/// What one client was told, and what it is still to be told.
struct Told {
    list: watch::Receiver<BTreeMap<String, Peer>>,
    known: BTreeMap<String, Peer>,
    pending: VecDeque<ChangeNotification>,
}

impl Told {
    async fn next(&mut self) -> Option<ChangeNotification> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Some(change);
            }
            self.list.changed().await.ok()?;
            let now = self.list.borrow_and_update().clone();
            self.pending = changes(&self.known, &now);
            self.known = now;
        }
    }
}

#[tonic::async_trait]
impl peer_server::Peer for Peers {
    type NotifyStream = Answers<ChangeNotification>;

    async fn notify(
        &self,
        _: Request<NotifyRequest>,
    ) -> Result<Response<Self::NotifyStream>, Status> {
        let mut list = self.0.subscribe();
        // The list as it is now is the first change, from nothing.
        list.mark_changed();
        let told = Told { list, known: BTreeMap::new(), pending: VecDeque::new() };
        let answers = stream::unfold(told, |mut told| async move {
            told.next().await.map(|change| (Ok(change), told))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, address: &str) -> Peer {
        Peer { name: name.into(), address: address.into(), tls: true }
    }

    #[test]
    fn a_certificate_has_the_name_that_hubbles_relay_asks_for() {
        assert_eq!(server_name("c1/node-a"), "node-a.c1.hubble-grpc.cilium.io");
        assert_eq!(server_name("n.example.com"), "n-example-com.default.hubble-grpc.cilium.io");
    }

    #[track_caller]
    fn check(before: &[Peer], now: &[Peer], want: &[(&str, ChangeNotificationType)]) {
        let told = changes(&by_name(before.to_vec()), &by_name(now.to_vec()));
        let got: Vec<_> = told.iter().map(|told| (told.name.as_str(), told.r#type())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn a_listener_is_told_the_difference() {
        use ChangeNotificationType::{PeerAdded, PeerDeleted, PeerUpdated};
        let (a, b) = ([peer("a", "10.0.0.1:4244")], [peer("b", "10.0.0.2:4244")]);
        let both = [b[0].clone(), a[0].clone()];
        check(&[], &both, &[("a", PeerAdded), ("b", PeerAdded)]);
        check(&a, &a, &[]);
        check(&a, &[peer("a", "10.0.0.9:4244")], &[("a", PeerUpdated)]);
        check(&a, &b, &[("a", PeerDeleted), ("b", PeerAdded)]);
    }
}
