//! Makes a running lab what manifests say: creates, changes, moves, restarts, and
//! leaves alone what already is so.
//!
//! What manifests do not mention stays; only pods that a mentioned workload no
//! longer has, and nodes that a mentioned Lab no longer has, go.

use std::collections::BTreeSet;
use std::path::Path;

use crate::definition::pod::{Pod, qualified};
use crate::definition::workload::Owner;
use crate::definition::{self, Part};
use crate::error::Error;
use crate::lab::Lab;
use crate::listening;
use crate::nodes;
use crate::objects;
use crate::plan;
use crate::pods;
use crate::preflight;
use crate::ready;
use crate::up::Options;

/// Names of the policies among objects, as agents tell them.
pub(crate) fn policies(objects: &[serde_json::Value]) -> BTreeSet<String> {
    let policies = objects.iter().filter(|object| objects::is_policy(object));
    let name = |object| match objects::name(object).split_once("/-/") {
        Some((kind @ ("CiliumNetworkPolicy" | "NetworkPolicy"), name)) => {
            format!("{kind}/default/{name}")
        }
        _ => objects::name(object),
    };
    policies.map(name).collect()
}

/// One thing that became of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// `Kind/namespace/name`.
    pub object: String,
    /// What became of it: `created`, `changed`, `removed`, ...
    pub outcome: String,
}

impl Change {
    pub(crate) fn new(object: impl Into<String>, outcome: impl Into<String>) -> Self {
        Self { object: object.into(), outcome: outcome.into() }
    }
}

impl Lab {
    /// Applies a file, or all manifests of a directory, to the cluster of that name, else
    /// to the one it belongs to; `say` hears of each change as it is made. Ends when the
    /// agents enforce it.
    pub fn apply(
        &mut self,
        path: &Path,
        cluster: Option<&str>,
        options: &Options,
        say: &mut dyn FnMut(Change),
    ) -> Result<(), Error> {
        let parts = self.parts(path, cluster)?;
        let lab = parts.iter().find_map(|part| part.lab.as_ref());
        let unmet: Vec<_> =
            parts.iter().flat_map(|it| preflight::unknown_commands(&it.pods, &[])).collect();
        if !unmet.is_empty() {
            return Err(Error::Unmet(unmet));
        }
        if let Some(wanted) = lab {
            nodes::refuse_what_cannot_change(&self.journal, wanted)?;
            nodes::add_missing(self, wanted, options, say)?;
        }
        for part in &parts {
            self.apply_objects(part, say)?;
            self.remove_surplus(part, options, say)?;
            for pod in &part.pods {
                let change = self.apply_pod(pod, options)?;
                say(change);
            }
        }
        if let Some(wanted) = lab {
            nodes::remove_surplus(self, wanted, options, say)?;
        }
        for part in parts.iter().filter(|_| options.confirm) {
            let (names, cluster) = (policies(&part.objects), part.cluster.as_deref());
            ready::wait_for_policies(&self.site(options)?, &self.journal, cluster, &names, true)?;
        }
        self.settle(options)
    }

    /// Waits until all agents enforce what was written.
    pub(crate) fn settle(&self, options: &Options) -> Result<(), Error> {
        if options.confirm {
            ready::wait(&self.site(options)?, &self.journal)?;
        }
        listening::wait(&self.places, &self.journal)
    }

    fn apply_objects(&self, part: &Part, say: &mut dyn FnMut(Change)) -> Result<(), Error> {
        let cluster = part.cluster.as_deref();
        let folder = self.places.objects(cluster);
        let mut wanted = part.objects.clone();
        definition::add_missing_namespaces(&part.pods, &mut wanted);
        // A namespace that nobody wrote has no labels to change.
        let (written, made) = wanted.split_at(part.objects.len());
        for object in written {
            let outcome = match objects::written(&folder, object) {
                Some(before) if before == *object => "unchanged",
                Some(_) => "changed",
                None => "created",
            };
            if outcome != "unchanged" {
                objects::write(&folder, object)?;
            }
            say(Change::new(qualified(cluster, &objects::name(object)), outcome));
        }
        let new = made.iter().filter(|object| objects::written(&folder, object).is_none());
        new.into_iter().try_for_each(|object| objects::write(&folder, object))
    }

    /// Pods of a workload that has fewer now.
    fn remove_surplus(
        &mut self,
        part: &Part,
        options: &Options,
        say: &mut dyn FnMut(Change),
    ) -> Result<(), Error> {
        let owners: Vec<_> = part.workloads.iter().map(Owner::to_string).collect();
        let wanted: Vec<_> = part.pods.iter().map(Pod::full_name).collect();
        let is_surplus = |pod: &crate::journal::Pod| {
            pod.cluster == part.cluster
                && pod.owner.as_ref().is_some_and(|owner| owners.contains(owner))
                && !wanted.contains(&pod.full_name())
        };
        let pods: Vec<_> = self.journal.pods.iter().filter(|it| is_surplus(it)).cloned().collect();
        for pod in pods {
            self.remove_pod(&pod.full_name(), options)?;
            say(Change::new(pod.object_name(), "removed"));
        }
        Ok(())
    }

    fn apply_pod(&mut self, wanted: &Pod, options: &Options) -> Result<Change, Error> {
        let name = wanted.full_name();
        let object_name = plan::pod(wanted)?.object_name();
        let change = |outcome: String| Change::new(object_name.clone(), outcome);
        let site = self.site(options)?;
        let folder = self.places.objects(wanted.cluster.as_deref());
        let Some(entry) = self.journal.pods.iter().find(|pod| pod.full_name() == name).cloned()
        else {
            let mut wanted = wanted.clone();
            let node =
                wanted.node.take().unwrap_or_else(|| self.emptiest_node(wanted.cluster.as_deref()));
            wanted.node = Some(node.clone());
            let mut entry = plan::pod(&wanted)?;
            let started = pods::start(&site, &mut entry, &wanted);
            self.journal.pods.push(entry);
            self.journal.pods.sort_by_key(crate::journal::Pod::full_name);
            self.journal.write(&self.places.journal())?;
            return started.map(|()| change(format!("created on {node}")));
        };
        let node = wanted.node.clone().unwrap_or_else(|| entry.node.clone());
        let object = objects::pod(&wanted.object, &entry.namespace, &node, &entry.addresses);
        let before = objects::written(&folder, &object).unwrap_or_default();
        if node != entry.node {
            self.replace_pod(&site, &name, wanted, &node)?;
            return Ok(change(format!("moved from {} to {node}", entry.node)));
        }
        if before == object {
            return Ok(change("unchanged".into()));
        }
        if before["spec"] == object["spec"] && wanted.owner.is_none() {
            objects::write(&folder, &object)?;
            return Ok(change("relabelled".into()));
        }
        self.replace_pod(&site, &name, wanted, &node)?;
        // The next one only goes when this one serves.
        listening::wait(&self.places, &self.journal)?;
        Ok(change("replaced".into()))
    }

    /// Where a pod goes that nobody places.
    fn emptiest_node(&self, cluster: Option<&str>) -> String {
        let pods = |node: &str| self.journal.pods.iter().filter(|pod| pod.node == node).count();
        let nodes = self.journal.nodes_of(cluster).map(|node| &node.name);
        nodes.min_by_key(|node| pods(node)).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policies_are_told_by_the_namespace_that_they_are_in() {
        let objects = [
            json!({"kind": "NetworkPolicy", "metadata": {"name": "a"}}),
            json!({"kind": "CiliumNetworkPolicy", "metadata": {"name": "b", "namespace": "web"}}),
            json!({"kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "c"}}),
            json!({"kind": "Namespace", "metadata": {"name": "d"}}),
        ];
        let want = [
            "CiliumClusterwideNetworkPolicy/-/c",
            "CiliumNetworkPolicy/web/b",
            "NetworkPolicy/default/a",
        ];
        assert_eq!(policies(&objects), want.map(str::to_owned).into());
    }
}
