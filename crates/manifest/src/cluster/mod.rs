//! Who is in a cluster, from the manifests of its objects: what questions about
//! policies are asked of.
//!
//! Takes only what policies can see and ignores the rest. What it does take
//! must be sound: an object that is not is refused.

mod backend;
mod lab;
mod pod;
mod reserved;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use model::{Namespace, Node};
use policy::question::Cluster;

use crate::document::{Document, Node as Written, Value};
use crate::fields::Reader;
use crate::group;
use crate::outcome::Refusal;

pub use lab::generated;
pub use reserved::{BadAnnotation, reserved_addresses};

/// Reads the cluster that documents describe. Kinds that say nothing about it
/// are left alone.
pub fn cluster(documents: &[Document]) -> (Cluster, Vec<Refusal>) {
    let mut found = Found::default();
    for document in documents {
        if let Err(Fault { at, field, reason }) = found.add(document) {
            let (file, at) = (document.file.clone(), at.unwrap_or(document.root.at));
            found.refusals.push(Refusal { file, at, field, reason, fix: None });
        }
    }
    found.finish()
}

/// What is wrong with an object.
struct Fault {
    at: Option<crate::document::Position>,
    field: String,
    reason: String,
}

fn fault(at: &Written, field: &str, reason: impl Into<String>) -> Fault {
    Fault { at: Some(at.at), field: field.to_owned(), reason: reason.into() }
}

#[derive(Default)]
struct Found {
    cluster: Cluster,
    backends: BTreeMap<(String, String), BTreeSet<IpAddr>>,
    refusals: Vec<Refusal>,
    is_lab: bool,
    /// Whether a Lab gives names to hosts outside.
    named_hosts: bool,
}

impl Found {
    fn add(&mut self, document: &Document) -> Result<(), Fault> {
        match (document.group(), document.kind.as_str()) {
            ("", "Namespace") => {
                let mut labels = labels(&document.root, &["metadata", "labels"])?;
                let name = document.name().to_owned();
                labels.insert("kubernetes.io/metadata.name".to_owned(), name.clone());
                self.cluster.namespaces.push(Namespace { name, labels });
            }
            ("", "Node") => self.cluster.nodes.push(node(document)?),
            ("", "Pod") => self.cluster.pods.extend(pod::pod(document)?),
            ("apps" | "batch" | "", kind) if pod::WORKLOADS.contains(&kind) => {
                self.cluster.pods.push(pod::of_workload(document)?);
            }
            ("", "Service") => {
                self.cluster.catalogue.services.push(backend::service(document)?);
            }
            ("", "Endpoints") | ("discovery.k8s.io", "EndpointSlice") => {
                let found = backend::endpoints(document)?;
                // Ready or not, whoever serves the API is the API server.
                let api_server = found.service.0 == "default" && found.service.1 == "kubernetes";
                if api_server {
                    let all = found.ready.iter().chain(&found.unready);
                    self.cluster.api_servers.extend(all);
                }
                self.backends.entry(found.service).or_default().extend(found.ready);
            }
            ("cilium.io", "CiliumCIDRGroup") => {
                let mut reader = Reader::new(document);
                self.cluster.catalogue.groups.extend(group::read(&mut reader));
                let (refusals, _) = reader.finish();
                self.refusals.extend(refusals);
            }
            ("signet.dev", "Lab") => {
                self.cluster.nodes.extend(lab::nodes(&document.root)?);
                self.cluster.apart = lab::apart(&document.root)?;
                self.is_lab = true;
                self.named_hosts = lab::names_hosts(&document.root);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> (Cluster, Vec<Refusal>) {
        if self.is_lab {
            if self.named_hosts || !self.cluster.catalogue.services.is_empty() {
                self.cluster.pods.push(pod::name_server(self.cluster.nodes.first()));
            }
            lab::place(&mut self.cluster.pods, &self.cluster.nodes);
        }
        for service in &mut self.cluster.catalogue.services {
            let name = (service.namespace.clone(), service.name.clone());
            if let Some(addresses) = self.backends.get(&name) {
                service.backends = addresses.iter().copied().collect();
            }
        }
        (self.cluster, self.refusals)
    }
}

fn node(document: &Document) -> Result<Node, Fault> {
    let root = &document.root;
    let mut found = Vec::new();
    let written = root.path(&["status", "addresses"]).map(Written::items).unwrap_or_default();
    for entry in written {
        let Some(text) = entry.get("address").and_then(Written::as_str) else { continue };
        let named = entry.get("type").and_then(Written::as_str);
        match text.parse::<IpAddr>() {
            Ok(address) => found.push(address.to_canonical()),
            // Names stand beside addresses there.
            Err(_) if named != Some("InternalIP") && named != Some("ExternalIP") => {}
            Err(_) => {
                return Err(fault(entry, "status.addresses", format!("`{text}` is no address")));
            }
        }
    }
    let mut pod_cidrs = ranges(root.path(&["spec", "podCIDRs"]), "spec.podCIDRs")?;
    if let (true, Some(one)) = (pod_cidrs.is_empty(), root.path(&["spec", "podCIDR"])) {
        pod_cidrs.push(range(one, "spec.podCIDR")?);
    }
    let labels = labels(root, &["metadata", "labels"])?;
    let reserved = reserved::of(root.path(&["metadata", "annotations"]), "metadata.annotations")?;
    Ok(Node { name: document.name().to_owned(), labels, addresses: found, pod_cidrs, reserved })
}

fn range(written: &Written, field: &str) -> Result<IpNet, Fault> {
    let text = written.as_str().unwrap_or_default();
    text.parse().map_err(|_| fault(written, field, format!("`{text}` is no range of addresses")))
}

fn ranges(written: Option<&Written>, field: &str) -> Result<Vec<IpNet>, Fault> {
    let items = written.map(Written::items).unwrap_or_default();
    items.iter().map(|item| range(item, field)).collect()
}

fn address(written: &Written, field: &str) -> Result<IpAddr, Fault> {
    let text = written.as_str().unwrap_or_default();
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical()),
        Err(_) => Err(fault(written, field, format!("`{text}` is no address"))),
    }
}

fn addresses(written: Option<&Written>, field: &str) -> Result<Vec<IpAddr>, Fault> {
    let items = written.map(Written::items).unwrap_or_default();
    items.iter().map(|item| address(item, field)).collect()
}

/// A map of texts.
fn labels(root: &Written, path: &[&str]) -> Result<BTreeMap<String, String>, Fault> {
    let mut found = BTreeMap::new();
    let Some(written) = root.path(path) else { return Ok(found) };
    for (key, node) in written.entries() {
        let field = format!("{}[\"{}\"]", path.join("."), key.text);
        match &node.value {
            Value::String(text) if !text.chars().any(char::is_control) => {
                found.insert(key.text.clone(), text.clone());
            }
            Value::String(_) => return Err(fault(node, &field, "holds control characters")),
            other => {
                let reason = format!("must be a string, this is {}", other.kind());
                return Err(fault(node, &field, reason));
            }
        }
    }
    Ok(found)
}

/// A namespaced object's namespace.
fn namespace(document: &Document) -> String {
    match document.namespace() {
        "" => "default".to_owned(),
        namespace => namespace.to_owned(),
    }
}

/// The IANA number of a protocol of ports; TCP, if nothing is said.
fn protocol(written: &Written) -> u8 {
    match written.get("protocol").and_then(Written::as_str) {
        Some("UDP") => 17,
        Some("SCTP") => 132,
        _ => 6,
    }
}

/// A port's number.
fn port(written: &Written) -> Option<u16> {
    match written.value {
        Value::Int(number) => u16::try_from(number).ok(),
        _ => None,
    }
}
