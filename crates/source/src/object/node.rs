//! `v1 Node`: addresses and pod ranges.

use ipnet::IpNet;
use manifest::Document;
use model::Node;
use serde::Deserialize;

use super::{Fault, Metadata, Object};
use super::{checked_address, checked_cidr, checked_labels, checked_name, parse};

#[derive(Deserialize)]
struct NodeObject {
    metadata: Metadata,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
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
    let name = checked_name(&metadata)?;
    Ok(Object::Node(Node { name, labels: checked_labels(metadata.labels)?, addresses, pod_cidrs }))
}
