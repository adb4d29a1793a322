//! Everybody that random cases are about: pods with addresses and ports, nodes,
//! and addresses and names outside the cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{IdentityBook, Label, Labels, Reserved};

use crate::References;
use crate::testing::CLUSTER;
use crate::testing::dice::Dice;

/// Ranges that rules name: nested, of both families, the world, and the pods'.
pub(super) const RANGES: [&str; 9] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.0.0/24",
    "10.1.0.4/30",
    "192.0.2.0/24",
    "192.0.2.7/32",
    "0.0.0.0/0",
    "2001:db8::/32",
    "::/0",
];

pub(super) struct Universe {
    pods: Vec<Labels>,
    others: Vec<Labels>,
}

impl Universe {
    pub fn new(references: &References) -> Self {
        let mut pods = Vec::new();
        for (at, pod) in (1_u8..).zip(pods_by_label()) {
            let ports = match at % 3 {
                0 => BTreeMap::new(),
                1 => BTreeMap::from([("http".to_owned(), (6, 8080)), ("dns".to_owned(), (17, 53))]),
                _ => BTreeMap::from([("http".to_owned(), (6, 80))]),
            };
            let pod = references.with_ports(&pod, &ports);
            pods.push(references.at_address(&pod, Ipv4Addr::new(10, 1, 0, at).into()));
        }
        let mut others: Vec<Labels> = references.ranges().map(|(_, labels)| labels).collect();
        let world: Labels = [Label::reserved("world")].into_iter().collect();
        for name in ["a.example.com", "b.example.com", "example.com"] {
            others.push(references.learnt(&world, name));
        }
        let address = IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));
        others.push(references.at_address(&world, address));
        for (zone, address) in [("one", [10, 1, 0, 200]), ("two", [192, 0, 2, 7])] {
            let zone = BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
            for reserved in [Reserved::RemoteNode, Reserved::KubeApiserver, Reserved::Host] {
                let base = reserved.identity().labels;
                let node = match reserved {
                    Reserved::Host => base,
                    _ => references.of_node(&base, &zone, CLUSTER),
                };
                others.push(references.at_address(&node, Ipv4Addr::from(address).into()));
            }
        }
        Self { pods, others }
    }

    pub fn book(&self) -> IdentityBook {
        IdentityBook::new(self.pods.iter().chain(&self.others).cloned())
    }

    /// Mostly a pod of the namespace that most policies are in.
    pub fn subject(&self, dice: &mut Dice) -> Labels {
        match dice.below(40) {
            0 => Reserved::Host.identity().labels,
            1 | 2 => Reserved::Init.identity().labels,
            at if at < 16 => self.pods[at % self.pods.len()].clone(),
            at => self.pods[at % 6].clone(),
        }
    }
}

/// Two namespaces, three applications, with and without a tier; and a pod of
/// another cluster.
fn pods_by_label() -> Vec<Labels> {
    let mut pods = Vec::new();
    for (namespace, team) in [("a", "red"), ("b", "blue")] {
        for app in ["x", "y", "z"] {
            for tier in [None, Some("db")] {
                pods.push(pod(namespace, team, app, tier, CLUSTER));
            }
        }
    }
    pods.push(pod("a", "red", "x", None, "there"));
    pods
}

fn pod(namespace: &str, team: &str, app: &str, tier: Option<&str>, cluster: &str) -> Labels {
    let mut labels: Labels = [
        Label::k8s("app", app),
        Label::k8s("io.kubernetes.pod.namespace", namespace),
        Label::k8s("io.cilium.k8s.namespace.labels.team", team),
        Label::k8s("io.cilium.k8s.policy.cluster", cluster),
    ]
    .into_iter()
    .collect();
    if let Some(tier) = tier {
        labels.insert(Label::k8s("tier", tier));
    }
    labels
}
