//! The wall clock of a machine is set forward and back while an agent enforces and
//! tells. In the virtual machines only: no test sets the clock of a host.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::netns::Netns;
use lab::{Lab, Options};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use serde_json::Value;

use crate::load::{Cast, Load, Pace};
use crate::scene::{Scene, eventually, name, options};
use crate::signet::{self, lines, word};

/// Nobody may ask the client, and the server may ask nobody: an answer passes only as
/// part of the exchange that the other end began.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: clock, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: clock, labels: {app: stranger}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: clock, labels: {app: server}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client, namespace: clock}
spec:
  endpointSelector: {matchLabels: {app: client}}
  ingress: [{}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server, namespace: clock}
spec:
  endpointSelector: {matchLabels: {app: server}}
  egress: [{}]
  ingress:
    - fromEndpoints: [{matchLabels: {app: client}}]
      toPorts:
        - ports:
            - {port: '7000', protocol: TCP}
            - {port: '7001', protocol: TCP}
            - {port: '7002', protocol: UDP}
            - {port: '7003', protocol: UDP}
";

/// Shuts everybody out of the node but who comes to a port that nobody uses.
const SHUT: &str = "
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: shut}
spec:
  nodeSelector: {matchLabels: {role: edge}}
  ingress:
    - fromEntities: [world]
      toPorts: [{ports: [{port: '1', protocol: TCP}]}]
";

/// How long that is on trial.
const TRIAL: Duration = Duration::from_secs(20);

/// Emulated processors: what matters here is that it goes on all the time.
const PACE: Pace = Pace { standing: 10, rate: 3, rest: Duration::from_millis(300) };

/// A step of the clock is told within this time.
const TOLD: Duration = Duration::from_secs(5);

/// After this long an agent has read the clock anew, by which flows tell their time.
const SETTLED: Duration = Duration::from_millis(1500);

/// An exchange nobody has answered lives for ten seconds, by whatever clock.
const ALIVE: Duration = Duration::from_secs(9);
const EXPIRED: Duration = Duration::from_secs(12);

const DAY: i64 = 86_400;

/// Noon of 10 March 2027, UTC.
const BEGIN: i64 = 1_804_680_000;

/// How times begin: before any step, a day later, and two days before that.
const FIRST: &str = "2027-03-10T12:";
const FORWARD: &str = "2027-03-11T12:";
const BACK: &str = "2027-03-09T12:";

/// The machine's wall clock; as it was before when this is dropped.
struct WallClock {
    /// Wall time less the time since boot.
    offset: TimeSpec,
}

impl WallClock {
    /// Only of a machine that `cargo xtask` has booted for tests.
    fn of_a_guest() -> Self {
        let arguments = fs::read_to_string("/proc/cmdline").unwrap();
        let guest = arguments.split_whitespace().any(|word| word == "signet.guest");
        assert!(guest, "this sets the machine's clock: it runs in virtual machines only");
        Self { offset: now(ClockId::CLOCK_REALTIME) - now(ClockId::CLOCK_BOOTTIME) }
    }

    fn set(&self, seconds: i64) {
        clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, 0)).unwrap();
    }

    fn step(&self, seconds: i64) {
        let then = now(ClockId::CLOCK_REALTIME) + TimeSpec::new(seconds, 0);
        clock_settime(ClockId::CLOCK_REALTIME, then).unwrap();
    }
}

impl Drop for WallClock {
    fn drop(&mut self) {
        let now = now(ClockId::CLOCK_BOOTTIME) + self.offset;
        let _ = clock_settime(ClockId::CLOCK_REALTIME, now);
    }
}

fn now(clock: ClockId) -> TimeSpec {
    clock_gettime(clock).unwrap()
}

/// A lab of one node whose agent shows its metrics.
struct Site {
    scene: Scene,
    /// Serves what the server answers late.
    server: UdpSocket,
    metrics: PathBuf,
    /// Holds the socket of the metrics.
    _folder: tempfile::TempDir,
}

impl Site {
    fn up() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = folder.path().join("metrics.sock");
        let program = folder.path().join("signet");
        let (signet, place) = (signet::PROGRAM, metrics.display());
        let script = format!(
            "#!/bin/sh\n[ \"$1\" != agent ] || set -- \"$@\" --metrics-listen unix://{place}\n\
             exec {signet} \"$@\"\n"
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let lab = format!(
            "apiVersion: signet.dev/v1alpha1\nkind: Lab\nmetadata: {{name: {}}}\nspec:\n  \
             agent: {{hostPolicyConfirmSeconds: {}}}\n  \
             nodes: [{{name: node-1, labels: {{role: edge}}}}]\n",
            name("clock"),
            TRIAL.as_secs()
        );
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("lab.yaml"), lab).unwrap();
        fs::write(directory.path().join("pods.yaml"), PODS).unwrap();
        let up = Lab::up(directory.path(), &Options { signet: program, ..options() });
        let lab = up.unwrap_or_else(|error| panic!("{}", error.chain()));
        let scene = Scene { directory, lab };
        let address = (scene.address("clock.server", 4), 7003);
        let server = scene.inside("clock.server", || UdpSocket::bind(address).unwrap());
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self { scene, server, metrics, _folder: folder }
    }

    fn load(&self) -> Load {
        let scene = &self.scene;
        Load::start(&Cast {
            client: scene.netns("clock.client"),
            stranger: scene.netns("clock.stranger"),
            servers: vec![(scene.netns("clock.server"), scene.address("clock.server", 4))],
            known: vec![scene.address("clock.client", 4)],
            pace: PACE,
        })
    }

    /// The client asks; the server has heard it.
    fn ask(&self) -> Question {
        let client = self.scene.inside("clock.client", || UdpSocket::bind("0.0.0.0:0").unwrap());
        client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let asked = Instant::now();
        client.send_to(b"?", self.server.local_addr().unwrap()).unwrap();
        let (_, from) = self.server.recv_from(&mut [0]).expect("what is allowed arrives");
        Question { client, from, asked }
    }

    /// How often the clock was set, as the agent counts.
    fn steps(&self) -> String {
        let mut stream = UnixStream::connect(&self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let mut values = text.lines().filter_map(|it| it.strip_prefix("signet_clock_steps_total "));
        values.next().unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    /// Waits until the agent has told the step of which this is the number.
    #[track_caller]
    fn counted(&self, steps: &str) {
        let start = Instant::now();
        while self.steps() != steps {
            assert!(start.elapsed() < TOLD, "not told: step {steps}");
            thread::sleep(Duration::from_millis(50));
        }
        println!("step {steps}: told after {:?}", start.elapsed());
    }

    /// Whether it was told in words, with the time of day that it led to.
    #[track_caller]
    fn check_told(&self, way: &str, seconds: i64, now: &str) {
        let words = format!("the wall clock was set {way} by ");
        let by = |text: &str| {
            let (_, rest) = text.split_once(&words)?;
            rest.split_once(" ms")?.0.parse::<i64>().ok()
        };
        let events =
            lines(&self.scene.ask(&["observe", "agent-events", "--all", "-o", "json"]).good());
        let told = events.iter().filter_map(|event| Some((by(&event.to_string())?, event)));
        let told: Vec<(i64, &Value)> = told.collect();
        let [(by, event)] = told.as_slice() else { panic!("{way}: {events:?}") };
        assert!((by - seconds * 1000).abs() < 2000, "{event}");
        assert!(event["time"].as_str().unwrap().starts_with(now), "{event}");
    }

    /// Times of the flows of questions, as `signet observe` with these flags has them.
    fn times(&self, flags: &[&str]) -> Vec<String> {
        let questions = ["--to-port", "7003", "--verdict", "FORWARDED"];
        times(&self.scene.observe(&[&questions, flags].concat()))
    }
}

/// How the time of each flow begins; of two that are the same one after the other, one.
fn times(answers: &[Value]) -> Vec<String> {
    let flows = answers.iter().filter(|answer| answer["flow"].is_object());
    let times = flows.map(|answer| answer["time"].as_str().unwrap()[..FIRST.len()].to_owned());
    let mut times: Vec<String> = times.collect();
    times.dedup();
    times
}

/// A datagram that waits for its answer.
struct Question {
    client: UdpSocket,
    from: SocketAddr,
    asked: Instant,
}

impl Question {
    /// The server answers now: whether it arrives.
    fn is_answered(&self, site: &Site) -> bool {
        site.server.send_to(b"!", self.from).unwrap();
        self.client.recv(&mut [0]).is_ok()
    }
}

/// Knocks at the node for as long as a policy on trial shuts it.
struct Shut {
    closed: Instant,
    opened: JoinHandle<Instant>,
}

impl Shut {
    fn begin(scene: &Scene) -> Self {
        let target = SocketAddr::new(scene.address("node-1", 4), 4022);
        let listener = scene.inside("node-1", || TcpListener::bind(target).unwrap());
        let client = scene.netns("clock.client");
        assert!(reaches(&client, target), "nothing selects the node yet");
        fs::write(scene.lab.places.cluster().join("shut.yaml"), SHUT).unwrap();
        eventually("the node is shut", || !reaches(&client, target));
        let closed = Instant::now();
        let opened = thread::spawn(move || {
            while !reaches(&client, target) {
                thread::sleep(Duration::from_millis(200));
            }
            drop(listener);
            Instant::now()
        });
        Self { closed, opened }
    }
}

fn reaches(from: &Netns, target: SocketAddr) -> bool {
    let connect = || TcpStream::connect_timeout(&target, Duration::from_millis(800)).is_ok();
    from.inside(connect).unwrap()
}

/// `signet observe` that follows questions, from a minute before it begins.
struct Follower {
    child: Child,
    output: tempfile::NamedTempFile,
}

impl Follower {
    fn start(scene: &Scene) -> Self {
        let output = tempfile::NamedTempFile::new().unwrap();
        let relay = scene.lab.places.relay_socket();
        let questions = ["--follow", "--since", "1m", "--to-port", "7003"];
        let child = signet::command(&["observe", "-o", "json", "--verdict", "FORWARDED"])
            .args(questions)
            .args(["--server", word(&relay)])
            .stdin(Stdio::null())
            .stdout(output.reopen().unwrap())
            .spawn()
            .unwrap();
        Self { child, output }
    }

    fn times(&self) -> Vec<String> {
        let text = fs::read_to_string(self.output.path()).unwrap();
        // The last line may still be being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        times(&lines(whole))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn set_forward_and_back() {
    let clock = WallClock::of_a_guest();
    clock.set(BEGIN);
    let site = Site::up();
    let follower = Follower::start(&site.scene);
    let load = site.load();
    let shut = Shut::begin(&site.scene);
    let first = site.ask();
    thread::sleep(Duration::from_secs(1));

    clock.step(DAY);
    site.counted("1");
    assert!(first.asked.elapsed() < ALIVE, "this machine is too slow to say");
    assert!(first.is_answered(&site), "an exchange does not end a day early");
    thread::sleep(SETTLED);
    let second = site.ask();
    thread::sleep(Duration::from_secs(1));

    clock.step(-2 * DAY);
    site.counted("2");
    thread::sleep(SETTLED);
    let third = site.ask();
    assert!(third.is_answered(&site), "a new exchange works");
    thread::sleep(EXPIRED.saturating_sub(second.asked.elapsed()));
    assert!(!second.is_answered(&site), "nor does one live two days longer");

    let opened = shut.opened.join().unwrap() - shut.closed;
    println!("a trial of {TRIAL:?} ended after {opened:?}");
    // It began a little before it was seen, and its end is a whole second.
    assert!(opened > TRIAL - Duration::from_secs(3), "{opened:?}");
    assert!(opened < TRIAL + Duration::from_secs(3), "{opened:?}");
    let policies = site.scene.list(&["policy", "list"], "policies");
    let shut = policies.iter().find(|policy| policy["name"] == "shut").unwrap();
    assert_eq!(shut["trial"], "TRIAL_REVERTED", "{shut}");

    let tally = load.end();
    assert!(tally.get("connections opened") > 50 && tally.get("denied attempts") > 50);
    assert_eq!(tally.get("datagrams sent"), tally.get("datagrams answered"));
    check_flows(&site, &follower);
    assert_eq!(site.steps(), "2", "each is told once");
    site.check_told("forward", DAY, FORWARD);
    site.check_told("back", 2 * DAY, BACK);
    let status = site.scene.status("node-1");
    let told = |text: &str| text.contains("the wall clock was set back by ");
    assert!(status["last_error"].as_str().is_some_and(told), "{status}");
    assert!(status["faults"].as_array().is_none_or(Vec::is_empty), "{status}");
}

/// Three questions were asked, one by each wall time.
fn check_flows(site: &Site, follower: &Follower) {
    eventually("all are told, as they happened", || {
        site.times(&["--all"]) == [FIRST, FORWARD, BACK]
    });
    let since_then = ["--since", "2027-03-11T00:00:00Z"];
    assert_eq!(site.times(&since_then), [FORWARD], "what a clock of before had");
    assert_eq!(site.times(&["--since", "1h"]), [FIRST, FORWARD, BACK]);
    assert_eq!(site.times(&["--until", "2027-03-09T23:00:00Z"]), [BACK]);
    eventually("who follows has heard all of it", || follower.times() == [FIRST, FORWARD, BACK]);
    let newest = Command::new("date").args(["-u", "+%FT%H:"]).output().unwrap().stdout;
    assert_eq!(String::from_utf8(newest).unwrap().trim(), BACK, "the clock is where it was set");
}
