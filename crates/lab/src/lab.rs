//! A lab that exists: the handle that commands and tests work with.

use std::path::Path;
use std::time::Duration;

use crate::cgroup::Hierarchies;
use crate::container;
use crate::daemons;
use crate::definition::pod::Role;
use crate::definition::{self, names};
use crate::down::{remove, remove_shared};
use crate::error::Error;
use crate::exec::Exec;
use crate::groups::Groups;
use crate::journal::{Container, Daemon, Journal, Pod};
use crate::launch::{Launch, Output};
use crate::objects;
use crate::places::{LabName, Places};
use crate::plan;
use crate::pods;
use crate::registry::{self, Claim, SharedClaim};
use crate::site::Site;
use crate::up::{self, Options};

/// A lab that exists, as its journal says.
#[derive(Clone, Debug)]
pub struct Lab {
    /// Its paths.
    pub places: Places,
    /// What it consists of.
    pub journal: Journal,
}

impl Lab {
    /// Makes the lab that a directory of manifests describes, and waits until it
    /// is whole. What fails on the way is undone.
    pub fn up(directory: &Path, options: &Options) -> Result<Self, Error> {
        let journal = up::up(directory, true, options)?;
        Ok(Self { places: Places::new(journal.name.parse()?), journal })
    }

    /// As [`Self::up`], but with none of the directory's policies.
    pub fn up_without_policies(directory: &Path, options: &Options) -> Result<Self, Error> {
        let journal = up::up(directory, false, options)?;
        Ok(Self { places: Places::new(journal.name.parse()?), journal })
    }

    /// The lab of that name; without a name, the only one.
    pub fn open(name: Option<&LabName>) -> Result<Self, Error> {
        let name = registry::find(name)?;
        let places = Places::new(name);
        let half = || Error::Malformed {
            what: format!("lab `{}`", places.name()),
            detail: format!(
                "only remains of it exist; clear them with `signet lab down {}`",
                places.name()
            ),
        };
        let journal = Journal::read(&places.journal())?.ok_or_else(half)?;
        Ok(Self { places, journal })
    }

    /// The right to change it, which nobody else has then; with what it consists of
    /// at that moment.
    pub fn claim(&mut self) -> Result<Claim, Error> {
        let claim = Claim::on(&self.places)?;
        *self = Self::open(Some(self.places.name()))?;
        Ok(claim)
    }

    /// Takes it away.
    pub fn down(self) -> Result<(), Error> {
        down(self.places.name())
    }

    /// Its cgroups.
    pub fn groups(&self) -> Result<Groups, Error> {
        let hierarchies = Hierarchies::find()?.ok_or_else(Error::no_cgroups)?;
        Ok(Groups::of(&self.places, &hierarchies))
    }

    /// Ends the agent of a node, if it runs, and starts another one.
    pub fn restart_agent(&mut self, node: &str, options: &Options) -> Result<(), Error> {
        let site = self.site(options)?;
        let is_agent = |daemon: &Daemon| daemon.node.as_deref() == Some(node);
        for agent in self.journal.daemons.iter().filter(|daemon| is_agent(daemon)) {
            agent.process.kill();
        }
        let starting = daemons::start_agent(&site, site.node(node)?)?;
        self.journal.daemons.retain(|daemon| !is_agent(daemon));
        self.journal.daemons.push(starting.entry.clone());
        self.journal.write(&self.places.journal())?;
        starting.wait()
    }

    /// Ends a pod and starts it anew: new containers, a new interface, the next
    /// addresses.
    pub fn restart_pod(&mut self, name: &str, options: &Options) -> Result<(), Error> {
        let node = self.pod(name)?.node.clone();
        self.move_pod(name, &node, options)
    }

    /// Ends a pod and starts it on a node, which may be the one it was on. What it
    /// is called, and who it is, stays.
    pub fn move_pod(&mut self, name: &str, node: &str, options: &Options) -> Result<(), Error> {
        let site = self.site(options)?;
        let entry = self.pod(name)?.clone();
        if site.node(node)?.cluster != entry.cluster {
            let name = entry.full_name();
            return Err(Error::Unknown(format!("node `{node}` is not of the cluster of `{name}`")));
        }
        let wanted = self.written_pod(&entry)?;
        self.replace_pod(&site, &entry.full_name(), &wanted, node)
    }

    /// Ends a pod and starts what is wanted in its place.
    pub(crate) fn replace_pod(
        &mut self,
        site: &Site,
        name: &str,
        wanted: &definition::pod::Pod,
        node: &str,
    ) -> Result<(), Error> {
        let mut replaced = Ok(());
        if let Some(entry) = self.journal.pods.iter_mut().find(|pod| pod.full_name() == name) {
            pods::stop(site, entry)?;
            let old = std::mem::replace(entry, plan::pod(wanted)?);
            entry.owner = old.owner;
            node.clone_into(&mut entry.node);
            replaced = pods::start(site, entry, wanted);
        }
        self.journal.write(&self.places.journal())?;
        replaced
    }

    /// What the cluster's objects say of a pod. The name server is in no manifest: it
    /// is made of the whole lab's.
    fn written_pod(&self, entry: &Pod) -> Result<definition::pod::Pod, Error> {
        let is_server =
            |namespace: &str, name: &str| (namespace, name) == (names::NAMESPACE, names::POD);
        if is_server(&entry.namespace, &entry.name) {
            let pods = definition::read(&self.journal.directory)?.pods;
            let server = pods
                .into_iter()
                .find(|pod| pod.cluster == entry.cluster && is_server(&pod.namespace, &pod.name));
            return server.ok_or_else(|| {
                let directory = self.journal.directory.display();
                Error::Unknown(format!(
                    "the manifests in `{directory}` need no name server any more"
                ))
            });
        }
        let cluster = entry.cluster.as_deref();
        let nodes: Vec<_> = self.journal.nodes_of(cluster).map(|node| node.name.clone()).collect();
        let folder = self.places.objects(cluster);
        let file = objects::pod_file(&folder, &entry.namespace, &entry.name);
        let text = std::fs::read_to_string(&file).map_err(Error::file("read", &file))?;
        let mut pod = definition::read_pod(&file, &text, &nodes)?;
        pod.cluster.clone_from(&entry.cluster);
        let mut others = self.journal.pods.iter().filter(|it| it.cluster == entry.cluster);
        if others.any(|it| is_server(&it.namespace, &it.name)) {
            pod.role = Role::Client;
        }
        Ok(pod)
    }

    /// Runs a command in a pod to its end and returns what it left.
    pub fn output(&self, exec: &Exec, limit: Duration) -> Result<Output, Error> {
        let pod = self.pod(&exec.pod)?;
        let container = pod.container(exec.container.as_deref())?;
        let launch = Launch {
            what: "run a command in a pod",
            cgroup: &self.groups()?.probes(),
            netns: None,
            command: container::exec(&self.places, &container.id, false, &exec.command),
        };
        launch.output(&[], b"", limit)
    }

    pub(crate) fn site(&self, options: &Options) -> Result<Site, Error> {
        Ok(Site {
            groups: self.groups()?,
            places: self.places.clone(),
            signet: options.signet.clone(),
            cluster: self.journal.cluster.clone(),
            cni: self.journal.cni.clone(),
            agent: self.journal.agent.clone(),
            nodes: self.journal.nodes.clone(),
        })
    }

    /// The pod called `namespace/name` (`cluster/namespace/name`), or the first of the workload of that name.
    pub fn pod(&self, name: &str) -> Result<&Pod, Error> {
        let pods = || self.journal.pods.iter();
        let found = pods().find(|pod| pod.full_name() == name);
        let found = found.or_else(|| pods().find(|pod| pod.workload().as_deref() == Some(name)));
        found.ok_or_else(|| self.unknown_pod(name))
    }

    pub(crate) fn unknown_pod(&self, name: &str) -> Error {
        let all: Vec<_> = self.journal.pods.iter().map(Pod::full_name).collect();
        let lab = &self.journal.name;
        Error::Unknown(format!("lab `{lab}` has no pod `{name}`; it has {}", all.join(", ")))
    }
}

impl Pod {
    /// Its container of that name; without a name, the first.
    pub fn container(&self, name: Option<&str>) -> Result<&Container, Error> {
        let matches = |it: &&Container| name.is_none_or(|name| it.name == name);
        self.containers.iter().find(matches).ok_or_else(|| {
            let all: Vec<_> = self.containers.iter().map(|it| it.name.as_str()).collect();
            let name = name.unwrap_or_default();
            Error::Unknown(format!(
                "pod `{}` has no container `{name}`; it has {}",
                self.full_name(),
                all.join(", ")
            ))
        })
    }
}

/// Takes a lab away, in whatever state it is. No error when there is none.
pub fn down(name: &LabName) -> Result<(), Error> {
    let places = Places::new(name.clone());
    // Without a folder nobody can be at work on it: `up` makes that first.
    let claim = if places.run().exists() { Some(Claim::on(&places)?) } else { None };
    remove(&places)?;
    drop(claim);
    let _shared = SharedClaim::take()?;
    remove_shared()
}
