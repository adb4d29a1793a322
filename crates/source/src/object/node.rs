//! `v1 Node`: addresses, pod ranges, and who else stands at addresses of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use manifest::Document;
use model::{Node, Reserved};
use serde::Deserialize;

use super::{Fault, Metadata, Object, fault};
use super::{checked_address, checked_cidr, checked_labels, checked_name, parse};

#[derive(Deserialize)]
struct NodeObject {
    metadata: NodeMetadata,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
}

#[derive(Deserialize)]
struct NodeMetadata {
    #[serde(flatten)]
    any: Metadata,
    annotations: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct NodeStatus {
    addresses: Option<Vec<NodeAddress>>,
}

#[derive(Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: Option<String>,
    address: String,
}

pub(super) fn read(document: &Document) -> Result<Object, Fault> {
    let NodeObject { metadata, spec, status } = parse(document)?;
    let mut addresses = Vec::new();
    for (index, entry) in
        status.and_then(|status| status.addresses).unwrap_or_default().iter().enumerate()
    {
        let named = !matches!(entry.kind.as_deref(), Some("InternalIP" | "ExternalIP") | None);
        match checked_address(&entry.address, || format!("status.addresses[{index}].address")) {
            Ok(address) => addresses.push(address),
            // Host names and DNS names stand in the same list.
            Err(_) if named => {}
            Err(error) => return Err(error),
        }
    }
    let mut pod_cidrs: Vec<IpNet> = Vec::new();
    if let Some(spec) = spec {
        let listed = spec.pod_cidrs.unwrap_or_default();
        for (index, text) in listed.iter().enumerate() {
            pod_cidrs.push(checked_cidr(text, || format!("spec.podCIDRs[{index}]"))?);
        }
        if let Some(text) = spec.pod_cidr.filter(|text| !text.is_empty()) {
            pod_cidrs.push(checked_cidr(&text, || "spec.podCIDR".to_owned())?);
        }
    }
    pod_cidrs.sort_unstable();
    pod_cidrs.dedup();
    let NodeMetadata { any: metadata, annotations } = metadata;
    let reserved = reserved(&annotations.unwrap_or_default())?;
    let (name, labels) = (checked_name(&metadata)?, checked_labels(metadata.labels)?);
    Ok(Object::Node(Node { name, labels, addresses, pod_cidrs, reserved }))
}

/// Addresses of the node's health endpoint and ingress proxy. An annotation of theirs
/// that says something else is refused: half of them would let the wrong peer in.
fn reserved(
    annotations: &BTreeMap<String, serde_json::Value>,
) -> Result<BTreeMap<IpAddr, Reserved>, Fault> {
    // What is no text is no address either; `{}` is refused as such.
    let text = |key: &str| Some(annotations.get(key)?.as_str().unwrap_or("{}"));
    manifest::reserved_addresses(text)
        .map_err(|bad| fault(format!("metadata.annotations.{}", bad.key), bad.reason))
}
