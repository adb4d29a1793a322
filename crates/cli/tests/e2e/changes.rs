//! Pods that are rolled out, moved and relabelled, and nodes that come and go, while
//! real programs try to connect.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use lab::label::Label;
use lab::traffic::{self, Load};
use lab::{Exec, Lab, probe};

use serde_json::Value;

use crate::attempt;
use crate::scene::{Scene, eventually, options};
use crate::signet;

/// Within this time of a change everything must be as it should.
const SOON: Duration = Duration::from_secs(5);

fn change(scene: &mut Scene, path: &std::path::Path) -> Vec<String> {
    let mut changes = Vec::new();
    let applied = scene.lab.apply(path, None, &options(), &mut |change| {
        if change.outcome != "unchanged" {
            changes.push(format!("{} {}", change.object, change.outcome));
        }
    });
    applied.unwrap_or_else(|error| panic!("{}", error.chain()));
    changes
}

fn edit(scene: &Scene, file: &str, from: &str, to: &str) {
    let path = scene.directory.path().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn identity(scene: &Scene, pod: &str) -> u64 {
    let endpoints = scene.list(&["endpoint", "list"], "endpoints");
    let found = endpoints.iter().find(|it| {
        format!("{}/{}", it["namespace"].as_str().unwrap(), it["pod"].as_str().unwrap()) == pod
    });
    found.unwrap()["identity"].as_u64().unwrap()
}

/// Whether a pod reaches another where that is now; `None` while it is nowhere.
fn reaches(name: &str, from: &str, to: &str, port: &str) -> Option<bool> {
    let lab = Lab::open(Some(&name.parse().unwrap())).unwrap();
    let address = lab.pod(to).ok()?.addresses.first()?.to_string();
    let exec = Exec {
        pod: from.into(),
        container: None,
        command: ["nc", "-nzw", "1", &address, port].map(str::to_owned).into(),
    };
    Some(lab.output(&exec, Duration::from_secs(10)).unwrap().status.success())
}

/// The two pods of the workload that is rolled out; for each, a number that grows when it
/// begins to change and when that is over: odd while it changes.
#[derive(Default)]
struct Replicas([AtomicUsize; 2]);

impl Replicas {
    fn turn(&self, replica: usize) {
        self.0[replica].fetch_add(1, Ordering::SeqCst);
    }

    fn state(&self, replica: usize) -> usize {
        self.0[replica].load(Ordering::SeqCst)
    }
}

/// In so many parts the probes are tried, and so often a pod moves at most.
const ROUNDS: usize = 5;
const MOST_MOVES: usize = 12;

/// How often the probes of what is rolled out were tried.
#[derive(Debug, Default)]
struct Watched {
    /// On a pod that stood still: everything was as expected.
    steady: [usize; 2],
    /// On a pod that was replaced or moved meanwhile: nothing denied arrived.
    moving: usize,
}

impl Watched {
    /// Whether the probes have met changes, and a pod that stood still beside them.
    fn is_enough(&self) -> bool {
        self.moving >= 10 && self.steady[1] >= 10
    }

    /// Tries some probes on one pod. On one that stands still they must be as expected, in
    /// every word. One that changes may refuse a connection, and an address may be nobody's
    /// for a moment; but what is denied never arrives.
    fn round(
        watched: &Mutex<Self>,
        name: &str,
        probes: &[&str],
        replicas: &Replicas,
        replica: usize,
    ) {
        let pod = format!("\"pod:payment/payment-{}\"", replica + 1);
        let text = probes.join("\n").replace("\"pod:payment/payment\"", &pod);
        let before = replicas.state(replica);
        let report = Lab::open(Some(&name.parse().unwrap()))
            .and_then(|lab| probe::run_lines(&lab, &text, &probe::Run::default(), &[]));
        let steady = before.is_multiple_of(2) && before == replicas.state(replica);
        let report = match report {
            Ok(report) => report,
            Err(error) if steady => panic!("{}", error.chain()),
            // Half written, or half gone.
            Err(_) => return,
        };
        for answer in report.answers() {
            let expected = answer.expected.as_ref().unwrap();
            if let (Ok(found), "denied") = (&answer.found, expected.verdict.as_str()) {
                assert!(!found.outcome.success && found.arrived == 0, "{pod}: {}", answer.json());
            }
            if steady {
                assert!(answer.differences().is_empty(), "{pod} stood still: {}", answer.json());
                watched.lock().unwrap().steady[replica] += 1;
            } else {
                watched.lock().unwrap().moving += 1;
            }
        }
    }
}

pub fn rollout() {
    let mut scene = Scene::bank("rollout");
    let name = scene.name().to_owned();
    let before = identity(&scene, "payment/payment-1");
    let probes = fs::read_to_string(scene.directory.path().join("probes.jsonl")).unwrap();
    let is_own = |line: &&str| line.contains("\"pod:payment/payment\"");
    let own: Vec<_> = probes.lines().filter(is_own).collect();
    assert!(own.len() >= 40, "{} probes", own.len());
    // Routes that have nothing to do with what is rolled out: none may notice.
    let others = scene.directory.path().join("others-probes.jsonl");
    let kept: Vec<_> = probes.lines().filter(|line| !line.contains(":payment/")).collect();
    fs::write(&others, kept.join("\n")).unwrap();
    let lab = scene.lab.clone();
    let (done, replicas) = (AtomicBool::new(false), Replicas::default());
    let load = Load { seconds: 12, rate: 40, denied: true };
    // A few at a time, so that there are rounds that begin and end between changes; allowed
    // and denied ones in each.
    let is_allowed = |line: &&str| line.contains(r#""expect":{"verdict":"allowed""#);
    let (allowed, denied): (Vec<&str>, Vec<&str>) = own.iter().partition(|line| is_allowed(line));
    let every = |at: usize| {
        let some = allowed.iter().skip(at).step_by(ROUNDS);
        some.chain(denied.iter().skip(at).step_by(ROUNDS)).copied().collect::<Vec<&str>>()
    };
    let rounds: Vec<_> = (0..ROUNDS).map(every).collect();
    let watched = Mutex::new(Watched::default());
    thread::scope(|scope| {
        let steady = scope.spawn(|| traffic::run(&lab, &others, load, &mut |_| {}).unwrap());
        let watcher = scope.spawn(|| {
            for round in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let replica = usize::from(round % 3 > 0);
                Watched::round(&watched, &name, &rounds[round % ROUNDS], &replicas, replica);
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            replace(&mut scene, &replicas);
            still_pays(&name);
            let nodes = ["jakarta-2", "jakarta-3", "jakarta-1"];
            for (moves, node) in nodes.into_iter().cycle().take(MOST_MOVES).enumerate() {
                // A slow machine needs more of them for the probes to meet some.
                if moves >= nodes.len() && watched.lock().unwrap().is_enough() {
                    break;
                }
                replicas.turn(0);
                let words = ["lab", "restart", "--lab", &name, "payment/payment-1", "--node", node];
                signet::run(&words).good();
                scene.lab = Lab::open(Some(&name.parse().unwrap())).unwrap();
                replicas.turn(0);
                still_pays(&name);
                assert_eq!(scene.lab.pod("payment/payment-1").unwrap().node, node);
            }
        }));
        done.store(true, Ordering::Relaxed);
        let steady = steady.join().unwrap();
        watcher.join().unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        assert!(steady.is_as_expected(), "{}", steady.text());
        assert!(steady.tried > 60, "{}", steady.text());
    });
    eprintln!("while pods were replaced and moved: {watched:?}");
    assert!(watched.lock().unwrap().is_enough(), "{watched:?}");
    // And when all is over, on both.
    for replica in [0, 1] {
        Watched::round(&watched, &name, &own, &replicas, replica);
    }
    assert_eq!(identity(&scene, "payment/payment-1"), before, "it is who it was");
}

/// Replaces the pods one after the other; the second stands still while the first changes.
fn replace(scene: &mut Scene, replicas: &Replicas) {
    edit(scene, "payment.yaml", "image: bank/payment", "image: bank/payment:2");
    let file = scene.directory.path().join("payment.yaml");
    let mut changes = Vec::new();
    replicas.turn(0);
    let mut say = |change: lab::apply::Change| {
        if change.outcome != "unchanged" {
            changes.push(format!("{} {}", change.object, change.outcome));
            if changes.len() == 1 {
                replicas.turn(1);
            }
        }
    };
    scene.lab.apply(&file, None, &options(), &mut say).unwrap();
    assert_eq!(changes, ["Pod/payment/payment-1 replaced", "Pod/payment/payment-2 replaced"]);
    replicas.turn(0);
    replicas.turn(1);
}

/// The route that a change interrupts comes back by itself, and stays.
fn still_pays(name: &str) {
    let pays = || reaches(name, "banking/pay-svc-1", "payment/payment-1", "8080") == Some(true);
    let start = Instant::now();
    while !pays() {
        assert!(start.elapsed() < SOON, "pay-svc does not reach payment any more");
    }
    assert!((0..3).all(|_| pays()), "the route is not steady");
}

/// Shorter than the second after which a SYN is sent again: a denied one stays denied.
const PATIENCE: Duration = Duration::from_millis(900);

/// When an attempt began, and whether it got through.
type Attempt = (Instant, bool);

/// Attempts that begin one after the other and wait beside each other, so that neither
/// a lost SYN nor a busy machine holds the next one up.
fn attempts(scene: &Scene, to: SocketAddr, stop: &AtomicBool) -> Vec<Attempt> {
    scene.inside("ledger.ledger-1", || {
        thread::scope(|scope| {
            let mut waiting = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                waiting.push(scope.spawn(|| {
                    let begun = Instant::now();
                    (begun, TcpStream::connect_timeout(&to, PATIENCE).is_ok())
                }));
                thread::sleep(Duration::from_millis(8));
            }
            waiting.into_iter().map(|attempt| attempt.join().unwrap()).collect()
        })
    })
}

pub fn relabel() {
    let scene = Scene::bank("relabel");
    let to = SocketAddr::new(scene.address("banking.ledger-db-1", 4), 5432);
    let stop = AtomicBool::new(false);
    let set = |value: &str| {
        let label = Label { key: "app".into(), value: Some(value.into()) };
        let start = Instant::now();
        let told = scene.lab.label("ledger/ledger-1", &[label]);
        told.unwrap_or_else(|error| panic!("{}", error.chain()));
        (start, Instant::now())
    };
    let who = |pod: &str| identity(&scene, pod);
    let (before, twin) = (who("ledger/ledger-1"), who("ledger/ledger-2"));
    assert_eq!(before, twin, "pods of one workload are one identity");
    let (attempts, retired, meanwhile, again) = thread::scope(|scope| {
        let attempts = scope.spawn(|| attempts(&scene, to, &stop));
        thread::sleep(Duration::from_millis(300));
        let retired = set("retired");
        thread::sleep(Duration::from_millis(300));
        let meanwhile = (who("ledger/ledger-1"), who("ledger/ledger-2"));
        let again = set("ledger");
        thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        (attempts.join().unwrap(), retired, meanwhile, again)
    });
    assert_ne!(meanwhile.0, before, "another label is another identity");
    assert_eq!(meanwhile.1, twin, "the pod beside it is who it was");
    assert_eq!(who("ledger/ledger-1"), before, "the label is back, and so is the identity");
    let between = |from: Instant, to: Instant| {
        attempts.iter().filter(move |(begun, _)| *begun >= from && *begun < to)
    };
    let end = Instant::now();
    let first = |from: Instant, through: bool| {
        let found = between(from, end).find(|attempt| attempt.1 == through);
        found.unwrap_or_else(|| panic!("never {through}")).0 - from
    };
    let early = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    assert!(between(early, retired.0).all(|attempt| attempt.1), "denied before the change");
    assert!(between(retired.1, again.0).all(|attempt| !attempt.1), "allowed after it was told");
    assert!(between(again.1, end).all(|attempt| attempt.1), "denied after it was told");
    let (denied, allowed) = (first(retired.0, false), first(again.0, true));
    eprintln!("label change to enforcement: denied after {denied:?}, allowed after {allowed:?}");
    assert!(denied < SOON && allowed < SOON);
}

pub fn nodes() {
    let mut scene = Scene::bank("nodes");
    let before = fs::read_to_string(scene.directory.path().join("lab.yaml")).unwrap();
    let fourth = "    - name: jakarta-4\n      addresses: [\"172.20.0.14\", \"fd00:172:20::14\"]\n      podCIDRs: [\"10.244.4.0/24\", \"fd00:10:244:4::/64\"]\n  clusters:\n";
    edit(&scene, "lab.yaml", "  clusters:\n", fourth);
    edit(&scene, "payment.yaml", "replicas: 2", "replicas: 3");
    let directory = scene.directory.path().to_owned();
    let changes = change(&mut scene, &directory);
    assert_eq!(
        changes,
        [
            "Node/-/jakarta-4 created",
            "Pod/kube-system/otel-collector-jakarta-4 created on jakarta-4",
            "Pod/payment/payment-3 created on jakarta-4",
        ]
    );
    business_works(&scene);

    fs::write(directory.join("lab.yaml"), before).unwrap();
    let agent = scene.agent("jakarta-4");
    let changes = change(&mut scene, &directory);
    let moved =
        |change: &String| change.starts_with("Pod/payment/payment-3 moved from jakarta-4 to ");
    assert!(changes.iter().any(moved), "{changes:?}");
    assert!(changes.contains(&"Node/-/jakarta-4 removed".to_owned()), "{changes:?}");
    assert!(!agent.is_alive());
    assert!(!scene.lab.places.pins("jakarta-4").exists());
    assert!(!scene.lab.places.netns("jakarta-4").exists());
    business_works(&scene);
    names_are_answered_by_a_new_server(&mut scene);
    a_policy_that_is_taken_out_closes_its_route(&mut scene);
}

/// What a command that goes on prints, line by line.
fn printing(scene: &Scene, words: &[&str]) -> (Child, Receiver<String>) {
    let relay = scene.lab.places.relay_socket();
    let words = [words, &["--server", signet::word(&relay)]].concat();
    let mut child = signet::command(&words).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, values) = channel();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            // Nobody listens any more when the test is at its end.
            let _ = sender.send(line);
        }
    });
    (child, values)
}

/// A third node for the example, with a pod on it.
const THIRD: &str = "    - name: node-3\n      addresses: [\"172.20.0.13\", \"fd00:172:20::13\"]\n      podCIDRs: [\"10.244.3.0/24\", \"fd00:10:244:3::/64\"]\n  external:\n";
const GUEST: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: guest, namespace: web, labels: {app: guest}}\nspec: {nodeName: node-3, containers: [{name: main}]}\n";

pub fn follower() {
    let mut scene = Scene::tiny("follower", "");
    let (mut observe, flows) = printing(&scene, &["observe", "--follow", "-o", "json"]);
    let (mut watch, peers) = printing(&scene, &["watch", "peers"]);
    let world = scene.address("internet", 4);
    let shows = |scene: &Scene, pod: &str, node: &str, port: u16| {
        attempt::datagrams(scene, pod, world, [port].into_iter());
        let found = flows.recv_timeout(Duration::from_millis(500));
        found.is_ok_and(|line| {
            let answer: Value = serde_json::from_str(&line).unwrap();
            answer["node_name"] == node && answer["flow"]["l4"]["UDP"]["destination_port"] == port
        })
    };
    let peer = |name: &str, kind: &str| {
        let told = peers.recv_timeout(Duration::from_secs(30)).unwrap();
        let words: Vec<&str> = told.split_whitespace().collect();
        assert_eq!((words[0], words[2]), (kind, name), "{told}");
    };
    peer("node-1", "PEER_ADDED");
    peer("node-2", "PEER_ADDED");
    eventually("the follower follows", || shows(&scene, "web.dev-pod", "node-1", 6101));

    let before = fs::read_to_string(scene.directory.path().join("lab.yaml")).unwrap();
    edit(&scene, "lab.yaml", "  external:\n", THIRD);
    let directory = scene.directory.path().to_owned();
    let guest = directory.join("guest.yaml");
    fs::write(&guest, GUEST).unwrap();
    change(&mut scene, &directory);
    peer("node-3", "PEER_ADDED");
    eventually("a flow of the new node", || shows(&scene, "web.guest", "node-3", 6102));

    fs::write(directory.join("lab.yaml"), before).unwrap();
    fs::write(&guest, GUEST.replace("node-3", "node-1")).unwrap();
    change(&mut scene, &directory);
    peer("node-3", "PEER_DELETED");
    eventually("a flow of where it is now", || shows(&scene, "web.guest", "node-1", 6103));
    for child in [&mut observe, &mut watch] {
        assert_eq!(child.try_wait().unwrap(), None, "it was there all the time");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn names_are_answered_by_a_new_server(scene: &mut Scene) {
    scene.lab.restart_pod("kube-system/coredns", &options()).unwrap();
    let name = scene.name().to_owned();
    let asks = || {
        let lab = Lab::open(Some(&name.parse().unwrap())).unwrap();
        let command = ["getent", "hosts", "ledger-db.banking"].map(str::to_owned).into();
        let exec = Exec { pod: "web/web-1".into(), container: None, command };
        lab.output(&exec, Duration::from_secs(20)).unwrap().status.success()
    };
    let start = Instant::now();
    while !asks() {
        assert!(start.elapsed() < Duration::from_secs(30), "nobody answers");
    }
}

fn a_policy_that_is_taken_out_closes_its_route(scene: &mut Scene) {
    let name = scene.name().to_owned();
    let warns = || reaches(&name, "fraud/fraud-1", "notif/notif-1", "8080");
    let policy = scene.directory.path().join("policy-notif.yaml");
    assert_eq!(warns(), Some(true));
    scene.lab.delete(&policy, None, &options(), &mut |_| {}).unwrap();
    assert_eq!(warns(), Some(false));
    assert_eq!(change(scene, &policy), ["CiliumNetworkPolicy/notif/notif created"]);
    assert_eq!(warns(), Some(true));
}

fn business_works(scene: &Scene) {
    let file = scene.directory.path().join("probes.jsonl");
    let run = probe::Run { only: Some("allowed".into()), ..probe::Run::default() };
    let text = fs::read_to_string(file).unwrap();
    let report = probe::run_lines(&scene.lab, &text, &run, &[]).unwrap();
    assert!(report.is_as_expected(), "{}", report.summary());
}
