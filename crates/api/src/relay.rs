//! Several nodes as one: asks each node, on its socket or over TLS, and merges the
//! answers.
//!
//! Keeps no flow and no connection of its own between requests. A node that is
//! away is named in the answer, never silently missing; one that returns is
//! picked up again by those that follow.

mod agent_events;
mod follow;
mod past;
mod recent;
mod signet;
#[cfg(test)]
mod tests;
mod window;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::stream;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::client::{self, ClientTls};
use crate::observer::{
    Answers, RELAY_VERSION_HEADER, check, first_or_follow, no_debug_events, versioned,
};
use crate::peer::{Peer, Peers, server_name};
use crate::proto::observer::get_flows_response::ResponseTypes;
use crate::proto::observer::observer_client::ObserverClient;
use crate::proto::observer::observer_server::Observer;
use crate::proto::observer::{
    GetAgentEventsRequest, GetAgentEventsResponse, GetDebugEventsRequest, GetDebugEventsResponse,
    GetFlowsRequest, GetFlowsResponse, GetNamespacesRequest, GetNamespacesResponse,
    GetNodesRequest, GetNodesResponse, Namespace, Node, ServerStatusRequest, ServerStatusResponse,
    Tls,
};
use crate::proto::relay::{NodeState, NodeStatusEvent};
use crate::time::{now_ns, timestamp};

/// How long a node may take for an answer that it has at hand.
const PATIENCE: Duration = Duration::from_secs(3);
/// Names listed in a status; beyond, the number says enough.
const NAMED: usize = 10;

/// A node and where it serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Name as its flows carry it.
    pub name: String,
    /// Where its agent serves.
    pub place: Place,
}

/// Where a node serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// On a unix socket of this host.
    Socket(PathBuf),
    /// On TCP with mutual TLS, at `host:port`. Without a name of its own in `tls`
    /// its certificate must have the one that [`server_name`] makes.
    Tls {
        /// `host:port`.
        address: String,
        /// How to meet it.
        tls: ClientTls,
    },
}

impl Member {
    fn peer(&self) -> Peer {
        let (address, tls) = match &self.place {
            Place::Socket(path) => (format!("unix://{}", path.display()), false),
            Place::Tls { address, tls: _ } => (address.clone(), true),
        };
        Peer { name: self.name.clone(), address, tls }
    }

    /// A fresh connection, in time or not at all.
    async fn connect(&self) -> Result<Channel, String> {
        let connecting = async {
            match &self.place {
                Place::Socket(path) => client::connect(path).await,
                Place::Tls { address, tls } => {
                    let named = tls.server_name.clone().or_else(|| Some(server_name(&self.name)));
                    let tls = ClientTls { server_name: named, ..tls.clone() };
                    client::connect_tls(address, tls).await
                }
            }
        };
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err(no_answer()),
        }
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", PATIENCE.as_secs())
}

/// An Observer and a Signet service over all its members.
#[derive(Clone)]
pub struct Relay {
    name: String,
    members: watch::Sender<Arc<[Member]>>,
    peers: Peers,
}

impl Relay {
    /// Merges `members`; `name` is what it calls itself in its own messages.
    pub fn new(name: impl Into<String>, members: Vec<Member>) -> Self {
        let peers = Peers::new(members.iter().map(Member::peer));
        Self { name: name.into(), members: watch::Sender::new(members.into()), peers }
    }

    /// Makes these the nodes it merges, also for those who follow.
    pub fn set(&self, members: Vec<Member>) {
        self.peers.set(members.iter().map(Member::peer));
        self.members.send_replace(members.into());
    }

    fn members(&self) -> Arc<[Member]> {
        Arc::clone(&self.members.borrow())
    }

    /// Asks every member at once; each answers, or says why not, in time.
    async fn ask<T, F>(&self, call: impl Fn(Channel) -> F) -> Vec<(Member, Result<T, String>)>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let members = self.members();
        let asked = members.iter().map(|member| async {
            let answer = match member.connect().await {
                Ok(channel) => match tokio::time::timeout(PATIENCE, call(channel)).await {
                    Ok(Ok(answer)) => Ok(answer.into_inner()),
                    Ok(Err(status)) => Err(status.message().to_owned()),
                    Err(_) => Err(no_answer()),
                },
                Err(error) => Err(error),
            };
            (member.clone(), answer)
        });
        join_all(asked).await
    }

    /// The members, for who asks which nodes there are.
    pub fn peers(&self) -> Peers {
        self.peers.clone()
    }

    async fn statuses(&self) -> Vec<(Member, Result<ServerStatusResponse, String>)> {
        self.ask(|channel| async move {
            ObserverClient::new(channel).server_status(ServerStatusRequest {}).await
        })
        .await
    }
}

/// What the relay `name` says about nodes.
fn node_status(
    name: &str,
    state: NodeState,
    nodes: Vec<String>,
    message: String,
) -> GetFlowsResponse {
    GetFlowsResponse {
        node_name: name.to_owned(),
        time: Some(timestamp(now_ns())),
        response_types: Some(ResponseTypes::NodeStatus(NodeStatusEvent {
            state_change: state.into(),
            node_names: nodes,
            message,
        })),
    }
}

#[tonic::async_trait]
impl Observer for Relay {
    type GetFlowsStream = Answers<GetFlowsResponse>;
    type GetAgentEventsStream = Answers<GetAgentEventsResponse>;
    type GetDebugEventsStream = Answers<GetDebugEventsResponse>;

    async fn get_flows(
        &self,
        request: Request<GetFlowsRequest>,
    ) -> Result<Response<Self::GetFlowsStream>, Status> {
        let request = request.into_inner();
        // Each node checks again; a mistake is answered once, and before anything else.
        check(&request)?;
        let answers: Answers<GetFlowsResponse> = if request.follow {
            let following = follow::Following::start(&self.name, self.members.subscribe(), request);
            Box::pin(stream::unfold(following, |mut following| async move {
                following.next().await.map(|answer| (Ok(answer), following))
            }))
        } else {
            let past = past::Past::start(&self.name, &self.members(), request).await;
            Box::pin(stream::unfold(past, |mut past| async move {
                past.next().await.map(|answer| (Ok(answer), past))
            }))
        };
        Ok(versioned(RELAY_VERSION_HEADER, answers))
    }

    async fn get_agent_events(
        &self,
        request: Request<GetAgentEventsRequest>,
    ) -> Result<Response<Self::GetAgentEventsStream>, Status> {
        let request = request.into_inner();
        first_or_follow(request.first, request.follow)?;
        Ok(versioned(RELAY_VERSION_HEADER, agent_events::merged(&self.members(), request).await?))
    }

    async fn get_debug_events(
        &self,
        request: Request<GetDebugEventsRequest>,
    ) -> Result<Response<Self::GetDebugEventsStream>, Status> {
        let request = request.into_inner();
        first_or_follow(request.first, request.follow)?;
        Ok(versioned(RELAY_VERSION_HEADER, no_debug_events(request.follow)))
    }

    async fn get_nodes(
        &self,
        _: Request<GetNodesRequest>,
    ) -> Result<Response<GetNodesResponse>, Status> {
        let nodes = self.statuses().await.into_iter().map(|(member, status)| {
            let Peer { name, address, tls } = member.peer();
            let tls = tls.then(|| Tls { enabled: true, server_name: server_name(&name) });
            match status {
                Ok(status) => Node {
                    name,
                    address,
                    tls,
                    version: status.version,
                    state: NodeState::NodeConnected.into(),
                    uptime_ns: status.uptime_ns,
                    num_flows: status.num_flows,
                    max_flows: status.max_flows,
                    seen_flows: status.seen_flows,
                },
                Err(_) => Node {
                    name,
                    address,
                    tls,
                    state: NodeState::NodeUnavailable.into(),
                    ..Node::default()
                },
            }
        });
        Ok(versioned(RELAY_VERSION_HEADER, GetNodesResponse { nodes: nodes.collect() }))
    }

    async fn get_namespaces(
        &self,
        _: Request<GetNamespacesRequest>,
    ) -> Result<Response<GetNamespacesResponse>, Status> {
        let answers = self
            .ask(|channel| async move {
                ObserverClient::new(channel).get_namespaces(GetNamespacesRequest {}).await
            })
            .await;
        let namespaces: BTreeSet<(String, String)> = answers
            .into_iter()
            .filter_map(|(_, answer)| answer.ok())
            .flat_map(|answer| answer.namespaces)
            .map(|namespace| (namespace.cluster, namespace.namespace))
            .collect();
        let namespaces = namespaces
            .into_iter()
            .map(|(cluster, namespace)| Namespace { cluster, namespace })
            .collect();
        Ok(versioned(RELAY_VERSION_HEADER, GetNamespacesResponse { namespaces }))
    }

    async fn server_status(
        &self,
        _: Request<ServerStatusRequest>,
    ) -> Result<Response<ServerStatusResponse>, Status> {
        let mut sum = ServerStatusResponse {
            version: format!("signet-relay v{}", env!("CARGO_PKG_VERSION")),
            ..ServerStatusResponse::default()
        };
        let (mut connected, mut unavailable) = (0, 0);
        for (member, status) in self.statuses().await {
            let Ok(status) = status else {
                unavailable += 1;
                if sum.unavailable_nodes.len() < NAMED {
                    sum.unavailable_nodes.push(member.name);
                }
                continue;
            };
            connected += 1;
            sum.num_flows += status.num_flows;
            sum.max_flows += status.max_flows;
            sum.seen_flows += status.seen_flows;
            sum.flows_rate += status.flows_rate;
            sum.uptime_ns = sum.uptime_ns.max(status.uptime_ns);
        }
        sum.num_connected_nodes = Some(connected);
        sum.num_unavailable_nodes = Some(unavailable);
        Ok(versioned(RELAY_VERSION_HEADER, sum))
    }
}
