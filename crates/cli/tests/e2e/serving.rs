//! What an agent serves and exports when it is told to: numbers to Prometheus, flows to
//! a collector of another make and into a file, and answers over TCP to who shows a
//! certificate. Programs of others read all of it, inside the node's own network.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::attempt;
use crate::openssl::Authority;
use crate::python;
use crate::scene::{Scene, eventually, options};
use crate::signet::{self, word};

const NODE: &str = "node-1";
/// As Hubble's relay asks for it.
const CERTIFICATE: &str = "node-1.default.hubble-grpc.cilium.io";
const METRICS: &str = "127.0.0.1:9965";
const PROMETHEUS: &str = "127.0.0.1:9090";
/// Where an agent is met, unless it is told otherwise.
const PORT: u16 = 4244;

/// Datagrams to the world: of the payment service, denied; of a developer, allowed.
const DENIED: u16 = 5101;
const ALLOWED: u16 = 5102;

/// A program that ends when the test does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts it in the node's network.
    fn start(scene: &Scene, command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped());
        Self(scene.inside(NODE, || command.spawn()).unwrap())
    }

    /// Starts it and passes on what it prints, a value a line.
    fn printing(scene: &Scene, command: &mut Command) -> (Self, Receiver<Value>) {
        let mut running = Self::start(scene, command.stdout(Stdio::piped()));
        let lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        let (sender, values) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Nobody listens any more when the test is at its end.
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        (running, values)
    }
}

/// Whether a program is there; CI must have it.
fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    assert!(there || std::env::var_os("CI").is_none(), "`{program}` is not installed");
    if !there {
        eprintln!("not run: `{program}` is not installed");
    }
    there
}

/// A lab, certificates and what the agent of its first node is told by flags.
struct World {
    scene: Scene,
    authority: Authority,
    python: (PathBuf, PathBuf),
}

impl World {
    /// Nothing without Python's packages.
    fn new(test: &str) -> Option<Self> {
        let python = python::client()?;
        let authority = Authority::new();
        for name in [CERTIFICATE, "stranger"] {
            authority.issue(name);
        }
        let soc = authority.issue("soc");
        let world = Self { scene: Scene::tiny(test, ""), authority, python };
        world.let_in(&[("soc", &soc)]);
        Some(world)
    }

    /// Writes the list of readers, as a careful writer does.
    fn let_in(&self, readers: &[(&str, &str)]) {
        let rows: Vec<Value> = readers
            .iter()
            .map(|(name, digest)| {
                json!({"name": name, "certificateSha256": digest, "namespaces": ["*"]})
            })
            .collect();
        let draft = self.authority.path("readers.draft");
        fs::write(&draft, json!({"readers": rows}).to_string()).unwrap();
        fs::rename(draft, self.authority.path("readers.json")).unwrap();
    }

    /// Starts the agent anew, on TCP and with these flags.
    fn restart(&mut self, more: &[&str]) {
        let file = |name: &str| self.authority.text(name);
        let tcp = [
            ("--tcp-listen", format!("0.0.0.0:{PORT}")),
            ("--tls-cert-file", file(&format!("{CERTIFICATE}.pem"))),
            ("--tls-key-file", file(&format!("{CERTIFICATE}.key"))),
            ("--tls-client-ca-files", file("ca.pem")),
            ("--access-file", file("readers.json")),
        ];
        let tcp = tcp.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        self.scene.lab.journal.agent = tcp.chain(more.iter().map(ToString::to_string)).collect();
        let started = self.scene.lab.restart_agent(NODE, &options());
        started.unwrap_or_else(|error| panic!("{}", error.chain()));
    }

    /// Python with a script, and where its generated code is.
    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python.0);
        command.arg(format!("{}/{name}", python::SCRIPTS));
        command
    }

    /// What a client with this certificate is answered over TCP; `-`: with none.
    fn flows_over_tcp(&self, who: &str) -> String {
        let shown = [".pem", ".key"].map(|end| match who {
            "-" => who.to_owned(),
            who => self.authority.text(&format!("{who}{end}")),
        });
        let mut command = self.script("encrypted.py");
        command.arg(&self.python.1).arg(PORT.to_string()).arg(self.authority.path("ca.pem"));
        command.args(shown).arg(CERTIFICATE).stderr(Stdio::inherit());
        let run = self.scene.inside(NODE, || command.output()).unwrap();
        String::from_utf8(run.stdout).unwrap().trim().to_owned()
    }

    /// What is at a path of a web server in the node's network.
    fn get(&self, place: &str, path: &str) -> Option<String> {
        let mut stream = self.scene.inside(NODE, || TcpStream::connect(place)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200 ").then_some(answer)
    }

    fn send(&self) {
        let to = self.scene.address("internet", 4);
        for (pod, port) in [("payment.pay-svc", DENIED), ("web.dev-pod", ALLOWED)] {
            attempt::datagrams(&self.scene, pod, to, [port].into_iter());
        }
    }
}

pub fn exports() {
    let Some(mut world) = World::new("exports") else { return };
    let mut collector = world.script("collector.py");
    let (_collector, requests) = Running::printing(&world.scene, &mut collector);
    let ports = requests.recv_timeout(Duration::from_secs(30)).unwrap();
    let collector = format!("grpc://127.0.0.1:{}", ports["grpc"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flows.log");
    world.restart(&[
        "--metrics",
        "drop:sourceContext=pod flow tcp icmp policy port-distribution flows-to-world",
        "--metrics-listen",
        METRICS,
        "--export-file",
        word(&file),
        "--export-otlp",
        &collector,
        "--export-otlp-interval",
        "1s",
    ]);
    world.send();
    check_file(&world, &file);
    check_collector(&requests);
    check_metrics(&world, folder.path().join("prometheus"));
    // Who is on the list reads; a stranger of the same authority, and who shows nothing,
    // do not.
    assert!(world.flows_over_tcp("soc").contains('-'), "{}", world.flows_over_tcp("soc"));
    assert_eq!(world.flows_over_tcp("stranger"), "PERMISSION_DENIED");
    assert_eq!(world.flows_over_tcp("-"), "UNAVAILABLE");
}

fn check_file(world: &World, file: &std::path::Path) {
    let told = |port: u16, verdict: &str, pod: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        // The last line may be half there.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        signet::lines(whole).iter().any(|line| {
            line["flow"]["l4"]["UDP"]["destination_port"] == port
                && line["flow"]["verdict"] == verdict
                && line["flow"]["source"]["pod_name"] == pod
                && line["node_name"] == NODE
        })
    };
    eventually("the file has both flows", || {
        world.send();
        told(DENIED, "DROPPED", "pay-svc") && told(ALLOWED, "FORWARDED", "dev-pod")
    });
}

/// The value of an attribute, as text.
fn attribute<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    let attributes = of["attributes"].as_array()?;
    let found = attributes.iter().find(|attribute| attribute["key"] == key)?;
    found["value"]["stringValue"].as_str().or_else(|| found["value"]["intValue"].as_str())
}

fn check_collector(requests: &Receiver<Value>) {
    let (mut denied, mut allowed, mut counted) = (false, false, false);
    while !(denied && allowed && counted) {
        let line = requests.recv_timeout(Duration::from_secs(60)).unwrap();
        let request = &line["request"];
        if line["what"] == "metrics" {
            let text = request.to_string();
            counted |= text.contains("hubble_drop_total") && text.contains("signet_endpoints");
            continue;
        }
        let records = request["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap();
        let is = |pod: &str, port: u16, verdict: &str| {
            records.iter().any(|record| {
                attribute(record, "signet.source.pod.name") == Some(pod)
                    && attribute(record, "destination.port") == Some(&port.to_string())
                    && attribute(record, "signet.verdict") == Some(verdict)
            })
        };
        denied |= is("pay-svc", DENIED, "DROPPED");
        allowed |= is("dev-pod", ALLOWED, "FORWARDED");
    }
}

/// Prometheus' own linter finds nothing, and Prometheus has Hubble's names and ours.
fn check_metrics(world: &World, data: PathBuf) {
    let text = world.get(METRICS, "/metrics").expect("the agent serves metrics");
    let (_, text) = text.split_once("\r\n\r\n").unwrap();
    if has("promtool") {
        lint(text);
    }
    if !has("prometheus") {
        return;
    }
    fs::create_dir(&data).unwrap();
    let config = data.join("prometheus.yml");
    let settings = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: signet\n  static_configs:\n  \
         - targets: ['{METRICS}']\n"
    );
    fs::write(&config, settings).unwrap();
    let mut prometheus = Command::new("prometheus");
    prometheus
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", data.join("tsdb").display()))
        .arg(format!("--web.listen-address={PROMETHEUS}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _prometheus = Running::start(&world.scene, &mut prometheus);
    for (query, want) in [
        ("hubble_drop_total", r#""reason":"POLICY_DENIED","source":"payment/pay-svc""#),
        ("hubble_flows_to_world_total", r#""verdict":"FORWARDED""#),
        ("signet_kernel_records_total", r#""ring":"drops""#),
        ("signet_endpoints", r#""state":"ready""#),
    ] {
        eventually(query, || {
            let path = format!("/api/v1/query?query={query}");
            world.get(PROMETHEUS, &path).is_some_and(|answer| answer.contains(want))
        });
    }
}

fn lint(text: &str) {
    let mut linter = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    linter.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let found = linter.wait_with_output().unwrap();
    let said = [found.stdout, found.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    assert!(found.status.success() && said.is_empty(), "{said}");
}

/// A peer as JSON of protobuf has it.
fn peer(name: &str, address: &str, kind: &str) -> Value {
    let server_name = format!("{name}.default.hubble-grpc.cilium.io");
    json!({"name": name, "address": address, "type": kind, "tls": {"server_name": server_name}})
}

pub fn peers() {
    let Some(mut world) = World::new("peers-of") else { return };
    world.restart(&[]);
    let mut script = world.script("peers.py");
    script.arg(&world.python.1).arg(PORT.to_string());
    script.args(["ca.pem", "soc.pem", "soc.key"].map(|name| world.authority.path(name)));
    let (_client, lines) = Running::printing(&world.scene, script.arg(CERTIFICATE));
    let next = || lines.recv_timeout(Duration::from_secs(30)).unwrap();
    let node = next()["nodes"][0].clone();
    assert_eq!((&node["name"], &node["address"]), (&json!(NODE), &json!("172.20.0.11:4244")));
    assert_eq!(node["tls"], json!({"enabled": true, "server_name": CERTIFICATE}));
    assert_eq!(next(), peer("node-1", "172.20.0.11:4244", "PEER_ADDED"));
    assert_eq!(next(), peer("node-2", "172.20.0.12:4244", "PEER_ADDED"));

    let file = world.scene.lab.places.objects(None).join("Node.-.node-9.json");
    let write = |address: &str| {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-9"},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        });
        let draft = file.with_extension("draft");
        fs::write(&draft, node.to_string()).unwrap();
        fs::rename(draft, &file).unwrap();
    };
    write("192.0.2.9");
    assert_eq!(next(), peer("node-9", "192.0.2.9:4244", "PEER_ADDED"));
    write("192.0.2.99");
    assert_eq!(next(), peer("node-9", "192.0.2.99:4244", "PEER_UPDATED"));
    fs::remove_file(&file).unwrap();
    assert_eq!(next(), peer("node-9", "192.0.2.99:4244", "PEER_DELETED"));
}

impl World {
    /// Digest of the certificate that the agent shows, as OpenSSL's own client sees it.
    fn shown(&self) -> String {
        let file = |name: &str| self.authority.text(name);
        let script = format!(
            "openssl s_client -connect 127.0.0.1:{PORT} -CAfile {} -cert {} -key {} </dev/null \
             2>/dev/null | openssl x509 -noout -fingerprint -sha256",
            file("ca.pem"),
            file("soc.pem"),
            file("soc.key")
        );
        let run = || Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).output();
        let run = self.scene.inside(NODE, run).unwrap();
        let text = String::from_utf8(run.stdout).unwrap();
        let digest = text.trim().split_once('=').map(|(_, digest)| digest.replace(':', ""));
        digest.unwrap_or_default().to_lowercase()
    }

    fn told(&self, text: &str) -> bool {
        let agent = self.scene.lab.places.agent_socket(NODE);
        let words = ["observe", "agent-events", "--last", "100", "-o", "json", "--server"];
        signet::run(&[&words[..], &[word(&agent)]].concat()).good().contains(text)
    }
}

pub fn renewal() {
    let Some(mut world) = World::new("renewal") else { return };
    let [soc, team] = ["soc", "team"].map(|name| world.authority.issue(name));
    world.let_in(&[("soc", &soc)]);
    world.restart(&[]);
    world.send();
    let reads = |who: &str| world.flows_over_tcp(who);
    let refused = "PERMISSION_DENIED";
    assert!(reads("soc").contains('-') && reads("team") == refused);
    let mut script = world.script("peers.py");
    script.arg(&world.python.1).arg(PORT.to_string());
    script.args(["ca.pem", "soc.pem", "soc.key"].map(|name| world.authority.path(name)));
    let (_client, lines) = Running::printing(&world.scene, script.arg(CERTIFICATE));
    assert!(lines.recv_timeout(Duration::from_secs(30)).unwrap()["nodes"].is_array());

    // Who is taken off the list reads no more, not even what was begun.
    world.let_in(&[("team", &team)]);
    eventually("the list is read again", || reads("soc") == refused);
    assert!(reads("team").contains('-'));
    let mut last = Value::Null;
    while last["ended"].is_null() {
        last = lines.recv_timeout(Duration::from_secs(30)).expect("the stream ends");
    }

    // A list that is none changes nothing, and is told.
    fs::write(world.authority.path("readers.json"), "{\"readers\": [").unwrap();
    eventually("the bad list is told", || world.told("readers of TCP stay as they were: nobody"));
    assert!(reads("team").contains('-') && reads("soc") == refused);
    world.let_in(&[("soc", &soc), ("team", &team)]);
    eventually("the good list is read", || reads("soc").contains('-'));

    // Another certificate with another key; a key that is not the certificate's changes
    // nothing.
    let before = world.shown();
    fs::copy(world.authority.path("soc.key"), world.authority.path(&format!("{CERTIFICATE}.key")))
        .unwrap();
    eventually("the wrong key is told", || {
        world.told("readers of TCP stay as they were: cannot serve the API: the gRPC server")
    });
    assert_eq!(world.shown(), before);
    let renewed = world.authority.issue(CERTIFICATE);
    assert_ne!(renewed, before);
    eventually("the new certificate is shown", || world.shown() == renewed);
    assert!(reads("soc").contains('-'));
}
