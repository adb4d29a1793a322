//! `signet observe --why UUID`: one flow explained, from what the servers hold:
//! who decided, what would have allowed it, which process it was, and what else
//! happened between the same two ends.

mod remedy;

use std::collections::BTreeSet;
use std::io::{self, Write};

use api::flow::detail::{Actor, Detail};
use api::proto::flow::{Flow, FlowFilter, TrafficDirection, Verdict};
use api::proto::observer::observer_client::ObserverClient;
use api::proto::observer::{GetFlowsRequest, get_flows_response::ResponseTypes};
use api::proto::signet::v1::signet_client::SignetClient;
use api::proto::signet::v1::{ListPoliciesRequest, Policy};

use super::Style;
use super::brief::{self, UNSUPPORTED};
use super::flow::{Side, direction};
use super::text::escape;
use crate::error::Error;
use crate::server::{self, Connection, ServerArgs};

/// What a rule may ask for beside addresses, protocols and ports.
const CONDITIONS: &str = "on requests, DNS names or proof of who the ends are";

/// What an agent says of a rule that asks for more than there is.
const NOT_IN_FORCE: &str = "is not in force: ";

/// Flows of the pair that are shown.
const HISTORY: u64 = 20;

/// Explains the flow of this number.
pub async fn run(args: &ServerArgs, uuid: &str, style: &Style) -> Result<(), Error> {
    let connection = server::connect(args).await?;
    let mut client = ObserverClient::new(connection.clone());
    let this = FlowFilter { uuid: vec![uuid.to_owned()], ..FlowFilter::default() };
    let found = get(&mut client, vec![this], 1).await?.pop();
    let Some(flow) = found else {
        return Err(Error::NotFound(format!(
            "no flow `{}`: it never was, or newer ones took its place",
            escape(uuid)
        )));
    };
    let history = get(&mut client, pair(&flow), HISTORY).await?;
    // A server that only knows flows says nothing of policies.
    let policies = SignetClient::new(connection).list_policies(ListPoliciesRequest {}).await;
    let policies = policies.map(|answer| answer.into_inner().policies).unwrap_or_default();
    let mut out = io::stdout().lock();
    write!(out, "{}", explain(&flow, &history, &policies, style))?;
    Ok(out.flush()?)
}

async fn get(
    client: &mut ObserverClient<Connection>,
    whitelist: Vec<FlowFilter>,
    number: u64,
) -> Result<Vec<Flow>, Error> {
    let request = GetFlowsRequest { number, whitelist, ..GetFlowsRequest::default() };
    let mut answers = client.get_flows(request).await?.into_inner();
    let mut flows = Vec::new();
    while let Some(answer) = answers.message().await? {
        if let Some(ResponseTypes::Flow(flow)) = answer.response_types {
            flows.push(flow);
        }
    }
    Ok(flows)
}

/// Flows between the two ends, either way; pods by name, others by address.
fn pair(flow: &Flow) -> Vec<FlowFilter> {
    let pod = |side: Side| {
        let end = side.endpoint(flow).filter(|end| !end.pod_name.is_empty())?;
        Some(format!("{}/{}", end.namespace, end.pod_name))
    };
    let address = |side: Side| match pod(side) {
        Some(_) => vec![],
        None => flow.ip.iter().map(|_| side.address(flow).to_owned()).collect(),
    };
    let one_way = |from: Side, to: Side| FlowFilter {
        source_pod: pod(from).into_iter().collect(),
        source_ip: address(from),
        destination_pod: pod(to).into_iter().collect(),
        destination_ip: address(to),
        ..FlowFilter::default()
    };
    vec![one_way(Side::Source, Side::Destination), one_way(Side::Destination, Side::Source)]
}

/// All of it as text.
fn explain(flow: &Flow, history: &[Flow], policies: &[Policy], style: &Style) -> String {
    let detail = flow.extensions.as_ref().and_then(Detail::from_any);
    let mut lines = vec![brief::flow(flow, style), String::new()];
    let mut row = |key: &str, value: String| lines.push(format!("{key:<10} {value}"));
    row("flow", format!("{}, seen by {}", escape(&flow.uuid), escape(&flow.node_name)));
    row("from", end(flow, Side::Source));
    row("to", end(flow, Side::Destination));
    if let Some(detail) = &detail {
        row("process", actor(&detail.source));
        if let Actor::Known(_) = &detail.destination {
            row("peer", actor(&detail.destination));
        }
    }
    row("decided", decision(flow, detail.as_ref()));
    for missing in not_in_force(flow, detail.as_ref(), policies) {
        row("not yet", escape(&missing).into_owned());
    }
    if let Some(shadow) = detail.as_ref().and_then(|detail| detail.shadow.as_ref()) {
        let same = if shadow.differs { "" } else { ", as it was" };
        row("shadow", format!("{}{same}", escape(&shadow.in_words())));
    }
    for (at, line) in remedy::of(flow, detail.as_ref()).lines().enumerate() {
        row(if at == 0 { "allow it" } else { "" }, line.to_owned());
    }
    let dropped = history.iter().filter(|flow| is_drop(flow)).count();
    let others = history.len() - dropped;
    row("history", format!("{dropped} dropped, {others} other, of the last {}", history.len()));
    lines.extend(history.iter().map(|flow| format!("  {}", brief::flow(flow, style))));
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn is_drop(flow: &Flow) -> bool {
    flow.verdict == i32::from(Verdict::Dropped)
}

/// Name, identity, address and labels.
fn end(flow: &Flow, side: Side) -> String {
    let labels = side.endpoint(flow).map_or(&[][..], |end| &end.labels);
    let labels = escape(&labels.join(" ")).into_owned();
    let (name, address) = (side.name(flow, false), side.name(flow, true));
    let address = if name == address { String::new() } else { format!(" at {address}") };
    format!("{name} {}{address} {labels}", side.identity(flow)).trim_end().to_owned()
}

fn actor(actor: &Actor) -> String {
    match actor {
        Actor::Known(process) => {
            let container = match process.container.as_str() {
                "" => String::new(),
                container => format!(", container {}", escape(container)),
            };
            let binary = escape(&process.binary);
            format!("{} ({binary}), user {}{container}", brief::actor(process), process.uid)
        }
        Actor::Unknown(why) => format!("not known: {}", escape(why)),
    }
}

/// Which side judged, by which revision, and what it found.
fn decision(flow: &Flow, detail: Option<&Detail>) -> String {
    let Some(detail) = detail else {
        return "the server does not say by what".to_owned();
    };
    let list = |names: &[String]| escape(&names.join(", ")).into_owned();
    let judged = match detail.revision {
        0 => String::new(),
        revision => format!(" ({}, policy revision {revision})", word(flow)),
    };
    let found = match (detail.reason.as_str(), detail.rules.as_slice()) {
        ("default-deny", _) => {
            format!("no rule allows it; default deny is on because of {}", list(&detail.because))
        }
        ("deny-rule", rules) => format!("denied by {}", list(rules)),
        (UNSUPPORTED, rules) => format!(
            "{} would allow it on a condition ({CONDITIONS}) that is not looked at yet: \
             until it is, this is denied",
            if rules.is_empty() { "a rule".to_owned() } else { list(rules) }
        ),
        ("unenforced", _) => "no policy selects it, so it may".to_owned(),
        ("established", _) => "part of a connection that was allowed".to_owned(),
        (_, rules) if !rules.is_empty() => format!("allowed by {}", list(rules)),
        (reason, _) => format!("by the packet path: {}", escape(reason)),
    };
    format!("{found}{judged}")
}

/// Rules of the policies that deny by default which might have allowed it, were they in
/// force: what is not known here (the address of a name, another cluster) matches nothing.
fn not_in_force(flow: &Flow, detail: Option<&Detail>, policies: &[Policy]) -> BTreeSet<String> {
    let Some(detail) = detail.filter(|detail| detail.reason == "default-deny") else {
        return BTreeSet::new();
    };
    let list = match direction(flow) {
        TrafficDirection::Egress => ".egress[",
        TrafficDirection::Ingress => ".ingress[",
        TrafficDirection::Unknown => return BTreeSet::new(),
    };
    let decided = policies.iter().filter(|policy| {
        let namespace = if policy.namespace.is_empty() { "-" } else { &policy.namespace };
        detail.because.contains(&format!("{}/{namespace}/{}", policy.kind, policy.name))
    });
    let parts = decided.flat_map(|policy| policy.reason.split("; "));
    let missing = parts.filter(|part| part.contains(NOT_IN_FORCE) && part.contains(list));
    missing.map(str::to_owned).collect()
}

fn word(flow: &Flow) -> &'static str {
    use api::proto::flow::TrafficDirection::{Egress, Ingress, Unknown};
    match direction(flow) {
        Egress => "egress of the source",
        Ingress => "ingress of the destination",
        Unknown => "direction unknown",
    }
}

#[cfg(test)]
mod tests;
