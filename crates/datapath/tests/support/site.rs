//! A node and pods made of network namespaces: real interfaces, real sockets,
//! real processes, the programs on the side that a pod cannot reach.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use datapath::{Config, Datapath, Desired, Endpoint, Record, RecordReader};
use model::{Attribution, Direction, Layer4};
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};
use policy::{Entity, Peer, Selector, Subject};

use super::*;

pub const CLIENT: u8 = 2;
pub const SERVER: u8 = 3;

/// The node's addresses on its uplink, and those of a machine there.
pub const NODE4: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
pub const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0x20, 0, 0, 0, 0, 1);
pub const OUT4: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 2);
pub const OUT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0x20, 0, 0, 0, 0, 2);

#[track_caller]
pub fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Ends with the test, however the test ends.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Within ten seconds, or the test fails.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
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
pub struct Pod {
    pub number: u8,
    pub holder: Running,
    pub ifindex: u32,
}

impl Pod {
    pub fn pid(&self) -> u32 {
        self.holder.0.id()
    }

    pub fn interface(&self) -> String {
        format!("sgt{}", self.number)
    }

    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 1, 0, self.number)
    }

    pub fn address6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, self.number.into())
    }

    /// Does something in the pod's network namespace; sockets stay there.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        thread::scope(|scope| {
            let enter = || {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                act()
            };
            scope.spawn(enter).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A datagram socket of the pod that is not connected.
    pub fn udp(&self, port: u16) -> UdpSocket {
        self.udp_at(self.address(), port)
    }

    pub fn udp_at(&self, address: impl Into<IpAddr>, port: u16) -> UdpSocket {
        let address = address.into();
        let socket = self.inside(|| UdpSocket::bind((address, port)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket
    }
}

/// A node in namespaces of this thread's own.
pub struct Site {
    /// None: the agent is dead.
    pub datapath: Option<Datapath>,
    limits: Limits,
    pub reader: RecordReader,
    pub pins: PathBuf,
    pub cgroup: PathBuf,
    _folder: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.cgroup);
    }
}

pub fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2");
    line.split(' ').nth(4).unwrap().into()
}

pub fn site(name: &str) -> Site {
    site_with(name, SMALL)
}

pub fn site_with(name: &str, limits: Limits) -> Site {
    let folder = tempfile::tempdir().unwrap();
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("these tests need root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
    run("ip link set lo up; sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let cgroup = cgroup_root().join(format!("signet-{name}-{}", std::process::id()));
    fs::create_dir_all(&cgroup).unwrap();
    let pins = folder.path().join("node");
    let config = Config { pins: pins.clone(), cgroup: Some(cgroup.clone()), limits };
    let datapath = Datapath::open(&config).unwrap_or_else(|error| panic!("{}", chain(&error)));
    for hook in &datapath.features().hooks {
        assert_eq!(hook.missing, None, "{}", hook.name);
    }
    let reader = RecordReader::open(&pins).unwrap();
    Site { datapath: Some(datapath), limits, reader, pins, cgroup, _folder: folder }
}

impl Site {
    /// Programs first, link up second.
    pub fn pod(&self, number: u8) -> Pod {
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
             ip neigh add 169.254.1.1 lladdr 02:00:00:00:01:{number:02x} dev eth0; \
             ip addr add fd00:1::{number}/128 dev eth0 nodad; \
             ip route add fe80::1 dev eth0; ip route add default via fe80::1 dev eth0; \
             ip neigh add fe80::1 lladdr 02:00:00:00:01:{number:02x} dev eth0'; \
             ip link set {host} up; ip route add 10.1.0.{number}/32 dev {host}; \
             ip neigh add 10.1.0.{number} lladdr 02:00:00:00:00:{number:02x} dev {host}; \
             ip route add fd00:1::{number}/128 dev {host}; \
             ip neigh add fd00:1::{number} lladdr 02:00:00:00:00:{number:02x} dev {host}"
        ));
        pod
    }

    pub fn endpoint(&self, pod: &Pod, world: &World, name: &str, table: u32) -> Endpoint {
        let link = run(&format!("ip -o link show {}", pod.interface()));
        let netns_id = link
            .split_whitespace()
            .skip_while(|word| *word != "link-netnsid")
            .nth(1)
            .and_then(|id| id.parse().ok())
            .expect("the kernel numbers the pod's namespace");
        Endpoint {
            id: 10 + u32::from(pod.number),
            identity: world.id(name),
            table,
            mac: [2, 0, 0, 0, 0, pod.number],
            ipv4: Some(pod.address()),
            ipv6: Some(pod.address6()),
            netns_id,
        }
    }

    /// `web` is the client, `pay` the server; the server takes what `ingress` says.
    pub fn enforce(&mut self, world: &World, pods: [&Pod; 2], ingress: Vec<Rule>) {
        let [client, server] = pods;
        self.enforce_all(world, &[(client, "web", vec![]), (server, "pay", ingress)]);
    }

    /// Pods, what each of them is, and rules about it.
    pub fn enforce_all(&mut self, world: &World, pods: &[(&Pod, &str, Vec<Rule>)]) {
        let mut desired = Desired::default();
        for (pod, app, rules) in pods {
            let table = u32::from(pod.number);
            desired.endpoints.insert(pod.ifindex, self.endpoint(pod, world, app, table));
            desired.addresses.insert(IpAddr::from(pod.address()), world.id(app));
            desired.addresses.insert(IpAddr::from(pod.address6()), world.id(app));
            desired.tables.insert(table, Arc::new(world.table_of(app, rules.clone())));
        }
        self.agent().apply(&desired).unwrap_or_else(|error| panic!("{}", chain(&error)));
    }

    /// Ends the agent: what it held open is closed, what is pinned stays.
    pub fn kill_agent(&mut self) {
        self.datapath = None;
    }

    /// The agent, a new one if the last is dead.
    pub fn agent(&mut self) -> &mut Datapath {
        let (pins, cgroup, limits) = (self.pins.clone(), self.cgroup.clone(), self.limits);
        self.datapath.get_or_insert_with(|| {
            let config = Config { pins, cgroup: Some(cgroup), limits };
            Datapath::open(&config).unwrap_or_else(|error| panic!("{}", chain(&error)))
        })
    }

    /// A program in a pod and in the node's cgroup, as a container is.
    pub fn start(&self, pod: &Pod, command: &str) -> Running {
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

    pub fn listen(&self, pod: &Pod, port: u16) -> Running {
        let server = self.start(pod, &format!("nc -l -k {} {port}", pod.address()));
        let pid = pod.pid();
        eventually("a listener", || {
            let sockets = run(&format!("nsenter -t {pid} -n ss -Htln"));
            sockets.contains(&format!(":{port} ")).then_some(())
        });
        server
    }

    /// Whether a connection could be made.
    pub fn connect(&self, pod: &Pod, to: &Pod, port: u16) -> bool {
        let mut client = self.start(pod, &format!("nc -z -w 1 {} {port}", to.address()));
        client.0.wait().unwrap().success()
    }

    pub fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        self.reader.read(Duration::ZERO, &mut |record| records.push(record.unwrap())).unwrap();
        records
    }
}

pub fn of(records: &[Record], hook: Direction, port: u16) -> Record {
    let mut found = records.iter().filter(|record| {
        record.hook == hook && record.l4.and_then(Layer4::destination_port) == Some(port)
    });
    found.next().unwrap_or_else(|| panic!("no {hook} record to {port}: {records:#?}")).clone()
}

pub fn binary(record: &Record) -> String {
    match &record.process {
        Attribution::Known(process) => process.binary.clone(),
        Attribution::Unknown(why) => panic!("the process is unknown: {why}"),
    }
}

/// A machine on the node's link.
pub fn outside() -> Pod {
    let holder = Running(Command::new("unshare").args(["-n", "sleep", "600"]).spawn().unwrap());
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let theirs = format!("/proc/{}/ns/net", holder.0.id());
    eventually("a namespace for the machine", || {
        fs::read_link(&theirs).ok().filter(|link| *link != own)
    });
    let pid = holder.0.id();
    run(&format!(
        "ip link add up0 type veth peer name eth0 netns {pid}; \
         ip addr add {NODE4}/24 dev up0; ip addr add {NODE6}/64 dev up0 nodad; ip link set up0 up; \
         nsenter -t {pid} -n sh -ec 'ip link set lo up; ip addr add {OUT4}/24 dev eth0; \
         ip addr add {OUT6}/64 dev eth0 nodad; ip link set eth0 up'"
    ));
    Pod { number: 200, holder, ifindex: 0 }
}

pub fn about_the_node(direction: Direction, peers: Peers, ports: Ports) -> Rule {
    let subject = Subject::Nodes(Selector::default());
    Rule { subject, ..rule("node", direction, Action::Allow, peers, ports) }
}

pub fn world(port: u16) -> Rule {
    about_the_node(Direction::Ingress, Peers::OneOf(vec![Peer::Entity(Entity::World)]), tcp(port))
}

/// Selects nobody, so denies everything in its direction.
pub fn nobody(direction: Direction) -> Rule {
    about_the_node(direction, Peers::OneOf(vec![]), Ports::All)
}
