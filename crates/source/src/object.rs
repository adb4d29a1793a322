//! Kubernetes objects as the API writes them, turned into the model's values.
//!
//! Takes only what Signet needs and ignores the rest: which fields an object may
//! have is Kubernetes' business. What it does take must be sound; an object that
//! is not is refused, because a pod with half its addresses would be worse than
//! none. Knows nothing about policies.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use manifest::{Document, Node as ManifestNode, Position, Refusal, Value};
use model::{Namespace, Node, Pod, PodName, PolicyName};
use serde::Deserialize;

use crate::contents::Scope;
use crate::service::Service;

mod endpoints;
mod node;
mod pod;
mod service;

pub(crate) use endpoints::Endpoints;

/// Which object a document is: `Kind/namespace/name`, `-` for cluster-scoped ones.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectName {
    /// `kind`.
    pub kind: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

impl From<&PolicyName> for ObjectName {
    fn from(policy: &PolicyName) -> Self {
        Self {
            kind: policy.kind.as_str().to_owned(),
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
        }
    }
}

/// The name of a pod among those of all objects.
pub(crate) fn name_of_pod(name: PodName) -> ObjectName {
    let PodName { namespace, name } = name;
    ObjectName { kind: "Pod".to_owned(), namespace: Some(namespace), name }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_deref().unwrap_or("-");
        write!(f, "{}/{namespace}/{}", self.kind, self.name)
    }
}

/// What a document says about the cluster.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Object {
    Namespace(Namespace),
    Node(Node),
    Pod(Pod),
    /// Who serves a service.
    Endpoints(Endpoints),
    /// A service, and what rules that refer to it mean.
    Service(Box<Service>, policy::Catalogue),
    /// Groups of ranges, that rules refer to.
    Catalogue(policy::Catalogue),
    Policy(policy::Policy),
}

impl Object {
    /// Whether a refused document needs its last good version after a restart:
    /// policies, and what gives them their meaning. A pod that nobody knows is
    /// dropped anyway.
    pub fn is_remembered(&self) -> bool {
        match self {
            Self::Namespace(_)
            | Self::Node(_)
            | Self::Service(..)
            | Self::Catalogue(_)
            | Self::Policy(_) => true,
            Self::Pod(_) | Self::Endpoints(_) => false,
        }
    }
}

/// Where objects are that do not say.
const DEFAULT_NAMESPACE: &str = "default";

/// Kinds that are in no namespace.
const CLUSTER_SCOPED: [&str; 7] = [
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
    "CiliumCIDRGroup",
    "CiliumClusterwideNetworkPolicy",
    "ClusterNetworkPolicy",
    "Namespace",
    "Node",
];

/// The label that every namespace carries and nobody may choose.
pub(crate) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The longest name Kubernetes allows (RFC 1123 subdomain).
const NAME_MAX: usize = 253;

/// More than any label key or value may have: a prefix, a slash, a name.
const LABEL_MAX: usize = NAME_MAX + 1 + 63;

/// What is wrong with one field.
struct Fault {
    field: String,
    reason: String,
}

fn fault(field: impl Into<String>, reason: impl Into<String>) -> Fault {
    Fault { field: field.into(), reason: reason.into() }
}

/// `metadata` of any object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<pod::Owner>>,
}

#[derive(Deserialize)]
struct AnyObject {
    metadata: Metadata,
}

/// The name of the object in a document, when it has a sound one.
pub(crate) fn name_of(document: &Document) -> Option<ObjectName> {
    let kind = document.kind.clone();
    let namespace = match document.namespace() {
        _ if CLUSTER_SCOPED.contains(&kind.as_str()) => None,
        "" => Some(DEFAULT_NAMESPACE.to_owned()),
        namespace => Some(namespace.to_owned()),
    };
    let sound = namespace.as_deref().is_none_or(is_name) && is_name(document.name());
    sound.then(|| ObjectName { kind, namespace, name: document.name().to_owned() })
}

/// Whose policy a document is, that was read as one. What cannot be told is
/// everybody's.
pub(crate) fn scope_of(document: &Document) -> Scope {
    let namespaced = ["CiliumNetworkPolicy", "NetworkPolicy"].contains(&document.kind.as_str());
    let metadata = document.root.get("metadata");
    let is_mapping = metadata.is_some_and(|metadata| matches!(metadata.value, Value::Map(_)));
    if !namespaced || !is_mapping {
        return Scope::Everybody;
    }
    match metadata.and_then(|metadata| metadata.get("namespace")) {
        None => Scope::Namespace(DEFAULT_NAMESPACE.to_owned()),
        Some(node) => match node.as_str().filter(|name| is_name(name)) {
            Some(name) => Scope::Namespace(name.to_owned()),
            None => Scope::Everybody,
        },
    }
}

/// Reads a document of one of the kinds that say who is in the cluster; `None`
/// for every other kind.
pub(crate) fn read(document: &Document) -> Option<Result<Object, Refusal>> {
    let object = match (document.api_version.as_str(), document.kind.as_str()) {
        ("v1", "Namespace") => namespace(document),
        ("v1", "Node") => node::read(document),
        ("v1", "Pod") => pod::read(document),
        ("v1", "Endpoints") => endpoints::endpoints(document)?,
        ("discovery.k8s.io/v1" | "discovery.k8s.io/v1beta1", "EndpointSlice") => {
            endpoints::slice(document)?
        }
        ("v1", "Service") => match service::read(document) {
            Ok(service) => {
                let meaning = catalogue(document);
                return Some(meaning.map(|meaning| Object::Service(Box::new(service), meaning)));
            }
            Err(fault) => Err(fault),
        },
        ("cilium.io/v2" | "cilium.io/v2alpha1", "CiliumCIDRGroup") => {
            return Some(catalogue(document).map(Object::Catalogue));
        }
        _ => return None,
    };
    Some(object.map_err(|Fault { field, reason }| Refusal {
        file: document.file.clone(),
        at: position(&document.root, &field),
        field,
        reason,
        fix: None,
    }))
}

/// What rules may refer to. The backends of a service without a selector are in
/// other objects: the snapshot joins them.
fn catalogue(document: &Document) -> Result<policy::Catalogue, Refusal> {
    let (cluster, refusals) = manifest::cluster(std::slice::from_ref(document));
    match refusals.into_iter().next() {
        Some(refusal) => Err(refusal),
        None => Ok(cluster.catalogue),
    }
}

fn parse<'de, T: Deserialize<'de>>(document: &Document) -> Result<T, Fault> {
    T::deserialize(document.root.to_json()).map_err(|error| fault("", error.to_string()))
}

fn namespace(document: &Document) -> Result<Object, Fault> {
    let AnyObject { metadata } = parse(document)?;
    let name = checked_name(&metadata)?;
    let mut labels = checked_labels(metadata.labels)?;
    labels.insert(NAMESPACE_NAME.to_owned(), name.clone());
    Ok(Object::Namespace(Namespace { name, labels }))
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
}

fn checked_name(metadata: &Metadata) -> Result<String, Fault> {
    match &metadata.name {
        None => Err(fault("metadata.name", "an object needs a name")),
        Some(name) if is_name(name) => Ok(name.clone()),
        Some(_) => Err(fault("metadata.name", "not a Kubernetes name")),
    }
}

fn checked_namespace(metadata: &Metadata) -> Result<String, Fault> {
    match &metadata.namespace {
        None => Ok(DEFAULT_NAMESPACE.to_owned()),
        Some(name) if is_name(name) => Ok(name.clone()),
        Some(_) => Err(fault("metadata.namespace", "not a Kubernetes name")),
    }
}

/// Labels end up in identities, logs and answers: what Kubernetes itself would
/// never store there does not get in.
fn checked_labels(
    labels: Option<BTreeMap<String, String>>,
) -> Result<BTreeMap<String, String>, Fault> {
    let labels = labels.unwrap_or_default();
    for (key, value) in &labels {
        let sound = |text: &str| text.len() <= LABEL_MAX && !text.chars().any(char::is_control);
        if key.is_empty() || key.contains('=') || !sound(key) || !sound(value) {
            let shown: String = key.chars().filter(|c| !c.is_control()).take(LABEL_MAX).collect();
            return Err(fault("metadata.labels", format!("`{shown}` is not a Kubernetes label")));
        }
    }
    Ok(labels)
}

/// An address, with IPv4 in its own form: `::ffff:10.0.0.1` is `10.0.0.1`, or
/// the same peer would have two identities.
fn checked_address(text: &str, field: impl FnOnce() -> String) -> Result<IpAddr, Fault> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical()),
        Err(_) => Err(fault(field(), format!("`{}` is not an IP address", shown(text)))),
    }
}

fn checked_cidr(text: &str, field: impl FnOnce() -> String) -> Result<IpNet, Fault> {
    match text.parse::<IpNet>() {
        Ok(net) => Ok(net.trunc()),
        Err(_) => Err(fault(field(), format!("`{}` is not an address range", shown(text)))),
    }
}

/// The IANA number of a protocol that has ports; TCP, if nothing is said.
fn protocol_number(text: Option<&str>, field: &str) -> Result<u8, Fault> {
    match text {
        None | Some("" | "TCP") => Ok(6),
        Some("UDP") => Ok(17),
        Some("SCTP") => Ok(132),
        Some(other) => Err(fault(field, format!("`{}` is not TCP, UDP or SCTP", shown(other)))),
    }
}

/// Enough of a bad value to find it.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// Where a field such as `status.podIPs[1].ip` stands, or as near as the document
/// goes towards it.
fn position(root: &ManifestNode, field: &str) -> Position {
    let mut here = root;
    let mut rest = field;
    while !rest.is_empty() {
        // Names of annotations have dots of their own.
        if let Some(last) = here.get(rest) {
            return last.at;
        }
        let (step, behind) = rest.split_once('.').unwrap_or((rest, ""));
        rest = behind;
        let (key, index) = match step.strip_suffix(']').and_then(|step| step.split_once('[')) {
            Some((key, index)) => (key, index.parse::<usize>().ok()),
            None => (step, None),
        };
        let Some(next) = here.get(key) else { break };
        here = next;
        if let (Some(index), Value::List(items)) = (index, &here.value)
            && let Some(item) = items.get(index)
        {
            here = item;
        }
    }
    here.at
}

#[cfg(test)]
mod tests;
