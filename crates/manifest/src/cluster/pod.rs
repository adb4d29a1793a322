//! Pods, and the pods that other kinds make.

use std::collections::BTreeMap;

use model::{Node, Pod, PodName};

use crate::cluster::{Fault, labels, namespace, port, protocol};
use crate::document::{Document, Node as Written, Value};

/// Kinds that make pods from a template.
pub(super) const WORKLOADS: [&str; 7] = [
    "CronJob",
    "DaemonSet",
    "Deployment",
    "Job",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
];

/// A pod; none, if it has ended.
pub(super) fn pod(document: &Document) -> Result<Option<Pod>, Fault> {
    let root = &document.root;
    let phase = root.path(&["status", "phase"]).and_then(Written::as_str);
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Ok(None);
    }
    let name = PodName { namespace: namespace(document), name: document.name().to_owned() };
    let mut pod = of_spec(name, root.get("spec"));
    pod.labels = labels(root, &["metadata", "labels"])?;
    let status = root.get("status");
    let written = status.and_then(|status| status.get("podIPs")).map(Written::items);
    for entry in written.unwrap_or_default() {
        let Some(ip) = entry.get("ip") else { continue };
        pod.addresses.push(super::address(ip, "status.podIPs")?);
    }
    if let (true, Some(ip)) = (pod.addresses.is_empty(), status.and_then(|s| s.get("podIP"))) {
        pod.addresses.push(super::address(ip, "status.podIP")?);
    }
    Ok(Some(pod))
}

/// The pod that stands for all pods of a workload, under the workload's name:
/// policies see no difference between them.
pub(super) fn of_workload(document: &Document) -> Result<Pod, Fault> {
    let root = &document.root;
    let template: &[&str] = match document.kind.as_str() {
        "CronJob" => &["spec", "jobTemplate", "spec", "template"],
        _ => &["spec", "template"],
    };
    let name = PodName { namespace: namespace(document), name: document.name().to_owned() };
    let spec = root.path(template).and_then(|template| template.get("spec"));
    let mut pod = of_spec(name, spec);
    pod.labels = labels(root, &[template, &["metadata", "labels"]].concat())?;
    pod.workload = Some((document.kind.clone(), document.name().to_owned()));
    Ok(pod)
}

/// The pod that a lab with names makes by itself, to answer for them.
pub(super) fn name_server(node: Option<&Node>) -> Pod {
    let name = PodName { namespace: "kube-system".to_owned(), name: "coredns".to_owned() };
    let labels = BTreeMap::from([("k8s-app".to_owned(), "kube-dns".to_owned())]);
    let ports = [("dns".to_owned(), (17, 53)), ("dns-tcp".to_owned(), (6, 53))].into();
    let node = node.map(|node| node.name.clone()).unwrap_or_default();
    Pod { labels, ports, node, ..of_spec(name, None) }
}

fn of_spec(name: PodName, spec: Option<&Written>) -> Pod {
    let text = |field: &str| {
        let text = spec.and_then(|spec| spec.get(field)).and_then(Written::as_str);
        text.unwrap_or_default().to_owned()
    };
    let host = spec.and_then(|spec| spec.get("hostNetwork")).map(|node| &node.value);
    let account = match text("serviceAccountName") {
        account if account.is_empty() => text("serviceAccount"),
        account => account,
    };
    Pod {
        name,
        labels: BTreeMap::new(),
        service_account: if account.is_empty() { "default".to_owned() } else { account },
        node: text("nodeName"),
        addresses: Vec::new(),
        host_network: host == Some(&Value::Bool(true)),
        workload: None,
        ports: spec.map(named_ports).unwrap_or_default(),
    }
}

/// Named container ports; of two with one name the first counts.
fn named_ports(spec: &Written) -> BTreeMap<String, (u8, u16)> {
    let mut ports = BTreeMap::new();
    let always = |container: &&Written| {
        container.get("restartPolicy").and_then(Written::as_str) == Some("Always")
    };
    let init = spec.get("initContainers").map(Written::items).unwrap_or_default();
    let containers = spec.get("containers").map(Written::items).unwrap_or_default();
    for container in containers.iter().chain(init.iter().filter(always)) {
        for written in container.get("ports").map(Written::items).unwrap_or_default() {
            let name = written.get("name").and_then(Written::as_str);
            let number = written.get("containerPort").and_then(port);
            if let (Some(name), Some(number)) = (name, number) {
                let name = name.to_ascii_lowercase();
                ports.entry(name).or_insert((protocol(written), number));
            }
        }
    }
    ports
}
