//! A relay that meets its nodes over TLS and serves on TCP, with certificates made by
//! OpenSSL and asked by clients of another make.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the lints' exception for tests does not reach the functions tests share"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use api::access::Access;
use api::client::ClientTls;
use api::observer::NodeObserver;
use api::peer::Peers;
use api::relay::{Member, Place, Relay};
use api::server::{Services, Tls, serve_relay_tls, serve_tls};
use api::store::{FlowStore, Limits};
use tokio::net::TcpListener;

mod python;

const FLOWS: &str = include_str!("protocol/flows.jsonl");
const NODE: &str = "node-a.c1.hubble-grpc.cilium.io";

/// Certificates in a folder, made with the `openssl` program.
struct Authority(tempfile::TempDir);

#[track_caller]
fn openssl(arguments: &[&str]) -> String {
    let run = Command::new("openssl").args(arguments).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "openssl {arguments:?}: {error}");
    String::from_utf8_lossy(&run.stdout).into_owned()
}

impl Authority {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        let (key, certificate) = (this.text("ca.key"), this.text("ca.pem"));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"];
        let own = ["-keyout", &key, "-out", &certificate, "-subj", "/CN=test", "-days", "2"];
        openssl(&[&["req", "-x509"][..], &curve, &own].concat());
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// A certificate for a name; its SHA-256 as a list of readers has it.
    fn issue(&self, name: &str) -> String {
        let (key, request, pem) =
            [".key", ".csr", ".pem"].map(|end| self.text(&format!("{name}{end}"))).into();
        let subject = format!("/CN={name}");
        let alternative = format!("subjectAltName=DNS:{name}");
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"];
        let own = ["-keyout", &key, "-out", &request, "-subj", &subject, "-addext", &alternative];
        openssl(&[&["req"][..], &curve, &own].concat());
        let (ca, ca_key) = (self.text("ca.pem"), self.text("ca.key"));
        let signed = ["-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-out", &pem, "-days", "2"];
        openssl(&[&["x509", "-req", "-copy_extensions", "copyall"][..], &signed].concat());
        let shown = openssl(&["x509", "-in", &pem, "-noout", "-fingerprint", "-sha256"]);
        shown.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase()
    }

    /// How a server shows itself.
    fn server(&self, name: &str) -> Tls {
        Tls {
            certificate: self.read(&format!("{name}.pem")),
            key: self.read(&format!("{name}.key")),
            clients: self.read("ca.pem"),
        }
    }

    fn client(&self, name: &str) -> ClientTls {
        let identity = [".pem", ".key"].map(|end| self.read(&format!("{name}{end}"))).into();
        ClientTls { roots: self.read("ca.pem"), identity: Some(identity), server_name: None }
    }
}

fn readers(list: &[(&str, &str, &str)]) -> Access {
    let rows: Vec<String> = list
        .iter()
        .map(|(name, digest, namespaces)| {
            format!(
                r#"{{"name":"{name}","certificateSha256":"{digest}","namespaces":["{namespaces}"]}}"#
            )
        })
        .collect();
    Access::read(&format!(r#"{{"readers":[{}]}}"#, rows.join(","))).unwrap()
}

struct World {
    authority: Authority,
    relay_port: u16,
    _runtime: tokio::runtime::Runtime,
}

/// A node that lets the relay in, one that is not there, and a relay of both that
/// knows a reader of everything and one of a namespace.
fn world() -> World {
    let authority = Authority::new();
    let [relay, soc, team] = ["relay.test", "soc", "team"].map(|name| authority.issue(name));
    authority.issue(NODE);
    authority.issue("stranger");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let relay_port = runtime.block_on(async {
        let store = Arc::new(FlowStore::new(Limits::default()));
        for line in FLOWS.lines() {
            assert!(store.push(&api::json::from_json(line).unwrap()));
        }
        let services = Services {
            observer: NodeObserver::new(store, "c1/node-a"),
            signet: Relay::new("none", vec![]),
            peers: Peers::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let access = readers(&[("relay", &relay, "*")]);
        let stop = std::future::pending();
        tokio::spawn(serve_tls(listener, authority.server(NODE), access, services, stop));

        let member = |name: &str, client: &str| Member {
            name: name.into(),
            place: Place::Tls { address: address.clone(), tls: authority.client(client) },
        };
        // The second is refused: that certificate is no node's of this name.
        let members = vec![member("c1/node-a", "relay.test"), member("c1/node-b", "relay.test")];
        let merged = Relay::new("relay", members);
        let services = Services { peers: merged.peers(), observer: merged.clone(), signet: merged };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let access = readers(&[("soc", &soc, "*"), ("team", &team, "payment")]);
        let (tls, stop) = (authority.server("relay.test"), std::future::pending());
        tokio::spawn(serve_relay_tls(listener, tls, access, services, stop));
        port
    });
    World { authority, relay_port, _runtime: runtime }
}

impl World {
    /// What OpenSSL's own client says of the handshake.
    fn handshake(&self, more: &[&str]) -> String {
        let place = format!("127.0.0.1:{}", self.relay_port);
        let ca = self.authority.text("ca.pem");
        let run = Command::new("openssl")
            .args(["s_client", "-connect", &place, "-CAfile", &ca, "-verify_return_error"])
            .args(["-servername", "relay.test", "-verify_hostname", "relay.test"])
            .args(["-alpn", "h2", "-ign_eof"])
            .args(more)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        [run.stdout, run.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
    }
}

#[test]
fn a_relay_meets_its_nodes_by_their_certificates_and_is_met_by_its_own() {
    let Some((python, generated)) = python::client() else { return };
    let world = world();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocol/encrypted.py");
    let ask = |name: &str| {
        let files = ["ca.pem", &format!("{name}.pem"), &format!("{name}.key")]
            .map(|file| world.authority.path(file));
        let run = Command::new(&python)
            .arg(&script)
            .args([generated.as_os_str(), world.relay_port.to_string().as_ref()])
            .args(files)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        String::from_utf8(run.stdout).unwrap().trim().to_owned()
    };
    // Node b is away: what answers there shows the certificate of a.
    assert_eq!(ask("soc"), "!abcde.");
    assert_eq!(ask("team"), "PERMISSION_DENIED");
    assert_eq!(ask("stranger"), "PERMISSION_DENIED");
}

#[test]
fn a_relay_on_tcp_wants_a_certificate_and_shows_its_own() {
    let world = world();
    let (certificate, key) = (world.authority.text("soc.pem"), world.authority.text("soc.key"));
    let shown = world.handshake(&["-cert", &certificate, "-key", &key, "-no_ign_eof"]);
    assert!(shown.contains("Verification: OK") && shown.contains("TLSv1.3"), "{shown}");
    assert!(shown.contains("ALPN protocol: h2") && !shown.contains("alert"), "{shown}");
    let refused = world.handshake(&[]);
    assert!(refused.contains("certificate required"), "{refused}");
}
