//! A node with three pods on veths and a wire to everybody else, and datagrams of both
//! families between them: who can send to whom, told by the sockets that receive.
//!
//! Knows nothing of policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};

/// The ports that everybody listens on; probes call them 1 and 2. One is reached by
/// IPv4, two by IPv6.
pub const PORTS: [u16; 2] = [7001, 7002];

/// What did not arrive after this long is not on its way. Frames between veths
/// are handed over before `send` returns, unless the machine is busy.
const LATE: Duration = Duration::from_millis(8);
const LONG: Duration = Duration::from_secs(5);

/// Somebody with an address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Who {
    /// A pod of the node.
    A,
    /// A pod of the node.
    B,
    /// A pod of the node.
    C,
    /// A pod of another node.
    R,
    /// Somebody in the world.
    W,
}

impl Who {
    pub const ALL: [Self; 5] = [Self::A, Self::B, Self::C, Self::R, Self::W];
    pub const PODS: [Self; 3] = [Self::A, Self::B, Self::C];

    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::A => Ipv4Addr::new(10, 1, 0, 2),
            Self::B => Ipv4Addr::new(10, 1, 0, 3),
            Self::C => Ipv4Addr::new(10, 1, 0, 4),
            Self::R => Ipv4Addr::new(10, 2, 0, 2),
            Self::W => Ipv4Addr::new(198, 51, 100, 7),
        }
    }

    pub fn address6(self) -> Ipv6Addr {
        match self {
            Self::A => "fd00:1::2",
            Self::B => "fd00:1::3",
            Self::C => "fd00:1::4",
            Self::R => "fd00:2::2",
            Self::W => "2001:db8::7",
        }
        .parse()
        .unwrap()
    }

    /// Both addresses.
    pub fn addresses(self) -> [IpAddr; 2] {
        [self.address().into(), self.address6().into()]
    }

    /// The address at which a port is reached, and from which it is asked.
    fn at(self, port: u16) -> IpAddr {
        if port == PORTS[1] { self.address6().into() } else { self.address().into() }
    }

    pub fn mac(self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self.address().octets()[3]]
    }

    /// The node's end of a pod's link.
    pub fn interface(self) -> &'static str {
        match self {
            Self::A => "sgta",
            Self::B => "sgtb",
            Self::C => "sgtc",
            Self::R | Self::W => "wire",
        }
    }

    pub fn ifindex(self) -> u32 {
        if_nametoindex(self.interface()).unwrap()
    }

    fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|who| format!("{who:?}") == text).expect("A, B, C, R or W")
    }
}

/// One question: may datagrams go from one to the other's port?
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub struct Probe {
    pub from: Who,
    pub to: Who,
    pub port: u16,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}>{:?}:{}", self.from, self.to, self.port - PORTS[0] + 1)
    }
}

impl Probe {
    /// `A>B:1`, or `A>B` for both ports.
    fn parse(text: &str) -> Vec<Self> {
        let (ends, port) = text.split_once(':').unwrap_or((text, ""));
        let (from, to) = ends.split_once('>').expect("FROM>TO:PORT");
        let (from, to) = (Who::parse(from), Who::parse(to));
        let named = |number: usize| port.is_empty() || port == number.to_string();
        let ports = (1..).zip(PORTS).filter(|(number, _)| named(*number));
        ports.map(|(_, port)| Self { from, to, port }).collect()
    }
}

pub type Probes = BTreeSet<Probe>;

/// A list of probes, as people write it.
pub fn probes(text: &str) -> Probes {
    text.split_whitespace().flat_map(Probe::parse).collect()
}

/// From everybody to everybody, but for what does not cross the node.
pub fn every_probe() -> Probes {
    let pairs = Who::ALL.into_iter().flat_map(|from| Who::ALL.map(|to| (from, to)));
    let crossing = pairs
        .filter(|(from, to)| from != to && (Who::PODS.contains(from) || Who::PODS.contains(to)));
    crossing.flat_map(|(from, to)| PORTS.map(|port| Probe { from, to, port })).collect()
}

#[track_caller]
pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
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

/// From here on this thread is there.
#[allow(dead_code, reason = "each test file uses a part of it")]
pub fn enter(place: &File) {
    setns(place.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
}

fn inside<T: Send>(place: &File, act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let enter = || {
            setns(place.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            act()
        };
        scope.spawn(enter).join().unwrap()
    })
}

/// The links of a node, in the network namespace of this thread.
pub struct Wires {
    places: BTreeMap<Who, File>,
    receivers: BTreeMap<(Who, u16), UdpSocket>,
    /// Their connections are older than any change.
    standing: BTreeMap<Probe, UdpSocket>,
    batch: u64,
}

impl Wires {
    /// In a new network namespace; links of pods are down.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        ip("link set lo up");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        let mut places: BTreeMap<Who, File> =
            Who::PODS.into_iter().map(|pod| (pod, wire_pod(pod))).collect();
        let outside = wire_outside();
        places.insert(Who::R, outside.try_clone().unwrap());
        places.insert(Who::W, outside);
        let mut wires =
            Self { places, receivers: BTreeMap::new(), standing: BTreeMap::new(), batch: 0 };
        for who in Who::ALL {
            for port in PORTS {
                let socket = wires.socket(who, port, port);
                socket.set_nonblocking(true).unwrap();
                wires.receivers.insert((who, port), socket);
            }
        }
        for (number, probe) in (20_000..).zip(every_probe()) {
            let socket = wires.socket(probe.from, probe.port, number);
            wires.standing.insert(probe, socket);
        }
        wires
    }

    /// Raises the node's end of a pod's link, or takes it down.
    pub fn set(&self, pod: Who, state: &str) {
        ip(&format!("link set {} {state}", pod.interface()));
        if state == "up" {
            // The kernel forgets both when a link goes down.
            let interface = pod.interface();
            let mac = pod.mac().map(|byte| format!("{byte:02x}")).join(":");
            for address in pod.addresses() {
                ip(&format!("route replace {address} dev {interface}"));
                ip(&format!("neigh replace {address} lladdr {mac} dev {interface} nud permanent"));
            }
            inside(&self.places[&pod], await_carrier);
        }
    }

    /// Where somebody is.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub fn place(&self, who: Who) -> File {
        self.places[&who].try_clone().unwrap()
    }

    /// Does something there; sockets stay there.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub fn inside<T: Send>(&self, who: Who, act: impl FnOnce() -> T + Send) -> T {
        inside(&self.places[&who], act)
    }

    /// One that talks to `port`s, bound to a port of its own.
    fn socket(&self, who: Who, port: u16, own: u16) -> UdpSocket {
        let address = (who.at(port), own);
        inside(&self.places[&who], || UdpSocket::bind(address).unwrap())
    }

    /// Tries everything, by old connections and by new ones; what arrives is
    /// among `accepted`, or all that did arrive is returned after a while.
    pub fn arrivals(&mut self, accepted: &[&Probes]) -> Arrivals {
        self.batch += 1;
        let ends = Who::ALL.into_iter().flat_map(|who| PORTS.map(|port| (who, port)));
        let fresh: BTreeMap<(Who, u16), UdpSocket> =
            ends.map(|(who, port)| ((who, port), self.socket(who, port, 0))).collect();
        for (number, (probe, standing)) in (0u32..).zip(&self.standing) {
            let target = (probe.to.at(probe.port), probe.port);
            for (kind, socket) in [(0, standing), (1, &fresh[&(probe.from, probe.port)])] {
                let mut text = self.batch.to_be_bytes().to_vec();
                text.extend(number.to_be_bytes());
                text.push(kind);
                // A link that is down is one way of not arriving.
                let _ = socket.send_to(&text, target);
            }
        }
        let mut arrivals = Arrivals::default();
        let start = Instant::now();
        let mut last = start;
        loop {
            if self.drain(&mut arrivals) {
                last = Instant::now();
            }
            let settled = arrivals.old == arrivals.new && accepted.contains(&&arrivals.old);
            let quiet = last.elapsed() > LATE;
            if quiet && (settled || start.elapsed() > LONG || accepted.is_empty()) {
                return arrivals;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn drain(&self, arrivals: &mut Arrivals) -> bool {
        let probes: Vec<&Probe> = self.standing.keys().collect();
        let mut any = false;
        let mut text = [0; 32];
        for ((who, port), socket) in &self.receivers {
            loop {
                let source = match socket.recv_from(&mut text) {
                    Ok((13, source)) => source,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    other => panic!("{other:?}"),
                };
                any = true;
                if text[..8] != self.batch.to_be_bytes() {
                    continue;
                }
                let probe = *probes[u32::from_be_bytes(text[8..12].try_into().unwrap()) as usize];
                assert_eq!((probe.to, probe.port), (*who, *port));
                assert_eq!(source.ip(), probe.from.at(probe.port));
                let set = if text[12] == 0 { &mut arrivals.old } else { &mut arrivals.new };
                set.insert(probe);
            }
        }
        any
    }
}

/// What arrived.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// By connections that have always been there.
    pub old: Probes,
    /// By new ones.
    pub new: Probes,
}

/// The other end is raised by a queue of the kernel, which a busy machine is late
/// with: what is sent before is lost.
fn await_carrier() {
    let start = Instant::now();
    while start.elapsed() < LONG {
        let shown = Command::new("ip").args(["-o", "link", "show", "eth0"]).output().unwrap();
        if String::from_utf8_lossy(&shown.stdout).contains("state UP") {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("a link that is up has no carrier");
}

fn wire_pod(pod: Who) -> File {
    let place = namespace();
    let (interface, address) = (pod.interface(), pod.address());
    let mac = pod.mac().map(|byte| format!("{byte:02x}")).join(":");
    let node = format!("02:00:00:00:01:{:02x}", address.octets()[3]);
    let target = format!("/proc/{}/fd/{}", std::process::id(), place.as_raw_fd());
    ip(&format!(
        "link add {interface} address {node} type veth peer name eth0 address {mac} netns {target}"
    ));
    // No link-local addresses: the kernel says nothing of its own.
    ip(&format!("link set {interface} addrgenmode none"));
    inside(&place, || {
        ip("link set eth0 addrgenmode none");
        ip(&format!("addr add {address}/32 dev eth0"));
        ip(&format!("addr add {}/128 dev eth0 nodad", pod.address6()));
        ip("link set eth0 up");
        for (family, gateway) in [("-4", "169.254.1.1"), ("-6", "fe80::1")] {
            ip(&format!("{family} route add {gateway} dev eth0"));
            ip(&format!("{family} route add default via {gateway} dev eth0"));
            ip(&format!("neigh add {gateway} lladdr {node} dev eth0 nud permanent"));
        }
    });
    place
}

fn wire_outside() -> File {
    let place = namespace();
    let target = format!("/proc/{}/fd/{}", std::process::id(), place.as_raw_fd());
    let (near, far) = ("02:00:00:00:02:01", "02:00:00:00:02:02");
    ip(&format!(
        "link add wire address {near} type veth peer name eth0 address {far} netns {target}"
    ));
    ip("addr add 192.0.2.1/24 dev wire");
    ip("addr add fd00:192::1/64 dev wire nodad");
    ip("link set wire up");
    // Nobody has to ask, which takes a second where the first question is lost.
    ip(&format!("neigh add fd00:192::2 lladdr {far} dev wire nud permanent"));
    inside(&place, || {
        ip("addr add 192.0.2.2/24 dev eth0");
        ip("addr add fd00:192::2/64 dev eth0 nodad");
        for who in [Who::R, Who::W] {
            ip(&format!("addr add {}/32 dev lo", who.address()));
            ip(&format!("addr add {}/128 dev lo nodad", who.address6()));
        }
        ip("link set eth0 up");
        ip(&format!("neigh add fd00:192::1 lladdr {near} dev eth0 nud permanent"));
        ip("route add default via 192.0.2.1");
        ip("-6 route add default via fd00:192::1");
    });
    for who in [Who::R, Who::W] {
        ip(&format!("route add {} via 192.0.2.2", who.address()));
        ip(&format!("route add {} via fd00:192::2", who.address6()));
    }
    place
}
