//! `v1 Pod`: who it is, where it runs, what it may be called by.

use std::collections::BTreeMap;
use std::net::IpAddr;

use manifest::Document;
use model::{Pod, PodName};
use serde::Deserialize;

use super::{Fault, Metadata, Object};
use super::{checked_address, checked_labels, checked_name, checked_namespace, fault, parse};

#[derive(Deserialize)]
pub(super) struct Owner {
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Deserialize)]
struct PodObject {
    metadata: Metadata,
    spec: Option<PodSpec>,
    status: Option<PodStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
    host_network: Option<bool>,
    service_account_name: Option<String>,
    init_containers: Option<Vec<Container>>,
    containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    restart_policy: Option<String>,
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    name: Option<String>,
    container_port: u16,
    protocol: Option<String>,
}

#[derive(Deserialize)]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: String,
}

pub(super) fn read(document: &Document) -> Result<Object, Fault> {
    let PodObject { metadata, spec, status } = parse(document)?;
    let name = PodName { namespace: checked_namespace(&metadata)?, name: checked_name(&metadata)? };
    let labels = checked_labels(metadata.labels)?;
    let workload = workload(metadata.owner_references.unwrap_or_default(), &labels);
    let addresses = status.map_or(Ok(Vec::new()), pod_addresses)?;
    let spec = spec.unwrap_or(PodSpec {
        node_name: None,
        host_network: None,
        service_account_name: None,
        init_containers: None,
        containers: None,
    });
    Ok(Object::Pod(Pod {
        name,
        labels,
        service_account: spec.service_account_name.unwrap_or_default(),
        node: spec.node_name.unwrap_or_default(),
        addresses,
        host_network: spec.host_network.unwrap_or_default(),
        workload,
        ports: named_ports(
            spec.containers.unwrap_or_default(),
            spec.init_containers.unwrap_or_default(),
        )?,
    }))
}

/// A pod that ran to its end has given its addresses back: they may be another's.
fn pod_addresses(status: PodStatus) -> Result<Vec<IpAddr>, Fault> {
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Ok(Vec::new());
    }
    let mut addresses = Vec::new();
    for (index, PodIp { ip }) in status.pod_ips.unwrap_or_default().iter().enumerate() {
        addresses.push(checked_address(ip, || format!("status.podIPs[{index}].ip"))?);
    }
    if let Some(ip) = status.pod_ip.filter(|ip| !ip.is_empty()) {
        let address = checked_address(&ip, || "status.podIP".to_owned())?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Named ports of the containers that run as long as the pod does, init
/// containers that restart always included.
fn named_ports(
    containers: Vec<Container>,
    init: Vec<Container>,
) -> Result<BTreeMap<String, (u8, u16)>, Fault> {
    let sidecars = init.into_iter().filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let mut named = BTreeMap::new();
    for port in containers.into_iter().chain(sidecars).flat_map(|one| one.ports.unwrap_or_default())
    {
        let Some(name) = port.name.filter(|name| !name.is_empty()) else { continue };
        let protocol = match port.protocol.as_deref() {
            None | Some("" | "TCP") => 6,
            Some("UDP") => 17,
            Some("SCTP") => 132,
            Some(other) => {
                return Err(fault(
                    "spec.containers",
                    format!("port `{name}` has protocol `{other}`, not TCP, UDP or SCTP"),
                ));
            }
        };
        // Names are compared without regard to case; the first container has it.
        named.entry(name.to_ascii_lowercase()).or_insert((protocol, port.container_port));
    }
    Ok(named)
}

/// The owner that a human named: a Deployment's pods belong to a ReplicaSet whose
/// name is the Deployment's and the template's hash.
fn workload(owners: Vec<Owner>, labels: &BTreeMap<String, String>) -> Option<(String, String)> {
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true))?;
    let template = labels.get("pod-template-hash").filter(|_| owner.kind == "ReplicaSet");
    let deployment = template
        .and_then(|hash| owner.name.strip_suffix(hash.as_str()))
        .and_then(|name| name.strip_suffix('-'));
    match deployment {
        Some(name) => Some(("Deployment".to_owned(), name.to_owned())),
        None => Some((owner.kind, owner.name)),
    }
}
