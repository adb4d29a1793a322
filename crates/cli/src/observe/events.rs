//! `signet observe agent-events` and `debug-events`: what agents did.

use std::io::{self, Write};

use api::proto::flow::AgentEvent;
use api::proto::flow::agent_event::Notification;
use api::proto::observer::GetAgentEventsResponse;
use api::proto::observer::observer_client::ObserverClient;

use super::args::{EventArgs, Format};
use super::text::escape;
use super::time::TimeFormat;
use crate::error::Error;
use crate::server;
use crate::table::Table;

/// Prints the events of agents.
pub async fn agent_events(args: &EventArgs) -> Result<(), Error> {
    let format = format(args)?;
    let request = args.agent_events(api::time::now_ns()).map_err(Error::Usage)?;
    let mut client = ObserverClient::new(server::connect(&args.server).await?);
    let response = client.get_agent_events(request).await?;
    server::warn_of_newer(response.metadata());
    let mut answers = response.into_inner();
    let mut printer = Printer::new(args, format, io::stdout().lock());
    loop {
        match answers.message().await {
            Ok(Some(answer)) => printer.print(&answer)?,
            Ok(None) => return Ok(printer.finish()?),
            Err(status) => {
                printer.finish()?;
                return Err(status.into());
            }
        }
    }
}

/// Prints debug events: a server of ours has none.
pub async fn debug_events(args: &EventArgs) -> Result<(), Error> {
    format(args)?;
    let request = args.debug_events(api::time::now_ns()).map_err(Error::Usage)?;
    let mut client = ObserverClient::new(server::connect(&args.server).await?);
    let mut answers = client.get_debug_events(request).await?.into_inner();
    let mut out = io::stdout().lock();
    while let Some(answer) = answers.message().await? {
        writeln!(out, "{}", api::json::to_json(&answer)?)?;
    }
    Ok(())
}

fn format(args: &EventArgs) -> Result<Format, Error> {
    match args.output.unwrap_or(Format::Compact) {
        Format::Table if args.range.follow => {
            Err(Error::Usage("a table cannot follow: use another --output".to_owned()))
        }
        format => Ok(format),
    }
}

/// Prints events in one form.
struct Printer<'a, Out> {
    args: &'a EventArgs,
    format: Format,
    out: Out,
    table: Table,
    blocks: usize,
}

impl<'a, Out: Write> Printer<'a, Out> {
    fn new(args: &'a EventArgs, format: Format, out: Out) -> Self {
        let node = args.print_node_name.then_some("NODE");
        let header = ["TIMESTAMP"].into_iter().chain(node).chain(["TYPE", "DETAILS"]);
        Self { args, format, out, table: Table::new(header), blocks: 0 }
    }

    fn print(&mut self, answer: &GetAgentEventsResponse) -> io::Result<()> {
        let Some(event) = &answer.agent_event else {
            return Ok(());
        };
        let time = self.args.time_format.format(answer.time.as_ref());
        let node = self.args.print_node_name.then(|| escape(&answer.node_name).into_owned());
        let kind = event.r#type().as_str_name();
        let details = details(event, self.args.time_format);
        match self.format {
            Format::Json => {
                let json = api::json::to_json(answer).map_err(io::Error::other)?;
                writeln!(self.out, "{json}")?;
            }
            Format::Compact | Format::Brief => {
                let node = node.map(|node| format!(" [{node}]")).unwrap_or_default();
                writeln!(self.out, "{time}{node}: {kind} ({details})")?;
            }
            Format::Dict => {
                if self.blocks > 0 {
                    writeln!(self.out, "------------")?;
                }
                self.blocks += 1;
                writeln!(self.out, "  TIMESTAMP: {time}")?;
                if let Some(node) = node {
                    writeln!(self.out, "       NODE: {node}")?;
                }
                writeln!(self.out, "       TYPE: {kind}\n    DETAILS: {details}")?;
            }
            Format::Table => {
                let cells = [time].into_iter().chain(node);
                self.table.row(cells.chain([kind.to_owned(), details]));
            }
        }
        self.out.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        // Hubble prints the header with the first row.
        if self.format == Format::Table && !self.table.is_empty() {
            write!(self.out, "{}", self.table)?;
        }
        self.out.flush()
    }
}

/// What happened, in Hubble's words.
fn details(event: &AgentEvent, time: TimeFormat) -> String {
    let list = |items: &[String]| format!("[{}]", items.join(","));
    let mut parts: Vec<(&str, String)> = Vec::new();
    match event.notification.as_ref() {
        Some(Notification::AgentStart(start)) => {
            parts.push(("start time", time.format(start.time.as_ref())));
        }
        Some(Notification::PolicyUpdate(update)) => parts.extend([
            ("labels", list(&update.labels)),
            ("revision", update.revision.to_string()),
            ("count", update.rule_count.to_string()),
        ]),
        Some(Notification::EndpointRegenerate(update)) => parts.extend([
            ("id", update.id.to_string()),
            ("labels", list(&update.labels)),
            ("error", update.error.clone()),
        ]),
        Some(Notification::EndpointUpdate(update)) => parts.extend([
            ("id", update.id.to_string()),
            ("namespace", update.namespace.clone()),
            ("pod name", update.pod_name.clone()),
            ("error", update.error.clone()),
        ]),
        Some(Notification::IpcacheUpdate(update)) => parts.extend([
            ("cidr", update.cidr.clone()),
            ("identity", update.identity.to_string()),
            ("old identity", update.old_identity.map_or_else(String::new, |id| id.to_string())),
            ("host ip", update.host_ip.clone()),
            ("old host ip", update.old_host_ip.clone()),
            ("encrypt key", update.encrypt_key.to_string()),
        ]),
        Some(Notification::Unknown(unknown)) => parts.extend([
            ("type", unknown.r#type.clone()),
            ("notification", unknown.notification.clone()),
        ]),
        // Of services Hubble tells no more either.
        Some(Notification::ServiceUpsert(_) | Notification::ServiceDelete(_)) | None => {}
    }
    let set = parts.into_iter().filter(|(_, value)| !value.is_empty());
    let texts: Vec<String> = set.map(|(key, value)| format!("{key}: {}", escape(&value))).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use api::proto::flow::{
        AgentEventType, EndpointRegenNotification, IpCacheNotification, PolicyUpdateNotification,
        TimeNotification,
    };
    use prost_types::Timestamp;

    use super::*;

    fn answer(kind: AgentEventType, notification: Notification) -> GetAgentEventsResponse {
        GetAgentEventsResponse {
            node_name: "c1/node-a".into(),
            time: Some(Timestamp { seconds: 1_767_323_045, nanos: 0 }),
            agent_event: Some(AgentEvent { r#type: kind.into(), notification: Some(notification) }),
        }
    }

    #[track_caller]
    fn check(format: Format, nodes: bool, answers: &[GetAgentEventsResponse], want: &str) {
        let args = EventArgs { print_node_name: nodes, ..args() };
        let mut out = Vec::new();
        let mut printer = Printer::new(&args, format, &mut out);
        answers.iter().for_each(|answer| printer.print(answer).unwrap());
        printer.finish().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    fn args() -> EventArgs {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: EventArgs,
        }
        <Line as clap::Parser>::parse_from(["x"]).args
    }

    fn update() -> GetAgentEventsResponse {
        let update =
            PolicyUpdateNotification { labels: vec!["k8s:a=b".into()], revision: 3, rule_count: 1 };
        answer(AgentEventType::PolicyUpdated, Notification::PolicyUpdate(update))
    }

    #[test]
    fn a_line_is_hubbles() {
        let want =
            "Jan  2 03:04:05.000: POLICY_UPDATED (labels: [k8s:a=b], revision: 3, count: 1)\n";
        check(Format::Compact, false, &[update()], want);
    }

    #[test]
    fn several_labels_stand_together() {
        let update = EndpointRegenNotification {
            id: 7,
            labels: vec!["k8s:a=b".into(), "k8s:c=d".into()],
            error: String::new(),
        };
        let success = answer(
            AgentEventType::EndpointRegenerateSuccess,
            Notification::EndpointRegenerate(update),
        );
        let want =
            "Jan  2 03:04:05.000: ENDPOINT_REGENERATE_SUCCESS (id: 7, labels: [k8s:a=b,k8s:c=d])\n";
        check(Format::Compact, false, &[success], want);
    }

    #[test]
    fn an_address_has_its_key_and_not_its_pod() {
        let update = IpCacheNotification {
            cidr: "10.0.0.5/32".into(),
            identity: 30001,
            old_identity: Some(2),
            host_ip: "192.168.0.1".into(),
            old_host_ip: "192.168.0.2".into(),
            encrypt_key: 3,
            namespace: "a".into(),
            pod_name: "b".into(),
        };
        let cut = IpCacheNotification {
            cidr: "10.0.0.5/32".into(),
            identity: 30001,
            ..IpCacheNotification::default()
        };
        let of = |kind, update| answer(kind, Notification::IpcacheUpdate(update));
        let want = "\
Jan  2 03:04:05.000: IPCACHE_UPSERTED (cidr: 10.0.0.5/32, identity: 30001, old identity: 2, host ip: 192.168.0.1, old host ip: 192.168.0.2, encrypt key: 3)
Jan  2 03:04:05.000: IPCACHE_DELETED (cidr: 10.0.0.5/32, identity: 30001, encrypt key: 0)
";
        let answers =
            [of(AgentEventType::IpcacheUpserted, update), of(AgentEventType::IpcacheDeleted, cut)];
        check(Format::Compact, false, &answers, want);
    }

    #[test]
    fn a_start_is_told_in_the_format_of_all_times() {
        let time = Some(Timestamp { seconds: 1_767_323_044, nanos: 0 });
        let start = Notification::AgentStart(TimeNotification { time });
        let start = answer(AgentEventType::AgentStarted, start);
        let want = "Jan  2 03:04:05.000: AGENT_STARTED (start time: Jan  2 03:04:04.000)\n";
        check(Format::Compact, false, std::slice::from_ref(&start), want);
        let args = EventArgs { time_format: TimeFormat::Rfc3339, ..args() };
        let mut out = Vec::new();
        let mut printer = Printer::new(&args, Format::Compact, &mut out);
        printer.print(&start).unwrap();
        let want = "2026-01-02T03:04:05Z: AGENT_STARTED (start time: 2026-01-02T03:04:04Z)\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn other_forms_name_the_node_when_asked() {
        check(
            Format::Dict,
            true,
            &[update(), update()],
            "  TIMESTAMP: Jan  2 03:04:05.000
       NODE: c1/node-a
       TYPE: POLICY_UPDATED
    DETAILS: labels: [k8s:a=b], revision: 3, count: 1
------------
  TIMESTAMP: Jan  2 03:04:05.000
       NODE: c1/node-a
       TYPE: POLICY_UPDATED
    DETAILS: labels: [k8s:a=b], revision: 3, count: 1
",
        );
        check(
            Format::Table,
            true,
            &[update()],
            "\
TIMESTAMP             NODE        TYPE             DETAILS
Jan  2 03:04:05.000   c1/node-a   POLICY_UPDATED   labels: [k8s:a=b], revision: 3, count: 1
",
        );
    }

    #[test]
    fn what_pods_are_called_cannot_move_the_cursor() {
        let update = EndpointRegenNotification { id: 7, labels: vec![], error: "\u{1b}[2J".into() };
        let failure = answer(
            AgentEventType::EndpointRegenerateFailure,
            Notification::EndpointRegenerate(update),
        );
        let want =
            "Jan  2 03:04:05.000: ENDPOINT_REGENERATE_FAILURE (id: 7, labels: [], error: ^[[2J)\n";
        check(Format::Compact, false, &[failure], want);
    }
}
