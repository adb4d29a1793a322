//! Brings one pod up, or down: network namespace, wiring, containers.
//!
//! The order is what makes a pod safe from its first packet on: its labels are
//! known to the agents before it is wired, the plugin attaches the programs
//! before the link is up and waits until the agent enforces, and only then does
//! the pod's first process start.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::cgroup::Hierarchies;
use crate::container;
use crate::container::bundle::{Placement, View};
use crate::definition::names;
use crate::definition::pod::{Pod, Role};
use crate::dns;
use crate::error::Error;
use crate::journal;
use crate::link;
use crate::netns::Netns;
use crate::objects;
use crate::places::Places;
use crate::plugin;
use crate::process::Process;
use crate::site::Site;

/// Kernel parameters of every namespace.
pub const PARAMETERS: [(&str, &str); 4] = [
    // Nobody else is on any of the links: an address is usable at once.
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

/// Where programs look up who to ask for names: a folder, and a file in it.
const SETTINGS: &str = "/etc";
const RESOLVER: &str = "resolv.conf";

/// Writes what pods find in `/etc`, once for all of a namespace: a file that
/// containers see must not change under them.
pub fn write_settings(places: &Places, pod: &Pod) -> Result<PathBuf, Error> {
    let folder = places.settings(&pod.namespace);
    let file = folder.join(RESOLVER);
    if pod.role == Role::Client && !file.exists() {
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        journal::replace(&file, &dns::resolver(names::ADDRESS, &pod.namespace))?;
    }
    Ok(folder)
}

/// What the pod's containers see of the lab.
fn views(site: &Site, pod: &Pod) -> Result<Vec<View>, Error> {
    match pod.role {
        Role::Nameless => Ok(vec![]),
        Role::NameServer => Ok(vec![
            View::Bind { source: site.signet.clone(), target: dns::PROGRAM },
            View::Bind {
                source: site.places.objects(pod.cluster.as_deref()),
                target: dns::CLUSTER,
            },
        ]),
        Role::Client => {
            let source = write_settings(&site.places, pod)?;
            Ok(vec![View::Over { source, target: SETTINGS }])
        }
    }
}

/// Brings a pod up and writes down what became of it.
pub fn start(site: &Site, entry: &mut journal::Pod, pod: &Pod) -> Result<(), Error> {
    let manifest = |addresses: &[IpAddr]| {
        let object = objects::pod(&pod.object, &entry.namespace, &entry.node, addresses);
        objects::write(&site.places.objects(entry.cluster.as_deref()), &object)
    };
    let netns = site.places.netns(&entry.member());
    let addresses = if entry.host_network {
        site.node(&entry.node)?.addresses.clone()
    } else {
        let netns = Netns::create(&netns)?;
        netns.set_parameters(&PARAMETERS)?;
        link::loopback_up(&netns)?;
        manifest(&[])?;
        plugin::add(site, entry)?
    };
    manifest(&addresses)?;
    entry.addresses = addresses;
    let views = views(site, pod)?;
    for (entry_of, container) in entry.containers.iter_mut().zip(&pod.containers) {
        let placement = Placement {
            container,
            hostname: &pod.name,
            rootfs: &site.places.rootfs(),
            netns: &netns,
            cgroup: site.groups.container(&entry.node, &entry_of.id),
            views: &views,
        };
        let log = site.places.pod_log(&pod.full_name(), &container.name);
        let pid =
            container::start(&site.places, &entry_of.id, &placement, &site.groups.setup(), &log)?;
        entry_of.process = Process::of(pid);
    }
    Ok(())
}

/// Ends a pod: its processes, its interface, its namespace. It keeps its name and
/// its place; what comes next has new ids, as after a crash in a cluster.
pub fn stop(site: &Site, entry: &mut journal::Pod) -> Result<(), Error> {
    let hierarchies = Hierarchies::find()?.ok_or_else(Error::no_cgroups)?;
    for container in &mut entry.containers {
        let group = site.groups.container(&entry.node, &container.id);
        let group = group.strip_prefix("/").unwrap_or(&group);
        hierarchies.kill(group)?;
        container::delete(&site.places, &container.id, &site.groups.setup())?;
        container.id = container::new_id()?;
        container.process = None;
    }
    if !entry.host_network {
        plugin::delete(site, entry)?;
        Netns::at(site.places.netns(&entry.member())).remove()?;
    }
    entry.addresses.clear();
    entry.sandbox = container::new_id()?;
    Ok(())
}
