//! Real interfaces, real sockets, real processes: a node and two pods in network
//! namespaces of their own, the programs on the side that a pod cannot reach.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use datapath::{Config, Datapath, Desired, Endpoint, Record, RecordReader};
use model::{Attribution, Direction, Layer4, UnknownProcess, Verdict};
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use policy::{Action, Peers, Ports};
use support::*;

const CLIENT: u8 = 2;
const SERVER: u8 = 3;

#[track_caller]
fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Ends with the test, however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Within ten seconds, or the test fails.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{what} did not happen");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A network namespace that lives as long as its one process, and the veth in it.
struct Pod {
    number: u8,
    holder: Running,
    ifindex: u32,
}

impl Pod {
    fn pid(&self) -> u32 {
        self.holder.0.id()
    }

    fn interface(&self) -> String {
        format!("sgt{}", self.number)
    }

    fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 1, 0, self.number)
    }
}

/// A node in namespaces of this thread's own.
struct Site {
    datapath: Datapath,
    reader: RecordReader,
    pins: PathBuf,
    cgroup: PathBuf,
    _folder: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.cgroup);
    }
}

fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2");
    line.split(' ').nth(4).unwrap().into()
}

fn site(name: &str) -> Site {
    let folder = tempfile::tempdir().unwrap();
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("these tests need root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
    run("ip link set lo up; sysctl -qw net.ipv4.ip_forward=1");
    let cgroup = cgroup_root().join(format!("signet-{name}-{}", std::process::id()));
    fs::create_dir_all(&cgroup).unwrap();
    let pins = folder.path().join("node");
    let config = Config { pins: pins.clone(), cgroup: Some(cgroup.clone()), limits: SMALL };
    let datapath = Datapath::open(&config).unwrap_or_else(|error| panic!("{}", chain(&error)));
    for hook in &datapath.features().hooks {
        assert_eq!(hook.missing, None, "{}", hook.name);
    }
    let reader = RecordReader::open(&pins).unwrap();
    Site { datapath, reader, pins, cgroup, _folder: folder }
}

impl Site {
    /// Programs first, link up second.
    fn pod(&self, number: u8) -> Pod {
        let holder = Running(Command::new("unshare").args(["-n", "sleep", "600"]).spawn().unwrap());
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", holder.0.id());
        eventually("a namespace for the pod", || {
            fs::read_link(&theirs).ok().filter(|link| *link != own)
        });
        let mut pod = Pod { number, holder, ifindex: 0 };
        let (host, pid) = (pod.interface(), pod.pid());
        run(&format!(
            "ip link add {host} address 02:00:00:00:01:{number:02x} type veth \
             peer name eth0 address 02:00:00:00:00:{number:02x} netns {pid}"
        ));
        pod.ifindex = if_nametoindex(host.as_str()).unwrap();
        datapath::attach_pod(&self.pins, &host, pod.ifindex)
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        run(&format!(
            "nsenter -t {pid} -n sh -ec 'ip addr add 10.1.0.{number}/32 dev eth0; \
             ip link set lo up; ip link set eth0 up; ip route add 169.254.1.1 dev eth0; \
             ip route add default via 169.254.1.1; \
             ip neigh add 169.254.1.1 lladdr 02:00:00:00:01:{number:02x} dev eth0'; \
             ip link set {host} up; ip route add 10.1.0.{number}/32 dev {host}; \
             ip neigh add 10.1.0.{number} lladdr 02:00:00:00:00:{number:02x} dev {host}"
        ));
        pod
    }

    fn endpoint(&self, pod: &Pod, world: &World, name: &str, table: u32) -> Endpoint {
        let link = run(&format!("ip -o link show {}", pod.interface()));
        let netns_id = link
            .split_whitespace()
            .skip_while(|word| *word != "link-netnsid")
            .nth(1)
            .and_then(|id| id.parse().ok())
            .expect("the kernel numbers the pod's namespace");
        Endpoint {
            id: u32::from(pod.number),
            identity: world.id(name),
            table,
            mac: [2, 0, 0, 0, 0, pod.number],
            ipv4: Some(pod.address()),
            ipv6: None,
            netns_id,
        }
    }

    /// `web` is the client, `pay` the server; the server takes what `ingress` says.
    fn enforce(&mut self, world: &World, pods: [&Pod; 2], ingress: Vec<policy::Rule>) {
        let [client, server] = pods;
        let desired = Desired {
            endpoints: BTreeMap::from([
                (client.ifindex, self.endpoint(client, world, "web", 1)),
                (server.ifindex, self.endpoint(server, world, "pay", 2)),
            ]),
            addresses: BTreeMap::from([
                (IpAddr::from(client.address()), world.id("web")),
                (IpAddr::from(server.address()), world.id("pay")),
            ]),
            prefixes: BTreeMap::new(),
            tables: BTreeMap::from([
                (1, Arc::new(world.table_of("web", vec![]))),
                (2, Arc::new(world.table_of("pay", ingress))),
            ]),
            ..Desired::default()
        };
        self.datapath.apply(&desired).unwrap_or_else(|error| panic!("{}", chain(&error)));
    }

    /// A program in a pod and in the node's cgroup, as a container is.
    fn start(&self, pod: &Pod, command: &str) -> Running {
        let script = format!("echo $$ > {}/cgroup.procs; exec {command}", self.cgroup.display());
        let child = Command::new("nsenter")
            .args(["-t", &pod.pid().to_string(), "-n", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Running(child)
    }

    fn listen(&self, pod: &Pod, port: u16) -> Running {
        let server = self.start(pod, &format!("nc -l -k {} {port}", pod.address()));
        let pid = pod.pid();
        eventually("a listener", || {
            let sockets = run(&format!("nsenter -t {pid} -n ss -Htln"));
            sockets.contains(&format!(":{port} ")).then_some(())
        });
        server
    }

    /// Whether a connection could be made.
    fn connect(&self, pod: &Pod, to: &Pod, port: u16) -> bool {
        let mut client = self.start(pod, &format!("nc -z -w 1 {} {port}", to.address()));
        client.0.wait().unwrap().success()
    }

    fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        self.reader.read(Duration::ZERO, &mut |record| records.push(record.unwrap())).unwrap();
        records
    }
}

fn of(records: &[Record], hook: Direction, port: u16) -> Record {
    let mut found = records.iter().filter(|record| {
        record.hook == hook && record.l4.and_then(Layer4::destination_port) == Some(port)
    });
    found.next().unwrap_or_else(|| panic!("no {hook} record to {port}: {records:#?}")).clone()
}

fn binary(record: &Record) -> String {
    match &record.process {
        Attribution::Known(process) => process.binary.clone(),
        Attribution::Unknown(why) => panic!("the process is unknown: {why}"),
    }
}

/// The file that `nc` is, whatever links lead to it.
fn nc() -> String {
    run("readlink -f $(command -v nc)").trim().to_owned()
}

#[test]
fn a_connection_names_the_processes_of_both_ends() {
    let (mut site, world) = (site("both"), World::new());
    let (client, server) = (site.pod(CLIENT), site.pod(SERVER));
    let rules = vec![rule("in", Direction::Ingress, Action::Allow, app("web"), tcp(8080))];
    site.enforce(&world, [&client, &server], rules);
    let listener = site.listen(&server, 8080);
    assert!(site.connect(&client, &server, 8080));
    let records = site.records();
    let sent = of(&records, Direction::Egress, 8080);
    let received = of(&records, Direction::Ingress, 8080);
    assert_eq!((binary(&sent), binary(&received)), (nc(), nc()));
    let process = received.process.known().unwrap();
    assert_eq!((process.pid, process.uid), (listener.0.id(), 0));
    assert_eq!(process.comm, "nc");
    assert_ne!(sent.cookie, 0);
    assert_eq!(received.peer_cookie, sent.cookie, "the receiver's record names the sender's");
    let folder = fs::metadata(&site.cgroup).unwrap();
    assert_eq!(process.cgroup_id, std::os::unix::fs::MetadataExt::ino(&folder));
}

#[test]
fn a_denied_connection_names_its_sender_and_that_nobody_would_have_listened() {
    let (mut site, world) = (site("denied"), World::new());
    let (client, server) = (site.pod(CLIENT), site.pod(SERVER));
    let rules = vec![rule("in", Direction::Ingress, Action::Allow, app("web"), tcp(8080))];
    site.enforce(&world, [&client, &server], rules);
    let _listener = site.listen(&server, 8081);
    assert!(!site.connect(&client, &server, 8081));
    assert!(!site.connect(&client, &server, 8082));
    let records = site.records();
    let sent = of(&records, Direction::Egress, 8081);
    let denied = of(&records, Direction::Ingress, 8081);
    assert_eq!((sent.verdict, denied.verdict), (Verdict::Forwarded, Verdict::Dropped));
    assert_eq!((binary(&denied), denied.peer_cookie), (nc(), sent.cookie));
    let nobody = of(&records, Direction::Ingress, 8082);
    assert_eq!(nobody.process, Attribution::Unknown(UnknownProcess::NoListener));
    let told = |record: &Record| records.iter().position(|other| other == record).unwrap();
    assert!(told(&sent) < told(&denied), "the sender is told before the drop");
}

#[test]
fn a_pod_that_is_not_installed_yet_reaches_nobody_and_nobody_reaches_it() {
    let (mut site, world) = (site("early"), World::new());
    let (client, server) = (site.pod(CLIENT), site.pod(SERVER));
    assert!(!datapath::is_enforced(&site.pins, client.ifindex).unwrap());
    let _listener = site.listen(&server, 8080);
    assert!(!site.connect(&client, &server, 8080));
    let early = of(&site.records(), Direction::Egress, 8080);
    assert_eq!((early.reason, early.endpoint_id), (203, 0));
    let open = vec![rule("in", Direction::Ingress, Action::Allow, Peers::Any, Ports::All)];
    site.enforce(&world, [&client, &server], open);
    assert!(datapath::is_enforced(&site.pins, client.ifindex).unwrap());
    assert!(site.connect(&client, &server, 8080));
}

#[test]
fn a_pod_that_is_taken_away_leaves_no_pin_and_no_entry() {
    let (mut site, world) = (site("away"), World::new());
    let (client, server) = (site.pod(CLIENT), site.pod(SERVER));
    site.enforce(&world, [&client, &server], vec![]);
    let index = client.ifindex;
    assert!(datapath::is_attached(&site.pins, index).unwrap());
    datapath::detach_pod(&site.pins, index).unwrap();
    assert!(!datapath::is_enforced(&site.pins, index).unwrap());
    datapath::detach_pod(&site.pins, index).unwrap();
    let links = fs::read_dir(site.pins.join("links")).unwrap();
    let left: Vec<_> = links
        .map(|link| link.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(&format!("{index}_")))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn attaching_without_an_agent_s_programs_says_that_none_has_run() {
    let folder = tempfile::tempdir().unwrap();
    let error = datapath::attach_pod(Path::new(folder.path()), "eth0", 1).unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("the agent has never run on this node"), "{text}");
}
