//! Takes out of a running lab what manifests name.

use std::path::Path;

use crate::apply::{Change, policies};
use crate::definition::Part;
use crate::definition::pod::{Pod, qualified};
use crate::error::Error;
use crate::lab::Lab;
use crate::objects;
use crate::pods;
use crate::ready;
use crate::up::Options;

impl Lab {
    /// Removes what a file, or all manifests of a directory, name: pods, pods of
    /// workloads, policies and other objects. Nodes and hosts stay.
    pub fn delete(
        &mut self,
        path: &Path,
        cluster: Option<&str>,
        options: &Options,
        say: &mut dyn FnMut(Change),
    ) -> Result<(), Error> {
        for part in self.parts(path, cluster)? {
            self.delete_part(&part, options, say)?;
        }
        self.settle(options)
    }

    fn delete_part(
        &mut self,
        part: &Part,
        options: &Options,
        say: &mut dyn FnMut(Change),
    ) -> Result<(), Error> {
        let cluster = part.cluster.as_deref();
        let folder = self.places.objects(cluster);
        let owners: Vec<_> = part.workloads.iter().map(ToString::to_string).collect();
        let wanted: Vec<_> = part.pods.iter().map(Pod::full_name).collect();
        let is_named = |pod: &&crate::journal::Pod| {
            let owned = pod.owner.as_ref().is_some_and(|owner| owners.contains(owner));
            pod.cluster == part.cluster && (owned || wanted.contains(&pod.full_name()))
        };
        let pods: Vec<_> = self.journal.pods.iter().filter(is_named).cloned().collect();
        for pod in pods {
            self.remove_pod(&pod.full_name(), options)?;
            say(Change::new(pod.object_name(), "removed"));
        }
        for object in &part.objects {
            let removed = objects::remove(&folder, object)?;
            let outcome = if removed { "removed" } else { "was not there" };
            say(Change::new(qualified(cluster, &objects::name(object)), outcome));
        }
        if options.confirm {
            let (site, names) = (self.site(options)?, policies(&part.objects));
            ready::wait_for_policies(&site, &self.journal, cluster, &names, false)?;
        }
        Ok(())
    }

    /// Ends a pod for good.
    pub(crate) fn remove_pod(&mut self, name: &str, options: &Options) -> Result<(), Error> {
        let site = self.site(options)?;
        let Some(index) = self.journal.pods.iter().position(|pod| pod.full_name() == name) else {
            return Ok(());
        };
        let mut entry = self.journal.pods.remove(index);
        pods::stop(&site, &mut entry)?;
        let object = objects::pod(
            &serde_json::json!({"kind": "Pod", "metadata": {"name": entry.name}, "spec": {}}),
            &entry.namespace,
            &entry.node,
            &[],
        );
        objects::remove(&self.places.objects(entry.cluster.as_deref()), &object)?;
        self.journal.write(&self.places.journal())
    }
}
