//! The lab's name server: an ordinary pod behind an ordinary service, so that
//! policies about `kube-dns` mean what they mean in a cluster.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::definition::lab_object::LabObject;
use crate::definition::pod::{Container, Pod, Role, Security};
use crate::dns;

/// Where it is.
pub const NAMESPACE: &str = "kube-system";
/// Name of its service.
pub const SERVICE: &str = "kube-dns";
/// Name of its pod.
pub const POD: &str = "coredns";
/// Where it is asked, as is customary.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));
const ADDRESS_V6: &str = "fd00:10:96::10";

/// The label by which everybody knows it.
fn labels() -> Value {
    json!({"k8s-app": "kube-dns"})
}

/// The service.
pub fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE, "labels": labels()},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ADDRESS,
            "clusterIPs": [ADDRESS, ADDRESS_V6],
            "ipFamilies": ["IPv4", "IPv6"],
            "selector": labels(),
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    })
}

/// Whether an object is that service: only labs with names have it.
pub fn is_service(object: &Value) -> bool {
    let metadata = &object["metadata"];
    object["kind"] == "Service" && metadata["name"] == SERVICE && metadata["namespace"] == NAMESPACE
}

/// The pod of a cluster, with the names of external hosts.
pub fn pod(lab: &LabObject, cluster: Option<&str>) -> Pod {
    let mut command =
        [dns::PROGRAM, "lab", "dns", "--cluster-dir", dns::CLUSTER].map(str::to_owned).to_vec();
    for host in &lab.external {
        let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
        for name in &host.names {
            command.extend(["--host".to_owned(), format!("{name}={}", addresses.join(","))]);
        }
    }
    let security = Security {
        add: vec!["NET_BIND_SERVICE".into()],
        drop: vec!["ALL".into()],
        ..Security::default()
    };
    let ports = json!([
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
    ]);
    Pod {
        cluster: cluster.map(str::to_owned),
        namespace: NAMESPACE.to_owned(),
        name: POD.to_owned(),
        node: lab.node_names(cluster).into_iter().next(),
        host_network: false,
        containers: vec![Container { command, security, ..Container::pause(POD) }],
        object: json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": POD, "namespace": NAMESPACE, "labels": labels()},
            "spec": {"containers": [{"name": POD, "ports": ports}]},
        }),
        owner: None,
        role: Role::NameServer,
    }
}
