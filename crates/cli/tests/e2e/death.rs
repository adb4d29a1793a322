//! Agents that are killed, stopped and replaced under traffic. Nothing is lost and
//! nothing slips through.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use lab::Options;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::load::{Cast, Load, Pace};
use crate::scene::{Scene, eventually, options};
use crate::signet::{self, number};

const NODES: [&str; 2] = ["node-1", "node-2"];

/// `near` and `far` take what the client sends to three ports; nobody else may ask.
const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: load, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: load, labels: {app: stranger}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: load, labels: {app: server}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: load, labels: {app: server}}
spec: {nodeName: node-2, containers: [{name: main}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: servers, namespace: load}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: client}}]
      toPorts:
        - ports:
            - {port: '7000', protocol: TCP}
            - {port: '7001', protocol: TCP}
            - {port: '7002', protocol: UDP}
";

/// How often each thing happens, and how long a stopped agent stays so.
struct Deaths {
    kills: u32,
    stops: u32,
    stopped: Duration,
    upgrades: u32,
}

pub fn under_load() {
    let stopped = Duration::from_secs(2);
    run(&Deaths { kills: 5, stops: 2, stopped, upgrades: 2 });
}

/// As often as was promised, however long it takes; `SIGNET_DEATHS` divides it.
pub fn under_load_for_long() {
    let divisor = std::env::var("SIGNET_DEATHS").ok().and_then(|text| text.parse().ok());
    let divisor: u32 = divisor.unwrap_or(1).max(1);
    let stopped = Duration::from_secs(10);
    let (kills, stops, upgrades) = (1000 / divisor, 50 / divisor, 200 / divisor);
    run(&Deaths { kills, stops, stopped, upgrades });
}

#[derive(Clone, Copy, Debug)]
enum Death {
    Kill,
    Stop,
    Upgrade,
}

fn run(deaths: &Deaths) {
    let mut scene = Scene::of("death", MANIFESTS);
    let mut dice = Dice::new();
    let copy = Program::copy();
    let load = Load::start(&Cast {
        client: scene.netns("load.client"),
        stranger: scene.netns("load.stranger"),
        servers: vec![
            (scene.netns("load.near"), scene.address("load.near", 4)),
            (scene.netns("load.far"), scene.address("load.far", 6)),
        ],
        known: [4, 6].map(|family| scene.address("load.client", family)).into(),
        pace: Pace::FULL,
    });
    thread::sleep(Duration::from_secs(1));
    let mut left = [deaths.kills, deaths.stops, deaths.upgrades];
    let start = Instant::now();
    while left.iter().sum::<u32>() > 0 {
        let mut pick = dice.below(left.iter().sum());
        let kind = left.iter().position(|count| {
            let here = pick < *count;
            pick = pick.saturating_sub(*count);
            here
        });
        let kind = kind.unwrap();
        left[kind] -= 1;
        thread::sleep(Duration::from_millis(dice.below(400).into()));
        let node = NODES[dice.below(2) as usize];
        let pause = Duration::from_millis(dice.below(400).into());
        let agent = scene.agent(node);
        match [Death::Kill, Death::Stop, Death::Upgrade][kind] {
            Death::Kill => {
                agent.kill();
                eventually("the agent is dead", || !agent.is_alive());
                thread::sleep(pause);
                restart(&mut scene, node, &options());
            }
            Death::Stop => {
                kill(Pid::from_raw(agent.pid), Signal::SIGSTOP).unwrap();
                thread::sleep(deaths.stopped);
                kill(Pid::from_raw(agent.pid), Signal::SIGCONT).unwrap();
            }
            Death::Upgrade => {
                kill(Pid::from_raw(agent.pid), Signal::SIGTERM).unwrap();
                eventually("the agent has ended", || !agent.is_alive());
                // There and back: what a node runs is of no consequence.
                let other = if dice.below(2) == 0 { copy.options() } else { options() };
                restart(&mut scene, node, &other);
            }
        }
    }
    thread::sleep(Duration::from_secs(1));
    // What was dropped, should anything be wrong.
    for node in NODES {
        println!("{node}: {}", scene.status(node)["drops"]);
    }
    let tally = load.end();
    println!(
        "{} kills, {} stops of {:?}, {} upgrades in {:?}",
        deaths.kills,
        deaths.stops,
        deaths.stopped,
        deaths.upgrades,
        start.elapsed()
    );
    let opened = tally.get("connections opened");
    assert!(opened > 200, "{opened} connections are no load");
    assert_eq!(tally.get("datagrams sent"), tally.get("datagrams answered"));
    assert_eq!(tally.get("datagrams sent"), tally.get("datagrams received"));
    // Those that stay, to each of two servers, besides.
    assert_eq!(tally.get("connections accepted"), opened + 50);
    assert!(tally.get("denied attempts") > 50);
    check_records(&scene);
}

/// No drop of what is allowed was told, and no record was lost.
fn check_records(scene: &Scene) {
    for node in NODES {
        let status = scene.status(node);
        for ring in status["rings"].as_array().unwrap() {
            assert_eq!(number(&ring["lost"]), 0, "{node}: {ring}");
        }
    }
    for flow in scene.flows().iter().filter(|flow| flow["verdict"] == "DROPPED") {
        let stranger = flow["source"]["pod_name"] == "stranger";
        let closed = ["TCP", "UDP"].iter().any(|it| flow["l4"][it]["destination_port"] == 7009);
        assert!(stranger || closed, "{flow}");
    }
}

fn restart(scene: &mut Scene, node: &str, options: &Options) {
    let started = scene.lab.restart_agent(node, options);
    started.unwrap_or_else(|error| panic!("{}", error.chain()));
}

/// The same program elsewhere.
struct Program {
    folder: tempfile::TempDir,
}

impl Program {
    fn copy() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(signet::PROGRAM, folder.path().join("signet")).unwrap();
        Self { folder }
    }

    /// One that dies before its n-th write to the kernel.
    fn doomed(write: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signet");
        let program = signet::PROGRAM;
        let script =
            format!("#!/bin/sh\nSIGNET_CRASH_BEFORE_WRITE={write} exec {program} \"$@\"\n");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn options(&self) -> Options {
        Options { signet: self.path(), ..options() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("signet")
    }
}

/// Numbers that differ from run to run; the first is printed.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = now.as_nanos() as u64;
        println!("dice {seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % u64::from(limit.max(1))) as u32
    }
}

/// What `policy` opens besides; the test moves it to and fro.
fn flip(open: bool) -> String {
    let port = if open { 7003 } else { 7004 };
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: flip, namespace: load}}\nspec:\n  \
         endpointSelector: {{matchLabels: {{app: server}}}}\n  ingress:\n    \
         - fromEndpoints: [{{matchLabels: {{app: client}}}}]\n      \
         toPorts: [{{ports: [{{port: '{port}', protocol: UDP}}]}}]\n"
    )
}

pub fn put(scene: &Scene, name: &str, text: &str) {
    let folder = scene.lab.places.cluster();
    let draft = folder.join(".draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, folder.join(name)).unwrap();
}

/// Whether datagrams of one pod reach another's port; each is sent once.
pub fn reaches(scene: &Scene, from: &str, to: &str, port: u16) -> bool {
    let target = scene.address(to, 4);
    let receiver = scene.inside(to, || UdpSocket::bind((target, port)).unwrap());
    receiver.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    scene.inside(from, || {
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (target, port)).unwrap();
    });
    receiver.recv(&mut [0; 8]).is_ok()
}

/// Writes before which the agent dies: at its start, and in changes after it.
const WRITES: [u32; 8] = [2, 9, 25, 50, 70, 85, 100, 120];

/// A sample of what crate datapath does for every write there is.
pub fn before_a_write() {
    let mut scene = Scene::of("write", MANIFESTS);
    put(&scene, "flip.yaml", &flip(false));
    eventually("the policy is in force", || flipped(&scene) == (false, true));
    for write in WRITES {
        let doomed = Program::doomed(write);
        let agent = scene.agent("node-1");
        agent.kill();
        eventually("the agent is dead", || !agent.is_alive());
        // One that dies at its start is an error here, and is what is wanted.
        let _ = scene.lab.restart_agent("node-1", &doomed.options());
        let end = Instant::now() + Duration::from_secs(30);
        let mut open = false;
        while scene.agent("node-1").is_alive() {
            assert!(Instant::now() < end, "write {write} never came");
            open = !open;
            put(&scene, "flip.yaml", &flip(open));
            thread::sleep(Duration::from_millis(150));
        }
        check_between(&scene, &format!("dead before write {write}"));
        restart(&mut scene, "node-1", &options());
        check_between(&scene, &format!("restarted after write {write}"));
        for open in [true, false] {
            put(&scene, "flip.yaml", &flip(open));
            eventually(&format!("write {write}: what is wanted is in force"), || {
                (open, !open) == flipped(&scene)
            });
        }
    }
}

fn flipped(scene: &Scene) -> (bool, bool) {
    let reaches = |port| reaches(scene, "load.client", "load.near", port);
    (reaches(7003), reaches(7004))
}

/// One of the two ports is open, never both and never none; and all else holds.
#[track_caller]
fn check_between(scene: &Scene, when: &str) {
    let (first, second) = flipped(scene);
    assert!(first != second, "{when}: {first} {second}");
    assert!(reaches(scene, "load.client", "load.near", 7002), "{when}");
    assert!(!reaches(scene, "load.client", "load.near", 7009), "{when}");
    assert!(!reaches(scene, "load.stranger", "load.near", 7002), "{when}");
}
