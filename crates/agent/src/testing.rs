//! A small cluster for tests: two nodes, four pods, one policy.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use datapath::Limits;
use model::{EndpointRecord, IdentityId, LabelFilter, PodName};
use source::Snapshot;

use crate::planner::{Inputs, LastGood, Plan, PlanOptions};
use crate::trial::NodePolicies;

/// `payment/api` may be reached by `web/front` on TCP 8080 and by nobody else.
pub(crate) const CLUSTER: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDRs: [10.1.0.0/24, 'fd00:1::/64']}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: node-2}
spec: {podCIDRs: [10.2.0.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: payment, labels: {team: pci}}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: payment, labels: {app: api}}
spec:
  nodeName: node-1
  containers: [{name: main, ports: [{name: http, containerPort: 8080}]}]
status: {podIPs: [{ip: 10.1.0.5}, {ip: 'fd00:1::5'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: payment, labels: {app: db}}
spec: {nodeName: node-1}
status: {podIPs: [{ip: 10.1.0.6}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: front-1
  namespace: web
  labels: {app: front}
  ownerReferences: [{kind: StatefulSet, name: front, controller: true}]
spec: {nodeName: node-2}
status: {podIPs: [{ip: 10.2.0.7}]}
---
apiVersion: v1
kind: Pod
metadata: {name: proxy, namespace: kube-system, labels: {app: front}}
spec: {nodeName: node-2, hostNetwork: true}
status: {podIPs: [{ip: 192.168.0.2}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: payment}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: front, 'k8s:io.kubernetes.pod.namespace': web}}]
    toPorts: [{ports: [{port: '8080', protocol: TCP}]}]
";

/// The only rule of [`CLUSTER`].
pub(crate) const RULE: &str = "CiliumNetworkPolicy/payment/api#spec.ingress[0]";

pub(crate) fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn pod(name: &str) -> PodName {
    let (namespace, name) = name.split_once('/').unwrap();
    PodName { namespace: namespace.into(), name: name.into() }
}

/// A record as the CNI plugin leaves it.
pub(crate) fn record(name: &str, ifindex: u32, texts: &[&str]) -> EndpointRecord {
    EndpointRecord {
        container_id: format!("container-{ifindex}"),
        pod: pod(name),
        pod_interface: "eth0".into(),
        host_interface: format!("sg{ifindex}"),
        ifindex,
        mac: [2, 0, 0, 0, 0, u8::try_from(ifindex).unwrap()],
        addresses: addresses(texts),
        netns_id: 40 + i32::try_from(ifindex).unwrap(),
    }
}

pub(crate) fn api() -> EndpointRecord {
    record("payment/api", 5, &["10.1.0.5", "fd00:1::5"])
}

pub(crate) fn db() -> EndpointRecord {
    record("payment/db", 6, &["10.1.0.6"])
}

/// The text as a cluster; all of it must be accepted.
pub(crate) fn snapshot(text: &str) -> Arc<Snapshot> {
    let snapshot = source::read("cluster.yaml", text);
    assert_eq!(snapshot.refused, []);
    Arc::new(snapshot)
}

/// Policies about the node are confirmed.
pub(crate) fn inputs(text: &str, records: &[EndpointRecord]) -> Inputs {
    let snapshot = snapshot(text);
    let labels = crate::planner::subject_labels(&snapshot, &options());
    let present = crate::trial::of_the_node(&snapshot, &labels).into_values();
    let in_force = present.map(|version| version.policy).collect();
    Inputs {
        node_policies: NodePolicies { in_force, ..NodePolicies::default() },
        snapshot,
        records: records.to_vec(),
        host_addresses: BTreeSet::new(),
        installed: BTreeSet::new(),
    }
}

pub(crate) fn options() -> PlanOptions {
    PlanOptions {
        node: "node-1".into(),
        policy: policy::Options { cluster: "jakarta".into(), ..policy::Options::default() },
        filter: LabelFilter::default(),
        limits: Limits::default(),
    }
}

/// The plan of node-1 for a cluster and records.
pub(crate) fn plan(text: &str, records: &[EndpointRecord]) -> Plan {
    replan(&inputs(text, records), &options(), None)
}

/// The plan after one that is in force.
pub(crate) fn replan(inputs: &Inputs, options: &PlanOptions, before: Option<&Plan>) -> Plan {
    let nothing = LastGood::default();
    let last_good = before.map(|before| LastGood::of_plan(before, &nothing));
    crate::planner::plan(inputs, options, before, &last_good.unwrap_or(nothing))
}

/// The identity of a pod, by its name.
#[track_caller]
pub(crate) fn identity(plan: &Plan, name: &str) -> IdentityId {
    let pod = plan.snapshot.pods.get(&pod(name)).unwrap();
    let namespace = plan.snapshot.namespace(&pod.name.namespace);
    let labels = model::identity_labels(&pod, &namespace, "jakarta", &LabelFilter::default());
    plan.identities.id(&labels).unwrap()
}
