//! The one form into which every kind of policy object is lowered.
//!
//! A [`Rule`] is flat: one subject, one direction, one action. Nothing here
//! remembers which kind it came from but its name.

use model::{Direction, Label, Labels, PolicyName, RuleId, Source};

use crate::options::Options;
use crate::ports::Ports;
use crate::precedence::Tier;
use crate::scope::CLUSTER;
use crate::selector::Selector;

/// One policy object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// Its rules, in the order they are written.
    pub rules: Vec<Rule>,
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Wins over an allowing rule of the same tier and priority.
    Deny,
    /// Lets through.
    Allow,
}

/// One rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Its name; the policy in it is the one that holds the rule.
    pub id: RuleId,
    /// Which group of policies it belongs to.
    pub tier: Tier,
    /// Smaller is asked first within the tier.
    pub priority: u32,
    /// Endpoints it is about, already scoped to the policy's namespace.
    pub subject: Selector,
    /// Direction, seen from the subject.
    pub direction: Direction,
    /// What it does with what it matches.
    pub action: Action,
    /// Other ends it matches.
    pub peers: Peers,
    /// Protocols and ports it matches.
    pub ports: Ports,
    /// Whether its presence alone denies its subjects what nothing allows, in
    /// its direction.
    pub default_deny: bool,
}

impl Rule {
    /// Whether the rule is about this endpoint. A selector of endpoints never
    /// selects the node itself.
    pub fn selects(&self, subject: &Labels) -> bool {
        !subject.has_reserved("host") && self.subject.matches(subject)
    }
}

/// The other ends of a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Peers {
    /// Everybody, inside and outside the cluster.
    Any,
    /// Whoever one of these matches; nobody, if the list is empty.
    OneOf(Vec<Peer>),
}

impl Peers {
    /// Whether an end with these labels is one of them.
    pub fn matches(&self, labels: &Labels, options: &Options) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(list) => list.iter().any(|peer| peer.matches(labels, options)),
        }
    }
}

/// One description of other ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Peer {
    /// By labels, in any cluster that the labels leave open.
    Endpoints(Selector),
    /// By labels, and in this cluster, if the installation scopes peers so.
    LocalEndpoints(Selector),
    /// By what they are.
    Entity(Entity),
}

impl Peer {
    /// Whether an end with these labels is meant.
    pub fn matches(&self, labels: &Labels, options: &Options) -> bool {
        match self {
            Self::Endpoints(selector) => selector.matches(labels),
            Self::LocalEndpoints(selector) => {
                let local = !options.default_local_cluster
                    || cluster_of(labels).is_some_and(|label| label.value == options.cluster);
                local && selector.matches(labels)
            }
            Self::Entity(entity) => entity.matches(labels, options),
        }
    }
}

/// Ends that are named by what they are (facts: `policy.md` section 2.6). The
/// entity `all` is not among them: it is [`Peers::Any`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
