//! Observers over real unix sockets: one node, and several behind a relay.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lints' exception for tests does not reach the functions tests share"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::events::AgentEvents;
use api::observer::NodeObserver;
use api::peer::{Peer, Peers};
use api::proto::flow::agent_event::Notification;
use api::proto::flow::flow_filter::Experimental;
use api::proto::flow::{AgentEvent, AgentEventType, Flow, FlowFilter, TimeNotification, Verdict};
use api::proto::observer::get_flows_response::ResponseTypes;
use api::proto::observer::observer_client::ObserverClient;
use api::proto::observer::observer_server::Observer;
use api::proto::observer::{
    GetAgentEventsRequest, GetFlowsRequest, GetFlowsResponse, GetNodesRequest, ServerStatusRequest,
};
use api::proto::peer::ChangeNotificationType;
use api::proto::relay::NodeState;
use api::proto::signet::v1::signet_client::SignetClient;
use api::proto::signet::v1::signet_server::Signet;
use api::proto::signet::v1::{
    ConfirmPoliciesRequest, ConfirmPoliciesResponse, Endpoint, Identity, ListEndpointsRequest,
    ListEndpointsResponse, ListIdentitiesRequest, ListIdentitiesResponse, ListPoliciesRequest,
    ListPoliciesResponse, ListServicesRequest, ListServicesResponse, StatusRequest, StatusResponse,
};
use api::relay::{Member, Place, Relay};
use api::server::{ServeError, listener, serve};
use api::store::{FlowStore, Limits};
use api::time::timestamp;
use futures::StreamExt;
use prost_types::FieldMask;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// What a node says it enforces: one endpoint and one identity.
struct Enforced(String);

#[tonic::async_trait]
impl Signet for Enforced {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse::default()))
    }

    async fn list_endpoints(
        &self,
        _: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsResponse>, Status> {
        let endpoint = Endpoint { node: self.0.clone(), id: 1, ..Endpoint::default() };
        Ok(Response::new(ListEndpointsResponse { endpoints: vec![endpoint], unavailable: vec![] }))
    }

    async fn list_identities(
        &self,
        _: Request<ListIdentitiesRequest>,
    ) -> Result<Response<ListIdentitiesResponse>, Status> {
        let world =
            Identity { id: 2, labels: vec!["reserved:world".into()], nodes: vec![self.0.clone()] };
        Ok(Response::new(ListIdentitiesResponse { identities: vec![world], unavailable: vec![] }))
    }

    async fn list_policies(
        &self,
        _: Request<ListPoliciesRequest>,
    ) -> Result<Response<ListPoliciesResponse>, Status> {
        Ok(Response::new(ListPoliciesResponse::default()))
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

/// A node's server on a runtime of its own: dropping it ends it with all its
/// connections, as the death of a process does.
struct Node {
    store: Arc<FlowStore>,
    name: String,
    socket: PathBuf,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Node {
    fn start(directory: &Path, name: &str, limits: Limits) -> Self {
        let store = Arc::new(FlowStore::new(limits));
        let socket = directory.join(format!("{name}.sock"));
        let mut node = Self { store, name: name.to_owned(), socket, runtime: None };
        node.serve();
        node
    }

    fn serve(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let listener = listener(&self.socket).unwrap();
        let observer = NodeObserver::new(self.store.clone(), self.name.clone());
        let signet = Enforced(self.name.clone());
        runtime.spawn(serve(listener, observer, signet, std::future::pending()));
        drop(entered);
        self.runtime = Some(runtime);
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // On a thread of its own: a runtime may not wait for another.
            let ending = std::thread::spawn(move || {
                runtime.shutdown_timeout(Duration::from_secs(5));
            });
            ending.join().unwrap();
        }
    }

    /// A flow at a second; even ones are dropped.
    fn push(&self, second: u64) {
        let verdict = if second.is_multiple_of(2) { Verdict::Dropped } else { Verdict::Forwarded };
        assert!(self.store.push(&api::flow::to_response(Flow {
            uuid: format!("{}/{second}", self.name),
            time: Some(timestamp(second * 1_000_000_000)),
            node_name: self.name.clone(),
            verdict: verdict.into(),
            summary: "UDP".into(),
            ..Flow::default()
        })));
    }

    async fn client(&self) -> ObserverClient<tonic::transport::Channel> {
        ObserverClient::new(api::client::connect(&self.socket).await.unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A short word for an answer.
fn word(answer: &GetFlowsResponse) -> String {
    match &answer.response_types {
        Some(ResponseTypes::Flow(flow)) => flow.uuid.clone(),
        Some(ResponseTypes::LostEvents(lost)) => format!("lost {}", lost.num_events_lost),
        Some(ResponseTypes::NodeStatus(status)) => {
            let state = match status.state_change() {
                NodeState::NodeConnected => "connected",
                NodeState::NodeUnavailable => "away",
                NodeState::NodeGone => "gone",
                other => panic!("{other:?}"),
            };
            format!("{state} {}", status.node_names.join(","))
        }
        None => panic!("an empty answer"),
    }
}

/// The next answer, which must come within seconds.
async fn next(answers: &mut Streaming<GetFlowsResponse>) -> Option<String> {
    let message = tokio::time::timeout(Duration::from_secs(10), answers.message());
    message.await.expect("an answer in time").unwrap().as_ref().map(word)
}

async fn all(mut answers: Streaming<GetFlowsResponse>) -> Vec<String> {
    let mut words = Vec::new();
    while let Some(word) = next(&mut answers).await {
        words.push(word);
    }
    words
}

fn request() -> GetFlowsRequest {
    GetFlowsRequest::default()
}

fn dropped() -> FlowFilter {
    FlowFilter { verdict: vec![Verdict::Dropped.into()], ..FlowFilter::default() }
}

/// A node with flows of the seconds 1 to 6, and what a request gets from it.
#[track_caller]
fn check(request: GetFlowsRequest, want: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), "a", Limits::default());
    (1..=6).for_each(|second| node.push(second));
    let got = tokio::runtime::Runtime::new().unwrap().block_on(async {
        all(node.client().await.get_flows(request).await.unwrap().into_inner()).await
    });
    assert_eq!(got, want);
}

#[test]
fn a_number_counts_from_the_newest() {
    check(GetFlowsRequest { number: 2, ..request() }, &["a/5", "a/6"]);
}

#[test]
fn first_counts_from_the_oldest() {
    check(GetFlowsRequest { number: 2, first: true, ..request() }, &["a/1", "a/2"]);
}

#[test]
fn only_flows_that_match_are_counted() {
    let whitelist = vec![dropped()];
    check(GetFlowsRequest { number: 2, whitelist, ..request() }, &["a/4", "a/6"]);
    let blacklist = vec![dropped()];
    check(GetFlowsRequest { number: 2, blacklist, ..request() }, &["a/3", "a/5"]);
}

#[test]
fn a_time_range_has_both_its_ends() {
    let range = GetFlowsRequest {
        since: Some(timestamp(3_000_000_000)),
        until: Some(timestamp(5_000_000_000)),
        ..request()
    };
    check(range.clone(), &["a/3", "a/4", "a/5"]);
    check(GetFlowsRequest { number: 2, ..range }, &["a/3", "a/4"]);
    let until = Some(timestamp(4_000_000_000));
    check(GetFlowsRequest { number: 2, until, ..request() }, &["a/3", "a/4"]);
}

/// Seconds as the wall clock had them: it was set forward, then back.
const SET: [u64; 7] = [1, 2, 100, 101, 50, 51, 52];

#[track_caller]
fn check_set(request: GetFlowsRequest, want: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), "a", Limits::default());
    SET.into_iter().for_each(|second| node.push(second));
    let got = tokio::runtime::Runtime::new().unwrap().block_on(async {
        all(node.client().await.get_flows(request).await.unwrap().into_inner()).await
    });
    assert_eq!(got, want);
}

#[test]
fn a_time_range_misses_nothing_where_the_clock_was_set() {
    let second = |second: u64| Some(timestamp(second * 1_000_000_000));
    let since = |from| GetFlowsRequest { since: second(from), ..request() };
    check_set(since(90), &["a/100", "a/101"]);
    check_set(since(51), &["a/100", "a/101", "a/51", "a/52"]);
    let until = GetFlowsRequest { until: second(51), ..request() };
    check_set(until, &["a/1", "a/2", "a/50", "a/51"]);
    let between = GetFlowsRequest { since: second(2), until: second(50), ..request() };
    check_set(between, &["a/2", "a/50"]);
}

#[tokio::test]
async fn a_follower_gets_what_comes_after_the_clock_was_set_back() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), "a", Limits::default());
    node.push(100);
    node.push(101);
    let since = Some(timestamp(101_000_000_000));
    let follow = GetFlowsRequest { follow: true, since, ..request() };
    let mut answers = node.client().await.get_flows(follow).await.unwrap().into_inner();
    assert_eq!(next(&mut answers).await.unwrap(), "a/101");
    node.push(50);
    assert_eq!(next(&mut answers).await.unwrap(), "a/50");
}

#[test]
fn without_a_number_everything_is_meant() {
    check(request(), &["a/1", "a/2", "a/3", "a/4", "a/5", "a/6"]);
    let number = u64::MAX;
    check(GetFlowsRequest { number, ..request() }, &["a/1", "a/2", "a/3", "a/4", "a/5", "a/6"]);
}

#[tokio::test]
async fn a_follower_gets_the_past_it_asked_for_and_then_what_comes() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), "a", Limits::default());
    (1..=3).for_each(|second| node.push(second));
    let mut client = node.client().await;
    let follow = GetFlowsRequest { follow: true, ..request() };
    let mut tail = client.get_flows(follow.clone()).await.unwrap().into_inner();
    let with_past = GetFlowsRequest { number: 1, ..follow };
    let mut past = client.get_flows(with_past).await.unwrap().into_inner();
    assert_eq!(next(&mut past).await.unwrap(), "a/3");
    node.push(4);
    assert_eq!(next(&mut past).await.unwrap(), "a/4");
    assert_eq!(next(&mut tail).await.unwrap(), "a/4");
}

#[tokio::test]
async fn flows_are_found_by_the_labels_of_their_node() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), "a", Limits::default());
    node.push(1);
    node.store.set_node_labels(&["kubernetes.io/arch=amd64".into(), "zone=b".into()].into());
    let mut client = node.client().await;
    for (selector, want) in [("zone=b,kubernetes.io/arch", 1), ("zone=c", 0)] {
        let filter = FlowFilter { node_labels: vec![selector.into()], ..FlowFilter::default() };
        let asked = GetFlowsRequest { whitelist: vec![filter], ..request() };
        let mut found = client.get_flows(asked).await.unwrap().into_inner();
        let mut labels = Vec::new();
        while let Some(answer) = found.message().await.unwrap() {
            let Some(ResponseTypes::Flow(flow)) = answer.response_types else { panic!("no flow") };
            labels.push(flow.node_labels.join(","));
        }
        assert_eq!(labels, vec!["kubernetes.io/arch=amd64,zone=b"; want], "{selector}");
    }
}

#[tokio::test]
async fn a_follower_that_is_too_slow_learns_how_many_it_missed() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), "a", Limits { events: 16, ..Limits::default() });
    let mut client = node.client().await;
    let follow = GetFlowsRequest { follow: true, ..request() };
    let mut slow = client.get_flows(follow).await.unwrap().into_inner();
    // More than the transport's own buffers hold: the stream has to stop.
    let written: u64 = 20_000;
    (1..=written).for_each(|second| node.push(second));
    let (mut flows, mut lost) = (0, 0);
    while flows + lost < written {
        match next(&mut slow).await.unwrap().strip_prefix("lost ") {
            Some(number) => lost += number.parse::<u64>().unwrap(),
            None => flows += 1,
        }
    }
    assert!(lost > 0);
    assert_eq!(flows + lost, written);
    assert_eq!(node.store.missed(), lost);
}

#[track_caller]
fn check_refused(request: GetFlowsRequest, code: Code, want: &str) {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), "a", Limits::default());
    let relay = Relay::new("relay", vec![]);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let status = node.client().await.get_flows(request.clone()).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, want));
        let status = relay.get_flows(Request::new(request)).await.err().unwrap();
        assert_eq!((status.code(), status.message()), (code, want));
    });
}

#[test]
fn requests_that_mean_nothing_are_refused() {
    check_refused(
        GetFlowsRequest { first: true, follow: true, ..request() },
        Code::InvalidArgument,
        "`first` and `follow` exclude each other",
    );
    let filter = FlowFilter { http_path: vec!["(".into()], ..FlowFilter::default() };
    check_refused(
        GetFlowsRequest { whitelist: vec![filter], ..request() },
        Code::Unknown,
        "filter field `http_path`: `(` is no regular expression, or too large a one",
    );
    let experimental = Experimental { cel_expression: vec!["_flow.sauce".into()] };
    let filter = FlowFilter { experimental: Some(experimental), ..FlowFilter::default() };
    check_refused(
        GetFlowsRequest { blacklist: vec![filter], ..request() },
        Code::Unknown,
        "filter field `experimental.cel_expression`: `_flow.sauce`: a `flow.Flow` has no field `sauce`",
    );
    let field_mask = Some(FieldMask { paths: vec!["sauce".into()] });
    check_refused(
        GetFlowsRequest { field_mask, ..request() },
        Code::Unknown,
        "invalid fieldmask: `sauce` is no path in a flow",
    );
}

#[tokio::test]
async fn a_field_mask_leaves_the_rest_out() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), "a", Limits::default());
    node.push(1);
    let field_mask = Some(FieldMask { paths: vec!["uuid".into()] });
    let request = GetFlowsRequest { field_mask, ..request() };
    let mut answers = node.client().await.get_flows(request).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.node_name, "a");
    let flow = Flow { uuid: "a/1".into(), ..Flow::default() };
    assert_eq!(answer.response_types, Some(ResponseTypes::Flow(flow)));
}

#[tokio::test]
async fn status_nodes_and_health_answer() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), "a", Limits { events: 100, ..Limits::default() });
    (1..=3).for_each(|second| node.push(second));
    let mut client = node.client().await;
    let status = client.server_status(ServerStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.num_flows, status.max_flows, status.seen_flows), (3, 100, 3));
    assert_eq!(status.num_connected_nodes, None);
    let nodes = client.get_nodes(GetNodesRequest {}).await.unwrap().into_inner().nodes;
    assert_eq!((nodes[0].name.as_str(), nodes[0].state()), ("a", NodeState::NodeConnected));
    let channel = api::client::connect(&node.socket).await.unwrap();
    for service in ["", "hubble.server.Observer"] {
        let request = HealthCheckRequest { service: service.into() };
        let health = HealthClient::new(channel.clone()).check(request).await.unwrap();
        assert_eq!(health.into_inner().status, 1, "{service}");
    }
}

#[tokio::test]
async fn only_root_may_open_the_socket_and_only_one_process_serves_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(directory.path(), "a", Limits::default());
    let mode = std::fs::metadata(&node.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(listener(&node.socket), Err(ServeError::InUse(_))));
    // What a dead process left is replaced, and nothing else is left behind.
    node.kill();
    node.serve();
    node.client().await;
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

/// Two nodes and a relay of them.
struct Cluster {
    a: Node,
    b: Node,
    relay: Relay,
    directory: tempfile::TempDir,
}

fn cluster() -> Cluster {
    let directory = tempfile::tempdir().unwrap();
    let a = Node::start(directory.path(), "a", Limits::default());
    let b = Node::start(directory.path(), "b", Limits::default());
    let member =
        |node: &Node| Member { name: node.name.clone(), place: Place::Socket(node.socket.clone()) };
    let relay = Relay::new("relay", vec![member(&a), member(&b)]);
    Cluster { a, b, relay, directory }
}

impl Cluster {
    async fn channel(&self) -> tonic::transport::Channel {
        let socket = self.directory.path().join("relay.sock");
        if !socket.exists() {
            let listener = listener(&socket).unwrap();
            let (observer, signet) = (self.relay.clone(), self.relay.clone());
            tokio::spawn(serve(listener, observer, signet, std::future::pending()));
        }
        api::client::connect(&socket).await.unwrap()
    }

    async fn get(&self, request: GetFlowsRequest) -> Streaming<GetFlowsResponse> {
        ObserverClient::new(self.channel().await).get_flows(request).await.unwrap().into_inner()
    }
}

#[tokio::test]
async fn a_relay_merges_its_nodes_in_order_of_time() {
    let cluster = cluster();
    [1, 4, 5].iter().for_each(|second| cluster.a.push(*second));
    [2, 3, 6].iter().for_each(|second| cluster.b.push(*second));
    assert_eq!(
        all(cluster.get(request()).await).await,
        ["connected a,b", "a/1", "b/2", "b/3", "a/4", "a/5", "b/6"]
    );
    let last = GetFlowsRequest { number: 2, ..request() };
    assert_eq!(all(cluster.get(last).await).await, ["connected a,b", "a/5", "b/6"]);
    let first = GetFlowsRequest { number: 2, first: true, ..request() };
    assert_eq!(all(cluster.get(first).await).await, ["connected a,b", "a/1", "b/2"]);
}

#[tokio::test]
async fn a_relay_names_the_node_that_is_away() {
    let mut cluster = cluster();
    cluster.a.push(1);
    cluster.b.kill();
    assert_eq!(all(cluster.get(request()).await).await, ["connected a", "away b", "a/1"]);
    let mut client = ObserverClient::new(cluster.channel().await);
    let status = client.server_status(ServerStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.num_connected_nodes, status.num_unavailable_nodes), (Some(1), Some(1)));
    assert_eq!(status.unavailable_nodes, ["b"]);
    let nodes = client.get_nodes(GetNodesRequest {}).await.unwrap().into_inner().nodes;
    assert_eq!(nodes[1].state(), NodeState::NodeUnavailable);
}

#[tokio::test]
async fn a_follower_of_a_relay_goes_on_when_a_node_returns() {
    let mut cluster = cluster();
    let mut answers = cluster.get(GetFlowsRequest { follow: true, ..request() }).await;
    let mut met = [next(&mut answers).await.unwrap(), next(&mut answers).await.unwrap()];
    met.sort();
    assert_eq!(met, ["connected a", "connected b"]);
    let now = api::time::now_ns() / 1_000_000_000;
    cluster.b.push(now + 10);
    assert_eq!(next(&mut answers).await.unwrap(), format!("b/{}", now + 10));
    cluster.b.kill();
    assert_eq!(next(&mut answers).await.unwrap(), "away b");
    // The node comes back with what it has seen and what happened meanwhile.
    cluster.b.push(now + 11);
    cluster.b.serve();
    assert_eq!(next(&mut answers).await.unwrap(), "connected b");
    assert_eq!(next(&mut answers).await.unwrap(), format!("b/{}", now + 11));
    cluster.a.push(now + 12);
    assert_eq!(next(&mut answers).await.unwrap(), format!("a/{}", now + 12));
}

#[tokio::test]
async fn what_a_node_writes_late_is_told_once_after_a_pause_too() {
    let mut cluster = cluster();
    // As the command line asks: without what tells flows apart.
    let field_mask = Some(FieldMask { paths: vec!["time".into(), "verdict".into()] });
    let masked = GetFlowsRequest { follow: true, field_mask, ..request() };
    let mut named = cluster.get(GetFlowsRequest { follow: true, ..request() }).await;
    let mut nameless = cluster.get(masked).await;
    for answers in [&mut named, &mut nameless] {
        let mut met = [next(answers).await.unwrap(), next(answers).await.unwrap()];
        met.sort();
        assert_eq!(met, ["connected a", "connected b"]);
    }
    let now = api::time::now_ns() / 1_000_000_000;
    cluster.b.push(now + 10);
    assert_eq!(next(&mut named).await.unwrap(), format!("b/{}", now + 10));
    assert_eq!(next(&mut nameless).await.unwrap(), "");
    cluster.b.kill();
    assert_eq!(next(&mut named).await.unwrap(), "away b");
    assert_eq!(next(&mut nameless).await.unwrap(), "away b");
    // A repetition has the time of what it repeats: it is written after younger flows.
    cluster.b.push(now + 11);
    cluster.b.push(now + 9);
    cluster.b.serve();
    for answers in [&mut named, &mut nameless] {
        assert_eq!(next(answers).await.unwrap(), "connected b");
    }
    let mut told = [next(&mut named).await.unwrap(), next(&mut named).await.unwrap()];
    told.sort();
    assert_eq!(told, [format!("b/{}", now + 9), format!("b/{}", now + 11)]);
    // Once each, and nothing that was there before.
    cluster.b.push(now + 12);
    assert_eq!(next(&mut named).await.unwrap(), format!("b/{}", now + 12));
    for _ in 0..3 {
        assert_eq!(next(&mut nameless).await.unwrap(), "");
    }
    let more = tokio::time::timeout(Duration::from_millis(500), next(&mut nameless)).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn a_follower_of_a_relay_gets_the_flows_of_nodes_that_join_and_loses_none_that_stay() {
    use api::proto::peer::peer_server::Peer as _;
    let cluster = cluster();
    let mut answers = cluster.get(GetFlowsRequest { follow: true, ..request() }).await;
    let mut met = [next(&mut answers).await.unwrap(), next(&mut answers).await.unwrap()];
    met.sort();
    assert_eq!(met, ["connected a", "connected b"]);
    let told = cluster.relay.peers().notify(Request::new(Default::default())).await;
    let mut told = told.unwrap().into_inner().map(|told| told.unwrap());
    assert_eq!([told.next().await.unwrap().name, told.next().await.unwrap().name], ["a", "b"]);

    let c = Node::start(cluster.directory.path(), "c", Limits::default());
    let now = api::time::now_ns() / 1_000_000_000;
    // What happened there before the relay heard of it is not lost.
    c.push(now + 10);
    let member =
        |node: &Node| Member { name: node.name.clone(), place: Place::Socket(node.socket.clone()) };
    cluster.relay.set([&cluster.a, &cluster.b, &c].map(member).into());
    let joined = told.next().await.unwrap();
    assert_eq!((joined.name.as_str(), joined.r#type()), ("c", ChangeNotificationType::PeerAdded));
    assert_eq!(next(&mut answers).await.unwrap(), "connected c");
    assert_eq!(next(&mut answers).await.unwrap(), format!("c/{}", now + 10));
    cluster.a.push(now + 11);
    assert_eq!(next(&mut answers).await.unwrap(), format!("a/{}", now + 11));

    cluster.relay.set([&cluster.a, &c].map(member).into());
    assert_eq!(next(&mut answers).await.unwrap(), "gone b");
    let left = told.next().await.unwrap();
    assert_eq!((left.name.as_str(), left.r#type()), ("b", ChangeNotificationType::PeerDeleted));
    cluster.b.push(now + 12);
    cluster.a.push(now + 13);
    c.push(now + 13);
    let mut last = [next(&mut answers).await.unwrap(), next(&mut answers).await.unwrap()];
    last.sort();
    assert_eq!(last, [format!("a/{}", now + 13), format!("c/{}", now + 13)]);
}

#[tokio::test]
async fn a_follower_waits_for_no_node_that_is_as_far() {
    let cluster = cluster();
    let mut answers = cluster.get(GetFlowsRequest { follow: true, ..request() }).await;
    assert!(next(&mut answers).await.is_some() && next(&mut answers).await.is_some());
    let now = api::time::now_ns() / 1_000_000_000;
    let mut fastest = Duration::MAX;
    for round in 0..5 {
        let begun = std::time::Instant::now();
        cluster.b.push(now + 11 + round * 2);
        cluster.a.push(now + 10 + round * 2);
        assert_eq!(next(&mut answers).await.unwrap(), format!("a/{}", now + 10 + round * 2));
        fastest = fastest.min(begun.elapsed());
        // Nobody can say yet that this one is the earliest: it waits.
        assert_eq!(next(&mut answers).await.unwrap(), format!("b/{}", now + 11 + round * 2));
        assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
    }
    assert!(fastest < Duration::from_millis(150), "{fastest:?}");
}

#[tokio::test]
async fn a_relay_answers_for_all_nodes_what_they_enforce() {
    let mut cluster = cluster();
    let mut client = SignetClient::new(cluster.channel().await);
    let endpoints = client.list_endpoints(ListEndpointsRequest {}).await.unwrap().into_inner();
    let nodes: Vec<&str> = endpoints.endpoints.iter().map(|e| e.node.as_str()).collect();
    assert_eq!(nodes, ["a", "b"]);
    let identities = client.list_identities(ListIdentitiesRequest {}).await.unwrap().into_inner();
    assert_eq!(identities.identities.len(), 1);
    assert_eq!(identities.identities[0].nodes, ["a", "b"]);
    cluster.a.kill();
    let endpoints = client.list_endpoints(ListEndpointsRequest {}).await.unwrap().into_inner();
    assert_eq!(endpoints.endpoints.len(), 1);
    assert_eq!(endpoints.unavailable[0].node, "a");
}

#[tokio::test]
async fn a_server_that_is_stopped_ends_even_while_someone_follows() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("a.sock");
    let store = Arc::new(FlowStore::new(Limits::default()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let observer = NodeObserver::new(store, "a");
    let serving =
        tokio::spawn(serve(listener(&socket).unwrap(), observer, Enforced("a".into()), async {
            drop(stopped.await)
        }));
    let mut client = ObserverClient::new(api::client::connect(&socket).await.unwrap());
    let follow = GetFlowsRequest { follow: true, ..request() };
    let _answers = client.get_flows(follow).await.unwrap();
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap().unwrap();
}

fn started(second: u64) -> (u64, AgentEvent) {
    let time = Some(timestamp(second));
    let event = AgentEvent {
        r#type: AgentEventType::AgentStarted.into(),
        notification: Some(Notification::AgentStart(TimeNotification { time })),
    };
    (second * 1_000_000_000, event)
}

/// The seconds of the agent events that a request gets, of those of 1 to 5.
#[track_caller]
fn check_agent_events(request: GetAgentEventsRequest, want: &[i64]) {
    let log = Arc::new(AgentEvents::default());
    (1..=5).map(started).for_each(|(time_ns, event)| log.push("a", time_ns, event));
    let observer =
        NodeObserver::new(Arc::new(FlowStore::new(Limits::default())), "a").with_agent_events(log);
    let got = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let answers = observer.get_agent_events(Request::new(request)).await.unwrap();
        let answers: Vec<_> = answers.into_inner().collect().await;
        answers.into_iter().map(|answer| answer.unwrap().time.unwrap().seconds).collect::<Vec<_>>()
    });
    assert_eq!(got, want);
}

#[test]
fn agent_events_start_and_end_as_flows_do() {
    let request = GetAgentEventsRequest::default();
    let second = |second: u64| Some(timestamp(second * 1_000_000_000));
    check_agent_events(request, &[1, 2, 3, 4, 5]);
    check_agent_events(GetAgentEventsRequest { number: 2, ..request }, &[4, 5]);
    check_agent_events(GetAgentEventsRequest { number: 2, first: true, ..request }, &[1, 2]);
    let (since, until) = (second(2), second(4));
    check_agent_events(GetAgentEventsRequest { since, until, ..request }, &[2, 3, 4]);
    check_agent_events(GetAgentEventsRequest { since, number: 1, ..request }, &[2]);
}

/// The events' seconds lie as a clock had them that was set forward, then back.
#[test]
fn agent_events_are_found_where_the_clock_was_set() {
    let log = Arc::new(AgentEvents::default());
    let events = [1, 100, 50, 51].map(started);
    events.into_iter().for_each(|(time_ns, event)| log.push("a", time_ns, event));
    let observer =
        NodeObserver::new(Arc::new(FlowStore::new(Limits::default())), "a").with_agent_events(log);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let seconds = |since: Option<u64>, until: Option<u64>| {
        let [since, until] = [since, until].map(|it| it.map(|it| timestamp(it * 1_000_000_000)));
        let request = GetAgentEventsRequest { since, until, ..Default::default() };
        runtime.block_on(async {
            let answers = observer.get_agent_events(Request::new(request)).await.unwrap();
            let answers: Vec<_> = answers.into_inner().collect().await;
            let times = answers.into_iter().map(|answer| answer.unwrap().time.unwrap().seconds);
            times.collect::<Vec<_>>()
        })
    };
    assert_eq!(seconds(Some(90), None), [100]);
    assert_eq!(seconds(Some(51), None), [100, 51]);
    assert_eq!(seconds(None, Some(50)), [1, 50]);
}

#[tokio::test]
async fn a_follower_of_agent_events_that_falls_behind_is_told() {
    let log = Arc::new(AgentEvents::default());
    let observer = NodeObserver::new(Arc::new(FlowStore::new(Limits::default())), "a")
        .with_agent_events(log.clone());
    let request = GetAgentEventsRequest { follow: true, ..Default::default() };
    let mut answers = observer.get_agent_events(Request::new(request)).await.unwrap().into_inner();
    let (time_ns, event) = started(1);
    log.push("a", time_ns, event.clone());
    assert!(answers.next().await.unwrap().is_ok());
    (0..=api::events::KEPT).for_each(|_| log.push("a", time_ns, event.clone()));
    let status = answers.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
    assert_eq!(status.message(), "1 agent events were overwritten before they were read");
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn answers_carry_the_version_that_clients_compare() {
    let cluster = cluster();
    let node = cluster.a.client().await.server_status(ServerStatusRequest {}).await.unwrap();
    assert_eq!(node.metadata().get("hubble-server-version").unwrap(), "1.19.4");
    let mut relay = ObserverClient::new(cluster.channel().await);
    let relay = relay.get_flows(request()).await.unwrap();
    assert_eq!(relay.metadata().get("hubble-relay-version").unwrap(), "1.19.4");
}

#[tokio::test]
async fn a_listener_hears_of_nodes_as_they_come_and_go() {
    use api::proto::peer::peer_server::Peer as _;
    let peer = |name: &str| Peer { name: name.into(), address: format!("{name}:4244"), tls: false };
    let peers = Peers::new([peer("a")]);
    let told = peers.notify(Request::new(Default::default())).await.unwrap().into_inner();
    let mut told = told.map(|told| told.unwrap().address);
    assert_eq!(told.next().await.unwrap(), "a:4244");
    peers.set([peer("b")]);
    assert_eq!([told.next().await.unwrap(), told.next().await.unwrap()], ["a:4244", "b:4244"]);
}
