//! Which cluster of a running lab manifests are about, and what they ask of it.

use std::fs;
use std::path::Path;

use crate::definition::lab_object::LabObject;
use crate::definition::{self, Before, Part};
use crate::error::Error;
use crate::lab::Lab;
use crate::objects;

impl Lab {
    /// What a file or directory asks of each cluster that it is about. Without a name
    /// that is the cluster whose manifests it is among, else the first; a directory
    /// with the Lab is about all of them.
    pub(crate) fn parts(&self, path: &Path, cluster: Option<&str>) -> Result<Vec<Part>, Error> {
        let cluster = self.cluster_called(path, cluster)?;
        let first = definition::read_part(path, &self.before(cluster.as_deref(), None)?)?;
        let folder = if path.is_dir() { Some(path) } else { path.parent() };
        let mut parts = Vec::new();
        if let (Some(lab), Some(folder)) = (&first.lab, folder) {
            for other in &lab.clusters {
                let known = self.journal.clusters.iter().any(|it| it.name == other.name);
                // One that is not there cannot be added: it is told where Labs are compared.
                if known && path.is_dir() {
                    let before = self.before(Some(&other.name), Some(lab))?;
                    parts.push(definition::read_part(&folder.join(&other.manifests), &before)?);
                }
            }
        }
        parts.insert(0, first);
        Ok(parts)
    }

    /// The cluster as it is; with the nodes that it is to have, if a Lab says so.
    fn before(&self, cluster: Option<&str>, wanted: Option<&LabObject>) -> Result<Before, Error> {
        let nodes = match wanted {
            Some(lab) => lab.node_names(cluster),
            None => self.journal.nodes_of(cluster).map(|node| node.name.clone()).collect(),
        };
        let objects = objects::read_all(&self.places.objects(cluster))?;
        Ok(Before { cluster: cluster.map(str::to_owned), nodes, objects })
    }

    fn cluster_called(&self, path: &Path, name: Option<&str>) -> Result<Option<String>, Error> {
        let others = &self.journal.clusters;
        if let Some(name) = name {
            if name == self.journal.cluster {
                return Ok(None);
            }
            let all = self.journal.all_clusters().map(|it| it.unwrap_or(&self.journal.cluster));
            let all = all.collect::<Vec<_>>().join(", ");
            let known = others.iter().find(|it| it.name == name);
            let unknown =
                || Error::Unknown(format!("the lab has no cluster `{name}`; it has {all}"));
            return known.map(|it| Some(it.name.clone())).ok_or_else(unknown);
        }
        let path = fs::canonicalize(path).map_err(Error::file("find", path))?;
        let folder = |it: &&crate::journal::Cluster| {
            fs::canonicalize(&it.manifests).is_ok_and(|folder| path.starts_with(folder))
        };
        Ok(others.iter().find(folder).map(|it| it.name.clone()))
    }
}
