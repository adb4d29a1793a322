//! Policies that change all the time: every packet is judged by one revision, and
//! as that revision says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::death::put;
use crate::scene::{Scene, eventually};
use crate::signet;

const PORT: u16 = 7100;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: churn, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: churn, labels: {app: server}}
spec: {nodeName: node-1, containers: [{name: main}]}
";

/// What the client may do, by hand, with each of [`VERSIONS`] of the policy.
const MAY: [&str; 4] = ["denied", "allowed", "denied", "allowed"];

/// Rules of the policy's versions. Each has another number of them, which tells
/// afterwards which version a revision was.
const VERSIONS: [&[&str]; 4] = [
    &["ingress:\n  - fromEndpoints: [{matchLabels: {app: nobody}}]"],
    &[
        "ingress:\n  - fromEndpoints: [{matchLabels: {app: nobody}}]",
        "  - fromEndpoints: [{matchLabels: {app: client}}]\n    \
         toPorts: [{ports: [{port: '7100', protocol: UDP}]}]",
    ],
    &[
        "ingress:\n  - fromEndpoints: [{matchLabels: {app: nobody}}]",
        "  - fromEndpoints: [{matchLabels: {app: client}}]",
        "  ingressDeny:\n  - fromEndpoints: [{matchLabels: {app: client}}]\n    \
         toPorts: [{ports: [{port: '7000', endPort: 7200, protocol: UDP}]}]",
    ],
    &[
        "ingress:\n  - fromEndpoints: [{matchLabels: {app: nobody}}]",
        "  - fromCIDR: [172.16.0.0/12]",
        "  - fromEndpoints: [{matchLabels: {app: client}}]\n    \
         toPorts: [{ports: [{port: '7099', protocol: UDP}]}]",
        "  - fromEndpoints: [{}]\n    \
         toPorts: [{ports: [{port: '7064', endPort: 7127, protocol: UDP}]}]",
    ],
];

fn version(number: usize) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: flip, namespace: churn}}\nspec:\n  \
         endpointSelector: {{matchLabels: {{app: server}}}}\n  {}\n",
        VERSIONS[number].join("\n")
    )
}

/// What the evaluator says about the probe with a version of the policy.
fn evaluated(number: usize) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pods.yaml"), PODS).unwrap();
    fs::write(folder.path().join("flip.yaml"), version(number)).unwrap();
    let answer = signet::run(&[
        "policy",
        "evaluate",
        "--manifests",
        signet::word(folder.path()),
        "--from",
        "pod:churn/client",
        "--to",
        "pod:churn/server",
        "--port",
        &PORT.to_string(),
        "--protocol",
        "UDP",
        "-o",
        "jsonl",
    ]);
    let answer: Value = serde_json::from_str(answer.good().trim()).unwrap();
    answer["verdict"].as_str().unwrap().to_owned()
}

/// With two rules the client may send, with one it may not. `more`: rules about others.
fn policy(open: bool, more: usize) -> String {
    let mut text = String::from(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {name: flip, namespace: churn}\nspec:\n  \
         endpointSelector: {matchLabels: {app: server}}\n  ingress:\n    \
         - fromEndpoints: [{matchLabels: {app: nobody}}]\n",
    );
    if open {
        let _ = writeln!(
            text,
            "    - fromEndpoints: [{{matchLabels: {{app: client}}}}]\n      \
             toPorts: [{{ports: [{{port: '{PORT}', protocol: UDP}}]}}]"
        );
    }
    for rule in 0..more {
        let (high, low) = (rule / 250, rule % 250);
        let _ = writeln!(text, "    - fromCIDR: [172.{high}.{low}.0/24]");
    }
    text
}

pub fn every_verdict() {
    churn(Duration::from_secs(10));
}

pub fn every_verdict_for_long() {
    churn(Duration::from_secs(60));
}

/// Source port of the first probe; each has one of its own, so that each is a new
/// connection, leaves a record, and is known where it arrives.
const FIRST: u16 = 20_000;

fn churn(duration: Duration) {
    let scene = Scene::of("churn", PODS);
    put(&scene, "flip.yaml", &version(1));
    let evaluated: Vec<String> = (0..VERSIONS.len()).map(evaluated).collect();
    assert_eq!(evaluated, MAY, "by hand");
    let target = scene.address("churn.server", 4);
    let receiver = scene.inside("churn.server", || UdpSocket::bind((target, PORT)).unwrap());
    receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let follower = Follower::of(&scene);
    let stop = AtomicBool::new(false);
    let (changes, sent, arrived) = thread::scope(|scope| {
        let arrivals = scope.spawn(|| {
            let mut arrived = BTreeSet::new();
            loop {
                match receiver.recv_from(&mut [0]) {
                    Ok((_, from)) => assert!(arrived.insert(from.port()), "{from} came twice"),
                    Err(_) if stop.load(Ordering::Relaxed) => return arrived,
                    Err(_) => {}
                }
            }
        });
        let probes = scope.spawn(|| {
            let mut next = FIRST;
            scene.inside("churn.client", || {
                while !stop.load(Ordering::Relaxed) {
                    let socket = UdpSocket::bind(("0.0.0.0", next)).unwrap();
                    socket.send_to(b"x", (target, PORT)).unwrap();
                    next = next.checked_add(1).expect("a port for each probe");
                    thread::sleep(Duration::from_millis(4));
                }
            });
            next - FIRST
        });
        let mut changes = 0u32;
        let start = Instant::now();
        while start.elapsed() < duration {
            // To and fro, by other ways each time.
            let way = (changes / 2 % 3) as usize;
            put(&scene, "flip.yaml", &version([[0, 1], [2, 3], [2, 1]][way][changes as usize % 2]));
            changes += 1;
            let due = Duration::from_millis(10) * changes;
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
        stop.store(true, Ordering::Relaxed);
        (changes, probes.join().unwrap(), arrivals.join().unwrap())
    });
    let due = duration.as_millis() / 10;
    assert!(u128::from(changes) > due * 9 / 10, "{changes} changes of {due}");
    let flows = follower.flows(usize::from(sent));
    let revisions = revisions(&scene);
    let (mut last, mut allowed, mut denied) = (0, 0u32, 0u32);
    let mut told = BTreeSet::new();
    for flow in &flows {
        let revision = flow["extensions"]["value"]["revision"].as_f64().unwrap() as u64;
        assert!(revision >= last, "from revision {last} back to {revision}: {flow}");
        last = revision;
        let (_, rules) = revisions.range(..=revision).next_back().expect("its revision is told");
        let may = evaluated[usize::try_from(*rules).unwrap() - 1].as_str() == "allowed";
        let want = if may { "FORWARDED" } else { "DROPPED" };
        assert_eq!(flow["verdict"], want, "revision {revision} has {rules} rules: {flow}");
        let port = u16::try_from(flow["l4"]["UDP"]["source_port"].as_u64().unwrap()).unwrap();
        assert_eq!(arrived.contains(&port), may, "what the receiver got: {flow}");
        assert!(told.insert(port), "told twice: {flow}");
        if may { allowed += 1 } else { denied += 1 }
    }
    println!(
        "{changes} changes, {} revisions, {sent} probes: {allowed} allowed, {denied} denied",
        revisions.len()
    );
    assert!(told.into_iter().eq(FIRST..FIRST + sent), "a flow for each probe");
    let enough = 2 * usize::try_from(duration.as_secs()).unwrap();
    assert!(revisions.len() > enough, "{} revisions", revisions.len());
    assert!(allowed > 50 && denied > 50, "or nothing is tested");
    let seen: BTreeSet<u64> = revisions.into_values().collect();
    assert_eq!(seen, BTreeSet::from([1, 2, 3, 4]), "every version was in force");
}

/// Somebody who reads what the server's end of the probes was judged, as it happens:
/// more than an agent keeps.
struct Follower {
    process: Child,
    lines: thread::JoinHandle<Vec<String>>,
    count: Arc<AtomicUsize>,
}

impl Follower {
    fn of(scene: &Scene) -> Self {
        let relay = scene.lab.places.relay_socket();
        let port = PORT.to_string();
        let mut process = signet::command(&[
            "observe",
            "--since",
            "1h",
            "--follow",
            "-o",
            "json",
            "--to-port",
            &port,
            "--to-pod",
            "churn/server",
            "--traffic-direction",
            "ingress",
            "--server",
        ])
        .arg(relay)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let lines = thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            let count = |line| {
                counted.fetch_add(1, Ordering::Relaxed);
                line
            };
            lines.map(count).collect()
        });
        Self { process, lines, count }
    }

    /// All of them once there are so many, in the order of the kernel's own clock.
    fn flows(mut self, number: usize) -> Vec<Value> {
        eventually("a line for each probe", || self.count.load(Ordering::Relaxed) >= number);
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let lines = self.lines.join().unwrap().join("\n");
        let answers = signet::lines(&lines).into_iter();
        let mut flows: Vec<Value> = answers
            .map(|mut answer| answer["flow"].take())
            .inspect(|flow| assert!(flow.is_object(), "something else than a flow"))
            .collect();
        flows.sort_by_key(|flow| nanoseconds(flow["time"].as_str().unwrap()));
        flows
    }
}

/// A time that can be compared: fractions have three, six or nine digits.
fn nanoseconds(time: &str) -> String {
    let (seconds, fraction) = time.trim_end_matches('Z').split_once('.').unwrap_or((time, ""));
    format!("{seconds}.{fraction:0<9}")
}

/// Number of rules of the policy by the revision that brought it.
fn revisions(scene: &Scene) -> BTreeMap<u64, u64> {
    let text = scene.ask(&["observe", "agent-events", "--all", "-o", "json"]).good();
    let mut revisions = BTreeMap::new();
    for event in signet::lines(&text) {
        let update = &event["agent_event"]["policy_update"];
        let here = event["node_name"].as_str().is_some_and(|name| name.ends_with("node-1"));
        if here && update.is_object() {
            revisions
                .insert(signet::number(&update["revision"]), signet::number(&update["rule_count"]));
        }
    }
    revisions
}

/// From the manifest's rename to the first datagram that is judged by it.
pub fn time_to_force() {
    measure(1, 20);
    measure(100, 20);
}

pub fn time_to_force_for_long() {
    for rules in [1, 100, 10_000] {
        measure(rules, 100);
    }
}

fn measure(rules: usize, changes: usize) {
    let scene = Scene::of(&format!("force-{rules}"), PODS);
    put(&scene, "flip.yaml", &policy(true, rules));
    let target = scene.address("churn.server", 4);
    let receiver = scene.inside("churn.server", || UdpSocket::bind((target, PORT)).unwrap());
    receiver.set_read_timeout(Some(Duration::from_millis(3))).unwrap();
    let sender = scene.inside("churn.client", || UdpSocket::bind("0.0.0.0:0").unwrap());
    let mut number = 0u64;
    let mut passes = || {
        number += 1;
        sender.send_to(&number.to_be_bytes(), (target, PORT)).unwrap();
        let mut got = [0; 8];
        while receiver.recv(&mut got).is_ok() {
            if got == number.to_be_bytes() {
                return true;
            }
        }
        false
    };
    eventually("the policy is in force", &mut passes);
    let mut times: Vec<Duration> = Vec::new();
    for change in 0..changes {
        let open = change % 2 == 1;
        // Apart from each other: the agent waits until writers are quiet.
        thread::sleep(Duration::from_millis(150));
        let text = policy(open, rules);
        let start = Instant::now();
        put(&scene, "flip.yaml", &text);
        eventually("the change is in force", || passes() == open);
        times.push(start.elapsed());
    }
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!(
        "manifest to enforcement, {rules} rules: p50 {:?}, p99 {:?} of {changes} changes",
        at(50),
        at(99)
    );
}
