//! Workloads as Signet sees them: namespaces, nodes, pods, and the identity
//! labels they give.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::identity::Reserved;
use crate::label::{Label, Labels};

/// `namespace/name`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A namespace and its labels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Namespace {
    /// Name.
    pub name: String,
    /// Labels, `kubernetes.io/metadata.name` included.
    pub labels: BTreeMap<String, String>,
}

/// A node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// All its addresses (`status.addresses`).
    pub addresses: Vec<IpAddr>,
    /// Ranges from which its pods get their addresses (`spec.podCIDRs`).
    pub pod_cidrs: Vec<IpNet>,
    /// Addresses of its health endpoint and of its ingress proxy, which are neither
    /// the node's own nor a pod's.
    pub reserved: BTreeMap<IpAddr, Reserved>,
}

impl Node {
    /// The labels by which policies select the node itself.
    pub fn subject_labels(&self, filter: &LabelFilter) -> Labels {
        let kept = self.labels.iter().filter(|(key, _)| filter.keeps(key));
        let labels = kept.map(|(key, value)| Label::k8s(key, value));
        labels.chain([Label::reserved(Reserved::Host.name())]).collect()
    }
}

/// A pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pod {
    /// Namespace and name.
    pub name: PodName,
    /// Labels, as written.
    pub labels: BTreeMap<String, String>,
    /// `spec.serviceAccountName`; empty when not set.
    pub service_account: String,
    /// `spec.nodeName`; empty while not placed.
    pub node: String,
    /// `status.podIPs`; empty until it has any.
    pub addresses: Vec<IpAddr>,
    /// `spec.hostNetwork`: such a pod is its node.
    pub host_network: bool,
    /// Kind and name of the owner (`Deployment`, `web`), if known.
    pub workload: Option<(String, String)>,
    /// Named container ports: name to protocol number and port.
    pub ports: BTreeMap<String, (u8, u16)>,
}

/// What the CNI plugin leaves for the agent about one pod interface. The agent
/// joins it with the [`Pod`] of the same name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointRecord {
    /// OCI container or sandbox id that the runtime gave.
    pub container_id: String,
    /// The pod.
    pub pod: PodName,
    /// Interface inside the pod.
    pub pod_interface: String,
    /// Interface on the node.
    pub host_interface: String,
    /// Index of `host_interface` in the node's network namespace.
    pub ifindex: u32,
    /// The pod's MAC.
    pub mac: [u8; 6],
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// The pod's network namespace as the node's knows it (`NETNSA_NSID`), for
    /// socket look-ups; negative: none.
    pub netns_id: i32,
}

/// Which labels make an identity.
///
/// Prefixes of keys; the longest match decides, and what no prefix names counts.
/// The defaults are Cilium's (facts: `policy.md` section 2.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LabelFilter {
    include: Vec<String>,
    ignore: Vec<String>,
}

/// Keys that identify a workload although a shorter ignored prefix covers them.
const INCLUDED: &[&str] = &[
    NAMESPACE,
    "io.cilium.k8s.namespace.labels",
    "app.kubernetes.io",
    "io.cilium.k8s.policy.cluster",
    "io.cilium.k8s.policy.serviceaccount",
];

/// Keys that change with each replica or rollout and so say nothing about who a workload is.
const IGNORED: &[&str] = &[
    "io.kubernetes",
    "kubernetes.io",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/controller-uid",
    "beta.kubernetes.io",
    "k8s.io",
    "pod-template-generation",
    "pod-template-hash",
    "controller-revision-hash",
    "controller-uid",
    "annotation.",
    "etcd_node",
    "topology.kubernetes.io",
];

impl Default for LabelFilter {
    fn default() -> Self {
        let own = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Self { include: own(INCLUDED), ignore: own(IGNORED) }
    }
}

impl LabelFilter {
    /// Whether a label that a pod has of its own is part of its identity: what Signet
    /// sets is not the pod's to give.
    pub fn keeps_of_pod(&self, key: &str) -> bool {
        !key.starts_with(OWNED_PREFIX) && key != NAMESPACE && self.keeps(key)
    }

    /// Whether a label with this key is part of the identity.
    pub fn keeps(&self, key: &str) -> bool {
        let longest = |prefixes: &[String]| {
            prefixes.iter().filter(|prefix| key.starts_with(prefix.as_str())).map(String::len).max()
        };
        // `.*beta.kubernetes.io` is the one pattern that is not a plain prefix.
        let ignored = longest(&self.ignore)
            .or_else(|| key.contains("beta.kubernetes.io").then_some("beta.kubernetes.io".len()));
        match (longest(&self.include), ignored) {
            (Some(include), Some(ignore)) => include > ignore,
            (_, None) => true,
            (None, Some(_)) => false,
        }
    }
}

/// Prefix of keys that only Signet itself may set; user labels with it are left out.
const OWNED_PREFIX: &str = "io.cilium.k8s.";
/// Likewise.
const NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// The labels that make a pod's identity (facts: `policy.md` section 2.2).
pub fn identity_labels(
    pod: &Pod,
    namespace: &Namespace,
    cluster: &str,
    filter: &LabelFilter,
) -> Labels {
    let mut labels: Labels = pod
        .labels
        .iter()
        .filter(|(key, _)| !key.starts_with(OWNED_PREFIX))
        .map(|(key, value)| Label::k8s(key, value))
        .collect();
    for (key, value) in &namespace.labels {
        labels.insert(Label::k8s(format!("io.cilium.k8s.namespace.labels.{key}"), value));
    }
    labels.insert(Label::k8s(NAMESPACE, &pod.name.namespace));
    labels.insert(Label::k8s("io.cilium.k8s.policy.cluster", cluster));
    if !pod.service_account.is_empty() {
        labels.insert(Label::k8s("io.cilium.k8s.policy.serviceaccount", &pod.service_account));
    }
    labels.iter().filter(|label| filter.keeps(&label.key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, kept: bool) {
        assert_eq!(LabelFilter::default().keeps(key), kept, "{key}");
    }

    #[test]
    fn labels_of_the_workload_count() {
        check("app", true);
        check("app.kubernetes.io/name", true);
        check("io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name", true);
    }

    #[test]
    fn labels_of_the_replica_do_not_count() {
        check("pod-template-hash", false);
        check("statefulset.kubernetes.io/pod-name", false);
        check("topology.kubernetes.io/zone", false);
        check("failure-domain.beta.kubernetes.io/zone", false);
        check("kubernetes.io/os", false);
    }

    #[test]
    fn what_signet_sets_is_not_the_pod_s_own() {
        let own = |key| LabelFilter::default().keeps_of_pod(key);
        assert!(own("app") && own("app.kubernetes.io/name"));
        assert!(!own("io.kubernetes.pod.namespace") && !own("pod-template-hash"));
        assert!(!own("io.cilium.k8s.policy.serviceaccount"));
    }

    #[test]
    fn a_pod_cannot_give_itself_the_labels_that_signet_sets() {
        let pod = Pod {
            name: PodName { namespace: "web".into(), name: "a".into() },
            labels: [
                ("app", "a"),
                ("io.kubernetes.pod.namespace", "payment"),
                ("io.cilium.k8s.policy.cluster", "mumbai"),
                ("io.cilium.k8s.namespace.labels.team", "pci"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
            service_account: String::new(),
            node: String::new(),
            addresses: vec![],
            host_network: false,
            workload: None,
            ports: BTreeMap::new(),
        };
        let namespace = Namespace { name: "web".into(), labels: BTreeMap::new() };
        let labels = identity_labels(&pod, &namespace, "jakarta", &LabelFilter::default());
        assert_eq!(
            labels.to_strings(),
            [
                "k8s:app=a",
                "k8s:io.cilium.k8s.policy.cluster=jakarta",
                "k8s:io.kubernetes.pod.namespace=web"
            ]
        );
    }
}
