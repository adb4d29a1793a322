//! Kinds of policies, and names that were probably meant to be one: left alone
//! such an object would silently not be enforced.
//!
//! Knows names only, nothing of what is in the objects.

/// Every kind that is read as a policy, or as a part of one, and its `apiVersion`.
const READ: [(&str, &str); 7] = [
    ("CiliumNetworkPolicy", "cilium.io/v2"),
    ("CiliumClusterwideNetworkPolicy", "cilium.io/v2"),
    ("CiliumCIDRGroup", "cilium.io/v2"),
    ("NetworkPolicy", "networking.k8s.io/v1"),
    ("ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha2"),
    ("AdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1"),
    ("BaselineAdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1"),
];

/// Groups whose kinds of policies are all read here.
const GROUPS: [&str; 3] = ["cilium.io", "networking.k8s.io", "policy.networking.k8s.io"];

/// Letters that a slip of the pen changes at most.
const SLIP: usize = 2;
/// In a group of ours more than that is no accident either.
const SLIP_IN_GROUP: usize = 4;
/// What the names of all kinds of policies end in, in lower case.
const NETWORK_POLICY: [&str; 3] = ["networkpolicy", "networkpolicies", "networkpolicys"];

/// The `apiVersion` under which a kind is read.
pub(crate) fn version_of(kind: &str) -> Option<&'static str> {
    READ.iter().find(|(known, _)| *known == kind).map(|(_, version)| *version)
}

/// The kind that was probably meant by a name that is none.
pub(crate) fn meant(group: &str, kind: &str) -> Option<&'static str> {
    // Longer than any slip makes it; and a bound for hostile names.
    const LONGEST: usize = 64;
    if kind.len() > LONGEST || version_of(kind).is_some() {
        return None;
    }
    let lower = kind.to_lowercase();
    let distance = |known: &str| distance(&lower, &known.to_lowercase());
    let (nearest, far) =
        READ.iter().map(|(known, _)| (*known, distance(known))).min_by_key(|(_, far)| *far)?;
    let in_group = GROUPS.contains(&group);
    let named_so = NETWORK_POLICY.iter().any(|end| lower.ends_with(end));
    let near = far <= SLIP || in_group && (far <= SLIP_IN_GROUP || named_so);
    near.then_some(nearest)
}

/// How many letters must be added, left out, changed or swapped with their
/// neighbour to make one text the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, wanted) in other.iter().enumerate() {
            let changed = last[column] + usize::from(letter != wanted);
            let mut least = changed.min(last[column + 1] + 1).min(line[column] + 1);
            let swapped =
                row > 0 && column > 0 && one[row - 1] == *wanted && other[column - 1] == *letter;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut last, line);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(group: &str, kind: &str, want: Option<&str>) {
        assert_eq!(meant(group, kind), want, "{group} {kind}");
    }

    #[test]
    fn a_slip_of_the_pen_is_known_in_every_group() {
        for group in ["cilium.io", "", "example.org"] {
            check(group, "CiliumNetworkPolcy", Some("CiliumNetworkPolicy"));
            check(group, "CiliumNetwrokPolicy", Some("CiliumNetworkPolicy"));
            check(group, "ciliumnetworkpolicy", Some("CiliumNetworkPolicy"));
            check(group, "CiliumClusterWideNetworkPolicy", Some("CiliumClusterwideNetworkPolicy"));
            check(group, "CiliumCidrGroups", Some("CiliumCIDRGroup"));
            check(group, "NetworkPolcy", Some("NetworkPolicy"));
            check(group, "Network-Policy", Some("NetworkPolicy"));
            check(group, "AdminNetworkPolicys", Some("AdminNetworkPolicy"));
        }
    }

    #[test]
    fn in_a_group_of_policies_more_is_known() {
        check("cilium.io", "CiliumNetworkPolicies", Some("CiliumNetworkPolicy"));
        check("cilium.io", "CiliumClusterNetworkPolicy", Some("CiliumClusterwideNetworkPolicy"));
        check("cilium.io", "NetworkPolicy2", Some("NetworkPolicy"));
        check("networking.k8s.io", "NetworkPolicies", Some("NetworkPolicy"));
        check("example.org", "NetworkPolicies", None);
    }

    #[test]
    fn other_kinds_are_other_kinds() {
        for kind in [
            "CiliumEgressGatewayPolicy",
            "CiliumLocalRedirectPolicy",
            "CiliumL2AnnouncementPolicy",
            "CiliumBGPPeeringPolicy",
            "CiliumEnvoyConfig",
            "CiliumClusterwideEnvoyConfig",
            "CiliumNode",
            "CiliumNodeConfig",
            "CiliumIdentity",
            "CiliumEndpoint",
            "CiliumLoadBalancerIPPool",
            "TracingPolicy",
            "TracingPolicyNamespaced",
        ] {
            check("cilium.io", kind, None);
        }
        for kind in ["Ingress", "IngressClass", "IPAddress", "ServiceCIDR"] {
            check("networking.k8s.io", kind, None);
        }
        for kind in ["GlobalNetworkPolicy", "StagedNetworkPolicy", "MultiNetworkPolicy", "Policy"] {
            check("projectcalico.org", kind, None);
        }
        check("", "NetworkAttachmentDefinition", None);
        check("", &"CiliumNetworkPolicy".repeat(10_000), None);
    }

    #[test]
    fn what_is_written_right_is_not_a_slip() {
        for (kind, version) in READ {
            check("", kind, None);
            assert_eq!(version_of(kind), Some(version));
        }
    }

    #[test]
    fn distances_count_letters() {
        for (one, other, want) in [
            ("", "", 0),
            ("a", "", 1),
            ("abc", "acb", 1),
            ("abc", "abd", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), want, "{one} {other}");
            assert_eq!(distance(other, one), want, "{other} {one}");
        }
    }
}
