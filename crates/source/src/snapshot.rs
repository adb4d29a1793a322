//! The state of the cluster at one moment, joined from many files.
//!
//! Depends on the set of files only, never on the order in which they came.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{Namespace, Node, PolicyName};
use policy::{Catalogue, Policy, Subject};

use crate::contents::{Contents, Entry, Refused};
use crate::object::{NAMESPACE_NAME, Object, ObjectName, name_of_pod};
use crate::pods::{PackedPod, Pods};
use crate::service::{Service, ServiceName, Serving};

/// Everything known about the cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// By name.
    pub namespaces: BTreeMap<String, Namespace>,
    /// By name.
    pub nodes: BTreeMap<String, Node>,
    /// By namespace and name.
    pub pods: Pods,
    /// Sorted by name.
    pub policies: Vec<Policy>,
    /// The file of each policy.
    pub origins: BTreeMap<PolicyName, String>,
    /// The document of each policy that is about nodes, as one line of JSON.
    pub node_policies: BTreeMap<PolicyName, Arc<str>>,
    /// What was not accepted, in the order of the files.
    pub refused: Vec<Refused>,
    /// Where the Kubernetes API is served.
    pub apiservers: BTreeSet<IpAddr>,
    /// Services, by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// Who serves each service, where the cluster says so.
    pub endpoints: BTreeMap<ServiceName, Vec<Serving>>,
    /// Services and groups of ranges, that rules refer to.
    pub catalogue: Catalogue,
    /// What else an operator may want to know, one sentence each.
    pub notes: Vec<String>,
    /// Notes about pods that two files have.
    pub(crate) replaced_pods: Vec<String>,
}

/// The pods of all files, and notes about those that several have.
fn join_pods(files: &[(&str, &Contents)]) -> (Pods, Vec<String>) {
    let all: Vec<(&str, &PackedPod)> = files
        .iter()
        .flat_map(|(file, contents)| contents.pods.iter().map(move |pod| (*file, pod)))
        .collect();
    let mut notes = Vec::new();
    let pods = Pods::new(&all.iter().map(|(_, pod)| *pod).collect::<Vec<_>>(), |earlier, later| {
        let ((earlier, _), (file, pod)) = (all[earlier], all[later]);
        let name = name_of_pod(pod.name());
        notes.push(format!("{file}: `{name}` takes the place of {earlier}'s"));
    });
    (pods, notes)
}

impl Snapshot {
    /// The namespace of this name; one that nobody declared has its name only.
    pub fn namespace(&self, name: &str) -> Namespace {
        self.namespaces.get(name).cloned().unwrap_or_else(|| Namespace {
            name: name.to_owned(),
            labels: [(NAMESPACE_NAME.to_owned(), name.to_owned())].into(),
        })
    }

    /// Joins the files, sorted by name. Of two objects with one name the later
    /// counts, as when the files are applied one after the other.
    ///
    /// `pods` are those of the files and what is to be said about them, if that is
    /// known from an earlier joining.
    pub(crate) fn join(files: &[(&str, &Contents)], pods: Option<(Pods, Vec<String>)>) -> Self {
        let (pods, replaced) = pods.unwrap_or_else(|| join_pods(files));
        let mut snapshot =
            Self { pods, notes: replaced.clone(), replaced_pods: replaced, ..Self::default() };
        let mut objects: BTreeMap<&ObjectName, (&str, &Entry)> = BTreeMap::new();
        let mut ignored: BTreeMap<&str, usize> = BTreeMap::new();
        for &(file, contents) in files {
            snapshot.refused.extend(contents.refused.iter().cloned());
            snapshot.notes.extend(contents.notes.iter().map(ToString::to_string));
            for kind in &contents.ignored {
                *ignored.entry(kind).or_default() += 1;
            }
            for entry in &contents.objects {
                let name = &entry.name;
                if let Some((earlier, _)) = objects.insert(name, (file, entry)) {
                    snapshot.notes.push(format!("{file}: `{name}` takes the place of {earlier}'s"));
                }
            }
        }
        for (file, entry) in objects.into_values() {
            snapshot.keep_text(entry);
            snapshot.add(file, entry.object.clone());
        }
        snapshot.join_backends();
        snapshot.policies.sort_by(|a, b| a.name.cmp(&b.name));
        let ignored = ignored.into_iter();
        snapshot.notes.extend(ignored.map(|(kind, n)| format!("{n} of kind `{kind}`: not used")));
        snapshot
    }

    /// Policies about nodes are confirmed by who wrote them, version by version.
    fn keep_text(&mut self, entry: &Entry) {
        if let (Object::Policy(policy), Some(text)) = (&entry.object, &entry.text)
            && policy.rules.iter().any(|rule| matches!(rule.subject, Subject::Nodes(_)))
        {
            self.node_policies.insert(policy.name.clone(), Arc::clone(text));
        }
    }

    fn add(&mut self, file: &str, object: Object) {
        match object {
            Object::Namespace(namespace) => {
                self.namespaces.insert(namespace.name.clone(), namespace);
            }
            Object::Node(node) => {
                self.nodes.insert(node.name.clone(), node);
            }
            // Kept apart by `Contents`.
            Object::Pod(_) => {}
            Object::Endpoints(endpoints) => {
                if endpoints.is_api_server() {
                    let all = endpoints.serving.iter();
                    let all = all.flat_map(|serving| serving.ready.iter().chain(&serving.unready));
                    self.apiservers.extend(all);
                }
                self.endpoints.entry(endpoints.service).or_default().extend(endpoints.serving);
            }
            Object::Service(service, catalogue) => {
                self.refer_to(catalogue);
                self.services.insert(service.name.clone(), *service);
            }
            Object::Catalogue(catalogue) => self.refer_to(catalogue),
            Object::Policy(policy) => {
                self.origins.insert(policy.name.clone(), file.to_owned());
                self.policies.push(policy);
            }
        }
    }

    fn refer_to(&mut self, catalogue: Catalogue) {
        self.catalogue.services.extend(catalogue.services);
        self.catalogue.groups.extend(catalogue.groups);
    }

    /// A service without a selector stands for the addresses that are listed for
    /// it; one with a selector for its pods, whatever is listed.
    fn join_backends(&mut self) {
        let services = self.catalogue.services.iter_mut();
        for service in services.filter(|service| service.selector.is_empty()) {
            let (namespace, name) = (service.namespace.clone(), service.name.clone());
            let listed = self.endpoints.get(&ServiceName { namespace, name });
            let listed = listed.into_iter().flatten();
            let ready: BTreeSet<IpAddr> = listed.flat_map(|it| &it.ready).copied().collect();
            service.backends = ready.into_iter().collect();
        }
    }
}
