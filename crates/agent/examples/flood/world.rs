//! An agent on a real kernel under a flood of its own programs: they judge frames
//! as fast as they are told to, and every record goes through the kernel's ring.
//!
//! The flood is made by BPF_PROG_TEST_RUN of `pod_egress`, so that one processor can
//! offer what no real sender on the same machine could: the record is written by the
//! program that writes all of them. Nothing is on the wire. Mounts and network lie
//! in namespaces of their own.
#![allow(dead_code, reason = "`main.rs` and `tests/flood.rs` each need a part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use agent::{AgentConfig, AgentError, AgentSettings};
use api::proto::flow::FlowFilter;
use api::proto::observer::get_flows_response::ResponseTypes;
use api::proto::observer::observer_client::ObserverClient;
use api::proto::observer::{GetFlowsRequest, ServerStatusRequest, ServerStatusResponse};
use api::proto::signet::v1::signet_client::SignetClient;
use api::proto::signet::v1::{ListEndpointsRequest, StatusRequest};
use datapath::{Config, Datapath, Limits, TestRun};
use model::{Direction, EndpointRecord, PodName};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A node, a pod on it, and a policy by which it may send to nobody.
const CLUSTER: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDRs: [10.1.0.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: payment, labels: {app: api}}
spec: {nodeName: node-1}
status: {podIPs: [{ip: 10.1.0.5}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: silence, namespace: payment}
spec:
  endpointSelector: {matchLabels: {app: api}}
  egress: [{}]
";

/// Where the maps are, in the folder.
const PINS: &str = "bpf/flood/node-1";

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];
/// How long anything may take that is not measured.
const LONG: Duration = Duration::from_secs(20);

/// A node with a pod that may send nothing, an agent, and the programs.
pub struct World {
    pub client: Client,
    datapath: Datapath,
    agent: Option<JoinHandle<Result<(), AgentError>>>,
}

/// Who asks the agent, and writes its manifests.
pub struct Client {
    folder: PathBuf,
    runtime: tokio::runtime::Runtime,
}

/// What an agent says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Accounts {
    pub attempted: u64,
    pub delivered: u64,
    pub lost: u64,
    pub flows: u64,
    pub seen: u64,
    pub held: u64,
    pub capacity: u64,
}

/// A flood: what it is like, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    pub per_second: u64,
    /// Packets in a row with the same addresses and ports.
    pub equal: u32,
}

/// What happened meanwhile.
#[derive(Debug, Default)]
pub struct Seen {
    pub offered: u64,
    pub took: Duration,
    pub resident: usize,
    /// How long each answer took, the shortest first.
    pub answers: Vec<Duration>,
    /// Processor time of the agent's reading thread.
    pub reading: Duration,
    /// From a manifest's change to the policy in force.
    pub policy: Option<Duration>,
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "not within {LONG:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

impl World {
    /// Needs root.
    pub fn new(folder: &Path) -> Self {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("this needs root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        for name in ["bpf", "cluster", "state"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        mount(Some("bpf"), &folder.join("bpf"), Some("bpf"), MsFlags::empty(), None::<&str>)
            .unwrap();
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("iproute2");
        assert!(up.success());
        // The flood is one pod's: without its quota it would end in the kernel.
        let limits = Limits { drop_records: u32::MAX, ..Limits::default() };
        let pins = folder.join(PINS);
        let config = Config { pins: pins.clone(), cgroup: None, limits };
        let datapath = Datapath::open(&config).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client { folder: folder.to_owned(), runtime };
        client.put(CLUSTER);
        let mut world = Self { client, datapath, agent: None };
        world.start(pins, limits);
        world
    }

    fn start(&mut self, pins: PathBuf, limits: Limits) {
        let mut settings = AgentSettings::new(
            "node-1",
            pins.clone(),
            self.client.folder.join("state"),
            self.client.folder.join("cluster"),
        );
        settings.limits = limits;
        let config = AgentConfig::try_from(settings).unwrap();
        let record = EndpointRecord {
            container_id: "container-1".into(),
            pod: PodName { namespace: "payment".into(), name: "api".into() },
            pod_interface: "eth0".into(),
            host_interface: "lo".into(),
            ifindex: TestRun::ifindex(),
            mac: MAC,
            addresses: vec!["10.1.0.5".parse().unwrap()],
            netns_id: -1,
        };
        fs::create_dir(config.endpoints_dir()).unwrap();
        cni::record::write(&config.endpoints_dir(), &record).unwrap();
        self.agent = Some(thread::spawn(|| agent::run(config)));
        eventually("the agent serves", || {
            if self.agent.as_ref().unwrap().is_finished() {
                panic!("{:?}", self.agent.take().unwrap().join());
            }
            std::os::unix::net::UnixStream::connect(self.client.socket()).is_ok()
        });
        eventually("the pod is installed", || {
            datapath::is_enforced(&pins, TestRun::ifindex()).unwrap()
        });
    }

    /// Ends the agent as an operator does.
    pub fn stop(&mut self) {
        kill(Pid::this(), Signal::SIGTERM).unwrap();
        self.agent.take().unwrap().join().unwrap().unwrap();
    }

    /// One packet from the world arrives at the pod, which nothing forbids.
    pub fn receive(&self) {
        let mut frame = frame();
        frame[..6].copy_from_slice(&MAC);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        frame[26..30].copy_from_slice(&[198, 51, 100, 9]);
        frame[30..34].copy_from_slice(&[10, 1, 0, 5]);
        TestRun::new(&self.datapath).run(Direction::Ingress, &frame, 1).unwrap();
    }

    /// Offers a flood and watches the agent meanwhile.
    pub fn flood(&self, flood: Flood, during: Duration) -> Seen {
        self.watched(during, |stop| self.offer(flood, stop))
    }

    /// The same of another program, `generate` of crate `datapath`, by which the kernel
    /// itself makes packets that all differ.
    pub fn generate(&self, program: &Path, per_second: u64, during: Duration) -> Seen {
        let pins = self.client.folder.join(PINS);
        let arguments = [per_second, during.as_secs()].map(|number| number.to_string());
        self.watched(during, |_| {
            let output = Command::new(program).arg(&pins).args(arguments).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {error}", program.display());
            let text = String::from_utf8(output.stdout).unwrap();
            text.split_whitespace().next().unwrap().parse().unwrap()
        })
    }

    /// Lets somebody offer, who says how much it was, and watches the agent meanwhile.
    fn watched(&self, during: Duration, offer: impl FnOnce(&AtomicBool) -> u64) -> Seen {
        let reading = reading_time();
        let stop = AtomicBool::new(false);
        let (mut seen, offered) = thread::scope(|scope| {
            let client = &self.client;
            let watching = scope.spawn(|| {
                let seen = client.watch(during);
                stop.store(true, Ordering::Relaxed);
                seen
            });
            let offered = offer(&stop);
            (watching.join().unwrap(), offered)
        });
        seen.offered = offered;
        seen.reading = reading_time().saturating_sub(reading);
        seen
    }

    /// Judges frames at a rate; each `equal` of them have ports of their own.
    fn offer(&self, flood: Flood, stop: &AtomicBool) -> u64 {
        let programs = TestRun::new(&self.datapath);
        let started = Instant::now();
        let (mut frame, mut number) = (frame(), 0u64);
        while !stop.load(Ordering::Relaxed) {
            let due = u128::from(flood.per_second) * started.elapsed().as_micros() / 1_000_000;
            if u128::from(number) >= due {
                thread::sleep(Duration::from_micros(200));
                continue;
            }
            let flow = number / u64::from(flood.equal);
            let [.., a, b, c] = flow.to_be_bytes();
            frame[35] = a;
            frame[36..38].copy_from_slice(&[b, c]);
            programs.run(Direction::Egress, &frame, flood.equal).unwrap();
            number += u64::from(flood.equal);
        }
        number
    }
}

impl Drop for World {
    /// The folder cannot go while something is mounted in it.
    fn drop(&mut self) {
        let _ = umount2(&self.client.folder.join("bpf"), MntFlags::MNT_DETACH);
    }
}

impl Client {
    fn put(&self, text: &str) {
        let draft = self.folder.join("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.folder.join("cluster/cluster.yaml")).unwrap();
    }

    /// Where the agent serves.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("state/agent.sock")
    }

    fn status(&self) -> ServerStatusResponse {
        self.runtime.block_on(async {
            let channel = api::client::connect(&self.socket()).await.unwrap();
            let mut client = ObserverClient::new(channel);
            client.server_status(ServerStatusRequest {}).await.unwrap().into_inner()
        })
    }

    /// How many flows that match are in memory.
    pub fn flows(&self, filter: &FlowFilter) -> usize {
        let request = GetFlowsRequest {
            number: u64::MAX,
            whitelist: vec![filter.clone()],
            ..GetFlowsRequest::default()
        };
        self.runtime.block_on(async {
            let channel = api::client::connect(&self.socket()).await.unwrap();
            let answers = ObserverClient::new(channel).get_flows(request).await.unwrap();
            let (mut answers, mut number) = (answers.into_inner(), 0);
            while let Some(answer) = answers.message().await.unwrap() {
                number +=
                    usize::from(matches!(answer.response_types, Some(ResponseTypes::Flow(_))));
            }
            number
        })
    }

    /// The numbers as they stand.
    pub fn accounts(&self) -> Accounts {
        let node = self.runtime.block_on(async {
            let channel = api::client::connect(&self.socket()).await.unwrap();
            let answer = SignetClient::new(channel).status(StatusRequest {}).await.unwrap();
            answer.into_inner().nodes.remove(0)
        });
        let ring = node.rings.iter().find(|ring| ring.name == "drops").unwrap();
        let status = self.status();
        Accounts {
            attempted: ring.attempted,
            delivered: ring.delivered,
            lost: ring.lost,
            flows: node.flows_seen,
            seen: status.seen_flows,
            held: status.num_flows,
            capacity: status.max_flows,
        }
    }

    /// The numbers once everything that was offered is told or told as lost.
    pub fn settled(&self) -> Accounts {
        let mut last = self.accounts();
        let mut since = Instant::now();
        eventually("all is accounted for", || {
            let now = self.accounts();
            let balanced = now.attempted == now.delivered + now.lost && now.flows == now.seen;
            if now != last || !balanced {
                (last, since) = (now, Instant::now());
            }
            // The agent looks at the kernel's counters a few times a second.
            since.elapsed() > Duration::from_secs(2)
        });
        last
    }

    fn revision(&self) -> u32 {
        self.runtime.block_on(async {
            let channel = api::client::connect(&self.socket()).await.unwrap();
            let answer = SignetClient::new(channel).list_endpoints(ListEndpointsRequest {}).await;
            answer.unwrap().into_inner().endpoints[0].revision
        })
    }

    /// Asks and changes the policy while others flood.
    fn watch(&self, during: Duration) -> Seen {
        let started = Instant::now();
        let mut seen = Seen::default();
        let mut change = None;
        while started.elapsed() < during {
            let asked = Instant::now();
            self.status();
            seen.answers.push(asked.elapsed());
            seen.resident = seen.resident.max(resident());
            if change.is_none() && started.elapsed() > during / 3 {
                let before = self.revision();
                self.put(&CLUSTER.replace("silence", "still-silence"));
                change = Some((Instant::now(), before));
            }
            if let Some((at, before)) = change
                && seen.policy.is_none()
                && self.revision() > before
            {
                seen.policy = Some(at.elapsed());
            }
            thread::sleep(Duration::from_millis(50));
        }
        seen.took = started.elapsed();
        seen.answers.sort();
        self.put(CLUSTER);
        seen
    }
}

/// A TCP segment with SYN that the pod sends to the world.
fn frame() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1];
    frame.extend(MAC);
    frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend([10, 1, 0, 5]);
    frame.extend([198, 51, 100, 7]);
    frame.extend([0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    frame
}

/// Bytes of this process that are in memory.
pub fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// Processor time of the thread that reads the rings, to a hundredth of a second.
fn reading_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let ticks = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
        let (name, rest) = text.split_once('(')?.1.rsplit_once(") ")?;
        // User and system time are the 14th and 15th field; the state is the third.
        let mut times = rest.split(' ').skip(11).map(|ticks| ticks.parse::<u64>().ok());
        (name == "records").then(|| Some(times.next()?? + times.next()??))?
    });
    Duration::from_millis(ticks.sum::<u64>() * 10)
}
