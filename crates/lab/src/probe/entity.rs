//! Ends of probes by what they are: which node, or which address, that is here.

use std::net::IpAddr;

use serde_json::Value;

use crate::journal::Journal;
use crate::lab::Lab;
use crate::objects;
use crate::probe::end::pod_name;
use crate::probe::file::Family;

/// The text for an end with its entity replaced by a node or an address that is
/// it, as seen from the `other` end. Any other text stays as it is.
pub fn named(text: &str, other: &str, family: Family, lab: &Lab) -> Result<String, String> {
    let nobody = || format!("the lab has no {text} for {other}");
    match text {
        "entity:host" => {
            let node = node_of(other, &lab.journal).ok_or_else(nobody)?;
            Ok(format!("node:{node}"))
        }
        "entity:remote-node" => {
            let own = node_of(other, &lab.journal);
            let cluster = own.and_then(|node| lab.journal.cluster_of(node));
            let mut nodes = lab.journal.nodes_of(cluster).map(|node| node.name.as_str());
            let node = nodes.find(|node| Some(*node) != own).ok_or_else(nobody)?;
            Ok(format!("node:{node}"))
        }
        "entity:kube-apiserver" => {
            let objects = objects_around(other, lab)?;
            let mut servers = objects.iter().filter(|it| is_api_server(it)).flat_map(addresses);
            let address = servers.find(|address| address.is_ipv4() == (family == Family::V4));
            Ok(format!("ip:{}", address.ok_or_else(nobody)?))
        }
        "entity:health" | "entity:ingress" => {
            let objects = objects_around(other, lab)?;
            let nodes = objects.iter().filter(|object| object["kind"] == "Node");
            let mut addresses = nodes.flat_map(|node| {
                let text = |key: &str| node["metadata"]["annotations"].get(key)?.as_str();
                manifest::reserved_addresses(text).unwrap_or_default()
            });
            let found = addresses.find(|(address, reserved)| {
                text.ends_with(reserved.name()) && address.is_ipv4() == (family == Family::V4)
            });
            Ok(format!("ip:{}", found.ok_or_else(nobody)?.0))
        }
        _ => Ok(text.to_owned()),
    }
}

/// The objects of the cluster that an end is in.
fn objects_around(end: &str, lab: &Lab) -> Result<Vec<Value>, String> {
    let cluster = node_of(end, &lab.journal).and_then(|node| lab.journal.cluster_of(node));
    objects::read_all(&lab.places.objects(cluster)).map_err(|error| error.chain())
}

/// The node that an end is on, or is.
fn node_of<'a>(end: &str, journal: &'a Journal) -> Option<&'a str> {
    let (kind, name) = end.split_once(':')?;
    match kind {
        "pod" | "cluster" => {
            let name = pod_name(end, journal);
            journal.pods.iter().find(|pod| Some(pod.full_name()) == name).map(|pod| &*pod.node)
        }
        "node" => journal.nodes.iter().find(|node| node.name == name).map(|node| &*node.name),
        _ => None,
    }
}

/// Kubernetes says where its API is served as for any service: `default/kubernetes`.
fn is_api_server(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let service = match object["kind"].as_str() {
        Some("Endpoints") => &metadata["name"],
        Some("EndpointSlice") => &metadata["labels"]["kubernetes.io/service-name"],
        _ => return false,
    };
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    namespace == "default" && service == "kubernetes"
}

fn addresses(object: &Value) -> Vec<IpAddr> {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of_endpoints = items(&object["subsets"]).into_iter().flat_map(|subset| {
        let addresses = items(&subset["addresses"]);
        addresses.into_iter().map(|address| address["ip"].clone()).collect::<Vec<_>>()
    });
    let of_slice = items(&object["endpoints"]).into_iter();
    let of_slice = of_slice.flat_map(|endpoint| items(&endpoint["addresses"]));
    of_endpoints.chain(of_slice).filter_map(|text| text.as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_api_server_is_at_the_endpoints_of_its_service() {
        let slice = json!({
            "kind": "EndpointSlice",
            "metadata": {
                "name": "x",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "endpoints": [{"addresses": ["192.0.2.10"]}, {"addresses": ["192.0.2.11"]}],
        });
        let endpoints = json!({
            "kind": "Endpoints",
            "metadata": {"name": "kubernetes"},
            "subsets": [{"addresses": [{"ip": "2001:db8::1"}]}],
        });
        let web = json!({"kind": "Endpoints", "metadata": {"name": "web"}});
        assert!(is_api_server(&slice) && is_api_server(&endpoints) && !is_api_server(&web));
        let texts = |object| addresses(object).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&slice), ["192.0.2.10", "192.0.2.11"]);
        assert_eq!(texts(&endpoints), ["2001:db8::1"]);
    }
}
