//! Takes out of a running lab what manifests name.

use std::path::Path;

use crate::apply::{Change, policies};
use crate::definition;
use crate::definition::pod::Pod;
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
        options: &Options,
        say: &mut dyn FnMut(Change),
    ) -> Result<(), Error> {
        let names: Vec<_> = self.journal.nodes.iter().map(|node| node.name.clone()).collect();
        let present = objects::read_all(&self.places)?;
        let part = definition::read_part(path, &names, &present)?;
        let owners: Vec<_> = part.workloads.iter().map(ToString::to_string).collect();
        let wanted: Vec<_> = part.pods.iter().map(Pod::full_name).collect();
        let is_named = |pod: &&crate::journal::Pod| {
            let owned = pod.owner.as_ref().is_some_and(|owner| owners.contains(owner));
            owned || wanted.contains(&pod.full_name())
        };
        let pods = self.journal.pods.iter().filter(is_named);
        let names: Vec<_> = pods.map(crate::journal::Pod::full_name).collect();
        for name in names {
            self.remove_pod(&name, options)?;
            say(Change::new(format!("Pod/{name}"), "removed"));
        }
        for object in &part.objects {
            let removed = objects::remove(&self.places, object)?;
            let outcome = if removed { "removed" } else { "was not there" };
            say(Change::new(objects::name(object), outcome));
        }
        if options.confirm {
            let names = policies(&part.objects);
            ready::wait_for_policies(&self.site(options)?, &self.journal, &names, false)?;
        }
        self.settle(options)
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
        objects::remove(&self.places, &object)?;
        self.journal.write(&self.places.journal())
    }
}
