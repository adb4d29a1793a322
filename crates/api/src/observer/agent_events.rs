//! One client's way through the agent's events. Starts and ends as for flows.

use std::sync::Arc;

use futures::stream;
use tonic::Status;

use super::Answers;
use crate::events::{AgentEvents, Missed};
use crate::proto::observer::{GetAgentEventsRequest, GetAgentEventsResponse};
use crate::time::nanoseconds;

struct Reading {
    log: Arc<AgentEvents>,
    position: u64,
    /// Where a reading that does not follow ends.
    end: Option<u64>,
    remaining: Option<u64>,
    /// Number of the first event that was not there at the start.
    began: u64,
    since_ns: Option<u64>,
    until_ns: Option<u64>,
    finished: bool,
}

/// What the request asks for.
pub(super) fn answers(
    log: Arc<AgentEvents>,
    request: &GetAgentEventsRequest,
) -> Answers<GetAgentEventsResponse> {
    let end = log.next();
    let number = (request.number > 0).then_some(request.number);
    let position = match (&request.since, request.first, number) {
        (Some(since), ..) => log.since(nanoseconds(since)),
        (None, true, _) => log.oldest(),
        (None, false, Some(number)) => end.saturating_sub(number).max(log.oldest()),
        (None, false, None) if request.follow => end,
        (None, false, None) => log.oldest(),
    };
    let reading = Reading {
        position,
        end: (!request.follow).then_some(end),
        remaining: number.filter(|_| !request.follow),
        began: end,
        since_ns: request.since.as_ref().map(nanoseconds),
        until_ns: request.until.as_ref().map(nanoseconds),
        finished: false,
        log,
    };
    Box::pin(stream::unfold(reading, |mut reading| async move {
        reading.next().await.map(|answer| (answer, reading))
    }))
}

impl Reading {
    async fn next(&mut self) -> Option<Result<GetAgentEventsResponse, Status>> {
        loop {
            let ended = self.end.is_some_and(|end| self.position >= end);
            if self.finished || ended || self.remaining == Some(0) {
                return None;
            }
            let event = match self.log.read(self.position) {
                Ok(Some(event)) => event,
                Ok(None) => {
                    self.log.wait(self.position).await;
                    continue;
                }
                Err(missed) => {
                    // The answer has no place for losses: an error is the only
                    // honest way to say that the list has a hole.
                    self.finished = true;
                    return Some(Err(behind(missed)));
                }
            };
            let is_past = self.position < self.began;
            self.position += 1;
            let time_ns = event.time.as_ref().map_or(0, nanoseconds);
            let late = self.until_ns.is_some_and(|until| time_ns > until);
            if late && !is_past {
                return None;
            }
            // Times go back where the clock was set back: each is looked at.
            if late || is_past && self.since_ns.is_some_and(|since| time_ns < since) {
                continue;
            }
            self.remaining = self.remaining.map(|remaining| remaining - 1);
            return Some(Ok(event));
        }
    }
}

fn behind(missed: Missed) -> Status {
    let events = missed.events;
    Status::data_loss(format!("{events} agent events were overwritten before they were read"))
}
