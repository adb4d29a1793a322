//! Over TCP: who is let in, and that a reader who is limited to a namespace learns
//! nothing of another.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lints' exception for tests does not reach the functions tests share"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::access::Access;
use api::client::{ClientTls, connect_tls};
use api::observer::NodeObserver;
use api::peer::Peers;
use api::proto::flow::FlowFilter;
use api::proto::observer::get_flows_response::ResponseTypes;
use api::proto::observer::observer_client::ObserverClient;
use api::proto::observer::{
    GetAgentEventsRequest, GetDebugEventsRequest, GetFlowsRequest, GetNamespacesRequest,
    GetNodesRequest, ServerStatusRequest,
};
use api::proto::peer::NotifyRequest;
use api::proto::peer::peer_client::PeerClient;
use api::proto::signet::v1::ListEndpointsRequest;
use api::proto::signet::v1::signet_client::SignetClient;
use api::relay::Relay;
use api::server::{Services, Tls, serve_tls};
use api::store::{FlowStore, Limits};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sha2::{Digest, Sha256};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const FLOWS: &str = include_str!("protocol/flows.jsonl");
const NAME: &str = "node-a.c1.hubble-grpc.cilium.io";

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate, its key, and its digest as a list of readers has it.
fn certificate(authority: &Issuer, name: &str) -> (Vec<u8>, Vec<u8>, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem().into(), key.serialize_pem().into(), hex(certificate.der()))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server that knows three readers: one of everything, one of `payment`, and one
/// of `web` by a token.
struct Server {
    address: SocketAddr,
    everything: ClientTls,
    payment: ClientTls,
    stranger: ClientTls,
    store: Arc<FlowStore>,
}

async fn server() -> Server {
    let authority = authority();
    let identity = |name: &str| {
        let (certificate, key, digest) = certificate(&authority, name);
        let tls = ClientTls {
            roots: authority.pem().into(),
            identity: Some((certificate, key)),
            server_name: Some(NAME.into()),
        };
        (tls, digest)
    };
    let (everything, all_digest) = identity("soc");
    let (payment, payment_digest) = identity("payment-team");
    let (stranger, _) = identity("stranger");
    let token = hex(b"secret");
    let access = Access::read(&format!(
        r#"{{"readers":[
            {{"name":"soc","certificateSha256":"{all_digest}","namespaces":["*"]}},
            {{"name":"payment","certificateSha256":"{payment_digest}","namespaces":["payment"]}},
            {{"name":"web","tokenSha256":"{token}","namespaces":["web"]}}]}}"#
    ))
    .unwrap();
    let (own, key, _) = certificate(&authority, NAME);
    let tls = Tls { certificate: own, key, clients: authority.pem().into() };
    let store = Arc::new(FlowStore::new(Limits::default()));
    for line in FLOWS.lines() {
        assert!(store.push(&api::json::from_json(line).unwrap()));
    }
    let services = Services {
        observer: NodeObserver::new(Arc::clone(&store), "c1/node-a"),
        signet: Relay::new("none", vec![]),
        peers: Peers::default(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_tls(listener, tls, access, services, std::future::pending()));
    Server { address, everything, payment, stranger, store }
}

impl Server {
    async fn channel(&self, tls: &ClientTls) -> Channel {
        connect_tls(&self.address.to_string(), tls.clone()).await.unwrap()
    }

    async fn observer(&self, tls: &ClientTls) -> ObserverClient<Channel> {
        ObserverClient::new(self.channel(tls).await)
    }
}

/// The flows' numbers in one word, a loss as a dot.
async fn words(
    client: &mut ObserverClient<Channel>,
    request: Request<GetFlowsRequest>,
) -> Result<String, Status> {
    let mut answers = client.get_flows(request).await?.into_inner();
    let mut words = String::new();
    while let Some(answer) = answers.message().await? {
        match answer.response_types {
            Some(ResponseTypes::Flow(flow)) => words.push_str(&flow.uuid),
            _ => words.push('.'),
        }
    }
    Ok(words)
}

fn all() -> Request<GetFlowsRequest> {
    Request::new(GetFlowsRequest::default())
}

fn filtered(json: &str) -> Request<GetFlowsRequest> {
    let filter: FlowFilter = api::json::from_json(json).unwrap();
    Request::new(GetFlowsRequest { whitelist: vec![filter], ..GetFlowsRequest::default() })
}

#[tokio::test]
async fn who_shows_no_certificate_or_a_strange_one_is_not_let_in() {
    let server = server().await;
    let none = ClientTls { identity: None, ..server.payment.clone() };
    let other = authority();
    let (certificate, key, _) = certificate(&other, "payment-team");
    let forged = ClientTls { identity: Some((certificate, key)), ..server.payment.clone() };
    for tls in [none, forged] {
        let connected = connect_tls(&server.address.to_string(), tls).await;
        // A refusal may arrive with the handshake's end or with the first call.
        let refused = match connected {
            Err(_) => true,
            Ok(channel) => words(&mut ObserverClient::new(channel), all()).await.is_err(),
        };
        assert!(refused);
    }
}

#[tokio::test]
async fn who_is_not_on_the_list_gets_nothing() {
    let server = server().await;
    let mut stranger = server.observer(&server.stranger).await;
    let refused = words(&mut stranger, all()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = stranger.server_status(ServerStatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut request = all();
    request.metadata_mut().insert("authorization", "Bearer wrong".parse().unwrap());
    let refused = words(&mut stranger, request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn each_reader_gets_the_flows_of_its_namespaces() {
    let server = server().await;
    let mut everything = server.observer(&server.everything).await;
    assert_eq!(words(&mut everything, all()).await.unwrap(), "abcde.");
    let mut payment = server.observer(&server.payment).await;
    assert_eq!(words(&mut payment, all()).await.unwrap(), "abc");
    let mut stranger = server.observer(&server.stranger).await;
    let mut request = all();
    request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
    assert_eq!(words(&mut stranger, request).await.unwrap(), "");
}

/// When the rings of the kernel overflow, somebody floods: a neighbour, most often.
#[tokio::test]
async fn losses_of_the_kernels_rings_are_told_to_who_sees_everything() {
    let server = server().await;
    let follow = || Request::new(GetFlowsRequest { follow: true, ..GetFlowsRequest::default() });
    let mut everything = server.observer(&server.everything).await;
    let mut everything = everything.get_flows(follow()).await.unwrap().into_inner();
    let mut payment = server.observer(&server.payment).await;
    let mut payment = payment.get_flows(follow()).await.unwrap().into_inner();
    // The limited one's answer begins with a whole number of quanta: it follows by now.
    for line in [FLOWS.lines().nth(5).unwrap(), FLOWS.lines().nth(1).unwrap()] {
        assert!(server.store.push(&api::json::from_json(line).unwrap()));
    }
    let lost = everything.message().await.unwrap().unwrap().response_types.unwrap();
    let ResponseTypes::LostEvents(lost) = lost else { panic!("{lost:?}") };
    assert_eq!(lost.num_events_lost, 7);
    for answers in [&mut everything, &mut payment] {
        let flow = answers.message().await.unwrap().unwrap().response_types.unwrap();
        let ResponseTypes::Flow(flow) = flow else { panic!("{flow:?}") };
        assert_eq!(flow.uuid, "b");
    }
}

#[tokio::test]
async fn filters_cannot_probe_for_what_is_not_shown() {
    let server = server().await;
    let mut everything = server.observer(&server.everything).await;
    let mut payment = server.observer(&server.payment).await;
    for filter in [
        r#"{"source_pod":["web/front"]}"#,
        r#"{"source_label":["app=front"]}"#,
        r#"{"source_identity":[30002]}"#,
        r#"{"source_workload":[{"name":"front"}]}"#,
        r#"{"destination_cluster_name":["c2"]}"#,
        r#"{"destination_service":["kube-system/kube-dns"]}"#,
        r#"{"drop_reason_desc":["INVALID_SOURCE_IP"]}"#,
    ] {
        let known = words(&mut everything, filtered(filter)).await.unwrap();
        assert!(known.len() > 1, "{filter}: {known}");
        assert_eq!(words(&mut payment, filtered(filter)).await.unwrap(), "", "{filter}");
    }
    // Nor by leaving out what matches.
    let deny: FlowFilter = api::json::from_json(r#"{"source_pod":["web/"]}"#).unwrap();
    let request = GetFlowsRequest { blacklist: vec![deny], ..GetFlowsRequest::default() };
    assert_eq!(words(&mut payment, Request::new(request)).await.unwrap(), "abc");
}

#[tokio::test]
async fn counts_and_names_are_of_the_readers_own() {
    let server = server().await;
    let mut recent = api::json::from_json::<api::proto::observer::GetFlowsResponse>(
        FLOWS.lines().nth(1).unwrap(),
    )
    .unwrap();
    recent.time = Some(api::time::timestamp(api::time::now_ns()));
    assert!(server.store.push(&recent));
    let mut payment = server.observer(&server.payment).await;
    let status = payment.server_status(ServerStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.num_flows, status.seen_flows), (4, 4));
    assert!((status.flows_rate - 1.0 / 60.0).abs() < 1e-9, "{}", status.flows_rate);
    let nodes = payment.get_nodes(GetNodesRequest {}).await.unwrap().into_inner().nodes;
    assert_eq!((nodes[0].num_flows, nodes[0].seen_flows), (4, 4));
    let names = |list: Vec<api::proto::observer::Namespace>| {
        list.into_iter().map(|row| row.namespace).collect::<Vec<_>>()
    };
    let of = payment.get_namespaces(GetNamespacesRequest {}).await.unwrap().into_inner();
    assert_eq!(names(of.namespaces), ["payment"]);
    let mut everything = server.observer(&server.everything).await;
    let of = everything.get_namespaces(GetNamespacesRequest {}).await.unwrap().into_inner();
    assert_eq!(names(of.namespaces), ["payment", "web"]);
}

#[tokio::test]
async fn what_is_about_the_whole_node_is_refused_to_limited_readers() {
    let server = server().await;
    let mut observer = server.observer(&server.payment).await;
    let channel = server.channel(&server.payment).await;
    let refused = [
        observer.get_agent_events(GetAgentEventsRequest::default()).await.err().unwrap(),
        observer.get_debug_events(GetDebugEventsRequest::default()).await.err().unwrap(),
        PeerClient::new(channel.clone()).notify(NotifyRequest {}).await.err().unwrap(),
        SignetClient::new(channel).list_endpoints(ListEndpointsRequest {}).await.err().unwrap(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(status.message(), "this is about the whole node, not a namespace");
    }
    let channel = server.channel(&server.everything).await;
    assert!(SignetClient::new(channel).list_endpoints(ListEndpointsRequest {}).await.is_ok());
}

#[tokio::test]
async fn errors_and_empty_answers_are_the_same_whoever_has_what() {
    let server = server().await;
    let mut everything = server.observer(&server.everything).await;
    let mut payment = server.observer(&server.payment).await;
    // What means nothing is refused in the same words, whether or not there is such a
    // pod, and an expression that fails on a flow of others is no error.
    for filter in [
        r#"{"source_label":["app in ("]}"#,
        r#"{"http_path":["("]}"#,
        r#"{"experimental":{"cel_expression":["_flow.source.pod_name"]}}"#,
    ] {
        let known = words(&mut everything, filtered(filter)).await.unwrap_err();
        let limited = words(&mut payment, filtered(filter)).await.unwrap_err();
        assert_eq!((known.code(), known.message()), (limited.code(), limited.message()));
    }
    let fails = r#"{"experimental":{"cel_expression":["_flow.source.labels[1] == 'x'"]}}"#;
    assert_eq!(words(&mut payment, filtered(fails)).await.unwrap(), "");
    // A flow of others by its number is as one that never was.
    for uuid in ["d", "e", "nobody"] {
        let filter = format!(r#"{{"uuid":["{uuid}"]}}"#);
        assert_eq!(words(&mut payment, filtered(&filter)).await.unwrap(), "", "{uuid}");
    }
    let hidden = r#"{"experimental":{"cel_expression":["_flow.source.namespace == 'web'"]}}"#;
    assert_eq!(words(&mut payment, filtered(hidden)).await.unwrap(), "");
    assert_eq!(words(&mut everything, filtered(hidden)).await.unwrap(), "b.");
}

/// How long each kind of answer takes that has nothing, or little, in it.
async fn empty_answers(client: &mut ObserverClient<Channel>) -> Vec<Duration> {
    let mut taken = Vec::new();
    let mut started = Instant::now();
    let mut lap = || taken.push(std::mem::replace(&mut started, Instant::now()).elapsed());
    let filter = filtered(r#"{"source_pod":["payment/nobody"]}"#);
    assert_eq!(words(client, filter).await.unwrap(), "");
    lap();
    client.server_status(ServerStatusRequest {}).await.unwrap();
    lap();
    client.get_nodes(GetNodesRequest {}).await.unwrap();
    lap();
    client.get_namespaces(GetNamespacesRequest {}).await.unwrap();
    lap();
    // A follower's past, which lies behind all that others have written since.
    let request = GetFlowsRequest { number: 1, follow: true, ..GetFlowsRequest::default() };
    let mut answers = client.get_flows(Request::new(request)).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    lap();
    taken
}

#[tokio::test]
async fn an_empty_answer_takes_as_long_whatever_others_have() {
    let server = server().await;
    let mut payment = server.observer(&server.payment).await;
    let before = empty_answers(&mut payment).await;
    let other = api::json::from_json(FLOWS.lines().nth(4).unwrap()).unwrap();
    for _ in 0..1000 {
        assert!(server.store.push(&other));
    }
    let after = empty_answers(&mut payment).await;
    for taken in before.iter().chain(&after) {
        assert!((250..500).contains(&taken.as_millis()), "{before:?} {after:?}");
    }
}

/// Counters have names of pods and namespaces in their labels: they are served in
/// another place, which is not for readers who are limited.
#[tokio::test]
async fn metrics_are_not_served_to_readers() {
    let server = server().await;
    let mut channel = server.channel(&server.everything).await;
    let request = tonic::codegen::http::Request::get("/metrics").body(tonic::body::Body::empty());
    let answer = tower::ServiceExt::ready(&mut channel).await.unwrap();
    let answer = tower::Service::call(answer, request.unwrap()).await.unwrap();
    let status = answer.headers().get("grpc-status").unwrap().to_str().unwrap().parse::<i32>();
    assert_eq!(Code::from(status.unwrap()), Code::Unimplemented);
    for place in ["0.0.0.0:9965", "10.0.0.1:9965", "[::]:9965"] {
        let refused = place.parse::<api::metrics::serve::Place>();
        assert!(refused.is_err(), "{place}");
    }
    assert!("127.0.0.1:9965".parse::<api::metrics::serve::Place>().is_ok());
}
