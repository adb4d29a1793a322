//! Connections of a pod can be led through a proxy on the node, by programs after ours
//! and with the marks that are kept for it: ours judge what the pod asks for and know
//! nothing of the proxy. Its listener and its steering are stand-ins.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use abi::mark;
use libbpf_rs::{Object, ObjectBuilder, TC_INGRESS, TcHookBuilder};
use model::{Direction, MatchType, Verdict};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt,
    socket, sockopt,
};
use policy::{Action, Entity, Peer, Peers};
use support::site::*;
use support::*;

use Direction::Egress;

/// What `steer` leads to the proxy, and what it leaves alone.
const STEERED: u16 = 80;
const OTHER: u16 = 82;
const DENIED: u16 = 81;
const LISTENER: u16 = 15001;

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(1500);

static STEER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// Runs `steer` after ours on everything that comes in by these interfaces.
fn steer(interfaces: &[u32]) -> Object {
    let object = ObjectBuilder::default().open_memory(STEER).unwrap().load().unwrap();
    let program = object.progs().find(|program| program.name() == "steer").unwrap();
    for ifindex in interfaces {
        let mut builder = TcHookBuilder::new(program.as_fd());
        builder.ifindex((*ifindex).try_into().unwrap()).handle(1).priority(7);
        let mut place = builder.hook(TC_INGRESS);
        // On clsact the place is there already.
        let _ = place.create();
        place.attach().unwrap();
    }
    run(&format!(
        "for family in -4 -6; do \
             ip $family rule add fwmark {:#x}/{:#x} lookup 100; \
             ip $family route add local default dev lo table 100; \
         done",
        mark::TO_PROXY,
        mark::MASK
    ));
    object
}

/// A stream socket that may have anybody's address (IP_TRANSPARENT, IPV6_TRANSPARENT).
fn transparent(family: AddressFamily) -> OwnedFd {
    const IPV6_TRANSPARENT: libc::c_int = 75;
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let (level, name) = match family {
        AddressFamily::Inet => (libc::SOL_IP, libc::IP_TRANSPARENT),
        _ => (libc::SOL_IPV6, IPV6_TRANSPARENT),
    };
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option is an `int`, which outlives the call, and its size is given.
    let set =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), size) };
    Errno::result(set).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    socket
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Takes one connection meant for somebody else, opens one in the pod's name and hands
/// on what is asked and answered, in capitals.
fn proxy(listener: &TcpListener) -> io::Result<()> {
    let (mut pod, from) = listener.accept()?;
    // The address that the pod asked for is the accepted socket's own.
    let to = pod.local_addr()?;
    let upstream = transparent(family(to.ip()));
    setsockopt(&upstream, sockopt::Mark, &mark::FROM_PROXY)?;
    let own = SocketAddr::new(from.ip(), 0);
    bind(upstream.as_raw_fd(), &SockaddrStorage::from(own))?;
    connect(upstream.as_raw_fd(), &SockaddrStorage::from(to))?;
    let mut upstream = TcpStream::from(upstream);
    for stream in [&pod, &upstream] {
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    let mut text = [0; 5];
    pod.read_exact(&mut text)?;
    upstream.write_all(&text.to_ascii_uppercase())?;
    upstream.read_exact(&mut text)?;
    pod.write_all(&text)
}

/// Answers what it is told, and tells who said it.
fn server(machine: &Pod, at: IpAddr, port: u16) -> thread::JoinHandle<io::Result<IpAddr>> {
    let listener = machine.inside(|| TcpListener::bind((at, port)).unwrap());
    thread::spawn(move || {
        let (mut stream, from) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = [0; 5];
        stream.read_exact(&mut text)?;
        stream.write_all(&text)?;
        Ok(from.ip())
    })
}

/// What comes back to a pod that says something; `None`: nobody answers.
fn ask(pod: &Pod, to: SocketAddr) -> Option<String> {
    pod.inside(|| {
        let mut stream = TcpStream::connect_timeout(&to, SILENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"hello").ok()?;
        let mut text = [0; 5];
        stream.read_exact(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    })
}

fn to_world(port: u16) -> policy::Rule {
    let world = Peers::OneOf(vec![Peer::Entity(Entity::World)]);
    rule("out", Egress, Action::Allow, world, tcp(port))
}

#[test]
fn a_proxy_on_the_node_can_be_put_into_the_path() {
    let mut site = site("proxy");
    let (outside, world) = (outside(), World::new());
    let pod = site.pod(CLIENT);
    let uplink = if_nametoindex("up0").unwrap();
    site.agent().guard_uplinks(&[(uplink, "up0".to_owned())].into());
    site.enforce_all(&world, &[(&pod, "web", vec![to_world(STEERED), to_world(OTHER)])]);
    let pid = outside.pid();
    run(&format!(
        "nsenter -t {pid} -n sh -ec 'ip route add 10.1.0.0/16 via {NODE4}; \
         ip route add fd00:1::/64 via {NODE6}'"
    ));
    let _steer = steer(&[pod.ifindex, uplink]);

    for (own, at) in [
        (IpAddr::from(pod.address()), IpAddr::from(OUT4)),
        (IpAddr::from(pod.address6()), IpAddr::from(OUT6)),
    ] {
        let everybody = if own.is_ipv4() { "0.0.0.0" } else { "::" };
        let everybody = SocketAddr::new(everybody.parse().unwrap(), LISTENER);
        let listener = transparent(family(own));
        bind(listener.as_raw_fd(), &SockaddrStorage::from(everybody)).unwrap();
        listen(&listener, Backlog::new(8).unwrap()).unwrap();
        let listener = TcpListener::from(listener);

        let steered = server(&outside, at, STEERED);
        let (proxied, answer) = thread::scope(|scope| {
            let proxied = scope.spawn(|| proxy(&listener));
            let answer = ask(&pod, SocketAddr::new(at, STEERED));
            (proxied.join().unwrap(), answer)
        });
        proxied.unwrap();
        assert_eq!(answer.as_deref(), Some("HELLO"), "{own} by the proxy");
        assert_eq!(steered.join().unwrap().unwrap(), own, "the server sees the pod");

        let other = server(&outside, at, OTHER);
        let answer = ask(&pod, SocketAddr::new(at, OTHER));
        assert_eq!(answer.as_deref(), Some("hello"), "{own} past the proxy");
        assert_eq!(other.join().unwrap().unwrap(), own);

        // What policy denies nobody is asked about.
        listener.set_nonblocking(true).unwrap();
        let _denied = outside.inside(|| TcpListener::bind((at, DENIED)).unwrap());
        assert_eq!(ask(&pod, SocketAddr::new(at, DENIED)), None);
        site.enforce_all(&world, &[(&pod, "web", vec![to_world(OTHER)])]);
        assert_eq!(ask(&pod, SocketAddr::new(at, STEERED)), None);
        let nobody = listener.accept().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(nobody, Err(io::ErrorKind::WouldBlock));
        site.enforce_all(&world, &[(&pod, "web", vec![to_world(STEERED), to_world(OTHER)])]);
    }
    let records = site.records();
    let allowed = of(&records, Egress, STEERED);
    assert_eq!((allowed.verdict, allowed.match_type), (Verdict::Forwarded, MatchType::L3L4));
    let denied = of(&records, Egress, DENIED);
    assert_eq!((denied.verdict, denied.reason), (Verdict::Dropped, 133));
}
