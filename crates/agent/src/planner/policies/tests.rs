//! Policies that contradict each other, and rules about services without
//! selectors, as a node enforces them.

use model::{Direction, IdentityId};
use policy::Why;

use crate::planner::Plan;
use crate::testing::{self, CLUSTER, addresses, api, db, identity};

const TCP: u8 = 6;

/// What the table of an endpoint says of TCP.
#[track_caller]
fn said(plan: &Plan, pod: &str, direction: Direction, peer: IdentityId, port: u16) -> (bool, Why) {
    let named = |name: String| name == pod;
    let view = plan.endpoints.iter().find(|view| named(view.record.pod.to_string())).unwrap();
    let decision = view.table.as_ref().unwrap().1.lookup(direction, peer, TCP, port);
    (decision.allow, decision.why)
}

fn about_api(name: &str, rules: &str) -> String {
    format!(
        "---\n{{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {{name: {name}, \
         namespace: payment}}, spec: {{endpointSelector: {{matchLabels: {{app: api}}}}, {rules}}}}}\n"
    )
}

#[test]
fn what_policies_contradict_each_other_about_is_denied_and_said() {
    let requests = |name: &str, rules: &str| {
        let ports = "ports: [{port: '9000', protocol: TCP}]";
        let peer = "fromEndpoints: [{matchLabels: {app: db}}]";
        about_api(name, &format!("ingress: [{{{peer}, toPorts: [{{{ports}, rules: {rules}}}]}}]"))
    };
    let open = about_api("open", "ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]");
    let http = requests("one", "{http: [{}]}");
    let kafka = requests("two", "{kafka: [{topic: t}]}");
    let said_of = |text: &str| {
        let plan = testing::plan(&format!("{CLUSTER}{text}"), &[api(), db()]);
        let peer = identity(&plan, "payment/db");
        let at = |port| said(&plan, "payment/api", Direction::Ingress, peer, port);
        (at(9000), at(9001), plan)
    };
    // The rule without demands lifts those of one; a contradiction it does not.
    let (shared, beside, plan) = said_of(&format!("{http}{open}"));
    assert_eq!((shared, beside), ((true, Why::Rule), (true, Why::Rule)));
    assert!(!plan.problems.iter().any(|problem| problem.contains("contradict")));
    let (shared, beside, plan) = said_of(&format!("{http}{kafka}{open}"));
    assert_eq!((shared, beside), ((false, Why::Unsupported), (true, Why::Rule)));
    let want = "`CiliumNetworkPolicy/payment/one#spec.ingress[0]` and \
                `CiliumNetworkPolicy/payment/two#spec.ingress[0]` contradict each other: different \
                kinds of `rules` for the same peers and the same ports; nothing passes there";
    assert_eq!(plan.problems.iter().filter(|problem| *problem == want).count(), 1);
    for name in ["one", "two", "open"] {
        let view = plan.policies().iter().find(|view| view.object.name == name).unwrap();
        assert_eq!(view.reason.contains(want), name != "open", "{name}: {}", view.reason);
    }
}

#[test]
fn a_service_without_a_selector_is_the_addresses_that_are_listed_for_it() {
    let policy = about_api(
        "legacy",
        "egress: [{toServices: [{k8sService: {serviceName: legacy, namespace: payment}}], toPorts: \
         [{ports: [{port: '5432', protocol: TCP}]}]}]",
    );
    let service = "---\n{apiVersion: v1, kind: Service, metadata: {name: legacy, namespace: \
                   payment}, spec: {ports: [{port: 5432}]}}\n";
    // One backend outside of the cluster, one that is a pod of it.
    let listed = "---\n{apiVersion: v1, kind: Endpoints, metadata: {name: legacy, namespace: \
                  payment}, subsets: [{addresses: [{ip: 192.0.2.9}, {ip: 10.1.0.6}]}]}\n";
    let plan = testing::plan(&format!("{CLUSTER}{policy}{service}{listed}"), &[api(), db()]);
    let host = "192.0.2.9/32".parse().unwrap();
    let backend = plan.desired.prefixes[&host];
    let to = |peer, port| said(&plan, "payment/api", Direction::Egress, peer, port);
    assert_eq!(to(backend, 5432), (true, Why::Rule));
    assert_eq!(to(backend, 5433), (false, Why::DefaultDeny));
    assert_eq!(to(model::Reserved::World.id(), 5432), (false, Why::DefaultDeny));
    // A pod is itself, not an address outside.
    let pod = addresses(&["10.1.0.6"])[0];
    assert_eq!(plan.addresses.get(&pod).unwrap().0, identity(&plan, "payment/db"));
    assert_eq!(to(identity(&plan, "payment/db"), 5432), (false, Why::DefaultDeny));
    assert!(!plan.problems.iter().any(|problem| problem.contains("legacy")), "{:?}", plan.problems);

    // Nothing is listed: nobody, and that is said; nothing grows.
    let plan = testing::plan(&format!("{CLUSTER}{policy}{service}"), &[api(), db()]);
    let to = |peer| said(&plan, "payment/api", Direction::Egress, peer, 5432);
    assert_eq!(to(model::Reserved::World.id()), (false, Why::DefaultDeny));
    assert!(plan.problems.iter().any(|problem| problem.contains("what it refers to is not known")));
}
