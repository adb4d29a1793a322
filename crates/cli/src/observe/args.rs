//! The flags of `signet observe` that are not filters, and the request they make
//! with them. Takes the present moment as an argument.

#[cfg(test)]
mod tests;

use api::proto::observer::{GetAgentEventsRequest, GetDebugEventsRequest, GetFlowsRequest};
use api::time::timestamp;
use prost_types::{FieldMask, Timestamp};

use super::filter::FilterArgs;
use super::time::{TimeFormat, moment};
use crate::server::ServerArgs;

/// Flows shown when nobody says how many.
const LAST: u64 = 20;

/// How flows are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// One line, as Hubble prints it
    Compact,
    /// One line for people: who, what, why, which process, which rule
    Brief,
    /// One object a line, as Hubble prints it
    #[value(alias = "jsonpb")]
    Json,
    /// One field a line
    Dict,
    /// Columns, printed when all flows are there
    #[value(alias = "tab")]
    Table,
}

/// What `signet observe` shows.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  signet observe --verdict DROPPED --follow
  signet observe --namespace payment --last 50 -o compact
  signet observe --from-pod payment/pay-svc --to-port 5432 -o json
  signet observe --since 5m --not --protocol icmp
  signet observe --why 3fdd6a1e-8c1b-8d5e-9f0a-5d2f6f1c2b3a
  signet observe --input-file saved.jsonl --verdict DROPPED"
)]
pub struct ObserveArgs {
    /// What else there is to see
    #[command(subcommand)]
    pub other: Option<Other>,

    #[command(flatten)]
    pub flows: FlowArgs,
}

/// Kinds of events.
#[derive(Debug, clap::Subcommand)]
pub enum Other {
    /// Flows, as without a word
    #[command(after_help = "Example:\n  signet observe flows --last 5")]
    Flows(Box<FlowArgs>),
    /// What the agents did: policies, endpoints and addresses that changed
    #[command(after_help = "Example:\n  signet observe agent-events --follow")]
    AgentEvents(EventArgs),
    /// Debug messages of the packet path: there are none
    #[command(after_help = "Example:\n  signet observe debug-events")]
    DebugEvents(EventArgs),
}

/// Flags of everything that is a list in time.
#[derive(Clone, Debug, clap::Args)]
pub struct EventArgs {
    #[command(flatten)]
    pub server: ServerArgs,

    #[command(flatten)]
    pub range: RangeArgs,

    /// Form of the output [default: compact]
    #[arg(short, long, value_enum)]
    pub output: Option<Format>,

    /// The node that it happened on
    #[arg(long)]
    pub print_node_name: bool,

    /// How moments are printed, in UTC
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "StampMilli")]
    pub time_format: TimeFormat,
}

/// Which part of the past, and whether what comes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RangeArgs {
    /// Go on with what happens next
    #[arg(short, long, conflicts_with = "first")]
    pub follow: bool,

    /// The newest N
    #[arg(long, value_name = "N", conflicts_with_all = ["first", "all"])]
    pub last: Option<u64>,

    /// The oldest N
    #[arg(long, value_name = "N", conflicts_with = "all")]
    pub first: Option<u64>,

    /// All there are
    #[arg(long)]
    pub all: bool,

    /// From then on: a duration ago (5m, 1h30m) or a date (2026-06-14T09:12:03Z)
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,

    /// Up to then; without effect with --follow
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
}

/// A range, ready to be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    /// 0: no bound.
    pub number: u64,
    /// Counted from the oldest.
    pub first: bool,
    /// Goes on with what comes.
    pub follow: bool,
    /// Not earlier.
    pub since: Option<Timestamp>,
    /// Not later.
    pub until: Option<Timestamp>,
}

impl RangeArgs {
    /// What they mean now; `standard` is how many are shown when nobody says.
    pub fn at(&self, now_ns: u64, standard: u64) -> Result<Range, String> {
        let when = |flag: &str, text: &Option<String>| match text {
            Some(text) => moment(text, now_ns)
                .map(|ns| Some(timestamp(ns)))
                .map_err(|reason| format!("--{flag}: {reason}")),
            None => Ok(None),
        };
        let (since, until) = (when("since", &self.since)?, when("until", &self.until)?);
        let bounded = since.is_some() || until.is_some();
        let number = match (self.first.or(self.last), self.all) {
            (Some(number), _) => number,
            (None, true) => u64::MAX,
            (None, false) if self.follow || bounded => 0,
            (None, false) => standard,
        };
        let (first, follow) = (self.first.is_some(), self.follow);
        Ok(Range { number, first, follow, since, until: until.filter(|_| !follow) })
    }
}

/// When verdicts are coloured.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal
    #[default]
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

/// Show flows: what was allowed, what was dropped, why, and from which process.
#[derive(Debug, clap::Args)]
pub struct FlowArgs {
    #[command(flatten)]
    pub server: ServerArgs,

    #[command(flatten)]
    pub range: RangeArgs,

    /// Explain this flow: who decided, what would have allowed it, which process,
    /// and what else its two ends did
    #[arg(long, value_name = "UUID")]
    pub why: Option<String>,

    /// Saved flows (one JSON object a line) instead of a server's; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["follow", "why"])]
    pub input_file: Vec<String>,

    /// `-`: saved flows from stdin
    #[arg(conflicts_with_all = ["follow", "why"], value_name = "-", value_parser = ["-"], hide_possible_values = true)]
    pub stdin: Option<String>,

    /// Form of the output [default: brief on a terminal, else compact]
    #[arg(short, long, value_enum)]
    pub output: Option<Format>,

    /// Colours of verdicts
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub color: Color,

    /// Names instead of addresses
    #[arg(
        long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true"
    )]
    pub ip_translation: bool,

    /// Addresses instead of names
    #[arg(long)]
    pub numeric: bool,

    /// The node that saw it
    #[arg(long)]
    pub print_node_name: bool,

    /// The policies that decided
    #[arg(long)]
    pub print_policy_names: bool,

    /// How moments are printed, in UTC
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "StampMilli")]
    pub time_format: TimeFormat,

    /// Fields of each flow that are sent, with -o json: uuid,source.pod_name,...
    #[arg(long, value_name = "PATH", value_delimiter = ',', alias = "experimental-field-mask")]
    pub field_mask: Vec<String>,

    /// Ask only for what compact, dict and table print; brief and json show all there is
    #[arg(
        long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true"
    )]
    pub use_default_field_masks: bool,

    /// Say nothing of nodes that are away
    #[arg(short, long)]
    pub silent_errors: bool,

    /// Print the filters that the flags make, for an exporter's settings, and end
    #[arg(long)]
    pub print_raw_filters: bool,

    #[command(flatten)]
    pub filters: FilterArgs,
}

/// What Hubble's own forms print.
const PRINTED: [&str; 31] = [
    "time",
    "verdict",
    "ethernet",
    "IP",
    "l4",
    "source.identity",
    "source.namespace",
    "source.pod_name",
    "destination.identity",
    "destination.namespace",
    "destination.pod_name",
    "Type",
    "node_name",
    "l7",
    "event_type",
    "source_service",
    "destination_service",
    "is_reply",
    "Summary",
    "ip_trace_id",
    "traffic_direction",
    "policy_match_type",
    "source_names",
    "destination_names",
    "auth_type",
    "sock_xlate_point",
    "debug_capture_point",
    "ingress_allowed_by",
    "ingress_denied_by",
    "egress_allowed_by",
    "egress_denied_by",
];

impl FlowArgs {
    /// Where saved flows are read; empty: a server is asked.
    pub fn inputs(&self) -> Vec<&str> {
        self.input_file.iter().chain(&self.stdin).map(String::as_str).collect()
    }

    /// The form, given whether somebody reads it on a terminal.
    pub fn format(&self, terminal: bool) -> Format {
        self.output.unwrap_or(if terminal { Format::Brief } else { Format::Compact })
    }

    /// What to ask the server; saved flows are all shown when nobody says how many.
    pub fn request(&self, now_ns: u64, format: Format) -> Result<GetFlowsRequest, String> {
        if format == Format::Table && self.range.follow {
            return Err("a table cannot follow: use another --output".to_owned());
        }
        if format != Format::Json && !self.field_mask.is_empty() {
            return Err("--field-mask goes with -o json: other forms print fixed fields".to_owned());
        }
        let standard = if self.inputs().is_empty() { LAST } else { 0 };
        let Range { number, first, follow, since, until } = self.range.at(now_ns, standard)?;
        let fixed = matches!(format, Format::Compact | Format::Dict | Format::Table);
        // What would have been decided in the shadow has a line of its own there.
        let more = (format == Format::Dict).then_some("extensions");
        let printed = PRINTED.into_iter().chain(more).map(str::to_owned);
        let paths = match (self.use_default_field_masks && fixed, self.field_mask.as_slice()) {
            (true, _) => Some(printed.collect()),
            (false, []) => None,
            (false, paths) => Some(paths.to_vec()),
        };
        Ok(GetFlowsRequest {
            number,
            first,
            follow,
            since,
            until,
            whitelist: self.filters.whitelist.clone(),
            blacklist: self.filters.blacklist.clone(),
            field_mask: paths.map(|paths| FieldMask { paths }),
            ..GetFlowsRequest::default()
        })
    }
}

impl EventArgs {
    /// The events to ask for.
    pub fn agent_events(&self, now_ns: u64) -> Result<GetAgentEventsRequest, String> {
        let Range { number, first, follow, since, until } = self.range.at(now_ns, LAST)?;
        Ok(GetAgentEventsRequest { number, first, follow, since, until })
    }

    /// The debug events to ask for.
    pub fn debug_events(&self, now_ns: u64) -> Result<GetDebugEventsRequest, String> {
        let Range { number, first, follow, since, until } = self.range.at(now_ns, LAST)?;
        Ok(GetDebugEventsRequest { number, first, follow, since, until })
    }
}
