//! A pod that takes all it can get, and its neighbour.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::attacks::{drops, scene};
use crate::attempt::{self, Connection};
use crate::scene::{Scene, eventually};
use crate::signet;

/// The neighbour's connections while the flood runs, of each family to each node.
const CONNECTIONS: usize = 100;
/// Those of its connections that stand when it begins, likewise.
const STANDING: u16 = 25;
const PORT: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(3);
/// No room for another connection.
const FULL: u64 = 155;
/// The row of `signet status` about the pod with the most connections.
const BUSIEST: &str = "connections of the busiest endpoint";
/// Where the flood goes: every port of one pod of each node.
const VICTIMS: [&str; 2] = ["a.near", "a.far"];

/// Every port of the victims, again and again, from ports of its own.
pub fn of_connections() {
    let scene = scene("flood");
    let ways = VICTIMS.into_iter().flat_map(|victim| [(victim, 4), (victim, 6)]);
    let ways: Vec<(&str, u8)> = ways.collect();
    let mut standing = Vec::new();
    for (victim, family) in &ways {
        let open = |port| Connection::open(&scene, "a.neighbour", victim, port, *family);
        standing.extend((9000..9000 + STANDING).map(open));
    }
    let listeners: Vec<TcpListener> = ways
        .iter()
        .map(|(victim, family)| {
            let target = SocketAddr::new(scene.address(victim, *family), PORT);
            scene.inside(victim, || TcpListener::bind(target).unwrap())
        })
        .collect();
    let full = || fullest(&scene, "node-1");
    assert!(full() < 0.5, "nobody floods yet: {}", full());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ended = Ended(&stop);
        for (victim, family) in &ways {
            let victim = scene.address(victim, *family);
            let (scene, stop) = (&scene, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    attempt::datagrams(scene, "a.open", victim, 1024..8000);
                }
            });
        }
        eventually("the flood takes all the room it may have", || full() > 0.99);
        for listener in &listeners {
            let target = listener.local_addr().unwrap();
            for number in 0..CONNECTIONS {
                let connect = || TcpStream::connect_timeout(&target, PATIENCE);
                if let Err(error) = scene.inside("a.neighbour", connect) {
                    panic!("connection {number} to {target}: {error}");
                }
                listener.accept().unwrap();
            }
        }
        standing.iter_mut().for_each(Connection::carries);
    });
    standing.iter_mut().for_each(Connection::carries);
    for member in ["a.neighbour", "a.near", "a.far"] {
        assert_eq!(sent_again(&scene, member), 0, "segments of {member} that were lost");
    }
    eventually("what the flooder is refused is told", || drops(&scene, FULL, "open") > 0);
}

/// Ends the flood, also when the test fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How much of what one pod may open is taken, by the pod of the node that has most.
fn fullest(scene: &Scene, node: &str) -> f64 {
    let status = scene.status(node);
    let limits = status["limits"].as_array().unwrap();
    let limit = limits
        .iter()
        .find(|limit| limit["what"] == BUSIEST)
        .unwrap_or_else(|| panic!("no {BUSIEST} in {limits:?}"));
    signet::number(&limit["used"]) as f64 / signet::number(&limit["limit"]) as f64
}

/// Segments that the kernel had to send again in the network namespace of a member.
fn sent_again(scene: &Scene, member: &str) -> u64 {
    let text = scene.inside(member, || fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "RetransSegs").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}
