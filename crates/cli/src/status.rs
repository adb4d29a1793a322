//! `signet status`: what the kernel of each node can do and what its agent does.

use api::proto::signet::v1::{Fault, NodeStatus, ServiceCounters, StatusRequest, StatusResponse};

use crate::error::Error;
use crate::observe::time::{TimeFormat, duration};
use crate::rows::{RowsArgs, cell};
use crate::table::Table;

/// Show what each node can enforce, and does.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  signet status -o json")]
pub struct StatusArgs {
    #[command(flatten)]
    rows: RowsArgs,
}

/// Runs the command.
pub async fn run(args: StatusArgs) -> Result<(), Error> {
    let rows = args.rows;
    let answer = rows.client().await?.status(StatusRequest {}).await?.into_inner();
    rows.show(&answer, &answer.unavailable, blocks)
}

fn blocks(answer: &StatusResponse) -> String {
    answer.nodes.iter().map(block).collect::<Vec<_>>().join("\n")
}

/// One node.
fn block(node: &NodeStatus) -> String {
    let uptime = node.uptime.as_ref().and_then(|uptime| u64::try_from(uptime.seconds).ok());
    let ready = match node.endpoints_not_ready {
        0 => "all ready".to_owned(),
        waiting => format!("{waiting} not ready: they drop everything"),
    };
    let mut rows = vec![
        ("agent", format!("{}, up {}", cell(&node.version), duration(uptime.unwrap_or(0)))),
        (
            "kernel",
            format!("{}, attached by {}", cell(&node.kernel_release), cell(&node.attach_kind)),
        ),
        ("policy", format!("revision {}", node.policy_revision)),
        ("endpoints", format!("{}, {ready}", node.endpoints)),
        ("flows", format!("{} seen", node.flows_seen)),
    ];
    for ring in &node.rings {
        let (attempted, delivered, lost) = (ring.attempted, ring.delivered, ring.lost);
        let name = cell(&ring.name);
        rows.push((
            "ring",
            format!("{name}: {attempted} attempted, {delivered} delivered, {lost} lost"),
        ));
    }
    for drop in &node.drops {
        let code = i32::try_from(drop.code).unwrap_or(i32::MAX);
        let text = crate::observe::drop_text(code);
        rows.push(("dropped", format!("{} packets: {text}", drop.packets)));
    }
    if let Some(ServiceCounters { translated, no_backend, no_room }) = &node.services {
        let refused = no_backend + no_room;
        rows.push((
            "services",
            format!("{translated} attempts led to backends, {refused} refused"),
        ));
    }
    for feature in &node.features {
        let available = if feature.available { "yes" } else { "no" };
        let detail = match feature.detail.as_str() {
            "" => String::new(),
            detail => format!(" ({})", cell(detail)),
        };
        rows.push(("feature", format!("{}: {available}{detail}", cell(&feature.name))));
    }
    rows.push(("source", source(node)));
    // What is less than half full is nobody's worry; `-o json` has all of it.
    for limit in node.limits.iter().filter(|limit| limit.used >= limit.limit.div_ceil(2)) {
        rows.push(("limit", format!("{}: {} of {}", cell(&limit.what), limit.used, limit.limit)));
    }
    rows.extend(node.faults.iter().map(|one| ("fault", fault(one))));
    rows.push(("last error", last_error(node)));
    let mut table = Table::new([cell(&node.node)]);
    for (key, value) in rows {
        table.row([format!("  {key}"), value]);
    }
    table.to_string()
}

/// How old what is enforced may be.
fn source(node: &NodeStatus) -> String {
    let seconds = |it: &prost_types::Duration| duration(u64::try_from(it.seconds).unwrap_or(0));
    match (&node.source_age, &node.source_age_bound) {
        (Some(age), Some(bound)) if age.seconds > bound.seconds + 1 => {
            format!("cannot be read for {}: what was read then is in force", seconds(age))
        }
        (Some(_), Some(bound)) => format!("read, at most {} old", seconds(bound)),
        _ => "never read: what an earlier agent installed is in force".to_owned(),
    }
}

fn fault(fault: &Fault) -> String {
    let since = TimeFormat::Rfc3339.format(fault.since.as_ref());
    let outcome = match fault.left.as_str() {
        "" => "put right".to_owned(),
        left => format!("NOT put right: {}", cell(left)),
    };
    format!("{since} {}: {outcome}", cell(&fault.detail))
}

fn last_error(node: &NodeStatus) -> String {
    match (node.last_error.as_str(), &node.last_error_time) {
        ("", _) => "none".to_owned(),
        (error, None) => cell(error),
        (error, time) => format!("{} {}", TimeFormat::Rfc3339.format(time.as_ref()), cell(error)),
    }
}

#[cfg(test)]
mod tests {
    use api::proto::signet::v1::{DropCounter, Feature, Limit, RingCounters};

    use super::*;

    #[test]
    fn a_status_says_what_the_node_can_do_and_does() {
        let node = NodeStatus {
            node: "node-a".into(),
            version: "0.1.0".into(),
            kernel_release: "6.18.5".into(),
            attach_kind: "tcx".into(),
            features: vec![Feature {
                name: "socket hooks".into(),
                available: false,
                detail: "no cgroup v2".into(),
            }],
            policy_revision: 12,
            endpoints: 5,
            endpoints_not_ready: 1,
            rings: vec![RingCounters {
                name: "flows".into(),
                attempted: 10,
                delivered: 9,
                lost: 1,
            }],
            flows_seen: 9,
            uptime: Some(prost_types::Duration { seconds: 61, nanos: 0 }),
            last_error: String::new(),
            last_error_time: None,
            drops: vec![DropCounter { code: 133, packets: 3 }],
            services: Some(ServiceCounters { translated: 7, no_backend: 2, no_room: 1 }),
            faults: vec![Fault {
                kind: "program".into(),
                detail: "a program of `sgt5` was detached".into(),
                left: String::new(),
                since: Some(prost_types::Timestamp { seconds: 1_000_000_000, nanos: 0 }),
            }],
            limits: [(1, 10), (6, 10)]
                .map(|(used, limit)| Limit { what: format!("thing {used}"), used, limit })
                .into(),
            source_age: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
            source_age_bound: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            kernel_memory_bytes: 1,
            considered_ns: 0,
        };
        let answer = StatusResponse { nodes: vec![node], unavailable: vec![] };
        assert_eq!(
            blocks(&answer),
            "\
node-a
  agent        0.1.0, up 1m1s
  kernel       6.18.5, attached by tcx
  policy       revision 12
  endpoints    5, 1 not ready: they drop everything
  flows        9 seen
  ring         flows: 10 attempted, 9 delivered, 1 lost
  dropped      3 packets: Policy denied
  services     7 attempts led to backends, 3 refused
  feature      socket hooks: no (no cgroup v2)
  source       read, at most 5s old
  limit        thing 6: 6 of 10
  fault        2001-09-09T01:46:40Z a program of `sgt5` was detached: put right
  last error   none
"
        );
    }
}
