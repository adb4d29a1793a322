//! What an agent takes: its own memory and the kernel's, against what is promised,
//! for many identities elsewhere and many pods here.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use model::{EndpointRecord, PodName};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::scene::{eventually_within, name};
use crate::signet::{self, number, word};

pub fn promise() {
    for (remote, local) in [(10, 10), (1_000, 10), (10, 250)] {
        measure(remote, local);
    }
}

pub fn promise_for_long() {
    measure(100_000, 10);
}

/// An agent on folders of its own; whatever happens, it ends and leaves nothing.
struct Agent {
    child: Child,
    pins: PathBuf,
    folder: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.pins);
    }
}

/// Every pod is somebody else: as many identities as pods.
fn pod(number: usize, node: &str, subnet: u8) -> (String, std::net::Ipv4Addr) {
    let [_, high, middle, low] = u32::try_from(number + 10).unwrap().to_be_bytes();
    let address = std::net::Ipv4Addr::new(subnet, high, middle, low);
    let text = format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{subnet}-{number}, namespace: bank, \
         labels: {{app: a{subnet}-{number}}}}}\nspec: {{nodeName: {node}}}\n\
         status: {{podIPs: [{{ip: {address}}}]}}\n"
    );
    (text, address)
}

fn measure(remote: usize, local: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, state) = (folder.path().join("cluster"), folder.path().join("state"));
    fs::create_dir(&cluster).unwrap();
    fs::create_dir_all(state.join("endpoints")).unwrap();
    for (number, chunk) in (0..remote).collect::<Vec<_>>().chunks(5_000).enumerate() {
        let mut text = String::new();
        chunk.iter().for_each(|pod_number| text += &pod(*pod_number, "elsewhere", 11).0);
        fs::write(cluster.join(format!("remote-{number}.yaml")), text).unwrap();
    }
    let mut text = String::from("---\napiVersion: v1\nkind: Node\nmetadata: {name: here}\n");
    let _ = writeln!(text, "spec: {{podCIDRs: [10.0.0.0/16]}}");
    for pod_number in 0..local {
        let (manifest, address) = pod(pod_number, "here", 10);
        text += &manifest;
        let record = EndpointRecord {
            container_id: format!("container-{pod_number}"),
            pod: PodName { namespace: "bank".into(), name: format!("p10-{pod_number}") },
            pod_interface: "eth0".into(),
            host_interface: format!("sg{pod_number:010}"),
            // No such interface: what is installed for it takes as much.
            ifindex: 1_000_000 + u32::try_from(pod_number).unwrap(),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: vec![address.into()],
            netns_id: -1,
        };
        cni::record::write(&state.join("endpoints"), &record).unwrap();
    }
    fs::write(cluster.join("local.yaml"), text).unwrap();
    let agent = start(folder, &cluster, &state, &format!("memory-{remote}-{local}"));
    let socket = agent.folder.path().join("state/agent.sock");
    let mut last = Value::Null;
    eventually_within(std::time::Duration::from_secs(600), "everything is in force", || {
        let Some(status) = status(&socket) else { return false };
        let all = number(&status["endpoints"]) == local as u64;
        last = status;
        all && last["endpoints_not_ready"].as_u64().unwrap_or(0) == 0
            && used(&last, "addresses").0 >= (remote + local) as u64
    });
    // One more look, with nothing else to do.
    std::thread::sleep(std::time::Duration::from_secs(5));
    let last = status(&socket).unwrap();
    let (resident, promised) = used(&last, "bytes of the agent's memory");
    let kernel = number(&last["kernel_memory_bytes"]);
    println!(
        "{remote} remote identities, {local} pods: agent {resident} bytes of {promised} promised, \
         kernel {kernel} bytes"
    );
    assert!(resident > 1 << 20 && kernel > 1 << 20, "nobody has measured: {last}");
    assert!(resident <= promised, "{resident} bytes, {promised} are promised");
}

fn start(folder: tempfile::TempDir, cluster: &Path, state: &Path, test: &str) -> Agent {
    let pins = PathBuf::from("/sys/fs/bpf/signet").join(name(test));
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let child = Command::new(signet::PROGRAM)
        .args(["agent", "--node", "here", "--pins", word(&pins.join("here"))])
        .args(["--state-dir", word(state), "--cluster-dir", word(cluster)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Agent { child, pins, folder }
}

fn status(socket: &Path) -> Option<Value> {
    let answer = signet::run(&["status", "-o", "json", "--server", word(socket)]);
    let answer: Value = serde_json::from_str(&answer.out).ok()?;
    answer["nodes"].get(0).cloned()
}

/// How much there is of something, and how much there may be.
fn used(status: &Value, what: &str) -> (u64, u64) {
    let mut limits = status["limits"].as_array().into_iter().flatten();
    let found = limits.find(|limit| limit["what"] == what);
    found.map_or((0, 0), |limit| (number(&limit["used"]), number(&limit["limit"])))
}
