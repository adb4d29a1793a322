//! Kinds that make pods from a template: Deployment, StatefulSet, DaemonSet.
//!
//! A workload is nothing but its pods here. Their names are stable: `NAME-1` to
//! `NAME-N` (a StatefulSet's begin with 0, a DaemonSet's end with the node), so
//! that a pod that is replaced or moved is the same to whoever asks for it.

use std::collections::BTreeMap;
use std::fmt;

use manifest::{Document, Refusal, Value};
use serde_json::json;

use crate::definition::fields::Field;
use crate::definition::pod::{self, Pod};

/// Kinds that are read here.
pub const KINDS: [&str; 3] = ["DaemonSet", "Deployment", "StatefulSet"];

/// Replicas when nothing is said, as in Kubernetes.
const REPLICAS: u32 = 1;
/// Most replicas of one workload.
const MOST: u32 = 64;

/// Who made a pod.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Owner {
    /// `Deployment`, `StatefulSet` or `DaemonSet`.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// A workload and its pods.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Who it is.
    pub owner: Owner,
    /// Its pods; none when it is scaled to nothing.
    pub pods: Vec<Pod>,
}

/// Reads a workload; `None` when it is too wrong to go on with.
pub fn read(
    document: &Document,
    nodes: &[String],
    refusals: &mut Vec<Refusal>,
) -> Option<Workload> {
    let root = Field::root(document);
    let Some(metadata) = root.get("metadata") else {
        refusals.push(root.refuse("`metadata` is missing", None));
        return None;
    };
    let name = metadata.name_at("name", refusals)?;
    let namespace = match metadata.get("namespace") {
        Some(_) => metadata.name_at("namespace", refusals)?,
        None => "default".into(),
    };
    let Some(template) = root.get("spec").and_then(|spec| spec.get("template")) else {
        refusals.push(root.refuse("`spec.template` is missing", None));
        return None;
    };
    let Some(spec) = template.get("spec") else {
        refusals.push(template.refuse("`spec` is missing", None));
        return None;
    };
    refuse_foreign_selector(&root, &template, refusals);
    let owner = Owner { kind: document.kind.clone(), namespace, name };
    let object = object(&owner, template.node().to_json());
    let one = pod::of_spec(owner.namespace.clone(), String::new(), &spec, object, nodes, refusals)?;
    let pods = instances(document, &owner, nodes, refusals)
        .into_iter()
        .map(|(name, node)| one.named(name, node, &owner))
        .collect();
    Some(Workload { owner, pods })
}

/// Names of the pods, and the nodes that the kind itself gives them.
fn instances(
    document: &Document,
    owner: &Owner,
    nodes: &[String],
    refusals: &mut Vec<Refusal>,
) -> Vec<(String, Option<String>)> {
    let name = &owner.name;
    if owner.kind == "DaemonSet" {
        return nodes.iter().map(|node| (format!("{name}-{node}"), Some(node.clone()))).collect();
    }
    let root = Field::root(document);
    let replicas = root.get("spec").and_then(|spec| spec.get("replicas"));
    let count = replicas.as_ref().map_or(Some(REPLICAS), |field| field.number(refusals));
    let count = count.unwrap_or(REPLICAS);
    if let (Some(field), true) = (&replicas, count > MOST) {
        refusals.push(field.refuse(format!("the lab runs at most {MOST} replicas"), None));
    }
    let first = if owner.kind == "StatefulSet" { 0 } else { 1 };
    (first..first + count.min(MOST)).map(|number| (format!("{name}-{number}"), None)).collect()
}

/// The pod that a template makes, as the API server would show it: with the owner
/// and the labels that its controller adds.
fn object(owner: &Owner, template: serde_json::Value) -> serde_json::Value {
    let digest = digest(&template);
    let mut metadata = template["metadata"].clone();
    if !metadata.is_object() {
        metadata = json!({});
    }
    metadata["namespace"] = json!(owner.namespace);
    let (kind, name, label) = match owner.kind.as_str() {
        "Deployment" => {
            ("ReplicaSet", format!("{}-{digest}", owner.name), Some("pod-template-hash"))
        }
        kind => (kind, owner.name.clone(), Some("controller-revision-hash")),
    };
    if let Some(label) = label {
        metadata["labels"][label] = json!(digest);
    }
    metadata["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "controller": true}]);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template["spec"],
    })
}

/// Ten hexadecimal digits that change with the template (FNV-1a): a label for
/// people, on which nothing relies.
fn digest(template: &serde_json::Value) -> String {
    let hash = template.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{:010x}", hash & 0xff_ffff_ffff)
}

/// As the API server does: a selector that its own pods do not match is a slip.
fn refuse_foreign_selector(root: &Field<'_>, template: &Field<'_>, refusals: &mut Vec<Refusal>) {
    let selector = root.get("spec").and_then(|spec| spec.get("selector"));
    let Some(wanted) = selector.and_then(|selector| selector.get("matchLabels")) else { return };
    let labels = template.get("metadata").and_then(|metadata| metadata.get("labels"));
    let labels = labels.map(|labels| texts(&labels)).unwrap_or_default();
    for (key, value) in texts(&wanted) {
        if labels.get(&key) != Some(&value) {
            let reason = format!("the template's pods do not carry `{key}: {value}`");
            refusals.push(wanted.refuse(reason, None));
        }
    }
}

/// The texts of a map; other values are for those who read labels to refuse.
fn texts(field: &Field<'_>) -> BTreeMap<String, String> {
    let Value::Map(entries) = &field.node().value else { return BTreeMap::new() };
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    entries.iter().filter_map(|(key, node)| Some((key.text.clone(), text(&node.value)?))).collect()
}
