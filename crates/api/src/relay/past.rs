//! Flows that already are: every node's, in order of time.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::join_all;
use tonic::Streaming;

use super::{Member, PATIENCE, no_answer, node_status};
use crate::proto::observer::get_flows_response::ResponseTypes;
use crate::proto::observer::observer_client::ObserverClient;
use crate::proto::observer::{GetFlowsRequest, GetFlowsResponse};
use crate::proto::relay::NodeState;
use crate::time::nanoseconds;

/// How long a node may look for the next flow that matches; one that hangs is found out
/// earlier, because it answers no pings.
const SEARCH: Duration = Duration::from_secs(60);

/// One node's flows and the next of them.
struct Lane {
    name: String,
    flows: Streaming<GetFlowsResponse>,
    head: Option<GetFlowsResponse>,
}

/// All nodes' flows.
pub(super) struct Past {
    relay: String,
    lanes: Vec<Lane>,
    /// Goes out before anything else.
    ready: VecDeque<GetFlowsResponse>,
    /// Flows it may still give, when the request counts from the front.
    remaining: Option<u64>,
    /// How many of the newest to give, when it counts from the back.
    last: Option<u64>,
}

fn is_flow(answer: &GetFlowsResponse) -> bool {
    matches!(answer.response_types, Some(ResponseTypes::Flow(_)))
}

impl Past {
    pub(super) async fn start(relay: &str, members: &[Member], request: GetFlowsRequest) -> Self {
        // Without a number, or with all of them, nothing has to be counted.
        let number = Some(request.number).filter(|number| (1..u64::MAX).contains(number));
        let from_front = request.first || request.since.is_some();
        let opened =
            join_all(members.iter().map(|member| async {
                (member.name.clone(), open(member, request.clone()).await)
            }));
        let (mut lanes, mut away) = (Vec::new(), Vec::new());
        for (name, opened) in opened.await {
            match opened {
                Ok(flows) => lanes.push(Lane { name, flows, head: None }),
                Err(reason) => away.push((name, reason)),
            }
        }
        let mut ready = VecDeque::new();
        let names: Vec<String> = lanes.iter().map(|lane| lane.name.clone()).collect();
        if !names.is_empty() {
            ready.push_back(node_status(relay, NodeState::NodeConnected, names, String::new()));
        }
        for (name, reason) in away {
            ready.push_back(node_status(relay, NodeState::NodeUnavailable, vec![name], reason));
        }
        Self {
            relay: relay.to_owned(),
            lanes,
            ready,
            remaining: number.filter(|_| from_front),
            last: number.filter(|_| !from_front),
        }
    }

    /// The next answer; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<GetFlowsResponse> {
        if let Some(number) = self.last.take() {
            self.keep_last(number).await;
        }
        if let Some(answer) = self.ready.pop_front() {
            return Some(answer);
        }
        if self.remaining == Some(0) {
            return None;
        }
        let answer = self.earliest().await?;
        if is_flow(&answer) {
            self.remaining = self.remaining.map(|remaining| remaining - 1);
        }
        Some(answer)
    }

    /// Every node gave its newest `number`; keeps the newest of them all.
    async fn keep_last(&mut self, number: u64) {
        let mut flows = VecDeque::new();
        while let Some(answer) = self.earliest().await {
            if !is_flow(&answer) {
                self.ready.push_back(answer);
                continue;
            }
            if flows.len() as u64 == number {
                flows.pop_front();
            }
            flows.push_back(answer);
        }
        self.ready.append(&mut flows);
    }

    /// Takes the earliest answer of all nodes.
    async fn earliest(&mut self) -> Option<GetFlowsResponse> {
        let mut at = 0;
        while let Some(lane) = self.lanes.get_mut(at) {
            if lane.head.is_some() {
                at += 1;
                continue;
            }
            let next = tokio::time::timeout(SEARCH, lane.flows.message()).await;
            let failed = match next {
                Ok(Ok(Some(answer))) => {
                    lane.head = Some(answer);
                    continue;
                }
                Ok(Ok(None)) => None,
                Ok(Err(status)) => Some(status.message().to_owned()),
                Err(_) => Some(format!("no flow within {} s", SEARCH.as_secs())),
            };
            let name = self.lanes.remove(at).name;
            if let Some(reason) = failed {
                return Some(node_status(&self.relay, NodeState::NodeError, vec![name], reason));
            }
        }
        let time = |lane: &Lane| {
            lane.head.as_ref().and_then(|head| head.time.as_ref()).map_or(0, nanoseconds)
        };
        self.lanes.iter_mut().min_by_key(|lane| time(lane))?.head.take()
    }
}

async fn open(
    member: &Member,
    request: GetFlowsRequest,
) -> Result<Streaming<GetFlowsResponse>, String> {
    let mut client = ObserverClient::new(member.connect().await?);
    match tokio::time::timeout(PATIENCE, client.get_flows(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(no_answer()),
    }
}
