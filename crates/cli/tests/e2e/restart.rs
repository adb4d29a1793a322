//! Agents that die and come back: what pods may do stays the same meanwhile, and
//! what happened meanwhile is told afterwards.

use serde_json::Value;

use crate::attempt::{self, Attempt, Connection, Outcome};
use crate::scene::{Scene, eventually};
use crate::signet::number;

/// Selected as the ledger's pod is, with nobody on its port yet.
const VAULT: &str = "
apiVersion: v1
kind: Pod
metadata: {name: vault, namespace: payment, labels: {app: ledger-db}}
spec:
  nodeName: node-2
  containers: [{name: main}]
";

const fn try_to(from: &'static str, to: &'static str, port: u16, family: u8) -> Attempt {
    Attempt { from, to, port, family }
}

/// What the policies of the example mean, by hand.
const EXPECTED: [(Attempt, Outcome); 22] = {
    use Outcome::{Connected, Refused, Silence};
    [
        (try_to("gateway.api-gateway", "payment.pay-svc", 8080, 4), Connected),
        (try_to("gateway.api-gateway", "payment.pay-svc", 8080, 6), Connected),
        (try_to("gateway.api-gateway", "payment.pay-svc", 9090, 4), Silence),
        (try_to("gateway.api-gateway", "web.web-fe", 8080, 6), Silence),
        (try_to("gateway.api-gateway", "internet", 80, 6), Connected),
        (try_to("gateway.api-gateway", "internet", 25, 6), Silence),
        (try_to("web.web-fe", "payment.pay-svc", 8080, 4), Connected),
        (try_to("web.web-fe", "payment.pay-svc", 9090, 6), Silence),
        (try_to("web.web-fe", "payment.ledger-db", 5432, 4), Silence),
        (try_to("web.dev-pod", "payment.pay-svc", 8080, 4), Silence),
        (try_to("web.dev-pod", "payment.pay-svc", 8080, 6), Silence),
        (try_to("web.dev-pod", "web.web-fe", 8080, 6), Connected),
        (try_to("web.dev-pod", "web.web-fe", 4001, 4), Refused),
        (try_to("payment.pay-svc", "payment.ledger-db", 5432, 4), Connected),
        (try_to("payment.pay-svc", "payment.ledger-db", 5432, 6), Connected),
        (try_to("payment.pay-svc", "payment.ledger-db", 8080, 6), Silence),
        (try_to("payment.pay-svc", "internet", 80, 4), Silence),
        (try_to("internet", "gateway.api-gateway", 8080, 4), Connected),
        (try_to("internet", "gateway.api-gateway", 9090, 4), Silence),
        (try_to("internet", "payment.pay-svc", 8080, 6), Silence),
        (try_to("node-2", "payment.pay-svc", 9090, 4), Connected),
        (try_to("node-2", "payment.pay-svc", 8080, 4), Silence),
    ]
};

/// Tried only while nobody reads what the kernel tells.
const UNREAD: [(Attempt, Outcome, &str); 4] = [
    (try_to("web.dev-pod", "web.web-fe", 4002, 4), Outcome::Refused, "FORWARDED"),
    (try_to("web.dev-pod", "web.web-fe", 4003, 6), Outcome::Refused, "FORWARDED"),
    (try_to("payment.pay-svc", "internet", 4004, 4), Outcome::Silence, "DROPPED"),
    (try_to("web.web-fe", "payment.pay-svc", 4005, 6), Outcome::Silence, "DROPPED"),
];

const NODES: [&str; 2] = ["node-1", "node-2"];

pub fn killed_agents() {
    let mut scene = Scene::tiny("restart", VAULT);
    check(&scene, "before");
    let mut connection = Connection::open(&scene, "payment.pay-svc", "payment.vault", 5432, 4);
    let mut other = Connection::open(&scene, "payment.pay-svc", "payment.vault", 5432, 6);
    connection.carries();
    let before = NODES.map(|node| revision(&scene.status(node)));

    scene.kill_agents();
    check(&scene, "while the agents are dead");
    let unread = attempt::all(&scene, &UNREAD.map(|(attempt, _, _)| attempt));
    assert_eq!(unread, UNREAD.map(|(_, want, _)| want));
    connection.carries();

    scene.start_agents();
    check(&scene, "after the restart");
    connection.carries();
    other.carries();
    check_unread(&scene);
    for (node, before) in NODES.into_iter().zip(before) {
        let status = scene.status(node);
        assert!(revision(&status) >= before, "{node}: {before}, then {status}");
        for ring in status["rings"].as_array().unwrap() {
            assert_eq!(number(&ring["lost"]), 0, "{node}: {ring}");
        }
        let taken_over = status["features"].as_array().unwrap();
        let pinned = taken_over.iter().find(|feature| feature["name"] == "pinned state").unwrap();
        assert_eq!(pinned["detail"], "taken over from an earlier agent", "{node}");
    }
}

fn check(scene: &Scene, when: &str) {
    let attempts = EXPECTED.map(|(attempt, _)| attempt);
    let outcomes = attempt::all(scene, &attempts);
    for ((attempt, want), got) in EXPECTED.into_iter().zip(outcomes) {
        assert_eq!(got, want, "{when}: {attempt}");
    }
}

fn check_unread(scene: &Scene) {
    for (attempt, _, verdict) in UNREAD {
        eventually(&format!("a flow of {attempt}"), || {
            scene.flows().iter().any(|flow| {
                flow["l4"]["TCP"]["destination_port"] == attempt.port
                    && flow["IP"]["source"]
                        == scene.address(attempt.from, attempt.family).to_string()
                    && flow["verdict"] == verdict
            })
        });
    }
    let answers = scene.observe(&["--all"]);
    let lost: Vec<_> = answers.iter().filter(|answer| answer["lost_events"].is_object()).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

fn revision(status: &Value) -> u64 {
    number(&status["policy_revision"])
}
