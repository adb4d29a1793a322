//! What expressions mean, over the flows of the protocol's test: a is allowed to the
//! world, b denied, c a DNS question, d an HTTP answer, e dropped for its source.
//! Expected results are written by hand from the language's definition.

use std::time::{Duration, Instant};

use super::*;
use crate::flow::detail::Detail;
use crate::proto::observer::GetFlowsResponse;
use crate::proto::observer::get_flows_response::ResponseTypes;

const FLOWS: &str = include_str!("../../../tests/protocol/flows.jsonl");

fn flows() -> Vec<Flow> {
    let answers = FLOWS.lines().map(crate::json::from_json::<GetFlowsResponse>);
    let flows = answers.filter_map(|answer| match answer.unwrap().response_types {
        Some(ResponseTypes::Flow(flow)) => Some(flow),
        _ => None,
    });
    flows.collect()
}

#[track_caller]
fn check(expression: &str, want: &str) {
    let read = Expression::new(expression).map_err(|error| error.to_string()).unwrap();
    let found: String =
        flows().iter().filter(|flow| read.matches(flow)).map(|flow| flow.uuid.as_str()).collect();
    assert_eq!(found, want, "{expression}");
}

#[track_caller]
fn check_refused(expression: &str, want: &str) {
    let error = match Expression::new(expression) {
        Ok(_) => panic!("accepted: {expression}"),
        Err(error) => error.to_string(),
    };
    assert!(error.starts_with("filter field `experimental.cel_expression`: `"), "{error}");
    assert!(error.contains(want), "{error}");
}

#[test]
fn fields_are_selected_and_compared() {
    check("true", "abcde");
    check("false", "");
    check("_flow.uuid == 'a'", "a");
    check("_flow.source.namespace == 'web'", "b");
    check("_flow.IP.source == '10.1.0.5' && _flow.l4.TCP.destination_port == 443", "a");
    check("_flow.l4.TCP.destination_port == 443u || _flow.l4.UDP.destination_port == 53u", "ac");
    check("_flow.source.identity > 30001u", "b");
    check("!(_flow.source.identity > 30001)", "acde");
    check("_flow.l4.TCP.flags.SYN && !_flow.l4.TCP.flags.ECE", "a");
    check("_flow.l7.latency_ns >= 3000000u", "d");
}

#[test]
fn enums_are_numbers_with_names() {
    check("_flow.verdict == Verdict.DROPPED", "be");
    check("_flow.verdict == flow.Verdict.DROPPED", "be");
    check("_flow.verdict == 2", "be");
    check("_flow.drop_reason_desc == DropReason.POLICY_DENIED", "b");
    check("_flow.traffic_direction == TrafficDirection.INGRESS", "bd");
    check("_flow.verdict in [Verdict.FORWARDED, Verdict.AUDIT]", "acd");
}

#[test]
fn what_is_not_set_has_its_standard_value_and_has_tells() {
    check("_flow.l7.http.code == 0u", "abce");
    check("has(_flow.l7)", "cd");
    check("has(_flow.l7.http)", "d");
    check("has(_flow.l4.ICMPv4)", "e");
    check("has(_flow.source.namespace)", "abcd");
    check("_flow.is_reply == true", "d");
    check("_flow.is_reply == null", "be");
    check("has(_flow.is_reply) && !_flow.is_reply", "ac");
}

#[test]
fn lists_are_searched() {
    check("'k8s:app=front' in _flow.source.labels", "b");
    check("_flow.source.labels.exists(l, l.startsWith('k8s:tier='))", "acd");
    check("_flow.source.workloads.exists(w, w.kind == 'Deployment' && has(w.name))", "b");
    check("size(_flow.source.labels) == 2", "acd");
    check("_flow.source.labels[0] == 'k8s:app=front'", "b");
    check("_flow.destination_names.all(n, n == '')", "bcde");
}

#[test]
fn texts_are_matched() {
    check("_flow.l7.dns.query.matches('^www[.]')", "c");
    check("matches(_flow.l7.http.url, 'x=[0-9]$')", "d");
    check("_flow.source.pod_name.contains('ron')", "b");
    check("_flow.node_name.endsWith('node-b') ? _flow.verdict == Verdict.DROPPED : false", "e");
}

#[test]
fn what_signet_knows_beyond_can_be_asked_too() {
    let mut flow = flows().remove(1);
    let detail = Detail {
        reason: "default-deny".into(),
        rules: vec![],
        because: vec!["CiliumNetworkPolicy/payment/in".into()],
        revision: 3,
        source: crate::flow::detail::Actor::Unknown("other-node".into()),
        destination: crate::flow::detail::Actor::Unknown("no-listener".into()),
        record: "0/1".into(),
        bytes: 74,
        count: 41,
        first_ns: 1,
        shadow: Some(crate::flow::detail::Shadow {
            verdict: "allowed".into(),
            differs: true,
            reason: "rule".into(),
            code: None,
            rules: vec!["r".into()],
            because: vec![],
        }),
        connection: Some(crate::flow::detail::Connection {
            carried: Some(crate::flow::detail::Carried {
                responder: model::Traffic { packets: 3, bytes: 9000 },
                ..Default::default()
            }),
        }),
    };
    flow.extensions = Some(detail.to_any());
    for (expression, want) in [
        ("_flow.extensions.reason == 'default-deny'", true),
        ("_flow.extensions.process.source.unknown == 'not-local'", false),
        ("_flow.extensions.count > 40.0", true),
        ("_flow.extensions.because.exists(p, p.endsWith('/in'))", true),
        ("has(_flow.extensions.rule)", false),
        ("_flow.extensions.connection.responder.bytes > 8000.0", true),
        ("_flow.extensions.connection.initiator.packets > 0.0", false),
        ("_flow.extensions.shadow.verdict == 'allowed'", true),
        ("_flow.extensions.shadow.verdict == 'denied'", false),
        ("_flow.extensions.shadow.differs == true", true),
    ] {
        assert_eq!(Expression::new(expression).unwrap().matches(&flow), want, "{expression}");
    }
    // One that has none does not match, and does no harm.
    check("_flow.extensions.reason == 'default-deny'", "");
    check("_flow.extensions.shadow.verdict == 'denied'", "");
}

#[test]
fn what_means_nothing_is_refused_with_the_reason() {
    check_refused("_flow.sauce == 1", "a `flow.Flow` has no field `sauce`");
    check_refused("_flow.source.pod == ''", "a `flow.Endpoint` has no field `pod`");
    check_refused("_flow.source.workloads.exists(w, w.age == 1)", "`flow.Workload` has no field");
    check_refused("_flow.verdict == Verdict.DROPED", "`Verdict` has no `DROPED`");
    check_refused("_flow.verdict == 'DROPPED'", "`==` is between a number and a text");
    check_refused("false && other", "there is no `other`: a flow is `_flow`");
    check_refused("_flow.uuid", "something else than a bool");
    check_refused("1 + 1", "something else than a bool");
    check_refused("_flow.verdict + 'x' == 'y'", "`+` is between a number and a text");
    check_refused("_flow.uuid == ", "at 1:");
    check_refused("-'a' == 'a'", "`-` is not for string");
    check_refused("", "at 1:");
    check_refused("(((", "at 1:");
    check_refused("_flow.uuid.matches('(')", "`(` is no regular expression");
    check_refused("_flow.uuid.matches(_flow.Summary)", "a text in quotes");
    check_refused("_flow.uuid.launch()", "there is no `launch`");
    check_refused("_flow.time == 1", "use since and until");
    check_refused("flow.Flow{} == _flow", "it makes a message");
}

#[test]
fn what_an_expression_may_cost_is_bounded_by_its_text() {
    check_refused(&"x".repeat(5000), "longer than 4096 bytes");
    let nested = |depth: usize| {
        let open: String = (0..depth).map(|n| format!("[1,2].exists(v{n}, ")).collect();
        format!("{open}v0 == 1{}", ")".repeat(depth))
    };
    check(&nested(1), "abcde");
    check_refused(&nested(3), "it may take more than 2000 steps");
    let long = vec!["_flow.verdict == 1"; 170].join(" || ");
    check(&long, "acd");
    check_refused(&format!("true{}", " == true".repeat(100)), "more than 64 deep");
    check_refused(&format!("_flow.uuid.matches('{}')", "(a{1000}){1000}"), "too large a one");
}

/// Hostile texts, on a stack as small as a thread of the server has.
#[test]
fn no_text_makes_the_reader_fall_or_stall() {
    let started = Instant::now();
    let texts =
        ["(", "[", "{", "!", "-", "a.", "a?", "x.map(y,", "'", "\\", "1+", "_flow.", "\u{0}"];
    let reading = thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for text in texts {
            for length in [1, 10, 100, 4080] {
                let text = text.repeat(length / text.len() + 1);
                assert!(Expression::new(&text).is_err(), "{text}");
            }
        }
    });
    reading.unwrap().join().unwrap();
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
