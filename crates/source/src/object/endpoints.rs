//! `v1 Endpoints` and `discovery.k8s.io/v1 EndpointSlice`: who serves a service.
//! Those of `default/kubernetes` say where the Kubernetes API is served, too.

use manifest::Document;
use serde::Deserialize;

use super::{AnyObject, DEFAULT_NAMESPACE, Fault, Object};
use super::{checked_address, name_of, parse, protocol_number};
use crate::service::{ServiceName, Serving};

/// The service that stands for the Kubernetes API.
const API_SERVICE: &str = "kubernetes";

/// The label by which a slice names its service.
const SLICE_SERVICE: &str = "kubernetes.io/service-name";

#[derive(Deserialize)]
struct Address {
    ip: String,
}

#[derive(Deserialize)]
struct EndpointsObject {
    subsets: Option<Vec<Subset>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subset {
    addresses: Option<Vec<Address>>,
    not_ready_addresses: Option<Vec<Address>>,
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    /// A slice may leave it open; such a port leads nowhere here.
    port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SliceObject {
    address_type: Option<String>,
    endpoints: Option<Vec<SliceEndpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
struct SliceEndpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<Conditions>,
}

#[derive(Deserialize)]
struct Conditions {
    ready: Option<bool>,
}

/// Who serves a service, from one object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Endpoints {
    pub service: ServiceName,
    pub serving: Vec<Serving>,
}

impl Endpoints {
    /// Ready or not, whoever serves the API is the API server.
    pub fn is_api_server(&self) -> bool {
        self.service.namespace == DEFAULT_NAMESPACE && self.service.name == API_SERVICE
    }
}

pub(super) fn endpoints(document: &Document) -> Option<Result<Object, Fault>> {
    let name = name_of(document)?;
    let service = ServiceName { namespace: name.namespace?, name: name.name };
    Some(subsets(document).map(|serving| Object::Endpoints(Endpoints { service, serving })))
}

fn subsets(document: &Document) -> Result<Vec<Serving>, Fault> {
    let EndpointsObject { subsets } = parse(document)?;
    let mut all = Vec::new();
    for (index, subset) in subsets.unwrap_or_default().into_iter().enumerate() {
        let Subset { addresses, not_ready_addresses, ports } = subset;
        let field = |name: &str| format!("subsets[{index}].{name}");
        let mut serving =
            Serving { ports: checked_ports(ports, &field("ports"))?, ..<_>::default() };
        for Address { ip } in addresses.unwrap_or_default() {
            serving.ready.push(checked_address(&ip, || field("addresses"))?);
        }
        for Address { ip } in not_ready_addresses.unwrap_or_default() {
            serving.unready.push(checked_address(&ip, || field("notReadyAddresses"))?);
        }
        all.push(serving);
    }
    Ok(all)
}

/// A slice that names no service is nobody's.
pub(super) fn slice(document: &Document) -> Option<Result<Object, Fault>> {
    let AnyObject { metadata } = parse(document).ok()?;
    let namespace = name_of(document)?.namespace?;
    let service = ServiceName { namespace, name: metadata.labels?.remove(SLICE_SERVICE)? };
    Some(one_slice(document).map(|serving| {
        let serving = serving.into_iter().collect();
        Object::Endpoints(Endpoints { service, serving })
    }))
}

fn one_slice(document: &Document) -> Result<Option<Serving>, Fault> {
    let SliceObject { address_type, endpoints, ports } = parse(document)?;
    if address_type.as_deref() == Some("FQDN") {
        return Ok(None);
    }
    let mut serving = Serving { ports: checked_ports(ports, "ports")?, ..Serving::default() };
    for (index, endpoint) in endpoints.unwrap_or_default().into_iter().enumerate() {
        let SliceEndpoint { addresses, conditions } = endpoint;
        // What is not said is ready (the API's own words).
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let list = if ready { &mut serving.ready } else { &mut serving.unready };
        for text in addresses.unwrap_or_default() {
            list.push(checked_address(&text, || format!("endpoints[{index}].addresses"))?);
        }
    }
    Ok(Some(serving))
}

fn checked_ports(ports: Option<Vec<Port>>, field: &str) -> Result<Vec<(String, u8, u16)>, Fault> {
    let mut checked = Vec::new();
    for Port { name, protocol, port } in ports.unwrap_or_default() {
        let protocol = protocol_number(protocol.as_deref(), field)?;
        let Some(port) = port else { continue };
        checked.push((name.unwrap_or_default(), protocol, port));
    }
    Ok(checked)
}
