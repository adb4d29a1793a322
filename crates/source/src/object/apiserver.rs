//! `v1 Endpoints` and `discovery.k8s.io/v1 EndpointSlice` of `default/kubernetes`:
//! where the Kubernetes API is served. Those of other services say nothing here.

use manifest::Document;
use serde::Deserialize;

use super::{AnyObject, DEFAULT_NAMESPACE, Fault, Object};
use super::{checked_address, name_of, parse};

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
}

/// Ready or not, whoever serves the API is the API server.
pub(super) fn endpoints(document: &Document) -> Option<Result<Object, Fault>> {
    let name = name_of(document)?;
    if name.namespace.as_deref() != Some(DEFAULT_NAMESPACE) || name.name != API_SERVICE {
        return None;
    }
    Some(parse::<EndpointsObject>(document).and_then(|EndpointsObject { subsets }| {
        let mut addresses = Vec::new();
        for subset in subsets.unwrap_or_default() {
            let all = [subset.addresses, subset.not_ready_addresses];
            for Address { ip } in all.into_iter().flatten().flatten() {
                addresses.push(checked_address(&ip, || "subsets".to_owned())?);
            }
        }
        Ok(Object::ApiServer(addresses))
    }))
}

pub(super) fn slice(document: &Document) -> Option<Result<Object, Fault>> {
    let AnyObject { metadata } = parse(document).ok()?;
    let namespace = name_of(document)?.namespace;
    let service = metadata.labels?.remove(SLICE_SERVICE)?;
    if namespace.as_deref() != Some(DEFAULT_NAMESPACE) || service != API_SERVICE {
        return None;
    }
    Some(parse::<SliceObject>(document).and_then(|SliceObject { address_type, endpoints }| {
        let mut addresses = Vec::new();
        if address_type.as_deref() == Some("FQDN") {
            return Ok(Object::ApiServer(addresses));
        }
        for (index, endpoint) in endpoints.unwrap_or_default().into_iter().enumerate() {
            for text in endpoint.addresses.unwrap_or_default() {
                let field = || format!("endpoints[{index}].addresses");
                addresses.push(checked_address(&text, field)?);
            }
        }
        Ok(Object::ApiServer(addresses))
    }))
}
