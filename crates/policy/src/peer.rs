//! Other ends of a rule, one description at a time.
//!
//! Every description is asked of the end's labels alone: addresses, names and
//! node labels reach it as labels too (see `references`).

use model::{Label, Labels, Source};

use crate::catalogue::{GroupPeer, ServicePeer};
use crate::cidr::CidrPeer;
use crate::name::NamePattern;
use crate::options::Options;
use crate::scope::CLUSTER;
use crate::selector::Selector;

/// One description of other ends.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Peer {
    /// By labels, in any cluster that the labels leave open.
    Endpoints(Selector),
    /// By labels, and in this cluster, if the installation scopes peers so.
    LocalEndpoints(Selector),
    /// By what they are.
    Entity(Entity),
    /// Other nodes, by their labels (source `node`); never the own one.
    Nodes(Selector),
    /// By address.
    Cidr(CidrPeer),
    /// By a name that was looked up.
    Name(NamePattern),
    /// By a group of ranges: nobody, until [`resolve`](crate::resolve) knows it.
    Group(GroupPeer),
    /// By a service: nobody, until [`resolve`](crate::resolve) knows it.
    Service(ServicePeer),
}

impl Peer {
    /// Whether an end with these labels is meant.
    pub fn matches(&self, labels: &Labels, options: &Options) -> bool {
        match self {
            Self::Endpoints(selector) => selector.matches(labels),
            Self::LocalEndpoints(selector) => is_local(labels, options) && selector.matches(labels),
            Self::Entity(entity) => entity.matches(labels, options),
            Self::Nodes(selector) => {
                let scoped = selector.has_key(|key| key.key == CLUSTER);
                labels.has_reserved("remote-node")
                    && (scoped || is_local(labels, options))
                    && selector.matches(labels)
            }
            Self::Cidr(range) => range.matches(labels, options),
            Self::Name(pattern) => labels
                .get(pattern.as_str())
                .is_some_and(|label| label.source == Source::Other(FQDN.to_owned())),
            Self::Group(_) | Self::Service(_) => false,
        }
    }
}

/// The source of labels that say which patterns an address was learnt for.
pub(crate) const FQDN: &str = "fqdn";

fn is_local(labels: &Labels, options: &Options) -> bool {
    !options.default_local_cluster
        || cluster_of(labels).is_some_and(|label| label.value == options.cluster)
}

/// Ends that are named by what they are (facts: `policy.md` section 2.6). The
/// entity `all` is not among them: it is [`Peers::Any`](crate::Peers::Any).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Entity {
    /// Outside the cluster.
    World,
    /// The endpoint's own node.
    Host,
    /// Every other node.
    RemoteNode,
    /// The Kubernetes API server.
    KubeApiserver,
    /// The ingress proxy.
    Ingress,
    /// The health endpoint.
    Health,
    /// Endpoints without labels yet.
    Init,
    /// Inside a pod range, but nobody knows who.
    Unmanaged,
    /// Nobody.
    None,
    /// This cluster: its endpoints and its nodes.
    Cluster,
    /// This cluster and those joined to it.
    ClusterMesh,
}

/// Reserved labels that both cluster entities include.
const IN_CLUSTER: [&str; 7] =
    ["host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver"];

impl Entity {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::World,
        Self::Host,
        Self::RemoteNode,
        Self::KubeApiserver,
        Self::Ingress,
        Self::Health,
        Self::Init,
        Self::Unmanaged,
        Self::None,
        Self::Cluster,
        Self::ClusterMesh,
    ];

    /// Its name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::World => "world",
            Self::Host => "host",
            Self::RemoteNode => "remote-node",
            Self::KubeApiserver => "kube-apiserver",
            Self::Ingress => "ingress",
            Self::Health => "health",
            Self::Init => "init",
            Self::Unmanaged => "unmanaged",
            Self::None => "none",
            Self::Cluster => "cluster",
            Self::ClusterMesh => "cluster-mesh",
        }
    }

    /// Whether an end with these labels is meant.
    pub fn matches(self, labels: &Labels, options: &Options) -> bool {
        let reserved = |names: &[&str]| names.iter().any(|name| labels.has_reserved(name));
        match self {
            Self::World => reserved(&["world", "world-ipv4", "world-ipv6"]),
            Self::Cluster => {
                reserved(&IN_CLUSTER)
                    || cluster_of(labels).is_some_and(|label| label.value == options.cluster)
            }
            Self::ClusterMesh => reserved(&IN_CLUSTER) || cluster_of(labels).is_some(),
            Self::None => false,
            other => reserved(&[other.name()]),
        }
    }
}

/// The label that names an end's cluster.
fn cluster_of(labels: &Labels) -> Option<&Label> {
    labels.get(CLUSTER).filter(|label| label.source == Source::K8s)
}

#[cfg(test)]
mod tests {
    use model::Reserved;

    use super::*;

    fn labels(texts: &[&str]) -> Labels {
        texts.iter().map(|text| text.parse::<Label>().unwrap()).collect()
    }

    /// Which of the reserved identities, a local pod and a pod of another
    /// cluster the entity means (facts: `policy.md` section 2.6).
    #[track_caller]
    fn check(entity: Entity, want: &[&str]) {
        let options = Options { cluster: "here".into(), ..Options::default() };
        let mut ends: Vec<(&str, Labels)> = Reserved::ALL
            .into_iter()
            .map(|reserved| (reserved.name(), reserved.identity().labels))
            .collect();
        ends.push(("local-pod", labels(&["io.cilium.k8s.policy.cluster=here", "app=a"])));
        ends.push(("far-pod", labels(&["io.cilium.k8s.policy.cluster=there", "app=a"])));
        let matched: Vec<&str> = ends
            .iter()
            .filter(|(_, labels)| entity.matches(labels, &options))
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(matched, want, "{}", entity.name());
    }

    #[test]
    fn world_is_all_three_worlds() {
        check(Entity::World, &["world", "world-ipv4", "world-ipv6"]);
    }

    #[test]
    fn a_remote_api_server_is_also_a_remote_node() {
        check(Entity::RemoteNode, &["remote-node", "kube-apiserver"]);
        check(Entity::KubeApiserver, &["kube-apiserver"]);
    }

    #[test]
    fn single_entities_are_their_reserved_identity() {
        check(Entity::Host, &["host"]);
        check(Entity::Ingress, &["ingress"]);
        check(Entity::Health, &["health"]);
        check(Entity::Init, &["init"]);
        check(Entity::Unmanaged, &["unmanaged"]);
    }

    #[test]
    fn none_is_nobody() {
        check(Entity::None, &[]);
    }

    #[test]
    fn the_cluster_is_its_pods_and_nodes_but_not_the_world() {
        let reserved =
            ["host", "unmanaged", "health", "init", "remote-node", "kube-apiserver", "ingress"];
        check(Entity::Cluster, &[&reserved[..], &["local-pod"]].concat());
        check(Entity::ClusterMesh, &[&reserved[..], &["local-pod", "far-pod"]].concat());
    }

    #[test]
    fn a_local_peer_is_in_this_cluster_unless_the_installation_says_otherwise() {
        let peer = Peer::LocalEndpoints(Selector::default());
        let far = labels(&["io.cilium.k8s.policy.cluster=there"]);
        let here = labels(&["io.cilium.k8s.policy.cluster=here"]);
        let scoped = Options { cluster: "here".into(), ..Options::default() };
        let open = Options { default_local_cluster: false, ..scoped.clone() };
        assert!(peer.matches(&here, &scoped));
        assert!(!peer.matches(&far, &scoped));
        assert!(peer.matches(&far, &open));
        assert!(Peer::Endpoints(Selector::default()).matches(&far, &scoped));
    }

    #[test]
    fn a_pod_cannot_pass_for_a_reserved_identity_by_its_labels() {
        assert!(!Entity::Host.matches(&labels(&["k8s:host="]), &Options::default()));
    }
}
