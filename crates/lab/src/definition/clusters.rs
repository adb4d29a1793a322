//! Clusters beside the lab's first: each has nodes and manifests of its own, and
//! the clusters know nothing of each other but addresses.

use std::path::PathBuf;

use manifest::Refusal;

use crate::definition::fields::Field;
use crate::definition::lab_object::{LabObject, read_nodes};

/// The fields of an entry of `spec.clusters`.
pub(super) const CLUSTER: &[&str] = &["name", "manifests", "nodes"];
/// Most clusters beside the first.
const MOST: usize = 8;

/// A cluster beside the first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cluster {
    /// Name, part of every pod's identity.
    pub name: String,
    /// Folder of its manifests, from the folder of the Lab.
    pub manifests: PathBuf,
}

/// Reads `spec.clusters`; their nodes join those of the lab.
pub fn read(spec: &Field<'_>, lab: &mut LabObject, refusals: &mut Vec<Refusal>) {
    let fields = spec.items("clusters", refusals);
    if let Some(field) = fields.get(MOST) {
        refusals.push(field.refuse(format!("a lab has at most {MOST} other clusters"), None));
    }
    for field in fields {
        field.only(CLUSTER, refusals);
        let Some(name) = field.name_at("name", refusals) else { continue };
        if name == lab.cluster || lab.clusters.iter().any(|it| it.name == name) {
            let reason = format!("`{name}` is taken; clusters need names of their own");
            refusals.push(field.refuse(reason, None));
            continue;
        }
        let mut nodes = read_nodes(&field, lab.nodes.len(), refusals);
        if nodes.is_empty() {
            refusals.push(field.refuse("a cluster has at least one node", Some("write `nodes`")));
        }
        nodes.iter_mut().for_each(|node| node.cluster = Some(name.clone()));
        lab.nodes.append(&mut nodes);
        let manifests = field.text_at("manifests", refusals);
        let manifests = manifests.unwrap_or_else(|| format!("clusters/{name}")).into();
        lab.clusters.push(Cluster { name, manifests });
    }
}

impl LabObject {
    /// Names of a cluster's nodes.
    pub fn node_names(&self, cluster: Option<&str>) -> Vec<String> {
        let nodes = self.nodes.iter().filter(|node| node.cluster.as_deref() == cluster);
        nodes.map(|node| node.name.clone()).collect()
    }
}
