//! A pod that takes its own network apart, and puts it together as it likes.

use std::process::{Child, Command};

use crate::attacks::{drops, ends, run, scene};
use crate::capture::Capture;
use crate::forge::{self, TCP, Wire};
use crate::scene::{Scene, eventually};

const SYN: u8 = 0x02;

/// Ends with the test, however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends what the prisoner may send and what it may not, with this wire.
fn check(scene: &Scene, victim: &Capture, wire: &Wire, when: &str) {
    for family in [4, 6] {
        let own = ends(scene, "a.prisoner", "a.near", family);
        let stolen = ends(scene, "a.neighbour", "a.near", family);
        let send = |ends, port, text: &str| {
            let segment = forge::tcp(4000, port, SYN, text.as_bytes());
            let (kind, packet) = forge::ip(ends, TCP, None, &segment);
            wire.send(&wire.frame(kind, &packet));
        };
        let before = [133, 132].map(|reason| drops(scene, reason, "prisoner"));
        let allowed = format!("<allowed {when} {family}>");
        send(own, 8081, &format!("<denied {when} {family}>"));
        send(stolen, 8080, &format!("<stolen {when} {family}>"));
        send(own, 8080, &allowed);
        eventually(&format!("{when}: what is allowed arrives over IPv{family}"), || {
            victim.has(allowed.as_bytes())
        });
        for (reason, before) in [133, 132].into_iter().zip(before) {
            eventually(&format!("{when}: the drop ({reason}) of IPv{family} is told"), || {
                drops(scene, reason, "prisoner") > before
            });
        }
        for kind in ["denied", "stolen"] {
            let text = format!("<{kind} {when} {family}>");
            assert!(!victim.has(text.as_bytes()), "{text} arrived");
        }
    }
}

/// What a root user can do to the interface, one after the other.
const CHANGES: [(&str, &str); 5] = [
    (
        "queueing",
        "tc qdisc add dev eth0 clsact; tc qdisc del dev eth0 clsact; \
                  tc qdisc replace dev eth0 root pfifo; tc qdisc del dev eth0 root",
    ),
    ("addresses", "ip addr add NEIGHBOUR4/32 dev eth0; ip addr add NEIGHBOUR6/128 dev eth0 nodad"),
    (
        "routes",
        "ip route replace NEAR4/32 dev eth0 src NEIGHBOUR4; \
                ip rule add from all lookup 77 pref 7; ip rule del pref 7",
    ),
    (
        "link",
        "ip link set eth0 mtu 1280; ip link set eth0 promisc on; ip link set eth0 allmulticast on",
    ),
    ("veth", "ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up"),
];

pub fn of_its_own_network() {
    let scene = scene("breakage");
    let victim = Capture::of(&scene, "a.near");
    let address = |member: &str, family| scene.address(member, family).to_string();
    check(&scene, &victim, &Wire::of(&scene, "a.prisoner", "eth0"), "untouched");
    for (name, script) in CHANGES {
        let script = script
            .replace("NEIGHBOUR4", &address("a.neighbour", 4))
            .replace("NEIGHBOUR6", &address("a.neighbour", 6))
            .replace("NEAR4", &address("a.near", 4));
        scene.inside("a.prisoner", || run(&script));
        check(&scene, &victim, &Wire::of(&scene, "a.prisoner", "eth0"), name);
    }
    elsewhere(&scene, &victim);
    // The end of the link: nobody hears of the prisoner any more, and its
    // neighbours go on.
    let own = ends(&scene, "a.neighbour", "a.near", 4);
    let wire = Wire::of(&scene, "a.neighbour", "eth0");
    let (kind, packet) = forge::ip(own, TCP, None, &forge::tcp(1, 2, SYN, b"<after the end>"));
    wire.send(&wire.frame(kind, &packet));
    eventually("the neighbour's segment arrives", || victim.has(b"<after the end>"));
}

/// The pod's end of the link under another name, and in a namespace that the pod
/// made for it: the node's end stays where it is, and so does the guard.
fn elsewhere(scene: &Scene, victim: &Capture) {
    let renamed = Wire::of(scene, "a.prisoner", "eth0");
    let neighbour = |wire: &Wire| {
        let mac: Vec<String> = wire.gateway.iter().map(|byte| format!("{byte:02x}")).collect();
        mac.join(":")
    };
    let gateway = neighbour(&renamed);
    let rename = format!(
        "ip link set eth0 down; ip link set eth0 name eth1; ip link set eth1 up; \
         ip addr add 192.0.2.1/24 dev eth1; ip neigh replace 192.0.2.2 lladdr {gateway} dev eth1"
    );
    scene.inside("a.prisoner", || run(&rename));
    check(scene, victim, &Wire::of(scene, "a.prisoner", "eth1"), "renamed");

    let holder = scene.inside("a.prisoner", || {
        Running(Command::new("unshare").args(["--net", "sleep", "600"]).spawn().unwrap())
    });
    let pid = holder.0.id();
    let namespace = || std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let own =
        scene.inside("a.prisoner", || std::fs::read_link("/proc/thread-self/ns/net")).unwrap();
    eventually("a namespace inside", || namespace().is_some_and(|it| it != own));
    scene.inside("a.prisoner", || run(&format!("ip link set eth1 netns {pid}")));
    let setup = format!(
        "ip link set eth1 up; ip addr add 192.0.2.1/24 dev eth1; \
         ip neigh replace 192.0.2.2 lladdr {gateway} dev eth1"
    );
    run(&format!("nsenter --net=/proc/{pid}/ns/net sh -ec '{setup}'"));
    let inside = lab::netns::Netns::at(format!("/proc/{pid}/ns/net").into());
    let wire = inside.inside(|| Wire::here("eth1")).unwrap();
    check(scene, victim, &wire, "moved");
    run(&format!("nsenter --net=/proc/{pid}/ns/net ip link del eth1"));
}
