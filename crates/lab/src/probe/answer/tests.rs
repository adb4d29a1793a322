//! What counts as a difference, case by case.

use super::*;

fn decision(allowed: bool, reason: &str, rules: &[&str]) -> Decision {
    Decision {
        allowed,
        code: if allowed { 0 } else { 133 },
        reason: reason.into(),
        rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        because: vec![],
        program: Ok("/usr/bin/nc.openbsd".into()),
        sender: Ok("/usr/bin/nc.openbsd".into()),
    }
}

fn answer(
    success: bool,
    arrived: u64,
    egress: Option<Decision>,
    ingress: Option<Decision>,
    expected: Value,
) -> Answer {
    Answer {
        object: Map::new(),
        expected: Some(serde_json::from_value(expected).unwrap()),
        found: Ok(Findings {
            client: Client::Nc,
            outcome: Outcome { success, detail: "exit status".into() },
            arrived,
            decisions: Decisions { egress, ingress },
            unreported: None,
            wanted: Wanted { egress: true, ingress: true, same_node: true, program: true },
        }),
        meant: None,
    }
}

#[track_caller]
fn check(answer: &Answer, want: &[&str]) {
    assert_eq!(answer.differences(), want);
}

fn unenforced() -> Option<Decision> {
    Some(decision(true, "unenforced", &[]))
}

#[test]
fn a_probe_that_goes_as_expected_has_no_differences() {
    let ingress = Some(decision(true, "rule", &["P#spec.ingress[0]"]));
    let expected = json!({"verdict": "allowed", "reason": "rule", "rule": "P#spec.ingress[0]"});
    check(&answer(true, 1, unenforced(), ingress, expected), &[]);
}

#[test]
fn success_without_a_packet_at_the_destination_is_an_error() {
    let answer = answer(true, 0, unenforced(), unenforced(), json!({"verdict": "allowed"}));
    assert_eq!(answer.verdict().as_str(), "error");
    check(
        &answer,
        &[
            "the client got through, nc (exit status), but the destination saw no packet",
            "verdict: error, not allowed",
        ],
    );
}

#[test]
fn a_packet_that_arrives_is_not_a_denial() {
    let answer = answer(false, 2, unenforced(), unenforced(), json!({"verdict": "denied"}));
    assert_eq!(
        answer.differences()[0],
        "the destination saw 2 packets, but the client failed: nc (exit status)"
    );
}

#[test]
fn the_end_that_denied_must_have_the_expected_reason() {
    let ingress = Some(decision(false, "default-deny", &[]));
    let expected =
        json!({"verdict": "denied", "reason": "deny-rule", "rule": "P#spec.ingressDeny[0]"});
    check(
        &answer(false, 0, unenforced(), ingress, expected),
        &[
            "ingress reason: default-deny, not deny-rule",
            "ingress rule: none, not P#spec.ingressDeny[0]",
        ],
    );
}

#[test]
fn silence_that_the_datapath_did_not_cause_is_a_difference() {
    check(
        &answer(false, 0, unenforced(), unenforced(), json!({"verdict": "denied"})),
        &["it did not get through, but no denial is reported"],
    );
}

#[test]
fn a_denial_that_did_not_happen_is_a_difference() {
    let ingress = Some(decision(false, "default-deny", &[]));
    check(
        &answer(true, 1, unenforced(), ingress, json!({"verdict": "allowed"})),
        &["a denial is reported, but it got through"],
    );
}

#[test]
fn a_missing_flow_is_a_difference() {
    check(
        &answer(true, 1, unenforced(), None, json!({"verdict": "allowed"})),
        &["the destination's node reported no flow"],
    );
}

#[test]
fn what_really_happened_is_told_although_nobody_reports() {
    let mut answer = answer(true, 1, None, None, json!({"verdict": "denied", "reason": "rule"}));
    if let Ok(findings) = &mut answer.found {
        findings.unreported = Some("the relay is dead".into());
    }
    assert_eq!(answer.json()["verdict"], "allowed");
    check(&answer, &["the relay is dead", "verdict: allowed, not denied"]);
}

#[test]
fn nothing_is_awaited_behind_an_end_that_denied() {
    let egress = Some(decision(false, "default-deny", &[]));
    let expected = json!({"verdict": "denied", "egress": {"reason": "default-deny"}});
    check(&answer(false, 0, egress, None, expected), &[]);
}

#[test]
fn a_flow_must_name_the_program_that_sent() {
    let mut egress = decision(true, "unenforced", &[]);
    egress.sender = Ok("/usr/bin/python3".into());
    let expected = json!({"verdict": "allowed"});
    check(
        &answer(true, 1, Some(egress), unenforced(), expected),
        &["egress process: `/usr/bin/python3`, not `nc`"],
    );
}

#[test]
fn the_end_that_receives_knows_the_sender_of_its_own_node_only() {
    let ingress =
        Some(Decision { sender: Err("other-node".into()), ..decision(true, "unenforced", &[]) });
    let mut answer = answer(true, 1, unenforced(), ingress, json!({"verdict": "allowed"}));
    check(&answer, &["ingress process: not known (other-node), not `nc`"]);
    if let Ok(findings) = &mut answer.found {
        findings.wanted.same_node = false;
    }
    check(&answer, &[]);
}

#[test]
fn an_end_that_nobody_judged_is_null_in_the_answer() {
    let egress = Some(decision(false, "default-deny", &[]));
    let json = answer(false, 0, egress, None, json!({"verdict": "denied"})).json();
    assert_eq!(json["ingress"], Value::Null);
    assert_eq!(json["egress"]["code"], 133);
    assert_eq!(json["egress"]["rule"], Value::Null);
    assert_eq!(json["verdict"], "denied");
}
