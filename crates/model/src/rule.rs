//! Names of policies and rules, and the sets of them that decide together.

use std::fmt;

use sha2::{Digest, Sha256};

/// The direction of a decision, seen from the endpoint that is judged.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    /// Towards the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

impl Direction {
    /// `ingress` or `egress`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kinds of policy objects. Kinds that share a name are different policies.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PolicyKind {
    /// `policy.networking.k8s.io/v1alpha1`
    AdminNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`
    BaselineAdminNetworkPolicy,
    /// `cilium.io/v2`, cluster-scoped
    CiliumClusterwideNetworkPolicy,
    /// `cilium.io/v2`, namespaced
    CiliumNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2`
    ClusterNetworkPolicy,
    /// `networking.k8s.io/v1`
    NetworkPolicy,
}

impl PolicyKind {
    /// The `kind` of the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdminNetworkPolicy => "AdminNetworkPolicy",
            Self::BaselineAdminNetworkPolicy => "BaselineAdminNetworkPolicy",
            Self::CiliumClusterwideNetworkPolicy => "CiliumClusterwideNetworkPolicy",
            Self::CiliumNetworkPolicy => "CiliumNetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::NetworkPolicy => "NetworkPolicy",
        }
    }
}

/// One policy object: `Kind/namespace/name`, with `-` for cluster-scoped ones.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PolicyName {
    /// Kind of the object.
    pub kind: PolicyKind,
    /// `None` for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_deref().unwrap_or("-");
        write!(f, "{}/{namespace}/{}", self.kind.as_str(), self.name)
    }
}

/// One rule of a policy: `Kind/namespace/name#spec.ingress[0]`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RuleId {
    /// The policy it is part of.
    pub policy: PolicyName,
    /// Path inside the object: `spec.ingress[0]`, `specs[1].egressDeny[2]`.
    pub path: String,
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.policy, self.path)
    }
}

/// The number under which the datapath knows a [`RuleSet`]: from its content,
/// so that it means the same after a restart and on every node. Zero: none.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RuleSetId(pub u32);

/// What decided: the rules of one precedence, or the policies that switched
/// default deny on.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RuleSet {
    /// Rules that decide together, sorted; empty for a default.
    pub rules: Vec<RuleId>,
    /// For a default deny: the policies that switched it on, sorted.
    pub because: Vec<PolicyName>,
}

impl RuleSet {
    /// Its number; `attempt` above zero resolves a collision with another set.
    pub fn id(&self, attempt: u32) -> RuleSetId {
        if self.rules.is_empty() && self.because.is_empty() {
            return RuleSetId(0);
        }
        let mut hasher = Sha256::new();
        for text in self.rules.iter().map(ToString::to_string) {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update([0xff; 8]);
        for text in self.because.iter().map(ToString::to_string) {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(attempt.to_be_bytes());
        let digest = hasher.finalize();
        RuleSetId(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_policies_print_as_operators_write_them() {
        let policy = PolicyName {
            kind: PolicyKind::CiliumNetworkPolicy,
            namespace: Some("payment".into()),
            name: "allow-gateway".into(),
        };
        let rule = RuleId { policy: policy.clone(), path: "spec.ingress[0]".into() };
        assert_eq!(rule.to_string(), "CiliumNetworkPolicy/payment/allow-gateway#spec.ingress[0]");
        let clusterwide = PolicyName {
            kind: PolicyKind::CiliumClusterwideNetworkPolicy,
            namespace: None,
            name: "base".into(),
        };
        assert_eq!(clusterwide.to_string(), "CiliumClusterwideNetworkPolicy/-/base");
    }

    #[test]
    fn an_empty_rule_set_is_number_zero_and_others_are_not() {
        assert_eq!(RuleSet::default().id(0), RuleSetId(0));
        let policy = PolicyName {
            kind: PolicyKind::NetworkPolicy,
            namespace: Some("a".into()),
            name: "b".into(),
        };
        let set = RuleSet { rules: vec![], because: vec![policy] };
        assert_ne!(set.id(0), RuleSetId(0));
        assert_ne!(set.id(0), set.id(1));
    }
}
