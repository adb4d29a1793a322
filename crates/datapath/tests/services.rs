//! Services by real sockets: whom they reach, what they are told, and what
//! happens while the backends change. Servers and clients are on the loopback
//! interface of a network namespace of the test's own; clients are processes in
//! the cgroup whose hooks are under test.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

#[path = "support/client.rs"]
mod client;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use client::Client;
use datapath::{
    ApplyError, Backends, Config, Datapath, Desired, FaultKind, Frontend, Limits, Services,
};
use model::{Direction, Verdict};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use support::*;

const SERVICE: &str = "10.96.0.7:80";
const SERVICE6: &str = "[fd00:10:96::7]:80";
const TCP: u8 = 6;
const UDP: u8 = 17;

#[track_caller]
fn run(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {words}");
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Services with all of their addresses.
fn services(list: &[(&str, u8, u32, &[&str])]) -> Services {
    let mut services = Services::default();
    for (own, protocol, affinity_seconds, ends) in list {
        let own = at(own);
        services.addresses.insert(own.ip());
        let frontend = Frontend { address: own.ip(), port: own.port(), protocol: *protocol };
        let ends = ends.iter().map(|end| at(end)).collect();
        let backends = Backends { ends, affinity_seconds: *affinity_seconds };
        services.frontends.insert(frontend, backends);
    }
    services
}

/// A node whose hooks are on a cgroup of the test's own.
struct Site {
    datapath: Datapath,
    config: Config,
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

impl Site {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("these tests need root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        run("ip link set lo up
             for n in 2 3 4 5; do
                 ip addr add 10.1.0.$n/32 dev lo
                 ip addr add fd00:1::$n/128 dev lo nodad
             done");
        let cgroup = cgroup_root().join(format!("signet-svc-{name}-{}", std::process::id()));
        fs::create_dir_all(&cgroup).unwrap();
        let pins = folder.path().join("node");
        let config = Config { pins, cgroup: Some(cgroup.clone()), limits: SMALL };
        let datapath = Datapath::open(&config).unwrap_or_else(|error| panic!("{}", chain(&error)));
        for hook in &datapath.features().hooks {
            assert_eq!(hook.missing, None, "{}", hook.name);
        }
        Self { datapath, config, cgroup, _folder: folder }
    }

    /// Returns how many elements were written.
    #[track_caller]
    fn apply(&mut self, services: Services) -> usize {
        let desired = Desired { services, ..Desired::default() };
        let applied = self.datapath.apply(&desired);
        applied.unwrap_or_else(|error| panic!("{}", chain(&error))).written
    }

    fn counters(&self) -> datapath::ServiceCounters {
        self.datapath.counters().unwrap().services
    }

    /// What a process of the cgroup answers.
    #[track_caller]
    fn client(&self, act: impl FnOnce() -> String) -> String {
        Client::start(&self.cgroup, act).answer()
    }
}

/// Accepts for ever, and says its own address to whoever comes.
fn tcp_server(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    let name = address.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that is gone already wants no answer.
            let _ = stream.and_then(|mut stream| stream.write_all(name.as_bytes()));
        }
    });
}

/// Answers each datagram with its own address.
fn udp_server(address: &str) {
    let socket = UdpSocket::bind(address).unwrap();
    let name = address.to_owned();
    thread::spawn(move || {
        let mut room = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut room) {
            let _ = socket.send_to(name.as_bytes(), from);
        }
    });
}

/// Who answered, and whom the program was told it talks to.
fn ask(target: SocketAddr) -> String {
    let mut stream = match TcpStream::connect_timeout(&target, Duration::from_secs(3)) {
        Ok(stream) => stream,
        Err(error) => return format!("{:?}", error.kind()),
    };
    let mut name = String::new();
    stream.read_to_string(&mut name).unwrap();
    format!("{name} as {}", stream.peer_addr().map_or_else(|e| e.to_string(), |p| p.to_string()))
}

fn mapped(address: &str) -> SocketAddr {
    let SocketAddr::V4(v4) = at(address) else { panic!("{address}") };
    SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
}

#[test]
fn a_connection_reaches_a_backend_and_is_told_that_it_is_the_service() {
    let mut site = Site::new("tcp");
    tcp_server("10.1.0.2:8080");
    tcp_server("[fd00:1::2]:8080");
    site.apply(services(&[
        (SERVICE, TCP, 0, &["10.1.0.2:8080"]),
        (SERVICE6, TCP, 0, &["[fd00:1::2]:8080"]),
    ]));
    assert_eq!(site.client(|| ask(at(SERVICE))), "10.1.0.2:8080 as 10.96.0.7:80");
    assert_eq!(site.client(|| ask(at(SERVICE6))), "[fd00:1::2]:8080 as [fd00:10:96::7]:80");
    // An IPv6 socket that speaks IPv4.
    let both = site.client(|| ask(mapped(SERVICE)));
    assert_eq!(both, "10.1.0.2:8080 as [::ffff:10.96.0.7]:80");
    assert_eq!(site.counters().translated, 3);
    // Who asks for the backend itself is told so; another port, another protocol
    // and a program outside the cgroup find nobody.
    assert_eq!(site.client(|| ask(at("10.1.0.2:8080"))), "10.1.0.2:8080 as 10.1.0.2:8080");
    assert_eq!(site.client(|| ask(at("10.96.0.7:81"))), "NetworkUnreachable");
    assert_eq!(ask(at(SERVICE)), "NetworkUnreachable");
    assert_eq!(site.counters().translated, 3);
}

/// Sends from a socket of its own family, `rounds` times, and tells each answer.
fn converse(target: SocketAddr, rounds: usize) -> String {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut answers = Vec::new();
    for _ in 0..rounds {
        let mut room = [0; 64];
        let answer = socket.send_to(b"who", target).and_then(|_| socket.recv_from(&mut room));
        answers.push(match answer {
            Ok((length, from)) => {
                format!("{} as {from}", String::from_utf8_lossy(&room[..length]))
            }
            Err(error) => format!("{:?}", error.kind()),
        });
    }
    answers.join("\n")
}

#[test]
fn answers_to_datagrams_come_from_the_service() {
    let mut site = Site::new("udp");
    udp_server("10.1.0.2:5353");
    udp_server("[fd00:1::2]:5353");
    site.apply(services(&[
        (SERVICE, UDP, 0, &["10.1.0.2:5353"]),
        (SERVICE6, UDP, 0, &["[fd00:1::2]:5353"]),
    ]));
    let got = |target: SocketAddr| site.client(move || converse(target, 1));
    assert_eq!(got(at(SERVICE)), "10.1.0.2:5353 as 10.96.0.7:80");
    assert_eq!(got(at(SERVICE6)), "[fd00:1::2]:5353 as [fd00:10:96::7]:80");
    assert_eq!(got(mapped(SERVICE)), "10.1.0.2:5353 as [::ffff:10.96.0.7]:80");
    // The backend itself is itself, also to a socket that asked for the service before.
    assert_eq!(got(at("10.1.0.2:5353")), "10.1.0.2:5353 as 10.1.0.2:5353");
    let both = site.client(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let from = |target: &str| {
            socket.send_to(b"who", target).unwrap();
            socket.recv_from(&mut [0; 64]).unwrap().1.to_string()
        };
        [from(SERVICE), from("10.1.0.2:5353"), from(SERVICE)].join(" ")
    });
    assert_eq!(both, "10.96.0.7:80 10.1.0.2:5353 10.96.0.7:80");
}

#[test]
fn a_connected_datagram_socket_talks_to_one_backend_under_the_services_name() {
    let mut site = Site::new("udpc");
    udp_server("10.1.0.2:5353");
    udp_server("10.1.0.3:5353");
    site.apply(services(&[(SERVICE, UDP, 0, &["10.1.0.2:5353", "10.1.0.3:5353"])]));
    let got = site.client(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(SERVICE).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut names = BTreeSet::new();
        for _ in 0..16 {
            let mut room = [0; 64];
            socket.send(b"who").unwrap();
            let (length, from) = socket.recv_from(&mut room).unwrap();
            assert_eq!(from, at(SERVICE));
            names.insert(room[..length].to_vec());
        }
        format!("{} as {}", names.len(), socket.peer_addr().unwrap())
    });
    assert_eq!(got, "1 as 10.96.0.7:80");
}

#[test]
fn datagrams_of_one_socket_stay_with_one_backend_while_it_serves() {
    let mut site = Site::new("udps");
    let ends = ["10.1.0.2:5353", "10.1.0.3:5353", "10.1.0.4:5353"];
    let ends6 = ["[fd00:1::2]:5353", "[fd00:1::3]:5353", "[fd00:1::4]:5353"];
    ends.iter().chain(&ends6).for_each(|end| udp_server(end));
    site.apply(services(&[(SERVICE, UDP, 0, &ends), (SERVICE6, UDP, 0, &ends6)]));
    for own in [at(SERVICE), at(SERVICE6), mapped(SERVICE)] {
        let mut chosen = BTreeSet::new();
        for _ in 0..24 {
            let answers = site.client(|| converse(own, 4));
            let of_one: BTreeSet<&str> = answers.lines().collect();
            assert_eq!(of_one.len(), 1, "{answers}");
            assert!(answers.ends_with(&format!(" as {own}")), "{answers}");
            chosen.insert(of_one.first().unwrap().to_string());
        }
        // 24 sockets all choose the same of three by accident with 3^-23.
        assert!(chosen.len() > 1, "{chosen:?}");
    }
}

/// Sends to all of them by one socket, then takes as many answers, whichever is first.
fn ask_all(targets: &[&str]) -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    for target in targets {
        socket.send_to(b"who", at(target)).unwrap();
    }
    let answer = |_| {
        let mut room = [0; 64];
        let (length, from) = socket.recv_from(&mut room).unwrap();
        format!("{} as {from}", String::from_utf8_lossy(&room[..length]))
    };
    let mut answers: Vec<String> = targets.iter().map(answer).collect();
    answers.sort();
    answers.join("\n")
}

#[test]
fn two_ports_of_one_backend_are_known_apart_by_a_socket_that_asked_both() {
    let mut site = Site::new("ports");
    let other = "10.96.0.7:81";
    ["10.1.0.2:5353", "10.1.0.2:5354", "10.1.0.2:9999"].iter().for_each(|end| udp_server(end));
    site.apply(services(&[
        (SERVICE, UDP, 0, &["10.1.0.2:5353"]),
        (other, UDP, 0, &["10.1.0.2:5354"]),
    ]));
    let got = |targets: &[&str]| site.client(|| ask_all(targets));
    let both = "10.1.0.2:5353 as 10.96.0.7:80\n10.1.0.2:5354 as 10.96.0.7:81";
    assert_eq!(got(&[SERVICE, other]), both);
    assert_eq!(got(&[other, SERVICE]), both);
    // One port by its service, another by itself: the service is not forgotten.
    let direct = "10.1.0.2:5353 as 10.96.0.7:80\n10.1.0.2:9999 as 10.1.0.2:9999";
    assert_eq!(got(&[SERVICE, "10.1.0.2:9999"]), direct);
    assert_eq!(got(&["10.1.0.2:9999", SERVICE]), direct);
}

#[test]
fn a_service_that_nobody_serves_refuses_at_once_and_is_counted() {
    let mut site = Site::new("none");
    tcp_server("10.1.0.2:8080");
    udp_server("10.1.0.2:5353");
    let with = |tcp: &[&str], udp: &[&str]| {
        services(&[(SERVICE, TCP, 0, tcp), (SERVICE, UDP, 0, udp), (SERVICE6, TCP, 0, &[])])
    };
    site.apply(with(&[], &[]));
    assert_eq!(site.client(|| ask(at(SERVICE))), "ConnectionRefused");
    assert_eq!(site.client(|| ask(at(SERVICE6))), "ConnectionRefused");
    assert_eq!(site.client(|| ask(mapped(SERVICE))), "ConnectionRefused");
    assert_eq!(site.client(|| converse(at(SERVICE), 1)), "ConnectionRefused");
    assert_eq!((site.counters().no_backend, site.counters().translated), (4, 0));
    site.apply(with(&["10.1.0.2:8080"], &["10.1.0.2:5353"]));
    assert_eq!(site.client(|| ask(at(SERVICE))), "10.1.0.2:8080 as 10.96.0.7:80");
    assert_eq!(site.client(|| converse(at(SERVICE), 1)), "10.1.0.2:5353 as 10.96.0.7:80");
    assert_eq!((site.counters().no_backend, site.counters().translated), (4, 2));
    // A service that is gone is an address like any other.
    site.apply(Services::default());
    assert_eq!(site.client(|| ask(at(SERVICE))), "NetworkUnreachable");
}

/// Who answers each of `count` connections.
fn answers(count: usize) -> BTreeSet<String> {
    (0..count).map(|_| ask(at(SERVICE))).collect()
}

#[test]
fn a_client_keeps_its_backend_as_long_as_that_serves() {
    let mut site = Site::new("affinity");
    let ends = ["10.1.0.2:8080", "10.1.0.3:8080", "10.1.0.4:8080", "10.1.0.5:8080"];
    ends.iter().for_each(|end| tcp_server(end));
    // Without affinity all 48 meet the same of four with 4^-47.
    site.apply(services(&[(SERVICE, TCP, 0, &ends)]));
    assert!(site.client(|| answers(48).len().to_string()) != "1");

    site.apply(services(&[(SERVICE, TCP, 3600, &ends)]));
    let one = |site: &Site| site.client(|| answers(24).into_iter().collect::<Vec<_>>().join("\n"));
    let kept = one(&site);
    assert_eq!(kept.lines().count(), 1, "{kept}");
    let backend = kept.split(' ').next().unwrap().to_owned();

    // Others go, and their places are taken: this client does not notice.
    let others: Vec<&str> = ends.into_iter().filter(|end| *end != backend).collect();
    site.apply(services(&[(SERVICE, TCP, 3600, &[others[0], &backend])]));
    assert_eq!(one(&site), kept);
    site.apply(services(&[(SERVICE, TCP, 3600, &ends)]));
    assert_eq!(one(&site), kept);

    // Its own goes: it gets another, and keeps that one when the first is back.
    site.apply(services(&[(SERVICE, TCP, 3600, &others)]));
    let second = one(&site);
    assert_eq!(second.lines().count(), 1, "{second}");
    assert_ne!(second, kept);
    site.apply(services(&[(SERVICE, TCP, 3600, &ends)]));
    assert_eq!(one(&site), second);

    // After a second without use it is free to go elsewhere.
    site.apply(services(&[(SERVICE, TCP, 1, &ends)]));
    let end = Instant::now() + Duration::from_secs(30);
    while site.client(|| ask(at(SERVICE))) == second {
        assert!(Instant::now() < end, "affinity does not end");
        thread::sleep(Duration::from_millis(1100));
    }
}

#[test]
fn affinity_is_of_the_pod_that_asks() {
    let mut site = Site::new("client");
    let ends = ["10.1.0.2:8080", "10.1.0.3:8080", "10.1.0.4:8080", "10.1.0.5:8080"];
    site.apply(services(&[(SERVICE, TCP, 3600, &ends)]));
    // Each asks in a namespace of its own, where every backend is there too.
    let tried: BTreeSet<String> = (0..24)
        .map(|_| {
            site.client(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                run(
                    "ip link set lo up; for n in 2 3 4 5; do ip addr add 10.1.0.$n/32 dev lo; done",
                );
                let servers = ends.map(|end| TcpListener::bind(end).unwrap());
                let _stream = TcpStream::connect(SERVICE).unwrap();
                servers.iter().for_each(|server| server.set_nonblocking(true).unwrap());
                // The client may know of the connection before its server does.
                let end = Instant::now() + Duration::from_secs(10);
                let mut taken = None;
                while taken.is_none() && Instant::now() < end {
                    taken = servers.iter().position(|server| server.accept().is_ok());
                }
                format!("{taken:?}")
            })
        })
        .collect();
    assert!(tried.len() > 1, "24 pods share one backend: {tried:?}");
    assert!(!tried.contains("None"), "{tried:?}");
}

/// A number that parent and child both see.
fn shared() -> &'static AtomicU32 {
    let length = NonZeroUsize::new(4096).unwrap();
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new page, zeroed, aligned, never unmapped, used as an atomic only.
    unsafe {
        let page = mmap_anonymous(None, length, protection, MapFlags::MAP_SHARED).unwrap();
        page.cast::<AtomicU32>().as_ref()
    }
}

#[test]
fn no_connection_goes_to_a_backend_that_was_gone_before_it_began() {
    const GENERATIONS: u32 = 150;
    const PORTS: u32 = 9000;
    let mut site = Site::new("swap");
    let server = |port: u32| tcp_server(&format!("10.1.0.2:{port}"));
    (0..6).for_each(|n| server(PORTS + n));
    // Generation n is served by two ports of six; two generations share none.
    let of = |n: u32| {
        let ends = [0, 1].map(|m| format!("10.1.0.2:{}", PORTS + n % 3 * 2 + m));
        services(&[(SERVICE, TCP, 0, &[&ends[0], &ends[1]])])
    };
    let now = shared();
    site.apply(of(0));
    let client = Client::start(&site.cgroup, || {
        let mut tries = 0;
        loop {
            let before = now.load(Ordering::SeqCst);
            if before >= GENERATIONS {
                return format!("{tries}");
            }
            let answer = ask(at(SERVICE));
            // `apply` may be done while nobody has said so yet.
            let after = now.load(Ordering::SeqCst) + 1;
            let port: Option<u32> = answer
                .split(' ')
                .next()
                .and_then(|end| end.rsplit(':').next())
                .and_then(|port| port.parse().ok());
            let generation = port.map(|port| (port - PORTS) / 2);
            let possible = (before..=after).map(|n| n % 3);
            if !possible.clone().any(|n| generation == Some(n)) {
                return format!("{answer} between generations {before} and {after}");
            }
            tries += 1;
        }
    });
    for n in 1..=GENERATIONS {
        site.apply(of(n));
        now.store(n, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(4));
    }
    let answer = client.answer();
    let tries: Result<u32, _> = answer.parse();
    assert!(tries.is_ok_and(|tries| tries > GENERATIONS), "{answer}");
}

#[test]
fn services_outlive_the_agent_and_what_it_left_half_done_goes() {
    let mut site = Site::new("restart");
    tcp_server("10.1.0.2:8080");
    let wanted = services(&[(SERVICE, TCP, 0, &["10.1.0.2:8080"])]);
    assert!(site.apply(wanted.clone()) > 0);
    assert_eq!(site.apply(wanted.clone()), 0, "nothing is written twice");
    // As if an agent had died with the next set half written.
    let slots = |site: &Site| count(&site.config.pins.join("maps/backends"));
    let stray = [7_u32.to_ne_bytes(), 3_u32.to_ne_bytes()].concat();
    update(&site.config.pins.join("maps/backends"), &stray, &[0; 20]);
    assert_eq!(slots(&site), 2);
    let Site { datapath, config, .. } = &mut site;
    let old = std::mem::replace(datapath, Datapath::open(config).unwrap());
    drop(old);
    assert!(site.datapath.features().taken_over);
    assert_eq!(site.client(|| ask(at(SERVICE))), "10.1.0.2:8080 as 10.96.0.7:80");
    assert_eq!(site.apply(wanted), 1, "the stray slot goes, and that is all");
    assert_eq!(slots(&site), 1);
    assert_eq!(site.client(|| ask(at(SERVICE))), "10.1.0.2:8080 as 10.96.0.7:80");
    site.apply(Services::default());
    assert_eq!((slots(&site), count(&site.config.pins.join("maps/members"))), (0, 0));
    assert_eq!(count(&site.config.pins.join("maps/services")), 0);
}

fn map(path: &Path) -> libbpf_rs::MapHandle {
    libbpf_rs::MapHandle::from_pinned_path(path).unwrap()
}

fn count(path: &Path) -> usize {
    libbpf_rs::MapCore::keys(&map(path)).count()
}

fn update(path: &Path, key: &[u8], value: &[u8]) {
    libbpf_rs::MapCore::update(&map(path), key, value, libbpf_rs::MapFlags::ANY).unwrap();
}

/// What the three maps mean together: by service, its affinity, its backends in
/// the order of their slots, and who is said to be one of them.
type Meaning = BTreeMap<Vec<u8>, (Vec<u8>, Vec<Vec<u8>>, BTreeSet<Vec<u8>>)>;

fn elements(pins: &Path, name: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let map = map(&pins.join("maps").join(name));
    let value = |key: &Vec<u8>| {
        libbpf_rs::MapCore::lookup(&map, key, libbpf_rs::MapFlags::ANY).unwrap().unwrap()
    };
    let mut elements: Vec<_> =
        libbpf_rs::MapCore::keys(&map).map(|key| (key.clone(), value(&key))).collect();
    elements.sort();
    elements
}

/// Fails when a map holds anything that no service leads to.
#[track_caller]
fn meaning(pins: &Path) -> Meaning {
    let [slots, members] = ["backends", "members"].map(|name| elements(pins, name));
    let mut meaning = Meaning::new();
    let mut reached = (0, 0);
    for (key, service) in elements(pins, "services") {
        let (set, count, affinity) = (&service[..4], &service[4..8], &service[8..]);
        let count = u32::from_ne_bytes(count.try_into().unwrap());
        let at = |slot: u32| [set, &slot.to_ne_bytes()].concat();
        let find = |slot| slots.iter().find(|(key, _)| *key == at(slot)).map(|(_, it)| it.clone());
        let ends: Vec<Vec<u8>> = (0..count).map(|slot| find(slot).unwrap()).collect();
        let of_set = members.iter().filter(|(key, _)| key[..4] == *set);
        let of_set: BTreeSet<Vec<u8>> = of_set.map(|(key, _)| key[4..].to_vec()).collect();
        reached = (reached.0 + ends.len(), reached.1 + of_set.len());
        meaning.insert(key, (affinity.to_vec(), ends, of_set));
    }
    assert_eq!(reached, (slots.len(), members.len()), "something is left over");
    meaning
}

#[test]
fn whatever_an_agent_left_behind_the_next_one_puts_right() {
    let mut node = Node::new(SMALL);
    let many: Vec<String> = (1..9).map(|n| format!("10.1.0.{n}:8080")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let services = services(&[
        (SERVICE, TCP, 60, &many),
        (SERVICE, UDP, 0, &many[..2]),
        (SERVICE6, TCP, 0, &["[fd00:1::2]:1"]),
        ("10.96.0.9:1", TCP, 0, &[]),
    ]);
    let wanted = Desired { services, ..Desired::default() };
    node.apply(&wanted);
    let want = meaning(&node.pins());
    assert_eq!(want.len(), 4 + 3, "ports, and addresses");
    let mut dice = 7_u64;
    let mut draw = |below: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(dice >> 33).unwrap() % below
    };
    for _ in 0..6 {
        for _ in 0..=draw(12) {
            let name = ["services", "backends", "members"][draw(3)];
            let path = node.pins().join("maps").join(name);
            let present = elements(&node.pins(), name);
            let Some((key, value)) = present.get(draw(present.len().max(1))) else { continue };
            let (mut key, mut value) = (key.clone(), value.clone());
            match draw(3) {
                0 => libbpf_rs::MapCore::delete(&map(&path), &key).unwrap(),
                1 => {
                    let at = draw(key.len());
                    key[at] ^= 1;
                    update(&path, &key, &value);
                }
                _ => {
                    let at = draw(value.len());
                    value[at] ^= 1;
                    update(&path, &key, &value);
                }
            }
        }
        node = node.reopen();
        node.apply(&wanted);
        assert_eq!(meaning(&node.pins()), want);
    }
}

#[test]
fn services_of_an_agent_that_knew_none_are_added_to_its_state() {
    let mut site = Site::new("older");
    tcp_server("10.1.0.2:8080");
    for name in ["services", "backends", "members", "affinities", "socket_services"] {
        fs::remove_file(site.config.pins.join("maps").join(name)).unwrap();
    }
    site.datapath =
        Datapath::open(&site.config).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(site.datapath.features().taken_over);
    site.apply(services(&[(SERVICE, TCP, 0, &["10.1.0.2:8080"])]));
    assert_eq!(site.client(|| ask(at(SERVICE))), "10.1.0.2:8080 as 10.96.0.7:80");
}

#[test]
fn services_that_do_not_fit_are_refused_whole_and_change_nothing() {
    let limits = Limits { services: 4, backends: 2, ..SMALL };
    let mut node = Node::new(limits);
    let with = |services| Desired { services, ..Desired::default() };
    let fits = services(&[
        (SERVICE, TCP, 0, &["10.1.0.2:1"]),
        (SERVICE, UDP, 0, &["10.1.0.3:1"]),
        ("10.96.0.7:81", TCP, 0, &[]),
    ]);
    node.apply(&with(fits.clone()));
    // Every backend is replaced: the old and the new fit at the same time.
    node.apply(&with(services(&[(SERVICE, TCP, 0, &["10.1.0.4:1", "10.1.0.5:1"])])));
    node.apply(&with(fits.clone()));
    let mut more = fits.clone();
    more.addresses.insert("10.96.0.8".parse::<IpAddr>().unwrap());
    let refused = node.datapath.apply(&with(more)).unwrap_err();
    let want =
        "addresses and ports of services do not fit: 5 needed, 4 is the limit (raise `services`)";
    assert_eq!(refused.to_string(), want);
    let many = services(&[(SERVICE, TCP, 0, &["10.1.0.2:1", "10.1.0.3:1", "10.1.0.4:1"])]);
    let refused = node.datapath.apply(&with(many)).unwrap_err();
    assert!(matches!(refused, ApplyError::TooMany { needed: 3, limit: 2, .. }), "{refused}");
    assert_eq!(node.datapath.apply(&with(fits)).unwrap().written, 0);
}

#[test]
fn a_services_address_on_the_wire_is_dropped_whatever_the_protocol() {
    let own = SERVICE.parse::<SocketAddr>().unwrap().ip();
    let own6 = SERVICE6.parse::<SocketAddr>().unwrap().ip();
    let (mut node, world) = (Node::new(SMALL), World::new());
    let open = world.desired(world.table(vec![]));
    node.apply(&open);
    // Before anybody knows the service, this is a connection to somewhere.
    let frame = |flags| {
        let (from, to) = ((IpAddr::from(POD), 4000), (own, 80));
        segment(Direction::Egress, from, to, flags)
    };
    assert_eq!(node.reason(Direction::Egress, &frame(Tcp::Syn)), 0);

    let services = services(&[(SERVICE, TCP, 0, &[]), (SERVICE6, TCP, 0, &[])]);
    node.apply(&Desired { services, ..open.clone() });
    assert_eq!(node.judge(Direction::Egress, &frame(Tcp::Ack)), Verdict::Forwarded);
    let frames = |v4: IpAddr, v6: IpAddr| {
        use Direction::Egress;
        vec![
            segment(Egress, (IpAddr::from(POD), 4001), (v4, 80), Tcp::Syn),
            segment(Egress, (IpAddr::from(POD), 4001), (v4, 81), Tcp::Syn),
            segment(Egress, (IpAddr::from(POD6), 4001), (v6, 80), Tcp::Syn),
            segment(Egress, (IpAddr::from(POD), 4002), (v4, 80), Tcp::Ack),
            datagram(Egress, (IpAddr::from(POD), 4001), (v4, 53)),
            datagram(Egress, (IpAddr::from(POD6), 4001), (v6, 53)),
            echo(Egress, IpAddr::from(POD), v4, 7, false),
            echo(Egress, IpAddr::from(POD6), v6, 7, false),
            raw(Egress, IpAddr::from(POD), v4, 132, &[0; 12]),
            raw(Egress, IpAddr::from(POD), v4, 253, &[0; 12]),
        ]
    };
    for (at, frame) in frames(own, own6).iter().enumerate() {
        assert_eq!(node.reason(Direction::Egress, frame), 174, "frame {at}");
    }
    for (at, frame) in frames(PEER.into(), PEER6.into()).iter().enumerate() {
        assert_eq!(node.reason(Direction::Egress, frame), 0, "frame {at} to the backend");
    }
    let record = node.record(Direction::Egress, &frames(own, own6)[0]);
    assert_eq!((record.reason, record.verdict), (174, Verdict::Dropped));
    // Nobody speaks from such an address either.
    let from = segment(Direction::Ingress, (own, 80), (IpAddr::from(POD), 4001), Tcp::Syn);
    assert_eq!(node.reason(Direction::Ingress, &from), 174);
    // It is gone, and an address like any other again.
    node.apply(&open);
    assert_eq!(node.reason(Direction::Egress, &frames(own, own6)[0]), 0);
}

#[test]
fn a_service_that_was_led_elsewhere_by_hand_is_led_back() {
    let mut site = Site::new("tampered");
    tcp_server("10.1.0.2:8080");
    tcp_server("10.1.0.3:8080");
    let other = "10.96.0.8:80";
    let desired = Desired {
        services: services(&[
            (SERVICE, TCP, 0, &["10.1.0.2:8080"]),
            (other, TCP, 0, &["10.1.0.3:8080"]),
        ]),
        ..Desired::default()
    };
    site.datapath.apply(&desired).unwrap();
    let pins = site.config.pins.clone();
    let right = ["10.1.0.2:8080 as 10.96.0.7:80", "10.1.0.3:8080 as 10.96.0.8:80"];
    let answers = |site: &Site| [SERVICE, other].map(|own| site.client(|| ask(at(own))));
    assert_eq!(answers(&site), right);
    assert_eq!(site.datapath.check(Some(&desired)), []);

    let swapped = ["10.1.0.3:8080 as 10.96.0.7:80", "10.1.0.2:8080 as 10.96.0.8:80"];
    for name in ["services", "backends"] {
        exchange(&pins, name);
        assert_eq!(answers(&site), swapped, "or nothing is tested");
        check_told(&mut site.datapath, &desired, name);
        assert_eq!(answers(&site), right, "{name}");
    }
    for name in ["services", "backends", "members"] {
        let path = pins.join("maps").join(name);
        for (key, _) in elements(&pins, name) {
            libbpf_rs::MapCore::delete(&map(&path), &key).unwrap();
        }
        check_told(&mut site.datapath, &desired, name);
        assert_eq!(answers(&site), right, "{name}");
    }
    // One more than were written.
    let (mut key, value) = elements(&pins, "backends").remove(0);
    key[4..8].copy_from_slice(&9u32.to_ne_bytes());
    update(&pins.join("maps/backends"), &key, &value);
    check_told(&mut site.datapath, &desired, "backends");
    assert_eq!(answers(&site), right);
    update(&pins.join("maps/node_slice"), &0u32.to_ne_bytes(), &7u64.to_ne_bytes());
    check_told(&mut site.datapath, &desired, "node_slice");
}

/// Gives each of two elements the other's value. Of a service's address itself there
/// is nothing to give.
fn exchange(pins: &Path, name: &str) {
    let says = |(_, value): &(Vec<u8>, Vec<u8>)| value.iter().any(|byte| *byte != 0);
    let two: Vec<_> = elements(pins, name).into_iter().filter(says).collect();
    assert_eq!(two.len(), 2);
    let path = pins.join("maps").join(name);
    update(&path, &two[0].0, &two[1].1);
    update(&path, &two[1].0, &two[0].1);
}

/// One fault of a map, put right at once.
#[track_caller]
fn check_told(datapath: &mut Datapath, desired: &Desired, map: &str) {
    let told = datapath.check(Some(desired));
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((told[0].kind, &told[0].left), (FaultKind::Content, &None));
    assert!(told[0].detail.contains(&format!("`{map}`")), "{told:#?}");
    assert_eq!(datapath.check(Some(desired)), []);
}
