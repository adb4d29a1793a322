//! A relay that meets its nodes over TLS and serves on TCP, with certificates made by
//! OpenSSL and asked by clients of another make.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the lints' exception for tests does not reach the functions tests share"
)]

use std::fs;
use std::path::Path;
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

mod openssl;
mod python;

use openssl::Authority;

const FLOWS: &str = include_str!("protocol/flows.jsonl");
const NODE: &str = "node-a.c1.hubble-grpc.cilium.io";

/// How a server shows itself.
fn server(authority: &Authority, name: &str) -> Tls {
    let read = |name: &str| fs::read(authority.path(name)).unwrap();
    Tls {
        certificate: read(&format!("{name}.pem")),
        key: read(&format!("{name}.key")),
        clients: read("ca.pem"),
    }
}

fn client(authority: &Authority, name: &str) -> ClientTls {
    let read = |name: &str| fs::read(authority.path(name)).unwrap();
    let identity = [".pem", ".key"].map(|end| read(&format!("{name}{end}"))).into();
    ClientTls { roots: read("ca.pem"), identity: Some(identity), server_name: None }
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
        tokio::spawn(serve_tls(listener, server(&authority, NODE), access, services, stop));

        let member = |name: &str, certificate: &str| Member {
            name: name.into(),
            place: Place::Tls { address: address.clone(), tls: client(&authority, certificate) },
        };
        // The second is refused: that certificate is no node's of this name.
        let members = vec![member("c1/node-a", "relay.test"), member("c1/node-b", "relay.test")];
        let merged = Relay::new("relay", members);
        let services = Services { peers: merged.peers(), observer: merged.clone(), signet: merged };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let access = readers(&[("soc", &soc, "*"), ("team", &team, "payment")]);
        let (tls, stop) = (server(&authority, "relay.test"), std::future::pending());
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
