//! Hubble's Observer over one node's [`FlowStore`].
//!
//! Where reading starts and ends follows Cilium's agent: `first` counts from the
//! oldest, `since` wins over `number` for the start, what was lost passes every
//! filter and counts as nothing.
//! Unlike there, `GetNodes` answers, with this node, so that Hubble's interface
//! can be pointed at it.

mod reading;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, stream};
use tonic::{Request, Response, Status};

use crate::filter::Filters;
use crate::mask::Mask;
use crate::proto::observer::observer_server::Observer;
use crate::proto::observer::{
    GetAgentEventsRequest, GetAgentEventsResponse, GetDebugEventsRequest, GetDebugEventsResponse,
    GetFlowsRequest, GetFlowsResponse, GetNamespacesRequest, GetNamespacesResponse,
    GetNodesRequest, GetNodesResponse, Namespace, Node, ServerStatusRequest, ServerStatusResponse,
};
use crate::proto::relay::NodeState;
use crate::store::FlowStore;
use crate::time::{nanoseconds, now_ns};
use reading::{Plan, Reading};

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Version as `hubble status` shows it.
pub fn version() -> String {
    format!("signet v{}", env!("CARGO_PKG_VERSION"))
}

/// What a request asks for, checked.
pub(crate) fn check(request: &GetFlowsRequest) -> Result<(Filters, Option<Mask>), Status> {
    if request.first && request.follow {
        return Err(Status::invalid_argument("`first` and `follow` exclude each other"));
    }
    let filters = Filters::new(&request.whitelist, &request.blacklist)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let paths = request.field_mask.as_ref().map_or(&[][..], |mask| &mask.paths);
    let mask = Mask::new(paths).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok((filters, mask))
}

/// One node's Observer.
pub struct NodeObserver {
    store: Arc<FlowStore>,
    node: String,
    started: Instant,
}

impl NodeObserver {
    /// Serves `store` under the name that its flows carry.
    pub fn new(store: Arc<FlowStore>, node: impl Into<String>) -> Self {
        Self { store, node: node.into(), started: Instant::now() }
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
        let request = request.into_inner();
        let (filters, mask) = check(&request)?;
        let plan = Plan {
            number: (request.number > 0).then_some(request.number),
            first: request.first,
            follow: request.follow,
            since_ns: request.since.as_ref().map(nanoseconds),
            until_ns: request.until.as_ref().map(nanoseconds),
        };
        let reading =
            Reading::start(self.store.clone(), self.node.clone(), plan, filters, mask).await;
        let answers = stream::unfold(reading, |mut reading| async move {
            reading.next().await.map(|answer| (Ok(answer), reading))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_agent_events(
        &self,
        _: Request<GetAgentEventsRequest>,
    ) -> Result<Response<Self::GetAgentEventsStream>, Status> {
        Ok(Response::new(Box::pin(stream::empty())))
    }

    async fn get_debug_events(
        &self,
        _: Request<GetDebugEventsRequest>,
    ) -> Result<Response<Self::GetDebugEventsStream>, Status> {
        Ok(Response::new(Box::pin(stream::empty())))
    }

    async fn get_nodes(
        &self,
        _: Request<GetNodesRequest>,
    ) -> Result<Response<GetNodesResponse>, Status> {
        let occupancy = self.store.occupancy();
        let node = Node {
            name: self.node.clone(),
            version: version(),
            state: NodeState::NodeConnected.into(),
            uptime_ns: self.uptime_ns(),
            num_flows: occupancy.events,
            max_flows: self.store.capacity(),
            seen_flows: occupancy.seen,
            ..Node::default()
        };
        Ok(Response::new(GetNodesResponse { nodes: vec![node] }))
    }

    async fn get_namespaces(
        &self,
        _: Request<GetNamespacesRequest>,
    ) -> Result<Response<GetNamespacesResponse>, Status> {
        let namespaces = self.store.namespaces(now_ns()).into_iter();
        let namespaces = namespaces.map(|(cluster, namespace)| Namespace { cluster, namespace });
        Ok(Response::new(GetNamespacesResponse { namespaces: namespaces.collect() }))
    }

    async fn server_status(
        &self,
        _: Request<ServerStatusRequest>,
    ) -> Result<Response<ServerStatusResponse>, Status> {
        let occupancy = self.store.occupancy();
        Ok(Response::new(ServerStatusResponse {
            num_flows: occupancy.events,
            max_flows: self.store.capacity(),
            seen_flows: occupancy.seen,
            uptime_ns: self.uptime_ns(),
            version: version(),
            flows_rate: self.store.rate(now_ns()),
            ..ServerStatusResponse::default()
        }))
    }
}
