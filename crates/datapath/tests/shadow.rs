//! Two verdicts from one look-up: what decides about a packet, and what would if
//! policies in shadow mode were in force. Expected results are written by hand.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::collections::BTreeMap;

use datapath::{Desired, Record};
use model::{Direction, PolicyName, Verdict};
use policy::{Action, Mode, Options, Peers, Policy, Ports, Rule, Table, Why};
use support::*;

use Direction::{Egress, Ingress};
use Verdict::{Dropped, Forwarded};

fn named(name: &str) -> PolicyName {
    PolicyName { name: name.to_owned(), ..policy_name() }
}

fn policy(name: &str, mode: Mode, rules: Vec<Rule>) -> Policy {
    let mut rules = rules;
    rules.iter_mut().for_each(|rule| rule.id.policy = named(name));
    Policy { name: named(name), mode, rules: rules.into() }
}

fn table(world: &World, policies: &[Policy]) -> Table {
    let none = BTreeMap::new();
    policy::compile(policies, &labels("pay"), &none, &world.identities, &Options::default())
        .unwrap()
}

/// web may open TCP 8080 on the pod, as `live` says. `next` would let web open TCP
/// 8081 and the pod TCP 443 to web, and would deny TCP 8080.
fn policies(mode: Mode) -> [Policy; 2] {
    let live = vec![rule("in", Ingress, Action::Allow, app("web"), tcp(8080))];
    let next = vec![
        rule("more", Ingress, Action::Allow, app("web"), tcp(8081)),
        rule("not", Ingress, Action::Deny, app("web"), tcp(8080)),
        rule("out", Egress, Action::Allow, app("web"), tcp(443)),
    ];
    [policy("live", Mode::Enforce, live), policy("next", mode, next)]
}

fn desired(world: &World, mode: Mode) -> Desired {
    world.desired(table(world, &policies(mode)))
}

/// Verdict and reason in the shadow, and who decides it: rules, or policies that
/// switch default deny on.
fn shadow(record: &Record, desired: &Desired) -> Option<(Verdict, Why, Vec<String>)> {
    let shadow = record.shadow?;
    let sets = shadow.rule_sets.iter().filter_map(|id| desired.tables[&TABLE].rule_set(*id));
    let mut names: Vec<String> = sets
        .flat_map(|set| {
            let rules = set.rules.iter().map(|rule| format!("{}#{}", rule.policy.name, rule.path));
            rules.chain(set.because.iter().map(|policy| policy.name.clone()))
        })
        .collect();
    names.sort();
    Some((shadow.verdict, Why::try_from(shadow.why).unwrap(), names))
}

#[track_caller]
fn check(
    node: &Node,
    desired: &Desired,
    (direction, frame): (Direction, &[u8]),
    live: Verdict,
    want: Option<(Verdict, Why, &[&str])>,
) {
    let record = node.record(direction, frame);
    assert_eq!(record.verdict, live);
    let want = want.map(|(verdict, why, names)| {
        (verdict, why, names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    });
    assert_eq!(shadow(&record, desired), want);
}

#[test]
fn a_policy_in_shadow_mode_decides_nothing_and_says_what_it_would() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let desired = desired(&world, Mode::Shadow);
    node.apply(&desired);
    let to = |port| segment(Ingress, (PEER, 40000), (POD, port), Tcp::Syn);
    let from = |port| segment(Egress, (POD, 40000), (PEER, port), Tcp::Syn);
    let denied: &[&str] = &["next#not"];
    check(&node, &desired, (Ingress, &to(8080)), Forwarded, Some((Dropped, Why::DenyRule, denied)));
    let more: &[&str] = &["next#more"];
    check(&node, &desired, (Ingress, &to(8081)), Dropped, Some((Forwarded, Why::Rule, more)));
    let both: &[&str] = &["live", "next"];
    check(&node, &desired, (Ingress, &to(22)), Dropped, Some((Dropped, Why::DefaultDeny, both)));
    let out: &[&str] = &["next#out"];
    check(&node, &desired, (Egress, &from(443)), Forwarded, Some((Forwarded, Why::Rule, out)));
    let next: &[&str] = &["next"];
    check(&node, &desired, (Egress, &from(80)), Forwarded, Some((Dropped, Why::DefaultDeny, next)));
}

#[test]
fn a_retired_policy_decides_and_is_away_in_the_shadow() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let desired = desired(&world, Mode::Retire);
    node.apply(&desired);
    let to = |port| segment(Ingress, (PEER, 40000), (POD, port), Tcp::Syn);
    let from = |port| segment(Egress, (POD, 40000), (PEER, port), Tcp::Syn);
    let live: &[&str] = &["live#in"];
    check(&node, &desired, (Ingress, &to(8080)), Dropped, Some((Forwarded, Why::Rule, live)));
    let live: &[&str] = &["live"];
    check(
        &node,
        &desired,
        (Ingress, &to(8081)),
        Forwarded,
        Some((Dropped, Why::DefaultDeny, live)),
    );
    check(&node, &desired, (Egress, &from(80)), Dropped, Some((Forwarded, Why::Unenforced, &[])));
}

#[test]
fn enforcing_it_cuts_what_it_said_it_would_and_nothing_else() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&desired(&world, Mode::Shadow));
    let ack = |port| segment(Egress, (POD, 40000), (PEER, port), Tcp::Ack);
    for port in [443, 80] {
        let ends = ((POD, 40000), (PEER, port));
        assert_eq!(node.reason(Egress, &segment(Egress, ends.0, ends.1, Tcp::Syn)), 0);
        assert_eq!(node.reason(Ingress, &segment(Ingress, ends.1, ends.0, Tcp::SynAck)), 0);
        assert_eq!(node.reason(Egress, &ack(port)), 0);
    }
    // As open as before: connections go on although the shadow denies one of them.
    node.apply(&desired(&world, Mode::Shadow));
    assert_eq!([443, 80].map(|port| node.reason(Egress, &ack(port))), [0, 0]);
    node.apply(&desired(&world, Mode::Enforce));
    assert_eq!([443, 80].map(|port| node.reason(Egress, &ack(port))), [0, 133]);
    node.apply(&desired(&world, Mode::Shadow));
    assert_eq!([443, 80].map(|port| node.reason(Egress, &ack(port))), [0, 0]);
}

#[test]
fn where_nobody_is_in_shadow_mode_nothing_is_told() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let desired = desired(&world, Mode::Enforce);
    node.apply(&desired);
    let to = |port| segment(Ingress, (PEER, 40000), (POD, port), Tcp::Syn);
    check(&node, &desired, (Ingress, &to(8081)), Forwarded, None);
    check(&node, &desired, (Ingress, &to(8080)), Dropped, None);
}

/// What a packet of no known connection would get depends on both directions.
#[test]
fn a_packet_in_the_middle_has_a_shadow_where_both_questions_were_asked() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    // In the shadow the pod may open TCP 443 to web, and web nothing on the pod.
    let closed = vec![
        rule("none", Ingress, Action::Allow, app("dev"), tcp(1)),
        rule("out", Egress, Action::Allow, app("web"), tcp(443)),
    ];
    let apply = |node: &mut Node, policies: &[Policy]| {
        let desired = world.desired(table(&world, policies));
        node.apply(&desired);
        desired
    };
    let back = |port| segment(Ingress, (PEER, port), (POD, 40000), Tcp::Ack);
    // Allowed at once: the answer to a connection that may be opened is not looked for.
    let desired = apply(&mut node, &policies(Mode::Shadow));
    let late = segment(Ingress, (PEER, 40000), (POD, 8080), Tcp::Ack);
    check(&node, &desired, (Ingress, &late), Forwarded, None);
    // Denied at once, and allowed only as an answer, in either world or in both.
    let shut = vec![rule("one", Ingress, Action::Allow, app("dev"), tcp(2))];
    let live = policy("live", Mode::Enforce, shut.clone());
    let next = policy("next", Mode::Shadow, closed.clone());
    let desired = apply(&mut node, &[live.clone(), next]);
    let out: &[&str] = &["next#out"];
    check(&node, &desired, (Ingress, &back(443)), Dropped, Some((Forwarded, Why::Rule, out)));
    let both: &[&str] = &["live", "next"];
    check(&node, &desired, (Ingress, &back(80)), Dropped, Some((Dropped, Why::DefaultDeny, both)));
    let old = policy("old", Mode::Retire, closed);
    let desired = apply(&mut node, &[live, old]);
    let live: &[&str] = &["live"];
    check(
        &node,
        &desired,
        (Ingress, &back(443)),
        Forwarded,
        Some((Dropped, Why::DefaultDeny, live)),
    );
}

/// A rule must name a protocol that carries packets; nobody looks whether the
/// shadow's rule does. What policy does not decide has no shadow either.
#[test]
fn what_policy_does_not_decide_alone_has_no_shadow() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let all = vec![rule("all", Egress, Action::Allow, Peers::Any, Ports::All)];
    let desired = world.desired(table(&world, &[policy("next", Mode::Shadow, all)]));
    node.apply(&desired);
    let carry = |protocol| raw(Egress, POD, PEER, protocol, &[0; 20]);
    check(&node, &desired, (Egress, &carry(4)), Dropped, None);
    let next: &[&str] = &["next#all"];
    check(&node, &desired, (Egress, &carry(253)), Forwarded, Some((Forwarded, Why::Rule, next)));
    let stranger = segment(Egress, (PEER, 40000), (WORLD, 443), Tcp::Syn);
    check(&node, &desired, (Egress, &stranger), Dropped, None);
}
