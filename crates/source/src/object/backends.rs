//! `v1 Endpoints` and `discovery.k8s.io/v1 EndpointSlice`: who serves a service.
//! Those of `default/kubernetes` say where the Kubernetes API is served.

use std::net::IpAddr;

use manifest::Document;
use serde::Deserialize;

use super::{AnyObject, DEFAULT_NAMESPACE, Fault, Object};
use super::{checked_address, name_of, parse};

/// The service that stands for the Kubernetes API.
const API_SERVICE: &str = "kubernetes";

/// The label by which a slice names its service.
const SLICE_SERVICE: &str = "kubernetes.io/service-name";

/// Addresses behind a service, as one object lists them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Backends {
    /// Namespace and name of the service.
    pub service: (String, String),
    /// Those that serve.
    pub ready: Vec<IpAddr>,
    /// Those that do not yet, or no longer.
    pub unready: Vec<IpAddr>,
}

impl Backends {
    /// Where the Kubernetes API is, if these serve it: ready or not, whoever
    /// serves the API is the API server.
    pub fn api_servers(&self) -> impl Iterator<Item = IpAddr> {
        let (namespace, name) = &self.service;
        let is_api = namespace == DEFAULT_NAMESPACE && name == API_SERVICE;
        self.ready.iter().chain(&self.unready).copied().filter(move |_| is_api)
    }
}

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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SliceObject {
    address_type: Option<String>,
    endpoints: Option<Vec<SliceEndpoint>>,
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

pub(super) fn endpoints(document: &Document) -> Option<Result<Object, Fault>> {
    let name = name_of(document)?;
    let service = (name.namespace?, name.name);
    Some(parse::<EndpointsObject>(document).and_then(|EndpointsObject { subsets }| {
        let mut backends = Backends { service, ..Backends::default() };
        for subset in subsets.unwrap_or_default() {
            for (listed, to) in [
                (subset.addresses, &mut backends.ready),
                (subset.not_ready_addresses, &mut backends.unready),
            ] {
                for Address { ip } in listed.unwrap_or_default() {
                    to.push(checked_address(&ip, || "subsets".to_owned())?);
                }
            }
        }
        Ok(Object::Backends(backends))
    }))
}

/// A slice that names no service is nobody's.
pub(super) fn slice(document: &Document) -> Option<Result<Object, Fault>> {
    let AnyObject { metadata } = parse(document).ok()?;
    let service = (name_of(document)?.namespace?, metadata.labels?.remove(SLICE_SERVICE)?);
    Some(parse::<SliceObject>(document).and_then(|SliceObject { address_type, endpoints }| {
        let mut backends = Backends { service, ..Backends::default() };
        if address_type.as_deref() == Some("FQDN") {
            return Ok(Object::Backends(backends));
        }
        for (index, endpoint) in endpoints.unwrap_or_default().into_iter().enumerate() {
            // What is not said is taken as ready.
            let ready = endpoint.conditions.and_then(|conditions| conditions.ready) != Some(false);
            let to = if ready { &mut backends.ready } else { &mut backends.unready };
            for text in endpoint.addresses.unwrap_or_default() {
                let field = || format!("endpoints[{index}].addresses");
                to.push(checked_address(&text, field)?);
            }
        }
        Ok(Object::Backends(backends))
    }))
}
