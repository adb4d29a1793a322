//! The `Lab` object: nodes and the outside world.
//!
//! What it does not say is generated, the same on every machine and every time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use manifest::{Document, Refusal, Value};

use crate::definition::clusters::{self, Cluster};
use crate::definition::fields::Field;
use crate::dns;
use crate::places::{FABRIC, LabName};

/// Version of the object.
pub const API_VERSION: &str = "signet.dev/v1alpha1";
/// Kind of the object.
pub const KIND: &str = "Lab";

/// The object's own fields, and those of its parts: docs/lab.md has a row for each.
const OBJECT: &[&str] = &["apiVersion", "kind", "metadata", "spec"];
const METADATA: &[&str] = &["name", "labels", "annotations"];
const SPEC: &[&str] = &["cluster", "clusters", "cni", "agent", "nodes", "external"];
const AGENT: &[&str] = &["allowLocalhost", "hostPolicyConfirmSeconds"];
const NODE: &[&str] = &["name", "labels", "annotations", "addresses", "podCIDRs"];
const EXTERNAL: &[&str] = &["name", "addresses", "command", "listens", "names"];

const DEFAULT_NODES: usize = 2;
/// Most nodes, and most external hosts.
const MOST: usize = 64;
const DEFAULT_CLUSTER: &str = "default";

/// A node: a network namespace with an agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Its cluster; `None`: the lab's first.
    pub cluster: Option<String>,
    /// Labels of its Node object.
    pub labels: BTreeMap<String, String>,
    /// Annotations of its Node object.
    pub annotations: BTreeMap<String, String>,
    /// Its addresses, at least one of each family.
    pub addresses: Vec<IpAddr>,
    /// Ranges of its pods, one of each family.
    pub pod_cidrs: Vec<IpNet>,
}

/// A host outside the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct External {
    /// Name.
    pub name: String,
    /// Its addresses, at least one of each family.
    pub addresses: Vec<IpAddr>,
    /// What runs there; empty: nothing listens.
    pub command: Vec<String>,
    /// TCP ports that it listens on once it is ready.
    pub listens: Vec<u16>,
    /// Its names, lower case.
    pub names: Vec<String>,
}

/// The object, defaults filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LabObject {
    /// Name of the lab, when the object gives one.
    pub name: Option<LabName>,
    /// Name of the first cluster, part of every pod's identity.
    pub cluster: String,
    /// The other clusters.
    pub clusters: Vec<Cluster>,
    /// The plugin that makes pods' interfaces, when it is not Signet's own.
    pub cni: Option<String>,
    /// Flags of every agent, from what `spec.agent` says.
    pub agent: Vec<String>,
    /// Nodes of all clusters, in the order written, the first cluster's first.
    pub nodes: Vec<Node>,
    /// External hosts, in the order written; `entity:world` is the first.
    pub external: Vec<External>,
}

impl Default for LabObject {
    fn default() -> Self {
        Self {
            name: None,
            cluster: DEFAULT_CLUSTER.into(),
            clusters: vec![],
            cni: None,
            agent: vec![],
            nodes: (0..DEFAULT_NODES)
                .map(|index| node(index, format!("node-{}", index + 1)))
                .collect(),
            external: vec![external(0, "internet".into())],
        }
    }
}

/// The node with everything generated: as whoever reads manifests takes it.
fn node(index: usize, name: String) -> Node {
    // There are numbers for more nodes than a lab may have.
    let model::Node { name, labels, addresses, pod_cidrs, reserved: _ } =
        manifest::lab_node(index, name.clone())
            .unwrap_or_else(|| model::Node { name, ..model::Node::default() });
    Node { name, cluster: None, labels, annotations: BTreeMap::new(), addresses, pod_cidrs }
}

/// The host with everything generated, in ranges that are nobody's (RFC 5737, RFC 3849).
fn external(index: usize, name: String) -> External {
    let number = index + 7;
    let addresses = [format!("198.51.100.{number}"), format!("2001:db8:ffff::{number}")];
    External {
        name,
        addresses: parsed(&addresses),
        command: vec![],
        listens: vec![],
        names: vec![],
    }
}

/// Of texts that are well-formed up to [`MOST`] of their kind; more are refused.
fn parsed<T: FromStr>(texts: &[String]) -> Vec<T> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Reads the object.
pub fn read(document: &Document, refusals: &mut Vec<Refusal>) -> LabObject {
    let root = Field::root(document);
    root.only(OBJECT, refusals);
    let mut lab = LabObject::default();
    if document.api_version != API_VERSION
        && let Some(version) = root.get("apiVersion")
    {
        refusals.push(version.refuse(format!("a Lab has apiVersion `{API_VERSION}`"), None));
    }
    if let Some(metadata) = root.get("metadata") {
        metadata.only(METADATA, refusals);
        lab.name = metadata.get("name").and_then(|name| {
            name.parsed("a name for a lab (1 to 32 of a-z, 0-9 and `-`)", refusals)
        });
    }
    let Some(spec) = root.get("spec") else { return lab };
    spec.only(SPEC, refusals);
    if let Some(field) = spec.get("cni") {
        lab.cni = read_cni(&field, refusals);
    }
    if let Some(agent) = spec.get("agent") {
        lab.agent = read_agent(&agent, refusals);
    }
    if spec.get("cluster").is_some() {
        lab.cluster = spec.name_at("cluster", refusals).unwrap_or_default();
    }
    if let Some(nodes) = spec.get("nodes") {
        lab.nodes = read_nodes(&spec, 0, refusals);
        if lab.nodes.is_empty() {
            refusals.push(nodes.refuse("a cluster has at least one node", None));
        }
    }
    clusters::read(&spec, &mut lab, refusals);
    if lab.nodes.len() > MOST {
        refusals.push(spec.refuse(format!("a lab has at most {MOST} nodes"), None));
    }
    if let Some(external) = spec.get("external") {
        lab.external = read_external(&spec, refusals);
        if lab.external.len() > MOST {
            refusals.push(external.refuse(format!("a lab has at most {MOST} hosts"), None));
        }
    }
    refuse_what_appears_twice(&spec, &lab, refusals);
    lab
}

/// The plugin before Signet's own; none is the default.
fn read_cni(field: &Field<'_>, refusals: &mut Vec<Refusal>) -> Option<String> {
    let name = field.text(refusals)?;
    match name.as_str() {
        "signet" => None,
        "ptp" | "bridge" => Some(name),
        _ => {
            refusals.push(field.refuse("must be `signet`, `ptp` or `bridge`", None));
            None
        }
    }
}

/// What agents of a cluster are told by their flags.
fn read_agent(agent: &Field<'_>, refusals: &mut Vec<Refusal>) -> Vec<String> {
    agent.only(AGENT, refusals);
    let mut flags = Vec::new();
    if let Some(field) = agent.get("allowLocalhost") {
        match field.text(refusals).as_deref() {
            Some(value @ ("always" | "policy")) => {
                flags.extend(["--allow-localhost".to_owned(), value.to_owned()]);
            }
            _ => refusals.push(field.refuse("must be `always` or `policy`", None)),
        }
    }
    if let Some(field) = agent.get("hostPolicyConfirmSeconds") {
        match field.number(refusals) {
            Some(seconds @ 1..=86_400) => {
                flags.extend(["--host-policy-confirm-seconds".to_owned(), seconds.to_string()]);
            }
            _ => refusals.push(field.refuse("must be 1 to 86400 seconds", None)),
        }
    }
    flags
}

/// The nodes of one cluster; `before` are the lab's already.
pub fn read_nodes(spec: &Field<'_>, before: usize, refusals: &mut Vec<Refusal>) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (index, field) in spec.items("nodes", refusals).iter().enumerate() {
        field.only(NODE, refusals);
        let Some(name) = field.name_at("name", refusals) else { continue };
        let mut node = node(before + index, name);
        node.labels = texts(field, "labels", refusals);
        node.annotations = annotations(field, refusals);
        replace(&mut node.addresses, list(field, "addresses", "an IP address", refusals));
        let ranges = list::<IpNet>(field, "podCIDRs", "an address range", refusals);
        if let Some(bad) = ranges.iter().find(|range| range.trunc() != **range) {
            let reason = format!("`{bad}` has bits set beyond its prefix");
            refusals.push(field.refuse(reason, None));
        }
        replace(&mut node.pod_cidrs, ranges);
        require_both(field, "addresses", node.addresses.iter().copied(), refusals);
        require_both(field, "podCIDRs", node.pod_cidrs.iter().map(IpNet::addr), refusals);
        nodes.push(node);
    }
    nodes
}

fn read_external(spec: &Field<'_>, refusals: &mut Vec<Refusal>) -> Vec<External> {
    let mut hosts = Vec::new();
    for (index, field) in spec.items("external", refusals).iter().enumerate() {
        field.only(EXTERNAL, refusals);
        let Some(name) = field.name_at("name", refusals) else { continue };
        let mut host = external(index, name);
        replace(&mut host.addresses, list(field, "addresses", "an IP address", refusals));
        host.command = field.texts("command", refusals);
        for port in field.items("listens", refusals) {
            match port.number(refusals).map(u16::try_from) {
                Some(Ok(number)) => host.listens.push(number),
                Some(Err(_)) => refusals.push(port.refuse("is no port", None)),
                None => {}
            }
        }
        host.names = names(field, refusals);
        require_both(field, "addresses", host.addresses.iter().copied(), refusals);
        hosts.push(host);
    }
    hosts
}

/// Names that the lab's name server knows; `cluster.local` is the cluster's own.
fn names(field: &Field<'_>, refusals: &mut Vec<Refusal>) -> Vec<String> {
    let mut names = Vec::new();
    for item in field.items("names", refusals) {
        let Some(text) = item.text(refusals) else { continue };
        let name = text.trim_end_matches('.').to_ascii_lowercase();
        let sound = name.len() <= 253 && name.split('.').all(crate::places::is_dns_label);
        if !sound {
            refusals.push(item.refuse(format!("`{text}` is not a DNS name"), None));
        } else if name == dns::ZONE || name.ends_with(&format!(".{}", dns::ZONE)) {
            let reason = format!("`{text}` is in `{}`, which is the cluster's", dns::ZONE);
            refusals.push(item.refuse(reason, None));
        } else {
            names.push(name);
        }
    }
    names
}

/// Annotations are the cluster's to read; those that say who stands at an address of
/// the node are read before anything is made.
fn annotations(field: &Field<'_>, refusals: &mut Vec<Refusal>) -> BTreeMap<String, String> {
    let annotations = texts(field, "annotations", refusals);
    let read = manifest::reserved_addresses(|key| annotations.get(key).map(String::as_str));
    if let (Err(bad), Some(at)) = (read, field.get("annotations")) {
        let at = at.get(bad.key).unwrap_or(at);
        refusals.push(at.refuse(bad.reason, None));
    }
    annotations
}

/// The labels or annotations of an object that carries them directly.
pub fn texts(
    field: &Field<'_>,
    key: &str,
    refusals: &mut Vec<Refusal>,
) -> BTreeMap<String, String> {
    let Some(texts) = field.get(key) else { return BTreeMap::new() };
    let Value::Map(entries) = &texts.node().value else {
        refusals.push(texts.refuse("must be a map", None));
        return BTreeMap::new();
    };
    let value = |key: &str, refusals: &mut Vec<Refusal>| texts.text_at(key, refusals);
    entries
        .iter()
        .map(|(key, _)| (key.text.clone(), value(&key.text, refusals).unwrap_or_default()))
        .collect()
}

fn list<T: FromStr>(
    field: &Field<'_>,
    key: &str,
    what: &str,
    refusals: &mut Vec<Refusal>,
) -> Vec<T> {
    let items = field.items(key, refusals);
    items.iter().filter_map(|item| item.parsed(what, refusals)).collect()
}

/// What is written takes the place of what was generated.
fn replace<T>(generated: &mut Vec<T>, written: Vec<T>) {
    if !written.is_empty() {
        *generated = written;
    }
}

fn require_both(
    field: &Field<'_>,
    key: &str,
    addresses: impl Iterator<Item = IpAddr>,
    refusals: &mut Vec<Refusal>,
) {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.partition(IpAddr::is_ipv4);
    if v4.is_empty() || v6.is_empty() {
        let field = field.get(key).unwrap_or_else(|| field.clone());
        refusals.push(field.refuse("needs IPv4 and IPv6", Some("write both, or neither")));
    }
}

fn refuse_what_appears_twice(spec: &Field<'_>, lab: &LabObject, refusals: &mut Vec<Refusal>) {
    let names = lab.nodes.iter().map(|node| &node.name);
    let names: Vec<_> = names.chain(lab.external.iter().map(|host| &host.name)).collect();
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) || name.as_str() == FABRIC {
            let reason =
                format!("`{name}` is taken; nodes and external hosts need names of their own");
            refusals.push(spec.refuse(reason, None));
        }
    }
    let addresses = lab.nodes.iter().flat_map(|node| &node.addresses);
    let addresses = addresses.chain(lab.external.iter().flat_map(|host| &host.addresses));
    let mut ranges: Vec<IpNet> = addresses.map(|at| IpNet::from(*at)).collect();
    ranges.extend(lab.nodes.iter().flat_map(|node| &node.pod_cidrs));
    for (index, range) in ranges.iter().enumerate() {
        let overlaps = |other: &&IpNet| other.contains(range) || range.contains(*other);
        if let Some(other) = ranges[..index].iter().find(overlaps) {
            let reason =
                format!("`{range}` and `{other}` overlap; give each node and host its own");
            refusals.push(spec.refuse(reason, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lab.md");

    /// Every field has a row, and every row is about a field.
    #[test]
    fn the_page_has_every_field() {
        let page = std::fs::read_to_string(PAGE).unwrap();
        let (_, table) = page.split_once("| Field | Meaning | Default |\n").unwrap();
        let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
        // The first cell names one field, or several that mean the same.
        let cells =
            rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
        let told: Vec<_> = cells.map(str::to_owned).collect();
        let below = |path: &str, fields: &[&str]| {
            fields.iter().map(|field| format!("{path}{field}")).collect::<Vec<_>>()
        };
        // `spec.agent` is nothing but its own fields.
        let spec = SPEC.iter().filter(|field| **field != "agent").copied().collect::<Vec<_>>();
        let mut read = [
            below("metadata.", METADATA),
            below("spec.", &spec),
            below("spec.agent.", AGENT),
            below("spec.nodes[].", NODE),
            below("spec.clusters[].", clusters::CLUSTER),
            below("spec.external[].", EXTERNAL),
        ]
        .concat();
        let mut sorted = told.clone();
        sorted.sort();
        read.sort();
        assert_eq!(sorted, read, "docs/lab.md and the fields of a Lab");
    }
}
