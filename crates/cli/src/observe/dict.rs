//! A block a flow, one field a line, as Hubble's command line prints it.

use api::flow::detail::Detail;
use api::proto::flow::{Flow, LostEvent};
use api::proto::relay::NodeStatusEvent;
use prost_types::Timestamp;

use super::flow::{self, Side};
use super::text::{escape, quoted};
use super::{Style, compact};

/// Stands between two blocks.
pub const SEPARATOR: &str = "------------";

/// Width of the longest key.
const WIDTH: usize = "DESTINATION".len();

fn block(fields: &[(&str, String)]) -> String {
    let lines: Vec<String> =
        fields.iter().map(|(key, value)| format!("{key:>WIDTH$}: {value}")).collect();
    lines.join("\n")
}

/// A flow.
pub fn flow(flow: &Flow, style: &Style) -> String {
    let mut fields = vec![("TIMESTAMP", style.time.format(flow.time.as_ref()))];
    if style.node {
        fields.push(("NODE", escape(&flow.node_name).into_owned()));
    }
    fields.extend([
        ("SOURCE", Side::Source.name(flow, style.numeric)),
        ("DESTINATION", Side::Destination.name(flow, style.numeric)),
        ("TYPE", flow::event(flow)),
        ("VERDICT", flow::verdict(flow, style.policy_names)),
        ("SUMMARY", flow::summary(flow)),
    ]);
    let detail = flow.extensions.as_ref().and_then(Detail::from_any);
    if let Some(shadow) = detail.and_then(|detail| detail.shadow) {
        fields.push(("SHADOW", escape(&shadow.in_words()).into_owned()));
    }
    block(&fields)
}

/// A loss.
pub fn lost(lost: &LostEvent, time: Option<&Timestamp>, style: &Style) -> String {
    block(&[
        ("TIMESTAMP", style.time.format(time)),
        ("SOURCE", lost.source().as_str_name().to_owned()),
        ("TYPE", "EVENTS LOST".to_owned()),
        ("VERDICT", "-".to_owned()),
        ("SUMMARY", flow::lost(lost, style.time, "- ")),
    ])
}

/// A change of a node's state.
pub fn node_status(status: &NodeStatusEvent, time: Option<&Timestamp>, style: &Style) -> String {
    let message = match status.message.as_str() {
        "" => "N/A".to_owned(),
        message => quoted(message),
    };
    block(&[
        ("TIMESTAMP", style.time.format(time)),
        ("STATE", status.state_change().as_str_name().to_owned()),
        ("NODES", compact::names(&status.node_names)),
        ("MESSAGE", message),
    ])
}
