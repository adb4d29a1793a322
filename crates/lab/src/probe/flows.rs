//! The decisions that the datapath reported about a probe's packets.

use std::time::Duration;

use api::flow::detail::{Actor, Detail};
use api::flow::{EVENT_DROP, EVENT_POLICY_VERDICT};
use api::proto::flow as proto;
use api::proto::observer::GetFlowsRequest;
use api::proto::observer::get_flows_response::ResponseTypes;
use api::proto::observer::observer_client::ObserverClient;
use tonic::transport::Channel;

use crate::error::Error;
use crate::lab::Lab;
use crate::probe::frame::{Mark, Tuple};
use crate::relay;

/// How long a decision may take from the kernel to the relay, also on an emulated
/// machine. Only waited for where one is missing.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two questions, at first and at last: who is slow is not asked more often.
const PAUSES: [Duration; 2] = [Duration::from_millis(40), Duration::from_secs(1)];
/// Flows carry the kernel's clock, translated: it may differ a little from ours.
const SLACK_NS: u64 = 20_000_000;

/// What one end decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// Whether it let the packet go on.
    pub allowed: bool,
    /// Hubble's number of the drop reason; 0 when allowed.
    pub code: u32,
    /// Why.
    pub reason: String,
    /// All rules that decided, sorted.
    pub rules: Vec<String>,
    /// For a default deny: the policies that switched it on.
    pub because: Vec<String>,
    /// The program at this end, or why it is not known.
    pub program: Result<String, String>,
    /// The program that sent, as this end knows it.
    pub sender: Result<String, String>,
}

/// What both ends decided; `None` where nobody judged, or the packet never came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Decisions {
    /// At the source.
    pub egress: Option<Decision>,
    /// At the destination.
    pub ingress: Option<Decision>,
}

impl Decisions {
    /// Whether everything is there that must be: each pod judges its own end,
    /// the destination only what the source let go.
    fn are_complete(&self, wanted: Wanted) -> bool {
        let stopped = self.egress.as_ref().is_some_and(|decision| !decision.allowed);
        (!wanted.egress || self.egress.is_some())
            && (!wanted.ingress || stopped || self.ingress.is_some())
    }
}

/// Which ends judge: pods do, and nodes where that is expected of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// The source.
    pub egress: bool,
    /// The destination.
    pub ingress: bool,
    /// Both, and on one node: then either knows the program that sent.
    pub same_node: bool,
    /// Whether the sender is in a container, and so known by its program.
    pub program: bool,
}

/// Asks until the decisions about one of these are complete, or for as long as
/// that is worthwhile.
pub fn find(
    lab: &Lab,
    tuples: &[Tuple],
    since_ns: u64,
    wanted: Wanted,
) -> Result<Decisions, Error> {
    // A list of no filters would ask for every flow there is.
    if tuples.is_empty() {
        return Ok(Decisions::default());
    }
    let request = GetFlowsRequest {
        whitelist: tuples.iter().map(filter).collect(),
        since: Some(api::time::timestamp(since_ns.saturating_sub(SLACK_NS))),
        ..GetFlowsRequest::default()
    };
    relay::ask(&lab.places.relay_socket(), |channel| async move {
        let mut client = ObserverClient::new(channel);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let [mut pause, longest] = PAUSES;
        loop {
            let decisions = decisions(flows(&mut client, &request).await?);
            if decisions.are_complete(wanted) || tokio::time::Instant::now() > deadline {
                return Ok(decisions);
            }
            tokio::time::sleep(pause).await;
            pause = longest.min(pause * 2);
        }
    })
}

fn filter(tuple: &Tuple) -> proto::FlowFilter {
    let protocol = match tuple.mark {
        Mark::Tcp(..) => "tcp",
        Mark::Udp(..) => "udp",
        Mark::Sctp(..) => "sctp",
        Mark::Echo(_) if tuple.source.is_ipv4() => "icmpv4",
        Mark::Echo(_) => "icmpv6",
    };
    let mut filter = proto::FlowFilter {
        source_ip: vec![tuple.source.to_string()],
        destination_ip: vec![tuple.destination.to_string()],
        reply: vec![false],
        protocol: vec![protocol.into()],
        event_type: [EVENT_DROP, EVENT_POLICY_VERDICT]
            .map(|kind| proto::EventTypeFilter { r#type: kind, ..Default::default() })
            .into(),
        ..proto::FlowFilter::default()
    };
    if let Some((source, destination)) = tuple.mark.ports() {
        filter.source_port = vec![source.to_string()];
        filter.destination_port = vec![destination.to_string()];
    }
    filter
}

async fn flows(
    client: &mut ObserverClient<Channel>,
    request: &GetFlowsRequest,
) -> Result<Vec<proto::Flow>, Error> {
    let answer = client.get_flows(request.clone()).await.map_err(relay::refused("GetFlows"))?;
    let mut stream = answer.into_inner();
    let mut flows = Vec::new();
    while let Some(response) = stream.message().await.map_err(relay::refused("GetFlows"))? {
        if let Some(ResponseTypes::Flow(flow)) = response.response_types {
            flows.push(flow);
        }
    }
    Ok(flows)
}

/// The first decision of each end: later ones are about packets sent again.
fn decisions(mut flows: Vec<proto::Flow>) -> Decisions {
    flows.sort_by_key(|flow| flow.time.as_ref().map(api::time::nanoseconds));
    let first = |direction: proto::TrafficDirection| {
        let of_direction = flows.iter().filter(|flow| flow.traffic_direction() == direction);
        of_direction.filter_map(decision).next()
    };
    Decisions {
        egress: first(proto::TrafficDirection::Egress),
        ingress: first(proto::TrafficDirection::Ingress),
    }
}

fn decision(flow: &proto::Flow) -> Option<Decision> {
    let detail = Detail::from_any(flow.extensions.as_ref()?)?;
    let allowed = flow.verdict() == proto::Verdict::Forwarded;
    let program = |actor: Actor| match actor {
        Actor::Known(process) => Ok(process.binary),
        Actor::Unknown(why) => Err(why),
    };
    let sender = program(detail.source);
    let program = match flow.traffic_direction() {
        proto::TrafficDirection::Egress => sender.clone(),
        _ => program(detail.destination),
    };
    Some(Decision {
        allowed,
        code: if allowed { 0 } else { u32::try_from(flow.drop_reason_desc).unwrap_or(0) },
        reason: detail.reason,
        rules: detail.rules,
        because: detail.because,
        program,
        sender,
    })
}
