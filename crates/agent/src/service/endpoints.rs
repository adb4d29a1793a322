//! Endpoints as the service lists them: what is planned, and whether it holds.

use api::proto::signet::v1::{Endpoint, Enforcement};
use model::{Direction, Reserved};

use super::{hexadecimal, saturated};
use crate::planner::{EndpointView, HOST_ENDPOINT, HOST_TABLE, HostView, Plan};
use crate::state::ControlView;

/// The node itself if it is judged, and every interface that a record names,
/// sorted by pod.
pub(super) fn list(node: &str, control: &ControlView) -> Vec<Endpoint> {
    let plan = || control.newest.iter();
    let host = plan().filter_map(|plan| Some(host(node, control, plan, plan.host.as_ref()?)));
    let planned = plan().flat_map(|plan| &plan.endpoints);
    host.chain(planned.map(|endpoint| row(node, control, endpoint))).collect()
}

/// The node itself, which is behind no interface of its own and no pod.
fn host(node: &str, control: &ControlView, plan: &Plan, planned: &HostView) -> Endpoint {
    let enforced = control.enforced.plan().and_then(|plan| plan.host.as_ref());
    let shown = enforced.unwrap_or(planned);
    let since = control.enforced.table(HOST_TABLE).filter(|_| enforced.is_some());
    Endpoint {
        node: node.to_owned(),
        id: HOST_ENDPOINT,
        addresses: plan.desired.host.addresses.iter().map(ToString::to_string).collect(),
        identity: Reserved::Host.id().into(),
        labels: shown.labels.to_strings(),
        ingress: enforcement(shown.default_deny(Direction::Ingress)).into(),
        egress: enforcement(shown.default_deny(Direction::Egress)).into(),
        ready: enforced.is_some(),
        reason: control.pending.clone().unwrap_or_default(),
        table: HOST_TABLE,
        table_entries: saturated(shown.table.len()),
        table_digest: hexadecimal(&shown.table.digest()),
        revision: since.map_or(0, |since| since.revision),
        ..Endpoint::default()
    }
}

fn row(node: &str, control: &ControlView, planned: &EndpointView) -> Endpoint {
    let enforced = control.enforced.plan().and_then(|plan| plan.endpoint(planned.id));
    let ready = control.enforced.has_endpoint(planned.id);
    // While the newest plan cannot be installed, what is in force is shown.
    let shown = enforced.filter(|_| ready).unwrap_or(planned);
    let reason = match (&planned.left_out, &control.pending) {
        (Some(left_out), _) => left_out.to_string(),
        (None, Some(pending)) => pending.clone(),
        (None, None) => String::new(),
    };
    let record = &planned.record;
    let table = shown.table.as_ref();
    Endpoint {
        node: node.to_owned(),
        id: planned.id,
        ifindex: record.ifindex,
        interface: record.host_interface.clone(),
        namespace: record.pod.namespace.clone(),
        pod: record.pod.name.clone(),
        addresses: record.addresses.iter().map(ToString::to_string).collect(),
        mac: mac(record.mac),
        identity: shown.identity.as_ref().map_or(0, |(identity, _)| u32::from(*identity)),
        labels: shown.identity.as_ref().map(|(_, labels)| labels.to_strings()).unwrap_or_default(),
        ingress: enforcement(shown.default_deny(Direction::Ingress)).into(),
        egress: enforcement(shown.default_deny(Direction::Egress)).into(),
        ready,
        reason,
        table: table.map_or(0, |(number, _)| *number),
        table_entries: table.map_or(0, |(_, table)| saturated(table.len())),
        table_digest: table.map(|(_, table)| hexadecimal(&table.digest())).unwrap_or_default(),
        revision: table
            .and_then(|(number, _)| control.enforced.table(*number))
            .filter(|_| ready)
            .map_or(0, |since| since.revision),
        container_id: record.container_id.clone(),
    }
}

fn enforcement(default_deny: Option<bool>) -> Enforcement {
    match default_deny {
        None => Enforcement::Unknown,
        Some(false) => Enforcement::None,
        Some(true) => Enforcement::DefaultDeny,
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
