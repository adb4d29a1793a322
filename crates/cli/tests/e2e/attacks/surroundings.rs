//! What is around a pod: addresses that others had, the node's own address, and the
//! files and sockets that say what is enforced.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::attacks::{drops, ends, run, scene};
use crate::capture::Capture;
use crate::forge::{self, TCP, UDP, Wire};
use crate::scene::{eventually, options};
use crate::signet::{self, word};

const SYN: u8 = 0x02;
const PATIENCE: Duration = Duration::from_secs(3);

/// The neighbour goes, and with it every right of its address.
pub fn a_dead_neighbour_s_address() {
    let mut scene = scene("heir");
    let old = [4, 6].map(|family| scene.address("a.neighbour", family));
    let vault = [4, 6].map(|family| scene.address("a.vault", family));
    let victim = Capture::of(&scene, "a.vault");
    let send = |wire: &Wire, ends, text: &[u8]| {
        let (kind, packet) = forge::ip(ends, TCP, None, &forge::tcp(4000, 8080, SYN, text));
        wire.send(&wire.frame(kind, &packet));
    };
    let wire = Wire::of(&scene, "a.neighbour", "eth0");
    for at in [0, 1] {
        send(&wire, (old[at], vault[at]), b"<the neighbour>");
        eventually("the neighbour's segment arrives", || victim.has(b"<the neighbour>"));
    }
    drop(wire);
    // Gone and back: with other addresses.
    scene.lab.restart_pod("a/neighbour", &options()).unwrap_or_else(|e| panic!("{}", e.chain()));
    let new = [4, 6].map(|family| scene.address("a.neighbour", family));
    assert!(old[0] != new[0] && old[1] != new[1], "{old:?} {new:?}");
    let heir = Wire::of(&scene, "a.open", "eth0");
    for at in [0, 1] {
        let before = drops(&scene, 132, "open");
        scene.inside("a.open", || run(&format!("ip addr add {} dev eth0", old[at])));
        send(&heir, (old[at], vault[at]), b"<the heir>");
        eventually("the drop is told", || drops(&scene, 132, "open") > before);
    }
    let wire = Wire::of(&scene, "a.neighbour", "eth0");
    for at in [0, 1] {
        let text = format!("<the neighbour again {at}>").into_bytes();
        send(&wire, (new[at], vault[at]), &text);
        eventually("the neighbour has its rights back", || victim.has(&text));
    }
    assert!(!victim.has(b"<the heir>"));
}

/// What a service on a node's port does: the pod sees the node's address.
const NAT: &str = "nft -f - <<END
table ip signet_test {
  chain in { type nat hook prerouting priority dstnat; tcp dport 30080 dnat to VAULT:8080; \
tcp dport 30081 dnat to FAR:8080; }
  chain out { type nat hook postrouting priority srcnat; ct status dnat masquerade; }
}
END";

pub fn behind_the_node_s_address() {
    let scene = scene("masquerade");
    let address = |member: &str| scene.address(member, 4);
    let nat = NAT
        .replace("VAULT", &address("a.vault").to_string())
        .replace("FAR", &address("a.far").to_string());
    scene.inside("node-2", || run(&nat));
    let listen = |member: &str| {
        let at = SocketAddr::new(address(member), 8080);
        scene.inside(member, || TcpListener::bind(at).unwrap())
    };
    let (_vault, _far) = (listen("a.vault"), listen("a.far"));
    let connect = |from: &str, to, port| {
        let target = SocketAddr::new(to, port);
        let result = scene.inside(from, || TcpStream::connect_timeout(&target, PATIENCE));
        result.map(|_| ()).map_err(|error| error.kind())
    };
    let node = address("node-2");
    assert_eq!(connect("node-2", address("a.vault"), 8080), Ok(()), "the node itself");
    assert_eq!(connect("a.open", node, 30081), Ok(()), "the way there is open");
    assert_eq!(connect("a.open", node, 30080), Err(ErrorKind::TimedOut), "behind the node");
    eventually("the drop is told", || drops(&scene, 133, "vault") > 0);
}

/// The node's own doors: what it listens on for its overlay.
pub fn into_the_node_s_overlay() {
    let scene = scene("overlay");
    let node = scene.address("node-1", 4);
    let own = ends(&scene, "a.open", "node-1", 4);
    let wire = Wire::of(&scene, "a.open", "eth0");
    let socket = |port| {
        let socket = scene.inside("node-1", || UdpSocket::bind((node, port)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        socket
    };
    let inner = {
        let ends = ends(&scene, "a.neighbour", "a.far", 4);
        let (kind, packet) = forge::ip(ends, UDP, None, &forge::udp(1, 2, b"<inside>"));
        let frame = forge::ethernet((wire.mac, wire.gateway), kind, &packet);
        [&[8, 0, 0, 0, 0, 0, 7, 0][..], &frame].concat()
    };
    let send = |port| {
        let (kind, packet) = forge::ip(own, UDP, None, &forge::udp(4000, port, &inner));
        wire.send(&wire.frame(kind, &packet));
    };
    let mut got = [0; 512];
    for port in [4789, 8472, 6081] {
        let (overlay, other) = (socket(port), socket(port + 1));
        let before = drops(&scene, 170, "open");
        send(port);
        send(port + 1);
        assert!(other.recv(&mut got).is_ok(), "port {} is not an overlay's", port + 1);
        assert!(overlay.recv(&mut got).is_err(), "port {port}");
        eventually("the drop is told", || drops(&scene, 170, "open") > before);
    }
}

/// Labels and policies are files of the node: a pod sees none of them, so it cannot
/// write its own.
pub fn files_and_sockets() {
    let scene = scene("files");
    let name = scene.name().to_owned();
    let inside = |script: &str| {
        signet::run(&["lab", "exec", "--lab", &name, "a/open", "--", "sh", "-c", script])
    };
    assert_eq!(inside("test -e /etc/passwd").status, Some(0), "the host's root is its own");
    let manifests = scene.directory.path();
    let relay = scene.lab.places.relay_socket();
    let hidden = [
        word(manifests),
        word(&relay),
        "/run/signet",
        "/run/netns",
        "/sys/fs/bpf/signet",
        "/var/run/signet",
    ];
    for path in hidden {
        assert!(std::path::Path::new(path).exists() || path == "/var/run/signet", "{path}");
        assert_ne!(inside(&format!("test -e {path}")).status, Some(0), "{path} is visible");
    }
    for path in ["/etc/passwd", "/usr/bin/ip", "/attack"] {
        assert_ne!(inside(&format!("echo x >> {path}")).status, Some(0), "{path} is writable");
    }
    // Nor does it find the node's processes, and through them the node's files.
    let processes = inside("cat /proc/[0-9]*/comm").good();
    assert!(!processes.contains("signet"), "{processes}");
}
