//! A node for an agent: a bpffs and a network of its own, pods' records in a folder,
//! and manifests in another. One pod stands behind the loopback interface, on which the
//! kernel's programs can be run; the others' interfaces do not exist, and cost as much.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use agent::{AgentConfig, AgentSettings};
use api::proto::signet::v1::signet_client::SignetClient;
use api::proto::signet::v1::{NodeStatus, StatusRequest};
use datapath::TestRun;
use model::{EndpointRecord, PodName};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The pods' MAC.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

/// The argument with which this program is an agent.
pub const AGENT: &str = "agent";

const PINS: &str = "bpf/limits/here";

/// How long anything may take that is not measured.
const LONG: Duration = Duration::from_secs(300);

/// Needs root.
pub fn unshare_all() {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("this needs root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("iproute2");
    assert!(up.success());
}

/// The agent of the site in a folder, until it is told to end.
pub fn run_agent(folder: &Path) {
    let at = |name: &str| folder.join(name);
    let settings = AgentSettings::new("here", at(PINS), at("state"), at("cluster"));
    agent::run(AgentConfig::try_from(settings).unwrap()).unwrap();
}

#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "not within {LONG:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A node, and the agent on it if one was started.
pub struct Site {
    folder: tempfile::TempDir,
    agent: Option<Child>,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bpf", "cluster", "state", "state/endpoints"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let bpf = folder.path().join("bpf");
        mount(Some("bpf"), &bpf, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { folder, agent: None, runtime }
    }

    pub fn pins(&self) -> PathBuf {
        self.path(PINS)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a manifest whole, as a careful writer does.
    pub fn put(&self, file: &str, text: &str) {
        let draft = self.path("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.path("cluster").join(file)).unwrap();
    }

    /// What the CNI plugin leaves for pod `number` of this node.
    pub fn record(&self, number: usize) {
        let low = u32::try_from(number).unwrap();
        let record = EndpointRecord {
            container_id: format!("container-{number}"),
            pod: PodName { namespace: "bank".into(), name: pod_name("here", number) },
            pod_interface: "eth0".into(),
            host_interface: format!("sg{number:010}"),
            ifindex: if number == 0 { TestRun::ifindex() } else { 1_000_000 + low },
            mac: MAC,
            addresses: vec![address("here", number).into()],
            netns_id: -1,
        };
        cni::record::write(&self.path("state/endpoints"), &record).unwrap();
    }

    /// Starts an agent and waits until `pods` are installed and `addresses` known.
    pub fn start(&mut self, pods: usize, addresses: usize) {
        let log = fs::File::create(self.path("log")).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .arg(AGENT)
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(child);
        eventually("everything is installed", || {
            let ended = self.agent.as_mut().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "{}", fs::read_to_string(self.path("log")).unwrap());
            let Some(status) = self.status() else { return false };
            let known = status.limits.iter().find(|limit| limit.what == "addresses");
            status.endpoints as usize == pods
                && known.is_some_and(|known| known.used >= addresses as u64)
        });
    }

    /// What the agent says of itself.
    pub fn status(&self) -> Option<NodeStatus> {
        self.runtime.block_on(async {
            let channel = api::client::connect(&self.path("state/agent.sock")).await.ok()?;
            let mut client = SignetClient::new(channel);
            client.status(StatusRequest {}).await.ok()?.into_inner().nodes.pop()
        })
    }

    /// Process of the agent.
    pub fn agent(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = kill(Pid::from_raw(agent.id().cast_signed()), Signal::SIGTERM);
            let _ = agent.wait();
        }
        let _ = umount2(&self.path("bpf"), MntFlags::MNT_DETACH);
    }
}

/// Name of a pod of a node.
pub fn pod_name(node: &str, number: usize) -> String {
    format!("{node}-{number}")
}

/// Address of a pod: `here` is 10/8, elsewhere 11/8.
pub fn address(node: &str, number: usize) -> std::net::Ipv4Addr {
    let first = if node == "here" { 10 } else { 11 };
    let [_, high, middle, low] = u32::try_from(number + 10).unwrap().to_be_bytes();
    std::net::Ipv4Addr::new(first, high, middle, low)
}

/// A pod like no other: as many identities as pods.
pub fn pod(node: &str, number: usize) -> String {
    let (name, address) = (pod_name(node, number), address(node, number));
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: bank, \
         labels: {{app: {name}}}}}\nspec: {{nodeName: {node}}}\n\
         status: {{podIPs: [{{ip: {address}}}]}}\n"
    )
}

/// This node, whose pods are in 10/8.
pub const NODE: &str =
    "---\napiVersion: v1\nkind: Node\nmetadata: {name: here}\nspec: {podCIDRs: [10.0.0.0/8]}\n";
