//! Policies about nodes, on real traffic: who reaches a node and whom it reaches,
//! and that a policy which locks everybody out is undone by itself.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::scene::{Scene, eventually, name};
use crate::signet::{self, texts};

const CLUSTER: &str = include_str!("../data/host/cluster.yaml");
const POLICIES: &str = include_str!("../data/host/policies.yaml");
const PROBES: &str = include_str!("../data/host/probes.jsonl");

/// The first node is the one that policies select; the world is as in the example.
const SPEC: &str = "
  nodes:
    - {name: node-1, labels: {role: edge}}
    - {name: node-2}
  external:
    - name: internet
      command: [sh, -c, \"busybox httpd -p 25 -h /tmp; exec busybox httpd -f -p 80 -h /tmp\"]
";

/// How long a trial is in these tests.
const TRIAL: Duration = Duration::from_secs(6);
const AGENT: &str = "  agent: {hostPolicyConfirmSeconds: 6}\n";

/// A dropped SYN is not waited for: what is asked is asked again.
const PATIENCE: Duration = Duration::from_millis(400);

/// A lab of these manifests.
fn scene(test: &str, spec: &str, manifests: &str) -> Scene {
    let object = "apiVersion: signet.dev/v1alpha1\nkind: Lab\nmetadata:\n  name: ";
    let lab = format!("{object}{}\nspec:\n{spec}", name(test));
    Scene::with(&[("lab.yaml", &lab), ("manifests.yaml", manifests)])
}

pub fn on_the_wire() {
    let scene = scene("host", SPEC, &[CLUSTER, "---\n", POLICIES].concat());
    let file = scene.directory.path().join("host-probes.jsonl");
    fs::write(&file, PROBES).unwrap();
    let file = signet::word(&file);
    let manifests = signet::word(scene.directory.path());
    let report = signet::run(&["lab", "probe", "--lab", scene.name(), file]).good();
    assert_eq!(report.lines().last(), Some("40 of 40 as expected"), "{report}");

    // The same answers from the manifests alone.
    let answers =
        signet::run(&["policy", "evaluate", "--manifests", manifests, "--probes", file]).good();
    assert!(answers.contains("40 of 40 as expected"), "{answers}");

    // Who is behind the node is told where the node's cgroup knows him.
    let flows = scene.flows();
    let is_answered = |flow: &&Value| {
        flow["l4"]["TCP"]["destination_port"] == 4101
            && flow["verdict"] == "FORWARDED"
            && flow["traffic_direction"] == "INGRESS"
    };
    let flow = flows.iter().find(is_answered).unwrap();
    assert_eq!(flow["destination"]["identity"], 1, "{flow}");
    assert_eq!(texts(&flow["destination"]["labels"]), ["reserved:host"], "{flow}");
    assert!(flow["extensions"].to_string().contains("busybox"), "{flow}");
}

/// Everything to the node is denied but one port that nobody uses.
fn lock_out(name: &str, port: u16) -> String {
    format!(
        "{{\"apiVersion\": \"cilium.io/v2\", \"kind\": \"CiliumClusterwideNetworkPolicy\", \
         \"metadata\": {{\"name\": \"{name}\"}}, \"spec\": {{\"nodeSelector\": \
         {{\"matchLabels\": {{\"role\": \"edge\"}}}}, \"ingress\": [{{\"fromEntities\": \
         [\"world\"], \"toPorts\": [{{\"ports\": [{{\"port\": \"{port}\", \"protocol\": \
         \"TCP\"}}]}}]}}]}}}}"
    )
}

/// A lab whose first node has somebody listening, on a port that policies close.
struct Site {
    scene: Scene,
    listeners: Vec<TcpListener>,
}

const PORT: u16 = 4022;

impl Site {
    fn new(test: &str) -> Self {
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: web}, spec: \
                   {nodeName: node-2, containers: [{name: main}]}}\n";
        let scene = scene(test, &[AGENT, SPEC].concat(), pod);
        let listen = |family| {
            let address = SocketAddr::new(scene.address("node-1", family), PORT);
            let listener = scene.inside("node-1", || TcpListener::bind(address).unwrap());
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let listeners = vec![listen(4), listen(6)];
        Self { scene, listeners }
    }

    /// The file of a policy, where agents read it.
    fn file(&self, name: &str) -> PathBuf {
        self.scene.lab.places.cluster().join(format!("{name}.json"))
    }

    fn write(&self, name: &str, port: u16) {
        let (path, draft) = (self.file(name), self.file(name).with_extension("tmp"));
        fs::write(&draft, lock_out(name, port)).unwrap();
        fs::rename(draft, path).unwrap();
    }

    /// Whether somebody outside reaches the node, over both families alike.
    fn is_open(&self) -> bool {
        // Whom nobody accepts fills the queue, and a full one is silent too.
        self.listeners.iter().for_each(|listener| while listener.accept().is_ok() {});
        let reaches = |family| {
            let target = SocketAddr::new(self.scene.address("node-1", family), PORT);
            let connect = || TcpStream::connect_timeout(&target, PATIENCE).is_ok();
            self.scene.inside("internet", connect)
        };
        let [ipv4, ipv6] = [4, 6].map(reaches);
        if ipv4 == ipv6 {
            return ipv4;
        }
        // Between the two the policy has changed.
        reaches(4)
    }

    fn wait_until(&self, open: bool) {
        eventually(if open { "the node is open" } else { "the node is closed" }, || {
            self.is_open() == open
        });
    }

    /// Where the policy stands on the node, and why.
    #[track_caller]
    fn standing(&self, name: &str) -> (String, String) {
        let policies = self.scene.list(&["policy", "list"], "policies");
        let policy = policies
            .iter()
            .find(|policy| policy["name"] == name && policy["node"] == "node-1")
            .unwrap_or_else(|| panic!("{policies:?}"));
        let text = |key: &str| policy[key].as_str().unwrap_or_default().to_owned();
        (text("trial"), text("reason"))
    }

    /// The line of the policy on the node, as people read it.
    fn line(&self, name: &str) -> String {
        let table = self.scene.ask(&["policy", "list"]).good();
        let mut lines = table.lines();
        let of_node = |line: &&str| line.contains(name) && line.contains("node-1");
        lines.find(of_node).unwrap_or_else(|| panic!("{table}")).to_owned()
    }
}

pub fn lock_out_is_undone() {
    let mut site = Site::new("lockout");
    assert!(site.is_open());

    // With an agent that lives.
    site.write("shut", 1);
    site.wait_until(false);
    assert_eq!(site.standing("shut").0, "TRIAL_RUNNING");
    assert!(site.line("shut").contains("on trial: undone in "), "{}", site.line("shut"));
    site.wait_until(true);
    let reverted = "not confirmed within 6 s";
    eventually("the agent tells", || site.standing("shut").0 == "TRIAL_REVERTED");
    assert_eq!(site.standing("shut").1, reverted);
    assert!(site.line("shut").contains(&format!("reverted: {reverted}")), "{}", site.line("shut"));
    assert!(site.is_open());

    // Changed, and the agents die while it is on trial.
    site.write("shut", 2);
    site.wait_until(false);
    site.scene.kill_agents();
    assert!(!site.is_open(), "the kernel goes on with the trial");
    site.wait_until(true);
    site.scene.start_agents();
    assert!(site.is_open());
    assert_eq!(site.standing("shut").0, "TRIAL_REVERTED");
    let calm = Instant::now() + Duration::from_secs(2);
    while Instant::now() < calm {
        assert!(site.is_open(), "it is not tried again");
    }

    // Named, it is confirmed although its time is over.
    let confirm = site.scene.ask(&["policy", "confirm", "shut"]).good();
    assert!(confirm.contains("shut is permanent on node-1"), "{confirm}");
    site.wait_until(false);
}

pub fn confirmed_stays() {
    let mut site = Site::new("confirmed");
    site.write("shut", 1);
    site.wait_until(false);
    let trial = Instant::now() + TRIAL + Duration::from_secs(2);
    let nobody = site.scene.ask(&["policy", "confirm", "other"]);
    assert_eq!(nobody.status, Some(1), "{nobody:?}");
    let confirm = site.scene.ask(&["policy", "confirm"]).good();
    assert_eq!(confirm, "CiliumClusterwideNetworkPolicy/-/shut is permanent on node-1\n");
    while Instant::now() < trial {
        assert!(!site.is_open());
    }
    assert_eq!(site.standing("shut").0, "TRIAL_CONFIRMED");
    site.scene.kill_agents();
    assert!(!site.is_open());
    site.scene.start_agents();
    let calm = Instant::now() + TRIAL + Duration::from_secs(2);
    while Instant::now() < calm {
        assert!(!site.is_open(), "what was confirmed is not asked for again");
    }
    assert_eq!(site.standing("shut").0, "TRIAL_CONFIRMED");
    // Who takes it away opens the node.
    fs::remove_file(site.file("shut")).unwrap();
    site.wait_until(true);
}
