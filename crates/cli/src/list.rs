//! `signet list`: the nodes that serve flows, and the namespaces flows are about,
//! byte for byte as Hubble's command line prints them.

use std::io::{self, Write};

use api::json::{JsonError, to_json};
use api::proto::observer::observer_client::ObserverClient;
use api::proto::observer::{
    GetNamespacesRequest, GetNamespacesResponse, GetNodesRequest, GetNodesResponse, Namespace, Node,
};
use api::proto::relay::NodeState;
use prost::{Message, Name};

use crate::error::Error;
use crate::observe::time::duration;
use crate::rows::cell;
use crate::server::{self, ServerArgs};
use crate::table::Table;

/// How a list is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// Columns
    Table,
    /// More columns
    Wide,
    /// An array of objects
    #[value(alias = "jsonpb")]
    Json,
}

/// Flags of every list.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// What is listed.
#[derive(Debug, clap::Subcommand)]
pub enum ListCommand {
    /// Nodes that serve flows
    #[command(visible_alias = "node", after_help = "Example:\n  signet list nodes -o wide")]
    Nodes(ListArgs),
    /// Namespaces of the last hour's flows
    #[command(
        visible_aliases = ["namespace", "ns"],
        after_help = "Example:\n  signet list namespaces"
    )]
    Namespaces(ListArgs),
}

/// Runs the command.
pub async fn run(command: ListCommand) -> Result<(), Error> {
    let (ListCommand::Nodes(args) | ListCommand::Namespaces(args)) = &command;
    let mut client = ObserverClient::new(server::connect(&args.server).await?);
    let text = match &command {
        ListCommand::Nodes(_) => {
            let answer = args.server.answer(client.get_nodes(GetNodesRequest {})).await?;
            nodes(answer, args.output)?
        }
        ListCommand::Namespaces(_) => {
            let answer = args.server.answer(client.get_namespaces(GetNamespacesRequest {})).await?;
            namespaces(&answer, args.output)?
        }
    };
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    Ok(out.flush()?)
}

fn nodes(answer: GetNodesResponse, format: Format) -> Result<String, JsonError> {
    let mut nodes = answer.nodes;
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    if format == Format::Json {
        return array(&nodes);
    }
    let wide = format == Format::Wide;
    let mut header = vec!["NAME", "STATUS", "AGE", "FLOWS/S", "CURRENT/MAX-FLOWS"];
    if wide {
        header.extend(["VERSION", "ADDRESS", "TLS"]);
    }
    let mut table = Table::new(header);
    for node in &nodes {
        let mut cells =
            vec![cell(&node.name), state(node).to_owned(), age(node), rate(node), occupancy(node)];
        if wide {
            let tls = match &node.tls {
                Some(tls) if tls.enabled => "Enabled",
                Some(_) => "Disabled",
                None => "-",
            };
            cells.extend([cell(&node.version), cell(&node.address), tls.to_owned()]);
        }
        table.row(cells);
    }
    Ok(table.to_string())
}

fn state(node: &Node) -> &'static str {
    match node.state() {
        NodeState::NodeConnected => "Connected",
        NodeState::NodeUnavailable => "Unavailable",
        NodeState::NodeGone => "Gone",
        NodeState::NodeError => "Error",
        NodeState::UnknownNodeState => "Unknown",
    }
}

fn age(node: &Node) -> String {
    match node.uptime_ns {
        0 => "N/A".to_owned(),
        ns => duration(ns / 1_000_000_000),
    }
}

fn rate(node: &Node) -> String {
    match node.uptime_ns {
        0 => "N/A".to_owned(),
        ns => format!("{:.2}", node.seen_flows as f64 / (ns as f64 / 1e9)),
    }
}

fn occupancy(node: &Node) -> String {
    let (held, most) = (node.num_flows, node.max_flows);
    match most {
        0 => "N/A".to_owned(),
        most => format!("{held}/{most} ({:6.2}%)", held as f64 / most as f64 * 100.0),
    }
}

fn namespaces(answer: &GetNamespacesResponse, format: Format) -> Result<String, JsonError> {
    let list = &answer.namespaces;
    if format == Format::Json {
        return array(list);
    }
    // Without a cluster there is nothing to tell in its column.
    let clusters = format == Format::Wide || list.iter().any(|row| !row.cluster.is_empty());
    let mut table = Table::new(["NAMESPACE"].into_iter().chain(clusters.then_some("CLUSTER")));
    for Namespace { cluster, namespace } in list {
        table.row([cell(namespace)].into_iter().chain(clusters.then(|| cell(cluster))));
    }
    Ok(table.to_string())
}

/// A JSON array, indented by two.
fn array<M: Message + Name>(items: &[M]) -> Result<String, JsonError> {
    if items.is_empty() {
        return Ok("[]\n".to_owned());
    }
    let items: Result<Vec<String>, JsonError> = items.iter().map(to_json).collect();
    Ok(format!("{}\n", indented(&format!("[{}]", items?.join(",")))))
}

/// Compact JSON, one member a line.
fn indented(json: &str) -> String {
    let (mut text, mut depth, mut quoted, mut escaped) = (String::new(), 0_usize, false, false);
    let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
    for c in json.chars() {
        let structural = !quoted;
        match c {
            '"' if !escaped => quoted = !quoted,
            '}' | ']' if structural => {
                depth = depth.saturating_sub(1);
                text.push_str(&line(depth));
            }
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
        text.push(c);
        match c {
            '{' | '[' if structural => {
                depth += 1;
                text.push_str(&line(depth));
            }
            ',' if structural => text.push_str(&line(depth)),
            ':' if structural => text.push(' '),
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use api::proto::observer::Tls;

    use super::*;

    fn node() -> GetNodesResponse {
        let node = Node {
            name: "c1/node-a".into(),
            version: "fake v1.19.0".into(),
            address: "10.0.0.1:4244".into(),
            state: NodeState::NodeConnected.into(),
            tls: Some(Tls { enabled: true, server_name: "x".into() }),
            uptime_ns: 3_600_000_000_000,
            num_flows: 10,
            max_flows: 4095,
            seen_flows: 7200,
        };
        GetNodesResponse { nodes: vec![node] }
    }

    #[test]
    fn nodes_print_as_hubble_prints_them() {
        assert_eq!(
            nodes(node(), Format::Table).unwrap(),
            "\
NAME        STATUS      AGE      FLOWS/S   CURRENT/MAX-FLOWS
c1/node-a   Connected   1h0m0s   2.00      10/4095 (  0.24%)
"
        );
        assert_eq!(
            nodes(node(), Format::Wide).unwrap(),
            "\
NAME        STATUS      AGE      FLOWS/S   CURRENT/MAX-FLOWS   VERSION        ADDRESS         TLS
c1/node-a   Connected   1h0m0s   2.00      10/4095 (  0.24%)   fake v1.19.0   10.0.0.1:4244   Enabled
"
        );
        assert_eq!(
            nodes(node(), Format::Json).unwrap(),
            r#"[
  {
    "name": "c1/node-a",
    "version": "fake v1.19.0",
    "address": "10.0.0.1:4244",
    "state": "NODE_CONNECTED",
    "tls": {
      "enabled": true,
      "server_name": "x"
    },
    "uptime_ns": "3600000000000",
    "num_flows": "10",
    "max_flows": "4095",
    "seen_flows": "7200"
  }
]
"#
        );
    }

    #[test]
    fn a_node_that_is_away_has_no_numbers() {
        let away = Node { name: "b".into(), ..Node::default() };
        assert_eq!(
            nodes(GetNodesResponse { nodes: vec![away] }, Format::Table).unwrap(),
            "NAME   STATUS    AGE   FLOWS/S   CURRENT/MAX-FLOWS\nb      Unknown   N/A   N/A       N/A\n"
        );
    }

    #[test]
    fn namespaces_print_as_hubble_prints_them() {
        let row = |namespace: &str| Namespace { cluster: "c1".into(), namespace: namespace.into() };
        let answer = GetNamespacesResponse { namespaces: vec![row("default"), row("kube-system")] };
        assert_eq!(
            namespaces(&answer, Format::Table).unwrap(),
            "NAMESPACE     CLUSTER\ndefault       c1\nkube-system   c1\n"
        );
    }

    #[test]
    fn quotes_and_brackets_inside_text_stay_where_they_are() {
        assert_eq!(indented(r#"["a\"],{b:c"]"#), "[\n  \"a\\\"],{b:c\"\n]");
    }
}
