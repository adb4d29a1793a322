//! The flags of `signet observe` that are not filters, and the request they make
//! with them. Takes the present moment as an argument.

#[cfg(test)]
mod tests;

use api::proto::observer::GetFlowsRequest;
use api::time::timestamp;

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

/// Show flows: what was allowed, what was dropped, why, and from which process.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  signet observe --verdict DROPPED --follow
  signet observe --namespace payment --last 50 -o compact
  signet observe --from-pod payment/pay-svc --to-port 5432 -o json
  signet observe --since 5m --not --protocol icmp")]
pub struct ObserveArgs {
    #[command(flatten)]
    pub server: ServerArgs,

    /// Go on with what happens next
    #[arg(short, long, conflicts_with = "first")]
    pub follow: bool,

    /// The newest N flows
    #[arg(long, value_name = "N", conflicts_with_all = ["first", "all"])]
    pub last: Option<u64>,

    /// The oldest N flows
    #[arg(long, value_name = "N", conflicts_with = "all")]
    pub first: Option<u64>,

    /// All flows there are
    #[arg(long)]
    pub all: bool,

    /// From then on: a duration ago (5m, 1h30m) or a date (2026-06-14T09:12:03Z)
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,

    /// Up to then; without effect with --follow
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,

    /// Form of the output [default: brief on a terminal, else compact]
    #[arg(short, long, value_enum)]
    pub output: Option<Format>,

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

    #[command(flatten)]
    pub filters: FilterArgs,
}

impl ObserveArgs {
    /// What to ask the server.
    pub fn request(&self, now_ns: u64) -> Result<GetFlowsRequest, String> {
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
            (None, false) => LAST,
        };
        Ok(GetFlowsRequest {
            number,
            first: self.first.is_some(),
            follow: self.follow,
            since,
            until: until.filter(|_| !self.follow),
            whitelist: self.filters.whitelist.clone(),
            blacklist: self.filters.blacklist.clone(),
            ..GetFlowsRequest::default()
        })
    }
}
