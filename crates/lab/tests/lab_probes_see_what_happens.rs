//! Probes on the running kernel, with the firewall of the kernel in the place of
//! our programs: does the verdict follow what really happens? Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it goes wrong")]

mod scene;

use std::fs;

use lab::probe;
use scene::Scene;

/// Probes of the scene's pods, and what came out of each.
fn verdicts(scene: &Scene, probes: &[&str]) -> Vec<String> {
    // Nobody reports decisions here: a dead relay says so at once.
    let relay = scene.lab.journal.daemons.iter().find(|daemon| daemon.node.is_none()).unwrap();
    relay.process.kill();
    let file = scene.directory.path().join("probes.jsonl");
    fs::write(&file, probes.join("\n")).unwrap();
    let report = probe::run(&scene.lab, &file, &[]).unwrap();
    let verdict = |answer: &probe::answer::Answer| match answer.verdict() {
        probe::answer::Verdict::Error(reason) => reason.split(',').next().unwrap().to_owned(),
        verdict => verdict.as_str().to_owned(),
    };
    report.answers().iter().map(verdict).collect()
}

fn firewall(scene: &Scene, member: &str, chain: &str, rule: &str) {
    let ruleset =
        format!("table inet t {{ chain c {{ type filter hook {chain} priority 0; {rule}; }}; }}");
    let output = scene.inside(member, &["nft", &ruleset]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const PROBES: [&str; 10] = [
    r#"{"id":"1","from":"pod:web/client","to":"pod:payment/server","port":"http"}"#,
    r#"{"id":"2","from":"pod:web/client","to":"pod:payment/server","port":8080,"family":6,"client":"curl"}"#,
    r#"{"id":"3","from":"entity:world","to":"pod:payment/server","port":8080,"client":"curl"}"#,
    r#"{"id":"4","from":"node:node-1","to":"pod:payment/server","port":8080}"#,
    r#"{"id":"5","from":"pod:web/client","to":"entity:world","port":80,"family":6}"#,
    r#"{"id":"6","from":"pod:web/client","to":"node:node-1","protocol":"ICMP"}"#,
    r#"{"id":"7","from":"pod:web/user","to":"node:node-2","protocol":"ICMPv6"}"#,
    // Nobody serves these ports but the probes themselves.
    r#"{"id":"8","from":"pod:web/client","to":"pod:payment/server","port":5353,"protocol":"UDP","family":6}"#,
    r#"{"id":"9","from":"entity:world","to":"node:node-1","port":7000,"client":"curl"}"#,
    r#"{"id":"10","from":"pod:web/client","to":"entity:remote-node","port":5353,"protocol":"UDP"}"#,
];

#[test]
fn what_gets_through_is_allowed() {
    let scene = Scene::of("t-allowed");
    assert_eq!(verdicts(&scene, &PROBES), ["allowed"; 10]);
}

#[test]
fn what_is_dropped_on_the_way_is_denied() {
    let scene = Scene::of("t-denied");
    firewall(&scene, "node-2", "forward", "tcp dport 8080 drop; udp dport 5353 drop");
    let (denied, allowed) = ("denied", "allowed");
    let want =
        [denied, denied, denied, denied, allowed, allowed, allowed, denied, allowed, allowed];
    assert_eq!(verdicts(&scene, &PROBES), want);
}

#[test]
fn a_nodes_own_pods_are_denied_when_the_node_does_not_answer() {
    let scene = Scene::of("t-own-node");
    firewall(&scene, "node-1", "input", "icmp type echo-request drop");
    assert_eq!(verdicts(&scene, &PROBES[5..7]), ["denied", "allowed"]);
}

#[test]
fn an_answer_that_is_lost_is_neither_allowed_nor_denied() {
    let scene = Scene::of("t-lost");
    firewall(&scene, "node-2", "forward", "tcp sport 8080 drop");
    let verdict = &verdicts(&scene, &PROBES[..1])[0];
    assert!(verdict.starts_with("the destination saw "), "{verdict}");
}

#[test]
fn a_datagram_that_is_not_answered_is_neither_allowed_nor_denied() {
    let scene = Scene::of("t-no-answer");
    firewall(&scene, "node-2", "forward", "udp sport 5353 drop");
    let verdict = &verdicts(&scene, &PROBES[7..8])[0];
    assert!(verdict.starts_with("the destination saw 1 packet"), "{verdict}");
}

#[test]
fn a_line_that_is_no_probe_answers_with_an_error_and_the_others_run() {
    let scene = Scene::of("t-lines");
    let lines =
        ["{", r#"{"id":"x","from":"pod:web/nobody","to":"entity:world","port":80}"#, PROBES[4]];
    let verdicts = verdicts(&scene, &lines);
    assert!(verdicts[0].starts_with("not a JSON object"), "{}", verdicts[0]);
    assert_eq!(verdicts[1..], ["the lab has no pod:web/nobody", "allowed"]);
}
