//! Hubble's Observer over one node's [`FlowStore`].
//!
//! Where reading starts and ends follows Cilium's agent: `first` counts from the
//! oldest, `since` wins over `number` for the start, what was lost passes every
//! filter and counts as nothing. Unlike there, `since` chooses from the past only: a
//! follower gets whatever comes, also after the node's clock was set back.
//! Unlike there, `GetNodes` answers, with this node, so that Hubble's interface
//! can be pointed at it.

mod agent_events;
mod reading;

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use crate::access::{self, Scope};
use crate::events::AgentEvents;
use crate::filter::Filters;
use crate::mask::Mask;
use crate::peer::{Peers, server_name};
use crate::proto::observer::observer_server::Observer;
use crate::proto::observer::{
    GetAgentEventsRequest, GetAgentEventsResponse, GetDebugEventsRequest, GetDebugEventsResponse,
    GetFlowsRequest, GetFlowsResponse, GetNamespacesRequest, GetNamespacesResponse,
    GetNodesRequest, GetNodesResponse, Namespace, Node, ServerStatusRequest, ServerStatusResponse,
    Tls,
};
use crate::proto::relay::NodeState;
use crate::store::FlowStore;
use crate::time::{nanoseconds, now_ns};
use reading::{Choice, Plan, Reading};

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The version of Hubble whose API this is, as clients compare it with their own.
pub const HUBBLE_VERSION: &str = "1.19.4";

/// Header of an agent's answers that carries it.
pub const AGENT_VERSION_HEADER: &str = "hubble-server-version";

/// Header of a relay's answers that carries it.
pub const RELAY_VERSION_HEADER: &str = "hubble-relay-version";

/// An answer with the version in its header.
pub(crate) fn versioned<T>(header: &'static str, answer: T) -> Response<T> {
    let mut response = Response::new(answer);
    response.metadata_mut().insert(header, MetadataValue::from_static(HUBBLE_VERSION));
    response
}

/// Version as `hubble status` shows it.
pub fn version() -> String {
    format!("signet v{}", env!("CARGO_PKG_VERSION"))
}

/// Nobody can start at the oldest and count only what comes.
pub(crate) fn first_or_follow(first: bool, follow: bool) -> Result<(), Status> {
    if first && follow {
        return Err(Status::invalid_argument("`first` and `follow` exclude each other"));
    }
    Ok(())
}

/// What a request asks for, checked. Values that mean nothing are errors without
/// a code of their own, as in Hubble: its command line then shows the bare text.
pub(crate) fn check(request: &GetFlowsRequest) -> Result<(Filters, Option<Mask>), Status> {
    first_or_follow(request.first, request.follow)?;
    let filters = Filters::new(&request.whitelist, &request.blacklist)
        .map_err(|error| Status::unknown(error.to_string()))?;
    let paths = request.field_mask.as_ref().map_or(&[][..], |mask| &mask.paths);
    let mask = Mask::new(paths).map_err(|error| Status::unknown(error.to_string()))?;
    Ok((filters, mask))
}

/// The programs in the kernel have no debug messages: there is nothing to tell, now or
/// later. Who follows waits for it all the same, as with Hubble.
pub(crate) fn no_debug_events(follow: bool) -> Answers<GetDebugEventsResponse> {
    if follow { Box::pin(stream::pending()) } else { Box::pin(stream::empty()) }
}

/// How much there is.
struct Counts {
    held: u64,
    seen: u64,
    /// Flows a second, over the last minute.
    rate: f64,
}

const MINUTE_NS: u64 = 60_000_000_000;

/// One node's Observer.
pub struct NodeObserver {
    store: Arc<FlowStore>,
    node: String,
    started: Instant,
    agent_events: Arc<AgentEvents>,
    peers: Peers,
}

impl NodeObserver {
    /// Serves `store` under the name that its flows carry.
    pub fn new(store: Arc<FlowStore>, node: impl Into<String>) -> Self {
        Self {
            store,
            node: node.into(),
            started: Instant::now(),
            agent_events: Arc::default(),
            peers: Peers::default(),
        }
    }

    /// With the log that the node's agent writes.
    pub fn with_agent_events(self, agent_events: Arc<AgentEvents>) -> Self {
        Self { agent_events, ..self }
    }

    /// With the list of nodes that says how this one is met.
    pub fn with_peers(self, peers: Peers) -> Self {
        Self { peers, ..self }
    }

    /// Of what this scope may see; a limited one is counted from what is held.
    async fn counts(&self, scope: &Scope) -> Counts {
        let now = now_ns();
        if scope.is_everything() {
            let occupancy = self.store.occupancy();
            let rate = self.store.rate(now);
            return Counts { held: occupancy.events, seen: occupancy.seen, rate };
        }
        let started = Instant::now();
        let (mut held, mut recent) = (0, 0_u32);
        let mut position = self.store.next();
        while let Some((number, event)) = self.store.before(position) {
            position = number;
            if event.is_flow && scope.shown(event.decode()).is_some() {
                held += 1;
                recent += u32::from(now.abs_diff(event.time_ns) <= MINUTE_NS);
            }
            if number.is_multiple_of(256) {
                tokio::task::yield_now().await;
            }
        }
        access::pad(started).await;
        Counts { held, seen: held, rate: f64::from(recent) / 60.0 }
    }

    fn uptime_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[tonic::async_trait]
impl Observer for NodeObserver {
    type GetFlowsStream = Answers<GetFlowsResponse>;
    type GetAgentEventsStream = Answers<GetAgentEventsResponse>;
    type GetDebugEventsStream = Answers<GetDebugEventsResponse>;

    async fn get_flows(
        &self,
        request: Request<GetFlowsRequest>,
    ) -> Result<Response<Self::GetFlowsStream>, Status> {
        let (started, scope) = (Instant::now(), Scope::of(&request));
        let request = request.into_inner();
        let (filters, mask) = check(&request)?;
        let plan = Plan {
            number: (request.number > 0).then_some(request.number),
            first: request.first,
            follow: request.follow,
            since_ns: request.since.as_ref().map(nanoseconds),
            until_ns: request.until.as_ref().map(nanoseconds),
        };
        let limited = !scope.is_everything();
        let choice = Choice { filters, mask, scope };
        let mut reading = Reading::new(self.store.clone(), self.node.clone(), plan, choice);
        let mut past = Vec::new();
        if limited {
            reading.look_back().await;
            // All at once, so that nobody can measure how far apart they lie.
            past = reading.past().await;
            access::pad(started).await;
        }
        // The headers go out before the search for where to begin.
        let answers = stream::unfold((reading, !limited), |(mut reading, is_new)| async move {
            if is_new {
                reading.look_back().await;
            }
            reading.next().await.map(|answer| (Ok(answer), (reading, false)))
        });
        let answers = stream::iter(past.into_iter().map(Ok)).chain(answers);
        Ok(versioned(AGENT_VERSION_HEADER, Box::pin(answers)))
    }

    async fn get_agent_events(
        &self,
        request: Request<GetAgentEventsRequest>,
    ) -> Result<Response<Self::GetAgentEventsStream>, Status> {
        Scope::whole_node(&request)?;
        let request = request.into_inner();
        first_or_follow(request.first, request.follow)?;
        let answers = agent_events::answers(Arc::clone(&self.agent_events), &request);
        Ok(versioned(AGENT_VERSION_HEADER, answers))
    }

    async fn get_debug_events(
        &self,
        request: Request<GetDebugEventsRequest>,
    ) -> Result<Response<Self::GetDebugEventsStream>, Status> {
        Scope::whole_node(&request)?;
        let request = request.into_inner();
        first_or_follow(request.first, request.follow)?;
        Ok(versioned(AGENT_VERSION_HEADER, no_debug_events(request.follow)))
    }

    async fn get_nodes(
        &self,
        request: Request<GetNodesRequest>,
    ) -> Result<Response<GetNodesResponse>, Status> {
        let counts = self.counts(&Scope::of(&request)).await;
        let peer = self.peers.get(&self.node);
        let tls = peer.as_ref().filter(|peer| peer.tls);
        let node = Node {
            tls: tls.map(|peer| Tls { enabled: true, server_name: server_name(&peer.name) }),
            address: peer.map(|peer| peer.address).unwrap_or_default(),
            name: self.node.clone(),
            version: version(),
            state: NodeState::NodeConnected.into(),
            uptime_ns: self.uptime_ns(),
            num_flows: counts.held,
            max_flows: self.store.capacity(),
            seen_flows: counts.seen,
        };
        Ok(versioned(AGENT_VERSION_HEADER, GetNodesResponse { nodes: vec![node] }))
    }

    async fn get_namespaces(
        &self,
        request: Request<GetNamespacesRequest>,
    ) -> Result<Response<GetNamespacesResponse>, Status> {
        let (started, scope) = (Instant::now(), Scope::of(&request));
        let namespaces = self.store.namespaces(now_ns()).into_iter();
        let namespaces = namespaces.filter(|(_, namespace)| scope.has(namespace));
        let namespaces = namespaces.map(|(cluster, namespace)| Namespace { cluster, namespace });
        let namespaces = namespaces.collect();
        if !scope.is_everything() {
            access::pad(started).await;
        }
        Ok(versioned(AGENT_VERSION_HEADER, GetNamespacesResponse { namespaces }))
    }

    async fn server_status(
        &self,
        request: Request<ServerStatusRequest>,
    ) -> Result<Response<ServerStatusResponse>, Status> {
        let counts = self.counts(&Scope::of(&request)).await;
        Ok(versioned(
            AGENT_VERSION_HEADER,
            ServerStatusResponse {
                num_flows: counts.held,
                max_flows: self.store.capacity(),
                seen_flows: counts.seen,
                uptime_ns: self.uptime_ns(),
                version: version(),
                flows_rate: counts.rate,
                ..ServerStatusResponse::default()
            },
        ))
    }
}
