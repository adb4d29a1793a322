//! Who can be met: labels of every pod, and the identities of everybody.

use std::sync::Arc;

use model::{IdentityBook, LabelPool, Labels, Pod, PodName, identity_labels};
use source::{Pods, Snapshot};

use super::meaning::Meaning;
use super::{Inputs, PlanOptions, addresses};

/// Identity labels of every pod that has an identity of its own. Pods without an
/// address yet are among them, so that their right is compiled when it comes.
#[derive(Clone, Debug)]
pub(super) struct PodLabels {
    pods: Pods,
    /// In the order of the pods; `None`: it is its node.
    labels: Arc<[Option<Labels>]>,
}

impl PodLabels {
    pub fn of(snapshot: &Snapshot, meaning: &Meaning, options: &PlanOptions) -> Self {
        let mut pool = LabelPool::default();
        let labels = snapshot.pods.iter().map(|pod| {
            let namespace = snapshot.namespace(&pod.name.namespace);
            let labels = (!pod.host_network).then(|| {
                identity_labels(&pod, &namespace, &options.policy.cluster, &options.filter)
            })?;
            Some(pool.share(&meaning.references.with_ports(&labels, &pod.ports)))
        });
        Self { labels: labels.collect(), pods: snapshot.pods.clone() }
    }

    /// Labels of the pod of this name.
    pub fn get(&self, name: &PodName) -> Option<&Labels> {
        self.at(self.pods.position(name)?)
    }

    /// Labels of a pod by its place among all.
    pub fn at(&self, position: usize) -> Option<&Labels> {
        self.labels.get(position)?.as_ref()
    }

    /// Every pod that has labels.
    fn iter(&self) -> impl Iterator<Item = (Pod, &Labels)> {
        let pods = self.pods.iter().zip(self.labels.iter());
        pods.filter_map(|(pod, labels)| Some((pod, labels.as_ref()?)))
    }
}

/// Whom identities are for.
pub(super) struct Everybody<'a> {
    pub inputs: &'a Inputs,
    pub options: &'a PlanOptions,
    pub labels: &'a PodLabels,
}

impl Everybody<'_> {
    /// Every label set that can be met: pods, also at each of their addresses,
    /// other nodes, and the ranges that policies name.
    fn sets(&self, meaning: &Meaning) -> Vec<Labels> {
        let snapshot = &self.inputs.snapshot;
        let mut sets: Vec<Labels> = Vec::new();
        for (pod, labels) in self.labels.iter() {
            sets.push(labels.clone());
            let at = pod.addresses.iter().map(|address| meaning.at(labels, *address));
            sets.extend(at.filter(|at| at != labels));
        }
        for record in &self.inputs.records {
            let Some(labels) = self.labels.get(&record.pod) else { continue };
            sets.extend(record.addresses.iter().map(|address| meaning.at(labels, *address)));
        }
        let nodes = addresses::nodes(self.inputs, self.options).into_iter();
        sets.extend(nodes.map(|found| meaning.of_node(snapshot, self.options, found)));
        sets.extend(meaning.references.ranges().map(|(_, labels)| labels));
        sets
    }

    /// The book of all identities; the earlier one if it is the same.
    pub fn identities(
        &self,
        meaning: &Meaning,
        before: Option<&Arc<IdentityBook>>,
    ) -> Arc<IdentityBook> {
        let book = IdentityBook::with_host(meaning.host.clone(), self.sets(meaning));
        match before {
            Some(before) if **before == book => Arc::clone(before),
            _ => Arc::new(book),
        }
    }
}
