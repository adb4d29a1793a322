//! What the two ends of a probe are in a lab: which namespace, which address.

use std::fs;
use std::net::IpAddr;

use serde_json::Value;

use crate::journal::{External, Journal, Node, Pod};
use crate::places::Places;
use crate::probe::file::{Family, Port};

const HOST: &str = "entity:host";
const REMOTE_NODE: &str = "entity:remote-node";

/// Whether an end says only where it is, seen from the other.
fn is_relative(text: &str) -> bool {
    [HOST, REMOTE_NODE].contains(&text)
}

/// One end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End<'a> {
    /// A pod.
    Pod(&'a Pod),
    /// A node itself.
    Node(&'a Node),
    /// A host outside the cluster.
    External(&'a External),
}

impl<'a> End<'a> {
    /// Both ends of a probe. Of a workload's pods `turn` chooses one, so that
    /// probes of a file take them in turn.
    pub fn both(
        from: &str,
        to: &str,
        journal: &'a Journal,
        turn: usize,
    ) -> Result<(Self, Self), String> {
        if is_relative(from) {
            let to = Self::of(to, journal, turn)?;
            return Ok((Self::beside(from, &to, journal)?, to));
        }
        let from = Self::of(from, journal, turn)?;
        // Not in step with the source, so that every pair has its turn.
        let turn = turn / 2;
        let to = if is_relative(to) {
            Self::beside(to, &from, journal)?
        } else {
            Self::of(to, journal, turn)?
        };
        Ok((from, to))
    }

    /// The end that a text stands for: `pod:ns/name` (a pod, or a workload's),
    /// `node:name`, `ip:ADDR`, or `entity:world`, which is the first external host.
    fn of(text: &str, journal: &'a Journal, turn: usize) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').ok_or(format!("`{text}` is not KIND:NAME"))?;
        let unknown = || format!("the lab has no {text}");
        match kind {
            "pod" => {
                let found = journal.pods.iter().find(|pod| pod.full_name() == name);
                let pods = || journal.pods.iter().filter(|pod| pod.workload() == Some(name));
                let found = found.or_else(|| pods().nth(turn % pods().count().max(1)));
                found.map(Self::Pod).ok_or_else(unknown)
            }
            "node" => {
                let found = journal.nodes.iter().find(|node| node.name == name);
                found.map(Self::Node).ok_or_else(unknown)
            }
            "ip" => {
                let address = name.parse().map_err(|_| format!("`{name}` is not an address"))?;
                Self::with_address(address, journal).ok_or_else(unknown)
            }
            "entity" if name == "world" => {
                journal.external.first().map(Self::External).ok_or_else(unknown)
            }
            _ => Err(format!(
                "`{text}`: a lab probe has pod:, node:, ip:, entity:world, entity:host and \
                 entity:remote-node"
            )),
        }
    }

    /// `entity:host`, the node of the other end, or `entity:remote-node`, another.
    fn beside(text: &str, other: &Self, journal: &'a Journal) -> Result<Self, String> {
        let pod = other.pod().ok_or_else(|| format!("{text} is beside a pod: name a node"))?;
        let is_own = text == HOST;
        let found = journal.nodes.iter().find(|node| (node.name == pod.node) == is_own);
        found.map(Self::Node).ok_or_else(|| format!("the lab has no other node for {text}"))
    }

    fn with_address(address: IpAddr, journal: &'a Journal) -> Option<Self> {
        let has = |pod: &&Pod| !pod.host_network && pod.addresses.contains(&address);
        let pod = journal.pods.iter().find(has).map(Self::Pod);
        let node =
            || journal.nodes.iter().find(|it| it.addresses.contains(&address)).map(Self::Node);
        let host = || journal.external.iter().find(|it| it.addresses.contains(&address));
        pod.or_else(node).or_else(|| host().map(Self::External))
    }

    /// Its name, as `namespace/name` for pods.
    pub fn name(&self) -> String {
        match self {
            Self::Pod(pod) => pod.full_name(),
            Self::Node(node) => node.name.clone(),
            Self::External(host) => host.name.clone(),
        }
    }

    /// The name of its network namespace within the lab.
    pub fn member(&self) -> String {
        match self {
            Self::Pod(pod) => pod.member(),
            Self::Node(node) => node.name.clone(),
            Self::External(host) => host.name.clone(),
        }
    }

    /// Its address in that family: the one that a text names, else its first.
    pub fn address(&self, text: &str, family: Family) -> Result<IpAddr, String> {
        let of_family = |address: &IpAddr| address.is_ipv4() == (family == Family::V4);
        let named = text.strip_prefix("ip:").and_then(|address| address.parse().ok());
        if let Some(address) = named {
            let fits = of_family(&address);
            return if fits { Ok(address) } else { Err(format!("{text} is of the other family")) };
        }
        let addresses = match self {
            Self::Pod(pod) => &pod.addresses,
            Self::Node(node) => &node.addresses,
            Self::External(host) => &host.addresses,
        };
        let found = addresses.iter().copied().find(of_family);
        found.ok_or_else(|| format!("{text} has no address of that family"))
    }

    /// The pod, if it is one.
    pub fn pod(&self) -> Option<&'a Pod> {
        match self {
            Self::Pod(pod) => Some(pod),
            Self::Node(_) | Self::External(_) => None,
        }
    }

    /// Whether `self` is the very node on which `other` runs.
    pub fn is_node_of(&self, other: &End<'_>) -> bool {
        matches!((self, other), (Self::Node(node), End::Pod(pod)) if node.name == pod.node)
    }

    /// The number of a port; names are those of the pod's containers.
    pub fn port(&self, port: &Port, places: &Places) -> Result<u16, String> {
        match (port, self) {
            (Port::Number(number), _) => Ok(*number),
            (Port::Name(name), Self::Pod(pod)) => {
                let file = format!("Pod.{}.{}.json", pod.namespace, pod.name);
                let text = fs::read_to_string(places.cluster().join(file)).unwrap_or_default();
                let object: Value = serde_json::from_str(&text).unwrap_or_default();
                named_port(&object, name)
                    .ok_or_else(|| format!("pod `{}` has no port `{name}`", pod.full_name()))
            }
            (Port::Name(name), _) => Err(format!("only pods name ports, so `{name}` is none")),
        }
    }
}

fn named_port(pod: &Value, name: &str) -> Option<u16> {
    let containers = pod["spec"]["containers"].as_array()?;
    let mut ports = containers.iter().filter_map(|it| it["ports"].as_array()).flatten();
    let port = ports.find(|port| port["name"] == name)?;
    u16::try_from(port["containerPort"].as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Container, VERSION};

    fn journal() -> Journal {
        Journal {
            version: VERSION,
            name: "tiny".into(),
            directory: "/".into(),
            cluster: "default".into(),
            ready: true,
            nodes: vec![Node {
                name: "node-1".into(),
                addresses: vec!["172.20.0.11".parse().unwrap()],
                pod_cidrs: vec![],
            }],
            external: vec![External {
                name: "internet".into(),
                addresses: vec!["198.51.100.7".parse().unwrap()],
                container: Container {
                    name: "internet".into(),
                    id: "x".into(),
                    process: None,
                    ready_port: None,
                },
                listens: vec![],
            }],
            links: 0,
            pods: vec![Pod {
                namespace: "web".into(),
                name: "a".into(),
                node: "node-1".into(),
                sandbox: "s".into(),
                addresses: vec!["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()],
                containers: vec![],
                owner: None,
                host_network: false,
            }],
            daemons: vec![],
        }
    }

    #[track_caller]
    fn check(text: &str, want: Result<&str, &str>) {
        let journal = journal();
        let found = End::of(text, &journal, 0).map(|end| end.name());
        assert_eq!(found.as_deref().map_err(String::as_str), want);
    }

    #[test]
    fn an_address_is_whoever_has_it() {
        check("ip:10.244.1.2", Ok("web/a"));
        check("ip:172.20.0.11", Ok("node-1"));
        check("ip:198.51.100.7", Ok("internet"));
        check("ip:203.0.113.1", Err("the lab has no ip:203.0.113.1"));
    }

    #[test]
    fn the_world_is_the_first_external_host() {
        check("entity:world", Ok("internet"));
        check("pod:web/a", Ok("web/a"));
        check("pod:web/b", Err("the lab has no pod:web/b"));
    }

    #[test]
    fn the_family_chooses_the_address() {
        let journal = journal();
        let pod = End::of("pod:web/a", &journal, 0).unwrap();
        assert_eq!(pod.address("pod:web/a", Family::V6), Ok("fd00::2".parse().unwrap()));
        let node = End::of("node:node-1", &journal, 0).unwrap();
        assert!(node.address("node:node-1", Family::V6).is_err());
    }

    #[test]
    fn ports_have_the_numbers_that_containers_give_their_names() {
        let pod = serde_json::json!({"spec": {"containers": [
            {"name": "a"},
            {"name": "b", "ports": [{"name": "http", "containerPort": 8080}]},
        ]}});
        assert_eq!(named_port(&pod, "http"), Some(8080));
        assert_eq!(named_port(&pod, "https"), None);
    }
}
