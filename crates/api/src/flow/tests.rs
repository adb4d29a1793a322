//! Expected messages are written by hand from Hubble's rules.

use model::{
    Attribution, IcmpMessage, IdentityId, Label, Labels, MatchType, Process, Reason, Reserved,
    RuleId, TcpFlags, UnknownProcess,
};

use super::detail::Actor;
use super::*;
use crate::json::{from_json, to_json};

fn key() -> UuidKey {
    UuidKey::new(b"of this test")
}

fn labels(texts: &[&str]) -> Labels {
    texts.iter().map(|text| text.parse::<Label>().unwrap()).collect()
}

fn policy_name(name: &str) -> PolicyName {
    PolicyName {
        kind: PolicyKind::CiliumNetworkPolicy,
        namespace: Some("payment".into()),
        name: name.into(),
    }
}

/// A SYN of `nc` in `payment/pay-svc` to `banking/ledger-db:5432`, as the
/// sender's node judged it.
fn syn() -> model::Flow {
    let source = End {
        identity: Some(IdentityId::try_from(0x1234_5678).unwrap()),
        labels: labels(&["k8s:io.cilium.k8s.policy.cluster=jakarta", "k8s:app=pay-svc"]),
        namespace: "payment".into(),
        pod: "pay-svc".into(),
        workload: Some(("Deployment".into(), "pay".into())),
        service: None,
        endpoint_id: 11,
        process: Attribution::Known(Process {
            pid: 4711,
            uid: 1000,
            start_ns: 12_345_678_901_234_567,
            comm: "nc".into(),
            binary: "/usr/bin/nc".into(),
            cgroup_id: 5,
            container: "c0ffee".into(),
        }),
    };
    let destination = End {
        identity: Some(IdentityId::try_from(0x2345_6789).unwrap()),
        labels: labels(&["k8s:app=ledger-db"]),
        namespace: "banking".into(),
        pod: "ledger-db".into(),
        workload: None,
        service: None,
        endpoint_id: 0,
        process: Attribution::Unknown(UnknownProcess::OtherNode),
    };
    model::Flow {
        time_ns: 1_781_428_323_001_000_000,
        verdict: Verdict::Dropped,
        reason: Reason::DefaultDeny,
        direction: Some(Direction::Egress),
        hook: Direction::Egress,
        is_reply: Some(false),
        addresses: Some(("10.1.0.5".parse().unwrap(), "10.1.1.9".parse().unwrap())),
        ethernet: ([0x02, 0, 0, 0, 0, 0x0a], [0x02, 0, 0, 0, 0, 0x0b]),
        ether_type: 0x0800,
        l4: Some(Layer4::Tcp { source: 40000, destination: 5432, flags: TcpFlags(2) }),
        length: 74,
        source,
        destination,
        policy: Some(PolicyMatch {
            match_type: MatchType::None,
            rules: vec![],
            because: vec![policy_name("pay-svc")],
            revision: 3,
            log: vec![],
        }),
        shadow: None,
        trace: None,
        node: "node-a".into(),
        interface: (12, "sgpay".into()),
        record: (1, 42),
    }
}

fn allowed() -> model::Flow {
    let rule = |path: &str| RuleId { policy: policy_name("out"), path: path.into() };
    model::Flow {
        verdict: Verdict::Forwarded,
        reason: Reason::Rule,
        policy: Some(PolicyMatch {
            match_type: MatchType::L3L4,
            rules: vec![rule("spec.egress[0]"), rule("spec.egress[2]")],
            because: vec![],
            revision: 4,
            log: vec![],
        }),
        ..syn()
    }
}

/// The message as JSON, without what has tests of its own.
#[track_caller]
fn check(flow: &model::Flow, want: &str) {
    let mut message = to_proto(flow, "jakarta", &key());
    assert_eq!(message.uuid.len(), 36);
    message.uuid.clear();
    message.extensions = None;
    message.emitter = None;
    assert_eq!(to_json(&message).unwrap(), want.replace("\n    ", ""));
}

#[test]
fn a_drop_is_a_drop_event_with_its_code() {
    check(
        &syn(),
        r#"{"time":"2026-06-14T09:12:03.001Z","verdict":"DROPPED","drop_reason":133,
    "ethernet":{"source":"02:00:00:00:00:0a","destination":"02:00:00:00:00:0b"},
    "IP":{"source":"10.1.0.5","destination":"10.1.1.9","ipVersion":"IPv4"},
    "l4":{"TCP":{"source_port":40000,"destination_port":5432,"flags":{"SYN":true}}},
    "source":{"ID":11,"identity":305419896,"cluster_name":"jakarta","namespace":"payment",
    "labels":["k8s:app=pay-svc","k8s:io.cilium.k8s.policy.cluster=jakarta"],
    "pod_name":"pay-svc","workloads":[{"name":"pay","kind":"Deployment"}]},
    "destination":{"identity":591751049,"namespace":"banking",
    "labels":["k8s:app=ledger-db"],"pod_name":"ledger-db"},
    "Type":"L3_L4","node_name":"jakarta/node-a","event_type":{"type":1,"sub_type":133},
    "traffic_direction":"EGRESS","drop_reason_desc":"POLICY_DENIED",
    "interface":{"index":12,"name":"sgpay"},"Summary":"TCP Flags: SYN",
    "egress_denied_by":[{"name":"pay-svc","namespace":"payment",
    "labels":["k8s:io.cilium.k8s.policy.derived-from=CiliumNetworkPolicy",
    "k8s:io.cilium.k8s.policy.name=pay-svc","k8s:io.cilium.k8s.policy.namespace=payment"],
    "revision":"3","kind":"CiliumNetworkPolicy"}]}"#,
    );
}

#[test]
fn an_allowed_decision_is_a_policy_verdict() {
    let message = to_proto(&allowed(), "default", &key());
    assert_eq!(message.verdict(), proto::Verdict::Forwarded);
    assert_eq!(message.event_type, Some(proto::CiliumEventType { r#type: 5, sub_type: 0 }));
    assert_eq!(message.is_reply, Some(false));
    assert_eq!(message.policy_match_type, 2);
    assert_eq!((message.drop_reason, message.drop_reason_desc), (0, 0));
    assert_eq!(message.node_name, "node-a");
    // Two rules of one policy are one policy.
    assert_eq!(message.egress_allowed_by.len(), 1);
    assert!(message.egress_denied_by.is_empty() && message.ingress_allowed_by.is_empty());
}

#[test]
fn a_drop_never_says_whether_it_is_a_reply() {
    assert_eq!(to_proto(&syn(), "", &key()).is_reply, None);
}

#[test]
fn ingress_policies_go_to_the_ingress_lists() {
    let denied =
        model::Flow { direction: Some(Direction::Ingress), hook: Direction::Ingress, ..syn() };
    let denied = to_proto(&denied, "", &key());
    assert_eq!(denied.ingress_denied_by.len(), 1);
    assert_eq!(denied.traffic_direction(), proto::TrafficDirection::Ingress);
    let allowed = model::Flow { direction: Some(Direction::Ingress), ..allowed() };
    assert_eq!(to_proto(&allowed, "", &key()).ingress_allowed_by.len(), 1);
}

#[test]
fn a_cut_answer_is_dropped_where_it_arrives_by_the_policies_of_the_other_direction() {
    let cut = model::Flow { hook: Direction::Ingress, is_reply: Some(true), ..syn() };
    let message = to_proto(&cut, "", &key());
    assert_eq!(message.traffic_direction(), proto::TrafficDirection::Ingress);
    assert_eq!((message.egress_denied_by.len(), message.ingress_denied_by.len()), (1, 0));
    let answer = model::Flow { hook: Direction::Ingress, is_reply: Some(true), ..allowed() };
    assert_eq!(to_proto(&answer, "", &key()).traffic_direction(), proto::TrafficDirection::Egress);
}

#[test]
fn a_packet_that_was_not_judged_goes_in_the_direction_of_its_local_end() {
    let spoofed = model::Flow {
        direction: None,
        policy: None,
        reason: Reason::Datapath(model::DropReason::INVALID_SOURCE_IP),
        ..syn()
    };
    let message = to_proto(&spoofed, "", &key());
    assert_eq!(message.traffic_direction(), proto::TrafficDirection::Egress);
    assert_eq!(message.drop_reason_desc(), proto::DropReason::InvalidSourceIp);
}

#[test]
fn an_end_that_is_no_pod_keeps_its_reserved_label() {
    let mut flow = syn();
    flow.destination = End {
        identity: Some(Reserved::World.id()),
        labels: labels(&["reserved:world"]),
        namespace: String::new(),
        pod: String::new(),
        workload: None,
        service: None,
        endpoint_id: 0,
        process: Attribution::Unknown(UnknownProcess::NotLocal),
    };
    let end = to_proto(&flow, "", &key()).destination.unwrap();
    assert_eq!(
        end,
        proto::Endpoint {
            identity: 2,
            labels: vec!["reserved:world".into()],
            ..proto::Endpoint::default()
        }
    );
}

#[test]
fn a_frame_that_is_not_ip_has_its_addresses_in_ethernet_only() {
    let arp = model::Flow { addresses: None, l4: None, ether_type: 0x0806, ..syn() };
    let message = to_proto(&arp, "", &key());
    assert_eq!((message.ip, message.l4), (None, None));
    assert_eq!(message.summary, "ARP");
}

#[test]
fn icmp_has_type_and_code_and_no_ports() {
    let ping = model::Flow {
        l4: Some(Layer4::Icmpv6(IcmpMessage { kind: 128, code: 0 })),
        addresses: Some(("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())),
        ..syn()
    };
    let message = to_proto(&ping, "", &key());
    assert_eq!(message.summary, "ICMPv6 EchoRequest");
    assert_eq!(message.ip.unwrap().ip_version(), proto::IpVersion::IPv6);
    assert_eq!(
        message.l4.unwrap().protocol,
        Some(Protocol::IcmPv6(proto::IcmPv6 { r#type: 128, code: 0 }))
    );
}

#[test]
fn a_uuid_names_one_record_of_one_node() {
    let uuid = |flow: &model::Flow| to_proto(flow, "", &key()).uuid;
    let one = uuid(&syn());
    assert_eq!(one, uuid(&syn()));
    assert_ne!(one, uuid(&model::Flow { record: (1, 43), ..syn() }));
    assert_ne!(one, uuid(&model::Flow { node: "node-b".into(), ..syn() }));
    assert_ne!(one, uuid(&model::Flow { time_ns: 1, ..syn() }));
    // Version 4, variant 1: as random ones are written.
    assert_eq!((&one[14..15], one.matches('-').count(), one.len()), ("4", 4, 36));
    assert!("89ab".contains(&one[19..20]), "{one}");
}

/// Who knows all that goes into a number but the key cannot tell whether it is right:
/// else a reader of one namespace counted what the others of the node do.
#[test]
fn a_uuid_cannot_be_tried_by_who_lacks_the_key() {
    let uuid = |key: &UuidKey| to_proto(&syn(), "", key).uuid;
    let [first, second] = [(); 2].map(|()| UuidKey::generate().unwrap());
    assert_eq!(uuid(&first), uuid(&first.clone()));
    assert_ne!(uuid(&first), uuid(&second));
    assert_ne!(uuid(&first), uuid(&UuidKey::new(b"")));
}

#[test]
fn the_detail_tells_rules_and_processes_in_a_type_every_client_can_print() {
    let message = proto::Flow {
        extensions: to_proto(&allowed(), "", &key()).extensions,
        ..proto::Flow::default()
    };
    assert_eq!(
        to_json(&message).unwrap(),
        r#"{"extensions":{"@type":"type.googleapis.com/google.protobuf.Struct","value":{
    "because":[],"bytes":74,
    "process":{"destination":{"unknown":"other-node"},
    "source":{"binary":"/usr/bin/nc","comm":"nc","container":"c0ffee","pid":4711,
    "start_ns":"12345678901234567","uid":1000}},
    "reason":"rule","record":"1/42","revision":4,
    "rule":"CiliumNetworkPolicy/payment/out#spec.egress[0]",
    "rules":["CiliumNetworkPolicy/payment/out#spec.egress[0]",
    "CiliumNetworkPolicy/payment/out#spec.egress[2]"]}}}"#
            .replace("\n    ", "")
    );
}

/// The ledger closes what `pay-svc` opened: the second FIN, on its way back.
fn ended() -> model::Flow {
    let flow = allowed();
    model::Flow {
        reason: Reason::Established,
        policy: None,
        hook: Direction::Ingress,
        is_reply: Some(true),
        addresses: flow.addresses.map(|(source, destination)| (destination, source)),
        l4: Some(Layer4::Tcp { source: 5432, destination: 40000, flags: TcpFlags(0x11) }),
        source: flow.destination.clone(),
        destination: flow.source.clone(),
        trace: Some(Trace::End(Some(model::Carried {
            lived: std::time::Duration::from_micros(12_900),
            initiator: model::Traffic { packets: 5, bytes: 412 },
            responder: model::Traffic { packets: 6, bytes: 8123 },
        }))),
        ..flow
    }
}

#[test]
fn the_end_of_a_connection_is_a_trace_where_it_was_seen() {
    let message = to_proto(&ended(), "", &key());
    assert_eq!(message.verdict(), proto::Verdict::Forwarded);
    assert_eq!(message.event_type, Some(proto::CiliumEventType { r#type: 4, sub_type: 0 }));
    assert_eq!(message.trace_observation_point, 101);
    assert_eq!(message.trace_reason(), proto::TraceReason::Reply);
    assert_eq!(message.traffic_direction(), proto::TrafficDirection::Egress);
    assert_eq!((message.is_reply, message.policy_match_type), (Some(true), 0));
    assert_eq!(
        message.summary,
        "TCP Flags: ACK, FIN; initiator 412 bytes, responder 8123 bytes, 12 ms"
    );
    assert!(message.egress_allowed_by.is_empty() && message.ingress_allowed_by.is_empty());

    let sent = model::Flow { hook: Direction::Egress, is_reply: Some(false), ..ended() };
    let message = to_proto(&sent, "", &key());
    assert_eq!(message.event_type, Some(proto::CiliumEventType { r#type: 4, sub_type: 3 }));
    assert_eq!(message.trace_observation_point(), proto::TraceObservationPoint::ToStack);
    assert_eq!(message.trace_reason(), proto::TraceReason::Established);
    // A decision is none.
    let decision = to_proto(&allowed(), "", &key());
    assert_eq!((decision.trace_observation_point, decision.trace_reason), (0, 0));
}

#[test]
fn what_a_connection_carried_is_in_the_extensions_if_it_is_known() {
    let json = |flow: &model::Flow| {
        let extensions = to_proto(flow, "", &key()).extensions;
        to_json(&proto::Flow { extensions, ..proto::Flow::default() }).unwrap()
    };
    let want = r#""connection":{"counted":true,"duration_ms":12,"initiator":{"bytes":412,"packets":5},"responder":{"bytes":8123,"packets":6}},"#;
    assert!(json(&ended()).contains(want), "{}", json(&ended()));
    let unknown = model::Flow { trace: Some(Trace::End(None)), ..ended() };
    let want = r#""connection":{"counted":false},"#;
    assert!(json(&unknown).contains(want), "{}", json(&unknown));
    assert_eq!(to_proto(&unknown, "", &key()).summary, "TCP Flags: ACK, FIN");
    for quiet in [allowed(), model::Flow { trace: Some(Trace::Answer), ..ended() }] {
        assert!(!json(&quiet).contains("connection"), "{}", json(&quiet));
    }
    for flow in [ended(), unknown, allowed()] {
        let detail = Detail::of(&flow);
        let read = Detail::from_any(&detail.to_any()).unwrap();
        assert_eq!(read.connection, detail.connection);
    }
}

#[test]
fn a_flow_that_stands_for_others_tells_their_number_and_bytes() {
    let times = Repeated { count: 41, bytes: 41 * 74, first_ns: 1_781_428_323_000_000_000 };
    let flow = repeated(to_proto(&syn(), "jakarta", &key()), times);
    assert_eq!(flow.summary, "TCP Flags: SYN; 41 times");
    assert_eq!(flow.aggregate.unwrap().egress_flow_count, 41);
    let json = to_json(&proto::Flow { extensions: flow.extensions, ..proto::Flow::default() });
    let json = json.unwrap();
    let want = r#""bytes":3034,"count":41,"first_ns":"1781428323000000000","#;
    assert!(json.contains(want), "{json}");
}

#[test]
fn the_detail_is_read_back_as_it_was_written_but_for_the_cgroup() {
    let detail = Detail::of(&allowed());
    let read = Detail::from_any(&detail.to_any()).unwrap();
    let Actor::Known(process) = &read.source else { panic!("{read:?}") };
    assert_eq!((process.start_ns, process.cgroup_id), (12_345_678_901_234_567, 0));
    assert_eq!(read.rules, detail.rules);
    assert_eq!(read.destination, detail.destination);
    assert_eq!((read.reason.as_str(), read.revision), ("rule", 4));
}

#[test]
fn the_extensions_of_others_are_left_alone() {
    let any = prost_types::Any { type_url: "type.googleapis.com/x.Y".into(), value: vec![1] };
    assert_eq!(Detail::from_any(&any), None);
}

#[test]
fn a_line_of_json_is_read_back_to_the_same_answer() {
    for flow in [syn(), allowed(), ended()] {
        let mut answer = to_response(to_proto(&flow, "jakarta", &key()));
        let line = to_json(&answer).unwrap();
        assert!(!line.contains('\n'));
        let mut read: GetFlowsResponse = from_json(&line).unwrap();
        // Struct is a map: equal ones may be encoded in different orders.
        let detail = |answer: &mut GetFlowsResponse| match &mut answer.response_types {
            Some(ResponseTypes::Flow(flow)) => {
                flow.extensions.take().and_then(|any| Detail::from_any(&any))
            }
            _ => None,
        };
        assert_eq!(detail(&mut read), detail(&mut answer));
        assert_eq!(read, answer);
    }
}
