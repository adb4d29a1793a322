//! The plugin behind another one: the interface is made already, and gets its guard.
//!
//! What the plugin before tells is compared with the kernel: the guard goes on the link
//! whose other end the pod really has. Taking the guard away sets the link down first,
//! so that there is no moment in which it is up without one.

use std::net::IpAddr;
use std::path::Path;

use model::EndpointRecord;
use serde_json::Value;

use super::add::Addition;
use super::{Done, Node, needs_1_1, refused};
use crate::attachment::Attachment;
use crate::failure::{Code, Failure};
use crate::record;
use crate::result::Previous;
use crate::wiring::{self, Link, Namespace, Netlink};

/// Both ends of the link that was made, and the pod's addresses.
struct Found {
    host: Link,
    pod: Link,
    addresses: Vec<IpAddr>,
}

/// Guards the link, and answers what the plugin before answered.
pub(super) fn add(addition: &Addition<'_>) -> Result<Done, Failure> {
    let node = addition.node;
    let (previous, given) = told(node)?;
    let namespace = addition.validate_places()?;
    let netlink = Netlink::open()?;
    let found = find(&netlink, &namespace, previous, addition.attachment, addition.netns)?;
    let record = EndpointRecord {
        container_id: addition.attachment.container_id().to_owned(),
        pod: addition.pod.clone(),
        pod_interface: addition.attachment.interface().to_owned(),
        host_interface: found.host.name.clone(),
        ifindex: found.host.index,
        mac: found.pod.mac,
        addresses: found.addresses,
        netns_id: netlink.namespace_id(&namespace)?,
    };
    let guarded = node
        .programs
        .attach(&node.config.pins, &found.host.name, found.host.index)
        .map_err(|error| refused("attach the programs to", &found.host.name, &error))
        .and_then(|()| Ok(record::write(&node.config.endpoints(), &record)?))
        .and_then(|()| addition.wait_for_agent(&found.host));
    match guarded {
        Ok(notes) => Ok(Done { answer: Some(given.clone()), notes }),
        Err(failure) => Err(match release(node, &netlink, &record) {
            Ok(()) => failure,
            Err(second) => failure.with_detail(&format!("undoing failed too: {}", second.message)),
        }),
    }
}

/// Takes the guard of an attachment away; the link goes with who made it.
pub(super) fn del(node: &Node<'_>, attachment: &Attachment) -> Result<Done, Failure> {
    let netlink = Netlink::open()?;
    let records = record::list(&node.config.endpoints())?.records;
    for record in records.iter().filter(|record| is_of(record, attachment)) {
        release(node, &netlink, record)?;
    }
    Ok(Done::default())
}

/// Takes away the guards of attachments that the runtime has forgotten.
pub(super) fn gc(node: &Node<'_>) -> Result<Done, Failure> {
    needs_1_1(node.config, "GC")?;
    let Some(valid) = &node.config.valid_attachments else {
        return Err(Failure::new(
            Code::InvalidConfig,
            "GC needs `cni.dev/valid-attachments`: what is still in use",
        ));
    };
    let netlink = Netlink::open()?;
    let records = record::list(&node.config.endpoints())?.records;
    for record in records.iter().filter(|record| !valid.iter().any(|it| is_of(record, it))) {
        release(node, &netlink, record)?;
    }
    Ok(Done::default())
}

/// Whether the guard is on the link, and the record is about it.
pub(super) fn check(
    node: &Node<'_>,
    attachment: &Attachment,
    netns: &Path,
) -> Result<Done, Failure> {
    let (previous, _) = told(node)?;
    let namespace = Namespace::open(netns)?;
    let netlink = Netlink::open()?;
    let found = find(&netlink, &namespace, previous, attachment, netns)?;
    let name = &found.host.name;
    let mut differences = Vec::new();
    let attached = node.programs.is_attached(&node.config.pins, found.host.index);
    if !attached.map_err(|error| refused("look for the programs of", name, &error))? {
        differences.push(format!("no programs are attached to `{name}`"));
    }
    let number = netlink.namespace_id(&namespace)?;
    match record::find(&node.config.endpoints(), name)? {
        None => differences.push(format!("there is no endpoint record of `{name}`")),
        Some(record) => {
            let same = is_of(&record, attachment)
                && record.ifindex == found.host.index
                && record.mac == found.pod.mac
                && record.addresses == found.addresses
                && record.netns_id == number;
            if !same {
                let path = record::path(&node.config.endpoints(), name);
                differences.push(format!("`{}` is about another link", path.display()));
            }
        }
    }
    if differences.is_empty() {
        return Ok(Done::default());
    }
    let message = format!("not as ADD left it: {}", differences.join("; "));
    Err(Failure::new(Code::Differs, message))
}

fn told<'a>(node: &Node<'a>) -> Result<(&'a Previous, &'a Value), Failure> {
    node.config.previous.as_ref().zip(node.config.given.as_ref()).ok_or_else(|| {
        let message = "chained, this plugin needs prevResult: put it after the plugin that makes \
                       the interface";
        Failure::new(Code::InvalidConfig, message)
    })
}

fn is_of(record: &EndpointRecord, attachment: &Attachment) -> bool {
    record.container_id == attachment.container_id()
        && record.pod_interface == attachment.interface()
}

/// The link as the kernel has it, where that is what was told.
fn find(
    netlink: &Netlink,
    namespace: &Namespace,
    previous: &Previous,
    attachment: &Attachment,
    netns: &Path,
) -> Result<Found, Failure> {
    let wrong = |message: String| Failure::new(Code::InvalidConfig, message);
    let (name, sandbox) = (attachment.interface(), netns.display().to_string());
    let interfaces = &previous.interfaces;
    let index = interfaces.iter().position(|it| it.name == name && it.sandbox == sandbox);
    let index = index
        .ok_or_else(|| wrong(format!("prevResult does not tell of `{name}` in `{sandbox}`")))?;
    let of_pod = previous.ips.iter().filter(|ip| ip.interface.is_none_or(|it| it == index));
    let addresses: Vec<IpAddr> = of_pod.map(|ip| ip.address.addr()).collect();
    let families = |v4: bool| addresses.iter().filter(|at| at.is_ipv4() == v4).count();
    if addresses.is_empty() || families(true) > 1 || families(false) > 1 {
        let count = addresses.len();
        return Err(wrong(format!(
            "prevResult gives `{name}` {count} addresses; one, or one of each family, can be judged"
        )));
    }
    let pod = wiring::pod_link(namespace, name)?
        .ok_or_else(|| Failure::new(Code::Wiring, format!("the pod has no interface `{name}`")))?;
    for interface in interfaces.iter().filter(|it| it.sandbox.is_empty()) {
        let Some(host) = netlink.link(&interface.name)? else { continue };
        if pod.peer == Some(host.index) && host.peer == Some(pod.index) {
            return Ok(Found { host, pod, addresses });
        }
    }
    let message = "is no end of a pair whose other end is on this node and in prevResult: behind \
                   plugins that make such pairs (ptp, bridge) it can be judged";
    Err(Failure::new(Code::Wiring, format!("`{name}` {message}")))
}

/// Down, then without programs, then without record.
fn release(node: &Node<'_>, netlink: &Netlink, record: &EndpointRecord) -> Result<(), Failure> {
    let name = &record.host_interface;
    if let Some(link) = netlink.link(name)?.filter(|link| link.index == record.ifindex) {
        netlink.set_down(&link)?;
    }
    if node.config.pins.exists() {
        node.programs
            .detach(&node.config.pins, record.ifindex)
            .map_err(|error| refused("detach the programs of", name, &error))?;
    }
    Ok(record::remove(&node.config.endpoints(), name)?)
}
