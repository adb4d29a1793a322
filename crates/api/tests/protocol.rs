//! The protocol, asked by a client that shares no code with the server: gRPC's own
//! for Python, generated from the `.proto` files by their own compiler.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the lints' exception for tests does not reach the functions tests share"
)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use api::events::AgentEvents;
use api::observer::NodeObserver;
use api::peer::{Peer, Peers};
use api::proto::flow::{AgentEvent, AgentEventType};
use api::proto::observer::GetFlowsResponse;
use api::relay::{Member, Place, Relay};
use api::server::{Services, listener, serve_all};
use api::store::{FlowStore, Limits};

mod python;

const FLOWS: &str = include_str!("protocol/flows.jsonl");

#[test]
fn an_independent_client_gets_what_it_asks_for() {
    let Some((python, generated)) = python::client() else { return };
    let directory = tempfile::tempdir().unwrap();
    let [node, relay, lately] =
        ["agent.sock", "relay.sock", "lately.sock"].map(|name| directory.path().join(name));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let entered = runtime.enter();
    serve_node(&runtime, &node);
    serve_lately(&runtime, &lately);
    let member = Member { name: "c1/node-a".into(), place: Place::Socket(node.clone()) };
    let merged = Relay::new("relay", vec![member]);
    let services =
        Services { peers: merged.peers(), observer: merged.clone(), signet: merged.clone() };
    let stop = std::future::pending();
    runtime.spawn(serve_all(listener(&relay).unwrap(), services, stop));
    drop(entered);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocol/client.py");
    let run =
        Command::new(python).arg(script).args([generated, node, relay, lately]).output().unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let failed: Vec<&str> = text.lines().filter(|line| !line.starts_with("ok ")).collect();
    assert!(run.status.success(), "{failed:#?}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.lines().count() > 150, "{text}");
}

/// A node with the flows of the file as if they had happened now, and three events of
/// its agent, a second apart.
fn serve_lately(runtime: &tokio::runtime::Runtime, socket: &Path) {
    let store = Arc::new(FlowStore::new(Limits { events: 100, ..Limits::default() }));
    for line in FLOWS.lines() {
        let mut answer: GetFlowsResponse = api::json::from_json(line).unwrap();
        answer.time = Some(api::time::timestamp(api::time::now_ns()));
        assert!(store.push(&answer));
    }
    let log = Arc::new(AgentEvents::default());
    let events = [
        (1_767_323_041, AgentEventType::AgentStarted),
        (1_767_323_042, AgentEventType::PolicyUpdated),
        (1_767_323_043, AgentEventType::PolicyDeleted),
    ];
    for (second, kind) in events {
        let event = AgentEvent { r#type: kind.into(), notification: None };
        log.push("c1/node-a", second * 1_000_000_000, event);
    }
    let observer = NodeObserver::new(store, "c1/node-a").with_agent_events(log);
    let services =
        Services { observer, signet: Relay::new("none", vec![]), peers: Peers::default() };
    runtime.spawn(serve_all(listener(socket).unwrap(), services, std::future::pending()));
}

/// A node with the flows of the file and one event of its agent. What it enforces
/// is nobody's question here: a relay of no nodes answers it.
fn serve_node(runtime: &tokio::runtime::Runtime, socket: &Path) {
    let store = Arc::new(FlowStore::new(Limits { events: 100, ..Limits::default() }));
    for line in FLOWS.lines() {
        assert!(store.push(&api::json::from_json(line).unwrap()));
    }
    let log = Arc::new(AgentEvents::default());
    let started = AgentEvent { r#type: AgentEventType::AgentStarted.into(), notification: None };
    log.push("c1/node-a", 1_767_323_041_000_000_000, started);
    let observer = NodeObserver::new(store, "c1/node-a").with_agent_events(log);
    let peer = Peer { name: "c1/node-a".into(), address: "10.0.0.1:4244".into(), tls: true };
    let (signet, peers) = (Relay::new("none", vec![]), Peers::new([peer]));
    let services = Services { observer, signet, peers };
    runtime.spawn(serve_all(listener(socket).unwrap(), services, std::future::pending()));
}
