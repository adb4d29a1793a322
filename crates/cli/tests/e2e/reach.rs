//! Nobody in a pod can ask an agent: neither through the file system nor over the
//! network, unless somebody opened a port on purpose.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::attempt::{Attempt, Outcome};
use crate::scene::Scene;
use crate::signet;

/// What agents, relays and their metrics use elsewhere.
const PORTS: [u16; 5] = [4222, 4244, 4245, 9965, 9966];

pub fn from_pods() {
    let scene = Scene::tiny("reach", "");
    let relay = scene.lab.places.relay_socket();
    let agent = scene.lab.places.agent_socket("node-1");
    for socket in [&relay, &agent] {
        assert!(socket.exists(), "{}", socket.display());
        let shown = inside(&scene, &["ls", "-d", signet::word(socket)]);
        assert!(shown.status != Some(0) && shown.err.contains("No such file"), "{shown:?}");
        let shown = inside(&scene, &["ls", "-d", "/run"]);
        assert_eq!(shown.status, Some(0), "{shown:?}");
    }
    let sockets = inside(&scene, &["find", "/", "-xdev", "-type", "s"]);
    assert!(!sockets.out.contains("signet"), "{sockets:?}");

    for node in ["node-1", "node-2"] {
        assert_eq!(listening(&scene, node), Vec::<u16>::new(), "{node}");
        for port in PORTS {
            let attempt = Attempt { from: "web.dev-pod", to: node, port, family: 4 };
            assert_eq!(attempt.outcome(&scene), Outcome::Refused, "{attempt}");
        }
    }
    // The way there is open: a port that somebody opens can be reached and is seen.
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORTS[1]));
    let opened = scene.inside("node-1", || TcpListener::bind(address).unwrap());
    let attempt = Attempt { from: "web.dev-pod", to: "node-1", port: PORTS[1], family: 4 };
    assert_eq!(attempt.outcome(&scene), Outcome::Connected, "{attempt}");
    assert_eq!(listening(&scene, "node-1"), [PORTS[1]]);
    drop(opened);
}

/// A command in a pod that no policy selects.
fn inside(scene: &Scene, command: &[&str]) -> signet::Answer {
    signet::run(&[&["lab", "exec", "--lab", scene.name(), "web/dev-pod", "--"], command].concat())
}

/// TCP ports that are open in a node's network, by the kernel's own tables.
fn listening(scene: &Scene, node: &str) -> Vec<u16> {
    const LISTEN: &str = "0A";
    let tables = scene.inside(node, || {
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")))
    });
    let rows = tables.map(|table| table.unwrap());
    let ports = rows.iter().flat_map(|table| table.lines().skip(1)).filter_map(|row| {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let (_, port) = columns[1].rsplit_once(':')?;
        (columns[3] == LISTEN).then(|| u16::from_str_radix(port, 16).unwrap())
    });
    ports.collect()
}
