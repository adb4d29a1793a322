//! A node of one test: network namespaces, folders, and the plugin run in them.
//! Everything goes when it is dropped, also when the test panics.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use cni::command::{Outcome, execute};
use cni::programs::Programs;
use model::EndpointRecord;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tempfile::TempDir;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A network namespace with a name that `ip netns` shows.
pub struct Namespace(String);

impl Namespace {
    pub fn new(role: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("signet-cni-test.{}.{number}.{role}", std::process::id());
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make network namespaces and need root"
        );
        // In the list of things to remove before there is anything to remove.
        let namespace = Self(name);
        ip(&format!("netns add {}", namespace.0));
        namespace
    }

    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    /// Does `work` inside, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        run_in(&self.path(), work)
    }

    /// What `ip ARGS` prints inside.
    pub fn ip(&self, args: &str) -> String {
        self.run(|| ip(args))
    }

    /// Whether one ping to `address` comes back.
    pub fn pings(&self, address: &str) -> bool {
        self.run(|| {
            let ping = Command::new("ping").args(["-c", "1", "-w", "2", address]).output();
            ping.expect("ping").status.success()
        })
    }

    /// Names of all interfaces but the loopback.
    pub fn links(&self) -> Vec<String> {
        let links = self.ip("-j link show");
        let links: Value = serde_json::from_str(&links).expect("JSON of ip");
        let names = links.as_array().expect("a list").iter().map(|link| link["ifname"].clone());
        names.filter_map(|name| name.as_str().map(str::to_owned)).filter(|n| n != "lo").collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing is asserted here: a second panic would hide the first.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

pub fn run_in<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = || {
            let file = File::open(path).expect("open the namespace");
            setns(file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            work()
        };
        scope.spawn(inside).join().expect("the work in the namespace")
    })
}

fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().expect("ip");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ip {args}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// A node with addresses of its own, and its folders.
pub struct Node {
    pub namespace: Namespace,
    folder: TempDir,
    pub config: Value,
}

impl Node {
    pub fn new() -> Self {
        let namespace = Namespace::new("node");
        namespace.ip("link set lo up");
        namespace.ip("addr add 10.1.0.1/32 dev lo");
        namespace.ip("addr add fd00:1::1/128 dev lo");
        let folder = tempfile::tempdir().expect("a folder");
        let (pins, state) = (folder.path().join("pins"), folder.path().join("state"));
        fs::create_dir(&pins).expect("pins");
        fs::write(pins.join("pod_egress"), "").expect("a pin");
        let config = json!({
            "cniVersion": "1.1.0", "name": "pods", "type": "signet", "node": "node-a",
            "pins": pins, "stateDir": state, "subnets": ["10.1.0.0/24", "fd00:1::/64"],
            "enforceTimeoutMs": 200,
        });
        Self { namespace, folder, config }
    }

    pub fn pins(&self) -> PathBuf {
        self.folder.path().join("pins")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// What an agent does as long as it runs.
    pub fn hold_agent_lock(&self) -> File {
        fs::create_dir_all(self.state()).expect("state");
        let lock = File::create(self.state().join("agent.lock")).expect("lock file");
        lock.lock().expect("lock");
        lock
    }

    pub fn records(&self) -> Vec<EndpointRecord> {
        let listing = cni::record::list(&self.state().join("endpoints")).expect("records");
        assert!(listing.refused.is_empty(), "{:?}", listing.refused);
        listing.records
    }

    pub fn leases(&self) -> usize {
        cni::ipam::Ipam::lock(&self.state()).expect("ledger").ledger().leases().len()
    }

    /// Runs a command as a container runtime does, for the pod's `eth0`.
    pub fn call(&self, command: &str, pod: &Pod, programs: &dyn ProgramsOnThreads) -> Outcome {
        self.call_with(command, pod, &self.config, programs)
    }

    pub fn call_with(
        &self,
        command: &str,
        pod: &Pod,
        config: &Value,
        programs: &dyn ProgramsOnThreads,
    ) -> Outcome {
        let netns = pod.namespace.path().display().to_string();
        let variable = |name: &str| {
            Some(match name {
                "CNI_COMMAND" => command.to_owned(),
                "CNI_CONTAINERID" => pod.container.clone(),
                "CNI_NETNS" => netns.clone(),
                "CNI_IFNAME" => "eth0".to_owned(),
                "CNI_ARGS" => format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME={};K8S_POD_UID=1",
                    pod.container
                ),
                _ => return None,
            })
        };
        let input = config.to_string();
        self.namespace.run(|| execute(&variable, &input, programs.as_programs()))
    }

    /// Adds a pod that must succeed; its answer.
    #[track_caller]
    pub fn add(&self, pod: &Pod, programs: &dyn ProgramsOnThreads) -> Value {
        let outcome = self.call("ADD", pod, programs);
        assert!(outcome.succeeded, "{outcome:?}");
        outcome.answer.expect("a result")
    }

    /// The configuration with the answer of ADD, as CHECK gets it.
    pub fn config_with(&self, previous: &Value) -> Value {
        let mut config = self.config.clone();
        config["prevResult"] = previous.clone();
        config
    }

    /// Nothing of any pod is left on the node.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.namespace.links(), Vec::<String>::new(), "links");
        assert_eq!(self.records(), Vec::new(), "records");
        assert_eq!(self.leases(), 0, "leases");
    }
}

/// Programs that may be used from the thread that is in the node's namespace.
pub trait ProgramsOnThreads: Programs + Sync {
    fn as_programs(&self) -> &dyn Programs;
}

impl<T: Programs + Sync> ProgramsOnThreads for T {
    fn as_programs(&self) -> &dyn Programs {
        self
    }
}

/// A container with an empty network namespace.
pub struct Pod {
    pub namespace: Namespace,
    pub container: String,
}

impl Pod {
    pub fn new(container: &str) -> Self {
        Self { namespace: Namespace::new(container), container: container.to_owned() }
    }
}
