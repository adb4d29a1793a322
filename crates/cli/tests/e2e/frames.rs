//! A pod that sends raw frames from its first act on, started again and again while
//! its agent is alive, dead, and on its way up. What its policy denies never arrives.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use lab::Lab;

use crate::frame::Kind;
use crate::listener::Listener;
use crate::scene::{Scene, eventually, options};
use crate::sender;

/// Starts of the pod in each state of its agent.
const STARTS: u32 = 50;
/// Frames that a start must have sent before it counts: several rounds of all kinds.
const SENT: u64 = 400;
/// Frames of the allowed kind that must arrive, where they can.
const ARRIVED: u64 = 10;

/// Pods that nobody starts again, and policies. `near` is on the sender's node and
/// takes everything, so that only the sender's own guard can stop a frame to it;
/// `far` is on the other node and guarded itself.
const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: raw, labels: {app: near}}
spec:
  nodeName: node-1
  containers: [{name: main}]
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: raw, labels: {app: far}}
spec:
  nodeName: node-2
  containers: [{name: main}]
---
apiVersion: v1
kind: Pod
metadata: {name: neighbour, namespace: raw, labels: {app: neighbour}}
spec:
  nodeName: node-1
  containers: [{name: main}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: sender-egress, namespace: raw}
spec:
  endpointSelector: {matchLabels: {app: sender}}
  egress:
    - toEndpoints: [{matchLabels: {app: near}}]
      toPorts: [{ports: [{port: '8080', protocol: TCP}]}]
    - toEndpoints: [{matchLabels: {app: far}}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: far-ingress, namespace: raw}
spec:
  endpointSelector: {matchLabels: {app: far}}
  ingress:
    - fromEndpoints:
        - matchLabels: {app: sender}
        - matchLabels: {app: neighbour}
      toPorts: [{ports: [{port: '8080', protocol: TCP}]}]
";

/// The sender's manifest, with a command.
fn pod(command: &[String]) -> String {
    let command = serde_json::to_string(command).unwrap();
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: sender, namespace: raw, labels: {{app: sender}}}}\n\
         spec:\n  nodeName: node-1\n  containers: [{{name: main, command: {command}}}]\n"
    )
}

const POD: &str = "raw/sender";
const MEMBER: &str = "raw.sender";

/// The lab, and a listener at each receiver.
struct Stage {
    near: Listener,
    far: Listener,
    scene: Scene,
    /// Where pods find this program.
    _program: tempfile::TempDir,
}

pub fn from_the_first_act() {
    let mut stage = Stage::new();
    for start in 0..STARTS {
        stage.restart_pod();
        stage.check_allowed_arrives(&format!("agent alive, start {start}"));
    }
    stage.scene.kill_agents();
    for start in 0..STARTS {
        stage.restart_pod();
        stage.check_nothing_arrives(&format!("agent dead, start {start}"));
    }
    // The last of these would be let in by the first agent that comes back before it
    // is gone, and be right to arrive; it is not one of those that are counted.
    kill_sender(&stage.scene);
    for start in 0..STARTS {
        stage.scene.kill_agents();
        stage.restart_both(start);
        stage.check_allowed_arrives(&format!("agent starting, start {start}"));
    }
    stage.finish();
}

impl Stage {
    fn new() -> Self {
        let sleep = ["sleep", "infinity"].map(str::to_owned);
        let mut scene = Scene::of("raw", &format!("{MANIFESTS}{}", pod(&sleep)));
        // Pods see the host's root without what is mounted below it; most other
        // places where files of tests go are hidden from them.
        let program =
            tempfile::Builder::new().prefix("signet-e2e-").tempdir_in("/var/lib").unwrap();
        fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = program.path().join("sender");
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        let mut command = vec![copy.display().to_string(), sender::WORD.to_owned()];
        let addresses =
            |member: &str| [4, 6].map(|family| scene.address(member, family).to_string());
        command.extend(addresses("raw.near"));
        command.extend(addresses("raw.far"));
        command.push("-".to_owned());
        command.extend(addresses("raw.neighbour"));
        // Whoever starts the pod again starts what was applied last.
        let manifest = scene.directory.path().join("sender.yaml");
        fs::write(&manifest, pod(&command)).unwrap();
        let applied = scene.lab.apply(&manifest, None, &options(), &mut |_| {});
        applied.unwrap_or_else(|error| panic!("{}", error.chain()));
        // The pod that was applied sends already, and is none of those that count.
        kill_sender(&scene);
        let listen = |member: &str| Listener::start(scene.netns(member));
        Self { near: listen("raw.near"), far: listen("raw.far"), scene, _program: program }
    }

    fn restart_pod(&mut self) {
        restart_pod(&mut self.scene.lab);
    }

    /// Starts the agents and the pod at the same time; who is ahead differs from
    /// start to start, by up to what an agent needs to start.
    fn restart_both(&mut self, start: u32) {
        let lead = Duration::from_millis(10) * (start / 2);
        let (agents_wait, pod_waits) =
            if start.is_multiple_of(2) { (lead, Duration::ZERO) } else { (Duration::ZERO, lead) };
        let mut with_pod = self.scene.lab.clone();
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                thread::sleep(pod_waits);
                restart_pod(&mut with_pod);
            });
            barrier.wait();
            thread::sleep(agents_wait);
            self.scene.start_agents();
        });
        // Each knows of its own change.
        self.scene.lab.journal.pods = with_pod.journal.pods;
    }

    /// The sender's addresses: every start has its own.
    fn sources(&self) -> [IpAddr; 2] {
        [4, 6].map(|family| self.scene.address(MEMBER, family))
    }

    fn wait_until_sent(&self, when: &str) {
        eventually(&format!("{when}: the pod has sent"), || {
            self.scene.inside(MEMBER, sent) >= SENT
        });
    }

    #[track_caller]
    fn check_allowed_arrives(&self, when: &str) {
        self.wait_until_sent(when);
        for source in self.sources() {
            for listener in [&self.near, &self.far] {
                eventually(&format!("{when}: what is allowed arrives from {source}"), || {
                    listener.count(Kind::Allowed, source) >= ARRIVED
                });
            }
        }
        self.check_denied(when);
    }

    #[track_caller]
    fn check_nothing_arrives(&self, when: &str) {
        self.wait_until_sent(when);
        for source in self.sources() {
            for listener in [&self.near, &self.far] {
                assert_eq!(listener.count(Kind::Allowed, source), 0, "{when}: from {source}");
            }
        }
        self.check_denied(when);
    }

    #[track_caller]
    fn check_denied(&self, when: &str) {
        for listener in [&self.near, &self.far] {
            assert_eq!(listener.denied(), BTreeMap::new(), "{when}");
        }
    }

    /// What was on its way when a check looked is counted here.
    fn finish(self) {
        kill_sender(&self.scene);
        for listener in [self.near, self.far] {
            let seen = listener.finish();
            let denied: Vec<_> = seen.keys().filter(|(kind, _)| *kind != Kind::Allowed).collect();
            assert!(denied.is_empty(), "{denied:?}");
            // Both families, and every start that had an agent.
            assert_eq!(seen.len() as u32, 2 * 2 * STARTS, "{seen:?}");
        }
    }
}

fn kill_sender(scene: &Scene) {
    let process = scene.lab.pod(POD).unwrap().containers[0].process.unwrap();
    process.kill();
    eventually("the sender is gone", || !process.is_alive());
}

fn restart_pod(lab: &mut Lab) {
    lab.restart_pod(POD, &options()).unwrap_or_else(|error| panic!("{}", error.chain()));
}

/// Frames that have left the interface of the network namespace of this thread.
fn sent() -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = table.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap();
    line.split_whitespace().nth(9).unwrap().parse().unwrap()
}
