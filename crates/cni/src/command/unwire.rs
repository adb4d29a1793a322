//! Takes down whatever there is of an attachment, however far an ADD got.

use std::collections::BTreeSet;

use model::EndpointRecord;

use super::{Node, refused};
use crate::attachment::Attachment;
use crate::failure::Failure;
use crate::ipam::Ipam;
use crate::record::{self, RecordError};
use crate::wiring::Netlink;

/// Removes link, programs, record and addresses of an attachment, in this order:
/// no link without its guard, no guard forgotten because the record that names it
/// went first, no address free while anything still uses it.
///
/// Nothing to remove is no error; a step that fails leaves the later ones to a
/// second try.
pub(super) fn unwire(node: &Node<'_>, attachment: &Attachment) -> Result<(), Failure> {
    if foreign(node, attachment)?.is_none() {
        unwire_link(node, attachment)?;
    }
    Ipam::lock(&node.config.state_dir)?.release(attachment)?;
    Ok(())
}

/// Removes link, programs and record, and leaves the addresses to their owner.
pub(super) fn unwire_link(node: &Node<'_>, attachment: &Attachment) -> Result<(), Failure> {
    let endpoints = node.config.endpoints();
    let name = attachment.host_interface();
    let mut indices: BTreeSet<u32> = BTreeSet::new();
    indices.extend(find(node, attachment)?.map(|record| record.ifindex));
    let netlink = Netlink::open()?;
    if let Some(link) = netlink.link(&name)? {
        indices.insert(link.index);
        netlink.delete(&link)?;
    }
    // Without the folder there is no pin to remove.
    for ifindex in indices.into_iter().filter(|_| node.config.pins.exists()) {
        node.programs
            .detach(&node.config.pins, ifindex)
            .map_err(|error| refused("detach the programs of", &name, &error))?;
    }
    record::remove(&endpoints, &name)?;
    Ok(())
}

/// The record of the attachment's host interface. One that cannot be read says
/// nothing, and must not keep a pod from being removed.
fn find(node: &Node<'_>, attachment: &Attachment) -> Result<Option<EndpointRecord>, RecordError> {
    match record::find(&node.config.endpoints(), &attachment.host_interface()) {
        Err(RecordError::Junk { .. }) => Ok(None),
        other => other,
    }
}

/// The record of another attachment that has the same host interface: ten digits
/// of a digest can collide, and then the first one keeps it.
pub(super) fn foreign(
    node: &Node<'_>,
    attachment: &Attachment,
) -> Result<Option<EndpointRecord>, RecordError> {
    let record = find(node, attachment)?;
    Ok(record.filter(|record| {
        (record.container_id.as_str(), record.pod_interface.as_str())
            != (attachment.container_id(), attachment.interface())
    }))
}
