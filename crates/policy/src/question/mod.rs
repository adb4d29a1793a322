//! Questions about a cluster: may this end talk to that one, who decides, and
//! what would have to be written.
//!
//! From objects alone, without a kernel: ends become labels as the address book
//! makes them, and the evaluator is asked at both. Answers are what policies
//! mean, not what this version's datapath can enforce.

mod answer;
mod ends;
mod explain;
mod inside;
mod json;
mod probe;
mod suggest;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{LabelFilter, Labels, Namespace, Node, Pod, Reserved, identity_labels};

use crate::catalogue::{Catalogue, resolve};
use crate::conflict::{Conflict, conflicts};
use crate::options::{Capabilities, Options};
use crate::references::References;
use crate::rule::Policy;

pub use answer::{Answer, SideAnswer, Verdict};
pub use explain::{Considered, Explanation};
pub use json::differences;
pub use probe::{Ask, PortName, ProbeError, protocol_number};

/// What is in a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Namespaces; one that is only mentioned has only its name as a label.
    pub namespaces: Vec<Namespace>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Pods.
    pub pods: Vec<Pod>,
    /// Addresses at which the Kubernetes API is served.
    pub api_servers: Vec<IpAddr>,
    /// Services and groups of ranges.
    pub catalogue: Catalogue,
    /// Nodes of clusters that are known not to be joined with this one: what is there
    /// is known by its address only.
    pub apart: BTreeMap<String, Vec<Node>>,
}

/// A cluster and its policies, ready to be asked.
pub struct Asked<'a> {
    cluster: &'a Cluster,
    policies: Vec<Policy>,
    options: Options,
    references: References,
    filter: LabelFilter,
}

impl<'a> Asked<'a> {
    /// Prepares to answer.
    pub fn new(cluster: &'a Cluster, policies: &[Policy], options: &Options) -> Self {
        let policies = resolve(policies, &cluster.catalogue);
        let options = Options { capabilities: Capabilities::ALL, ..options.clone() };
        let references = References::of(&policies, &options);
        Self { cluster, policies, options, references, filter: LabelFilter::default() }
    }

    /// The policies, with what they refer to written out.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Identity labels of a pod, its addresses aside.
    pub fn pod_labels(&self, pod: &Pod, cluster: &str) -> Labels {
        let named = |namespace: &&Namespace| namespace.name == pod.name.namespace;
        let mut namespace = self.cluster.namespaces.iter().find(named).cloned().unwrap_or_default();
        namespace.name.clone_from(&pod.name.namespace);
        namespace
            .labels
            .insert("kubernetes.io/metadata.name".to_owned(), pod.name.namespace.clone());
        let labels = identity_labels(pod, &namespace, cluster, &self.filter);
        self.references.with_ports(&labels, &pod.ports)
    }

    /// Labels of a node as the subject of policies.
    fn node_subject(&self, node: &Node) -> Labels {
        node.subject_labels(&self.filter)
    }

    /// Everybody in the cluster as a peer: every identity that a table of it
    /// would know.
    pub fn identities(&self) -> Vec<Labels> {
        let mut sets: Vec<Labels> = self.references.ranges().map(|(_, labels)| labels).collect();
        for pod in self.cluster.pods.iter().filter(|pod| !pod.host_network) {
            let labels = self.pod_labels(pod, &self.options.cluster);
            if pod.addresses.is_empty() {
                sets.push(labels);
                continue;
            }
            sets.extend(pod.addresses.iter().map(|at| self.references.at_address(&labels, *at)));
        }
        for node in &self.cluster.nodes {
            let base = Reserved::RemoteNode.identity().labels;
            let labels = self.references.of_node(&base, &node.labels, &self.options.cluster);
            sets.extend(node.addresses.iter().map(|at| self.references.at_address(&labels, *at)));
        }
        sets.sort();
        sets.dedup();
        sets
    }

    /// What the policies contradict each other about, for anybody in the cluster.
    pub fn conflicts(&self) -> BTreeSet<Conflict> {
        let pods = self.cluster.pods.iter().filter(|pod| !pod.host_network);
        let pods = pods.map(|pod| self.pod_labels(pod, &self.options.cluster));
        let nodes = self.cluster.nodes.iter().map(|node| self.node_subject(node));
        let subjects: BTreeSet<Labels> = pods.chain(nodes).collect();
        conflicts(&self.policies, &subjects)
    }

    /// Named container ports of a pod.
    fn ports(pod: &Pod) -> BTreeMap<String, (u8, u16)> {
        pod.ports.clone()
    }
}
