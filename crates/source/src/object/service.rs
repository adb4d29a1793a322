//! `v1 Service`: what clients ask for.

use std::net::IpAddr;

use manifest::Document;
use policy::{ServicePort, TargetPort};
use serde::Deserialize;

use super::{Fault, Metadata};
use super::{checked_address, checked_labels, checked_name, checked_namespace};
use super::{fault, parse, protocol_number, shown};
use crate::service::{Service, ServiceName};

/// What the API server writes for services without an address of their own.
const HEADLESS: &str = "None";

/// A day: the API's own bound.
const AFFINITY_MAX: u32 = 86_400;
/// Three hours: the API's own default.
const AFFINITY_DEFAULT: u32 = 10_800;

#[derive(Deserialize)]
struct ServiceObject {
    metadata: Metadata,
    spec: Option<Spec>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    selector: Option<std::collections::BTreeMap<String, String>>,
    ports: Option<Vec<Port>>,
    session_affinity: Option<String>,
    session_affinity_config: Option<AffinityConfig>,
    publish_not_ready_addresses: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    port: u16,
    target_port: Option<Target>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Target {
    Number(u16),
    Name(String),
}

pub(super) fn read(document: &Document) -> Result<Service, Fault> {
    let ServiceObject { metadata, spec } = parse(document)?;
    let name =
        ServiceName { namespace: checked_namespace(&metadata)?, name: checked_name(&metadata)? };
    let spec = spec.unwrap_or_default();
    let affinity_seconds = affinity(&spec)?;
    let external = spec.kind.as_deref() == Some("ExternalName");
    let (addresses, headless) = if external { (vec![], false) } else { own_addresses(&spec)? };
    let mut ports = Vec::new();
    for (index, port) in spec.ports.unwrap_or_default().into_iter().enumerate() {
        ports.push(service_port(port, &format!("spec.ports[{index}]"))?);
    }
    Ok(Service {
        name,
        addresses,
        headless,
        selector: checked_labels(spec.selector)?,
        ports,
        affinity_seconds,
        unready: spec.publish_not_ready_addresses.unwrap_or_default(),
    })
}

fn own_addresses(spec: &Spec) -> Result<(Vec<IpAddr>, bool), Fault> {
    let first = spec.cluster_ip.as_deref().filter(|text| !text.is_empty());
    let listed = spec.cluster_ips.iter().flatten().map(String::as_str);
    let mut addresses = Vec::new();
    for text in first.into_iter().chain(listed) {
        if text == HEADLESS {
            return Ok((vec![], true));
        }
        let address = checked_address(text, || "spec.clusterIPs".to_owned())?;
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            return Err(fault("spec.clusterIPs", format!("`{address}` is no service's address")));
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok((addresses, false))
}

fn affinity(spec: &Spec) -> Result<u32, Fault> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return Ok(0),
        Some("ClientIP") => {}
        Some(other) => {
            let reason = format!("`{}` is neither `None` nor `ClientIP`", shown(other));
            return Err(fault("spec.sessionAffinity", reason));
        }
    }
    let config = spec.session_affinity_config.as_ref();
    let client = config.and_then(|config| config.client_ip.as_ref());
    let seconds = client.and_then(|client| client.timeout_seconds).unwrap_or(AFFINITY_DEFAULT);
    if (1..=AFFINITY_MAX).contains(&seconds) {
        return Ok(seconds);
    }
    let reason = format!("{seconds} is not between 1 and {AFFINITY_MAX}");
    Err(fault("spec.sessionAffinityConfig.clientIP.timeoutSeconds", reason))
}

fn service_port(port: Port, field: &str) -> Result<ServicePort, Fault> {
    let Port { name, protocol, port, target_port } = port;
    if port == 0 {
        return Err(fault(format!("{field}.port"), "0 is no port"));
    }
    let target = match target_port {
        None | Some(Target::Number(0)) => TargetPort::Number(port),
        Some(Target::Number(number)) => TargetPort::Number(number),
        Some(Target::Name(name)) => match name.parse::<u16>() {
            Ok(number) => TargetPort::Number(number),
            Err(_) if name.is_empty() => TargetPort::Number(port),
            Err(_) => TargetPort::Name(name.to_ascii_lowercase()),
        },
    };
    let protocol = protocol_number(protocol.as_deref(), &format!("{field}.protocol"))?;
    Ok(ServicePort { name: name.unwrap_or_default(), protocol, port, target })
}
