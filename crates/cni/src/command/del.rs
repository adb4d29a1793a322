//! DEL and GC: take away one attachment, or all that the runtime has forgotten.

use super::unwire::unwire;
use super::{Done, Node, needs_1_1};
use crate::attachment::Attachment;
use crate::failure::{Code, Failure};
use crate::ipam::Ipam;

/// Removes the attachment, whatever is left of it.
pub(super) fn del(node: &Node<'_>, attachment: &Attachment) -> Result<Done, Failure> {
    unwire(node, attachment)?;
    Ok(Done::default())
}

/// Removes every attachment of this network that is not listed as in use. Goes
/// on after a failure, so that one bad pod keeps no other's addresses.
pub(super) fn gc(node: &Node<'_>) -> Result<Done, Failure> {
    needs_1_1(node.config, "GC")?;
    let Some(valid) = &node.config.valid_attachments else {
        // An absent list read as an empty one would remove every pod.
        return Err(Failure::new(
            Code::InvalidConfig,
            "GC needs `cni.dev/valid-attachments`: what is still in use",
        ));
    };
    let leases = Ipam::lock(&node.config.state_dir)?.ledger().leases().to_vec();
    let mut done = Done::default();
    let mut failures = Vec::new();
    for lease in leases.iter().filter(|lease| lease.network == node.config.name) {
        let Ok(attachment) = Attachment::new(&lease.container_id, &lease.interface) else {
            failures.push(format!("lease of `{}` names no attachment", lease.container_id));
            continue;
        };
        if valid.contains(&attachment) {
            continue;
        }
        let name = format!("`{}` of container `{}`", lease.interface, lease.container_id);
        match unwire(node, &attachment) {
            Ok(()) => done.notes.push(format!("removed {name}: the runtime has forgotten it")),
            Err(failure) => {
                failures.push(format!("{name}: {} ({})", failure.message, failure.details))
            }
        }
    }
    if failures.is_empty() {
        return Ok(done);
    }
    Err(Failure::new(Code::Wiring, format!("could not remove all: {}", failures.join("; "))))
}
