//! What will exist, with names for everything: the journal's first form.

use crate::container;
use crate::definition::Definition;
use crate::definition::clusters::Cluster;
use crate::definition::lab_object::{External, Node};
use crate::definition::pod::Pod;
use crate::error::Error;
use crate::journal::{self, Journal};

/// Of a whole lab.
pub fn journal(definition: &Definition) -> Result<Journal, Error> {
    Ok(Journal {
        version: journal::VERSION,
        name: definition.name.to_string(),
        directory: definition.directory.clone(),
        cluster: definition.cluster.clone(),
        clusters: definition.clusters.iter().map(cluster).collect(),
        cni: definition.cni.clone(),
        agent: definition.agent.clone(),
        ready: false,
        nodes: definition.nodes.iter().map(node).collect(),
        external: definition.external.iter().map(external).collect::<Result<_, _>>()?,
        links: definition.nodes.len() + definition.external.len(),
        pods: definition.pods.iter().map(pod).collect::<Result<_, _>>()?,
        daemons: vec![],
    })
}

fn cluster(cluster: &Cluster) -> journal::Cluster {
    journal::Cluster { name: cluster.name.clone(), manifests: cluster.manifests.clone() }
}

/// Of a node.
pub fn node(node: &Node) -> journal::Node {
    journal::Node {
        name: node.name.clone(),
        cluster: node.cluster.clone(),
        addresses: node.addresses.clone(),
        pod_cidrs: node.pod_cidrs.clone(),
    }
}

/// Of a pod that has been placed.
pub fn pod(pod: &Pod) -> Result<journal::Pod, Error> {
    let containers = pod
        .containers
        .iter()
        .map(|it| container(&it.name, it.ready_port))
        .collect::<Result<_, _>>();
    let owner = pod.owner.as_ref();
    Ok(journal::Pod {
        cluster: pod.cluster.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        node: pod.node.clone().unwrap_or_default(),
        sandbox: container::new_id()?,
        addresses: vec![],
        containers: containers?,
        owner: owner.map(ToString::to_string),
        host_network: pod.host_network,
    })
}

fn external(host: &External) -> Result<journal::External, Error> {
    Ok(journal::External {
        name: host.name.clone(),
        addresses: host.addresses.clone(),
        container: container(&host.name, None)?,
        listens: host.listens.clone(),
    })
}

fn container(name: &str, ready_port: Option<u16>) -> Result<journal::Container, Error> {
    let id = container::new_id()?;
    Ok(journal::Container { name: name.to_owned(), id, process: None, ready_port })
}
