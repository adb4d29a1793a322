//! Flows to come: every node's, in order of time within a small window.
//!
//! Each node is followed by a task of its own. When a node goes away its task
//! says so and knocks until the node is back, then goes on a little before the last
//! flow it has seen: repetitions are written late, with the time of what they
//! repeat. What was passed on already is left out, so that nothing comes twice.
//! Nodes that join are followed from the moment the listener came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::recent::Recent;
use super::window::{NodeName, Window, latest};
use super::{Member, PATIENCE, no_answer, node_status};
use crate::proto::observer::get_flows_response::ResponseTypes;
use crate::proto::observer::observer_client::ObserverClient;
use crate::proto::observer::{GetFlowsRequest, GetFlowsResponse};
use crate::proto::relay::NodeState;
use crate::store::DISORDER_NS;
use crate::time::{nanoseconds, now_ns, timestamp};

/// Answers between a node's task and the window.
const QUEUE: usize = 64;
/// First and longest pause between two knocks.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// What tells flows apart; asked of the nodes also where the listener does not want it.
const UUID: &str = "uuid";

/// All nodes followed at once. Dropping it ends the tasks.
pub(super) struct Following {
    relay: String,
    request: GetFlowsRequest,
    started_ns: u64,
    members: watch::Receiver<Arc<[Member]>>,
    answers: mpsc::Receiver<(NodeName, GetFlowsResponse)>,
    /// For the tasks of nodes that join; `None`: none do any more.
    sender: Option<mpsc::Sender<(NodeName, GetFlowsResponse)>>,
    window: Window,
    known: BTreeMap<NodeName, (Member, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Following {
    pub(super) fn start(
        relay: &str,
        members: watch::Receiver<Arc<[Member]>>,
        request: GetFlowsRequest,
    ) -> Self {
        let (sender, answers) = mpsc::channel(QUEUE);
        let mut following = Self {
            relay: relay.to_owned(),
            request,
            started_ns: now_ns(),
            members,
            answers,
            sender: Some(sender),
            window: Window::default(),
            known: BTreeMap::new(),
            tasks: JoinSet::new(),
        };
        following.meet(true);
        if following.request.until.is_some() {
            // It ends when all have ended who are there now.
            following.sender = None;
        }
        following
    }

    /// Follows who is new, and nobody who has gone; names those.
    fn meet(&mut self, first: bool) -> Vec<String> {
        let members = Arc::clone(&self.members.borrow_and_update());
        let mut gone = Vec::new();
        self.known.retain(|name, (known, task)| {
            let stays = members.iter().any(|member| member == known);
            if !stays {
                task.abort();
                self.window.leave(name);
                gone.push(name.to_string());
            }
            stays
        });
        let Some(sender) = &self.sender else { return gone };
        for member in members.iter() {
            let name = NodeName::from(member.name.as_str());
            if self.known.contains_key(&name) {
                continue;
            }
            self.window.expect(&name);
            let follower = Follower::new(self, &name, member, sender.clone(), first);
            let task = self.tasks.spawn(follower.run());
            self.known.insert(name, (member.clone(), task));
        }
        gone
    }

    /// The next answer; `None` when every node has ended.
    pub(super) async fn next(&mut self) -> Option<GetFlowsResponse> {
        loop {
            if let Some(answer) = self.window.pop(Instant::now()) {
                return Some(answer);
            }
            let deadline = self.window.deadline();
            let may_join = self.sender.is_some();
            select! {
                received = self.answers.recv() => {
                    let Some((from, answer)) = received else { return self.window.pop_any() };
                    match &answer.response_types {
                        Some(ResponseTypes::NodeStatus(status)) => {
                            match status.state_change() {
                                NodeState::NodeConnected if self.known.contains_key(&from) => {
                                    self.window.expect(&from);
                                }
                                _ => self.window.leave(&from),
                            }
                            return Some(answer);
                        }
                        _ => self.window.push(&from, answer, Instant::now()),
                    }
                }
                changed = self.members.changed(), if may_join => {
                    if changed.is_err() {
                        self.sender = None;
                        continue;
                    }
                    let gone = self.meet(false);
                    if !gone.is_empty() {
                        let state = NodeState::NodeGone;
                        return Some(node_status(&self.relay, state, gone, String::new()));
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            }
        }
    }
}

/// Follows one node for as long as anybody listens.
struct Follower {
    relay: String,
    from: NodeName,
    member: Member,
    request: GetFlowsRequest,
    /// Whether the listener wants to see what flows are told apart by.
    with_uuid: bool,
    /// Nothing older is asked for after a pause.
    floor_ns: u64,
    /// Time of the newest flow; where to go on after a pause, if it is set.
    newest_ns: Option<u64>,
    recent: Recent,
    /// Whether the listener was told that the node is away, or there.
    away: Option<bool>,
    sender: mpsc::Sender<(NodeName, GetFlowsResponse)>,
}

impl Follower {
    /// For a node that was there when the listener came, or joined later.
    fn new(
        following: &Following,
        from: &NodeName,
        member: &Member,
        sender: mpsc::Sender<(NodeName, GetFlowsResponse)>,
        first: bool,
    ) -> Self {
        let mut request = following.request.clone();
        let paths = request.field_mask.as_mut().map(|mask| &mut mask.paths);
        let masked = paths.filter(|paths| !paths.is_empty() && !paths.iter().any(|it| it == UUID));
        let with_uuid = masked.is_none();
        if let Some(paths) = masked {
            paths.push(UUID.to_owned());
        }
        let since_ns = request.since.as_ref().map(nanoseconds);
        let floor_ns = since_ns.unwrap_or(following.started_ns);
        Self {
            relay: following.relay.clone(),
            from: NodeName::clone(from),
            member: member.clone(),
            request,
            with_uuid,
            floor_ns,
            newest_ns: (!first).then_some(floor_ns),
            recent: Recent::default(),
            away: None,
            sender,
        }
    }

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
            if self.newest_ns.is_none() && self.request.number == 0 && self.request.since.is_none()
            {
                self.newest_ns = Some(self.floor_ns);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Passes on what the node sends, until it ends or fails.
    async fn stream(&mut self) -> Result<(), String> {
        let mut request = self.request.clone();
        if let Some(newest_ns) = self.newest_ns {
            let resume_ns = newest_ns.saturating_sub(DISORDER_NS).max(self.floor_ns);
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
        while let Some(mut answer) =
            flows.message().await.map_err(|status| status.message().to_owned())?
        {
            if !self.recent.is_new(&answer) {
                continue;
            }
            let time_ns = answer.time.as_ref().map_or(0, nanoseconds);
            if let Some(ResponseTypes::Flow(flow)) = &mut answer.response_types {
                let newest_ns = latest(self.newest_ns.unwrap_or(0), time_ns);
                if self.newest_ns.is_none_or(|before| newest_ns < before) {
                    // Of the past it gets no more than it was given; after a clock was set
                    // back, all that comes.
                    self.floor_ns = self.floor_ns.min(time_ns);
                }
                self.newest_ns = Some(newest_ns);
                if !self.with_uuid {
                    flow.uuid.clear();
                }
            }
            if self.sender.send((NodeName::clone(&self.from), answer)).await.is_err() {
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
        self.sender.send((NodeName::clone(&self.from), status)).await.map_err(drop)
    }
}
