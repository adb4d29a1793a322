//! `signet service`: the services that pods are led to, and who serves them.

use api::proto::signet::v1::{ListServicesRequest, ListServicesResponse, Service};

use crate::error::Error;
use crate::rows::{RowsArgs, cell, cells};
use crate::table::Table;

/// What to do with services.
#[derive(Debug, clap::Subcommand)]
pub enum ServiceCommand {
    /// List the services that pods are led to, with those who serve them
    #[command(after_help = "Example:\n  signet service list -o json")]
    List(RowsArgs),
}

/// Runs the command.
pub async fn run(command: ServiceCommand) -> Result<(), Error> {
    let ServiceCommand::List(args) = command;
    let answer = args.client().await?.list_services(ListServicesRequest {}).await?.into_inner();
    args.show(&answer, &answer.unavailable, table)
}

fn table(answer: &ListServicesResponse) -> String {
    let mut table =
        Table::new(["NODE", "SERVICE", "ADDRESS", "PORT", "BACKENDS", "AFFINITY", "STATE"]);
    for service in &answer.services {
        table.row([
            cell(&service.node),
            cell(&format!("{}/{}", service.namespace, service.name)),
            cell(&service.address),
            port(service),
            cells(&service.backends),
            affinity(service),
            state(service),
        ]);
    }
    table.to_string()
}

fn port(service: &Service) -> String {
    let protocol = cell(&service.protocol);
    match service.port_name.as_str() {
        "" => format!("{}/{protocol}", service.port),
        name => format!("{}/{protocol} ({})", service.port, cell(name)),
    }
}

fn affinity(service: &Service) -> String {
    match service.affinity_seconds {
        0 => "-".to_owned(),
        seconds => format!("{seconds}s"),
    }
}

fn state(service: &Service) -> String {
    if service.ready { "ready".to_owned() } else { cell(&service.reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_shows_who_serves_it_or_why_nobody_does() {
        let served = Service {
            node: "node-a".into(),
            namespace: "payment".into(),
            name: "pay-svc".into(),
            address: "10.96.0.7".into(),
            port: 80,
            protocol: "TCP".into(),
            port_name: "http".into(),
            backends: vec!["10.1.0.5:8080".into(), "10.2.0.5:8080".into()],
            affinity_seconds: 60,
            ready: true,
            reason: String::new(),
        };
        let empty = Service {
            name: "none".into(),
            port_name: String::new(),
            backends: vec![],
            affinity_seconds: 0,
            ready: false,
            reason: "no backend is ready: connections are refused".into(),
            ..served.clone()
        };
        let answer = ListServicesResponse { services: vec![served, empty], unavailable: vec![] };
        assert_eq!(
            table(&answer),
            "\
NODE     SERVICE           ADDRESS     PORT            BACKENDS                      AFFINITY   STATE
node-a   payment/pay-svc   10.96.0.7   80/TCP (http)   10.1.0.5:8080,10.2.0.5:8080   60s        ready
node-a   payment/none      10.96.0.7   80/TCP          -                             -          no backend is ready: connections are refused
"
        );
    }
}
