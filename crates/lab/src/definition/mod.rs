//! What a directory of manifests asks for: read, checked, nothing touched.
//!
//! Kinds that the lab cannot make real are refused, never skipped: a lab that
//! silently lacks a part of what was written would prove nothing.

pub mod clusters;
pub mod fields;
pub mod lab_object;
pub mod names;
pub mod pod;
pub mod service;
#[cfg(test)]
mod tests;
pub mod workload;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use manifest::{Document, Refusal};
use serde_json::Value;

use crate::definition::clusters::Cluster;
use crate::definition::fields::Field;
use crate::definition::lab_object::{External, LabObject, Node};
use crate::definition::pod::{Pod, Role};
use crate::definition::workload::{Owner, Workload};
use crate::error::Error;
use crate::places::LabName;

/// Kinds that only concern those who read the cluster's objects.
const PASSED_ON: [&str; 11] = [
    "Namespace",
    "CiliumNetworkPolicy",
    "CiliumClusterwideNetworkPolicy",
    "CiliumCIDRGroup",
    "NetworkPolicy",
    "ClusterNetworkPolicy",
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
    "Service",
    "Endpoints",
    "EndpointSlice",
];

/// Everything that is to exist.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Name of the lab.
    pub name: LabName,
    /// The directory it came from, absolute.
    pub directory: PathBuf,
    /// Name of the first cluster.
    pub cluster: String,
    /// The others, with the absolute paths of their manifests.
    pub clusters: Vec<Cluster>,
    /// The plugin that makes pods' interfaces, when it is not Signet's own.
    pub cni: Option<String>,
    /// Flags of every agent beside those that say where it is.
    pub agent: Vec<String>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// External hosts.
    pub external: Vec<External>,
    /// Pods, by cluster, namespace and name; those that workloads make among them.
    pub pods: Vec<Pod>,
    /// Namespaces, policies and what else agents of the first cluster read, as JSON.
    pub objects: Vec<Value>,
    /// The same of each other cluster.
    pub elsewhere: Vec<(String, Vec<Value>)>,
}

/// What manifests ask of one cluster of a lab that is there.
#[derive(Clone, Debug)]
pub struct Part {
    /// The cluster; `None`: the first.
    pub cluster: Option<String>,
    /// The lab itself, when they describe it.
    pub lab: Option<LabObject>,
    /// Pods, by namespace and name; placed where a manifest or the kind says so.
    pub pods: Vec<Pod>,
    /// Workloads, with those that have no pods.
    pub workloads: Vec<Owner>,
    /// Services, without the addresses that nobody wrote.
    pub services: Vec<service::Service>,
    /// Namespaces, policies and what else agents read, as JSON.
    pub objects: Vec<Value>,
}

/// Reads all manifests of a directory; the name defaults to the directory's.
pub fn read(directory: &Path) -> Result<Definition, Error> {
    let directory =
        fs::canonicalize(directory).map_err(Error::file("find the directory", directory))?;
    let (mut documents, mut refusals) = (Vec::new(), Vec::new());
    self::documents(&directory, &mut documents, &mut refusals)?;
    let mut lab = lab_object(&documents, &mut refusals);
    let mut others = Vec::new();
    for cluster in &mut lab.clusters {
        cluster.manifests = directory.join(&cluster.manifests);
        let mut documents = Vec::new();
        self::documents(&cluster.manifests, &mut documents, &mut refusals)?;
        others.push(documents);
    }
    let definition = build(&directory, lab, &documents, &others, &mut refusals);
    match definition {
        Some(definition) if refusals.is_empty() => Ok(definition),
        _ => Err(Error::Refused(refusals)),
    }
}

/// A cluster as it is before something changes.
#[derive(Clone, Debug)]
pub struct Before {
    /// The cluster; `None`: the first.
    pub cluster: Option<String>,
    /// Names of its nodes.
    pub nodes: Vec<String>,
    /// Its objects.
    pub objects: Vec<Value>,
}

/// Reads a file, or all manifests of a directory, for a cluster that is there already:
/// services keep the addresses that they have.
pub fn read_part(path: &Path, before: &Before) -> Result<Part, Error> {
    let files = if path.is_dir() { manifest_files(path)? } else { vec![path.to_owned()] };
    let (mut documents, mut refusals) = (Vec::new(), Vec::new());
    read_files(files, &mut documents, &mut refusals)?;
    let is_lab = |document: &Document| document.kind == lab_object::KIND;
    let cluster = before.cluster.as_deref();
    refuse_second_lab(cluster, &documents, &mut refusals);
    let lab = documents.iter().any(is_lab).then(|| lab_object(&documents, &mut refusals));
    let nodes = match &lab {
        Some(lab) => lab.node_names(cluster),
        None => before.nodes.clone(),
    };
    let mut part = part(cluster, lab, &documents, &nodes, &mut refusals);
    refuse_name_server(&part.pods, &part.services, &documents, &mut refusals);
    let elsewhere = LabObject { nodes: vec![], external: vec![], ..LabObject::default() };
    let lab = part.lab.as_ref().unwrap_or(&elsewhere);
    let services = std::mem::take(&mut part.services);
    part.objects.extend(service::objects(services, lab, &before.objects, &mut refusals));
    if before.objects.iter().any(names::is_service) {
        part.pods.iter_mut().for_each(|pod| pod.role = Role::Client);
    }
    if refusals.is_empty() { Ok(part) } else { Err(Error::Refused(refusals)) }
}

/// Reads a Pod back from what the lab wrote of it.
pub fn read_pod(file: &Path, text: &str, nodes: &[String]) -> Result<Pod, Error> {
    let mut refusals = Vec::new();
    let documents = manifest::read(&file.display().to_string(), text).map_err(Error::Refused)?;
    let pod = documents.first().and_then(|document| pod::read(document, nodes, &mut refusals));
    match pod {
        Some(pod) if refusals.is_empty() => Ok(pod),
        _ => Err(Error::Refused(refusals)),
    }
}

/// Name of the lab that a directory describes, for commands that only need that.
pub fn name_of(directory: &Path) -> Result<LabName, Error> {
    read(directory).map(|definition| definition.name)
}

/// Reads what all manifests of a directory hold, whatever it is.
pub fn documents(
    directory: &Path,
    documents: &mut Vec<Document>,
    refusals: &mut Vec<Refusal>,
) -> Result<(), Error> {
    read_files(manifest_files(directory)?, documents, refusals)
}

fn read_files(
    files: Vec<PathBuf>,
    documents: &mut Vec<Document>,
    refusals: &mut Vec<Refusal>,
) -> Result<(), Error> {
    for path in files {
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        match manifest::read(&path.display().to_string(), &text) {
            Ok(found) => documents.extend(found),
            Err(found) => refusals.extend(found),
        }
    }
    Ok(())
}

fn manifest_files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(directory).map_err(Error::file("list", directory))?;
    let is_manifest = |path: &PathBuf| {
        path.extension()
            .is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|it| ending == *it))
    };
    let mut files: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(is_manifest).collect();
    files.sort();
    if files.is_empty() {
        let detail = "it holds no .yaml, .yml or .json file".into();
        return Err(Error::Malformed { what: format!("`{}`", directory.display()), detail });
    }
    Ok(files)
}

fn build(
    directory: &Path,
    lab: LabObject,
    documents: &[Document],
    others: &[Vec<Document>],
    refusals: &mut Vec<Refusal>,
) -> Option<Definition> {
    let (mut pods, objects) = whole(None, &lab, documents, refusals);
    let mut elsewhere = Vec::new();
    for (cluster, documents) in lab.clusters.iter().zip(others) {
        refuse_second_lab(Some(&cluster.name), documents, refusals);
        let (more, objects) = whole(Some(&cluster.name), &lab, documents, refusals);
        pods.extend(more);
        elsewhere.push((cluster.name.clone(), objects));
    }
    Some(Definition {
        name: lab.name.or_else(|| name_from(directory, documents, refusals))?,
        directory: directory.to_owned(),
        cluster: lab.cluster,
        clusters: lab.clusters,
        cni: lab.cni,
        agent: lab.agent,
        nodes: lab.nodes,
        external: lab.external,
        pods,
        objects,
        elsewhere,
    })
}

/// A whole cluster: its pods, each on a node, and what its agents read.
fn whole(
    cluster: Option<&str>,
    lab: &LabObject,
    documents: &[Document],
    refusals: &mut Vec<Refusal>,
) -> (Vec<Pod>, Vec<Value>) {
    let nodes = lab.node_names(cluster);
    let read = part(cluster, None, documents, &nodes, refusals);
    let Part { mut pods, services, mut objects, .. } = read;
    refuse_name_server(&pods, &services, documents, refusals);
    let has_names = lab.external.iter().any(|host| !host.names.is_empty());
    if has_names || !services.is_empty() {
        pods.iter_mut().for_each(|pod| pod.role = Role::Client);
        pods.push(names::pod(lab, cluster));
        objects.push(names::service());
        pods.sort_by(by_name);
    }
    objects.extend(service::objects(services, lab, &[], refusals));
    place(&mut pods, &nodes);
    add_missing_namespaces(&pods, &mut objects);
    (pods, objects)
}

/// Everything of a cluster but the lab itself.
fn part(
    cluster: Option<&str>,
    lab: Option<LabObject>,
    documents: &[Document],
    nodes: &[String],
    refusals: &mut Vec<Refusal>,
) -> Part {
    let mut part = Part {
        cluster: cluster.map(str::to_owned),
        lab,
        pods: vec![],
        workloads: vec![],
        services: vec![],
        objects: vec![],
    };
    for document in documents {
        match document.kind.as_str() {
            lab_object::KIND => {}
            "Pod" => part.pods.extend(pod::read(document, nodes, refusals)),
            kind if workload::KINDS.contains(&kind) => {
                let Some(Workload { owner, pods }) = workload::read(document, nodes, refusals)
                else {
                    continue;
                };
                part.workloads.push(owner);
                part.pods.extend(pods);
            }
            "Service" => part.services.extend(service::read(document, refusals)),
            kind if PASSED_ON.contains(&kind) => part.objects.push(document.root.to_json()),
            kind => {
                let reason = format!(
                    "the lab cannot run a {kind}; it runs Pods, {}, Services, Namespaces and policies",
                    workload::KINDS.map(|kind| format!("{kind}s")).join(", ")
                );
                refusals.push(Field::root(document).refuse(reason, None));
            }
        }
    }
    refuse_policies(documents, refusals);
    part.pods.iter_mut().for_each(|pod| pod.cluster.clone_from(&part.cluster));
    part.pods.sort_by(by_name);
    refuse_twins(&part.pods, documents, refusals);
    part
}

fn by_name(left: &Pod, right: &Pod) -> std::cmp::Ordering {
    (&left.namespace, &left.name).cmp(&(&right.namespace, &right.name))
}

fn lab_object(documents: &[Document], refusals: &mut Vec<Refusal>) -> LabObject {
    let mut labs = documents.iter().filter(|document| document.kind == lab_object::KIND);
    let Some(first) = labs.next() else { return LabObject::default() };
    for second in labs {
        refusals.push(Field::root(second).refuse("a directory describes one Lab", None));
    }
    lab_object::read(first, refusals)
}

/// The Lab is described once, beside the manifests of its first cluster.
fn refuse_second_lab(cluster: Option<&str>, documents: &[Document], refusals: &mut Vec<Refusal>) {
    let Some(cluster) = cluster else { return };
    for lab in documents.iter().filter(|document| document.kind == lab_object::KIND) {
        let reason = format!("`{cluster}` is a cluster of a lab that is described elsewhere");
        refusals.push(Field::root(lab).refuse(reason, None));
    }
}

fn name_from(
    directory: &Path,
    documents: &[Document],
    refusals: &mut Vec<Refusal>,
) -> Option<LabName> {
    let name = directory.file_name().map(|name| name.to_string_lossy().into_owned());
    match name.unwrap_or_default().parse() {
        Ok(name) => Some(name),
        Err(error) => {
            let lab = documents.iter().find(|document| document.kind == lab_object::KIND);
            let root = Field::root(lab.or(documents.first())?);
            refusals.push(root.refuse(format!("{error}"), Some("set `metadata.name` of a Lab")));
            None
        }
    }
}

/// Whatever the agents would refuse is refused before anything is started.
fn refuse_policies(documents: &[Document], refusals: &mut Vec<Refusal>) {
    refusals.extend(manifest::policies(documents).refusals);
}

fn refuse_twins(pods: &[Pod], documents: &[Document], refusals: &mut Vec<Refusal>) {
    for pair in pods.windows(2) {
        let [left, right] = pair else { continue };
        if (&left.namespace, &left.name) == (&right.namespace, &right.name) {
            let makes = |document: &&Document| match &right.owner {
                Some(owner) => document.kind == owner.kind && document.name() == owner.name,
                None => document.root.to_json() == right.object,
            };
            let object = documents.iter().rev().find(makes);
            if let Some(document) = object {
                let reason = format!("a pod `{}/{}` exists already", left.namespace, left.name);
                refusals.push(Field::root(document).refuse(reason, None));
            }
        }
    }
}

/// The lab brings its own name server, so that it is the same everywhere.
fn refuse_name_server(
    pods: &[Pod],
    services: &[service::Service],
    documents: &[Document],
    refusals: &mut Vec<Refusal>,
) {
    let pods = pods.iter().map(|pod| ("Pod", &pod.namespace, &pod.name));
    let services = services.iter().map(|it| ("Service", &it.namespace, &it.name));
    for (kind, namespace, name) in pods.chain(services) {
        let own = [("Pod", names::POD), ("Service", names::SERVICE)];
        if namespace != names::NAMESPACE || !own.contains(&(kind, name.as_str())) {
            continue;
        }
        let written = documents.iter().find(|it| it.kind == kind && it.name() == name);
        let reason = format!("the lab makes the {kind} `{namespace}/{name}` itself");
        refusals.extend(written.map(|it| Field::root(it).refuse(reason, Some("leave it out"))));
    }
}

/// Pods that no manifest places go to the nodes in turn.
fn place(pods: &mut [Pod], nodes: &[String]) {
    let unplaced = pods.iter_mut().filter(|pod| pod.node.is_none());
    for (pod, node) in unplaced.zip(nodes.iter().cycle()) {
        pod.node = Some(node.clone());
    }
}

/// As in a cluster, no pod is without a Namespace object.
pub fn add_missing_namespaces(pods: &[Pod], objects: &mut Vec<Value>) {
    let exists = |name: &str| {
        objects
            .iter()
            .any(|object| object["kind"] == "Namespace" && object["metadata"]["name"] == name)
    };
    let missing: BTreeSet<_> =
        pods.iter().map(|pod| pod.namespace.clone()).filter(|name| !exists(name)).collect();
    for name in missing {
        objects.push(serde_json::json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        }));
    }
}
