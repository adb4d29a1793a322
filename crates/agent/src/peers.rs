//! Which nodes serve flows, as a relay that asks this one is told: every Node of the
//! cluster's state, and this one as its flags say.
//!
//! Of other nodes only their addresses are known: they are taken to serve as this one
//! does, on its port or else on Hubble's, always with TLS. One that serves nothing
//! is a node that a relay names as away; one left out would be missed in silence.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use api::peer::Peer;
use model::Node;

use crate::config::AgentConfig;

/// The port of Hubble's agents.
const PORT: u16 = 4244;

/// How this node is met.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Announcement {
    node: String,
    cluster: String,
    socket: PathBuf,
    /// Where it listens for others.
    tcp: Option<SocketAddr>,
    /// Where others find that, if not at an address of the node.
    advertised: Option<SocketAddr>,
}

impl Announcement {
    /// Of an agent that runs on this.
    pub fn of(config: &AgentConfig) -> Self {
        Self {
            node: config.node.clone(),
            cluster: config.policy.cluster.clone(),
            socket: config.listen.clone(),
            tcp: config.tcp.as_ref().map(|tcp| tcp.listen),
            advertised: config.tcp_advertise,
        }
    }

    /// All nodes, among these and beside them, that can be met.
    pub fn peers(&self, nodes: &BTreeMap<String, Node>) -> Vec<Peer> {
        let others = nodes.values().filter(|node| node.name != self.node);
        let others = others.filter_map(|node| {
            let port = self.tcp.map_or(PORT, |listen| listen.port());
            let address = SocketAddr::new(self.address(node)?, port).to_string();
            Some(Peer { name: self.name(&node.name), address, tls: true })
        });
        self.own(nodes.get(&self.node)).into_iter().chain(others).collect()
    }

    /// This node; `None` while nobody can say how it is met.
    fn own(&self, node: Option<&Node>) -> Option<Peer> {
        let name = self.name(&self.node);
        let Some(listen) = self.tcp else {
            let address = format!("unix://{}", self.socket.display());
            return Some(Peer { name, address, tls: false });
        };
        let address = match self.advertised {
            Some(advertised) => advertised,
            None if listen.ip().is_unspecified() => {
                SocketAddr::new(self.address(node?)?, listen.port())
            }
            None => listen,
        };
        Some(Peer { name, address: address.to_string(), tls: true })
    }

    fn name(&self, node: &str) -> String {
        api::flow::node_name(&self.cluster, node)
    }

    /// A node's first address that somebody who listens as this one does answers at.
    fn address(&self, node: &Node) -> Option<IpAddr> {
        let only_v4 = self.tcp.is_some_and(|listen| listen.is_ipv4());
        // `[::]` answers IPv4 too; another IPv6 address does not.
        let only_v6 =
            self.tcp.is_some_and(|listen| listen.is_ipv6() && !listen.ip().is_unspecified());
        let fits = |address: &&IpAddr| match address {
            IpAddr::V4(_) => !only_v6,
            IpAddr::V6(_) => !only_v4,
        };
        node.addresses.iter().find(fits).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AgentSettings, TcpSettings};

    fn nodes() -> BTreeMap<String, Node> {
        let node = |name: &str, addresses: &[&str]| Node {
            name: name.into(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            ..Node::default()
        };
        let all = [
            node("one", &["fd00::1", "10.0.0.1"]),
            node("two", &["10.0.0.2", "fd00::2"]),
            node("none", &[]),
        ];
        all.into_iter().map(|node| (node.name.clone(), node)).collect()
    }

    /// Names and addresses that an agent with these flags announces.
    #[track_caller]
    fn check(tcp: Option<&str>, advertise: Option<&str>, want: &[(&str, &str, bool)]) {
        let mut settings = AgentSettings::new("one", "/p", "/s", "/c");
        settings.cluster = "c1".into();
        settings.tcp_advertise = advertise.map(|address| address.parse().unwrap());
        let tcp = tcp.map(|listen| TcpSettings {
            listen: listen.parse().unwrap(),
            certificate: "/a".into(),
            key: "/b".into(),
            clients: "/c".into(),
            access: "/d".into(),
        });
        settings.tcp = tcp;
        let announcement = Announcement::of(&AgentConfig::try_from(settings).unwrap());
        let peers = announcement.peers(&nodes());
        let got: Vec<_> =
            peers.iter().map(|it| (it.name.as_str(), it.address.as_str(), it.tls)).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn every_node_is_announced_where_it_answers() {
        check(
            None,
            None,
            &[("c1/one", "unix:///s/agent.sock", false), ("c1/two", "10.0.0.2:4244", true)],
        );
        let both = |own, other| [("c1/one", own, true), ("c1/two", other, true)];
        check(Some("0.0.0.0:4299"), None, &both("10.0.0.1:4299", "10.0.0.2:4299"));
        check(Some("[::]:4244"), None, &both("[fd00::1]:4244", "10.0.0.2:4244"));
        check(Some("10.9.9.9:4244"), None, &both("10.9.9.9:4244", "10.0.0.2:4244"));
        check(Some("[fd00::9]:4244"), None, &both("[fd00::9]:4244", "[fd00::2]:4244"));
        let elsewhere = Some("192.0.2.1:14244");
        check(Some("0.0.0.0:4244"), elsewhere, &both("192.0.2.1:14244", "10.0.0.2:4244"));
    }

    #[test]
    fn an_address_that_nobody_can_be_met_at_is_announced_by_nobody() {
        let announcement = Announcement {
            node: "one".into(),
            cluster: "default".into(),
            socket: "/s/agent.sock".into(),
            tcp: Some("0.0.0.0:4244".parse().unwrap()),
            advertised: None,
        };
        assert_eq!(announcement.peers(&BTreeMap::new()), []);
        let peers = announcement.peers(&nodes());
        assert!(peers.iter().all(|peer| !peer.address.starts_with("0.0.0.0")), "{peers:?}");
        assert_eq!(peers.len(), 2);
    }
}
