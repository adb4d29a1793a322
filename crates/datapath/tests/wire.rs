//! Real sockets over real interfaces: datagrams larger than a frame, SCTP, marks.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use abi::mark;
use datapath::TestRun;
use model::{Direction, Verdict};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn,
    SockaddrStorage, accept, bind, connect, listen, send, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use policy::Action;
use support::site::*;
use support::*;

use Direction::{Egress, Ingress};

const OPEN: u16 = 5000;
const CLOSED: u16 = 5001;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Two pods; the server takes UDP and SCTP on one port.
fn pair(name: &str) -> (Site, Pod, Pod) {
    let mut site = site(name);
    let (client, server) = (site.pod(2), site.pod(3));
    let rules = [UDP, SCTP]
        .map(|protocol| rule("in", Ingress, Action::Allow, app("web"), numbered(protocol, OPEN)));
    site.enforce(&World::new(), [&client, &server], rules.to_vec());
    (site, client, server)
}

fn received(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 65536];
    let (length, _) = socket.recv_from(&mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

#[test]
fn a_datagram_of_many_frames_arrives_where_it_is_allowed() {
    let (site, client, server) = pair("large");
    let text: Vec<u8> = (0..8192u32).map(|at| (at / 7) as u8).collect();
    let ends: [(IpAddr, IpAddr); 2] = [
        (client.address().into(), server.address().into()),
        (client.address6().into(), server.address6().into()),
    ];
    for (from, to) in ends {
        let (open, closed) = (server.udp_at(to, OPEN), server.udp_at(to, CLOSED));
        let sender = client.udp_at(from, 0);
        for turn in 0..20 {
            sender.send_to(&text, (to, CLOSED)).unwrap();
            sender.send_to(&text, (to, OPEN)).unwrap();
            assert!(received(&open).as_ref() == Some(&text), "{to}, turn {turn}");
        }
        assert_eq!(received(&closed), None, "{to}");
        // And the largest there is.
        let largest = vec![7; 65_507 - 20];
        sender.send_to(&largest, (to, OPEN)).unwrap();
        assert!(received(&open).is_some_and(|got| got == largest), "{to}");
    }
    let denied = site.records().into_iter().filter(|record| record.verdict == Verdict::Dropped);
    assert!(denied.into_iter().any(|record| record.reason == 133), "the first parts");
}

/// A part of a datagram, as whoever owns the pod can send it.
fn part(ends: (&Pod, &Pod), id: u16, offset: u16, more: bool, payload: &[u8]) {
    let (from, to) = (ends.0.address(), ends.1.address());
    let mut packet = raw(Egress, from, to, UDP, payload)[14..].to_vec();
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&((u16::from(more) << 13) | (offset / 8)).to_be_bytes());
    ends.0.inside(|| {
        let kind = (AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let socket = socket(kind.0, kind.1, kind.2, SockProtocol::Raw).unwrap();
        let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
        sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
    });
}

/// Puts a frame on the pod's end of its link, past the pod's network stack.
fn put(pod: &Pod, frame: &[u8]) {
    pod.inside(|| {
        let kind = (AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let socket = socket(kind.0, kind.1, kind.2, None).unwrap();
        let mut all = getifaddrs().unwrap().filter(|it| it.interface_name == "eth0");
        let link = all.find_map(|it| it.address?.as_link_addr().copied()).unwrap();
        bind(socket.as_raw_fd(), &link).unwrap();
        send(socket.as_raw_fd(), frame, MsgFlags::empty()).unwrap();
    });
}

/// The kernel takes a tag out of what comes in before any program sees it, and leaves a
/// frame like any other.
#[test]
fn a_tagged_frame_of_a_pod_goes_nowhere() {
    const VLAN: u8 = 182;
    let (site, client, server) = pair("tagged");
    let receiver = server.udp(OPEN);
    let mut plain = datagram(Egress, (client.address(), 9), (server.address(), OPEN));
    plain[..6].copy_from_slice(&[2, 0, 0, 0, 1, client.number]);
    plain[6..12].copy_from_slice(&[2, 0, 0, 0, 0, client.number]);
    put(&client, &plain);
    assert_eq!(received(&receiver).as_deref(), Some(&b"signet"[..]));
    // A priority alone, which the kernel would deliver, a VLAN, a service's, and two.
    let tags: [&[u8]; 4] = [
        &[0x81, 0, 0xe0, 0],
        &[0x81, 0, 0, 7],
        &[0x88, 0xa8, 0, 7],
        &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8],
    ];
    for tag in tags {
        let mut tagged = plain.clone();
        tagged.splice(12..12, tag.iter().copied());
        put(&client, &tagged);
        let record = eventually(&format!("the drop of {tag:02x?}"), || {
            site.records().into_iter().find(|record| record.reason == VLAN)
        });
        assert_eq!((record.verdict, record.ifindex), (Verdict::Dropped, client.ifindex));
    }
    put(&client, &plain);
    assert_eq!(received(&receiver).as_deref(), Some(&b"signet"[..]));
    assert_eq!(received(&receiver), None, "nothing that was tagged");
}

/// A UDP header over so much text, without a sum.
fn header(port: u16, text: &[u8], total: u16) -> Vec<u8> {
    let words = [4000, port, 8 + total, 0];
    words.iter().flat_map(|word: &u16| word.to_be_bytes()).chain(text.iter().copied()).collect()
}

#[test]
fn what_a_receiver_puts_together_is_what_was_judged() {
    let (_site, client, server) = pair("overlap");
    let ends = (&client, &server);
    let (open, closed) = (server.udp(OPEN), server.udp(CLOSED));
    let (head, tail) = ([b'h'; 24], [b't'; 16]);
    let total = (head.len() + tail.len()) as u16;
    // In order.
    part(ends, 1, 0, true, &header(OPEN, &head, total));
    part(ends, 1, 32, false, &tail);
    assert_eq!(received(&open), Some([&head[..], &tail].concat()));
    // The last part first: it is dropped, and nothing comes of the rest.
    part(ends, 2, 32, false, &tail);
    part(ends, 2, 0, true, &header(OPEN, &head, total));
    assert_eq!(received(&open), None);
    // Another first part over the first one: to a port that is closed, before and after.
    part(ends, 3, 0, true, &header(CLOSED, &head, total));
    part(ends, 3, 0, true, &header(OPEN, &head, total));
    part(ends, 3, 0, true, &header(CLOSED, &head, total));
    part(ends, 3, 32, false, &tail);
    assert_eq!(received(&open), Some([&head[..], &tail].concat()));
    // Parts that reach into the header of the first.
    part(ends, 4, 0, true, &header(OPEN, &head, total));
    part(ends, 4, 0, true, &header(CLOSED, &[], total));
    part(ends, 4, 32, false, &tail);
    let _ = received(&open);
    // A closed port's datagram, with the ports of an open one's first.
    part(ends, 5, 0, true, &header(OPEN, &[b'x'; 16], 16));
    part(ends, 5, 0, true, &header(CLOSED, &head, total));
    part(ends, 5, 32, false, &tail);
    let _ = received(&open);
    assert_eq!(received(&closed), None, "nothing reaches the closed port");
}

/// Whether this kernel has SCTP. Debian's must; where no modules are it cannot.
fn has_sctp() -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let modules = Path::new("/lib/modules").join(release).join("kernel/net/sctp");
    if modules.exists() {
        run("modprobe sctp");
    }
    match sctp() {
        Ok(_) => true,
        Err(Errno::EPROTONOSUPPORT) if !modules.exists() => {
            println!("no SCTP in this kernel: judged on crafted frames only, see protocols.rs");
            false
        }
        Err(error) => panic!("{error}, although {} is there", modules.display()),
    }
}

fn sctp() -> Result<OwnedFd, Errno> {
    // SAFETY: three integers; the library's type does not offer SCTP for streams.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP) };
    // SAFETY: a descriptor that the kernel has just made and nobody else owns.
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

#[test]
fn sctp_associations_are_made_where_they_are_allowed() {
    let (site, client, server) = pair("sctp");
    if !has_sctp() {
        return;
    }
    for (port, allowed) in [(OPEN, true), (CLOSED, false)] {
        let to: SockaddrStorage = SocketAddr::from((server.address(), port)).into();
        let listener = server.inside(|| {
            let socket = sctp().unwrap();
            bind(socket.as_raw_fd(), &to).unwrap();
            listen(&socket, Backlog::new(5).unwrap()).unwrap();
            socket
        });
        let answer = thread::spawn(move || {
            let Ok(fd) = accept(listener.as_raw_fd()) else { return };
            // SAFETY: a descriptor that the kernel has just made and nobody else owns.
            let mut stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
            let mut text = [0; 5];
            stream.read_exact(&mut text).unwrap();
            stream.write_all(&text).unwrap();
        });
        let echoed = client.inside(|| {
            let socket = sctp().unwrap();
            setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(3)).unwrap();
            connect(socket.as_raw_fd(), &to).ok()?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut text = [0; 5];
            stream.read_exact(&mut text).ok()?;
            Some(text)
        });
        assert_eq!(echoed, allowed.then_some(*b"hello"), "port {port}");
        if allowed {
            answer.join().unwrap();
        }
    }
    let records = site.records();
    let denied = of(&records, Ingress, CLOSED);
    assert_eq!((denied.verdict, denied.reason), (Verdict::Dropped, 133));
}

#[test]
fn no_mark_of_ours_comes_out_of_a_pod() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![])));
    let frame = datagram(Egress, (POD, 1), (PEER, 2));
    let after = |mark| TestRun::new(&node.datapath).mark_after(Egress, &frame, mark).unwrap();
    for ours in [mark::TO_PROXY, mark::FROM_PROXY, mark::MASK] {
        assert_eq!(after(ours), 0);
        assert_eq!(after(ours | 0x4001), 0x4001, "those of others are theirs");
    }
}

#[test]
fn a_mark_that_a_pod_sets_steers_nothing_on_the_node() {
    let (_site, client, server) = pair("mark");
    // Whatever carries the mark on the node goes nowhere.
    let mark = mark::TO_PROXY | 1;
    run(&format!("ip rule add fwmark {mark} lookup 77; ip route add blackhole default table 77"));
    let receiver = server.udp(OPEN);
    let sender = client.udp(6000);
    setsockopt(&sender, sockopt::Mark, &mark).unwrap();
    sender.send_to(b"marked", (server.address(), OPEN)).unwrap();
    assert_eq!(received(&receiver).as_deref(), Some(&b"marked"[..]));
    // The rule does catch what is marked on the node itself.
    let own = UdpSocket::bind("0.0.0.0:0").unwrap();
    run("ip addr add 10.1.0.1/32 dev lo");
    own.send_to(b"plain", (server.address(), OPEN)).ok();
    setsockopt(&own, sockopt::Mark, &mark).unwrap();
    assert!(own.send_to(b"marked", (server.address(), OPEN)).is_err());
}
