//! Answers of an observer, one after the other, in the chosen form.
//!
//! Flows and losses go to one stream, what concerns nodes to another, so that a
//! pipe carries flows only.

use std::io::{self, Write};

use api::proto::flow::{Flow, LostEvent};
use api::proto::observer::GetFlowsResponse;
use api::proto::observer::get_flows_response::ResponseTypes;
use api::proto::relay::{NodeState, NodeStatusEvent};

use super::args::Format;
use super::flow::{self, Side};
use super::text::escape;
use super::{Style, brief, compact, dict};
use crate::table::Table;

/// Prints answers.
pub struct Printer<Out, Err> {
    format: Format,
    style: Style,
    out: Out,
    err: Err,
    /// Blocks printed so far, in the form that separates them.
    blocks: usize,
    table: Table,
}

impl<Out: Write, Err: Write> Printer<Out, Err> {
    /// A printer to these streams.
    pub fn new(format: Format, style: Style, out: Out, err: Err) -> Self {
        let node = style.node.then_some("NODE");
        let header = ["TIMESTAMP"].into_iter().chain(node).chain([
            "SOURCE",
            "DESTINATION",
            "TYPE",
            "VERDICT",
            "SUMMARY",
        ]);
        Self { format, style, out, err, blocks: 0, table: Table::new(header) }
    }

    /// Prints one answer.
    pub fn print(&mut self, answer: &GetFlowsResponse) -> io::Result<()> {
        match &answer.response_types {
            Some(ResponseTypes::Flow(flow)) => self.flow(flow, answer),
            Some(ResponseTypes::LostEvents(lost)) => self.lost(lost, answer),
            Some(ResponseTypes::NodeStatus(status)) => self.node_status(status, answer),
            // From a server that knows kinds of answers we do not.
            None => Ok(()),
        }
    }

    /// Prints what had to wait for the end.
    pub fn finish(&mut self) -> io::Result<()> {
        // Hubble prints the header with the first row.
        if self.format == Format::Table && !self.table.is_empty() {
            write!(self.out, "{}", self.table)?;
        }
        self.out.flush()
    }

    /// Shows what was printed so far.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn flow(&mut self, flow: &Flow, answer: &GetFlowsResponse) -> io::Result<()> {
        let style = self.style;
        match self.format {
            Format::Json => self.line(&json(answer)?),
            Format::Compact => self.line(&compact::flow(flow, &style)),
            Format::Brief => self.line(&brief::flow(flow, &style)),
            Format::Dict => self.block(&dict::flow(flow, &style)),
            Format::Table => {
                let cells = [
                    Side::Source.name(flow, style.numeric),
                    Side::Destination.name(flow, style.numeric),
                    flow::event(flow),
                    flow::verdict(flow, style.policy_names),
                    flow::summary(flow),
                ];
                self.row(answer, cells);
                Ok(())
            }
        }
    }

    fn lost(&mut self, lost: &LostEvent, answer: &GetFlowsResponse) -> io::Result<()> {
        let (time, style) = (answer.time.as_ref(), self.style);
        match self.format {
            Format::Json => self.line(&json(answer)?),
            Format::Compact => self.line(&compact::lost(lost, time, &style)),
            Format::Brief => self.line(&brief::lost(lost, time)),
            Format::Dict => self.block(&dict::lost(lost, time, &style)),
            Format::Table => {
                let source = lost.source().as_str_name().to_owned();
                let [dash, event] = ["-", "EVENTS LOST"].map(str::to_owned);
                let summary = flow::lost(lost, style.time, "- ");
                self.row(answer, [source, dash.clone(), event, dash, summary]);
                Ok(())
            }
        }
    }

    fn row(&mut self, answer: &GetFlowsResponse, cells: [String; 5]) {
        let node = self.style.node.then(|| escape(&answer.node_name).into_owned());
        let time = self.style.time.format(answer.time.as_ref());
        self.table.row([time].into_iter().chain(node).chain(cells));
    }

    fn node_status(
        &mut self,
        status: &NodeStatusEvent,
        answer: &GetFlowsResponse,
    ) -> io::Result<()> {
        let amiss =
            matches!(status.state_change(), NodeState::NodeUnavailable | NodeState::NodeError);
        if self.style.silent || !amiss && !self.style.debug {
            return Ok(());
        }
        let (time, style) = (answer.time.as_ref(), &self.style);
        let text = match self.format {
            Format::Json => json(answer)?,
            Format::Dict => {
                self.blocks += 1;
                let separator = if self.blocks > 1 { dict::SEPARATOR } else { "" };
                let block = dict::node_status(status, time, style);
                [separator, &block].join("\n").trim_start_matches('\n').to_owned()
            }
            Format::Compact | Format::Brief | Format::Table => {
                compact::node_status(status, time, &answer.node_name, style)
            }
        };
        writeln!(self.err, "{text}")
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }

    fn block(&mut self, block: &str) -> io::Result<()> {
        self.blocks += 1;
        if self.blocks > 1 {
            writeln!(self.out, "{}", dict::SEPARATOR)?;
        }
        writeln!(self.out, "{block}")
    }
}

fn json(answer: &GetFlowsResponse) -> io::Result<String> {
    api::json::to_json(answer).map_err(io::Error::other)
}
