//! What changed between two plans, as the events that Hubble's clients know.
//!
//! Pure: the same two plans give the same events, in the same order. Policies
//! come first, then endpoints, then addresses: cause before effect.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::proto::flow::agent_event::Notification;
use api::proto::flow::{
    AgentEvent, AgentEventType, AgentEventUnknown, EndpointRegenNotification,
    EndpointUpdateNotification, IpCacheNotification, PolicyUpdateNotification, TimeNotification,
};
use ipnet::IpNet;
use model::{IdentityId, PolicyKind, PolicyName};
use policy::Policy;

use crate::planner::{EndpointView, Holder, Plan, Setback};

/// An event whose revision is not known before the plan is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending(AgentEvent);

impl Pending {
    /// The event of the revision with which it came into force.
    pub fn at(self, revision: u32) -> AgentEvent {
        let mut event = self.0;
        if let Some(Notification::PolicyUpdate(update)) = &mut event.notification {
            update.revision = revision.into();
        }
        event
    }
}

/// The agent started.
pub fn started(now_ns: u64) -> AgentEvent {
    let time = Some(api::time::timestamp(now_ns));
    event(AgentEventType::AgentStarted, Notification::AgentStart(TimeNotification { time }))
}

/// Something that Hubble has no kind for: `fault`, `limit`, `refused`, `error`.
pub fn other(kind: &str, text: String) -> AgentEvent {
    let unknown = AgentEventUnknown { r#type: kind.to_owned(), notification: text };
    event(AgentEventType::AgentEventUnknown, Notification::Unknown(unknown))
}

/// What changed when `now` came into force; without a plan before it all is new.
pub fn between(before: Option<&Plan>, now: &Plan) -> Vec<Pending> {
    let mut events = policies(before, now);
    events.extend(endpoints(before, now));
    events.extend(addresses(before, now));
    events.into_iter().map(Pending).collect()
}

/// What could not be brought into force, and why.
pub fn refused(before: Option<&Plan>, now: &Plan, reason: &str) -> Vec<AgentEvent> {
    let changed = now.endpoints.iter().filter(|endpoint| {
        let known = before.and_then(|before| before.endpoint(endpoint.id));
        known.is_none_or(|known| !same_right(known, endpoint))
    });
    changed.map(|endpoint| regenerated(endpoint, Some(reason.to_owned()))).collect()
}

/// Policies that are not in force for those that they are about.
pub fn setback(plan: &Plan, setback: &Setback) -> Vec<AgentEvent> {
    let of = |endpoint: &&EndpointView| {
        let labels = endpoint.identity.as_ref().map(|(_, labels)| labels);
        // Why one is left out is told with the plan.
        endpoint.left_out.is_none() && labels == Some(&setback.subject)
    };
    let failed = |endpoint| regenerated(endpoint, Some(setback.to_string()));
    plan.endpoints.iter().filter(of).map(failed).collect()
}

fn event(kind: AgentEventType, notification: Notification) -> AgentEvent {
    AgentEvent { r#type: kind.into(), notification: Some(notification) }
}

fn policies(before: Option<&Plan>, now: &Plan) -> Vec<AgentEvent> {
    let by_name = |plan: &Plan| -> BTreeMap<PolicyName, Policy> {
        let policies = plan.snapshot.policies.iter();
        policies.map(|policy| (policy.name.clone(), policy.clone())).collect()
    };
    let known = before.map(by_name).unwrap_or_default();
    let present = by_name(now);
    let gone = known.values().filter(|policy| !present.contains_key(&policy.name));
    let gone = gone.map(|policy| policy_event(AgentEventType::PolicyDeleted, policy));
    // What could not be enforced then, and can be now, is in force as of now.
    let was_in_force = |policy: &Policy| {
        known.get(&policy.name) == Some(policy)
            && before.is_some_and(|before| before.enforces(policy))
    };
    let new = present.values().filter(|policy| now.enforces(policy) && !was_in_force(policy));
    gone.chain(new.map(|policy| policy_event(AgentEventType::PolicyUpdated, policy))).collect()
}

fn policy_event(kind: AgentEventType, policy: &Policy) -> AgentEvent {
    let update = PolicyUpdateNotification {
        labels: policy_labels(&policy.name),
        revision: 0,
        rule_count: i64::try_from(policy.rules.len()).unwrap_or(i64::MAX),
    };
    event(kind, Notification::PolicyUpdate(update))
}

/// As the policies in flows are labelled.
fn policy_labels(name: &PolicyName) -> Vec<String> {
    let label = |key: &str, value: &str| format!("k8s:io.cilium.k8s.policy.{key}={value}");
    let mut labels =
        vec![label("derived-from", PolicyKind::as_str(name.kind)), label("name", &name.name)];
    labels.extend(name.namespace.as_deref().map(|namespace| label("namespace", namespace)));
    labels
}

fn endpoints(before: Option<&Plan>, now: &Plan) -> Vec<AgentEvent> {
    let known = before.map_or(&[][..], |before| &before.endpoints);
    let present: BTreeSet<u32> = now.endpoints.iter().map(|endpoint| endpoint.id).collect();
    let gone = known.iter().filter(|endpoint| !present.contains(&endpoint.id));
    let mut events: Vec<AgentEvent> =
        gone.map(|endpoint| updated(AgentEventType::EndpointDeleted, endpoint)).collect();
    for endpoint in &now.endpoints {
        let known = before.and_then(|before| before.endpoint(endpoint.id));
        if known.is_none() {
            events.push(updated(AgentEventType::EndpointCreated, endpoint));
        }
        if known.is_none_or(|known| !same_right(known, endpoint)) {
            let error = endpoint.left_out.as_ref().map(ToString::to_string);
            events.push(regenerated(endpoint, error));
        }
    }
    events
}

/// Whether nothing changed in what an endpoint may do.
fn same_right(before: &EndpointView, now: &EndpointView) -> bool {
    let tables = match (&before.table, &now.table) {
        (Some((_, before)), Some((_, now))) => Arc::ptr_eq(before, now) || before == now,
        (None, None) => true,
        _ => false,
    };
    tables && before.left_out == now.left_out && before.identity == now.identity
}

fn labels(endpoint: &EndpointView) -> Vec<String> {
    endpoint.identity.as_ref().map(|(_, labels)| labels.to_strings()).unwrap_or_default()
}

fn updated(kind: AgentEventType, endpoint: &EndpointView) -> AgentEvent {
    let update = EndpointUpdateNotification {
        id: endpoint.id.into(),
        labels: labels(endpoint),
        error: String::new(),
        pod_name: endpoint.record.pod.name.clone(),
        namespace: endpoint.record.pod.namespace.clone(),
    };
    event(kind, Notification::EndpointUpdate(update))
}

fn regenerated(endpoint: &EndpointView, error: Option<String>) -> AgentEvent {
    let kind = match error {
        None => AgentEventType::EndpointRegenerateSuccess,
        Some(_) => AgentEventType::EndpointRegenerateFailure,
    };
    let update = EndpointRegenNotification {
        id: endpoint.id.into(),
        labels: labels(endpoint),
        error: error.unwrap_or_default(),
    };
    event(kind, Notification::EndpointRegenerate(update))
}

fn addresses(before: Option<&Plan>, now: &Plan) -> Vec<AgentEvent> {
    let same = |before: &Plan| {
        before.desired.addresses == now.desired.addresses
            && before.desired.prefixes == now.desired.prefixes
    };
    if before.is_some_and(same) {
        return vec![];
    }
    let (known, present) = (before.map(ranges).unwrap_or_default(), ranges(now));
    let gone = known.iter().filter(|(range, _)| !present.contains_key(range));
    let gone = gone.map(|(range, identity)| {
        address_event(AgentEventType::IpcacheDeleted, before, *range, *identity, None)
    });
    let new = present.iter().filter(|(range, identity)| known.get(range) != Some(identity));
    let new = new.map(|(range, identity)| {
        let old = known.get(range).copied();
        address_event(AgentEventType::IpcacheUpserted, Some(now), *range, *identity, old)
    });
    gone.chain(new).collect()
}

/// Addresses and ranges of a plan with who they are.
fn ranges(plan: &Plan) -> BTreeMap<IpNet, IdentityId> {
    let addresses = plan.desired.addresses.iter();
    let addresses = addresses.map(|(address, identity)| (IpNet::from(*address), *identity));
    addresses.chain(plan.desired.prefixes.iter().map(|(net, id)| (*net, *id))).collect()
}

fn address_event(
    kind: AgentEventType,
    plan: Option<&Plan>,
    range: IpNet,
    identity: IdentityId,
    old: Option<IdentityId>,
) -> AgentEvent {
    let pod = plan.and_then(|plan| pod(plan, range.addr())).unwrap_or_default();
    let update = IpCacheNotification {
        cidr: range.to_string(),
        identity: identity.into(),
        old_identity: old.map(u32::from),
        namespace: pod.0,
        pod_name: pod.1,
        ..IpCacheNotification::default()
    };
    event(kind, Notification::IpcacheUpdate(update))
}

/// Namespace and name of the pod that has an address.
fn pod(plan: &Plan, address: IpAddr) -> Option<(String, String)> {
    match plan.addresses.get(&address)? {
        (_, Holder::Pod(pod)) => {
            let name = pod.name();
            Some((name.namespace, name.name))
        }
        (_, Holder::Node(_) | Holder::Contested) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CLUSTER, api, db, plan};

    /// One word an event: what happened, and to whom.
    fn word(event: &AgentEvent) -> String {
        let kind = event.r#type().as_str_name();
        let what = match event.notification.as_ref().unwrap() {
            Notification::PolicyUpdate(update) => {
                format!("{} r{} n{}", update.labels[1], update.revision, update.rule_count)
            }
            Notification::EndpointUpdate(update) => {
                format!("{}/{}", update.namespace, update.pod_name)
            }
            Notification::EndpointRegenerate(update) => update.error.clone(),
            Notification::IpcacheUpdate(update) => {
                format!("{} {}", update.cidr, update.pod_name)
            }
            Notification::AgentStart(_) => String::new(),
            other => panic!("{other:?}"),
        };
        format!("{kind} {what}").trim_end().to_owned()
    }

    #[track_caller]
    fn check(before: Option<&Plan>, now: &Plan, want: &[&str]) {
        let events = between(before, now).into_iter().map(|event| event.at(7));
        let got: Vec<String> = events.map(|event| word(&event)).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn the_first_plan_is_all_new() {
        check(
            None,
            &plan(CLUSTER, &[api()]),
            &[
                "POLICY_UPDATED k8s:io.cilium.k8s.policy.name=api r7 n1",
                "ENDPOINT_CREATED payment/api",
                "ENDPOINT_REGENERATE_SUCCESS",
                "IPCACHE_UPSERTED 10.1.0.0/24",
                "IPCACHE_UPSERTED 10.1.0.5/32 api",
                "IPCACHE_UPSERTED 10.2.0.0/24",
                "IPCACHE_UPSERTED 10.2.0.7/32 front-1",
                "IPCACHE_UPSERTED 192.168.0.1/32",
                "IPCACHE_UPSERTED 192.168.0.2/32",
                "IPCACHE_UPSERTED fd00:1::/64",
                "IPCACHE_UPSERTED fd00:1::5/128 api",
            ],
        );
    }

    #[test]
    fn an_equal_plan_is_no_news() {
        let (before, now) = (plan(CLUSTER, &[api()]), plan(CLUSTER, &[api()]));
        check(Some(&before), &now, &[]);
    }

    #[test]
    fn a_policy_that_changes_or_goes_regenerates_whom_it_selects() {
        let before = plan(CLUSTER, &[api()]);
        let other = plan(&CLUSTER.replace("'8080'", "'8081'"), &[api()]);
        check(
            Some(&before),
            &other,
            &[
                "POLICY_UPDATED k8s:io.cilium.k8s.policy.name=api r7 n1",
                "ENDPOINT_REGENERATE_SUCCESS",
            ],
        );
        let text = &CLUSTER[..CLUSTER.find("apiVersion: cilium.io/v2").unwrap()];
        check(
            Some(&before),
            &plan(text, &[api()]),
            &[
                "POLICY_DELETED k8s:io.cilium.k8s.policy.name=api r7 n1",
                "ENDPOINT_REGENERATE_SUCCESS",
            ],
        );
    }

    #[test]
    fn an_endpoint_that_goes_takes_its_address_along() {
        let (before, now) = (plan(CLUSTER, &[api(), db()]), plan(CLUSTER, &[api()]));
        check(
            Some(&before),
            &now,
            &["ENDPOINT_DELETED payment/db", "IPCACHE_DELETED 10.1.0.6/32 db"],
        );
    }

    #[test]
    fn an_endpoint_that_is_left_out_says_why() {
        let mut stranger = db();
        stranger.pod.name = "stranger".into();
        let (before, now) = (plan(CLUSTER, &[api()]), plan(CLUSTER, &[api(), stranger]));
        check(
            Some(&before),
            &now,
            &[
                "ENDPOINT_CREATED payment/stranger",
                "ENDPOINT_REGENERATE_FAILURE the cluster has no pod of this name",
            ],
        );
    }

    #[test]
    fn what_the_kernel_refuses_is_a_failure_of_whoever_it_concerns() {
        let (before, now) = (plan(CLUSTER, &[api()]), plan(CLUSTER, &[api(), db()]));
        let events = refused(Some(&before), &now, "no room");
        let got: Vec<String> = events.iter().map(word).collect();
        assert_eq!(got, ["ENDPOINT_REGENERATE_FAILURE no room"]);
    }
}
