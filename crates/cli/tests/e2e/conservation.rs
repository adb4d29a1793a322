//! Nothing is lost in silence: an agent that is held up for longer than the rings
//! can hold says afterwards exactly how much it could not tell.

use std::iter;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use nix::unistd::Pid;
use serde_json::Value;

use crate::attempt;
use crate::scene::{Scene, eventually};
use crate::signet::number;

/// More than a ring of 8 MiB can hold, which are about 25,000 records.
const FLOOD: usize = 40_000;

/// Echo reply (RFC 792) that answers nothing: no connection, so each is told.
const ECHO_REPLY: [u8; 8] = [0, 0, 0xff, 0xff, 0, 0, 0, 0];

pub fn paused() {
    let scene = Scene::tiny("paused", "");
    check_balance(&settled(&scene), "before");

    let agent = Pid::from_raw(scene.agent("node-1").pid);
    kill(agent, Signal::SIGSTOP).unwrap();
    denied(&scene);
    allowed(&scene);
    kill(agent, Signal::SIGCONT).unwrap();

    let told = |status: &Value| {
        ["traces", "drops"].iter().all(|ring| counted(status, ring).0 >= FLOOD as u64)
    };
    eventually("the agent has read what it was not stopped from", || told(&scene.status("node-1")));
    let status = settled(&scene);
    check_balance(&status, "after");
    let lost: u64 = ["traces", "drops"].iter().map(|ring| counted(&status, ring).2).sum();
    for ring in ["traces", "drops"] {
        assert!(counted(&status, ring).2 > 0, "{ring}: {status}");
    }
    let delivered: u64 = ["traces", "drops"].iter().map(|ring| counted(&status, ring).1).sum();
    assert_eq!(number(&status["flows_seen"]), delivered, "flows, and records delivered");
    let drops = status["drops"].as_array().unwrap();
    let packets: u64 = drops.iter().map(|drop| number(&drop["packets"])).sum();
    assert_eq!(packets, counted(&status, "drops").0, "packets dropped, and records of drops");
    check_told(&scene, lost);
    check_balance(&settled(&scene), "and it stays so");
}

/// Datagrams that the payment service may not send.
fn denied(scene: &Scene) {
    let target = scene.address("internet", 4);
    attempt::datagrams(scene, "payment.pay-svc", target, iter::repeat_n(9, FLOOD));
}

/// Packets that the developer's pod may send, as nobody selects it.
fn allowed(scene: &Scene) {
    let std::net::IpAddr::V4(target) = scene.address("web.web-fe", 4) else { unreachable!() };
    let target = SockaddrIn::from(std::net::SocketAddrV4::new(target, 0));
    scene.inside("web.dev-pod", || {
        let socket =
            socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)
                .unwrap();
        for _ in 0..FLOOD {
            let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
            match sendto(fd, &ECHO_REPLY, &target, MsgFlags::empty()) {
                Ok(_) | Err(Errno::ENOBUFS) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
}

/// Attempted, delivered, lost.
fn counted(status: &Value, ring: &str) -> (u64, u64, u64) {
    let rings = status["rings"].as_array().unwrap();
    let ring = rings.iter().find(|it| it["name"] == ring).unwrap();
    (number(&ring["attempted"]), number(&ring["delivered"]), number(&ring["lost"]))
}

fn check_balance(status: &Value, when: &str) {
    for ring in ["traces", "drops"] {
        let (attempted, delivered, lost) = counted(status, ring);
        assert_eq!(attempted, delivered + lost, "{when}, {ring}: {status}");
    }
}

/// The node's status once nothing moves any more: agents compare with the
/// kernel's counters every few hundred milliseconds.
fn settled(scene: &Scene) -> Value {
    let mut last = Value::Null;
    eventually("the counters stand still and are balanced", || {
        let status = scene.status("node-1");
        let balanced = ["traces", "drops"].iter().all(|ring| {
            let (attempted, delivered, lost) = counted(&status, ring);
            attempted == delivered + lost
        });
        let still =
            balanced && last["rings"] == status["rings"] && last["drops"] == status["drops"];
        last = status;
        still
    });
    last
}

/// Every loss is an event that an observer sees, whatever flows it asks for; here
/// for some that nobody has.
fn check_told(scene: &Scene, lost: u64) {
    let events = scene.observe(&["--all", "--to-port", "1"]);
    assert!(events.iter().all(|event| event["flow"].is_null()), "{:?}", events[0]);
    let events = events.iter().filter(|event| event["node_name"] == "node-1");
    let events: Vec<_> = events.filter_map(|event| event.get("lost_events")).collect();
    let told: u64 = events.iter().map(|event| number(&event["num_events_lost"])).sum();
    assert_eq!(told, lost, "{events:?}");
    assert!(events.iter().all(|event| event["source"] == "PERF_EVENT_RING_BUFFER"), "{events:?}");
}

/// Seconds of a flood, and drops that its neighbour causes meanwhile.
const SECONDS: u64 = 5;
const NEIGHBOUR: u16 = 200;

/// One pod sends what is denied as fast as it can. Its neighbour's drops are all
/// told; of its own, those that are not are counted exactly.
pub fn flood() {
    let scene = Scene::tiny("flood", "");
    let before = dropped(&settled(&scene));
    let target = scene.address("internet", 4);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let flooder = scope.spawn(|| {
            scene.inside("payment.pay-svc", || {
                let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
                let mut sent = 0u64;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    sent += u64::from(socket.send_to(b"x", (target, 9)).is_ok());
                }
                sent
            })
        });
        // Denied by the gateway's own policy, each to a port of its own.
        for port in 0..NEIGHBOUR {
            let ports = iter::once(20_000 + port);
            attempt::datagrams(
                &scene,
                "gateway.api-gateway",
                scene.address("web.web-fe", 4),
                ports,
            );
            std::thread::sleep(std::time::Duration::from_millis(
                SECONDS * 1000 / u64::from(NEIGHBOUR),
            ));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        flooder.join().unwrap()
    });
    // The agent reads the kernel's counters once in a second.
    let all = sent + u64::from(NEIGHBOUR);
    eventually("every drop is counted", || dropped(&scene.status("node-1")) - before >= all);
    let status = settled(&scene);
    check_balance(&status, "after the flood");
    let (attempted, delivered, lost) = counted(&status, "drops");
    println!(
        "{sent} denied datagrams in {SECONDS} s: {attempted} drops, {delivered} told, {lost} lost"
    );
    assert_eq!(dropped(&status) - before, all, "every drop is counted, and counted once");
    assert!(lost > 0, "{sent} are no flood");
    let neighbour =
        scene.observe(&["--all", "--from-pod", "gateway/api-gateway", "--verdict", "DROPPED"]);
    let ports: std::collections::BTreeSet<u64> = neighbour
        .iter()
        .filter_map(|answer| answer["flow"]["l4"]["UDP"]["destination_port"].as_u64())
        .collect();
    let want: std::collections::BTreeSet<u64> =
        (0..NEIGHBOUR).map(|port| u64::from(20_000 + port)).collect();
    let missing: Vec<_> = want.difference(&ports).collect();
    assert!(
        missing.is_empty(),
        "{} of the neighbour's drops were not told: {missing:?}",
        missing.len()
    );
}

/// Packets that the node has dropped.
fn dropped(status: &Value) -> u64 {
    status["drops"].as_array().into_iter().flatten().map(|drop| number(&drop["packets"])).sum()
}
