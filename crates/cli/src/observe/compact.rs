//! One line a flow, byte for byte as Hubble's command line prints it.

use api::proto::flow::{Flow, LostEvent};
use api::proto::relay::{NodeState, NodeStatusEvent};
use prost_types::Timestamp;

use super::Style;
use super::flow::{self, Side};
use super::text::{escape, quoted};

/// Names of nodes are cut after about so many bytes.
const NAMES: usize = 50;
/// What stands between two.
const COMMA: &str = ", ";

/// A flow; of a reply the ends are swapped, so that the client stays on the left.
pub fn flow(flow: &Flow, style: &Style) -> String {
    let end = |side: Side| format!("{} {}", side.name(flow, style.numeric), side.identity(flow));
    let (left, arrow, right) = match flow.is_reply {
        Some(false) => (Side::Source, "->", Side::Destination),
        Some(true) => (Side::Destination, "<-", Side::Source),
        None => (Side::Source, "<>", Side::Destination),
    };
    format!(
        "{}: {} {arrow} {} {} {} ({})",
        prefix(style, flow.time.as_ref(), &flow.node_name),
        end(left),
        end(right),
        flow::event(flow),
        flow::colored(flow, flow::verdict(flow, style.policy_names), style.color),
        flow::summary(flow),
    )
}

fn prefix(style: &Style, time: Option<&Timestamp>, node: &str) -> String {
    let time = style.time.format(time);
    if style.node { format!("{time} [{}]", escape(node)) } else { time }
}

/// A loss.
pub fn lost(lost: &LostEvent, time: Option<&Timestamp>, style: &Style) -> String {
    format!(
        "{} EVENTS LOST: {} {}",
        style.time.format(time),
        lost.source().as_str_name(),
        flow::lost(lost, style.time, "")
    )
}

/// What became of some nodes.
pub fn node_status(
    status: &NodeStatusEvent,
    time: Option<&Timestamp>,
    from: &str,
    style: &Style,
) -> String {
    let (number, names) = (status.node_names.len(), names(&status.node_names));
    let message = match status.state_change() {
        NodeState::NodeUnavailable => format!("{number} nodes are unavailable: {names}"),
        NodeState::NodeError => {
            format!("Error {} on {number} nodes: {names}", quoted(&status.message))
        }
        NodeState::NodeConnected => format!("Receiving flows from {number} nodes: {names}"),
        NodeState::NodeGone => format!("{number} nodes removed from cluster: {names}"),
        state @ NodeState::UnknownNodeState => {
            format!("{} of {number} nodes: {names}", state.as_str_name())
        }
    };
    format!("{} [{}]: {message}", style.time.format(time), escape(from))
}

/// At least the first of them, and how many are left out.
pub fn names(names: &[String]) -> String {
    let ends = names.iter().scan(0, |length, name| {
        *length += name.len() + COMMA.len();
        Some(*length)
    });
    let shown = ends.take_while(|end| *end <= NAMES).count().max(1).min(names.len());
    let text = escape(&names[..shown].join(COMMA)).into_owned();
    match names.len() - shown {
        0 => text,
        more => format!("{text} (and {more} more)"),
    }
}
