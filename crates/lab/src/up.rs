//! Makes a lab: checks everything, writes down what will exist, then makes it.
//!
//! What fails midway is undone before the error is told. What is killed midway
//! is undone by `down`, which needs nothing but the names.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::container;
use crate::container::bundle::Placement;
use crate::daemons::{self, Starting};
use crate::definition::pod::Role;
use crate::definition::{self, Definition};
use crate::dns;
use crate::down;
use crate::error::Error;
use crate::groups::Groups;
use crate::journal::{self, Journal};
use crate::link;
use crate::listening;
use crate::mounts;
use crate::netns::Netns;
use crate::objects;
use crate::places::{FABRIC, Places};
use crate::plan;
use crate::pods;
use crate::preflight;
use crate::process::Process;
use crate::progress::{Progress, check_interrupt};
use crate::ready;
use crate::registry::{Claim, SharedClaim};
use crate::side_by_side::side_by_side;
use crate::site::Site;
use crate::stations;
use crate::topology::{Station, Topology};

/// How a lab is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `signet` program: agent, relay and CNI plugin.
    pub signet: PathBuf,
    /// Whether to ask the relay at the end if every pod is enforced everywhere.
    /// Only programs that stand in for `signet` in tests have nobody to ask.
    pub confirm: bool,
    /// Say nothing on the way.
    pub quiet: bool,
}

impl Options {
    /// With the running program as `signet`.
    pub fn new() -> Result<Self, Error> {
        let signet = std::env::current_exe().map_err(Error::file("find", "the signet program"))?;
        Ok(Self { signet, confirm: true, quiet: false })
    }
}

/// Makes the lab that a directory describes; without its policies it is the flat
/// network that Kubernetes starts with.
pub fn up(directory: &Path, policies: bool, options: &Options) -> Result<Journal, Error> {
    let progress = Progress::start(options.quiet);
    let mut definition = definition::read(directory)?;
    if !policies {
        let elsewhere = definition.elsewhere.iter_mut().map(|(_, objects)| objects);
        for objects in elsewhere.chain([&mut definition.objects]) {
            objects.retain(|object| !objects::is_policy(object));
        }
    }
    let places = Places::new(definition.name.clone());
    let hierarchies = preflight::check(&definition, &places, &options.signet)?;
    let mut journal = plan::journal(&definition)?;
    let site = Site {
        groups: Groups::of(&places, &hierarchies),
        places,
        signet: options.signet.clone(),
        cluster: definition.cluster.clone(),
        cni: journal.cni.clone(),
        agent: journal.agent.clone(),
        nodes: journal.nodes.clone(),
    };
    progress.say(&format!(
        "lab `{}` (nodes {}, pods {}, external hosts {})",
        journal.name,
        journal.nodes.len(),
        journal.pods.len(),
        journal.external.len()
    ));
    let claim = claim(&site, &journal)?;
    let made = make(&site, &definition, &mut journal, options, &progress);
    match made {
        Ok(()) => Ok(journal),
        Err(error) => Err(undo(&site, claim, error, &progress)),
    }
}

/// Takes down what exists, and returns the error that is worth telling.
fn undo(site: &Site, claim: Claim, error: Error, progress: &Progress) -> Error {
    progress.say("failed: taking down what exists");
    let undone = down::remove(&site.places).and_then(|()| {
        drop(claim);
        let _shared = SharedClaim::take()?;
        down::remove_shared()
    });
    match (undone, check_interrupt()) {
        (Err(cleanup), _) => Error::NotUndone { failure: error.chain(), cleanup: cleanup.chain() },
        // Children get the terminal's signal too, and fail because of it.
        (Ok(()), Err(interrupted)) => interrupted,
        (Ok(()), Ok(())) => error,
    }
}

/// Takes the lab's name: from here on there is something to take down.
fn claim(site: &Site, journal: &Journal) -> Result<Claim, Error> {
    let run = site.places.run();
    let _shared = SharedClaim::take()?;
    fs::DirBuilder::new().mode(0o755).create(&run).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::Exists { name: journal.name.clone(), path: run.clone() }
        }
        _ => Error::file("create", &run)(error),
    })?;
    Claim::on(&site.places)
}

fn make(
    site: &Site,
    definition: &Definition,
    journal: &mut Journal,
    options: &Options,
    progress: &Progress,
) -> Result<(), Error> {
    let path = site.places.journal();
    journal.write(&path)?;
    {
        let _shared = SharedClaim::take()?;
        mounts::mount_bpffs()?;
    }
    prepare(site)?;
    for pod in &definition.pods {
        pods::write_settings(&site.places, pod)?;
    }
    join(journal, site)?;
    progress.say("network: nodes and external hosts are joined, IPv4 and IPv6");
    write_objects(site, definition)?;
    let mut starting: Vec<Starting> = Vec::new();
    for node in &journal.nodes {
        starting.push(daemons::start_agent(site, node)?);
    }
    starting.push(daemons::start_relay(site)?);
    journal.daemons = starting.iter().map(|daemon| daemon.entry.clone()).collect();
    journal.write(&path)?;
    start_external(site, &definition.external, &mut journal.external)?;
    starting.into_iter().try_for_each(Starting::wait)?;
    progress.say("agents answer");
    start_pods(site, &definition.pods, &mut journal.pods, progress)?;
    journal.write(&path)?;
    listening::wait(&site.places, journal)?;
    if options.confirm {
        ready::wait(site, journal)?;
        progress.say("every pod is enforced, and every node knows every pod");
        // Nobody's way into a machine depends on a lab's nodes.
        ready::confirm(site)?;
    }
    journal.ready = true;
    journal.write(&path)
}

/// Puts before agents what they read, each cluster's what is its own.
fn write_objects(site: &Site, definition: &Definition) -> Result<(), Error> {
    let others = definition.elsewhere.iter().map(|(name, objects)| (Some(name.as_str()), objects));
    for (cluster, objects) in others.chain([(None, &definition.objects)]) {
        let folder = site.places.objects(cluster);
        objects.iter().try_for_each(|object| objects::write(&folder, object))?;
    }
    for node in &definition.nodes {
        let folder = site.places.objects(node.cluster.as_deref());
        objects::write(&folder, &objects::node(node))?;
    }
    Ok(())
}

/// Starts pods, name servers first: the first thing that a pod does may need a name.
fn start_pods(
    site: &Site,
    pods: &[definition::pod::Pod],
    entries: &mut [journal::Pod],
    progress: &Progress,
) -> Result<(), Error> {
    let is_server = |pod: &definition::pod::Pod| pod.role == Role::NameServer;
    let (servers, others): (Vec<_>, Vec<_>) =
        pods.iter().zip(entries).partition(|(pod, _)| is_server(pod));
    side_by_side(servers, |(pod, entry)| {
        pods::start(site, entry, pod)?;
        dns::wait(&Netns::at(site.places.netns(&entry.member())), &site.places.logs())?;
        progress.say(&format!("pod {} on {}: names are answered", entry.full_name(), entry.node));
        Ok(())
    })?;
    side_by_side(others, |(pod, entry)| {
        pods::start(site, entry, pod)?;
        progress.say(&format!("pod {} on {}", entry.full_name(), entry.node));
        Ok(())
    })
}

/// Folders, cgroups, and the file system that containers see.
fn prepare(site: &Site) -> Result<(), Error> {
    let places = &site.places;
    let shared = [places.bundles(), places.logs(), places.runtime()];
    let states = site.nodes.iter().map(|node| places.state(&node.name));
    let objects = site.nodes.iter().map(|node| places.objects(node.cluster.as_deref()));
    for folder in shared.into_iter().chain(states).chain(objects) {
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    }
    site.groups.create(site.nodes.iter().map(|node| node.name.as_str()))?;
    mounts::bind_root_read_only(&places.rootfs())?;
    check_interrupt()
}

/// Makes the namespaces of nodes, external hosts and fabric, and joins them.
fn join(journal: &Journal, site: &Site) -> Result<(), Error> {
    let nodes = journal.nodes.iter().map(stations::of_node);
    let hosts = journal.external.iter().map(|host| Station {
        name: host.name.clone(),
        addresses: host.addresses.clone(),
        behind: vec![],
    });
    let topology = Topology::of(&nodes.chain(hosts).collect::<Vec<_>>(), FABRIC);
    let fabric = stations::create(site, FABRIC, true)?;
    for (wire, setup) in topology.wires.iter().zip(&topology.stations) {
        check_interrupt()?;
        let is_node = journal.nodes.iter().any(|node| node.name == wire.station);
        let station = stations::create(site, &wire.station, is_node)?;
        link::connect(&fabric, &station, wire)?;
        link::configure(&station, setup)?;
    }
    link::configure(&fabric, &topology.fabric)
}

/// Starts what runs outside the cluster, some at a time.
fn start_external(
    site: &Site,
    hosts: &[definition::lab_object::External],
    entries: &mut [journal::External],
) -> Result<(), Error> {
    let work: Vec<_> = hosts.iter().zip(entries).collect();
    side_by_side(work, |(host, entry)| {
        let mut container = definition::pod::Container::pause(&host.name);
        if !host.command.is_empty() {
            container.command.clone_from(&host.command);
        }
        let placement = Placement {
            container: &container,
            hostname: &host.name,
            rootfs: &site.places.rootfs(),
            netns: &site.places.netns(&host.name),
            cgroup: site.groups.external(&entry.container.id),
            views: &[],
        };
        let log = site.places.logs().join(format!("{}.log", host.name));
        let id = &entry.container.id;
        let pid = container::start(&site.places, id, &placement, &site.groups.setup(), &log)?;
        entry.container.process = Process::of(pid);
        Ok(())
    })
}
