//! A lab that exists: the handle that commands and tests work with.

use std::path::Path;
use std::time::Duration;

use crate::cgroup::Hierarchies;
use crate::container;
use crate::daemons;
use crate::definition;
use crate::down::{remove, remove_shared};
use crate::error::Error;
use crate::exec::Exec;
use crate::groups::Groups;
use crate::journal::{Container, Daemon, Journal, Pod};
use crate::launch::{Launch, Output};
use crate::places::{LabName, Places};
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
        let journal = up::up(directory, options)?;
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
        let site = self.site(options)?;
        self.pod(name)?;
        let definition = definition::read(&self.journal.directory)?;
        let wanted =
            definition.pods.iter().find(|pod| format!("{}/{}", pod.namespace, pod.name) == name);
        let wanted = wanted.ok_or_else(|| {
            let directory = self.journal.directory.display();
            Error::Unknown(format!("the manifests in `{directory}` have no pod `{name}` any more"))
        })?;
        let path = self.places.journal();
        for entry in self.journal.pods.iter_mut().filter(|pod| pod.full_name() == name) {
            pods::stop(&site, entry)?;
            pods::start(&site, entry, wanted)?;
        }
        self.journal.write(&path)
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

    fn site(&self, options: &Options) -> Result<Site, Error> {
        Ok(Site {
            groups: self.groups()?,
            places: self.places.clone(),
            signet: options.signet.clone(),
            cluster: self.journal.cluster.clone(),
            agent: self.journal.agent.clone(),
            nodes: self.journal.nodes.clone(),
        })
    }

    /// The pod called `namespace/name`.
    pub fn pod(&self, name: &str) -> Result<&Pod, Error> {
        let found = self.journal.pods.iter().find(|pod| pod.full_name() == name);
        found.ok_or_else(|| {
            let all: Vec<_> = self.journal.pods.iter().map(Pod::full_name).collect();
            Error::Unknown(format!(
                "lab `{}` has no pod `{name}`; it has {}",
                self.journal.name,
                all.join(", ")
            ))
        })
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
