//! What the hostile pod runs: its first act is to open a raw socket, the second to
//! send frames past the kernel's own network stack, as fast as it can.
//!
//! Knows no policy. It is told whom to send to and whose address to steal; its own
//! addresses it sees on its interface.

use std::fs;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, send, socket};

use crate::frame::{self, Ends, Kind};

/// The first word of the command line that makes this program the sender.
pub const WORD: &str = "raw-frames";
/// The port that is open to the pod at the receivers, and one that is not.
pub const OPEN: u16 = 8080;
/// A port that is not.
pub const CLOSED: u16 = 9090;

const INTERFACE: &str = "eth0";
/// Rounds without a pause; after these the pod leaves others some time.
const FLAT_OUT: u32 = 100;
const PAUSE: Duration = Duration::from_millis(2);
/// Nobody ends it when the test dies.
const LIMIT: Duration = Duration::from_secs(30);

/// The pod's end of its link.
struct Own {
    link: LinkAddr,
    addresses: Vec<IpAddr>,
}

/// `words`: the receivers' addresses, then the neighbour's after a `-`.
pub fn run(words: &[String]) {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
    let own = own();
    bind(socket.as_raw_fd(), &own.link).unwrap();
    let frames = frames(&own, gateway(), words);
    let end = Instant::now() + LIMIT;
    for round in 0.. {
        for frame in &frames {
            // A full queue is no reason to stop.
            let _ = send(socket.as_raw_fd(), frame, MsgFlags::empty());
        }
        if round >= FLAT_OUT {
            thread::sleep(PAUSE);
        }
        if Instant::now() > end {
            return;
        }
    }
}

fn own() -> Own {
    let of_interface = || getifaddrs().unwrap().filter(|it| it.interface_name == INTERFACE);
    let addresses = || of_interface().filter_map(|it| it.address);
    let link = addresses().find_map(|it| it.as_link_addr().copied()).unwrap();
    let address = |it: nix::sys::socket::SockaddrStorage| {
        let v4 = it.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        v4.or_else(|| it.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
    };
    let is_global =
        |address: &IpAddr| !matches!(address, IpAddr::V6(it) if it.is_unicast_link_local());
    Own { link, addresses: addresses().filter_map(address).filter(is_global).collect() }
}

/// The MAC of the node's end of the link.
fn gateway() -> [u8; 6] {
    let table = fs::read_to_string("/proc/net/arp").unwrap();
    let entry = table.lines().find(|line| line.ends_with(INTERFACE)).unwrap();
    let mac = entry.split_whitespace().nth(3).unwrap();
    let bytes: Vec<u8> = mac.split(':').map(|it| u8::from_str_radix(it, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// One frame of each kind to each receiver.
fn frames(own: &Own, gateway: [u8; 6], words: &[String]) -> Vec<Vec<u8>> {
    let mac = own.link.addr().unwrap();
    // Locally administered as the true one is, and another one.
    let stolen_mac = [mac[0], mac[1], mac[2], mac[3], mac[4], !mac[5]];
    let mut lists = words.split(|word| word == "-");
    let mut addresses = || {
        let words = lists.next().unwrap_or_default();
        words.iter().map(|word| word.parse().unwrap()).collect::<Vec<IpAddr>>()
    };
    let (receivers, neighbour) = (addresses(), addresses());
    let of_family = |list: &[IpAddr], like: &IpAddr| {
        *list.iter().find(|address| address.is_ipv4() == like.is_ipv4()).unwrap()
    };
    let mut frames = Vec::new();
    for receiver in &receivers {
        let source = of_family(&own.addresses, receiver);
        for kind in Kind::ALL {
            let mut ends =
                Ends { macs: (mac, gateway), addresses: (source, *receiver), port: OPEN };
            match kind {
                Kind::Allowed => {}
                Kind::OtherPort => ends.port = CLOSED,
                Kind::StolenAddress => ends.addresses.0 = of_family(&neighbour, receiver),
                Kind::StolenMac => ends.macs.0 = stolen_mac,
            }
            frames.push(frame::build(kind, &ends));
        }
    }
    frames
}
