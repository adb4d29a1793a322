//! The whole agent on a real kernel: a pod on a veth, a cluster in a folder.
//!
//! Needs root, a kernel with BTF, and iproute2. Mounts and network live in
//! namespaces of the test's own, so a test that dies leaves nothing.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use agent::{AgentConfig, AgentError, AgentSettings};
use api::flow::detail::Detail;
use api::proto::flow::AgentEventType;
use api::proto::flow::layer4::Protocol;
use api::proto::flow::{Flow, Verdict};
use api::proto::observer::get_flows_response::ResponseTypes;
use api::proto::observer::observer_client::ObserverClient;
use api::proto::observer::{GetAgentEventsRequest, GetFlowsRequest};
use api::proto::signet::v1::signet_client::SignetClient;
use api::proto::signet::v1::{
    ConfirmPoliciesRequest, ListEndpointsRequest, ListPoliciesRequest, NodeStatus, Policy,
    StatusRequest,
};
use model::{EndpointRecord, PodName};
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDRs: [10.1.0.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: payment, labels: {app: api}}
spec: {nodeName: node-1}
status: {podIPs: [{ip: 10.1.0.5}]}
";

/// The pod may send to nobody.
const SILENCE: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: silence, namespace: payment}
spec:
  endpointSelector: {matchLabels: {app: api}}
  egress: [{}]
";

/// The pod may send datagrams to these ports of anybody, an entry each.
fn out(ports: &[u16]) -> String {
    let ports: Vec<String> =
        ports.iter().map(|port| format!("{{port: '{port}', protocol: UDP}}")).collect();
    let ports = ports.join(", ");
    format!(
        "{{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {{name: out, namespace: \
         payment}}, spec: {{endpointSelector: {{matchLabels: {{app: api}}}}, egress: [{{toPorts: \
         [{{ports: [{ports}]}}]}}]}}}}"
    )
}

/// Only other nodes may speak with the node, on these ports; an entry each for both of
/// their identities.
fn guard(ports: &[u16]) -> String {
    let ports: Vec<String> =
        ports.iter().map(|port| format!("{{port: '{port}', protocol: TCP}}")).collect();
    let ports = ports.join(", ");
    format!(
        "{{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {{name: \
         guard}}, spec: {{nodeSelector: {{}}, ingress: [{{fromEntities: [remote-node], toPorts: \
         [{{ports: [{ports}]}}]}}]}}}}"
    )
}

/// More than fit where 12 entries do.
const MANY: [u16; 14] = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27];

const LONG: Duration = Duration::from_secs(20);

struct World {
    folder: tempfile::TempDir,
    pod: File,
    agent: Option<JoinHandle<Result<(), AgentError>>>,
    /// Entries of a policy table.
    entries: Option<u32>,
    runtime: tokio::runtime::Runtime,
}

#[track_caller]
fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2");
    assert!(status.success(), "ip {arguments}");
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "not within {LONG:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A network namespace that lives as long as the file is open.
fn namespace() -> File {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        sender.send(File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
    });
    receiver.recv().unwrap()
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("this test needs root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        for name in ["bpf", "cluster"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let bpf = folder.path().join("bpf");
        mount(Some("bpf"), &bpf, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        ip("link set lo up");
        ip("addr add 192.168.0.1/32 dev lo");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let world = Self { pod: namespace(), folder, agent: None, entries: None, runtime };
        world.put("node.yaml", NODE);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pins(&self) -> PathBuf {
        self.path("bpf/test/node-1")
    }

    /// Writes a manifest as a careful writer does.
    fn put(&self, name: &str, text: &str) {
        let draft = self.path("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.path("cluster").join(name)).unwrap();
    }

    fn start(&mut self) {
        let mut settings =
            AgentSettings::new("node-1", self.pins(), self.path("state"), self.path("cluster"));
        settings.metrics_listen = Some(format!("unix://{}", self.path("metrics.sock").display()));
        if let Some(entries) = self.entries {
            settings.limits.table_entries = entries;
        }
        let config = AgentConfig::try_from(settings).unwrap();
        let socket = config.listen.clone();
        self.agent = Some(thread::spawn(|| agent::run(config)));
        eventually("the agent serves", || {
            if self.agent.as_ref().unwrap().is_finished() {
                panic!("{:?}", self.agent.take().unwrap().join());
            }
            UnixStream::connect(&socket).is_ok()
        });
    }

    fn stop(&mut self) {
        kill(Pid::this(), Signal::SIGTERM).unwrap();
        self.agent.take().unwrap().join().unwrap().unwrap();
        assert!(!self.path("state/agent.sock").exists());
    }

    /// Gives the pod its link, guarded before it is up; returns the interface.
    fn wire(&self) -> u32 {
        let pod = format!("/proc/{}/fd/{}", std::process::id(), self.pod.as_raw_fd());
        ip(&format!("link add sgt5 type veth peer name eth0 netns {pod}"));
        let ifindex = if_nametoindex("sgt5").unwrap();
        datapath::attach_pod(&self.pins(), "sgt5", ifindex).unwrap();
        ip("link set sgt5 address 02:00:00:00:00:01");
        ip("link set sgt5 up");
        ip("route add 10.1.0.5/32 dev sgt5");
        ip("neigh add 10.1.0.5 lladdr 02:00:00:00:00:05 dev sgt5 nud permanent");
        self.inside(|| {
            ip("link set eth0 address 02:00:00:00:00:05");
            ip("addr add 10.1.0.5/32 dev eth0");
            ip("link set eth0 up");
            ip("neigh add 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
            ip("route add default via 169.254.1.1 dev eth0 onlink");
        });
        ifindex
    }

    /// Does something in the pod's network.
    fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(self.pod.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                    act()
                })
                .join()
                .unwrap()
        })
    }

    /// Whether a datagram of the pod arrives at the node.
    fn arrives(&self) -> bool {
        let receiver = UdpSocket::bind("192.168.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let target = receiver.local_addr().unwrap();
        self.inside(|| {
            UdpSocket::bind("10.1.0.5:0").unwrap().send_to(b"x", target).unwrap();
        });
        receiver.recv(&mut [0; 8]).is_ok()
    }

    fn record(&self, ifindex: u32) -> EndpointRecord {
        EndpointRecord {
            container_id: "container-1".into(),
            pod: PodName { namespace: "payment".into(), name: "api".into() },
            pod_interface: "eth0".into(),
            host_interface: "sgt5".into(),
            ifindex,
            mac: [2, 0, 0, 0, 0, 5],
            addresses: vec!["10.1.0.5".parse().unwrap()],
            netns_id: -1,
        }
    }

    fn status(&self) -> NodeStatus {
        self.runtime.block_on(async {
            let channel = api::client::connect(&self.path("state/agent.sock")).await.unwrap();
            let answer = SignetClient::new(channel).status(StatusRequest {}).await.unwrap();
            answer.into_inner().nodes.remove(0)
        })
    }

    fn policies(&self) -> Vec<Policy> {
        self.runtime.block_on(async {
            let channel = api::client::connect(&self.path("state/agent.sock")).await.unwrap();
            let request = ListPoliciesRequest {};
            SignetClient::new(channel).list_policies(request).await.unwrap().into_inner().policies
        })
    }

    fn confirm(&self) -> Result<usize, String> {
        self.runtime.block_on(async {
            let channel = api::client::connect(&self.path("state/agent.sock")).await.unwrap();
            let request = ConfirmPoliciesRequest { names: vec![] };
            let answer = SignetClient::new(channel).confirm_policies(request).await;
            let confirmed = answer.map_err(|status| status.message().to_owned())?.into_inner();
            Ok(confirmed.policies.len())
        })
    }

    /// The pod is there and may not send: a policy of these ports alone is in force.
    fn wired(entries: u32, ports: &[u16]) -> Self {
        let mut world = Self::new();
        world.entries = Some(entries);
        world.put("pod.yaml", POD);
        world.put("out.yaml", &out(ports));
        world.start();
        let ifindex = world.wire();
        cni::record::write(&world.path("state/endpoints"), &world.record(ifindex)).unwrap();
        eventually("the pod is installed", || is_enforced(&world.pins(), ifindex));
        world
    }

    /// Revision and reason of a policy, as they are listed.
    #[track_caller]
    fn listed(&self, name: &str) -> (u32, String) {
        let policies = self.policies();
        let policy = policies.iter().find(|policy| policy.name == name).unwrap();
        assert!(policy.accepted);
        assert_eq!(policy.since.is_some(), policy.revision > 0);
        (policy.revision, policy.reason.clone())
    }

    /// The value of a number in a scrape.
    #[track_caller]
    fn scraped(&self, name: &str) -> f64 {
        let mut socket = UnixStream::connect(self.path("metrics.sock")).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
        text.lines().find_map(value).unwrap_or_else(|| panic!("no `{name}` in {text}"))
    }

    fn endpoint_revision(&self) -> u32 {
        self.runtime.block_on(async {
            let channel = api::client::connect(&self.path("state/agent.sock")).await.unwrap();
            let request = ListEndpointsRequest {};
            let answer = SignetClient::new(channel).list_endpoints(request).await.unwrap();
            answer.into_inner().endpoints[0].revision
        })
    }

    /// The kinds of what the agent has done since it started, in order.
    fn agent_events(&self) -> Vec<AgentEventType> {
        self.runtime.block_on(async {
            let channel = api::client::connect(&self.path("state/agent.sock")).await.unwrap();
            let request = GetAgentEventsRequest::default();
            let mut answers =
                ObserverClient::new(channel).get_agent_events(request).await.unwrap().into_inner();
            let mut kinds = Vec::new();
            while let Some(answer) = answers.message().await.unwrap() {
                kinds.push(answer.agent_event.unwrap().r#type());
            }
            kinds
        })
    }

    /// All flows since the agent started.
    fn flows(&self) -> Vec<Flow> {
        self.runtime.block_on(async {
            let channel = api::client::connect(&self.path("state/agent.sock")).await.unwrap();
            let request = GetFlowsRequest { number: u64::MAX, ..GetFlowsRequest::default() };
            let mut answers =
                ObserverClient::new(channel).get_flows(request).await.unwrap().into_inner();
            let mut flows = Vec::new();
            while let Some(answer) = answers.message().await.unwrap() {
                if let Some(ResponseTypes::Flow(flow)) = answer.response_types {
                    flows.push(flow);
                }
            }
            flows
        })
    }

    /// Waits for a flow of the pod's datagrams with this verdict and drop code.
    #[track_caller]
    fn check_flow(&self, verdict: Verdict, code: i32) -> Flow {
        let wanted = |flow: &Flow| {
            let udp = flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref());
            matches!(udp, Some(Protocol::Udp(_)))
                && flow.verdict() == verdict
                && flow.drop_reason_desc == code
        };
        let mut found = None;
        eventually(&format!("a flow {verdict:?} {code}"), || {
            found = self.flows().into_iter().find(wanted);
            found.is_some()
        });
        found.unwrap()
    }
}

fn is_enforced(pins: &Path, ifindex: u32) -> bool {
    datapath::is_enforced(pins, ifindex).unwrap()
}

#[test]
fn an_agent_enforces_tells_and_leaves_enforcement_behind() {
    let mut world = World::new();
    world.start();
    let ifindex = world.wire();

    assert!(!world.arrives(), "nobody said who this is");
    let flow = world.check_flow(Verdict::Dropped, 203);
    assert_eq!(flow.node_name, "node-1");

    world.put("pod.yaml", POD);
    cni::record::write(&world.path("state/endpoints"), &world.record(ifindex)).unwrap();
    eventually("the pod is installed", || is_enforced(&world.pins(), ifindex));
    assert!(world.arrives(), "no policy selects the pod");
    let flow = world.check_flow(Verdict::Forwarded, 0);
    let (source, destination) = (flow.source.unwrap(), flow.destination.unwrap());
    assert_eq!((source.namespace.as_str(), source.pod_name.as_str()), ("payment", "api"));
    assert_eq!(destination.labels, ["reserved:host"]);
    assert_ne!(source.id, 0);

    let before = world.endpoint_revision();
    world.put("silence.yaml", SILENCE);
    eventually("the policy is in force", || world.endpoint_revision() > before);
    assert!(!world.arrives(), "the policy allows nothing");
    let flow = world.check_flow(Verdict::Dropped, 133);
    let told = Detail::from_any(flow.extensions.as_ref().unwrap()).unwrap();
    assert_eq!(told.because, ["CiliumNetworkPolicy/payment/silence"]);
    let policies = world.policies();
    assert_eq!(policies[0].subjects, ["payment/api"]);
    assert!(policies[0].accepted && policies[0].revision > before);

    let events = world.agent_events();
    for kind in [
        AgentEventType::AgentStarted,
        AgentEventType::EndpointCreated,
        AgentEventType::IpcacheUpserted,
        AgentEventType::PolicyUpdated,
        AgentEventType::EndpointRegenerateSuccess,
    ] {
        assert!(events.contains(&kind), "{kind:?}: {events:?}");
    }

    world.put("silence.yaml", "{");
    eventually("the refusal is shown", || !world.policies()[0].reason.is_empty());
    assert!(!world.arrives(), "a policy that turned bad stays in force");

    eventually("every record is accounted for", || {
        let rings = world.status().rings;
        rings.iter().all(|ring| ring.attempted == ring.delivered + ring.lost)
            && rings.iter().any(|ring| ring.delivered > 0)
    });

    world.stop();
    assert!(is_enforced(&world.pins(), ifindex), "the kernel goes on");
    assert!(!world.arrives());

    world.put("silence.yaml", SILENCE);
    world.start();
    assert!(!world.arrives(), "taken over");
    world.check_flow(Verdict::Dropped, 133);
    let status = world.status();
    assert!(status.features.iter().any(|feature| feature.detail.starts_with("taken over")));
    fs::remove_file(world.path("cluster/silence.yaml")).unwrap();
    eventually("the policy is gone", || world.policies().is_empty());
    assert!(world.arrives());
    assert!(world.agent_events().contains(&AgentEventType::PolicyDeleted));
    world.stop();
}

/// A pod's right outlives its agent also where the next one can make no other of it.
#[test]
fn what_judged_a_pod_goes_on_where_the_next_agent_finds_a_policy_that_does_not_fit() {
    let mut world = World::wired(12, &[53]);
    assert!(!world.arrives(), "no rule names the port");
    world.stop();

    world.put("out.yaml", &out(&MANY));
    world.start();
    assert!(!world.arrives());
    // The policy of before, and not that nobody knows the pod (203).
    let flow = world.check_flow(Verdict::Dropped, 133);
    let told = Detail::from_any(flow.extensions.as_ref().unwrap()).unwrap();
    assert_eq!(told.because, ["CiliumNetworkPolicy/payment/out"]);
    let (revision, reason) = world.listed("out");
    assert!(revision == 0 && reason.ends_with("; the last good one stays"), "{reason}");
    let status = world.status();
    assert_eq!(status.endpoints_not_ready, 0);
    let fault = status.faults.iter().find(|fault| fault.kind == "policy").unwrap();
    assert_eq!(fault.left, "the last good one stays");
    assert!(fault.detail.contains("k8s:app=api"), "{}", fault.detail);
    assert_eq!(world.scraped("signet_policy_setbacks"), 1.0);
    assert_eq!(world.scraped("signet_refusals_total"), 1.0);

    // What lets it send is kept in the same way.
    fs::remove_file(world.path("cluster/out.yaml")).unwrap();
    eventually("the policy is gone", || world.policies().is_empty());
    assert!(world.arrives());
    assert_eq!(world.scraped("signet_policy_setbacks"), 0.0);
    world.stop();
    world.put("out.yaml", &out(&MANY));
    world.start();
    assert!(world.arrives(), "nobody restricted it");
    assert_eq!(world.listed("out").0, 0);
    world.stop();
}

/// Old and new entries together are too many for one table; all else goes on.
#[test]
fn a_table_without_room_for_its_change_keeps_nothing_else_from_changing() {
    let mut world = World::wired(9, &[53, 55, 57, 59, 61]);
    world.stop();
    world.put("out.yaml", &out(&[1, 3, 5, 7, 9]));
    world.put("guard.yaml", &guard(&[22]));
    world.start();
    let (revision, reason) = world.listed("out");
    assert!(
        revision == 0 && reason.contains("old and new entries are 12 together, 9 is the limit"),
        "{reason}"
    );
    let (revision, reason) = world.listed("guard");
    assert!(revision > 0 && reason.is_empty(), "{reason}");
    assert_eq!(world.status().endpoints_not_ready, 0);
    world.put("out.yaml", &out(&[53, 57]));
    eventually("what fits is in force", || world.listed("out").0 > 0);
    assert_eq!(world.listed("out").1, "");
    world.stop();
}

#[test]
fn a_node_stays_guarded_where_the_next_agent_finds_a_policy_that_does_not_fit() {
    let mut world = World::wired(12, &MANY[..2]);
    fs::remove_file(world.path("cluster/out.yaml")).unwrap();
    eventually("the pod is unrestricted", || world.policies().is_empty());
    assert!(world.arrives(), "nobody guards the node");
    world.put("guard.yaml", &guard(&[22]));
    eventually("the node is guarded", || {
        world.policies().iter().any(|policy| policy.name == "guard" && policy.revision > 0)
    });
    assert_eq!(world.confirm(), Ok(1));
    assert!(!world.arrives(), "a pod is no other node");
    world.stop();
    assert!(!world.arrives());

    world.put("guard.yaml", &guard(&MANY));
    world.start();
    assert!(!world.arrives(), "what was confirmed stays");
    let (revision, reason) = world.listed("guard");
    assert!(revision == 0 && reason.ends_with("; the last good one stays"), "{reason}");
    let status = world.status();
    let fault = status.faults.iter().find(|fault| fault.kind == "policy").unwrap();
    assert!(fault.detail.starts_with("the policy of the node cannot be enforced: "));
    let refusal = world.confirm().unwrap_err();
    assert!(refusal.starts_with("nothing is confirmed: "), "{refusal}");

    fs::remove_file(world.path("cluster/guard.yaml")).unwrap();
    eventually("the policy is gone", || world.policies().is_empty());
    assert!(world.arrives());
    world.stop();
}

#[test]
fn a_scrape_says_how_old_the_state_is_and_how_old_it_may_be() {
    let mut world = World::new();
    world.start();
    let age = || world.scraped("signet_source_age_seconds");
    assert_eq!(world.scraped("signet_source_age_bound_seconds"), 5.0);
    assert!(age() <= 6.0, "a look may take a while");
    fs::rename(world.path("cluster"), world.path("away")).unwrap();
    eventually("the state is older than it may be", || age() > 6.0);
    assert_eq!(world.scraped("signet_source_age_bound_seconds"), 5.0);
    fs::rename(world.path("away"), world.path("cluster")).unwrap();
    eventually("it is read again", || age() <= 6.0);
    let age = age();
    world.stop();
    assert!(age <= 6.0);
}
