//! Services, and the addresses behind them.

use std::net::IpAddr;

use policy::{Service, ServicePort, TargetPort};

use crate::cluster::{Fault, address, fault, labels, namespace, port, protocol};
use crate::document::{Document, Node as Written, Value};

/// A service.
pub(super) fn service(document: &Document) -> Result<Service, Fault> {
    let root = &document.root;
    let (mut own, mut headless) = (Vec::new(), false);
    let listed = root.path(&["spec", "clusterIPs"]).map(Written::items).unwrap_or_default();
    let first = root.path(&["spec", "clusterIP"]);
    for written in listed.iter().chain(first) {
        // `None` is written for services without addresses of their own.
        headless |= written.as_str() == Some("None");
        if let Some(found) = written.as_str().and_then(|text| text.parse::<IpAddr>().ok()) {
            own.push(found.to_canonical());
        }
    }
    let mut ports = Vec::new();
    for written in root.path(&["spec", "ports"]).map(Written::items).unwrap_or_default() {
        let Some(number) = written.get("port").and_then(port) else {
            return Err(fault(written, "spec.ports.port", "a port of a service is a number"));
        };
        let target = match written.get("targetPort") {
            Some(target) => match (port(target), target.as_str()) {
                (Some(0), _) | (None, None) => TargetPort::Number(number),
                (Some(target), _) => TargetPort::Number(target),
                (None, Some(name)) => match name.parse() {
                    Ok(target) => TargetPort::Number(target),
                    Err(_) => TargetPort::Name(name.to_ascii_lowercase()),
                },
            },
            None => TargetPort::Number(number),
        };
        let name = written.get("name").and_then(Written::as_str).unwrap_or_default().to_owned();
        ports.push(ServicePort { name, protocol: protocol(written), port: number, target });
    }
    Ok(Service {
        namespace: namespace(document),
        name: document.name().to_owned(),
        labels: labels(root, &["metadata", "labels"])?,
        selector: labels(root, &["spec", "selector"])?,
        backends: Vec::new(),
        addresses: own,
        headless,
        ports,
    })
}

/// Who serves a service.
#[derive(Default)]
pub(super) struct Backends {
    /// Namespace and name of the service.
    pub service: (String, String),
    /// Addresses that serve.
    pub ready: Vec<IpAddr>,
    /// Those that do not yet, or no longer.
    pub unready: Vec<IpAddr>,
}

/// The backends that an `Endpoints` or an `EndpointSlice` lists.
pub(super) fn endpoints(document: &Document) -> Result<Backends, Fault> {
    let root = &document.root;
    let mut found = Backends::default();
    let service = if document.kind == "Endpoints" {
        for subset in root.get("subsets").map(Written::items).unwrap_or_default() {
            for (list, to) in
                [("addresses", &mut found.ready), ("notReadyAddresses", &mut found.unready)]
            {
                for entry in subset.get(list).map(Written::items).unwrap_or_default() {
                    if let Some(ip) = entry.get("ip") {
                        to.push(address(ip, "subsets.addresses.ip")?);
                    }
                }
            }
        }
        document.name().to_owned()
    } else {
        if root.get("addressType").and_then(Written::as_str) != Some("FQDN") {
            for entry in root.get("endpoints").map(Written::items).unwrap_or_default() {
                // What is not said is taken as ready.
                let ready = entry.path(&["conditions", "ready"]).map(|ready| &ready.value);
                let unready = ready == Some(&Value::Bool(false));
                let to = if unready { &mut found.unready } else { &mut found.ready };
                for ip in entry.get("addresses").map(Written::items).unwrap_or_default() {
                    to.push(address(ip, "endpoints.addresses")?);
                }
            }
        }
        let named = labels(root, &["metadata", "labels"])?;
        let service = named.get("kubernetes.io/service-name").cloned();
        service.unwrap_or_else(|| document.name().to_owned())
    };
    found.service = (namespace(document), service);
    Ok(found)
}
