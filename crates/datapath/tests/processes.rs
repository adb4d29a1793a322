//! Whose socket it was: accepted, unconnected, raw, multipath, older than the agent;
//! and where nobody can say, the reason, counted.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process;

use datapath::Record;
use model::{Attribution, Direction, Layer4, UnknownProcess};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, connect, listen,
    send, socket,
};
use policy::{Action, Ports};
use support::site::*;
use support::*;

use Direction::{Egress, Ingress};

const PORT: u16 = 7000;

/// Two pods that may talk; the server is guarded, so that its side is told.
fn pair(name: &str) -> (Site, Pod, Pod) {
    let mut site = site(name);
    let (client, server) = (site.pod(2), site.pod(3));
    let all = rule("in", Ingress, Action::Allow, app("web"), Ports::All);
    site.enforce(&World::new(), [&client, &server], vec![all]);
    (site, client, server)
}

/// This process among those of the node's pods; back where it was when dropped.
struct Joined {
    home: PathBuf,
}

impl Joined {
    fn of(site: &Site) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        let home = cgroup_root().join(path);
        enter(&site.cgroup);
        Self { home }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let _ = fs::write(self.home.join("cgroup.procs"), process::id().to_string());
    }
}

fn enter(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), process::id().to_string()).unwrap();
}

#[track_caller]
fn check_own(record: &Record) {
    let Attribution::Known(process) = &record.process else { panic!("{record:?}") };
    assert_eq!(process.pid, process::id());
    let own = std::env::current_exe().unwrap();
    let name = own.file_name().unwrap().to_str().unwrap();
    assert!(process.binary.ends_with(name), "{}", process.binary);
}

/// A record of a protocol, from the pod that sent the frame or the one that got it.
#[track_caller]
fn by_protocol(records: &[Record], hook: Direction, wanted: fn(&Layer4) -> bool) -> Record {
    let of_hook = |record: &&Record| record.hook == hook && record.l4.as_ref().is_some_and(wanted);
    records.iter().find(of_hook).unwrap_or_else(|| panic!("{records:#?}")).clone()
}

fn is_udp(layer4: &Layer4) -> bool {
    matches!(layer4, Layer4::Udp { .. })
}

#[test]
fn datagrams_of_sockets_that_are_not_connected_name_both_ends() {
    let (site, client, server) = pair("udp");
    let _joined = Joined::of(&site);
    let (sender, receiver) = (client.udp(0), server.udp(PORT));
    sender.send_to(b"x", (server.address(), PORT)).unwrap();
    assert!(receiver.recv_from(&mut [0; 8]).is_ok());
    let records = site.records();
    check_own(&by_protocol(&records, Egress, is_udp));
    check_own(&by_protocol(&records, Ingress, is_udp));
}

#[test]
fn an_accepted_connection_s_answers_are_its_listener_s() {
    let (mut site, client, server) = pair("accepted");
    let _joined = Joined::of(&site);
    let to = SocketAddr::from((server.address(), PORT));
    let listener = server.inside(|| TcpListener::bind(to).unwrap());
    let _client = client.inside(|| TcpStream::connect(to).unwrap());
    let (mut accepted, _) = listener.accept().unwrap();
    let records = site.records();
    check_own(&of(&records, Egress, PORT));
    check_own(&of(&records, Ingress, PORT));
    // The server's pod may answer no more: what its accepted socket sends is told.
    let other = rule("in", Ingress, Action::Allow, app("dev"), Ports::All);
    site.enforce(&World::new(), [&client, &server], vec![other]);
    std::io::Write::write_all(&mut accepted, b"late").unwrap();
    let denied = eventually("the drop is told", || {
        let drops = |record: &Record| record.reason == 133 && record.hook == Egress;
        site.records().into_iter().find(drops)
    });
    check_own(&denied);
}

/// One process, one socket, two programs: what each of them sends is its own.
#[test]
fn a_socket_that_is_kept_over_an_exec_is_the_later_program_s() {
    let (site, client, server) = pair("exec");
    let _joined = Joined::of(&site);
    let sender = client.udp(0);
    fcntl(&sender, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let (to, later) = (SocketAddr::from((server.address(), PORT)), PORT + 1);
    let script = format!(
        r#"open(my $socket, "+<&=", {}) or die; my $to = pack_sockaddr_in({later}, inet_aton("{}"));
           send($socket, "x", 0, $to) or die"#,
        sender.as_raw_fd(),
        server.address(),
    );
    let mut command = process::Command::new("perl");
    command.args(["-MSocket", "-e", &script]);
    // SAFETY: the child only sends by a socket that it has inherited.
    unsafe { command.pre_exec(move || sender.send_to(b"x", to).map(drop)) };
    let mut child = Running(command.spawn().unwrap());
    assert!(child.0.wait().unwrap().success());
    let records = site.records();
    let of_port = |port| match of(&records, Egress, port).process {
        Attribution::Known(process) => process,
        Attribution::Unknown(why) => panic!("to {port}: {why}"),
    };
    let (before, after) = (of_port(PORT), of_port(later));
    assert_eq!((before.pid, after.pid), (child.0.id(), child.0.id()));
    let own = std::env::current_exe().unwrap();
    assert!(before.binary.ends_with(own.file_name().unwrap().to_str().unwrap()), "{before:?}");
    assert_eq!((after.binary.rsplit('/').next(), after.comm.as_str()), (Some("perl"), "perl"));
    assert_ne!(before.comm, after.comm);
}

#[test]
fn a_raw_socket_names_its_process() {
    let (site, client, server) = pair("raw");
    let mut ping = site.start(&client, &format!("ping -c 1 -W 2 {}", server.address()));
    assert!(ping.0.wait().unwrap().success());
    let is_ping = |layer4: &Layer4| matches!(layer4, Layer4::Icmpv4(_));
    let records = site.records();
    let sent = by_protocol(&records, Egress, is_ping);
    let Attribution::Known(process) = &sent.process else { panic!("{sent:?}") };
    assert_eq!((process.comm.as_str(), process.pid), ("ping", ping.0.id()));
    // Nobody waits for a request: the kernel answers it.
    let received = by_protocol(&records, Ingress, is_ping);
    assert_eq!(received.process, Attribution::Unknown(UnknownProcess::Kernel));
}

#[test]
fn whole_frames_have_no_socket_that_a_hook_could_see() {
    let (mut site, client, server) = pair("packet");
    let _joined = Joined::of(&site);
    client.inside(|| {
        let kind = (AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let socket = socket(kind.0, kind.1, kind.2, None).unwrap();
        let mut all = getifaddrs().unwrap().filter(|it| it.interface_name == "eth0");
        let link = all.find_map(|it| it.address?.as_link_addr().copied()).unwrap();
        bind(socket.as_raw_fd(), &link).unwrap();
        let mut frame = datagram(Egress, (client.address(), 9), (server.address(), 9));
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 1, client.number]);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, client.number]);
        send(socket.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
    });
    let records = site.records();
    let sent = by_protocol(&records, Egress, is_udp);
    assert_eq!(sent.process, Attribution::Unknown(UnknownProcess::NoSocket));
    let received = by_protocol(&records, Ingress, is_udp);
    assert_eq!(received.process, Attribution::Unknown(UnknownProcess::NoListener));
    let counted = site.agent().counters().unwrap().attributed;
    assert!(counted[&Some("no-socket")] > 0 && counted[&Some("no-listener")] > 0, "{counted:?}");
}

fn multipath() -> OwnedFd {
    // SAFETY: three integers; the library's types do not know this protocol.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP) };
    assert!(fd >= 0, "no MPTCP: {}", std::io::Error::last_os_error());
    // SAFETY: a descriptor that the kernel has just made and nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[test]
fn a_multipath_connection_names_both_ends() {
    let (site, client, server) = pair("mptcp");
    let _joined = Joined::of(&site);
    let to: SockaddrStorage = SocketAddr::from((server.address(), PORT)).into();
    let _listener = server.inside(|| {
        let socket = multipath();
        bind(socket.as_raw_fd(), &to).unwrap();
        listen(&socket, Backlog::new(5).unwrap()).unwrap();
        socket
    });
    let _client = client.inside(|| {
        let socket = multipath();
        connect(socket.as_raw_fd(), &to).unwrap();
        socket
    });
    let records = site.records();
    check_own(&of(&records, Egress, PORT));
    check_own(&of(&records, Ingress, PORT));
}

#[test]
fn a_socket_that_is_older_than_the_agent_is_named_by_the_next_one() {
    let (mut site, client, server) = pair("older");
    // Made where no hook sees it.
    let (sender, receiver) = (client.udp(0), server.udp(PORT));
    // A process that receives names nobody's socket.
    sender.connect((server.address(), PORT)).unwrap();
    let joined = Joined::of(&site);
    sender.send(b"x").unwrap();
    assert!(receiver.recv_from(&mut [0; 8]).is_ok());
    let before = by_protocol(&site.records(), Ingress, is_udp);
    assert_eq!(before.process, Attribution::Unknown(UnknownProcess::OlderThanAgent));
    site.kill_agent();
    site.agent();
    let again = client.udp(0);
    again.send_to(b"x", (server.address(), PORT)).unwrap();
    assert!(receiver.recv_from(&mut [0; 8]).is_ok());
    check_own(&by_protocol(&site.records(), Ingress, is_udp));
    let counted = site.agent().counters().unwrap().attributed;
    assert!(counted[&None] > 0 && counted[&Some("older-than-agent")] > 0, "{counted:?}");
    drop(joined);
}

#[test]
fn sockets_of_processes_elsewhere_are_left_alone() {
    let (mut site, client, server) = pair("foreign");
    // This process is none of the node's.
    let (sender, receiver) = (client.udp(0), server.udp(PORT));
    site.kill_agent();
    site.agent();
    sender.send_to(b"x", (server.address(), PORT)).unwrap();
    assert!(receiver.recv_from(&mut [0; 8]).is_ok());
    let record = by_protocol(&site.records(), Ingress, is_udp);
    assert_eq!(record.process, Attribution::Unknown(UnknownProcess::OlderThanAgent));
}
