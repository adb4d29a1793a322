//! Services as the service lists them: what clients ask for, and who answers.

use api::proto::signet::v1::Service;

use crate::planner::ServiceView;
use crate::state::ControlView;

/// Every port of every service with an address of its own.
pub(super) fn list(node: &str, control: &ControlView) -> Vec<Service> {
    let planned = control.newest.iter().flat_map(|plan| &plan.services);
    planned.map(|view| row(node, control, view)).collect()
}

fn row(node: &str, control: &ControlView, view: &ServiceView) -> Service {
    let reason = match &control.pending {
        Some(pending) if !in_force(control, view) => format!("not in force yet: {pending}"),
        _ => view.reason.clone(),
    };
    Service {
        node: node.to_owned(),
        namespace: view.name.namespace.clone(),
        name: view.name.name.clone(),
        address: view.frontend.address.to_string(),
        port: view.frontend.port.into(),
        protocol: protocol(view.frontend.protocol),
        port_name: view.port_name.clone(),
        backends: view.backends.iter().map(ToString::to_string).collect(),
        affinity_seconds: view.affinity_seconds,
        ready: reason.is_empty(),
        reason,
    }
}

/// Whether the kernel has it as the newest plan has it.
fn in_force(control: &ControlView, view: &ServiceView) -> bool {
    let enforced = control.enforced.plan();
    enforced.is_some_and(|plan| plan.services.contains(view))
}

fn protocol(number: u8) -> String {
    match number {
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        132 => "SCTP".to_owned(),
        other => other.to_string(),
    }
}
