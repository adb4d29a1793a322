//! Explanations written by hand.

use api::flow::detail::Detail;
use api::proto::flow::{CiliumEventType, DropReason, Endpoint, Ip, Layer4, Tcp, TrafficDirection};
use model::Process;

use super::*;

fn endpoint(namespace: &str, pod: &str, labels: &[&str]) -> Endpoint {
    Endpoint {
        identity: 30_001,
        namespace: namespace.into(),
        pod_name: pod.into(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        ..Endpoint::default()
    }
}

fn denied() -> Flow {
    let detail = Detail {
        reason: "default-deny".into(),
        rules: vec![],
        because: vec!["CiliumNetworkPolicy/payment/pay-svc".into()],
        revision: 7,
        source: Actor::Known(Process {
            pid: 4711,
            uid: 33,
            start_ns: 0,
            comm: "nc".into(),
            binary: "/usr/bin/nc".into(),
            cgroup_id: 0,
            container: "pay".into(),
        }),
        destination: Actor::Unknown("other-node".into()),
        record: "0/1".into(),
        bytes: 74,
        count: 1,
        first_ns: 0,
        shadow: None,
        connection: None,
    };
    let tcp = Tcp { source_port: 40000, destination_port: 5432, flags: None };
    Flow {
        uuid: "u1".into(),
        node_name: "node-a".into(),
        verdict: Verdict::Dropped.into(),
        drop_reason_desc: DropReason::PolicyDenied.into(),
        event_type: Some(CiliumEventType { r#type: 1, sub_type: 133 }),
        traffic_direction: TrafficDirection::Egress.into(),
        ip: Some(Ip { source: "10.1.0.5".into(), destination: "10.1.1.9".into(), ..Ip::default() }),
        l4: Some(Layer4 { protocol: Some(api::proto::flow::layer4::Protocol::Tcp(tcp)) }),
        source: Some(endpoint(
            "payment",
            "pay-svc",
            &["k8s:app=pay", "k8s:io.kubernetes.pod.namespace=payment"],
        )),
        destination: Some(endpoint("ledger", "db-0", &["k8s:app=db", "k8s:tier=1"])),
        extensions: Some(detail.to_any()),
        ..Flow::default()
    }
}

#[test]
fn a_drop_is_explained_from_end_to_end() {
    let allowed = Flow { verdict: Verdict::Forwarded.into(), extensions: None, ..denied() };
    let text = explain(&denied(), &[allowed, denied()], &[], &Style::default());
    assert_eq!(
        text,
        "\
N/A DROP pay-svc → db-0:5432 TCP policy-denied  nc[4711] no rule allows it (default deny: CiliumNetworkPolicy/payment/pay-svc) [payment → ledger]

flow       u1, seen by node-a
from       payment/pay-svc:40000 (ID:30001) at 10.1.0.5:40000 k8s:app=pay k8s:io.kubernetes.pod.namespace=payment
to         ledger/db-0:5432 (ID:30001) at 10.1.1.9:5432 k8s:app=db k8s:tier=1
process    nc[4711] (/usr/bin/nc), user 33, container pay
decided    no rule allows it; default deny is on because of CiliumNetworkPolicy/payment/pay-svc (egress of the source, policy revision 7)
allow it   apiVersion: cilium.io/v2
           kind: CiliumNetworkPolicy
           metadata: {name: allow-egress, namespace: payment}
           spec:
             endpointSelector: {matchLabels: {app: pay}}
             egress:
             - toEndpoints: [{matchLabels: {app: db, tier: '1', 'k8s:io.kubernetes.pod.namespace': ledger}}]
               toPorts: [{ports: [{port: '5432', protocol: TCP}]}]
history    1 dropped, 1 other, of the last 2
  N/A ALLOW pay-svc → db-0:5432 TCP allowed  [payment → ledger]
  N/A DROP pay-svc → db-0:5432 TCP policy-denied  nc[4711] no rule allows it (default deny: CiliumNetworkPolicy/payment/pay-svc) [payment → ledger]
"
    );
}

/// What agents say of the policies: one that decides, one of another direction, and one
/// that has nothing to do with it.
#[test]
fn a_rule_that_cannot_be_in_force_yet_is_named_with_what_is_missing() {
    let policy = |name: &str, reason: &str| Policy {
        kind: "CiliumNetworkPolicy".into(),
        namespace: "payment".into(),
        name: name.into(),
        reason: reason.into(),
        ..Policy::default()
    };
    let lacking = |name: &str, rule: &str| {
        format!(
            "`CiliumNetworkPolicy/payment/{name}#{rule}` is not in force: addresses of names are not \
             learnt yet"
        )
    };
    let own = lacking("pay-svc", "spec.egress[1]");
    let policies = [
        policy("pay-svc", &format!("{own}; {}", lacking("pay-svc", "spec.ingress[0]"))),
        policy("other", &lacking("other", "spec.egress[0]")),
    ];
    let text = explain(&denied(), &[], &policies, &Style::default());
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("not yet")).collect();
    assert_eq!(lines, [format!("not yet    {own}")]);
    let ruled = Flow { extensions: None, ..denied() };
    assert!(!explain(&ruled, &[], &policies, &Style::default()).contains("not yet"));
}

#[track_caller]
fn check_remedy(flow: &Flow, want: &str) {
    let detail = flow.extensions.as_ref().and_then(Detail::from_any);
    let got = remedy::of(flow, detail.as_ref());
    assert!(got.contains(want), "{got}");
}

#[test]
fn where_no_rule_helps_it_says_so() {
    check_remedy(&Flow { verdict: Verdict::Forwarded.into(), ..denied() }, "it was not dropped");
    let deny = Flow { drop_reason_desc: DropReason::PolicyDeny.into(), ..denied() };
    check_remedy(&deny, "no allowing rule can");
    let forged = Flow { drop_reason_desc: DropReason::InvalidSourceIp.into(), ..denied() };
    check_remedy(&forged, "no policy can: the packet path refused it (Invalid source ip)");
}

/// A rule that reads requests allows a part of them. Saying that it allows this, or
/// offering a rule that does not read them, would open what it was to keep shut.
#[test]
fn a_condition_that_is_not_looked_at_yet_is_neither_an_allowance_nor_lifted() {
    let rule = "CiliumNetworkPolicy/payment/http#spec.egress[0]";
    let detail = denied().extensions.as_ref().and_then(Detail::from_any).unwrap();
    let detail = |rules: &[&str]| Detail {
        reason: "unsupported".into(),
        rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        because: vec![],
        ..detail.clone()
    };
    let flow = Flow { extensions: Some(detail(&[rule]).to_any()), ..denied() };
    let text = explain(&flow, &[], &[], &Style::default());
    let (_, text) = text.split_once("\ndecided    ").unwrap();
    assert_eq!(
        text,
        "\
CiliumNetworkPolicy/payment/http#spec.egress[0] would allow it on a condition (on requests, DNS names or proof of who the ends are) that is not looked at yet: until it is, this is denied (egress of the source, policy revision 7)
allow it   nothing yet, without giving up the condition of CiliumNetworkPolicy/payment/http#spec.egress[0]:
           a rule of addresses and ports lets through all that the condition holds back
history    0 dropped, 0 other, of the last 0
"
    );
    let nameless = Flow { extensions: Some(detail(&[]).to_any()), ..denied() };
    assert!(
        explain(&nameless, &[], &[], &Style::default()).contains("decided    a rule would allow")
    );
    check_remedy(&nameless, "without giving up the condition of the rule");
}

#[test]
fn the_world_is_allowed_by_address_and_a_role_by_its_name() {
    let to = |identity: u32| Flow {
        destination: Some(Endpoint { identity, ..Endpoint::default() }),
        ..denied()
    };
    check_remedy(&to(2), "- toCIDR: ['10.1.1.9/32']");
    check_remedy(&to(7), "- toEntities: [kube-apiserver]");
}

#[test]
fn an_ingress_denial_is_allowed_where_it_was_judged() {
    let ingress = Flow { traffic_direction: TrafficDirection::Ingress.into(), ..denied() };
    check_remedy(&ingress, "metadata: {name: allow-ingress, namespace: ledger}");
    check_remedy(
        &ingress,
        "- fromEndpoints: [{matchLabels: {app: pay, 'k8s:io.kubernetes.pod.namespace': payment}}]",
    );
}

#[test]
fn the_history_is_that_of_the_two_ends_either_way() {
    let filters = pair(&denied());
    assert_eq!(filters[0].source_pod, ["payment/pay-svc"]);
    assert_eq!(filters[1].source_pod, ["ledger/db-0"]);
    let world = Flow { destination: Some(Endpoint::default()), ..denied() };
    assert_eq!(pair(&world)[0].destination_ip, ["10.1.1.9"]);
}
