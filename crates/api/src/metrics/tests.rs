//! What is counted, under which names and labels. Expected lines are by hand.

use super::*;
use crate::proto::flow::{IpVersion, Layer4, TcpFlags, TraceObservationPoint};

/// Flows of every kind, as the protocol's test serves them.
const FLOWS: &str = include_str!("../../tests/protocol/flows.jsonl");

fn flows() -> Vec<Flow> {
    use crate::proto::observer::GetFlowsResponse;
    use crate::proto::observer::get_flows_response::ResponseTypes;
    let answers = FLOWS.lines().map(|line| crate::json::from_json(line).unwrap());
    let flow = |answer: GetFlowsResponse| match answer.response_types {
        Some(ResponseTypes::Flow(flow)) => Some(flow),
        _ => None,
    };
    answers.filter_map(flow).collect()
}

fn rendered(plugins: &str, series: usize, flows: &[Flow]) -> String {
    let plugins = plugin::plugins(plugins).unwrap();
    let metrics = FlowMetrics::new(Settings { plugins, series });
    flows.iter().for_each(|flow| metrics.flow(flow, 1));
    let mut text = Text::default();
    metrics.render(&mut text);
    text.into_string()
}

/// The samples of the five flows.
#[track_caller]
fn check(plugins: &str, want: &[&str]) {
    let text = rendered(plugins, 100, &flows());
    let got: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(got, want);
}

#[test]
fn nothing_is_counted_that_was_not_asked_for() {
    check("", &[]);
}

#[test]
fn flows_are_counted_by_protocol_kind_and_verdict() {
    check(
        "flow",
        &[
            r#"hubble_flows_processed_total{protocol="DNS",type="L7",subtype="DNS",verdict="FORWARDED"} 1"#,
            r#"hubble_flows_processed_total{protocol="HTTP",type="L7",subtype="HTTP",verdict="FORWARDED"} 1"#,
            r#"hubble_flows_processed_total{protocol="ICMPv4",type="Drop",subtype="",verdict="DROPPED"} 1"#,
            r#"hubble_flows_processed_total{protocol="TCP",type="Drop",subtype="",verdict="DROPPED"} 1"#,
            r#"hubble_flows_processed_total{protocol="TCP",type="PolicyVerdict",subtype="",verdict="FORWARDED"} 1"#,
        ],
    );
}

#[test]
fn drops_flags_ports_and_messages_are_counted() {
    check(
        "drop tcp icmp port-distribution",
        &[
            r#"hubble_drop_total{reason="INVALID_SOURCE_IP",protocol="ICMPv4"} 1"#,
            r#"hubble_drop_total{reason="POLICY_DENIED",protocol="TCP"} 1"#,
            r#"hubble_icmp_total{family="IPv4",type="EchoRequest"} 1"#,
            r#"hubble_port_distribution_total{protocol="DNS",port="53"} 1"#,
            r#"hubble_port_distribution_total{protocol="TCP",port="443"} 1"#,
            r#"hubble_tcp_flags_total{flag="SYN",family="IPv4"} 1"#,
        ],
    );
}

#[test]
fn ends_of_connections_are_counted_by_point_and_flag() {
    use crate::proto::flow::{CiliumEventType, Ip, Tcp, Verdict, layer4};
    let end = |point: TraceObservationPoint, sub_type, flags| Flow {
        verdict: Verdict::Forwarded.into(),
        ip: Some(Ip { ip_version: IpVersion::IPv4.into(), ..Ip::default() }),
        l4: Some(Layer4 {
            protocol: Some(layer4::Protocol::Tcp(Tcp { flags: Some(flags), ..Tcp::default() })),
        }),
        event_type: Some(CiliumEventType { r#type: 4, sub_type }),
        trace_observation_point: point.into(),
        is_reply: Some(true),
        ..Flow::default()
    };
    let fin = TcpFlags { fin: true, ack: true, ..TcpFlags::default() };
    let rst = TcpFlags { rst: true, ..TcpFlags::default() };
    let flows = [
        end(TraceObservationPoint::ToEndpoint, 0, fin),
        end(TraceObservationPoint::ToStack, 3, rst),
    ];
    let text = rendered("flow tcp policy", 100, &flows);
    let got: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        got,
        [
            r#"hubble_flows_processed_total{protocol="TCP",type="Trace",subtype="to-endpoint",verdict="FORWARDED"} 1"#,
            r#"hubble_flows_processed_total{protocol="TCP",type="Trace",subtype="to-stack",verdict="FORWARDED"} 1"#,
            r#"hubble_tcp_flags_total{flag="FIN",family="IPv4"} 1"#,
            r#"hubble_tcp_flags_total{flag="RST",family="IPv4"} 1"#,
        ]
    );
}

#[test]
fn decisions_of_policies_are_counted_whether_they_allow_or_deny() {
    check(
        "policy flows-to-world:port",
        &[
            r#"hubble_flows_to_world_total{protocol="TCP",verdict="FORWARDED",port="443"} 1"#,
            r#"hubble_policy_verdicts_total{direction="egress",match="l3-l4",action="forwarded"} 1"#,
            r#"hubble_policy_verdicts_total{direction="ingress",match="none",action="dropped"} 1"#,
        ],
    );
}

#[test]
fn application_records_are_counted() {
    let text = rendered("dns:query httpV2", 100, &flows());
    for line in [
        r#"hubble_dns_queries_total{rcode="",qtypes="A",ips_returned="0",query="www.example.com."} 1"#,
        r#"hubble_http_requests_total{method="GET",protocol="HTTP/1.1",status="404",reporter="server"} 1"#,
        r#"hubble_http_request_duration_seconds_bucket{method="GET",reporter="server",le="0.005"} 1"#,
        r#"hubble_http_request_duration_seconds_bucket{method="GET",reporter="server",le="+Inf"} 1"#,
        r#"hubble_http_request_duration_seconds_sum{method="GET",reporter="server"} 0.003"#,
        "# TYPE hubble_http_request_duration_seconds histogram",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn contexts_name_the_ends() {
    check(
        "drop:sourceContext=workload|reserved-identity|ip;destinationContext=pod;labelsContext=destination_app,traffic_direction",
        &[
            r#"hubble_drop_total{reason="INVALID_SOURCE_IP",protocol="ICMPv4",destination_app="api",traffic_direction="egress",source="10.9.9.9",destination="payment/api-0"} 1"#,
            r#"hubble_drop_total{reason="POLICY_DENIED",protocol="TCP",destination_app="api",traffic_direction="ingress",source="web/front",destination="payment/api-0"} 1"#,
        ],
    );
}

#[test]
fn a_flood_of_names_is_counted_under_other() {
    let mut flood = Vec::new();
    for port in 1..=500 {
        let mut flow = flows()[0].clone();
        let protocol = flow.l4.as_mut().unwrap().protocol.as_mut().unwrap();
        if let crate::proto::flow::layer4::Protocol::Tcp(tcp) = protocol {
            tcp.destination_port = port;
        }
        flood.push(flow);
    }
    let text = rendered("port-distribution", 10, &flood);
    let samples = text.lines().filter(|line| line.starts_with("hubble_port")).count();
    assert_eq!(samples, 11);
    assert!(text.contains(r#"{protocol="other",port="other"} 490"#), "{text}");
    let overflow = r#"signet_metrics_overflow_total{metric="hubble_port_distribution_total"} 490"#;
    assert!(text.contains(overflow), "{text}");
}

#[test]
fn losses_are_always_counted() {
    let metrics = FlowMetrics::new(Settings::default());
    let lost = LostEvent { source: 1, num_events_lost: 7, ..LostEvent::default() };
    metrics.lost(&lost);
    let mut text = Text::default();
    metrics.render(&mut text);
    let line = r#"hubble_lost_events_total{source="perf_event_ring_buffer"} 7"#;
    assert!(text.into_string().contains(line));
}

#[test]
fn a_label_cannot_break_the_text() {
    let mut flow = flows()[1].clone();
    flow.source.as_mut().unwrap().pod_name = "a\"} 1\nx\\".into();
    let text = rendered("drop:sourceContext=pod-name", 10, &[flow]);
    assert!(text.contains(r#"source="a\"} 1\nx\\"} 1"#), "{text}");
}

#[track_caller]
fn check_refused(text: &str, want: &str) {
    let error = plugins(text).unwrap_err().to_string();
    assert!(error.contains(want), "{error}");
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    check_refused("nonsense", "no metric `nonsense`: there are dns, drop");
    check_refused("drop:query", "metric `drop` has no option `query`");
    check_refused("drop:sourceContext=colour", "`colour` is none of app, dns");
    check_refused("drop:labelsContext=source_ip,x", "`x` is none of source_ip");
    check_refused("http httpV2", "metric `http` is given twice");
}

#[test]
fn verdicts_that_would_be_others_are_always_counted() {
    let metrics = FlowMetrics::new(Settings::default());
    metrics.shadow_differs(Direction::Ingress, Verdict::Dropped, 3);
    metrics.shadow_differs(Direction::Ingress, Verdict::Dropped, 1);
    metrics.shadow_differs(Direction::Egress, Verdict::Forwarded, 1);
    let mut text = Text::default();
    metrics.render(&mut text);
    let text = text.into_string();
    for line in [
        r#"signet_shadow_differs_total{direction="ingress",verdict="denied"} 4"#,
        r#"signet_shadow_differs_total{direction="egress",verdict="allowed"} 1"#,
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn series_of_a_pod_go_a_minute_after_the_pod_and_make_room() {
    let plugins = plugins("drop:sourceContext=pod flow:labelsContext=source_pod").unwrap();
    let metrics = FlowMetrics::new(Settings { plugins, series: 2 });
    let count = |pod: &str| {
        let line = r#"{"verdict":"DROPPED","source":{"namespace":"web","pod_name":"NAME"}}"#;
        metrics.flow(&crate::json::from_json(&line.replace("NAME", pod)).unwrap(), 1);
    };
    let drops = || {
        let mut text = Text::default();
        metrics.render(&mut text);
        let text = text.into_string();
        let lines = text.lines().filter(|line| line.starts_with("hubble_"));
        let source = |line: &str| line.rsplit_once('=').unwrap().1.to_owned();
        lines.map(source).collect::<Vec<_>>()
    };
    let all = |sources: &[&str]| {
        let (own, names) = (sources.iter(), sources.iter());
        let own = own.map(|name| match *name {
            "other" => "\"other\"} 1".to_owned(),
            name => format!("\"web/{name}\"}} 1"),
        });
        own.chain(names.map(|name| format!("\"{name}\"}} 1"))).collect::<Vec<_>>()
    };
    let (start, second) = (Instant::now(), std::time::Duration::from_secs(1));
    ["a", "b", "c"].iter().for_each(|pod| count(pod));
    assert_eq!(sorted(drops()), sorted(all(&["a", "b", "other"])));
    let only_b = |namespace: &str, name: &str| (namespace, name) == ("web", "b");
    metrics.sweep(start, only_b);
    metrics.sweep(start + 59 * second, only_b);
    assert_eq!(drops().len(), 6, "not before a minute is over");
    metrics.sweep(start + 60 * second, only_b);
    assert_eq!(sorted(drops()), sorted(all(&["b", "other"])));
    // One that is back in time keeps what was counted.
    metrics.sweep(start + 70 * second, |_, _| false);
    metrics.sweep(start + 80 * second, only_b);
    metrics.sweep(start + 131 * second, |_, _| false);
    assert_eq!(sorted(drops()), sorted(all(&["b", "other"])));
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn what_readers_missed_is_lost_too() {
    let metrics = FlowMetrics::new(Settings::default());
    metrics.missed(3);
    metrics.missed(5);
    metrics.lost(&LostEvent { source: 1, num_events_lost: 7, ..LostEvent::default() });
    let mut text = Text::default();
    metrics.render(&mut text);
    let text = text.into_string();
    for line in [
        r#"hubble_lost_events_total{source="hubble_ring_buffer"} 5"#,
        r#"hubble_lost_events_total{source="perf_event_ring_buffer"} 7"#,
    ] {
        assert!(text.lines().any(|have| have == line), "{text}");
    }
}
