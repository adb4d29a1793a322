//! Every form, byte for byte: Hubble's own output for Hubble's forms (what its
//! command line printed for the same flows), lines written by hand for ours.

use api::flow::{UuidKey, to_proto, to_response};
use api::proto::flow::{
    CiliumEventType, Endpoint, Ethernet, Flow, Ip, LostEvent, Policy, SocketTranslationPoint,
    Verdict,
};
use api::proto::observer::GetFlowsResponse;
use api::proto::observer::get_flows_response::ResponseTypes;
use api::proto::relay::{NodeState, NodeStatusEvent};
use model::{
    Attribution, Direction, DropReason, End, IcmpMessage, IdentityId, Label, Labels, Layer4,
    MatchType, PolicyKind, PolicyMatch, PolicyName, Process, Reason, Reserved, RuleId, TcpFlags,
    UnknownProcess,
};

use super::args::Format;
use super::*;

/// One answer of every kind, as Hubble's command line printed them as JSON.
const ANSWERS: &str = include_str!("../../../api/tests/data/hubble.jsonl");

fn answers() -> Vec<GetFlowsResponse> {
    ANSWERS.lines().map(|line| api::json::from_json(line).unwrap()).collect()
}

/// What goes to stdout and to stderr.
fn printed(format: Format, style: Style, answers: &[GetFlowsResponse]) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut printer = Printer::new(format, style, &mut out, &mut err);
    answers.iter().for_each(|answer| printer.print(answer).unwrap());
    printer.finish().unwrap();
    drop(printer);
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// The recordings hold both streams; nodes' states come last in them.
#[track_caller]
fn check_hubble(format: Format, style: Style, want: &str) {
    let (out, err) = printed(format, style, &answers());
    assert_eq!(out + &err, want);
}

#[test]
fn compact_is_hubbles() {
    check_hubble(Format::Compact, Style::default(), include_str!("../../tests/data/compact.txt"));
}

#[test]
fn compact_with_nodes_and_policies_is_hubbles() {
    let style = Style { node: true, policy_names: true, ..Style::default() };
    check_hubble(Format::Compact, style, include_str!("../../tests/data/names.txt"));
}

#[test]
fn a_verdict_has_a_colour_when_asked() {
    let style = Style { color: true, ..Style::default() };
    let (out, _) = printed(Format::Compact, style, &answers());
    assert!(out.contains(" \u{1b}[32mFORWARDED\u{1b}[0m (TCP"), "{out}");
    assert!(out.contains(" \u{1b}[31mDROPPED\u{1b}[0m (TCP"), "{out}");
}

#[test]
fn silence_is_about_nodes_only() {
    let style = Style { silent: true, ..Style::default() };
    let (out, err) = printed(Format::Compact, style, &answers());
    assert_eq!((out.lines().count(), err.as_str()), (6, ""));
}

#[test]
fn dict_is_hubbles() {
    check_hubble(Format::Dict, Style::default(), include_str!("../../tests/data/dict.txt"));
}

#[test]
fn json_is_hubbles() {
    check_hubble(Format::Json, Style::default(), ANSWERS);
}

#[test]
fn a_table_is_hubbles_and_comes_when_all_is_there() {
    let (out, err) = printed(Format::Table, Style::default(), &answers());
    assert_eq!(err + &out, include_str!("../../tests/data/table.txt"));
}

#[test]
fn what_concerns_nodes_goes_to_stderr() {
    for format in [Format::Compact, Format::Brief, Format::Json, Format::Dict, Format::Table] {
        let (out, err) = printed(format, Style::default(), &answers());
        assert!(!out.contains("c1/node-c") && err.contains("c1/node-c"), "{format:?}");
    }
}

#[track_caller]
fn check_compact(flow: Flow, style: Style, want: &str) {
    let (out, _) = printed(Format::Compact, style, &[to_response(flow)]);
    assert_eq!(out, format!("{want}\n"));
}

#[test]
fn numeric_shows_addresses() {
    let Some(ResponseTypes::Flow(flow)) = answers().remove(0).response_types else { panic!() };
    check_compact(
        flow,
        Style { numeric: true, ..Style::default() },
        "Jan  2 03:04:05.001: 10.1.0.5:40000 (ID:30001) -> 10.1.1.9:80 (ID:30002) from-endpoint FORWARDED (TCP Flags: SYN)",
    );
}

#[test]
fn a_flow_that_says_nothing_still_prints() {
    check_compact(
        Flow::default(),
        Style::default(),
        "N/A:  (unknown) <>  (unknown) UNKNOWN VERDICT_UNKNOWN ()",
    );
}

#[test]
fn a_frame_that_is_not_ip_shows_its_macs() {
    let ethernet = Ethernet { source: "02:00::a".into(), destination: "ff:ff".into() };
    check_compact(
        Flow { ethernet: Some(ethernet), summary: "ARP".into(), ..Flow::default() },
        Style::default(),
        "N/A: 02:00::a (unknown) <> ff:ff (unknown) UNKNOWN VERDICT_UNKNOWN (ARP)",
    );
}

#[test]
fn a_translation_at_a_socket_is_told_by_its_point_and_not_by_a_subtype() {
    let socket = |point: SocketTranslationPoint| Flow {
        event_type: Some(CiliumEventType { r#type: 7, sub_type: 1 }),
        sock_xlate_point: point.into(),
        ..Flow::default()
    };
    check_compact(
        socket(SocketTranslationPoint::SockXlatePointPostDirectionRev),
        Style::default(),
        "N/A:  (unknown) <>  (unknown) post-xlate-rev VERDICT_UNKNOWN ()",
    );
    check_compact(
        socket(SocketTranslationPoint::SockXlatePointUnknown),
        Style::default(),
        "N/A:  (unknown) <>  (unknown) SOCK_XLATE_POINT_UNKNOWN VERDICT_UNKNOWN ()",
    );
}

/// What is told of nodes, on stderr.
#[track_caller]
fn check_nodes(format: Format, state: NodeState, nodes: &[&str], message: &str, want: &str) {
    let status = NodeStatusEvent {
        state_change: state.into(),
        node_names: nodes.iter().map(|node| (*node).to_owned()).collect(),
        message: message.into(),
    };
    let answer = GetFlowsResponse {
        response_types: Some(ResponseTypes::NodeStatus(status)),
        node_name: "relay".into(),
        time: None,
    };
    let (out, err) = printed(format, Style::default(), &[answer]);
    assert_eq!((out.as_str(), err), ("", format!("{want}\n")));
}

#[test]
fn that_nodes_are_there_is_told_to_who_debugs() {
    let told = |style: Style, state: NodeState| {
        let status = NodeStatusEvent {
            state_change: state.into(),
            node_names: vec!["a".into(), "b".into()],
            message: String::new(),
        };
        let answer = GetFlowsResponse {
            response_types: Some(ResponseTypes::NodeStatus(status)),
            node_name: "relay".into(),
            time: None,
        };
        printed(Format::Compact, style, &[answer]).1
    };
    let debug = Style { debug: true, ..Style::default() };
    assert_eq!(
        told(debug, NodeState::NodeConnected),
        "N/A [relay]: Receiving flows from 2 nodes: a, b\n"
    );
    assert_eq!(
        told(debug, NodeState::NodeGone),
        "N/A [relay]: 2 nodes removed from cluster: a, b\n"
    );
    assert_eq!(told(Style::default(), NodeState::NodeConnected), "");
    assert_eq!(told(Style::default(), NodeState::NodeGone), "");
}

#[test]
fn many_nodes_are_cut_and_counted() {
    use NodeState::{NodeError, NodeUnavailable};
    // Each with what stands between them: 25 bytes, two are 50.
    let nodes = ["c1/node-a-of-23-letters", "c1/node-b-of-23-letters", "c", "d"];
    let two = "c1/node-a-of-23-letters, c1/node-b-of-23-letters";
    let cut = format!("N/A [relay]: 4 nodes are unavailable: {two} (and 2 more)");
    check_nodes(Format::Compact, NodeUnavailable, &nodes, "", &cut);
    let whole = format!("N/A [relay]: 2 nodes are unavailable: {two}");
    check_nodes(Format::Compact, NodeUnavailable, &nodes[..2], "", &whole);
    let long = "a-name-that-is-longer-than-all-names-together-may-be";
    let one = format!("N/A [relay]: 2 nodes are unavailable: {long} (and 1 more)");
    check_nodes(Format::Compact, NodeUnavailable, &[long, "b"], "", &one);
    check_nodes(
        Format::Compact,
        NodeError,
        &["a"],
        "no \"way\"",
        r#"N/A [relay]: Error "no \"way\"" on 1 nodes: a"#,
    );
    check_nodes(
        Format::Dict,
        NodeError,
        &nodes,
        "away",
        &format!(
            "  TIMESTAMP: N/A\n      STATE: NODE_ERROR\n      NODES: {two} (and 2 more)\n    MESSAGE: \"away\""
        ),
    );
}

#[test]
fn names_cannot_move_the_cursor() {
    let end = Endpoint {
        namespace: "a".into(),
        pod_name: "b\u{1b}[2Jc\r\n".into(),
        ..Endpoint::default()
    };
    let flow = Flow {
        source: Some(end),
        ip: Some(Ip::default()),
        summary: "\u{1b}]0;x".into(),
        egress_denied_by: vec![Policy {
            name: "p\r".into(),
            kind: "K".into(),
            ..Policy::default()
        }],
        ..Flow::default()
    };
    check_compact(
        flow.clone(),
        Style { policy_names: true, ..Style::default() },
        "N/A: a/b^[[2Jc\\r\\n (unknown) <>  (unknown) UNKNOWN VERDICT_UNKNOWN BY p\\r (K) (^[]0;x)",
    );
    for format in [Format::Brief, Format::Dict, Format::Json, Format::Table] {
        let (out, _) = printed(format, Style::default(), &[to_response(flow.clone())]);
        assert!(!out.contains(['\u{1b}', '\r']), "{format:?}: {out}");
    }
}

fn end(namespace: &str, pod: &str, process: Attribution) -> End {
    End {
        identity: Some(IdentityId::try_from(0x1000_0000).unwrap()),
        labels: Labels::new(),
        namespace: namespace.into(),
        pod: pod.into(),
        workload: None,
        service: None,
        endpoint_id: 1,
        process,
    }
}

fn process(pid: u32, binary: &str) -> Attribution {
    let binary = binary.to_owned();
    Attribution::Known(Process { pid, binary, comm: "comm".into(), ..Process::default() })
}

fn unknown(why: UnknownProcess) -> Attribution {
    Attribution::Unknown(why)
}

fn reserved(reserved: Reserved) -> End {
    End {
        identity: Some(reserved.id()),
        labels: [Label::reserved(reserved.name())].into_iter().collect(),
        ..end("", "", unknown(UnknownProcess::NotLocal))
    }
}

fn policy(name: &str) -> PolicyName {
    PolicyName {
        kind: PolicyKind::CiliumNetworkPolicy,
        namespace: Some("payment".into()),
        name: name.into(),
    }
}

/// `pay-svc` is denied the ledger by default.
fn denied() -> model::Flow {
    model::Flow {
        time_ns: 1_781_428_323_000_000_000,
        verdict: model::Verdict::Dropped,
        reason: Reason::DefaultDeny,
        hook: Direction::Egress,
        direction: Some(Direction::Egress),
        is_reply: Some(false),
        addresses: Some(("10.1.0.5".parse().unwrap(), "198.51.100.7".parse().unwrap())),
        ethernet: ([0; 6], [0; 6]),
        ether_type: 0x0800,
        l4: Some(Layer4::Tcp { source: 40000, destination: 5432, flags: TcpFlags(2) }),
        length: 74,
        source: end("payment", "pay-svc", process(4711, "/usr/bin/nc")),
        destination: end("payment", "ledger-db", unknown(UnknownProcess::OtherNode)),
        policy: Some(PolicyMatch {
            match_type: MatchType::None,
            rules: vec![],
            because: vec![policy("pay-svc")],
            revision: 3,
            log: vec![],
        }),
        shadow: None,
        trace: None,
        node: "node-a".into(),
        interface: (1, "eth0".into()),
        record: (0, 1),
    }
}

fn decided(verdict: model::Verdict, reason: Reason, name: &str, path: &str) -> model::Flow {
    let rule = RuleId { policy: policy(name), path: path.into() };
    model::Flow {
        verdict,
        reason,
        policy: Some(PolicyMatch {
            match_type: MatchType::L3L4,
            rules: vec![rule],
            because: vec![],
            revision: 3,
            log: vec![],
        }),
        ..denied()
    }
}

fn allowed() -> model::Flow {
    decided(model::Verdict::Forwarded, Reason::Rule, "ledger", "spec.egress[0]")
}

#[track_caller]
fn check_brief(flow: &model::Flow, want: &str) {
    let answer = to_response(to_proto(flow, "default", &UuidKey::new(b"")));
    let (out, _) = printed(Format::Brief, Style::default(), &[answer]);
    assert_eq!(out, format!("{want}\n"));
}

#[test]
fn pods_of_a_workload_are_told_by_its_name_and_then_which_they_were() {
    let mut flow = denied();
    flow.source.workload = Some(("Deployment".into(), "pay-svc".into()));
    flow.source.pod = "pay-svc-2".into();
    check_brief(
        &flow,
        "Jun 14 09:12:03 DROP pay-svc → ledger-db:5432 TCP policy-denied  nc[4711] no rule allows it (default deny: CiliumNetworkPolicy/payment/pay-svc) (pay-svc-2 → ledger-db)",
    );
}

#[test]
fn a_rule_that_waits_for_a_part_of_signet_is_not_called_a_missing_one() {
    let mut flow = denied();
    flow.reason = Reason::Unsupported;
    flow.policy.as_mut().unwrap().because.clear();
    check_brief(&flow, "Jun 14 09:12:03 DROP pay-svc → ledger-db:5432 TCP unsupported  nc[4711]");
}

#[test]
fn a_default_denial_is_as_in_the_documents_with_process_and_policy_behind_it() {
    check_brief(
        &denied(),
        "Jun 14 09:12:03 DROP pay-svc → ledger-db:5432 TCP policy-denied  nc[4711] no rule allows it (default deny: CiliumNetworkPolicy/payment/pay-svc)",
    );
}

#[test]
fn a_denial_at_the_receiver_is_about_the_peers_identity() {
    check_brief(
        &model::Flow {
            hook: Direction::Ingress,
            direction: Some(Direction::Ingress),
            source: end("payment", "dev-pod", unknown(UnknownProcess::OtherNode)),
            destination: end("payment", "ledger-db", process(88, "/usr/bin/postgres")),
            policy: Some(PolicyMatch {
                match_type: MatchType::None,
                rules: vec![],
                because: vec![policy("ledger"), policy("ledger-2")],
                revision: 3,
                log: vec![],
            }),
            ..denied()
        },
        "Jun 14 09:12:03 DROP dev-pod → ledger-db:5432 TCP identity not allowed  ?(other-node) → postgres[88] no rule allows it (default deny: CiliumNetworkPolicy/payment/ledger, CiliumNetworkPolicy/payment/ledger-2)",
    );
}

#[test]
fn the_world_is_an_address_and_has_no_process_to_miss() {
    check_brief(
        &model::Flow { destination: reserved(Reserved::World), ..denied() },
        "Jun 14 09:12:03 DROP pay-svc → 198.51.100.7:5432 TCP policy-denied  nc[4711] no rule allows it (default deny: CiliumNetworkPolicy/payment/pay-svc)",
    );
    check_brief(
        &model::Flow { source: reserved(Reserved::World), ..allowed() },
        "Jun 14 09:12:03 ALLOW 10.1.0.5 → ledger-db:5432 TCP allowed by ledger  by CiliumNetworkPolicy/payment/ledger#spec.egress[0]",
    );
}

#[test]
fn the_node_has_a_name() {
    check_brief(
        &model::Flow { destination: reserved(Reserved::Host), ..allowed() },
        "Jun 14 09:12:03 ALLOW pay-svc → host:5432 TCP allowed by ledger  nc[4711] by CiliumNetworkPolicy/payment/ledger#spec.egress[0]",
    );
}

#[test]
fn a_deny_rule_is_named() {
    check_brief(
        &decided(model::Verdict::Dropped, Reason::DenyRule, "no-ledger", "spec.egressDeny[1]"),
        "Jun 14 09:12:03 DROP pay-svc → ledger-db:5432 TCP denied by no-ledger  nc[4711] by CiliumNetworkPolicy/payment/no-ledger#spec.egressDeny[1]",
    );
}

#[test]
fn what_the_packet_path_alone_decides_is_said_in_words() {
    check_brief(
        &model::Flow {
            reason: Reason::Datapath(DropReason::INVALID_SOURCE_IP),
            direction: None,
            policy: None,
            source: end("payment", "pay-svc", unknown(UnknownProcess::NoSocket)),
            ..denied()
        },
        "Jun 14 09:12:03 DROP pay-svc → ledger-db:5432 TCP invalid source ip  ?(no-socket)",
    );
    check_brief(
        &model::Flow { reason: Reason::Datapath(DropReason(137)), policy: None, ..denied() },
        "Jun 14 09:12:03 DROP pay-svc → ledger-db:5432 TCP CT: Unknown L4 protocol  nc[4711]",
    );
}

#[test]
fn an_allowed_flow_names_the_policy_and_the_rule() {
    check_brief(
        &model::Flow {
            destination: end("payment", "ledger-db", process(88, "/usr/lib/postgres")),
            ..allowed()
        },
        "Jun 14 09:12:03 ALLOW pay-svc → ledger-db:5432 TCP allowed by ledger  nc[4711] → postgres[88] by CiliumNetworkPolicy/payment/ledger#spec.egress[0]",
    );
}

#[test]
fn an_end_that_no_policy_selects_is_unenforced() {
    check_brief(
        &model::Flow {
            verdict: model::Verdict::Forwarded,
            reason: Reason::Unenforced,
            policy: None,
            l4: Some(Layer4::Icmpv4(IcmpMessage { kind: 8, code: 0 })),
            ..denied()
        },
        "Jun 14 09:12:03 ALLOW pay-svc → ledger-db ICMPv4 EchoRequest unenforced  nc[4711] no policy selects it",
    );
}

#[test]
fn of_a_reply_the_client_stays_on_the_left() {
    let request = allowed();
    let reply = model::Flow {
        is_reply: Some(true),
        reason: Reason::Established,
        policy: None,
        l4: Some(Layer4::Tcp { source: 5432, destination: 40000, flags: TcpFlags(18) }),
        source: request.destination.clone(),
        destination: request.source.clone(),
        ..request
    };
    check_brief(
        &reply,
        "Jun 14 09:12:03 ALLOW pay-svc ← ledger-db:5432 TCP established  nc[4711] part of an allowed connection",
    );
}

/// The client is reset by what it talked to: seen on its way back to the client.
fn ended(carried: Option<model::Carried>) -> model::Flow {
    let request = allowed();
    model::Flow {
        is_reply: Some(true),
        hook: Direction::Ingress,
        reason: Reason::Established,
        policy: None,
        addresses: request.addresses.map(|(source, destination)| (destination, source)),
        l4: Some(Layer4::Tcp { source: 5432, destination: 40000, flags: TcpFlags(0x04) }),
        source: request.destination.clone(),
        destination: request.source.clone(),
        trace: Some(model::Trace::End(carried)),
        ..request
    }
}

#[test]
fn an_end_tells_what_the_connection_carried() {
    let carried = model::Carried {
        lived: std::time::Duration::from_millis(1500),
        initiator: model::Traffic { packets: 3, bytes: 210 },
        responder: model::Traffic { packets: 2, bytes: 9000 },
    };
    check_brief(
        &ended(Some(carried)),
        "Jun 14 09:12:03 ALLOW pay-svc ← ledger-db:5432 TCP ended  nc[4711] initiator 210 bytes, responder 9000 bytes, 1500 ms",
    );
    check_brief(&ended(None), "Jun 14 09:12:03 ALLOW pay-svc ← ledger-db:5432 TCP ended  nc[4711]");
    let answer = to_response(to_proto(&ended(Some(carried)), "default", &UuidKey::new(b"")));
    let (out, _) = printed(Format::Compact, Style::default(), &[answer]);
    let want = " to-endpoint FORWARDED (TCP Flags: RST; initiator 210 bytes, responder 9000 bytes, 1500 ms)\n";
    assert!(out.ends_with(want), "{out}");
    let sent = model::Flow { hook: Direction::Egress, ..ended(None) };
    let answer = to_response(to_proto(&sent, "default", &UuidKey::new(b"")));
    let (out, _) = printed(Format::Compact, Style::default(), &[answer]);
    assert!(out.ends_with(" to-stack FORWARDED (TCP Flags: RST)\n"), "{out}");
}

#[test]
fn namespaces_are_shown_where_they_differ() {
    check_brief(
        &model::Flow {
            destination: end("banking", "ledger-db", unknown(UnknownProcess::OtherNode)),
            ..denied()
        },
        "Jun 14 09:12:03 DROP pay-svc → ledger-db:5432 TCP policy-denied  nc[4711] no rule allows it (default deny: CiliumNetworkPolicy/payment/pay-svc) [payment → banking]",
    );
}

#[test]
fn a_process_without_a_path_goes_by_its_thread_name() {
    check_brief(
        &model::Flow { source: end("payment", "pay-svc", process(1, "")), ..denied() },
        "Jun 14 09:12:03 DROP pay-svc → ledger-db:5432 TCP policy-denied  comm[1] no rule allows it (default deny: CiliumNetworkPolicy/payment/pay-svc)",
    );
}

#[test]
fn flows_of_other_servers_are_brief_too() {
    let (out, _) = printed(Format::Brief, Style::default(), &answers());
    assert_eq!(
        out,
        "\
Jan  2 03:04:05 ALLOW xwing → deathstar-abc:80 TCP allowed
Jan  2 03:04:05 DROP xwing → deathstar-abc:80 TCP identity not allowed
Jan  2 03:04:05 DROP xwing → deathstar-abc:80 TCP policy-denied
Jan  2 03:04:05 ALLOW xwing ← deathstar-abc:40000 TCP allowed
Jan  2 03:04:05 ALLOW xwing → example.com:80 TCP allowed by allow-x
Jan  2 03:04:05 LOST 7 events (HUBBLE_RING_BUFFER)
"
    );
}

#[test]
fn a_loss_without_times_and_an_unknown_answer_do_not_disturb() {
    let lost = GetFlowsResponse {
        response_types: Some(ResponseTypes::LostEvents(LostEvent {
            num_events_lost: 3,
            ..LostEvent::default()
        })),
        ..GetFlowsResponse::default()
    };
    let (out, _) = printed(Format::Compact, Style::default(), &[GetFlowsResponse::default(), lost]);
    assert_eq!(
        out,
        "N/A EVENTS LOST: UNKNOWN_LOST_EVENT_SOURCE CPU(0) 3 (first: N/A, last: N/A)\n"
    );
}

#[test]
fn an_audited_verdict_is_neither_allowed_nor_dropped() {
    let flow = Flow { verdict: Verdict::Audit.into(), ..Flow::default() };
    let (out, _) = printed(Format::Brief, Style::default(), &[to_response(flow)]);
    assert_eq!(out, "N/A AUDIT  →   would be denied\n");
}

fn shadow(verdict: model::Verdict, reason: Reason, names: &[&str]) -> Option<model::Shadow> {
    let (mut rules, mut because) = (vec![], vec![]);
    for name in names {
        match reason {
            Reason::DefaultDeny => because.push(policy(name)),
            _ => rules.push(RuleId { policy: policy(name), path: "spec.egress[0]".into() }),
        }
    }
    Some(model::Shadow { verdict, reason, rules, because })
}

#[test]
fn what_would_be_decided_is_told_where_it_is_something_else() {
    let by_default = shadow(model::Verdict::Dropped, Reason::DefaultDeny, &["next"]);
    check_brief(
        &model::Flow { shadow: by_default, ..allowed() },
        "Jun 14 09:12:03 ALLOW pay-svc → ledger-db:5432 TCP allowed by ledger  nc[4711] by CiliumNetworkPolicy/payment/ledger#spec.egress[0] shadow: denied by default (CiliumNetworkPolicy/payment/next)",
    );
    let by_rule = shadow(model::Verdict::Forwarded, Reason::Rule, &["next"]);
    check_brief(
        &model::Flow { shadow: by_rule.clone(), ..denied() },
        "Jun 14 09:12:03 DROP pay-svc → ledger-db:5432 TCP policy-denied  nc[4711] no rule allows it (default deny: CiliumNetworkPolicy/payment/pay-svc) shadow: allowed by CiliumNetworkPolicy/payment/next#spec.egress[0]",
    );
    check_brief(
        &model::Flow { shadow: by_rule, ..allowed() },
        "Jun 14 09:12:03 ALLOW pay-svc → ledger-db:5432 TCP allowed by ledger  nc[4711] by CiliumNetworkPolicy/payment/ledger#spec.egress[0]",
    );
}

/// Clients that do not know the extensions see it behind what travelled.
#[test]
fn hubbles_forms_have_it_in_the_summary_and_a_block_has_a_field() {
    let by_default = shadow(model::Verdict::Dropped, Reason::DefaultDeny, &["next"]);
    let answer = |shadow| {
        to_response(to_proto(&model::Flow { shadow, ..allowed() }, "default", &UuidKey::new(b"")))
    };
    let tail = "(TCP Flags: SYN; shadow: denied by default (CiliumNetworkPolicy/payment/next))\n";
    let (out, _) = printed(Format::Compact, Style::default(), &[answer(by_default.clone())]);
    assert!(out.ends_with(tail), "{out}");
    let (out, _) = printed(Format::Dict, Style::default(), &[answer(by_default)]);
    assert!(
        out.ends_with("     SHADOW: denied by default (CiliumNetworkPolicy/payment/next)\n"),
        "{out}"
    );
    let same = shadow(model::Verdict::Forwarded, Reason::Unenforced, &[]);
    let (out, _) = printed(Format::Compact, Style::default(), &[answer(same.clone())]);
    assert!(out.ends_with("(TCP Flags: SYN)\n"), "{out}");
    let (out, _) = printed(Format::Json, Style::default(), &[answer(same)]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let want = serde_json::json!({
        "verdict": "allowed", "differs": false, "reason": "unenforced", "rules": [], "because": []
    });
    assert_eq!(value["flow"]["extensions"]["value"]["shadow"], want, "{out}");
}
