//! What a `Lab` object says about a cluster, and what holds where it says nothing.
//!
//! Whoever makes the lab generates the same: so a question asked of the manifests
//! is about the cluster that they become.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::{Node, Pod};

use super::{Fault, addresses, labels, ranges, reserved};
use crate::document::Node as Written;

/// Nodes of a lab that names none.
const NODES: u16 = 2;

/// The node with everything generated: 172.20.0.0/16 and fd00:172:20::/48 for
/// nodes, 10.244.0.0/16 and fd00:10:244::/48 for pods. Numbers look the same in
/// both families, so that people recognise them. `None` beyond what that holds.
pub fn generated(index: usize, name: String) -> Option<Node> {
    let number = u8::try_from(index + 1).ok()?;
    let own = number.checked_add(10)?;
    // Hexadecimal digits that read as the decimal number.
    let digits = |number: u8| u16::from_str_radix(&number.to_string(), 16).ok();
    let v4 = Ipv4Net::new([10, 244, number, 0].into(), 24).ok()?;
    let v6 = [0xfd00, 0x10, 0x244, digits(number)?, 0, 0, 0, 0];
    let v6 = Ipv6Net::new(v6.into(), 64).ok()?;
    let address = [0xfd00, 0x172, 0x20, 0, 0, 0, 0, digits(own)?];
    Some(Node {
        name,
        labels: BTreeMap::new(),
        addresses: vec![[172, 20, 0, own].into(), address.into()],
        pod_cidrs: vec![IpNet::V4(v4), IpNet::V6(v6)],
        reserved: BTreeMap::new(),
    })
}

/// The nodes of the lab's other clusters: a lab does not join its clusters.
pub(super) fn apart(lab: &Written) -> Result<BTreeMap<String, Vec<Node>>, Fault> {
    let mut before = nodes(lab)?.len();
    let mut apart = BTreeMap::new();
    for cluster in lab.path(&["spec", "clusters"]).map(Written::items).unwrap_or_default() {
        let name = cluster.get("name").and_then(Written::as_str).unwrap_or_default();
        let written = cluster.get("nodes").map(Written::items).unwrap_or_default();
        let nodes = written.iter().zip(before..).map(|(node, index)| read(index, node));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        before += nodes.len();
        apart.insert(name.to_owned(), nodes);
    }
    Ok(apart)
}

/// The nodes of a lab's first cluster, in the order written.
pub(super) fn nodes(lab: &Written) -> Result<Vec<Node>, Fault> {
    let Some(written) = lab.path(&["spec", "nodes"]) else {
        let node = |number: u16| generated(number.into(), format!("node-{}", number + 1));
        return Ok((0..NODES).filter_map(node).collect());
    };
    written.items().iter().enumerate().map(|(index, node)| read(index, node)).collect()
}

fn read(index: usize, written: &Written) -> Result<Node, Fault> {
    let name = written.get("name").and_then(Written::as_str).unwrap_or_default();
    let mut node = generated(index, name.to_owned()).unwrap_or_default();
    name.clone_into(&mut node.name);
    node.labels = labels(written, &["labels"])?;
    node.reserved = reserved::of(written.get("annotations"), "spec.nodes.annotations")?;
    let (own, pods) = (
        addresses(written.get("addresses"), "spec.nodes.addresses")?,
        ranges(written.get("podCIDRs"), "spec.nodes.podCIDRs")?,
    );
    if !own.is_empty() {
        node.addresses = own;
    }
    if !pods.is_empty() {
        node.pod_cidrs = pods;
    }
    Ok(node)
}

/// Whether a lab gives names to hosts outside: then it has a name server.
pub(super) fn names_hosts(lab: &Written) -> bool {
    let hosts = lab.path(&["spec", "external"]).map(Written::items).unwrap_or_default();
    hosts.iter().any(|host| host.get("names").is_some_and(|names| !names.items().is_empty()))
}

/// Pods that no manifest places go to the nodes in turn, by namespace and name.
pub(super) fn place(pods: &mut [Pod], nodes: &[Node]) {
    let mut unplaced: Vec<&mut Pod> = pods.iter_mut().filter(|pod| pod.node.is_empty()).collect();
    unplaced.sort_by(|left, right| left.name.cmp(&right.name));
    for (pod, node) in unplaced.into_iter().zip(nodes.iter().cycle()) {
        node.name.clone_into(&mut pod.node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_the_same_in_both_families() {
        let node = generated(11, "x".to_owned()).unwrap();
        let texts: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["172.20.0.22", "fd00:172:20::22"]);
        let texts: Vec<String> = node.pod_cidrs.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.244.12.0/24", "fd00:10:244:12::/64"]);
        assert_eq!(generated(300, String::new()), None);
    }

    #[test]
    fn nodes_of_other_clusters_are_no_nodes_of_this_one() {
        let text = "apiVersion: signet.dev/v1alpha1\nkind: Lab\nspec:\n  nodes: [{name: a}]\n  \
                    clusters:\n  - {name: far, nodes: [{name: b}]}\n";
        let (cluster, refusals) = crate::cluster(&crate::read("f", text).unwrap());
        assert!(refusals.is_empty(), "{refusals:?}");
        assert_eq!(cluster.nodes.len(), 1);
        let far = &cluster.apart["far"];
        assert_eq!(far[0].pod_cidrs, generated(1, String::new()).unwrap().pod_cidrs);
    }

    #[test]
    fn what_a_lab_does_not_say_is_what_it_becomes() {
        let text = "apiVersion: signet.dev/v1alpha1\nkind: Lab\nspec:\n  nodes:\n  - name: a\n  - {name: b, addresses: [192.0.2.1]}\n---\n\
                    apiVersion: v1\nkind: Pod\nmetadata: {name: q, namespace: n}\n---\n\
                    apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: n}\n---\n\
                    apiVersion: v1\nkind: Pod\nmetadata: {name: w, namespace: n}\nspec: {nodeName: b}\n";
        let documents = crate::read("f", text).unwrap();
        let (cluster, refusals) = crate::cluster(&documents);
        assert!(refusals.is_empty(), "{refusals:?}");
        let node = |name: &str| cluster.nodes.iter().find(|node| node.name == name).unwrap();
        assert_eq!(node("a").addresses, generated(0, String::new()).unwrap().addresses);
        assert_eq!(node("b").addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(node("b").pod_cidrs, generated(1, String::new()).unwrap().pod_cidrs);
        let places: Vec<_> = cluster.pods.iter().map(|pod| (&*pod.name.name, &*pod.node)).collect();
        assert_eq!(places, [("q", "b"), ("p", "a"), ("w", "b")]);
        let (cluster, _) = crate::cluster(
            &crate::read("f", "apiVersion: signet.dev/v1alpha1\nkind: Lab\n").unwrap(),
        );
        let names: Vec<_> = cluster.nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(names, ["node-1", "node-2"]);
    }
}
