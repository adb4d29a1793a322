//! A cluster's objects as its agents read them: one file each, replaced whole.
//!
//! In a lab this directory stands for the Kubernetes API; each cluster has its own.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::definition::lab_object::Node;
use crate::error::Error;
use crate::journal::replace;

/// Writes one object.
pub fn write(folder: &Path, object: &Value) -> Result<(), Error> {
    replace(&path_of(folder, object), &object.to_string())
}

/// The object of that kind and name as it was last written.
pub fn written(folder: &Path, object: &Value) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(path_of(folder, object)).ok()?).ok()
}

/// Takes an object away; whether there was one.
pub fn remove(folder: &Path, object: &Value) -> Result<bool, Error> {
    let path = path_of(folder, object);
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::file("remove", &path)(error)),
    }
}

/// Where a pod is written.
pub fn pod_file(folder: &Path, namespace: &str, name: &str) -> PathBuf {
    path_of(folder, &json!({"kind": "Pod", "metadata": {"namespace": namespace, "name": name}}))
}

/// `Kind/namespace/name`, with `-` for what is in no namespace.
pub fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let (kind, metadata) = (text(&object["kind"]), &object["metadata"]);
    format!("{kind}/{}/{}", text(&metadata["namespace"]), text(&metadata["name"]))
}

/// Whether an object is a policy, of whichever of the kinds.
pub fn is_policy(object: &Value) -> bool {
    object["kind"].as_str().is_some_and(|kind| kind.ends_with("NetworkPolicy"))
}

/// All objects, by the names of their files.
pub fn read_all(folder: &Path) -> Result<Vec<Value>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::file("list", folder))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        // Others write here, too: what is no object is nobody.
        Ok(serde_json::from_str(&text).unwrap_or_default())
    };
    let objects = paths.into_iter().filter(|path| path.extension().is_some_and(|it| it == "json"));
    objects.map(read).collect()
}

fn path_of(folder: &Path, object: &Value) -> PathBuf {
    let text = |value: &Value| value.as_str().unwrap_or("-").replace('/', "_");
    let kind = text(&object["kind"]);
    let (namespace, name) =
        (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    folder.join(format!("{kind}.{namespace}.{name}.json"))
}

/// A Node as the API server would show it.
pub fn node(node: &Node) -> Value {
    let addresses: Vec<_> = node
        .addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": node.labels,
            "annotations": node.annotations,
        },
        "spec": {"podCIDR": node.pod_cidrs.first(), "podCIDRs": node.pod_cidrs},
        "status": {"addresses": addresses},
    })
}

/// A Pod as the API server would show it: placed, and with addresses once it has any.
pub fn pod(manifest: &Value, namespace: &str, node: &str, addresses: &[IpAddr]) -> Value {
    let mut object = manifest.clone();
    object["metadata"]["namespace"] = json!(namespace);
    object["spec"]["nodeName"] = json!(node);
    let ips: Vec<_> = addresses.iter().map(|address| json!({"ip": address})).collect();
    object["status"] = match addresses.first() {
        Some(first) => json!({"phase": "Running", "podIP": first, "podIPs": ips}),
        None => json!({"phase": "Pending"}),
    };
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_no_addresses_before_the_network_gave_it_some() {
        let manifest = json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": {}});
        let before = pod(&manifest, "web", "node-1", &[]);
        assert_eq!(before["status"].get("podIPs"), None);
        assert_eq!(before["spec"]["nodeName"], "node-1");
        assert_eq!(before["metadata"]["namespace"], "web");
        let after = pod(&manifest, "web", "node-1", &["10.244.1.2".parse().unwrap()]);
        assert_eq!(after["status"]["podIPs"], json!([{"ip": "10.244.1.2"}]));
    }

    #[test]
    fn objects_of_different_kinds_or_namespaces_have_files_of_their_own() {
        let folder = Path::new("cluster");
        let file = |kind: &str, namespace: Option<&str>| {
            path_of(
                folder,
                &json!({"kind": kind, "metadata": {"name": "a", "namespace": namespace}}),
            )
        };
        assert_ne!(file("Pod", Some("x")), file("Pod", Some("y")));
        assert_ne!(file("Pod", Some("x")), file("CiliumNetworkPolicy", Some("x")));
        assert_ne!(file("Namespace", None), file("Pod", Some("x")));
    }
}
