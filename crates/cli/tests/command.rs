//! The program itself, against servers on sockets of its own: what it prints, to
//! which stream, and its exit status.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lints' exception for tests does not reach the functions tests share"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use api::access::Access;
use api::events::AgentEvents;
use api::observer::NodeObserver;
use api::peer::{Peer, Peers};
use api::proto::flow::agent_event::Notification;
use api::proto::flow::{AgentEvent, AgentEventType, PolicyUpdateNotification};
use api::proto::observer::GetFlowsResponse;
use api::proto::observer::get_flows_response::ResponseTypes;
use api::proto::signet::v1::signet_server::Signet;
use api::proto::signet::v1::{
    ConfirmPoliciesRequest, ConfirmPoliciesResponse, Identity, ListEndpointsRequest,
    ListEndpointsResponse, ListIdentitiesRequest, ListIdentitiesResponse, ListPoliciesRequest,
    ListPoliciesResponse, ListServicesRequest, ListServicesResponse, Policy, StatusRequest,
    StatusResponse, UnavailableNode,
};
use api::server::{Services, Tls, listener, serve_all, serve_tls};
use api::store::{FlowStore, Limits};
use tonic::{Request, Response, Status};

/// Flows that Hubble's command line printed as JSON.
const ANSWERS: &str = include_str!("../../api/tests/data/hubble.jsonl");

/// What a node enforces: one policy, and a node that cannot be asked.
struct Enforced;

#[tonic::async_trait]
impl Signet for Enforced {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let away = UnavailableNode { node: "node-c".into(), reason: "gone\u{1b}".into() };
        Ok(Response::new(StatusResponse { nodes: vec![], unavailable: vec![away] }))
    }

    async fn list_endpoints(
        &self,
        _: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsResponse>, Status> {
        Err(Status::internal("the agent has no endpoints"))
    }

    async fn list_identities(
        &self,
        _: Request<ListIdentitiesRequest>,
    ) -> Result<Response<ListIdentitiesResponse>, Status> {
        let world =
            Identity { id: 2, labels: vec!["reserved:world".into()], nodes: vec!["a".into()] };
        Ok(Response::new(ListIdentitiesResponse { identities: vec![world], unavailable: vec![] }))
    }

    async fn list_policies(
        &self,
        _: Request<ListPoliciesRequest>,
    ) -> Result<Response<ListPoliciesResponse>, Status> {
        let policy = Policy { name: "pay-svc".into(), ..Policy::default() };
        Ok(Response::new(ListPoliciesResponse { policies: vec![policy], unavailable: vec![] }))
    }

    async fn list_services(
        &self,
        _: Request<ListServicesRequest>,
    ) -> Result<Response<ListServicesResponse>, Status> {
        Ok(Response::new(ListServicesResponse::default()))
    }

    async fn confirm_policies(
        &self,
        _: Request<ConfirmPoliciesRequest>,
    ) -> Result<Response<ConfirmPoliciesResponse>, Status> {
        Ok(Response::new(ConfirmPoliciesResponse::default()))
    }
}

struct Server {
    directory: tempfile::TempDir,
    store: Arc<FlowStore>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start() -> Self {
        Self::of(answers())
    }

    fn of(answers: Vec<GetFlowsResponse>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(FlowStore::new(Limits::default()));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let entered = runtime.enter();
        let listener = listener(&directory.path().join("agent.sock")).unwrap();
        let log = Arc::new(AgentEvents::default());
        let update =
            PolicyUpdateNotification { labels: vec!["k8s:a=b".into()], revision: 3, rule_count: 1 };
        let event = AgentEvent {
            r#type: AgentEventType::PolicyUpdated.into(),
            notification: Some(Notification::PolicyUpdate(update)),
        };
        log.push("c1/node-a", 1_767_323_045_000_000_000, event);
        let observer = NodeObserver::new(store.clone(), "c1/node-a").with_agent_events(log);
        let peer = Peer { name: "c1/node-a".into(), address: "10.0.0.1:4244".into(), tls: true };
        let services = Services { observer, signet: Enforced, peers: Peers::new([peer]) };
        runtime.spawn(serve_all(listener, services, std::future::pending()));
        drop(entered);
        for answer in answers {
            assert!(store.push(&answer));
        }
        Self { directory, store, _runtime: runtime }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    fn command(&self, line: &str) -> Command {
        command(line, Some(&self.socket()))
    }
}

/// Flows and losses; what concerns nodes comes from relays only.
fn answers() -> Vec<GetFlowsResponse> {
    ANSWERS
        .lines()
        .map(|line| api::json::from_json::<GetFlowsResponse>(line).unwrap())
        .filter(|answer| !matches!(answer.response_types, Some(ResponseTypes::NodeStatus(_))))
        .collect()
}

fn command(line: &str, server: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signet"));
    command.args(line.split_whitespace());
    if let Some(server) = server {
        command.arg("--server").arg(server);
    }
    command
}

/// Exit status, stdout, and what stderr must contain.
#[track_caller]
fn check(mut command: Command, status: i32, out: &str, err: &str) {
    let Output { status: got, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(String::from_utf8(stdout).unwrap(), out, "{stderr}");
    assert_eq!(got.code(), Some(status), "{stderr}");
    assert!(stderr.contains(err) && stderr.is_empty() == err.is_empty(), "{stderr}");
}

#[test]
fn a_pipe_gets_compact_lines() {
    let recorded = include_str!("data/compact.txt");
    let want: Vec<&str> = recorded.lines().filter(|line| !line.contains("[relay]")).collect();
    check(Server::start().command("observe"), 0, &(want.join("\n") + "\n"), "");
}

#[test]
fn json_lines_are_the_servers_answers() {
    let server = Server::start();
    let lines: Vec<&str> = ANSWERS.lines().filter(|line| !line.contains("node_status")).collect();
    check(server.command("observe -o json"), 0, &(lines.join("\n") + "\n"), "");
}

#[test]
fn filters_reach_the_server() {
    let server = Server::start();
    let lost = "Jan  2 03:04:05 LOST 7 events (HUBBLE_RING_BUFFER)\n";
    check(
        server.command("observe -o brief --verdict DROPPED --type drop"),
        0,
        &format!("Jan  2 03:04:05 DROP xwing → deathstar-abc:80 TCP policy-denied\n{lost}"),
        "",
    );
    check(server.command("observe -o brief --not -n default"), 0, lost, "");
}

/// One flow of every kind of event: traces and what proxies see, which nothing here
/// makes yet, verdicts and drops. Lines are written by hand from Hubble's rules.
const KINDS: &str = include_str!("data/kinds.jsonl");
const LINES: [&str; 11] = [
    "01.000: pay/api:40000 (ID:30001) -> pay/db:8080 (ID:30002) from-endpoint FORWARDED (TCP Flags: SYN)",
    "02.000: pay/api:40000 (ID:30001) <- pay/db:8080 (ID:30002) to-endpoint FORWARDED (TCP Flags: SYN, ACK)",
    "03.000: pay/api:40000 (ID:30001) <> pay/db:8080 (ID:30002) pre-xlate-fwd TRACED (TCP)",
    "04.000: pay/api:50000 (ID:30001) -> 10.9.0.10:53 (world) dns-request proxy FORWARDED (DNS Query db.example.com. A)",
    "05.000: pay/api:50000 (ID:30001) <- 10.9.0.10:53 (world) dns-response proxy FORWARDED (DNS Answer \"192.0.2.9\" TTL: 30 (Proxy db.example.com. A))",
    "06.000: pay/api:40000 (ID:30001) -> pay/db:8080 (ID:30002) http-request DROPPED (HTTP/1.1 DELETE http://db/v1/all)",
    "07.000: pay/api:40000 (ID:30001) <- pay/db:8080 (ID:30002) http-response FORWARDED (HTTP/1.1 503 3ms (GET http://db/v1))",
    "08.000: pay/api:40000 (ID:30001) -> pay/db:8080 (ID:30002) kafka-request FORWARDED (Kafka produce correlation id 1 topic 'orders')",
    "09.000: pay/api:40000 (ID:30001) -> pay/db:8080 (ID:30002) policy-verdict:L3-L4 INGRESS ALLOWED (TCP Flags: SYN)",
    "10.000: pay/api:40000 (ID:30001) <> pay/db:8080 (ID:30002) policy-verdict:none EGRESS DENIED (TCP Flags: SYN)",
    "11.000: pay/api:40000 (ID:30001) <> pay/db:8080 (ID:30002) Policy denied by denylist DROPPED (TCP Flags: SYN)",
];

#[test]
fn every_kind_of_event_is_kept_found_and_printed() {
    let server =
        Server::of(KINDS.lines().map(|line| api::json::from_json(line).unwrap()).collect());
    let cases: [(&str, &[usize]); 19] = [
        ("", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ("--type trace", &[1, 2]),
        ("--type trace:from-endpoint", &[1]),
        ("--type trace:to-endpoint", &[2]),
        ("--type trace-sock", &[3]),
        ("--type l7", &[4, 5, 6, 7, 8]),
        ("--type policy-verdict", &[9, 10]),
        ("--type drop", &[11]),
        ("--type drop:181", &[11]),
        ("--type drop:133", &[]),
        ("--type l7 --verdict DROPPED", &[6]),
        ("--type drop --type policy-verdict", &[9, 10, 11]),
        ("--protocol dns", &[4, 5]),
        ("--protocol http --http-method delete", &[6]),
        ("--protocol kafka", &[8]),
        ("--http-status 5+", &[7]),
        ("--type l7 --http-path /v1/.*", &[6]),
        ("--not --type l7", &[1, 2, 3, 9, 10, 11]),
        ("--cel-expression _flow.l7.kafka.topic=='orders'||has(_flow.l7.dns)", &[4, 5, 8]),
    ];
    for (flags, numbers) in cases {
        let want: String =
            numbers.iter().map(|n| format!("Jan  2 03:04:{}\n", LINES[n - 1])).collect();
        let Output { stdout, stderr, .. } =
            server.command(&format!("observe --all -o compact {flags}")).output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!(String::from_utf8(stdout).unwrap(), want, "{flags}: {stderr}");
    }
    check(
        server.command("observe --type drop --http-method GET"),
        1,
        "",
        "filter field `http_method` needs `event_type` to be absent or to include 129 (L7)",
    );
}

#[test]
fn what_the_server_refuses_is_said() {
    check(
        Server::start().command("observe --protocol nonsense"),
        1,
        "",
        "signet: filter field `protocol`: `nonsense` is no protocol",
    );
}

#[test]
fn usage_errors_have_a_status_of_their_own() {
    check(command("observe --port http", None), 2, "", "--port `http`: a port is a number");
    check(command("observe -f -o table --server /x", None), 2, "", "a table cannot follow");
    check(command("observe --server localhost:4245", None), 2, "", "is no unix socket");
    check(command("observe --nonsense", None), 2, "", "--nonsense");
    check(command("nonsense", None), 2, "", "nonsense");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    check(
        command("status --server /nonexistent.sock", None),
        1,
        "",
        "signet: cannot connect to `/nonexistent.sock`: No such file or directory",
    );
}

#[test]
fn a_follower_prints_each_flow_as_it_comes() {
    let server = Server::start();
    let mut follower = server
        .command("observe -o brief -f --last 1 --type drop")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let drop = "Jan  2 03:04:05 DROP xwing → deathstar-abc:80 TCP policy-denied";
    assert_eq!(lines.next().unwrap().unwrap(), drop);
    let lost = "Jan  2 03:04:05 LOST 7 events (HUBBLE_RING_BUFFER)";
    assert_eq!(lines.next().unwrap().unwrap(), lost);
    assert!(server.store.push(&answers()[2]));
    assert_eq!(lines.next().unwrap().unwrap(), drop);
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let server = Server::start();
    let mut child = server.command("observe -f --last 5").stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    for _ in 0..3 {
        assert!(server.store.push(&answers()[2]));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn lists_come_as_columns_or_as_json() {
    let server = Server::start();
    check(
        server.command("identity list"),
        0,
        "ID   NODES   LABELS\n2    a       reserved:world\n",
        "",
    );
    check(
        server.command("identity list -o json"),
        0,
        "{\"identities\":[{\"id\":2,\"labels\":[\"reserved:world\"],\"nodes\":[\"a\"]}]}\n",
        "",
    );
    check(server.command("policy get nonsense"), 1, "", "no policy `nonsense`");
    check(server.command("endpoint list"), 1, "", "signet: the agent has no endpoints");
}

#[test]
fn an_answer_that_lacks_a_node_is_a_failure_that_names_it() {
    check(
        Server::start().command("status -o json"),
        1,
        "{\"unavailable\":[{\"node\":\"node-c\",\"reason\":\"gone\\u001b\"}]}\n",
        "signet: no answer from node-c (gone^[)",
    );
}

#[test]
fn agent_events_print_as_hubble_prints_them() {
    let server = Server::start();
    check(
        server.command("observe agent-events"),
        0,
        "Jan  2 03:04:05.000: POLICY_UPDATED (labels: [k8s:a=b], revision: 3, count: 1)\n",
        "",
    );
    check(server.command("observe debug-events"), 0, "", "");
}

#[test]
fn nodes_and_namespaces_are_listed_and_peers_watched() {
    let server = Server::start();
    let out = server.command("list nodes").output().unwrap().stdout;
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("c1/node-a   Connected") && out.contains("6/4095 (  0.15%)"), "{out}");
    check(server.command("list namespaces -o json"), 0, "[]\n", "");
    let mut child = server.command("watch peers").stdout(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let name = "node-a.c1.hubble-grpc.cilium.io";
    assert_eq!(line, format!("PEER_ADDED   10.0.0.1:4244 c1/node-a (TLS.ServerName: {name})"));
}

/// The program reads this from stdin.
fn fed(line: &str, input: &str) -> Output {
    let mut child = command(line, None)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Who has read enough does not read the rest.
    let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[track_caller]
fn check_fed(line: &str, input: &str, status: i32, out: &str, err: &str) {
    let output = fed(line, input);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), out, "{line}: {stderr}");
    assert_eq!(output.status.code(), Some(status), "{line}: {stderr}");
    assert!(stderr.contains(err) && stderr.is_empty() == err.is_empty(), "{line}: {stderr}");
}

#[test]
fn saved_flows_are_chosen_from_as_a_server_would() {
    let drop = "Jan  2 03:04:05 DROP xwing → deathstar-abc:80 TCP policy-denied\n";
    let lost = "Jan  2 03:04:05 LOST 7 events (HUBBLE_RING_BUFFER)\n";
    let both = format!("{drop}{lost}");
    let quiet = "observe -s -o brief --type drop";
    check_fed(&format!("{quiet} -"), ANSWERS, 0, &both, "");
    check_fed(&format!("{quiet} --input-file -"), ANSWERS, 0, &both, "");
    check_fed(&format!("{quiet} --first 1 -"), ANSWERS, 0, drop, "");
    check_fed(&format!("{quiet} --last 1 -"), ANSWERS, 0, &format!("{lost}{drop}"), "");
    check_fed(&format!("{quiet} --until 2020-01-01 -"), ANSWERS, 0, lost, "");
    check_fed("observe -", "", 0, "", "");
    check_fed("observe -", "\n{\n", 1, "", "signet: -:2: not a `observer.GetFlowsResponse`");
    check_fed("observe --protocol x -", "", 2, "", "`x` is no protocol");
    check(command("observe --input-file /nonexistent", None), 1, "", "cannot read `/nonexistent`");
    check(command("observe -f -", None), 2, "", "cannot be used with");
}

#[test]
fn what_hubble_can_and_signet_does_not_is_refused_with_what_to_do_instead() {
    for (flags, instead) in [
        ("--config x", "--config: no file of settings is read: give what is in it as flags"),
        ("-P", "--port-forward: no port is forwarded from here: run `kubectl"),
        ("--port-forward-port 4245", "give --server tls://localhost:4245"),
        ("--kubeconfig x", "--kubeconfig: no port"),
        ("--kube-context x", "--kube-context: no port"),
        ("--kube-namespace x", "--kube-namespace: no port"),
        ("--tls-allow-insecure", "give --tls-ca-cert-files with the roots"),
        ("--basic-auth-username a --basic-auth-password b", "a password is sent by TLS only"),
        ("--basic-auth-username a", "--basic-auth-password"),
    ] {
        let server = Server::start();
        check(server.command(&format!("observe {flags}")), 2, "", instead);
        check(server.command(&format!("list nodes {flags}")), 2, "", instead);
    }
    // A filter with a field that there is not would match every flow.
    for flag in ["observe --allowlist", "observe --denylist", "agent --export-denylist"] {
        check(command(&format!(r#"{flag} {{"souce_pod":["a/"]}}"#), None), 2, "", "souce_pod");
    }
    // Nor is it passed over where nobody is asked.
    check(command("observe --config x --input-file /dev/null", None), 2, "", "--config: no file");
}

#[test]
fn who_debugs_sees_whom_was_asked_for_what() {
    let server = Server::start();
    let out =
        server.command("observe --debug -o json --first 1 --verdict DROPPED").output().unwrap();
    let quiet = server.command("observe -o json --first 1 --verdict DROPPED").output().unwrap();
    assert_eq!((out.stdout, out.status.code()), (quiet.stdout, Some(0)));
    assert!(quiet.stderr.is_empty());
    let asked = r#"{"number":"1","first":true,"whitelist":[{"verdict":["DROPPED"]}]}"#;
    let socket = server.socket();
    let want =
        format!("signet: connected to {}\nsignet: asking for flows: {asked}\n", socket.display());
    assert_eq!(String::from_utf8(out.stderr).unwrap(), want);
    let out = server.command("observe -D -o compact --first 1").output().unwrap();
    let err = String::from_utf8(out.stderr).unwrap();
    let fields = r#"{"number":"1","first":true}, of each time,verdict,ethernet,IP,l4,"#;
    assert!(out.status.success() && err.contains(fields), "{err}");
}

#[test]
fn no_flow_is_no_line_and_no_failure() {
    let server = Server::of(vec![]);
    for form in ["compact", "brief", "dict", "table", "json", "jsonpb"] {
        for flags in ["", "--all", "--first 3", "--since 5m", "--verdict DROPPED"] {
            check(server.command(&format!("observe -o {form} {flags}")), 0, "", "");
        }
    }
    // One that is there and does not match is as none; one that does is printed.
    let server = Server::start();
    for form in ["compact", "brief", "dict", "table", "json"] {
        let nothing = format!("observe -o {form} --until 2020-01-01 --first 1 --uuid nobody");
        let out = server.command(&nothing).output().unwrap();
        let lost = String::from_utf8(out.stdout).unwrap();
        assert!(!lost.contains("xwing") && out.status.success(), "{lost}");
        let some = server.command(&format!("observe -o {form} --first 1")).output().unwrap();
        assert!(String::from_utf8(some.stdout).unwrap().contains("xwing"), "{form}");
    }
    check(server.command("observe agent-events -o table --since 1s"), 0, "", "");
}

#[test]
fn who_follows_debug_events_waits_for_one() {
    let server = Server::start();
    check(server.command("observe debug-events"), 0, "", "");
    let mut follower =
        server.command("observe debug-events -f").stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(follower.try_wait().unwrap(), None, "it ended by itself");
    follower.kill().unwrap();
    assert!(follower.wait_with_output().unwrap().stdout.is_empty());
}

/// Who is denied by default, and by what the remedies below are judged.
const DENIED: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: payment}
---
apiVersion: v1
kind: Namespace
metadata: {name: ledger}
---
apiVersion: v1
kind: Pod
metadata: {name: pay-0, namespace: payment, labels: {app: pay}}
---
apiVersion: v1
kind: Pod
metadata: {name: cache-0, namespace: payment, labels: {app: cache}}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: ledger, labels: {app: db, tier: '1'}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: deny, namespace: payment}
spec: {endpointSelector: {}, ingress: [{}], egress: [{}]}
";

/// A drop by default of `payment/pay-0`: its other end, what it sent or got, and where
/// it was judged.
fn default_denial(direction: &str, other: &str, l4: &str) -> GetFlowsResponse {
    let pay = r#"{"identity":30001,"namespace":"payment","pod_name":"pay-0","labels":["k8s:app=pay","k8s:io.kubernetes.pod.namespace=payment"]}"#;
    let (source, destination) = if direction == "EGRESS" { (pay, other) } else { (other, pay) };
    let text = format!(
        r#"{{"flow":{{"uuid":"it","verdict":"DROPPED","drop_reason":133,"drop_reason_desc":"POLICY_DENIED","IP":{{"source":"198.51.100.7","destination":"198.51.100.7"}},"l4":{l4},"source":{source},"destination":{destination},"event_type":{{"type":1,"sub_type":133}},"traffic_direction":"{direction}"}}}}"#
    );
    api::json::from_json(&text).unwrap()
}

/// What the remedy that is printed for a denial lets through, once it is applied.
#[track_caller]
fn check_remedy(denied: GetFlowsResponse, question: &str, twins: &[&str]) {
    let server = Server::of(vec![denied]);
    let out = server.command("observe --why it").output().unwrap().stdout;
    let out = String::from_utf8(out).unwrap();
    let (_, remedy) = out.split_once("\nallow it   ").unwrap();
    let (remedy, _) = remedy.split_once("\nhistory").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let evaluated = |question: &str| {
        let line = format!("policy evaluate -o jsonl --manifests {}", folder.path().display());
        let output = match question.starts_with('{') {
            true => fed(&format!("{line} --probes -"), question),
            false => command(&format!("{line} {question}"), None).output().unwrap(),
        };
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let answer: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{stderr}{remedy}"));
        answer["verdict"].as_str().unwrap().to_owned()
    };
    std::fs::write(folder.path().join("denied.yaml"), DENIED).unwrap();
    assert_eq!(evaluated(question), "denied", "{question}");
    std::fs::write(folder.path().join("remedy.yaml"), remedy.replace("\n           ", "\n"))
        .unwrap();
    assert_eq!(evaluated(question), "allowed", "{question}\n{remedy}");
    for twin in twins {
        assert_eq!(evaluated(twin), "denied", "{twin}\n{remedy}");
    }
}

#[test]
fn the_remedy_of_a_default_denial_lets_through_that_flow_and_no_other() {
    let db = r#"{"identity":30002,"namespace":"ledger","pod_name":"db-0","labels":["k8s:app=db","k8s:io.kubernetes.pod.namespace=ledger","k8s:tier=1"]}"#;
    let cache = r#"{"identity":30003,"namespace":"payment","pod_name":"cache-0","labels":["k8s:app=cache","k8s:io.kubernetes.pod.namespace=payment"]}"#;
    let world = r#"{"identity":9,"labels":["reserved:world-ipv4"]}"#;
    let tcp = r#"{"TCP":{"source_port":40000,"destination_port":5432}}"#;
    let udp = r#"{"UDP":{"source_port":40000,"destination_port":53}}"#;
    let echo = r#"{"ICMPv4":{"type":8}}"#;
    check_remedy(
        default_denial("EGRESS", db, tcp),
        "--from pod:payment/pay-0 --to pod:ledger/db-0 --port 5432",
        &[
            "--from pod:payment/pay-0 --to pod:ledger/db-0 --port 5433",
            "--from pod:payment/pay-0 --to pod:ledger/db-0 --port 5432 --protocol UDP",
            "--from pod:payment/pay-0 --to pod:payment/cache-0 --port 5432",
            "--from pod:payment/cache-0 --to pod:ledger/db-0 --port 5432",
            "--from pod:ledger/db-0 --to pod:payment/pay-0 --port 5432",
        ],
    );
    check_remedy(
        default_denial("INGRESS", db, tcp),
        "--from pod:ledger/db-0 --to pod:payment/pay-0 --port 5432",
        &[
            "--from pod:ledger/db-0 --to pod:payment/pay-0 --port 5433",
            "--from pod:ledger/db-0 --to pod:payment/cache-0 --port 5432",
            "--from ip:198.51.100.7 --to pod:payment/pay-0 --port 5432",
            "--from pod:payment/pay-0 --to pod:ledger/db-0 --port 5432",
        ],
    );
    check_remedy(
        default_denial("EGRESS", world, udp),
        "--from pod:payment/pay-0 --to ip:198.51.100.7 --port 53 --protocol UDP",
        &[
            "--from pod:payment/pay-0 --to ip:198.51.100.8 --port 53 --protocol UDP",
            "--from pod:payment/pay-0 --to ip:198.51.100.7 --port 53",
            "--from pod:payment/pay-0 --to pod:ledger/db-0 --port 53 --protocol UDP",
        ],
    );
    check_remedy(
        default_denial("EGRESS", r#"{"identity":7,"labels":["reserved:kube-apiserver"]}"#, tcp),
        "--from pod:payment/pay-0 --to entity:kube-apiserver --port 5432",
        &["--from pod:payment/pay-0 --to entity:kube-apiserver --port 443"],
    );
    check_remedy(
        default_denial("EGRESS", db, echo),
        r#"{"from":"pod:payment/pay-0","to":"pod:ledger/db-0","protocol":"ICMP","icmp":{"type":8}}"#,
        &[
            r#"{"from":"pod:payment/pay-0","to":"pod:ledger/db-0","protocol":"ICMP","icmp":{"type":13}}"#,
            "--from pod:payment/pay-0 --to pod:ledger/db-0 --port 5432",
        ],
    );
    // Of the same namespace both sides are denied, and each has a remedy of its own.
    let server = Server::of(vec![default_denial("EGRESS", cache, tcp)]);
    let out = String::from_utf8(server.command("observe --why it").output().unwrap().stdout);
    assert!(out.unwrap().contains("- toEndpoints: [{matchLabels: {app: cache}}]\n"));
}

#[test]
fn an_unknown_flow_cannot_be_explained() {
    let server = Server::start();
    check(server.command("observe --why nonsense"), 1, "", "signet: no flow `nonsense`");
    let out = server.command("observe --why u").output().unwrap().stdout;
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("allow it   ") && out.contains("history    "), "{out}");
}

#[test]
fn filters_print_as_an_exporters_settings() {
    check(
        command("observe --print-raw-filters --not -n kube-system --verdict DROPPED", None),
        0,
        "allowlist:\n- '{\"verdict\":[\"DROPPED\"]}'\ndenylist:\n- '{\"source_pod\":[\"kube-system/\"]}'\n- '{\"destination_pod\":[\"kube-system/\"]}'\n",
        "",
    );
}

/// A server on TCP for one reader of the namespace `default`, and the files that
/// the reader and a stranger have.
fn tls_server(directory: &Path, runtime: &tokio::runtime::Runtime) -> String {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use sha2::Digest;
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &authority).unwrap(), key)
    };
    let (own, own_key) = signed("localhost");
    let (reader, reader_key) = signed("reader");
    for (file, text) in [
        ("ca.pem", authority.pem()),
        ("reader.pem", reader.pem()),
        ("reader.key", reader_key.serialize_pem()),
        ("token", "wrong\n".to_owned()),
    ] {
        std::fs::write(directory.join(file), text).unwrap();
    }
    let digest = sha2::Sha256::digest(reader.der());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let access = Access::read(&format!(
        r#"{{"readers":[{{"name":"r","certificateSha256":"{digest}","namespaces":["default"]}}]}}"#
    ))
    .unwrap();
    let tls = Tls {
        certificate: own.pem().into(),
        key: own_key.serialize_pem().into(),
        clients: authority.pem().into(),
    };
    let store = Arc::new(FlowStore::new(Limits::default()));
    answers().iter().for_each(|answer| assert!(store.push(answer)));
    let observer = NodeObserver::new(store, "c1/node-a");
    let services = Services { observer, signet: Enforced, peers: Peers::default() };
    let bound = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = bound.local_addr().unwrap().port();
    runtime.spawn(serve_tls(bound, tls, access, services, std::future::pending()));
    format!("localhost:{port}")
}

#[test]
fn a_server_on_the_network_is_asked_with_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = tls_server(directory.path(), &runtime);
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("reader.pem"), file("reader.key"));
    let trust = format!("--server tls://{address} --tls-ca-cert-files {ca}");
    let reader =
        format!("{trust} --tls-client-cert-file {certificate} --tls-client-key-file {key}");
    let drop = "Jan  2 03:04:05 DROP xwing → deathstar-abc:80 TCP policy-denied\n";
    // The losses of the node are not this reader's.
    check(command(&format!("observe -o brief --type drop {reader}"), None), 0, drop, "");
    check(
        command(&format!("status {reader}"), None),
        1,
        "",
        "signet: this is about the whole node, not a namespace",
    );
    let token = file("token");
    check(
        command(&format!("observe {reader} --token-file {token}"), None),
        1,
        "",
        "signet: unknown token",
    );
    // A password goes along: this server knows none, and says so.
    let password = "--basic-auth-username reader --basic-auth-password secret";
    check(command(&format!("observe {reader} {password}"), None), 1, "", "signet: unknown token");
    let anonymous = command(&format!("observe {trust}"), None).output().unwrap();
    assert_eq!((anonymous.status.code(), anonymous.stdout.len()), (Some(1), 0));
    check(
        command(
            &format!("observe --server {address} --tls --tls-ca-cert-files /nonexistent"),
            None,
        ),
        1,
        "",
        "signet: cannot read `/nonexistent`: No such file",
    );
}
