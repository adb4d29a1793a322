//! A default deny that is tried in shadow mode first: everything flows, the flows say
//! what would not, and once it is enforced exactly that is dropped.

use std::fs;

use serde_json::{Value, json};

use crate::attempt::{self, Attempt, Connection, Outcome};
use crate::scene::{Scene, eventually, options};
use crate::signet::{self, word};

/// `web` may call `api` on 8080, and would be the only one.
const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: bank, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: job, namespace: batch, labels: {app: job}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: bank, labels: {app: api}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: callers, namespace: bank}
spec:
  endpointSelector: {matchLabels: {app: api}}
  enableDefaultDeny: {ingress: false}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: '8080', protocol: TCP}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: bank, annotations: {signet.dev/mode: shadow}}
spec: {podSelector: {}, policyTypes: [Ingress]}
";

/// Nobody listens at either port: an answer that says so came all the way.
const ATTEMPTS: [Attempt; 3] = [
    Attempt { from: "bank.web", to: "bank.api", port: 8080, family: 4 },
    Attempt { from: "bank.web", to: "bank.api", port: 9090, family: 4 },
    Attempt { from: "batch.job", to: "bank.api", port: 8080, family: 6 },
];

pub fn on_the_wire() {
    let mut scene = Scene::of("shadow", MANIFESTS);
    assert_eq!(mode(&scene), "shadow");
    assert_eq!(attempt::all(&scene, &ATTEMPTS), [Outcome::Refused; 3]);
    shadows_are_told(&scene);
    evaluation_says_the_same(&scene);

    let mut kept = Connection::open(&scene, "bank.web", "bank.api", 8080, 4);
    let mut other = Connection::open(&scene, "bank.web", "bank.api", 9090, 4);
    kept.carries();
    other.carries();
    set_mode(&mut scene, "shadow", "enforce");
    assert_eq!(mode(&scene), "enforce");
    kept.carries();
    assert!(!other.answers(), "what the shadow denied goes on");
    let enforced = [Outcome::Refused, Outcome::Silence, Outcome::Silence];
    assert_eq!(attempt::all(&scene, &ATTEMPTS), enforced);
    let dropped = ["--verdict", "DROPPED", "--since", "10m", "--from-pod", "batch/job"];
    eventually("the drop is told, and nobody is in shadow mode any more", || {
        let flow = scene.observe(&dropped).into_iter().find_map(|mut it| match it["flow"].take() {
            flow @ Value::Object(_) => Some(flow),
            _ => None,
        });
        flow.is_some_and(|flow| {
            flow["extensions"]["value"]["because"] == json!(["NetworkPolicy/bank/closed"])
                && flow["extensions"]["value"]["shadow"].is_null()
        })
    });

    // What closes may be tried away, too.
    set_mode(&mut scene, "enforce", "retire");
    assert_eq!(attempt::all(&scene, &ATTEMPTS), enforced);
    let differs = ["--verdict", "DROPPED", "--shadow", "allowed", "--last", "100"];
    eventually("what would pass without it is told", || {
        let ports: Vec<Value> =
            flows(&scene, &differs).iter().map(|flow| port(flow).into()).collect();
        ports.contains(&json!(8080)) && ports.contains(&json!(9090))
    });
}

/// Flows about `api` as the receiver's end judged them.
fn flows(scene: &Scene, flags: &[&str]) -> Vec<Value> {
    let ours = ["--traffic-direction", "ingress", "--to-pod", "bank/api"];
    let answers = scene.observe(&[flags, &ours].concat());
    let flows = answers.into_iter().map(|mut answer| answer["flow"].take());
    flows.filter(|flow| flow.is_object() && flow["is_reply"] != json!(true)).collect()
}

fn port(flow: &Value) -> u64 {
    flow["l4"]["TCP"]["destination_port"].as_u64().unwrap()
}

fn shadows_are_told(scene: &Scene) {
    let denied = |flow: &Value| {
        let pod = flow["source"]["pod_name"].as_str().unwrap().to_owned();
        (pod, port(flow), flow["extensions"]["value"]["shadow"].clone())
    };
    let told = || {
        let mut told: Vec<_> =
            flows(scene, &["--all", "--shadow", "denied"]).iter().map(denied).collect();
        told.sort_by_key(|(pod, port, _)| (pod.clone(), *port));
        told
    };
    eventually("both are told", || told().len() == 2);
    let shadow = json!({
        "verdict": "denied", "differs": true, "reason": "default-deny", "code": 133, "rules": [],
        "because": ["NetworkPolicy/bank/closed"],
    });
    let want = [("job".to_owned(), 8080, shadow.clone()), ("web".to_owned(), 9090, shadow)];
    assert_eq!(told(), want);
    let allowed = flows(scene, &["--all", "--shadow", "allowed"]);
    let [allowed] = allowed.as_slice() else { panic!("{allowed:?}") };
    assert_eq!((allowed["source"]["pod_name"].as_str(), port(allowed)), (Some("web"), 8080));
    let rule = "CiliumNetworkPolicy/bank/callers#spec.ingress[0]";
    assert_eq!(allowed["extensions"]["value"]["shadow"]["rule"], rule);
    assert_eq!(flows(scene, &["--all", "--shadow", "differs"]).len(), 2);
    assert_eq!(flows(scene, &["--all", "--not", "--shadow", "differs"]).len(), 1);

    let shown = scene.ask(&["observe", "-o", "brief", "--all", "--shadow", "differs"]).good();
    let words = "shadow: denied by default (NetworkPolicy/bank/closed)";
    assert_eq!(shown.matches(words).count(), 2, "{shown}");
}

fn evaluation_says_the_same(scene: &Scene) {
    let manifests = word(scene.directory.path());
    let asked = ["policy", "evaluate", "--manifests", manifests, "-o", "json"];
    for (from, port, want) in [
        ("pod:bank/web", "8080", "allowed"),
        ("pod:bank/web", "9090", "denied"),
        ("pod:batch/job", "8080", "denied"),
    ] {
        let probe = ["--from", from, "--to", "pod:bank/api", "--port", port];
        let answer = signet::run(&[&asked[..], &probe].concat()).good();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            (&answer["verdict"], &answer["shadow"]["verdict"]),
            (&json!("allowed"), &json!(want))
        );
    }
}

/// Of `closed`, as the agent lists it.
fn mode(scene: &Scene) -> String {
    let policies = scene.list(&["policy", "list"], "policies");
    let found = policies.iter().find(|policy| policy["name"] == "closed").unwrap();
    found["mode"].as_str().unwrap().to_owned()
}

fn set_mode(scene: &mut Scene, from: &str, to: &str) {
    let path = scene.directory.path().join("pods.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let (from, to) = (format!("signet.dev/mode: {from}"), format!("signet.dev/mode: {to}"));
    assert!(text.contains(&from));
    fs::write(&path, text.replace(&from, &to)).unwrap();
    let applied = scene.lab.apply(&path, None, &options(), &mut |_| {});
    applied.unwrap_or_else(|error| panic!("{}", error.chain()));
}
