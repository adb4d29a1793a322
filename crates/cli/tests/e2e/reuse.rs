//! An address that goes from one pod to the next: whoever has it now is judged as
//! who it is now, from its first packet on, and continues nothing of who had it.
//!
//! The node has room for one more pod than the lab starts with, so that every pod
//! after that gets the same IPv4 address at once.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::attacks::run;
use crate::scene::{Scene, eventually, name, options};

const CONTINUE: &str = include_str!("../data/continue.py");

/// How often the address changes hands in each direction.
const ROUNDS: usize = 2;
/// For how long a guest tries, several times a second, what it may not.
const STAY: Duration = Duration::from_secs(3);

/// Friends reach 8080; everybody reaches 8081, which shows that a guest is alive.
const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: r, labels: {app: server}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: r, labels: {app: server}}
spec: {nodeName: node-2, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: second, namespace: r, labels: {app: neighbour}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: third, namespace: r, labels: {app: neighbour}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: fourth, namespace: r, labels: {app: neighbour}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server, namespace: r}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: friend}}]
      toPorts: [{ports: [{port: '8080', protocol: TCP}]}]
    - fromEntities: [cluster]
      toPorts: [{ports: [{port: '8081', protocol: TCP}]}]
";

const LAB: &str = "
spec:
  external: []
  nodes:
    - {name: node-1, podCIDRs: [10.244.1.0/29, 'fd00:10:244:1::/125']}
    - {name: node-2}
";

/// A connection that a server has accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Accepted {
    server: &'static str,
    port: u16,
    peer: IpAddr,
}

/// What all servers have accepted; they give back whatever they are sent.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Accepted>>>);

impl Log {
    fn serve(&self, scene: &Scene, server: &'static str) {
        for port in [8080, 8081] {
            let bind = || TcpListener::bind(("::", port)).unwrap();
            let listener = scene.inside(&format!("r.{server}"), bind);
            let log = self.clone();
            // Ends with the test's process.
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(mut stream) = stream else { continue };
                    let Ok(peer) = stream.peer_addr() else { continue };
                    let peer = peer.ip().to_canonical();
                    log.0.lock().unwrap().push(Accepted { server, port, peer });
                    thread::spawn(move || {
                        let mut byte = [0];
                        while matches!(stream.read(&mut byte), Ok(1)) {
                            let _ = stream.write_all(&byte);
                        }
                    });
                }
            });
        }
    }

    fn take(&self) -> Vec<Accepted> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Servers and families that some guest got through to on a port.
fn reached(log: &[Accepted], port: u16) -> Vec<(&'static str, bool)> {
    let of_port = log.iter().filter(|accepted| accepted.port == port);
    let mut ends: Vec<_> =
        of_port.map(|accepted| (accepted.server, accepted.peer.is_ipv4())).collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

const EVERYTHING: [(&str, bool); 4] =
    [("far", false), ("far", true), ("near", false), ("near", true)];

/// The pod with the address that changes hands.
struct Guests<'s> {
    scene: &'s mut Scene,
    servers: Vec<IpAddr>,
}

impl Guests<'_> {
    /// A pod of that name and label that tries everything from its first act on.
    fn enter(&mut self, app: &str) {
        let attempt = |server: &IpAddr, port: u16| {
            format!("while :; do nc -z -w 1 {server} {port}; sleep 0.05; done &")
        };
        let servers = self.servers.iter();
        let script: Vec<_> =
            servers.flat_map(|server| [8080, 8081].map(|port| attempt(server, port))).collect();
        let manifest = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {app}, namespace: r, labels: {{app: {app}}}}}\n\
             spec:\n  nodeName: node-1\n  containers:\n    - name: main\n      \
             command: [sh, -c, '{} wait']\n",
            script.join(" ")
        );
        fs::write(self.path(app), manifest).unwrap();
        let path = self.path(app);
        self.scene.lab.apply(&path, None, &options(), &mut |_| {}).unwrap();
    }

    fn leave(&mut self, app: &str) {
        let path = self.path(app);
        self.scene.lab.delete(&path, None, &options(), &mut |_| {}).unwrap();
        fs::remove_file(path).unwrap();
    }

    fn path(&self, app: &str) -> std::path::PathBuf {
        self.scene.directory.path().join(format!("{app}.yaml"))
    }

    fn address(&self, app: &str) -> IpAddr {
        self.scene.address(&format!("r.{app}"), 4)
    }

    /// Opens a connection from a guest to the near server, or goes on with one: the
    /// numbers to go on with, if the server answered. The server never sees the end of
    /// any, so each has a port of its own.
    fn connect(&self, app: &str, source_port: u16, numbers: Option<&str>) -> Option<String> {
        let script = self.scene.directory.path().join("continue.py");
        fs::write(&script, CONTINUE).unwrap();
        let mode = if numbers.is_some() { "go-on" } else { "open" };
        let (source, target) = (self.address(app), self.scene.address("r.near", 4));
        let ends = [source.to_string(), source_port.to_string(), target.to_string()];
        let output = self.scene.inside(&format!("r.{app}"), || {
            let mut python = Command::new("/usr/bin/python3");
            python.arg(&script).arg(mode).args(&ends).arg("8080");
            python.args(numbers.unwrap_or_default().split_whitespace()).output().unwrap()
        });
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        (text != "silence").then_some(text)
    }
}

pub fn from_hand_to_hand() {
    let object = "apiVersion: signet.dev/v1alpha1\nkind: Lab\nmetadata:\n  name: ";
    let lab = format!("{object}{}\n{LAB}", name("reuse"));
    let mut scene = Scene::with(&[("lab.yaml", &lab), ("pods.yaml", MANIFESTS)]);
    let log = Log::default();
    log.serve(&scene, "near");
    log.serve(&scene, "far");
    let servers = ["r.near", "r.far"];
    let servers = servers.iter().flat_map(|pod| [4, 6].map(|family| scene.address(pod, family)));
    let servers = servers.collect();
    let mut guests = Guests { scene: &mut scene, servers };

    guests.enter("friend");
    let address = guests.address("friend");
    for port in (40_000..).take(ROUNDS) {
        let mut seen = Vec::new();
        eventually("a friend reaches what friends may", || {
            seen.extend(log.take());
            reached(&seen, 8080) == EVERYTHING
        });
        let numbers = guests.connect("friend", port, None).unwrap();
        // The twin: whoever opened it can go on with it.
        let numbers = guests.connect("friend", port, Some(&numbers)).unwrap();
        guests.leave("friend");
        log.take();

        guests.enter("foe");
        assert_eq!(guests.address("foe"), address, "the address is given anew at once");
        thread::sleep(STAY);
        let stolen = guests.connect("foe", port, Some(&numbers));
        assert_eq!(stolen, None, "a connection of who was there");
        let seen = log.take();
        assert_eq!(reached(&seen, 8081), EVERYTHING, "a foe that cannot do anything shows nothing");
        assert_eq!(reached(&seen, 8080), [], "a foe was taken for a friend");
        guests.leave("foe");
        assert_eq!(reached(&log.take(), 8080), [], "a foe was taken for a friend at its end");
        guests.enter("friend");
    }
    guests.leave("friend");
    log.take();
    a_neighbour_claims_it(guests.scene, &log, address);
}

/// Root in a neighbour's pod takes the address of a dead friend.
fn a_neighbour_claims_it(scene: &Scene, log: &Log, address: IpAddr) {
    let own = scene.address("r.second", 4);
    let reaches = |source: IpAddr, port: u16| {
        ["r.near", "r.far"].map(|server| {
            let target = SocketAddr::new(scene.address(server, 4), port);
            scene.inside("r.second", || {
                let words = [source.to_string(), target.ip().to_string(), port.to_string()];
                let [source, target, port] = &words;
                let words = ["-z", "-w", "1", "-s", source, target, port];
                Command::new("nc").args(words).status().unwrap().success()
            })
        })
    };
    scene.inside("r.second", || run(&format!("ip addr add {address}/32 dev eth0")));
    assert_eq!(reaches(own, 8081), [true, true]);
    assert_eq!([8080, 8081].map(|port| reaches(address, port)), [[false, false]; 2]);
    let seen = log.take();
    assert!(seen.iter().all(|accepted| accepted.peer == own), "{seen:?}");
    // Hubble's number of a source that is not the pod's.
    const INVALID_SOURCE_IP: u64 = 132;
    let drops = scene.observe(&["--all", "--verdict", "DROPPED", "--from-pod", "r/second"]);
    let told = drops.iter().filter(|answer| answer["flow"]["drop_reason"] == INVALID_SOURCE_IP);
    assert!(told.count() > 0, "{drops:?}");
}
