//! `signet endpoint`: the interfaces that are judged.

use api::proto::signet::v1::{Endpoint, Enforcement, ListEndpointsRequest, ListEndpointsResponse};

use crate::error::Error;
use crate::rows::{RowsArgs, cell, cells, short};
use crate::table::Table;

/// What to do with endpoints.
#[derive(Debug, clap::Subcommand)]
pub enum EndpointCommand {
    /// List the interfaces that are judged, with their identity and policy
    #[command(after_help = "Example:\n  signet endpoint list -o json")]
    List(RowsArgs),
}

/// Runs the command.
pub async fn run(command: EndpointCommand) -> Result<(), Error> {
    let EndpointCommand::List(args) = command;
    let answer = args.client().await?.list_endpoints(ListEndpointsRequest {}).await?.into_inner();
    args.show(&answer, &answer.unavailable, table)
}

fn table(answer: &ListEndpointsResponse) -> String {
    let mut table = Table::new([
        "NODE",
        "ID",
        "POD",
        "ADDRESSES",
        "IDENTITY",
        "INGRESS",
        "EGRESS",
        "STATE",
        "REVISION",
        "ENTRIES",
        "DIGEST",
    ]);
    for endpoint in &answer.endpoints {
        table.row([
            cell(&endpoint.node),
            endpoint.id.to_string(),
            cell(&pod(endpoint)),
            cells(&endpoint.addresses),
            endpoint.identity.to_string(),
            enforcement(endpoint.ingress()).to_owned(),
            enforcement(endpoint.egress()).to_owned(),
            state(endpoint),
            endpoint.revision.to_string(),
            endpoint.table_entries.to_string(),
            short(&endpoint.table_digest),
        ]);
    }
    table.to_string()
}

fn pod(endpoint: &Endpoint) -> String {
    // The node itself.
    if endpoint.pod.is_empty() && endpoint.labels.iter().any(|label| label == "reserved:host") {
        return "host".to_owned();
    }
    format!("{}/{}", endpoint.namespace, endpoint.pod)
}

fn enforcement(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Unknown => "?",
        Enforcement::None => "open",
        Enforcement::DefaultDeny => "default deny",
    }
}

fn state(endpoint: &Endpoint) -> String {
    match (endpoint.ready, endpoint.reason.as_str()) {
        (true, _) => "ready".to_owned(),
        (false, "") => "drops all".to_owned(),
        (false, reason) => format!("drops all: {}", cell(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_not_ready_says_what_it_does_and_why() {
        let ready = Endpoint {
            node: "node-a".into(),
            id: 11,
            namespace: "payment".into(),
            pod: "pay-svc".into(),
            addresses: vec!["10.1.0.5".into(), "fd00::5".into()],
            identity: 305_419_896,
            ingress: Enforcement::None.into(),
            egress: Enforcement::DefaultDeny.into(),
            ready: true,
            revision: 3,
            table_entries: 5,
            table_digest: "0123456789abcdef".into(),
            ..Endpoint::default()
        };
        let waiting = Endpoint {
            node: "node-a".into(),
            id: 12,
            namespace: "payment".into(),
            pod: "new".into(),
            reason: "its pod is not known yet".into(),
            ..Endpoint::default()
        };
        let answer = ListEndpointsResponse { endpoints: vec![ready, waiting], unavailable: vec![] };
        assert_eq!(
            table(&answer),
            "\
NODE     ID   POD               ADDRESSES          IDENTITY    INGRESS   EGRESS         STATE                                 REVISION   ENTRIES   DIGEST
node-a   11   payment/pay-svc   10.1.0.5,fd00::5   305419896   open      default deny   ready                                 3          5         0123456789ab
node-a   12   payment/new       -                  0           ?         ?              drops all: its pod is not known yet   0          0         -
"
        );
    }
}
