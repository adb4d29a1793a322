//! What befalls a node besides death: somebody with root, a full disk, no memory.
//! The kernel goes on with the last state, and the agent says within five seconds
//! what it found.

use std::fs;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

use crate::attempt::Connection;
use crate::death::{put, reaches};
use crate::scene::{Scene, eventually, options};
use crate::signet::{self, number};

const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: faults, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: faults, labels: {app: server}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: faults, labels: {app: stranger}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server, namespace: faults}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: client}}]
      toPorts: [{ports: [{port: '7000', protocol: UDP}, {port: '7002', protocol: TCP}]}]
";

/// Somebody else's change is told within this time.
const TOLD: Duration = Duration::from_secs(5);

#[track_caller]
fn check_policy(scene: &Scene, when: &str) {
    assert!(reaches(scene, "faults.client", "faults.server", 7000), "{when}: what is allowed");
    assert!(!reaches(scene, "faults.client", "faults.server", 7001), "{when}: what is not");
}

/// Waits until the status has it; returns the status.
#[track_caller]
fn told(scene: &Scene, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let status = scene.status("node-1");
        if holds(&status) {
            println!("{what}: told after {:?}", start.elapsed());
            return status;
        }
        assert!(start.elapsed() < TOLD, "not told: {what}: {status}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn fault(status: &Value, words: &str) -> bool {
    status["faults"].as_array().is_some_and(|faults| {
        faults.iter().any(|fault| fault["detail"].as_str().is_some_and(|it| it.contains(words)))
    })
}

fn events(scene: &Scene) -> String {
    scene.ask(&["observe", "agent-events", "--all", "-o", "json"]).good()
}

/// As a privileged pod could: pins away, a program off, an element changed.
pub fn tampering() {
    let mut scene = Scene::of("tamper", MANIFESTS);
    let metrics = with_metrics(&mut scene);
    check_policy(&scene, "before");
    let pins = scene.lab.places.pins("node-1");

    let hook = pins.join("hooks/socket_create");
    for folder in ["links", "uplinks", "hooks", "programs", "maps"] {
        for entry in fs::read_dir(pins.join(folder)).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    check_policy(&scene, "without pins");
    told(&scene, "pins are gone", |status| fault(status, "was not pinned"));
    eventually("they are back", || pins.join("maps/control").exists() && hook.exists());
    check_policy(&scene, "pinned again");
    assert!(events(&scene).contains("was not pinned"), "an event tells it, too");

    let interface = server_interface(&scene);
    scene.inside("node-1", || {
        let script = format!("tc qdisc del dev {interface} clsact 2>/dev/null; true");
        Command::new("sh").args(["-c", &script]).status().unwrap();
    });
    detach(&scene);
    told(&scene, "a program is off", |status| fault(status, "was detached or replaced"));
    eventually("it is on again", || !reaches(&scene, "faults.client", "faults.server", 7001));
    check_policy(&scene, "attached again");

    elements(&scene, &metrics.path().join("metrics"));
    let text = signet::run(&["status", "--server", signet::word(&scene.lab.places.relay_socket())]);
    assert!(text.good().contains("put right"), "people see it, too");
}

/// One element that opens, one without which everything is dropped.
fn elements(scene: &Scene, metrics: &Path) {
    let counted = content_faults(metrics);
    let addresses = scene.lab.places.pins("node-1").join("maps/addresses");
    let key = |pod: &str| {
        let IpAddr::V4(own) = scene.address(pod, 4) else { panic!("{pod} has no IPv4 address") };
        own.to_ipv6_mapped().octets().map(|byte| format!("0x{byte:02x}"))
    };
    let of_the_client = value_of(&addresses, &key("faults.client"));
    let of_the_stranger = value_of(&addresses, &key("faults.stranger"));
    assert_ne!(of_the_client, of_the_stranger);
    assert!(!reaches(scene, "faults.stranger", "faults.server", 7000));
    // The stranger is the client, by name, until the next look.
    update(&addresses, &key("faults.stranger"), &of_the_client);
    told(scene, "an address is somebody else's", |status| {
        fault(status, "of map `addresses` were changed")
    });
    eventually("it is his own again", || {
        value_of(&addresses, &key("faults.stranger")) != of_the_client
    });
    assert!(!reaches(scene, "faults.stranger", "faults.server", 7000));
    check_policy(scene, "with every address its own");
    assert!(events(scene).contains("of map `addresses` were changed"), "an event tells it, too");
    eventually("it is counted", || content_faults(metrics) > counted);

    let endpoints = scene.lab.places.pins("node-1").join("maps/endpoints");
    let ifindex = endpoint(scene, "server")["ifindex"].as_u64().unwrap();
    let key = u32::try_from(ifindex).unwrap().to_ne_bytes().map(|byte| format!("0x{byte:02x}"));
    bpftool(&[&["map", "delete", "pinned", signet::word(&endpoints), "key"], &words(&key)[..]]);
    told(scene, "an endpoint is gone", |status| fault(status, "of map `endpoints` were changed"));
    eventually("it is back", || reaches(scene, "faults.client", "faults.server", 7000));
    check_policy(scene, "with every endpoint");
}

fn words(bytes: &[String]) -> Vec<&str> {
    bytes.iter().map(String::as_str).collect()
}

/// What an element says, as bytes.
fn value_of(map: &Path, key: &[String]) -> Vec<String> {
    let look = ["-j", "map", "lookup", "pinned", signet::word(map), "key"];
    let found: Value = serde_json::from_str(&bpftool(&[&look, &words(key)])).unwrap();
    let bytes = found["value"].as_array().unwrap_or_else(|| panic!("{found}"));
    bytes.iter().map(|byte| byte.as_str().unwrap().to_owned()).collect()
}

fn update(map: &Path, key: &[String], value: &[String]) {
    let update = ["map", "update", "pinned", signet::word(map), "key"];
    bpftool(&[&update, &words(key), &["value"], &words(value)]);
}

#[track_caller]
fn bpftool(arguments: &[&[&str]]) -> String {
    let output = Command::new("bpftool").args(arguments.concat()).output().expect("bpftool");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An agent that serves its metrics in this folder.
fn with_metrics(scene: &mut Scene) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (path, program) = (folder.path().join("signet"), signet::PROGRAM);
    let socket = folder.path().join("metrics");
    let script = format!("exec {program} \"$@\" --metrics-listen unix://{}", socket.display());
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    let mode = PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, mode).unwrap();
    let telling = lab::Options { signet: path, ..options() };
    scene.lab.restart_agent("node-1", &telling).unwrap();
    folder
}

/// `signet_faults_total` of changed elements.
fn content_faults(metrics: &Path) -> u64 {
    let mut stream = UnixStream::connect(metrics).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let name = "signet_faults_total{kind=\"content\"} ";
    let count = text.lines().find_map(|line| line.strip_prefix(name));
    count.unwrap_or_else(|| panic!("{text}")).trim().parse().unwrap()
}

fn server_interface(scene: &Scene) -> String {
    endpoint(scene, "server")["interface"].as_str().unwrap().to_owned()
}

fn endpoint(scene: &Scene, pod: &str) -> Value {
    let endpoints = scene.list(&["endpoint", "list"], "endpoints");
    endpoints.into_iter().find(|row| row["pod"] == pod).unwrap()
}

/// Takes the server's programs off, where links do it.
fn detach(scene: &Scene) {
    let ifindex = endpoint(scene, "server")["ifindex"].as_u64().unwrap();
    for hook in ["ingress", "egress"] {
        let pin = scene.lab.places.pins("node-1").join(format!("links/{ifindex}_{hook}"));
        if pin.exists() {
            bpftool(&[&["link", "detach", "pinned", signet::word(&pin)]]);
        }
    }
}

/// The agent's folder is full, then read-only: the policy still changes, and it is
/// said that it would not survive a restart.
pub fn disk() {
    let mut scene = Scene::of("disk", MANIFESTS);
    let accepted = scene.lab.places.state("node-1").join("accepted");
    let open = MANIFESTS.replace("'7000'", "'7001'");
    let tmpfs = Some("size=4096,nr_inodes=2");
    mount(Some("full"), &accepted, Some("tmpfs"), MsFlags::empty(), tmpfs).unwrap();
    fs::write(accepted.join("fill"), [0; 4096]).unwrap();
    put(&scene, "pods.yaml", &open);
    told(&scene, "the disk is full", |status| {
        status["last_error"].as_str().is_some_and(|it| it.contains("remembered"))
    });
    eventually("the change is in force all the same", || {
        reaches(&scene, "faults.client", "faults.server", 7001)
    });
    assert!(!reaches(&scene, "faults.client", "faults.server", 7000));
    assert!(events(&scene).contains("remembered"), "an event tells it, too");
    umount2(&accepted, MntFlags::MNT_DETACH).unwrap();
    let status = told(&scene, "there is room again", fault_free);
    assert!(!fault(&status, "remembered"));

    mount(Some("ro"), &accepted, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>).unwrap();
    put(&scene, "pods.yaml", MANIFESTS);
    told(&scene, "the folder is read-only", |status| {
        status["last_error"].as_str().is_some_and(|it| it.contains("Read-only"))
    });
    eventually("the change is in force", || {
        reaches(&scene, "faults.client", "faults.server", 7000)
    });
    umount2(&accepted, MntFlags::MNT_DETACH).unwrap();
    scene.kill_agents();
    check_policy(&scene, "without an agent");
    scene.start_agents();
    check_policy(&scene, "after a restart");
}

fn fault_free(status: &Value) -> bool {
    status["faults"].as_array().is_none_or(Vec::is_empty)
}

/// The source goes away: what was read last stays, and its age is told.
pub fn partition() {
    let scene = Scene::of("partition", MANIFESTS);
    let cluster = scene.lab.places.cluster();
    let away = cluster.with_extension("away");
    fs::rename(&cluster, &away).unwrap();
    thread::sleep(Duration::from_secs(8));
    check_policy(&scene, "without a source");
    let status = scene.status("node-1");
    let seconds = |key: &str| {
        let text = status[key].as_str().unwrap_or_else(|| panic!("no {key}: {status}"));
        text.trim_end_matches('s').parse::<f64>().unwrap()
    };
    assert_eq!(seconds("source_age_bound"), 5.0);
    assert!(seconds("source_age") > 5.0, "{status}");
    let text = signet::run(&["status", "--server", signet::word(&scene.lab.places.relay_socket())]);
    assert!(text.good().contains("cannot be read for"), "people see it, too");
    fs::rename(&away, &cluster).unwrap();
    told(&scene, "it is read again", |status| {
        let age = status["source_age"].as_str().unwrap_or("9s").trim_end_matches('s').to_owned();
        age.parse::<f64>().is_ok_and(|age| age < 5.0)
    });
}

/// An agent that may have no memory is killed by the kernel, again and again.
pub fn memory() {
    let mut scene = Scene::of("memory", MANIFESTS);
    let agent = scene.agent("node-1");
    agent.kill();
    eventually("the agent is dead", || !agent.is_alive());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signet");
    let program = signet::PROGRAM;
    // Address space instead of a memory cgroup: the same end, on every host.
    fs::write(&path, format!("#!/bin/sh\nulimit -v 30000\nexec {program} \"$@\"\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let starved = lab::Options { signet: path, ..options() };
    assert!(scene.lab.restart_agent("node-1", &starved).is_err(), "it cannot have started");
    check_policy(&scene, "with an agent that has no memory");
    scene.start_agents();
    check_policy(&scene, "with one that has");
}

/// The memory cgroup of a node's agent, among the lab's: it goes with them.
struct Confined {
    folder: PathBuf,
    /// Names of its files: used at most so far, limit, events.
    files: [&'static str; 3],
    /// Holds an agent that joins it first.
    program: tempfile::TempDir,
}

impl Confined {
    /// Where the host has its memory controller, of either version.
    fn new(scene: &Scene) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let lab = scene.lab.places.cgroup();
        let first = root.join("memory");
        let (root, files) = if first.exists() {
            (first, ["memory.max_usage_in_bytes", "memory.limit_in_bytes", "memory.oom_control"])
        } else {
            let parents: Vec<&Path> = lab.ancestors().collect();
            for parent in parents.into_iter().rev() {
                let control = root.join(parent).join("cgroup.subtree_control");
                fs::write(&control, "+memory").unwrap_or_else(|e| panic!("{control:?}: {e}"));
            }
            (root.to_owned(), ["memory.peak", "memory.max", "memory.events"])
        };
        let folder = root.join(lab).join("_confined");
        fs::create_dir_all(&folder).unwrap();
        let program = tempfile::tempdir().unwrap();
        let path = program.path().join("signet");
        let (group, signet) = (folder.display(), signet::PROGRAM);
        let script = format!("#!/bin/sh\necho $$ >{group}/cgroup.procs && exec {signet} \"$@\"\n");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, files, program }
    }

    fn options(&self) -> lab::Options {
        lab::Options { signet: self.program.path().join("signet"), ..options() }
    }

    fn read(&self, file: usize) -> String {
        fs::read_to_string(self.folder.join(self.files[file])).unwrap()
    }

    /// Bytes of memory that it has had at most.
    fn peak(&self) -> u64 {
        self.read(0).trim().parse().unwrap()
    }

    fn limit(&self, bytes: u64) {
        fs::write(self.folder.join(self.files[1]), bytes.to_string()).unwrap();
    }

    fn kills(&self) -> u64 {
        let events = self.read(2);
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.unwrap().parse().unwrap()
    }
}

/// Pods elsewhere, each somebody else: more than the agent has room for.
const STRANGERS: u32 = 20_000;

/// Of one file: larger ones are refused.
const OF_A_FILE: u32 = 5_000;

/// More than one start differs from another by: what an agent held is given back late.
const SLACK: u64 = 8 << 20;

fn strangers(first: u32) -> String {
    let pod = |number: u32| {
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + number);
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: many, \
             labels: {{app: a{number}}}}}\nspec: {{nodeName: elsewhere}}\n\
             status: {{podIPs: [{{ip: {address}}}]}}\n"
        )
    };
    (first..first + OF_A_FILE).map(pod).collect()
}

/// The agent is to learn of more than its memory cgroup has room for, and is killed for
/// it, until somebody raises the limit.
pub fn memory_limit() {
    let mut scene = Scene::of("limit", MANIFESTS);
    let confined = Confined::new(&scene);
    let restart = |scene: &mut Scene| {
        let started = scene.lab.restart_agent("node-1", &confined.options());
        started.unwrap_or_else(|error| panic!("{}", error.chain()));
    };
    // Once without a limit: what it takes to start.
    restart(&mut scene);
    check_policy(&scene, "in a cgroup of its own");
    let limit = (confined.peak() + SLACK).next_multiple_of(4096);
    println!("limit: {limit} bytes");
    let first = scene.agent("node-1");
    first.kill();
    eventually("it is gone, and its memory with it", || first.is_gone());
    confined.limit(limit);
    restart(&mut scene);
    assert_eq!(confined.kills(), 0, "it has what it needs");
    let mut connection = Connection::open(&scene, "faults.client", "faults.server", 7002, 4);
    connection.carries();

    let agent = scene.agent("node-1");
    for first in (1..STRANGERS).step_by(OF_A_FILE as usize) {
        put(&scene, &format!("strangers-{first}.yaml"), &strangers(first));
    }
    eventually("the agent is dead", || !agent.is_alive());
    assert_eq!(confined.kills(), 1, "by its limit of {limit} bytes");
    check_policy(&scene, "killed by its limit");
    connection.carries();

    // Who only restarts it has it killed again.
    let _ = scene.lab.restart_agent("node-1", &confined.options());
    let again = scene.agent("node-1");
    eventually("it is dead again", || !again.is_alive());
    assert_eq!(confined.kills(), 2);
    check_policy(&scene, "killed twice");
    connection.carries();

    confined.limit(limit + (1 << 30));
    restart(&mut scene);
    let words = format!("the limit of its memory cgroup, {limit} bytes (raise it)");
    told(&scene, "the agent was killed by its limit", |status| {
        status["last_error"].as_str().is_some_and(|it| it.contains(&words))
    });
    assert!(events(&scene).contains(&words), "an event tells it, too");
    eventually("now it knows all of them", || {
        let status = scene.status("node-1");
        let limits = status["limits"].as_array().into_iter().flatten();
        let addresses = limits.filter(|limit| limit["what"] == "addresses");
        addresses.map(|limit| number(&limit["used"])).sum::<u64>() > u64::from(STRANGERS)
    });
    check_policy(&scene, "with a larger limit");
    connection.carries();
    assert_eq!(confined.kills(), 2, "and lives");
}
