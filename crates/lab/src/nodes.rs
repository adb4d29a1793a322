//! Nodes that join and leave a running lab.

use std::collections::BTreeSet;
use std::fs;

use crate::apply::Change;
use crate::cgroup::{self, Hierarchies};
use crate::daemons;
use crate::definition::lab_object::{External, LabObject, Node};
use crate::error::Error;
use crate::journal::{Daemon, Journal};
use crate::lab::Lab;
use crate::netns::Netns;
use crate::objects;
use crate::plan;
use crate::stations;
use crate::up::Options;

/// Only nodes can come and go: everything else of a Lab is made with it.
pub fn refuse_what_cannot_change(journal: &Journal, wanted: &LabObject) -> Result<(), Error> {
    let fixed = |what: &str| {
        let end = format!("end it with `signet lab down {}` and make it anew", journal.name);
        Err(Error::Unknown(format!("{what} of a running lab cannot change: {end}")))
    };
    if wanted.cluster != journal.cluster {
        return fixed("the cluster's name");
    }
    if wanted.cni != journal.cni {
        return fixed("the plugin that makes interfaces");
    }
    let clusters = |names: Vec<&String>| names.into_iter().cloned().collect::<BTreeSet<_>>();
    let (now, then) = (&wanted.clusters, &journal.clusters);
    if clusters(now.iter().map(|it| &it.name).collect())
        != clusters(then.iter().map(|it| &it.name).collect())
    {
        return fixed("the other clusters");
    }
    let same = |host: &External| {
        let named = journal.external.iter().find(|it| it.name == host.name);
        named.is_some_and(|it| it.addresses == host.addresses)
    };
    if wanted.external.len() != journal.external.len() || !wanted.external.iter().all(same) {
        return fixed("the hosts outside");
    }
    let moved = |node: &&Node| {
        let before = journal.nodes.iter().find(|it| it.name == node.name);
        before.is_some_and(|it| it != &plan::node(node))
    };
    match wanted.nodes.iter().find(moved) {
        Some(node) => fixed(&format!("the addresses of node `{}`", node.name)),
        None => Ok(()),
    }
}

/// Makes the nodes that are not there yet.
pub fn add_missing(
    lab: &mut Lab,
    wanted: &LabObject,
    options: &Options,
    say: &mut dyn FnMut(Change),
) -> Result<(), Error> {
    let mut changed = false;
    for node in &wanted.nodes {
        if !lab.journal.nodes.iter().any(|it| it.name == node.name) {
            add(lab, node, options)?;
            say(Change::new(format!("Node/-/{}", node.name), "created"));
            changed = true;
        } else {
            objects::write(&lab.places.objects(node.cluster.as_deref()), &objects::node(node))?;
        }
    }
    if changed { daemons::tell_relay(&lab.site(options)?) } else { Ok(()) }
}

/// Takes away the nodes that are not wanted any more; their pods go elsewhere.
pub fn remove_surplus(
    lab: &mut Lab,
    wanted: &LabObject,
    options: &Options,
    say: &mut dyn FnMut(Change),
) -> Result<(), Error> {
    let is_wanted = |name: &str| wanted.nodes.iter().any(|node| node.name == name);
    let surplus: Vec<_> = lab.journal.nodes.iter().map(|node| node.name.clone()).collect();
    let surplus: Vec<_> = surplus.into_iter().filter(|name| !is_wanted(name)).collect();
    for (turn, name) in surplus.iter().enumerate() {
        drain(lab, name, turn, wanted, options, say)?;
        remove(lab, name)?;
        say(Change::new(format!("Node/-/{name}"), "removed"));
    }
    if surplus.is_empty() { Ok(()) } else { daemons::tell_relay(&lab.site(options)?) }
}

fn add(lab: &mut Lab, node: &Node, options: &Options) -> Result<(), Error> {
    let entry = plan::node(node);
    lab.journal.nodes.push(entry.clone());
    let link = lab.journal.links;
    lab.journal.links += 1;
    lab.journal.write(&lab.places.journal())?;
    let site = lab.site(options)?;
    let state = lab.places.state(&node.name);
    fs::create_dir_all(&state).map_err(Error::file("create", &state))?;
    cgroup::create(&site.groups.node(&node.name))?;
    stations::add_node(&site, &entry, link)?;
    objects::write(&lab.places.objects(node.cluster.as_deref()), &objects::node(node))?;
    let starting = daemons::start_agent(&site, &entry)?;
    lab.journal.daemons.push(starting.entry.clone());
    lab.journal.write(&lab.places.journal())?;
    starting.wait()
}

fn drain(
    lab: &mut Lab,
    node: &str,
    turn: usize,
    wanted: &LabObject,
    options: &Options,
    say: &mut dyn FnMut(Change),
) -> Result<(), Error> {
    let pods = lab.journal.pods.iter().filter(|pod| pod.node == node);
    let places = wanted.node_names(lab.journal.cluster_of(node));
    let places = places.into_iter().cycle().skip(turn);
    let moves: Vec<_> = pods.cloned().zip(places).collect();
    for (pod, to) in moves {
        let (name, object) = (pod.full_name(), pod.object_name());
        let is_of_node = pod.owner.as_ref().is_some_and(|owner| owner.starts_with("DaemonSet/"));
        if is_of_node {
            lab.remove_pod(&name, options)?;
            say(Change::new(object, "removed"));
        } else {
            lab.move_pod(&name, &to, options)?;
            say(Change::new(object, format!("moved from {node} to {to}")));
        }
    }
    Ok(())
}

fn remove(lab: &mut Lab, name: &str) -> Result<(), Error> {
    let is_agent = |daemon: &Daemon| daemon.node.as_deref() == Some(name);
    for agent in lab.journal.daemons.iter().filter(|daemon| is_agent(daemon)) {
        agent.process.kill();
    }
    lab.journal.daemons.retain(|daemon| !is_agent(daemon));
    let objects = lab.places.objects(lab.journal.cluster_of(name));
    lab.journal.nodes.retain(|node| node.name != name);
    objects::remove(&objects, &serde_json::json!({"kind": "Node", "metadata": {"name": name}}))?;
    Netns::at(lab.places.netns(name)).remove()?;
    for folder in [lab.places.pins(name), lab.places.state(name)] {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("remove", &folder)(error));
            }
            _ => {}
        }
    }
    let hierarchies = Hierarchies::find()?.ok_or_else(Error::no_cgroups)?;
    // What is still in use goes with the lab.
    let _ = hierarchies.remove(&lab.places.cgroup().join(name));
    lab.journal.write(&lab.places.journal())
}
