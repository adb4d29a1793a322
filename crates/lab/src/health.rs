//! How a lab fares by the word of its own nodes: what is enforced, what is not, and
//! what was lost on the way to whoever watches.

use std::collections::{BTreeMap, BTreeSet};

use api::proto::signet::v1 as signet;
use serde_json::{Value, json};

use crate::definition::pod::qualified;
use crate::error::Error;
use crate::lab::Lab;
use crate::ready;
use crate::relay;

/// One policy, on all nodes together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// `Kind/namespace/name`.
    pub name: String,
    /// How many pods it selects.
    pub pods: usize,
    /// `in force`, or what is not and why.
    pub state: String,
}

/// What the nodes say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// What is wrong; nothing when all is well.
    pub problems: Vec<String>,
    /// Interfaces that are judged, and of those the ones whose policy is in force.
    pub endpoints: (usize, usize),
    /// Policies by name.
    pub policies: Vec<Policy>,
}

impl Health {
    /// Asks the lab's relay.
    pub fn of(lab: &Lab) -> Result<Self, Error> {
        relay::ask(&lab.places.relay_socket(), |channel| async move {
            let mut client = relay::signet(channel);
            let status = client.status(signet::StatusRequest {}).await;
            let status = status.map_err(relay::refused("Status"))?.into_inner();
            let endpoints = client.list_endpoints(signet::ListEndpointsRequest {}).await;
            let endpoints = endpoints.map_err(relay::refused("ListEndpoints"))?.into_inner();
            let policies = client.list_policies(signet::ListPoliciesRequest {}).await;
            let policies = policies.map_err(relay::refused("ListPolicies"))?.into_inner();
            let missing = lab.journal.pods.iter().filter(|pod| {
                !pod.host_network && !endpoints.endpoints.iter().any(|it| ready::is_of(it, pod))
            });
            let missing = missing.map(|pod| format!("{} is not enforced", pod.full_name()));
            let cluster_of = |node: &str| lab.journal.cluster_of(ready::bare(node));
            let mut health =
                Self::from(&status, &endpoints.endpoints, &policies.policies, &cluster_of);
            health.problems.extend(missing);
            Ok(health)
        })
    }

    fn from<'a>(
        status: &signet::StatusResponse,
        endpoints: &[signet::Endpoint],
        policies: &[signet::Policy],
        cluster_of: &dyn Fn(&str) -> Option<&'a str>,
    ) -> Self {
        let mut problems = Vec::new();
        let unavailable = status.unavailable.iter();
        problems.extend(unavailable.map(|node| format!("{} does not answer", node.node)));
        for endpoint in endpoints.iter().filter(|endpoint| !endpoint.ready) {
            let name = format!("{}/{}", endpoint.namespace, endpoint.pod);
            let name = qualified(cluster_of(&endpoint.node), &name);
            problems.push(format!("{name} drops everything: {}", endpoint.reason));
        }
        for node in &status.nodes {
            let lost: u64 = node.rings.iter().map(|ring| ring.lost).sum();
            if lost > 0 {
                problems.push(format!("{} lost {lost} records of flows", node.node));
            }
        }
        let policies = merged(policies, cluster_of);
        let refused = policies.iter().filter(|policy| policy.state.starts_with(REFUSED));
        problems.extend(refused.map(|policy| format!("{} is {}", policy.name, policy.state)));
        let ready = endpoints.iter().filter(|endpoint| endpoint.ready).count();
        Self { problems, endpoints: (endpoints.len(), ready), policies }
    }

    /// What follows the lab's name.
    pub fn sentence(&self) -> String {
        let (all, ready) = self.endpoints;
        let told = if self.problems.is_empty() {
            ": healthy".to_owned()
        } else {
            format!(": not healthy\n  {}", self.problems.join("\n  "))
        };
        format!("{told}\n{ready} of {all} pods enforced, {} policies", self.policies.len())
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let policies = self
            .policies
            .iter()
            .map(|it| json!({"name": it.name, "pods": it.pods, "state": it.state}));
        json!({
            "healthy": self.problems.is_empty(),
            "problems": self.problems,
            "endpoints": self.endpoints.0,
            "endpointsReady": self.endpoints.1,
            "policies": policies.collect::<Vec<_>>(),
        })
    }
}

const REFUSED: &str = "refused";

/// The rows of all nodes of a cluster as one: the worst word about a policy is the one to show.
fn merged<'a>(
    rows: &[signet::Policy],
    cluster_of: &dyn Fn(&str) -> Option<&'a str>,
) -> Vec<Policy> {
    let mut pods: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut states: BTreeMap<String, String> = BTreeMap::new();
    for row in rows {
        let namespace = if row.namespace.is_empty() { "-" } else { &row.namespace };
        let own = format!("{}/{namespace}/{}", row.kind, row.name);
        let name = qualified(cluster_of(&row.node), &own);
        pods.entry(name.clone()).or_default().extend(row.subjects.iter().map(String::as_str));
        let stands = if row.mode == "shadow" { "in the shadow" } else { "in force" };
        let state = match (row.accepted, row.reason.as_str()) {
            (true, "") => stands.to_owned(),
            (true, reason) => format!("{stands}, except {}", without_name(reason, &own)),
            (false, reason) => format!("{REFUSED}: {reason}"),
        };
        let known = states.entry(name).or_default();
        if known.is_empty() || known == stands {
            *known = state;
        }
    }
    states
        .into_iter()
        .map(|(name, state)| Policy { pods: pods.get(&name).map_or(0, BTreeSet::len), name, state })
        .collect()
}

/// A reason beside the policy's name need not repeat it.
fn without_name(reason: &str, name: &str) -> String {
    reason.replace(&format!("{name}#"), "").replace("` is not in force: ", "`: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(node: &str, subject: &str, accepted: bool, reason: &str) -> signet::Policy {
        signet::Policy {
            node: node.into(),
            kind: "CiliumNetworkPolicy".into(),
            namespace: "web".into(),
            name: "a".into(),
            accepted,
            reason: reason.into(),
            subjects: vec![subject.into()],
            ..signet::Policy::default()
        }
    }

    #[test]
    fn a_policy_selects_the_pods_of_all_nodes() {
        let rows = [row("one", "web/a-1", true, ""), row("two", "web/a-2", true, "")];
        let want =
            Policy { name: "CiliumNetworkPolicy/web/a".into(), pods: 2, state: "in force".into() };
        assert_eq!(merged(&rows, &|_| None), [want]);
    }

    #[test]
    fn a_refusal_on_one_node_is_a_problem() {
        let rows = [row("one", "web/a-1", true, ""), row("two", "web/a-2", false, "no room")];
        let health = Health::from(&signet::StatusResponse::default(), &[], &rows, &|_| None);
        assert_eq!(health.problems, ["CiliumNetworkPolicy/web/a is refused: no room"]);
    }

    #[test]
    fn a_pod_that_is_not_enforced_is_a_problem() {
        let endpoint = signet::Endpoint {
            namespace: "web".into(),
            pod: "a-1".into(),
            reason: "no table".into(),
            ..signet::Endpoint::default()
        };
        let health = Health::from(&signet::StatusResponse::default(), &[endpoint], &[], &|_| None);
        assert_eq!(health.problems, ["web/a-1 drops everything: no table"]);
        assert_eq!(health.endpoints, (1, 0));
    }

    #[test]
    fn policies_of_one_name_in_two_clusters_are_two() {
        let rows = [row("bank/one", "web/a-1", true, ""), row("far/two", "web/a-1", false, "why")];
        let found = merged(&rows, &|node| (node == "far/two").then_some("far"));
        let told: Vec<_> = found.iter().map(|it| format!("{} {}", it.name, it.state)).collect();
        let want =
            ["CiliumNetworkPolicy/web/a in force", "far/CiliumNetworkPolicy/web/a refused: why"];
        assert_eq!(told, want);
    }
}
