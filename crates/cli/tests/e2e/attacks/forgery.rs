//! Frames that are not what they say, or that say what is not the pod's to say.

use std::net::IpAddr;

use crate::attacks::{drops, ends, run, scene};
use crate::capture::Capture;
use crate::forge::{self, ICMP, IPIP, IPV6, Part, TCP, UDP, Wire};
use crate::scene::{Scene, eventually};

const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;
const FIN_ACK: u8 = 0x11;

type Frames<'a> = dyn Fn(bool, &[u8]) -> Vec<Vec<u8>> + 'a;

/// One attack, and its twin that differs in one thing.
struct Attack<'a> {
    name: String,
    /// Who sends, and who would get it.
    from: &'a str,
    to: &'a str,
    /// What the node says of the attack: Hubble's number.
    reason: u64,
    /// The frames of the attack (true) or the twin, with this text in what matters.
    frames: Box<Frames<'a>>,
}

/// Sends twin, attack, twin: the last one's arrival says that the attack is over.
fn check(scene: &Scene, attack: &Attack) {
    let wire = Wire::of(scene, attack.from, "eth0");
    let victim = Capture::of(scene, attack.to);
    let pod = attack.from.split_once('.').unwrap().1;
    let before = drops(scene, attack.reason, pod);
    let text = |kind: &str| format!("<{} {kind}>", attack.name).into_bytes();
    let send = |evil, text: &[u8]| {
        (attack.frames)(evil, text).iter().for_each(|frame| wire.send(frame));
    };
    for (evil, kind) in [(false, "first twin"), (true, "attack"), (false, "last twin")] {
        let text = text(kind);
        send(evil, &text);
        if !evil {
            let arrives = format!("{}: the {kind} arrives", attack.name);
            eventually(&arrives, || victim.has(&text));
        }
    }
    let told = format!("{}: drop {} is told", attack.name, attack.reason);
    eventually(&told, || drops(scene, attack.reason, pod) > before);
    assert!(!victim.has(&text("attack")), "{}: it arrived", attack.name);
}

/// Frames of the pod `open`, who is allowed everything, to pods on both nodes.
pub fn identities_and_headers() {
    let scene = scene("forgery");
    let wire = Wire::of(&scene, "a.open", "eth0");
    for to in ["a.near", "a.far"] {
        for family in [4, 6] {
            for attack in sources(&scene, &wire, to, family)
                .into_iter()
                .chain(wrappings(&scene, &wire, to, family))
                .chain(parts(&scene, &wire, to, family))
            {
                check(&scene, &attack);
            }
        }
    }
}

fn attack<'a>(
    name: &str,
    (to, family): (&'a str, u8),
    reason: u64,
    frames: impl Fn(bool, &[u8]) -> Vec<Vec<u8>> + 'a,
) -> Attack<'a> {
    let name = format!("{name} to {to} IPv{family}");
    Attack { name, from: "a.open", to, reason, frames: Box::new(frames) }
}

/// A datagram of these ends, in a frame of this wire.
fn datagram(wire: &Wire, ends: (IpAddr, IpAddr), text: &[u8]) -> Vec<u8> {
    let (kind, packet) = forge::ip(ends, UDP, None, &forge::udp(4000, 4001, text));
    wire.frame(kind, &packet)
}

/// Somebody else's address.
fn sources<'a>(scene: &Scene, wire: &'a Wire, to: &'a str, family: u8) -> Vec<Attack<'a>> {
    let own = ends(scene, "a.open", to, family);
    let world: IpAddr = if family == 4 { "203.0.113.9" } else { "2001:db8:9::9" }.parse().unwrap();
    let stolen = [
        ("a neighbour's address", scene.address("a.neighbour", family)),
        ("the node's address", scene.address("node-1", family)),
        ("the victim's own address", own.1),
        ("an address of the world", world),
    ];
    let mut attacks: Vec<Attack> = stolen
        .into_iter()
        .map(|(name, source)| {
            attack(name, (to, family), 132, move |evil, text| {
                vec![datagram(wire, (if evil { source } else { own.0 }, own.1), text)]
            })
        })
        .collect();
    attacks.push(attack("another MAC", (to, family), 130, move |evil, text| {
        let mut frame = datagram(wire, own, text);
        frame[11] ^= u8::from(evil);
        vec![frame]
    }));
    attacks
}

/// What hides a packet in another one, or behind another protocol's name.
fn wrappings<'a>(scene: &Scene, wire: &'a Wire, to: &'a str, family: u8) -> Vec<Attack<'a>> {
    let own = ends(scene, "a.open", to, family);
    let forged = [4, 6].map(|family| ends(scene, "a.neighbour", to, family));
    let place = (to, family);
    let mut attacks = Vec::new();
    // A tag or a label in front of what would be allowed.
    let tags: [(&str, u64, &[u8]); 5] = [
        ("a VLAN tag", 182, &[0x81, 0x00, 0, 7]),
        ("a second VLAN tag", 182, &[0x88, 0xa8, 0, 7, 0x81, 0x00, 0, 8]),
        ("an MPLS label", 139, &[0x88, 0x47, 0, 1, 1, 64]),
        ("IPX", 139, &[0x81, 0x37]),
        ("PPPoE", 139, &[0x88, 0x64, 0x11, 0, 0, 1, 0, 0x40, 0, 0x21]),
    ];
    for (name, reason, tag) in tags {
        attacks.push(attack(name, place, reason, move |evil, text| {
            let mut frame = datagram(wire, own, text);
            if evil {
                frame.splice(12..12, tag.iter().copied());
            }
            vec![frame]
        }));
    }
    // A packet from somebody else in one of its own.
    let carriers: [(&str, u8, &[u8]); 4] = [
        ("IPv4 in IP", IPIP, &[]),
        ("IPv6 in IP", 41, &[]),
        ("GRE", 47, &[0, 0, 8, 0]),
        ("ESP", 50, &[0; 8]),
    ];
    for (name, protocol, header) in carriers {
        let forged = forged[usize::from(protocol == 41)];
        attacks.push(attack(name, place, 170, move |evil, text| {
            if !evil {
                return vec![datagram(wire, own, text)];
            }
            let (_, inner) = forge::ip(forged, UDP, None, &forge::udp(4000, 4001, text));
            let (kind, outer) = forge::ip(own, protocol, None, &[header, &inner].concat());
            vec![wire.frame(kind, &outer)]
        }));
    }
    if family == 4 {
        return attacks;
    }
    // Destination options are honest, a segment routing header is not.
    attacks.push(attack("a routing header", place, 156, move |evil, text| {
        let header: &[u8] =
            if evil { &[UDP, 0, 4, 0, 0, 0, 0, 0] } else { &[UDP, 0, 1, 4, 0, 0, 0, 0] };
        let next = if evil { 43 } else { 60 };
        let body = [header, &forge::udp(4000, 4001, text)].concat();
        let (_, packet) = forge::ip(own, next, None, &body);
        vec![wire.frame(IPV6, &packet)]
    }));
    attacks.push(attack("an IPv4 address in IPv6", place, 134, move |evil, text| {
        let mapped = IpAddr::V6("::ffff:10.0.0.1".parse().unwrap());
        vec![datagram(wire, (if evil { mapped } else { own.0 }, own.1), text)]
    }));
    attacks
}

/// Datagrams in parts.
fn parts<'a>(scene: &Scene, wire: &'a Wire, to: &'a str, family: u8) -> Vec<Attack<'a>> {
    let own = ends(scene, "a.open", to, family);
    let place = (to, family);
    let part = move |protocol, id, offset, more, payload: &[u8]| {
        let part = Part { id, offset, more };
        let (kind, packet) = forge::ip(own, protocol, Some(part), payload);
        wire.frame(kind, &packet)
    };
    // A header and 32 bytes, so that parts end where parts may.
    let padded = |text: &[u8]| {
        let mut bytes = text.to_vec();
        bytes.resize(text.len().next_multiple_of(8), b' ');
        bytes
    };
    vec![
        attack("a part before the first", place, 175, move |evil, text| {
            let id = if evil { 1 } else { 2 };
            let first = part(UDP, id, 0, true, &forge::udp(4000, 4001, &[0; 24]));
            let later = part(UDP, id, 32, false, &padded(text));
            if evil { vec![later] } else { vec![first, later] }
        }),
        attack("a part over the header", place, 157, move |evil, text| {
            let first = part(TCP, 3, 0, true, &forge::tcp(4000, 4001, SYN, &[0; 12]));
            let later = part(TCP, 3, if evil { 8 } else { 32 }, false, &padded(text));
            vec![first, later]
        }),
        attack("a tiny first part", place, 157, move |evil, text| {
            let whole = [forge::tcp(4000, 4001, SYN, &[0; 12]), padded(text)].concat();
            let split = if evil { 16 } else { 32 };
            let first = part(TCP, 4 + u16::from(evil), 0, true, &whole[..split]);
            let later = part(TCP, 4 + u16::from(evil), split as u16, false, &whole[split..]);
            vec![first, later]
        }),
    ]
}

/// Segments that look like answers: to a peer that the pod may not ask, and to one
/// that does not let it in.
pub fn answers() {
    let scene = scene("answers");
    let flags = [("SYN-ACK", SYN_ACK), ("ACK", ACK), ("RST", RST), ("FIN", FIN_ACK)];
    for family in [4, 6] {
        for (name, flags) in flags {
            // The prisoner may open TCP 8080 of `near`, and nothing else.
            let wire = Wire::of(&scene, "a.prisoner", "eth0");
            let own = ends(&scene, "a.prisoner", "a.near", family);
            let frames = |evil: bool, text: &[u8]| {
                let port = if evil { 8081 } else { 8080 };
                let (kind, packet) =
                    forge::ip(own, TCP, None, &forge::tcp(4000, port, flags, text));
                vec![wire.frame(kind, &packet)]
            };
            let name = format!("a {name} of the prisoner over IPv{family}");
            let (from, to, reason) = ("a.prisoner", "a.near", 133);
            check(&scene, &Attack { name, from, to, reason, frames: Box::new(frames) });
        }
        vault(&scene, family);
    }
    neighbours(&scene);
}

/// The vault lets `neighbour` in on one port; `open` may send what it likes.
fn vault(scene: &Scene, family: u8) {
    let victim = Capture::of(scene, "a.vault");
    let open = Wire::of(scene, "a.open", "eth0");
    let neighbour = Wire::of(scene, "a.neighbour", "eth0");
    let own = ends(scene, "a.open", "a.vault", family);
    let theirs = ends(scene, "a.neighbour", "a.vault", family);
    let segment = |ends, wire: &Wire, flags, text: &[u8]| {
        let (kind, packet) = forge::ip(ends, TCP, None, &forge::tcp(8080, 8080, flags, text));
        wire.frame(kind, &packet)
    };
    let echo = if family == 4 { (ICMP, 0) } else { (58, 129) };
    let reply = |text: &[u8]| {
        let message = [&[echo.1, 0, 0, 0, 0, 1, 0, 1], text].concat();
        let (kind, packet) = forge::ip(own, echo.0, None, &message);
        open.frame(kind, &packet)
    };
    let before = drops(scene, 133, "vault");
    let flags = [SYN, SYN_ACK, ACK, RST, FIN_ACK];
    for flags in flags {
        open.send(&segment(own, &open, flags, b"<to the vault>"));
    }
    open.send(&reply(b"<to the vault>"));
    neighbour.send(&segment(theirs, &neighbour, SYN, b"<allowed>"));
    eventually("the neighbour's segment arrives", || victim.has(b"<allowed>"));
    let told = flags.len() + 1;
    eventually("each forged answer is told", || drops(scene, 133, "vault") >= before + told);
    assert!(!victim.has(b"<to the vault>"), "IPv{family}");
}

/// Claims on the link: the node must not believe them, and nobody else hears them.
fn neighbours(scene: &Scene) {
    let wire = Wire::of(scene, "a.open", "eth0");
    let claim = |address: IpAddr| match address {
        IpAddr::V4(address) => {
            let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 2];
            arp.extend(wire.mac);
            arp.extend(address.octets());
            arp.extend([0xff; 6]);
            arp.extend(address.octets());
            forge::ethernet((wire.mac, [0xff; 6]), 0x0806, &arp)
        }
        IpAddr::V6(address) => {
            let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
            message.extend(address.octets());
            message.extend([2, 1]);
            message.extend(wire.mac);
            let all_nodes = IpAddr::V6("ff02::1".parse().unwrap());
            let own = scene.address("a.open", 6);
            let (_, mut packet) = forge::ip((own, all_nodes), 58, None, &message);
            packet[7] = 255;
            forge::ethernet((wire.mac, [0x33, 0x33, 0, 0, 0, 1]), IPV6, &packet)
        }
    };
    for family in [4, 6] {
        let before = drops(scene, 132, "open");
        wire.send(&claim(scene.address("a.open", family)));
        wire.send(&claim(scene.address("a.neighbour", family)));
        eventually("the claim is told", || drops(scene, 132, "open") > before);
        let address = scene.address("a.neighbour", family);
        let table = scene.inside("node-1", || run(&format!("ip neigh show {address}")));
        let mac: Vec<String> = wire.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!table.contains(&mac.join(":")), "{table}");
    }
}
