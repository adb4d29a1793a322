//! One flow, and which filters it passes.

use prost::Name;

use super::*;
use crate::flow::to_response;
use crate::json;
use crate::proto::flow::layer4::Protocol;
use crate::proto::flow::{
    CiliumEventType, DropReason, Endpoint, EventTypeFilter, Ip, IpVersion, Layer4,
    NetworkInterface, Tcp, TcpFlags, TrafficDirection, Verdict, Workload,
};
use crate::proto::observer::GetFlowsResponse;

/// A forwarded SYN, ACK of `pay/web-1` to the world.
fn flow() -> Flow {
    Flow {
        uuid: "u1".into(),
        verdict: Verdict::Forwarded.into(),
        ip: Some(Ip {
            source: "10.1.0.5".into(),
            destination: "198.51.100.7".into(),
            ip_version: IpVersion::IPv4.into(),
            ..Ip::default()
        }),
        l4: Some(Layer4 {
            protocol: Some(Protocol::Tcp(Tcp {
                source_port: 40000,
                destination_port: 443,
                flags: Some(TcpFlags { syn: true, ack: true, ..TcpFlags::default() }),
            })),
        }),
        source: Some(Endpoint {
            identity: 7777,
            cluster_name: "jakarta".into(),
            namespace: "pay".into(),
            labels: vec!["k8s:app=web".into()],
            pod_name: "web-1".into(),
            workloads: vec![Workload { name: "web".into(), kind: "Deployment".into() }],
            ..Endpoint::default()
        }),
        destination: Some(Endpoint {
            identity: 2,
            labels: vec!["reserved:world".into()],
            ..Endpoint::default()
        }),
        destination_names: vec!["api.swift.com".into()],
        node_name: "jakarta/node-a".into(),
        event_type: Some(CiliumEventType { r#type: 5, sub_type: 0 }),
        traffic_direction: TrafficDirection::Egress.into(),
        is_reply: Some(false),
        interface: Some(NetworkInterface { index: 3, name: "eth0".into() }),
        ..Flow::default()
    }
}

fn dropped() -> Flow {
    Flow {
        verdict: Verdict::Dropped.into(),
        drop_reason_desc: DropReason::PolicyDenied.into(),
        event_type: Some(CiliumEventType { r#type: 1, sub_type: 133 }),
        is_reply: None,
        ..flow()
    }
}

/// Filters are written as JSON, as on Hubble's command line.
fn read(filter: &str) -> FlowFilter {
    json::from_json(filter).unwrap()
}

#[track_caller]
fn check_flow(flow: &Flow, filter: &str, want: bool) {
    let filters = Filters::new(&[read(filter)], &[]).unwrap();
    assert_eq!(filters.matches(flow), want, "{filter}");
}

#[track_caller]
fn check(filter: &str, want: bool) {
    check_flow(&flow(), filter, want);
}

#[test]
fn ends_are_matched_by_what_they_are() {
    check(r#"{"source_pod":["pay/web"]}"#, true);
    check(r#"{"source_pod":["pay/"]}"#, true);
    check(r#"{"source_pod":["web"]}"#, false);
    check(r#"{"destination_pod":["/"]}"#, false);
    check(r#"{"source_ip":["10.1.0.0/16"]}"#, true);
    check(r#"{"source_ip":["10.1.0.6"]}"#, false);
    check(r#"{"destination_ip":["198.51.100.7"]}"#, true);
    check(r#"{"source_label":["app=web"]}"#, true);
    check(r#"{"destination_label":["reserved:world"]}"#, true);
    check(r#"{"source_identity":[7777]}"#, true);
    check(r#"{"destination_identity":[7777]}"#, false);
    check(r#"{"source_workload":[{"name":"web"}]}"#, true);
    check(r#"{"source_workload":[{"kind":"DaemonSet"}]}"#, false);
    check(r#"{"source_cluster_name":["jakarta"]}"#, true);
    check(r#"{"destination_fqdn":["*.swift.com"]}"#, true);
    check(r#"{"source_fqdn":["*.swift.com"]}"#, false);
    check(r#"{"source_service":["pay/"]}"#, false);
}

#[test]
fn packets_are_matched_by_their_headers() {
    check(r#"{"destination_port":["443"]}"#, true);
    check(r#"{"source_port":["443"]}"#, false);
    check(r#"{"protocol":["TCP"]}"#, true);
    check(r#"{"protocol":["udp","icmp"]}"#, false);
    check(r#"{"tcp_flags":[{"SYN":true}]}"#, true);
    check(r#"{"tcp_flags":[{"SYN":true,"RST":true}]}"#, false);
    check(r#"{"ip_version":["IPv4"]}"#, true);
    check(r#"{"ip_version":["IPv6"]}"#, false);
    check(r#"{"encrypted":[true]}"#, false);
}

#[test]
fn events_are_matched_by_what_was_decided_and_where() {
    check(r#"{"verdict":["FORWARDED"]}"#, true);
    check(r#"{"verdict":["DROPPED","AUDIT"]}"#, false);
    check(r#"{"traffic_direction":["EGRESS"]}"#, true);
    check(r#"{"event_type":[{"type":5}]}"#, true);
    check(r#"{"event_type":[{"type":5,"match_sub_type":true,"sub_type":1}]}"#, false);
    check(r#"{"event_type":[{}]}"#, true);
    check(r#"{"node_name":["jakarta/node-*"]}"#, true);
    check(r#"{"interface":[{"name":"eth0"}]}"#, true);
    check(r#"{"interface":[{"name":"eth0","index":4}]}"#, false);
    check(r#"{"uuid":["u1"]}"#, true);
}

#[test]
fn a_drop_reason_matches_drops_only() {
    check_flow(&dropped(), r#"{"drop_reason_desc":["POLICY_DENIED"]}"#, true);
    let forwarded = Flow { verdict: Verdict::Forwarded.into(), ..dropped() };
    check_flow(&forwarded, r#"{"drop_reason_desc":["POLICY_DENIED"]}"#, false);
}

#[test]
fn a_drop_counts_as_no_reply_and_what_nobody_knows_as_neither() {
    check(r#"{"reply":[false]}"#, true);
    check_flow(&dropped(), r#"{"reply":[false]}"#, true);
    check_flow(&dropped(), r#"{"reply":[true]}"#, false);
    let unknown = Flow { is_reply: None, ..flow() };
    check_flow(&unknown, r#"{"reply":[false]}"#, false);
}

#[test]
fn all_fields_of_a_filter_must_match_and_any_filter_of_a_list() {
    check(r#"{"source_pod":["pay/"],"verdict":["DROPPED"]}"#, false);
    let either = [read(r#"{"verdict":["DROPPED"]}"#), read(r#"{"source_pod":["pay/"]}"#)];
    assert!(Filters::new(&either, &[]).unwrap().matches(&flow()));
}

#[test]
fn the_blacklist_wins() {
    let pay = [read(r#"{"source_pod":["pay/"]}"#)];
    assert!(!Filters::new(&pay, &pay).unwrap().matches(&flow()));
    assert!(!Filters::new(&[], &pay).unwrap().matches(&flow()));
    assert!(Filters::new(&[], &[]).unwrap().matches(&flow()));
}

#[track_caller]
fn check_refused(filter: &str, want: &str) {
    let error = Filters::new(&[], &[read(filter)]).err().expect(filter);
    assert_eq!(error.to_string(), want);
}

#[test]
fn values_that_mean_nothing_are_refused_by_name() {
    check_refused(r#"{"source_port":["70000"]}"#, "filter field `source_port`: `70000` is no port");
    check_refused(
        r#"{"destination_ip":["10.0.0/8"]}"#,
        "filter field `destination_ip`: `10.0.0/8` is neither an address nor a range",
    );
    check_refused(r#"{"source_pod":[""]}"#, "filter field `source_pod`: `` is no pod");
    check_refused(r#"{"protocol":["tpc"]}"#, "filter field `protocol`: `tpc` is no protocol");
    check_refused(
        r#"{"destination_label":["a=b,"]}"#,
        "filter field `destination_label`: `a=b,` is no label selector",
    );
    check_refused(
        r#"{"source_cluster_name":[""]}"#,
        "filter field `source_cluster_name`: `` is no cluster",
    );
}

#[test]
fn expressions_are_a_field_like_any_other() {
    let filter =
        r#"{"uuid":["u1"],"experimental":{"cel_expression":["false","_flow.uuid=='u1'"]}}"#;
    assert!(Filters::new(&[read(filter)], &[]).unwrap().matches(&flow()));
    let many =
        format!(r#"{{"experimental":{{"cel_expression":[{}"true"]}}}}"#, r#""true","#.repeat(32));
    check_refused(
        &many,
        "filter field `experimental.cel_expression`: `true`: a request may have 32 expressions, this is one more",
    );
    let filter = r#"{"uuid":["u1"],"experimental":{"cel_expression":["false"]}}"#;
    assert!(!Filters::new(&[read(filter)], &[]).unwrap().matches(&flow()));
}

/// A flow that differs from [`flow`] in every respect a filter can ask about: a
/// filter with any one field set to what [`flow`] has must not match it.
#[test]
fn no_field_of_a_filter_is_ignored() {
    let descriptor = json::descriptor::<FlowFilter>().unwrap();
    let values = [
        ("uuid", r#"["u1"]"#),
        ("source_ip", r#"["10.1.0.5"]"#),
        ("source_ip_xlated", r#"["10.1.0.5"]"#),
        ("source_pod", r#"["pay/web"]"#),
        ("source_fqdn", r#"["a"]"#),
        ("source_label", r#"["app=web"]"#),
        ("source_service", r#"["pay/"]"#),
        ("source_workload", r#"[{"name":"web"}]"#),
        ("source_cluster_name", r#"["jakarta"]"#),
        ("destination_ip", r#"["198.51.100.7"]"#),
        ("destination_pod", r#"["pay/"]"#),
        ("destination_fqdn", r#"["api.swift.com"]"#),
        ("destination_label", r#"["reserved:world"]"#),
        ("destination_service", r#"["pay/"]"#),
        ("destination_workload", r#"[{"name":"web"}]"#),
        ("destination_cluster_name", r#"["jakarta"]"#),
        ("traffic_direction", r#"["EGRESS"]"#),
        ("verdict", r#"["FORWARDED"]"#),
        ("drop_reason_desc", r#"["POLICY_DENIED"]"#),
        ("interface", r#"[{"name":"eth0"}]"#),
        ("event_type", r#"[{"type":5}]"#),
        ("protocol", r#"["tcp"]"#),
        ("source_port", r#"["40000"]"#),
        ("destination_port", r#"["443"]"#),
        ("reply", "[false]"),
        ("source_identity", "[7777]"),
        ("destination_identity", "[2]"),
        ("tcp_flags", r#"[{"SYN":true}]"#),
        ("node_name", r#"["jakarta/"]"#),
        ("node_labels", r#"["a=b"]"#),
        ("ip_version", r#"["IPv4"]"#),
        ("trace_id", r#"["t"]"#),
        ("ip_trace_id", "[1]"),
        ("encrypted", "[true]"),
        ("dns_query", r#"["x"]"#),
        ("http_status_code", r#"["5+"]"#),
        ("http_method", r#"["GET"]"#),
        ("http_path", r#"["/"]"#),
        ("http_url", r#"["/"]"#),
        ("http_header", r#"[{"key":"a"}]"#),
    ];
    let refused = ["experimental"];
    let other = Flow::default();
    for field in descriptor.fields() {
        let value = values.iter().find(|(name, _)| *name == field.name());
        match value {
            Some((name, value)) => check_flow(&other, &format!("{{\"{name}\":{value}}}"), false),
            None => assert!(refused.contains(&field.name()), "{} is not tested", field.name()),
        }
    }
    assert_eq!(descriptor.full_name(), FlowFilter::full_name());
}

#[test]
fn a_filter_written_as_json_means_the_same_as_one_built() {
    let built = FlowFilter {
        event_type: vec![EventTypeFilter { r#type: 5, ..EventTypeFilter::default() }],
        ..FlowFilter::default()
    };
    assert_eq!(read(r#"{"event_type":[{"type":5}]}"#), built);
    let answer: GetFlowsResponse = to_response(flow());
    assert_eq!(answer.node_name, "jakarta/node-a");
}

#[test]
fn a_denial_that_cilium_made_is_told_as_a_verdict_by_cilium() {
    let mut flow = flow();
    flow.verdict = Verdict::Dropped.into();
    flow.event_type = Some(CiliumEventType { r#type: 1, sub_type: 133 });
    flow.drop_reason_desc = DropReason::PolicyDenied.into();
    let of = |name: &str| {
        Some(crate::proto::flow::Emitter { name: name.into(), version: String::new() })
    };
    flow.emitter = of("Hubble");
    check_flow(&flow, r#"{"event_type":[{"type":5}]}"#, false);
    check_flow(&flow, r#"{"event_type":[{"type":1}]}"#, true);
    flow.emitter = of("Signet");
    check_flow(&flow, r#"{"event_type":[{"type":5}]}"#, true);
    check_flow(&flow, r#"{"event_type":[{"type":5}],"uuid":["other"]}"#, false);
    check_flow(&flow, r#"{"event_type":[{"type":1}]}"#, true);
    // Drops that no policy decided are drops alone; an explicit denial is as a default.
    flow.drop_reason_desc = DropReason::InvalidSourceIp.into();
    check_flow(&flow, r#"{"event_type":[{"type":5}]}"#, false);
    flow.drop_reason_desc = DropReason::PolicyDeny.into();
    check_flow(&flow, r#"{"event_type":[{"type":5}]}"#, true);
}
