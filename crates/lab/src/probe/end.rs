//! What the two ends of a probe are in a lab: which namespace, which address.

use std::fs;
use std::net::IpAddr;

use serde_json::Value;

use crate::definition::pod::qualified;
use crate::journal::{External, Journal, Node, Pod};
use crate::objects;
use crate::places::Places;
use crate::probe::file::{Family, Port};

/// Every way to write an end. The service's is only one to go to
/// ([`service`](super::service)), entities are in [`entity`](super::entity).
const ENDS: [&str; 11] = [
    "pod:NAMESPACE/NAME",
    "cluster:NAME/pod:NAMESPACE/NAME",
    "svc:NAMESPACE/NAME",
    "node:NAME",
    "ip:ADDRESS",
    "entity:world",
    "entity:host",
    "entity:remote-node",
    "entity:kube-apiserver",
    "entity:health",
    "entity:ingress",
];

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

/// The text for an end with a workload replaced by one of its pods: `turn` chooses
/// which. Any other text stays as it is.
pub fn one_of(text: &str, turn: usize, journal: &Journal) -> String {
    let pod = pod_name(text, journal).and_then(|name| {
        let name = Some(name);
        let is_pod = journal.pods.iter().any(|pod| Some(pod.full_name()) == name);
        let pods = || journal.pods.iter().filter(|pod| !is_pod && pod.workload() == name);
        pods().nth(turn.checked_rem(pods().count())?)
    });
    pod.map_or_else(|| text.to_owned(), text_of)
}

/// The text that stands for a pod.
fn text_of(pod: &Pod) -> String {
    let own = format!("pod:{}/{}", pod.namespace, pod.name);
    match &pod.cluster {
        Some(cluster) => format!("cluster:{cluster}/{own}"),
        None => own,
    }
}

/// What the lab calls the pod of `pod:ns/name` or `cluster:NAME/pod:ns/name`.
pub fn pod_name(text: &str, journal: &Journal) -> Option<String> {
    let Some(rest) = text.strip_prefix("cluster:") else {
        return text.strip_prefix("pod:").map(str::to_owned);
    };
    let (cluster, rest) = rest.split_once('/')?;
    let cluster = (cluster != journal.cluster).then_some(cluster);
    Some(qualified(cluster, rest.strip_prefix("pod:")?))
}

impl<'a> End<'a> {
    /// The end that a text stands for: `pod:ns/name`, with `cluster:NAME/` before it in
    /// another cluster than the first, `node:name`, `ip:ADDR`, or `entity:world`, which is the first external host. Other entities are what
    /// [`entity::named`](super::entity::named) makes of them.
    pub fn of(text: &str, journal: &'a Journal) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').ok_or(format!("`{text}` is not KIND:NAME"))?;
        let unknown = || format!("the lab has no {text}");
        match kind {
            "pod" | "cluster" => {
                let name = pod_name(text, journal);
                let found = journal.pods.iter().find(|pod| Some(pod.full_name()) == name);
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
            _ => Err(format!("`{text}` is no end of a lab probe: {}", ENDS.join(", "))),
        }
    }

    fn with_address(address: IpAddr, journal: &'a Journal) -> Option<Self> {
        let own = |pod: &&Pod| !pod.host_network && pod.addresses.contains(&address);
        let pod = journal.pods.iter().find(own).map(Self::Pod);
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

    /// The cluster it is in; `None`: the lab's first, or none at all.
    pub fn cluster(&self) -> Option<&'a str> {
        match self {
            Self::Pod(pod) => pod.cluster.as_deref(),
            Self::Node(node) => node.cluster.as_deref(),
            Self::External(_) => None,
        }
    }

    /// The pod, if it is one with a network of its own.
    pub fn pod(&self) -> Option<&'a Pod> {
        match self {
            Self::Pod(pod) => (!pod.host_network).then_some(pod),
            Self::Node(_) | Self::External(_) => None,
        }
    }

    /// Whether it is on a node's own network.
    pub fn is_on_a_node(&self) -> bool {
        match self {
            Self::Pod(pod) => pod.host_network,
            Self::Node(_) => true,
            Self::External(_) => false,
        }
    }

    /// The number of a port; names are those of the pod's containers.
    pub fn port(&self, port: &Port, places: &Places) -> Result<u16, String> {
        match (port, self) {
            (Port::Number(number), _) => Ok(*number),
            (Port::Name(name), Self::Pod(pod)) => {
                let folder = places.objects(pod.cluster.as_deref());
                let file = objects::pod_file(&folder, &pod.namespace, &pod.name);
                let text = fs::read_to_string(file).unwrap_or_default();
                let object: Value = serde_json::from_str(&text).unwrap_or_default();
                named_port(&object, name)
                    .ok_or_else(|| format!("pod `{}` has no port `{name}`", pod.full_name()))
            }
            (Port::Name(name), _) => Err(format!("only pods name ports, so `{name}` is none")),
        }
    }
}

/// The number that a pod gives a name.
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
            clusters: vec![],
            cni: None,
            agent: vec![],
            ready: true,
            nodes: vec![Node {
                name: "node-1".into(),
                cluster: None,
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
                cluster: None,
                namespace: "web".into(),
                name: "a".into(),
                node: "node-1".into(),
                sandbox: "s".into(),
                addresses: vec!["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()],
                host_network: false,
                containers: vec![],
                owner: None,
            }],
            daemons: vec![],
        }
    }

    #[track_caller]
    fn check(text: &str, want: Result<&str, &str>) {
        let journal = journal();
        let found = End::of(text, &journal).map(|end| end.name());
        assert_eq!(found.as_deref().map_err(String::as_str), want);
    }

    #[test]
    fn the_page_has_every_way_to_write_an_end() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lab.md");
        let page = fs::read_to_string(page).unwrap();
        let (_, table) = page.split_once("| End | Who that is |\n").unwrap();
        let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
        let cells =
            rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
        assert_eq!(cells.collect::<Vec<_>>(), ENDS);
        check(
            "fqdn:a.example",
            Err(&format!("`fqdn:a.example` is no end of a lab probe: {}", ENDS.join(", "))),
        );
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
    fn pods_of_a_workload_take_turns() {
        let mut journal = journal();
        let pod = journal.pods.remove(0);
        for name in ["shop-1", "shop-2"] {
            let owner = Some("Deployment/web/shop".into());
            journal.pods.push(Pod { name: name.into(), owner, ..pod.clone() });
        }
        let texts: Vec<_> = (0..3).map(|turn| one_of("pod:web/shop", turn, &journal)).collect();
        assert_eq!(texts, ["pod:web/shop-1", "pod:web/shop-2", "pod:web/shop-1"]);
        assert_eq!(one_of("pod:web/shop-2", 0, &journal), "pod:web/shop-2");
        assert_eq!(one_of("pod:web/b", 0, &journal), "pod:web/b");
        assert_eq!(one_of("node:shop", 0, &journal), "node:shop");
    }

    #[test]
    fn pods_of_one_name_in_two_clusters_are_two_ends() {
        let mut journal = journal();
        let far = Pod { cluster: Some("far".into()), ..journal.pods[0].clone() };
        journal.pods.push(Pod { owner: Some("Deployment/web/shop".into()), ..far });
        let cluster = |text: &str| match End::of(text, &journal).unwrap() {
            End::Pod(pod) => pod.cluster.clone(),
            _ => panic!("{text} is no pod"),
        };
        assert_eq!(cluster("pod:web/a"), None);
        assert_eq!(cluster("cluster:default/pod:web/a"), None);
        assert_eq!(cluster("cluster:far/pod:web/a"), Some("far".into()));
        assert_eq!(one_of("cluster:far/pod:web/shop", 5, &journal), "cluster:far/pod:web/a");
        assert_eq!(one_of("pod:web/shop", 0, &journal), "pod:web/shop");
        assert!(End::of("cluster:nowhere/pod:web/a", &journal).is_err());
    }

    #[test]
    fn the_family_chooses_the_address() {
        let journal = journal();
        let pod = End::of("pod:web/a", &journal).unwrap();
        assert_eq!(pod.address("pod:web/a", Family::V6), Ok("fd00::2".parse().unwrap()));
        let node = End::of("node:node-1", &journal).unwrap();
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
