//! Flows to come: every node's, in order of time within a small window.
//!
//! Each node is followed by a task of its own. When a node goes away its task
//! says so and knocks until the node is back, then goes on after the last flow
//! it has seen, so that nothing comes twice.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Member, PATIENCE, no_answer, node_status};
use crate::proto::observer::get_flows_response::ResponseTypes;
use crate::proto::observer::observer_client::ObserverClient;
use crate::proto::observer::{GetFlowsRequest, GetFlowsResponse};
use crate::proto::relay::NodeState;
use crate::store::DISORDER_NS;
use crate::time::{nanoseconds, now_ns, timestamp};

/// How long a flow waits for earlier ones of other nodes.
const WINDOW: Duration = Duration::from_millis(200);
/// How long it waits at most while earlier ones go on to come.
const LONGEST: Duration = Duration::from_secs(1);
/// Flows that may wait; beyond, the earliest goes out at once.
const WAITING: usize = 4096;
/// Flows between a node's task and the window.
const QUEUE: usize = 64;
/// First and longest pause between two knocks.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// All nodes followed at once. Dropping it ends the tasks.
pub(super) struct Following {
    answers: mpsc::Receiver<GetFlowsResponse>,
    window: Window,
    _nodes: JoinSet<()>,
}

impl Following {
    pub(super) fn start(relay: &str, members: &[Member], request: GetFlowsRequest) -> Self {
        let (sender, answers) = mpsc::channel(QUEUE);
        let mut nodes = JoinSet::new();
        for member in members {
            let follower = Follower {
                relay: relay.to_owned(),
                member: member.clone(),
                request: request.clone(),
                started_ns: now_ns(),
                resume_ns: None,
                away: None,
                sender: sender.clone(),
            };
            nodes.spawn(follower.run());
        }
        Self { answers, window: Window::default(), _nodes: nodes }
    }

    /// The next answer; `None` when every node has ended.
    pub(super) async fn next(&mut self) -> Option<GetFlowsResponse> {
        loop {
            if let Some(answer) = self.window.pop(Instant::now()) {
                return Some(answer);
            }
            let received = match self.window.deadline() {
                None => self.answers.recv().await,
                Some(deadline) => {
                    match tokio::time::timeout_at(deadline, self.answers.recv()).await {
                        Ok(received) => received,
                        Err(_) => continue,
                    }
                }
            };
            match received {
                Some(answer)
                    if matches!(answer.response_types, Some(ResponseTypes::NodeStatus(_))) =>
                {
                    return Some(answer);
                }
                Some(answer) => self.window.push(answer, Instant::now()),
                None => return self.window.pop_any(),
            }
        }
    }
}

/// A time, and how many arrived before.
type Place = (u64, u64);

/// Puts answers of several nodes in order of time. Given the clock.
#[derive(Default)]
pub(super) struct Window {
    /// With the moment of each one's arrival.
    waiting: BTreeMap<Place, (Instant, GetFlowsResponse)>,
    /// As they arrived; the first of them still waits.
    arrivals: VecDeque<Place>,
    arrived: u64,
}

impl Window {
    pub(super) fn push(&mut self, answer: GetFlowsResponse, now: Instant) {
        self.arrived += 1;
        let place = (answer.time.as_ref().map_or(0, nanoseconds), self.arrived);
        self.waiting.insert(place, (now, answer));
        self.arrivals.push_back(place);
    }

    /// When the earliest has waited long enough, or another too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (_, (arrived, _)) = self.waiting.first_key_value()?;
        let first = self.arrivals.front().and_then(|place| self.waiting.get(place));
        let too_long = first.map_or(*arrived, |(arrived, _)| *arrived) + LONGEST;
        Some((*arrived + WINDOW).min(too_long))
    }

    /// The earliest, if it has waited long enough or too many wait; before it whoever
    /// has waited too long, because his clock is ahead of the others.
    pub(super) fn pop(&mut self, now: Instant) -> Option<GetFlowsResponse> {
        let is_over = |place: &Place, limit| {
            self.waiting.get(place).is_some_and(|(arrived, _)| *arrived + limit <= now)
        };
        if let Some(place) = self.arrivals.front().copied().filter(|place| is_over(place, LONGEST))
        {
            return self.take(place);
        }
        let earliest = *self.waiting.first_key_value()?.0;
        let goes = is_over(&earliest, WINDOW) || self.waiting.len() > WAITING;
        if goes { self.take(earliest) } else { None }
    }

    pub(super) fn pop_any(&mut self) -> Option<GetFlowsResponse> {
        let earliest = *self.waiting.first_key_value()?.0;
        self.take(earliest)
    }

    fn take(&mut self, place: Place) -> Option<GetFlowsResponse> {
        let (_, answer) = self.waiting.remove(&place)?;
        while self.arrivals.front().is_some_and(|place| !self.waiting.contains_key(place)) {
            self.arrivals.pop_front();
        }
        Some(answer)
    }
}

/// Where to go on after a flow of this time: after the latest, or after this one where
/// the node's clock was set back.
pub(super) fn resume(after: Option<u64>, time_ns: u64) -> u64 {
    let next = time_ns.saturating_add(1);
    match after {
        Some(after) if next.saturating_add(DISORDER_NS) >= after => after.max(next),
        _ => next,
    }
}

/// Follows one node for as long as anybody listens.
struct Follower {
    relay: String,
    member: Member,
    request: GetFlowsRequest,
    started_ns: u64,
    /// Where to go on after a pause.
    resume_ns: Option<u64>,
    /// Whether the listener was told that the node is away, or there.
    away: Option<bool>,
    sender: mpsc::Sender<GetFlowsResponse>,
}

impl Follower {
    async fn run(mut self) {
        let mut pause = RETRY.0;
        loop {
            let reason = match self.stream().await {
                Ok(()) if self.request.until.is_some() => return,
                Ok(()) => {
                    pause = RETRY.0;
                    "the node ended the stream".to_owned()
                }
                Err(reason) => reason,
            };
            if self.away != Some(true) {
                pause = RETRY.0;
            }
            if self.tell(true, reason).await.is_err() {
                return;
            }
            if self.resume_ns.is_none() && self.request.number == 0 && self.request.since.is_none()
            {
                self.resume_ns = Some(self.started_ns);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Passes on what the node sends, until it ends or fails.
    async fn stream(&mut self) -> Result<(), String> {
        let mut request = self.request.clone();
        if let Some(resume_ns) = self.resume_ns {
            request.since = Some(timestamp(resume_ns));
            request.number = 0;
        }
        let mut client = ObserverClient::new(self.member.connect().await?);
        let opened = tokio::time::timeout(PATIENCE, client.get_flows(request));
        let mut flows = match opened.await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(status.message().to_owned()),
            Err(_) => return Err(no_answer()),
        };
        if self.tell(false, String::new()).await.is_err() {
            return Ok(());
        }
        while let Some(answer) =
            flows.message().await.map_err(|status| status.message().to_owned())?
        {
            if matches!(answer.response_types, Some(ResponseTypes::Flow(_))) {
                let time_ns = answer.time.as_ref().map_or(0, nanoseconds);
                self.resume_ns = Some(resume(self.resume_ns, time_ns));
            }
            if self.sender.send(answer).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Says once that the node went away or came. Fails when nobody listens.
    async fn tell(&mut self, away: bool, reason: String) -> Result<(), ()> {
        if self.away == Some(away) {
            return if self.sender.is_closed() { Err(()) } else { Ok(()) };
        }
        self.away = Some(away);
        let state = if away { NodeState::NodeUnavailable } else { NodeState::NodeConnected };
        let status = node_status(&self.relay, state, vec![self.member.name.clone()], reason);
        self.sender.send(status).await.map_err(drop)
    }
}
