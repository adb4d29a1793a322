//! Agent events of several nodes in one answer. A node that cannot be asked makes
//! it an error: this answer has no place to say that a node is missing.

use std::collections::VecDeque;

use futures::stream::{self, StreamExt};
use tonic::{Status, Streaming};

use super::{Member, PATIENCE, no_answer};
use crate::observer::Answers;
use crate::proto::observer::observer_client::ObserverClient;
use crate::proto::observer::{GetAgentEventsRequest, GetAgentEventsResponse};
use crate::time::nanoseconds;

/// The events of the past, each node's in the order in which they happened and those of
/// several by their time; or what comes as it comes.
pub(super) async fn merged(
    members: &[Member],
    request: GetAgentEventsRequest,
) -> Result<Answers<GetAgentEventsResponse>, Status> {
    let mut streams = Vec::new();
    for member in members {
        streams.push(open(member, request).await?);
    }
    if request.follow {
        return Ok(Box::pin(stream::select_all(streams)));
    }
    let mut nodes = Vec::new();
    for mut stream in streams {
        let mut events = VecDeque::new();
        while let Some(event) = stream.message().await? {
            events.push_back(event);
        }
        nodes.push(events);
    }
    let mut events = by_time(nodes);
    let number = match request.number {
        0 => events.len(),
        number => usize::try_from(number).unwrap_or(usize::MAX).min(events.len()),
    };
    let chosen = match request.first || request.since.is_some() {
        true => events.drain(..number),
        false => events.drain(events.len() - number..),
    };
    let chosen: Vec<_> = chosen.map(Ok).collect();
    Ok(stream::iter(chosen).boxed())
}

/// Merged without sorting any of them: a clock that was set back does not put what
/// happened last before everything else.
fn by_time(mut nodes: Vec<VecDeque<GetAgentEventsResponse>>) -> Vec<GetAgentEventsResponse> {
    let mut merged = Vec::new();
    let head = |node: &VecDeque<GetAgentEventsResponse>| {
        node.front().map(|event| event.time.as_ref().map_or(0, nanoseconds))
    };
    loop {
        nodes.retain(|node| !node.is_empty());
        let earliest = nodes.iter_mut().min_by_key(|node| head(node));
        match earliest.and_then(VecDeque::pop_front) {
            Some(event) => merged.push(event),
            None => return merged,
        }
    }
}

async fn open(
    member: &Member,
    request: GetAgentEventsRequest,
) -> Result<Streaming<GetAgentEventsResponse>, Status> {
    let away = |reason: String| Status::unavailable(format!("{}: {reason}", member.name));
    let mut client = ObserverClient::new(member.connect().await.map_err(away)?);
    let asked = tokio::time::timeout(PATIENCE, client.get_agent_events(request)).await;
    Ok(asked.map_err(|_| away(no_answer()))??.into_inner())
}
