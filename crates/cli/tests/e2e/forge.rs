//! Frames as somebody forges them who owns the pod's end of the link, byte by byte.
//! Knows no policy.

use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket};

use crate::scene::Scene;

pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
pub const IPIP: u8 = 4;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const FRAGMENT: u8 = 44;

/// A pod's end of its link, for sending past the pod's network stack.
pub struct Wire {
    socket: OwnedFd,
    /// Of the pod.
    pub mac: [u8; 6],
    /// Of the node's end.
    pub gateway: [u8; 6],
}

impl Wire {
    /// The interface of a member.
    pub fn of(scene: &Scene, member: &str, interface: &str) -> Self {
        scene.inside(member, || Self::here(interface))
    }

    /// An interface of the network namespace of this thread.
    pub fn here(interface: &str) -> Self {
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let all = getifaddrs().unwrap().filter(|it| it.interface_name == interface);
        let mut links = all.filter_map(|it| it.address?.as_link_addr().copied());
        let link = links.next().unwrap();
        bind(socket.as_raw_fd(), &link).unwrap();
        Self { socket, mac: link.addr().unwrap(), gateway: gateway(interface) }
    }

    /// Puts a frame on the link.
    pub fn send(&self, frame: &[u8]) {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).unwrap();
    }

    /// A frame of the pod to its node.
    pub fn frame(&self, kind: u16, payload: &[u8]) -> Vec<u8> {
        ethernet((self.mac, self.gateway), kind, payload)
    }
}

/// Of the node's end, as the pod's own table says.
fn gateway(interface: &str) -> [u8; 6] {
    let table = fs::read_to_string("/proc/thread-self/net/arp").unwrap();
    let entry = table.lines().find(|line| line.ends_with(interface)).unwrap();
    let mac = entry.split_whitespace().nth(3).unwrap();
    let bytes: Vec<u8> = mac.split(':').map(|it| u8::from_str_radix(it, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// Source and destination on the link, what it carries, and that.
pub fn ethernet(macs: ([u8; 6], [u8; 6]), kind: u16, payload: &[u8]) -> Vec<u8> {
    [&macs.1[..], &macs.0[..], &kind.to_be_bytes(), payload].concat()
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Default)]
pub struct Part {
    pub id: u16,
    pub offset: u16,
    pub more: bool,
}

/// An IP packet: EtherType and bytes. IPv6 gets a fragment header for a part.
pub fn ip(
    ends: (IpAddr, IpAddr),
    protocol: u8,
    part: Option<Part>,
    payload: &[u8],
) -> (u16, Vec<u8>) {
    match ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let part = part.unwrap_or_default();
            let place = (u16::from(part.more) << 13) | (part.offset / 8);
            let length = u16::try_from(20 + payload.len()).unwrap();
            let mut ip = vec![0x45, 0];
            ip.extend(length.to_be_bytes());
            ip.extend(part.id.to_be_bytes());
            ip.extend(place.to_be_bytes());
            ip.extend([64, protocol, 0, 0]);
            ip.extend(source.octets());
            ip.extend(destination.octets());
            let sum = checksum(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            ip.extend(payload);
            (IPV4, ip)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut body = Vec::new();
            if let Some(part) = part {
                body.extend([protocol, 0]);
                body.extend((part.offset | u16::from(part.more)).to_be_bytes());
                body.extend([0, 0]);
                body.extend(part.id.to_be_bytes());
            }
            body.extend(payload);
            let mut ip = vec![0x60, 0, 0, 0];
            ip.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
            ip.extend([if part.is_some() { FRAGMENT } else { protocol }, 64]);
            ip.extend(source.octets());
            ip.extend(destination.octets());
            ip.extend(body);
            (IPV6, ip)
        }
        (source, destination) => panic!("{source} and {destination} are of different families"),
    }
}

/// A UDP header and its text; nobody here checks the sum.
pub fn udp(source: u16, destination: u16, text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + text.len()).unwrap();
    let words = [source, destination, length, 0];
    words.iter().flat_map(|word| word.to_be_bytes()).chain(text.iter().copied()).collect()
}

/// A TCP header with these flags, and text behind it.
pub fn tcp(source: u16, destination: u16, flags: u8, text: &[u8]) -> Vec<u8> {
    let mut tcp = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    tcp.extend(text);
    tcp
}

/// Over a header whose own sum is zero (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    let mut sum: u32 = words.map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
