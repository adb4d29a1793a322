//! Cases that are easily read wrongly, each written with what is to become of it
//! before it was run (facts: `policy.md` sections 1 to 5).
//!
//! A case is manifests, how `check` takes them, and probes as lines:
//! `FROM -> TO PROTOCOL/PORT [{JSON}] => VERDICT [egress=REASON[:PATH]] [ingress=...]`.

/// How `check` takes manifests.
pub enum Taken {
    /// Without a warning.
    Plainly,
    /// With one that holds this text.
    Warned(&'static str),
    /// Not, for a reason that holds this text.
    Refused(&'static str),
}

pub use Taken::{Plainly, Refused, Warned};

/// One case.
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// Policies, without what all cases share.
    pub policies: &'static str,
    /// How they are taken.
    pub taken: Taken,
    /// Flags of `evaluate`.
    pub flags: &'static [&'static str],
    /// Probes and what becomes of them.
    pub probes: &'static str,
}

/// What all cases share: two namespaces and the system's, two nodes, pods on
/// both, services, an API server outside, groups of ranges.
pub const CLUSTER: &str = r#"
{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {team: red}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: b, labels: {team: blue}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: kube-system}}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {zone: one, kubernetes.io/os: linux}}
spec: {podCIDRs: [10.0.1.0/24, "fd00:1::/64"]}
status: {addresses: [{type: InternalIP, address: 172.16.0.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {zone: two}}
spec: {podCIDRs: [10.0.2.0/24]}
status: {addresses: [{type: InternalIP, address: 172.16.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: a, labels: {app: web}}
spec: {nodeName: n1, serviceAccountName: web, containers: [{name: c}]}
status: {podIPs: [{ip: 10.0.1.1}, {ip: "fd00:1::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: a, labels: {app: db, tier: back}}
spec: {nodeName: n2, containers: [{name: c, ports: [{name: http, containerPort: 8080}, {name: udp, containerPort: 99, protocol: UDP}]}]}
status: {podIPs: [{ip: 10.0.2.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: b, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: c}]}
status: {podIPs: [{ip: 10.0.1.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: b, labels: {app: api}}
spec: {nodeName: n2, containers: [{name: c, ports: [{name: http, containerPort: 9090}]}]}
status: {podIPs: [{ip: 10.0.2.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: a, labels: {app: web}}
spec: {nodeName: n2, hostNetwork: true, containers: [{name: c}]}
status: {podIPs: [{ip: 172.16.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec: {nodeName: n1, containers: [{name: c, ports: [{name: dns, containerPort: 53, protocol: UDP}, {name: dns-tcp, containerPort: 53}]}]}
status: {podIPs: [{ip: 10.0.1.9}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: a, labels: {kind: store}}
spec: {clusterIP: 10.96.0.7, selector: {app: db}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: a, labels: {kind: store}}
spec: {ports: [{port: 5432}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: legacy, namespace: a}
subsets: [{addresses: [{ip: 192.0.2.10}]}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: kubernetes, namespace: default}
subsets: [{addresses: [{ip: 198.18.0.1}]}]
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: partners, labels: {kind: partner, tier: gold}}
spec: {externalCIDRs: [198.51.100.0/24, 203.0.113.0/24]}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumCIDRGroup
metadata: {name: guests, labels: {kind: guest}}
spec: {externalCIDRs: [192.0.2.128/25]}
"#;

/// A `CiliumNetworkPolicy` of namespace `a` for all its pods.
macro_rules! cnp {
    ($rules:literal) => {
        concat!(
            "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p, namespace: \
             a}, spec: {endpointSelector: {}, ",
            $rules,
            "}}\n"
        )
    };
}

/// A second one.
macro_rules! cnp_too {
    ($rules:literal) => {
        concat!(
            "---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: q, \
             namespace: a}, spec: {endpointSelector: {}, ",
            $rules,
            "}}\n"
        )
    };
}

/// A `CiliumClusterwideNetworkPolicy`.
macro_rules! ccnp {
    ($rules:literal) => {
        concat!(
            "{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: p}, \
             spec: {",
            $rules,
            "}}\n"
        )
    };
}

/// A `NetworkPolicy` of namespace `a` for all its pods.
macro_rules! knp {
    ($rules:literal) => {
        concat!(
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: k, namespace: \
             a}, spec: {podSelector: {}, ",
            $rules,
            "}}\n"
        )
    };
}

/// A `ClusterNetworkPolicy` about all pods of namespace `a`.
macro_rules! tiered {
    ($name:literal, $spec:literal) => {
        concat!(
            "---\n{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, \
             metadata: {name: ",
            $name,
            "}, spec: {subject: {namespaces: {matchLabels: {team: red}}}, ",
            $spec,
            "}}\n"
        )
    };
}

const fn case(
    name: &'static str,
    policies: &'static str,
    taken: Taken,
    probes: &'static str,
) -> Case {
    Case { name, policies, taken, flags: &[], probes }
}

const fn flagged(
    name: &'static str,
    flags: &'static [&'static str],
    policies: &'static str,
    taken: Taken,
    probes: &'static str,
) -> Case {
    Case { name, policies, taken, flags, probes }
}

/// Cases about what is absent, null and empty, and about default deny.
pub const EMPTY: &[Case] = &[
    case(
        "an empty rule of a CiliumNetworkPolicy allows nobody",
        cnp!("ingress: [{}]"),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => denied ingress=default-deny:CiliumNetworkPolicy/a/p
         pod:a/db -> pod:a/web TCP/80 => denied egress=unenforced ingress=default-deny
         ip:203.0.113.1 -> pod:a/web TCP/80 => denied
         node:n1 -> pod:a/web TCP/80 => allowed ingress=rule
         pod:a/web -> pod:a/db TCP/80 => denied
         pod:a/web -> ip:203.0.113.1 TCP/80 => allowed egress=unenforced",
    ),
    case(
        "the same text in a NetworkPolicy allows everybody",
        knp!("ingress: [{}]"),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => allowed ingress=rule:ingress[0]
         ip:203.0.113.1 -> pod:a/web ICMP => allowed ingress=rule:ingress[0]",
    ),
    case(
        "no ingress rules of a NetworkPolicy allow nobody, and leave egress alone",
        knp!("egress: []"),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => denied ingress=default-deny:NetworkPolicy/a/k
         pod:a/web -> ip:203.0.113.1 TCP/80 => allowed egress=unenforced",
    ),
    case(
        "an empty list of egress is isolation where the type says so",
        knp!("policyTypes: [Egress], egress: []"),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => allowed ingress=unenforced
         pod:a/web -> ip:203.0.113.1 TCP/80 => denied egress=default-deny",
    ),
    case(
        "an empty list of peers of a NetworkPolicy is everybody, null as well",
        knp!("ingress: [{from: [], ports: [{port: 80}]}, {from: null, ports: [{port: 81}]}]"),
        Plainly,
        "ip:203.0.113.1 -> pod:a/web TCP/80 => allowed
         ip:203.0.113.1 -> pod:a/web TCP/81 => allowed ingress=rule:ingress[1]
         ip:203.0.113.1 -> pod:a/web UDP/80 => denied
         ip:203.0.113.1 -> pod:a/web TCP/82 => denied",
    ),
    case(
        "switches without rules enforce nothing, and are refused",
        cnp!("ingress: [], egress: [], enableDefaultDeny: {ingress: true, egress: true}"),
        Refused("has no rules: it would enforce nothing"),
        "",
    ),
    case(
        "a switch without rules in its direction has no effect",
        cnp!(
            "enableDefaultDeny: {egress: true}, ingress: [{fromEndpoints: [{matchLabels: {app: \
              db}}]}]"
        ),
        Warned("has no effect without rules"),
        "pod:a/web -> ip:203.0.113.1 TCP/80 => allowed egress=unenforced
         pod:b/web -> pod:a/web TCP/80 => denied ingress=default-deny
         pod:a/db -> pod:a/web TCP/80 => allowed ingress=rule:ingress[0]",
    ),
    case(
        "without default deny only what is denied is denied",
        cnp!(
            "enableDefaultDeny: {ingress: false}, ingressDeny: [{fromEndpoints: [{matchLabels: {app: \
              db}}]}]"
        ),
        Plainly,
        "pod:a/db -> pod:a/web TCP/80 => denied ingress=deny-rule:ingressDeny[0]
         pod:b/web -> pod:a/web TCP/80 => allowed
         ip:203.0.113.1 -> pod:a/web TCP/80 => allowed",
    ),
    case(
        "one policy with default deny is enough",
        concat!(
            cnp!("enableDefaultDeny: {ingress: false}, ingress: [{fromEntities: [host]}]"),
            cnp_too!("ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]")
        ),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => denied ingress=default-deny:CiliumNetworkPolicy/a/q
         pod:a/db -> pod:a/web TCP/80 => allowed",
    ),
    case(
        "deny rules alone deny the rest by default",
        cnp!("ingressDeny: [{toPorts: [{ports: [{port: \"80\"}]}]}]"),
        Warned("also deny all other ingress by default"),
        "pod:b/web -> pod:a/web TCP/80 => denied ingress=deny-rule:ingressDeny[0]
         pod:b/web -> pod:a/web TCP/81 => denied ingress=default-deny",
    ),
    case(
        "an empty list of ports is every port and every protocol",
        cnp!("ingress: [{fromEndpoints: [{}], toPorts: []}]"),
        Plainly,
        "pod:a/db -> pod:a/web TCP/1 => allowed
         pod:a/db -> pod:a/web ICMP => allowed
         pod:b/web -> pod:a/web TCP/1 => denied",
    ),
    case(
        "an element without ports is there and allows nothing",
        cnp!("ingress: [{fromEndpoints: [{}], toPorts: [{}]}, {toPorts: [{ports: []}]}]"),
        Warned("names no port: nothing is allowed by it"),
        "pod:a/db -> pod:a/web TCP/1 => denied ingress=default-deny
         pod:a/db -> pod:a/web ICMP => denied",
    ),
    case(
        "an empty list of peers is nobody, ports or not",
        cnp!(
            "ingress: [{fromEndpoints: [], toPorts: [{ports: [{port: \"80\"}]}]}, {fromEntities: []}, \
              {fromCIDR: []}, {fromCIDRSet: []}]"
        ),
        Warned("is an empty list, which is nobody"),
        "pod:a/db -> pod:a/web TCP/80 => denied ingress=default-deny
         ip:203.0.113.1 -> pod:a/web TCP/80 => denied",
    ),
    case(
        "peers that are null are absent: the port is open to everybody",
        cnp!("ingress: [{fromEndpoints: null, toPorts: [{ports: [{port: \"80\"}]}]}]"),
        Warned("lets everybody in"),
        "ip:203.0.113.1 -> pod:a/web TCP/80 => allowed ingress=rule:ingress[0]
         ip:203.0.113.1 -> pod:a/web TCP/81 => denied",
    ),
    case(
        "empty names and services are taken as absent",
        cnp!(
            "egress: [{toFQDNs: [], toPorts: [{ports: [{port: \"80\"}]}]}, {toServices: [], toPorts: \
              [{ports: [{port: \"81\"}]}]}]"
        ),
        Warned("taken as absent"),
        "pod:a/web -> ip:203.0.113.1 TCP/80 => allowed
         pod:a/web -> ip:203.0.113.1 TCP/81 => allowed egress=rule:egress[1]
         pod:a/web -> ip:203.0.113.1 TCP/82 => denied",
    ),
    case(
        "a selector that is null is none",
        "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p, namespace: a}, \
         spec: {endpointSelector: null, ingress: [{}]}}\n",
        Refused("endpointSelector"),
        "",
    ),
    case(
        "an empty selector of peers is the policy's namespace",
        cnp!("ingress: [{fromEndpoints: [{}]}]"),
        Plainly,
        "pod:a/db -> pod:a/web TCP/80 => allowed
         pod:b/web -> pod:a/web TCP/80 => denied
         node:n2 -> pod:a/web TCP/80 => denied
         ip:203.0.113.1 -> pod:a/web TCP/80 => denied",
    ),
    case(
        "in a cluster-wide policy it is every pod, and neither nodes nor the world",
        ccnp!("endpointSelector: {matchLabels: {app: db}}, ingress: [{fromEndpoints: [{}]}]"),
        Plainly,
        "pod:b/web -> pod:a/db TCP/80 => allowed ingress=rule:ingress[0]
         node:n1 -> pod:a/db TCP/80 => denied
         entity:health -> pod:a/db TCP/80 => denied
         ip:203.0.113.1 -> pod:a/db TCP/80 => denied",
    ),
    flagged(
        "enforcement can be everybody's",
        &["--enforcement", "always"],
        cnp!("ingress: [{fromEntities: [all]}]"),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => denied egress=default-deny ingress=rule:ingress[0]
         ip:203.0.113.1 -> pod:a/web TCP/80 => allowed",
    ),
    flagged(
        "enforcement can be nobody's",
        &["--enforcement", "never"],
        cnp!("ingressDeny: [{fromEntities: [all]}]"),
        Warned("deny rules only"),
        "pod:b/web -> pod:a/web TCP/80 => allowed ingress=unenforced",
    ),
    case(
        "who has no labels yet is denied by default without any policy",
        cnp!("ingress: [{}]"),
        Plainly,
        "entity:init -> pod:b/web TCP/80 => denied egress=default-deny ingress=unenforced
         pod:b/web -> entity:init TCP/80 => denied ingress=default-deny",
    ),
];

/// Cases about who peers and subjects are.
pub const PEERS: &[Case] = &[
    case(
        "a subject cannot leave its policy's namespace",
        "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p, namespace: a}, \
         spec: {endpointSelector: {matchLabels: {\"k8s:io.kubernetes.pod.namespace\": b}}, ingress: \
         [{}]}}\n",
        Warned("whatever namespace it asks for"),
        "pod:b/api -> pod:b/web TCP/80 => allowed ingress=unenforced
         pod:b/api -> pod:a/web TCP/80 => denied ingress=default-deny",
    ),
    case(
        "labels of namespaces reach across namespaces",
        cnp!(
            "ingress: [{fromEndpoints: [{matchLabels: {\"k8s:io.cilium.k8s.namespace.labels.team\": \
              blue}}]}]"
        ),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => allowed
         pod:a/db -> pod:a/web TCP/80 => denied",
    ),
    case(
        "any namespace is a namespace that exists",
        cnp!(
            "ingress: [{fromEndpoints: [{matchExpressions: [{key: \
              \"k8s:io.kubernetes.pod.namespace\", operator: Exists}]}]}]"
        ),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => allowed
         node:n2 -> pod:a/web TCP/80 => denied
         cluster:far/pod:b/web -> pod:a/web TCP/80 => denied",
    ),
    case(
        "any cluster is a cluster that exists",
        cnp!(
            "ingress: [{fromEndpoints: [{matchExpressions: [{key: io.cilium.k8s.policy.cluster, \
              operator: Exists}], matchLabels: {\"k8s:io.kubernetes.pod.namespace\": b}}]}]"
        ),
        Plainly,
        "cluster:far/pod:b/web -> pod:a/web TCP/80 => allowed
         pod:b/web -> pod:a/web TCP/80 => allowed
         pod:a/db -> pod:a/web TCP/80 => denied",
    ),
    case(
        "exclusion matches what lacks the key",
        cnp!(
            "ingress: [{fromEndpoints: [{matchExpressions: [{key: tier, operator: NotIn, values: \
              [back]}]}]}, {fromEndpoints: [{matchExpressions: [{key: app, operator: DoesNotExist}]}]}]"
        ),
        Warned("matches nothing: a peer is in the policy's namespace"),
        "pod:a/web -> pod:a/db TCP/80 => allowed ingress=rule:ingress[0]
         pod:a/db -> pod:a/web TCP/80 => denied",
    ),
    case(
        "service accounts are labels",
        cnp!(
            "ingress: [{fromEndpoints: [{matchLabels: {io.cilium.k8s.policy.serviceaccount: web}}]}]"
        ),
        Plainly,
        "pod:a/web -> pod:a/db TCP/80 => allowed
         pod:a/db -> pod:a/web TCP/80 => denied",
    ),
    case(
        "pods on their node's network are their node",
        cnp!("ingress: [{fromEndpoints: [{matchLabels: {app: web}}]}, {fromEntities: [remote-node], toPorts: [{ports: [{port: \"22\"}]}]}]"),
        Plainly,
        "pod:a/agent -> pod:a/web TCP/80 => denied ingress=default-deny
         pod:a/agent -> pod:a/web TCP/22 => allowed ingress=rule:ingress[1]
         pod:a/agent -> pod:a/db TCP/80 => allowed ingress=rule
         pod:b/web -> pod:a/agent TCP/80 => allowed ingress=-",
    ),
    case(
        "a pod reaches itself whatever is denied",
        cnp!("ingressDeny: [{fromEntities: [all]}], egressDeny: [{toEntities: [all]}]"),
        Warned("deny rules only"),
        "pod:a/web -> pod:a/web TCP/80 => allowed
         pod:a/web -> pod:a/db TCP/80 => denied egress=deny-rule:egressDeny[0] ingress=deny-rule:ingressDeny[0]",
    ),
    case(
        "a denied host is not let in by being the own node",
        cnp!("ingress: [{fromEntities: [cluster]}], ingressDeny: [{fromEntities: [host]}]"),
        Plainly,
        "node:n1 -> pod:a/web TCP/80 => denied ingress=deny-rule:ingressDeny[0]
         node:n2 -> pod:a/web TCP/80 => allowed ingress=rule:ingress[0]
         entity:host -> pod:a/db TCP/80 => denied",
    ),
    flagged(
        "the own node can be left to policies",
        &["--allow-localhost", "policy"],
        cnp!("ingress: [{fromEntities: [remote-node]}]"),
        Plainly,
        "node:n1 -> pod:a/web TCP/80 => denied ingress=default-deny
         node:n2 -> pod:a/web TCP/80 => allowed",
    ),
    case(
        "the cluster is its pods, its nodes and who is unmanaged in it, not the world",
        cnp!("ingress: [{fromEntities: [cluster]}]"),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => allowed
         node:n2 -> pod:a/web TCP/80 => allowed
         ip:10.0.2.77 -> pod:a/web TCP/80 => allowed
         ip:10.0.3.77 -> pod:a/web TCP/80 => denied
         cluster:far/pod:b/web -> pod:a/web TCP/80 => denied",
    ),
    case(
        "an API server outside is the world as well",
        cnp!("egress: [{toEntities: [kube-apiserver], toPorts: [{ports: [{port: \"443\"}]}]}, {toEntities: [world], toPorts: [{ports: [{port: \"80\"}]}]}]"),
        Plainly,
        "pod:a/web -> entity:kube-apiserver TCP/443 => allowed egress=rule:egress[0]
         pod:a/web -> ip:198.18.0.1 TCP/443 => allowed egress=rule:egress[0]
         pod:a/web -> ip:198.18.0.1 TCP/80 => allowed egress=rule:egress[1]
         pod:a/web -> ip:198.18.0.2 TCP/443 => denied",
    ),
    case(
        "there is no such entity",
        cnp!("egress: [{toEntities: [world-ipv4]}]"),
        Refused("there is no entity `world-ipv4`"),
        "",
    ),
    case(
        "a range is the world, never pods, nodes or who is unmanaged",
        cnp!("egress: [{toCIDR: [10.0.0.0/8, 172.16.0.0/12, 0.0.0.0/0]}]"),
        Plainly,
        "pod:a/web -> ip:10.9.9.9 TCP/80 => allowed
         pod:a/web -> pod:b/web TCP/80 => denied
         pod:a/web -> node:n2 TCP/80 => denied
         pod:a/web -> ip:10.0.2.77 TCP/80 => denied
         pod:a/web -> ip:2001:db8::1 TCP/80 => denied",
    ),
    flagged(
        "ranges can be made to match nodes and pods",
        &["--cidr-match-mode", "nodes,pods"],
        cnp!("egress: [{toCIDR: [10.0.2.0/24, 172.16.0.2/32]}]"),
        Plainly,
        "pod:a/web -> pod:b/api TCP/80 => allowed
         pod:a/web -> node:n2 TCP/80 => allowed
         pod:a/web -> node:n1 TCP/80 => denied
         pod:a/web -> pod:b/web TCP/80 => denied",
    ),
    case(
        "an ipBlock matches whoever has the address, less its exceptions",
        knp!("policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/16, except: [10.0.2.0/24]}}]}]"),
        Plainly,
        "pod:a/web -> pod:b/web TCP/80 => allowed
         pod:a/web -> pod:b/api TCP/80 => denied
         pod:a/web -> ip:10.1.0.1 TCP/80 => denied",
    ),
    case(
        "an exception is no denial",
        cnp!("egress: [{toCIDRSet: [{cidr: 192.0.2.0/24, except: [192.0.2.8/29]}]}, {toCIDR: [192.0.2.10/32]}]"),
        Plainly,
        "pod:a/web -> ip:192.0.2.1 TCP/80 => allowed egress=rule:egress[0]
         pod:a/web -> ip:192.0.2.9 TCP/80 => denied egress=default-deny
         pod:a/web -> ip:192.0.2.10 TCP/80 => allowed egress=rule:egress[1]",
    ),
    case(
        "an exception outside of its range is refused",
        cnp!("egress: [{toCIDRSet: [{cidr: 192.0.2.0/24, except: [192.0.3.0/25]}]}]"),
        Refused("except"),
        "",
    ),
    case(
        "a denied range beats an allowed address in it",
        cnp!("egress: [{toCIDR: [10.1.2.3/32]}], egressDeny: [{toCIDR: [10.0.0.0/8]}]"),
        Warned("never decides"),
        "pod:a/web -> ip:10.1.2.3 TCP/80 => denied egress=deny-rule:egressDeny[0]
         pod:a/web -> ip:11.0.0.1 TCP/80 => denied egress=default-deny
         pod:a/web -> pod:b/web TCP/80 => denied egress=default-deny",
    ),
    case(
        "groups of ranges, by name and by label, with exceptions",
        cnp!(
            "egress: [{toCIDRSet: [{cidrGroupRef: partners, except: [203.0.113.0/25]}]}, {toCIDRSet: \
              [{cidrGroupSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}}]}]"
        ),
        Plainly,
        "pod:a/web -> ip:198.51.100.1 TCP/80 => allowed egress=rule:egress[0]
         pod:a/web -> ip:203.0.113.1 TCP/80 => denied
         pod:a/web -> ip:203.0.113.129 TCP/80 => allowed egress=rule:egress[0]
         pod:a/web -> ip:192.0.2.129 TCP/80 => allowed egress=rule:egress[1]
         pod:a/web -> ip:192.0.2.1 TCP/80 => denied",
    ),
    case(
        "a group that is not there is nobody, ports or not",
        cnp!("egress: [{toCIDRSet: [{cidrGroupRef: nobody}], toPorts: [{ports: [{port: \"443\"}]}]}]"),
        Warned("names a group of ranges that is not here"),
        "pod:a/web -> ip:203.0.113.1 TCP/443 => denied egress=default-deny",
    ),
    case(
        "a service that is not there is nobody, ports or not",
        cnp!("egress: [{toServices: [{k8sService: {serviceName: gone, namespace: a}}], toPorts: [{ports: [{port: \"443\"}]}]}]"),
        Warned("names a service that is not here"),
        "pod:a/web -> ip:203.0.113.1 TCP/443 => denied egress=default-deny
         pod:a/web -> pod:a/db TCP/443 => denied",
    ),
    case(
        "services are their pods, or what is listed for them, at any port",
        cnp!("egress: [{toServices: [{k8sServiceSelector: {selector: {matchLabels: {kind: store}}}}]}]"),
        Plainly,
        "pod:a/web -> svc:a/db TCP/80 => allowed egress=rule:egress[0]
         pod:a/web -> ip:10.96.0.7 TCP/80 => allowed
         pod:a/web -> pod:a/db TCP/1 => allowed
         pod:a/web -> svc:a/legacy TCP/5432 => allowed
         pod:a/web -> ip:192.0.2.10 TCP/1 => allowed
         pod:a/web -> ip:192.0.2.11 TCP/1 => denied
         pod:a/web -> pod:b/web TCP/80 => denied",
    ),
    case(
        "nodes by their labels, and never the own one",
        cnp!("egress: [{toNodes: [{matchExpressions: [{key: zone, operator: Exists}]}]}]"),
        Plainly,
        "pod:a/web -> node:n2 TCP/80 => allowed
         pod:a/web -> node:n1 TCP/80 => denied
         pod:a/db -> node:n1 TCP/80 => allowed",
    ),
    case(
        "two kinds of peers in one rule are refused",
        cnp!("egress: [{toEndpoints: [{}], toCIDR: [10.0.0.0/8]}]"),
        Refused("cannot stand beside"),
        "",
    ),
    case(
        "what was required of peers is refused with the rewrite",
        cnp!("ingress: [{fromRequires: [{matchLabels: {app: web}}], fromEndpoints: [{}]}]"),
        Refused("add its labels to every selector"),
        "",
    ),
    case(
        "a policy for nodes judges nodes only, and one for endpoints none",
        concat!(
            ccnp!("nodeSelector: {matchLabels: {zone: one}}, ingress: [{fromEntities: [remote-node]}]"),
            "---\n{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: \
             all}, spec: {endpointSelector: {}, enableDefaultDeny: {ingress: false}, ingressDeny: \
             [{fromEntities: [world]}]}}\n"
        ),
        Plainly,
        "node:n2 -> node:n1 TCP/22 => allowed ingress=rule:CiliumClusterwideNetworkPolicy/-/p#spec.ingress[0]
         pod:b/web -> node:n1 TCP/22 => denied ingress=default-deny
         ip:203.0.113.1 -> node:n2 TCP/22 => allowed ingress=-
         ip:203.0.113.1 -> pod:b/web TCP/22 => denied ingress=deny-rule",
    ),
    case(
        "a label that is filtered out of nodes' identities selects none",
        ccnp!("nodeSelector: {matchLabels: {kubernetes.io/os: linux}}, ingress: [{fromEntities: [host]}]"),
        Warned("is not part of identities"),
        "pod:b/web -> node:n1 TCP/22 => allowed",
    ),
    case(
        "a policy of a namespace cannot be about nodes",
        "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p, namespace: a}, \
         spec: {nodeSelector: {}, ingress: [{}]}}\n",
        Refused("a policy for nodes is in no namespace"),
        "",
    ),
];

/// Cases about ports, protocols and what is inside.
pub const PORTS: &[Case] = &[
    case(
        "names of ports are the destination's, whoever that is",
        cnp!(
            "ingress: [{fromEntities: [all], toPorts: [{ports: [{port: HTTP, protocol: TCP}, {port: \
              udp}]}]}], egress: [{toEndpoints: [{matchExpressions: [{key: \
              \"k8s:io.kubernetes.pod.namespace\", operator: Exists}]}], toPorts: [{ports: [{port: \
              http}]}]}]"
        ),
        Plainly,
        "pod:b/web -> pod:a/db TCP/8080 => allowed
         pod:b/web -> pod:a/db UDP/8080 => denied
         pod:b/web -> pod:a/db UDP/99 => allowed
         pod:b/web -> pod:a/db TCP/99 => denied
         pod:b/web -> pod:a/web TCP/8080 => denied
         pod:a/web -> pod:b/api TCP/9090 => allowed egress=rule:egress[0]
         pod:a/web -> pod:b/api TCP/8080 => denied
         pod:a/web -> pod:a/db TCP/http => allowed",
    ),
    case(
        "numbers that begin with 0 are octal, and an end before its beginning is ignored",
        cnp!("ingress: [{toPorts: [{ports: [{port: \"010\"}, {port: \"100\", endPort: 90}, {port: \"200\", endPort: 299, protocol: TCP}]}]}]"),
        Warned("lets everybody in"),
        "pod:b/web -> pod:a/web TCP/8 => allowed
         pod:b/web -> pod:a/web TCP/10 => denied
         pod:b/web -> pod:a/web SCTP/100 => allowed
         pod:b/web -> pod:a/web TCP/95 => denied
         pod:b/web -> pod:a/web TCP/299 => allowed
         pod:b/web -> pod:a/web UDP/299 => denied
         pod:b/web -> pod:a/web TCP/300 => denied",
    ),
    case(
        "every port of a protocol is not every protocol",
        cnp!("ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: \"0\"}]}]}]"),
        Plainly,
        "pod:a/db -> pod:a/web TCP/65535 => allowed
         pod:a/db -> pod:a/web SCTP/1 => allowed
         pod:a/db -> pod:a/web ICMP => denied",
    ),
    case(
        "a port that is none is refused",
        cnp!("ingress: [{toPorts: [{ports: [{port: \"65536\", protocol: TCP}]}]}]"),
        Refused("they end at 65535"),
        "",
    ),
    case(
        "a NetworkPolicy's range of ports must go up and have numbers",
        knp!("ingress: [{ports: [{port: 90, endPort: 80}, {port: http, endPort: 99}]}]"),
        Refused("endPort"),
        "",
    ),
    case(
        "ports of a NetworkPolicy are TCP unless it is said, and all without a port",
        knp!("ingress: [{ports: [{port: 80}, {protocol: UDP}]}]"),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => allowed
         pod:b/web -> pod:a/web UDP/80 => allowed
         pod:b/web -> pod:a/web UDP/9 => allowed
         pod:b/web -> pod:a/web TCP/9 => denied
         pod:b/web -> pod:a/web ICMP => denied",
    ),
    case(
        "ICMP messages are meant by family and type",
        cnp!("ingress: [{fromEntities: [all], icmps: [{fields: [{type: 8}, {family: IPv6, type: EchoRequest}, {type: TimestampReply}]}]}]"),
        Plainly,
        "pod:b/web -> pod:a/web ICMP => allowed
         pod:b/web -> pod:a/web ICMP {\"icmp\":{\"type\":14}} => allowed
         pod:b/web -> pod:a/web ICMP {\"icmp\":{\"type\":0}} => denied
         pod:b/web -> pod:a/web ICMPv6 {\"icmp\":{\"type\":128}} => allowed
         pod:b/web -> pod:a/web ICMPv6 {\"icmp\":{\"type\":8}} => denied
         pod:b/web -> pod:a/web TCP/8 => denied",
    ),
    case(
        "ICMP types beside ports are refused",
        cnp!("ingress: [{toPorts: [{ports: [{port: \"80\"}]}], icmps: [{fields: [{type: 8}]}]}]"),
        Refused("cannot stand beside `toPorts`"),
        "",
    ),
    case(
        "a name of an ICMP type is of its family",
        cnp!("ingress: [{icmps: [{fields: [{family: IPv6, type: Photuris}, {type: 256}]}]}]"),
        Refused("there is no ICMP type of this name in IPv6"),
        "",
    ),
    case(
        "an ICMP type can be denied beside all that is allowed",
        cnp!("ingress: [{fromEndpoints: [{}]}], ingressDeny: [{fromEntities: [all], icmps: [{fields: [{type: Redirect}]}]}]"),
        Plainly,
        "pod:a/db -> pod:a/web ICMP {\"icmp\":{\"type\":5}} => denied ingress=deny-rule
         pod:a/db -> pod:a/web ICMP => allowed
         pod:a/db -> pod:a/web TCP/5 => allowed",
    ),
    case(
        "a denied port leaves the others and ICMP",
        cnp!("ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}], ingressDeny: [{toPorts: [{ports: [{port: \"80\"}]}]}]"),
        Plainly,
        "pod:a/db -> pod:a/web TCP/81 => allowed
         pod:a/db -> pod:a/web TCP/80 => denied ingress=deny-rule
         pod:a/db -> pod:a/web ICMP => allowed",
    ),
    case(
        "rules for requests without a protocol mean TCP",
        cnp!("ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: \"80\"}], rules: {http: [{method: GET, path: \"/a.*\"}]}}]}]"),
        Warned("TCP is meant"),
        "pod:a/db -> pod:a/web TCP/80 {\"http\":{\"method\":\"GET\",\"path\":\"/ab\"}} => allowed
         pod:a/db -> pod:a/web TCP/80 {\"http\":{\"method\":\"GET\",\"path\":\"/b/a\"}} => denied ingress=rule
         pod:a/db -> pod:a/web TCP/80 {\"http\":{\"method\":\"GETS\",\"path\":\"/a\"}} => denied
         pod:a/db -> pod:a/web UDP/80 => denied ingress=default-deny",
    ),
    case(
        "rules for requests need TCP",
        cnp!("ingress: [{toPorts: [{ports: [{port: \"80\", protocol: ANY}], rules: {http: [{}]}}]}]"),
        Refused("rules for requests need TCP"),
        "",
    ),
    case(
        "a deny rule denies whole connections",
        cnp!("ingressDeny: [{toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{}]}}]}]"),
        Refused("cannot stand in a deny rule"),
        "",
    ),
    case(
        "names are learnt by who may ask for them only",
        cnp!(
            "egress: [{toEndpoints: [{matchLabels: {\"k8s:io.kubernetes.pod.namespace\": kube-system, \
              k8s-app: kube-dns}}], toPorts: [{ports: [{port: \"53\"}], rules: {dns: [{matchPattern: \
              \"*.x.io\"}]}}]}, {toFQDNs: [{matchPattern: \"**.x.io\"}, {matchName: y.io}]}]"
        ),
        Warned("is never learnt"),
        "pod:a/web -> fqdn:a.x.io TCP/443 => allowed egress=rule:egress[1]
         pod:a/web -> fqdn:A.X.IO TCP/443 => allowed
         pod:a/web -> fqdn:a.b.x.io TCP/443 => denied
         pod:a/web -> fqdn:x.io TCP/443 => denied
         pod:a/web -> fqdn:y.io TCP/443 => denied
         pod:a/web -> pod:kube-system/dns UDP/53 {\"dns\":{\"name\":\"b.x.io\"}} => allowed
         pod:a/web -> pod:kube-system/dns UDP/53 {\"dns\":{\"name\":\"x.io\"}} => denied egress=rule",
    ),
    case(
        "names cannot be denied",
        cnp!("egressDeny: [{toFQDNs: [{matchName: y.io}]}]"),
        Refused("toFQDNs"),
        "",
    ),
    case(
        "a text for flows has 32 characters",
        cnp!("log: {value: \"123456789012345678901234567890123\"}, ingress: [{}]"),
        Refused("32"),
        "",
    ),
];

/// Cases about tiers.
pub const TIERS: &[Case] = &[
    case(
        "an administrator's denial beats what a policy allows, and says nothing of the rest",
        concat!(
            cnp!("ingress: [{fromEntities: [all]}]"),
            tiered!("x", "tier: Admin, priority: 5, ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: blue}}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}]")
        ),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => denied ingress=deny-rule:ClusterNetworkPolicy/-/x#spec.ingress[0]
         pod:b/web -> pod:a/web TCP/81 => allowed ingress=rule:CiliumNetworkPolicy/a/p#spec.ingress[0]
         pod:a/db -> pod:a/web TCP/80 => allowed
         pod:a/web -> ip:203.0.113.1 TCP/80 => allowed egress=unenforced",
    ),
    case(
        "the first rule of the first policy decides, and a pass leaves it to the next tier",
        concat!(
            knp!("ingress: [{from: [{namespaceSelector: {}}], ports: [{port: 80}]}]"),
            tiered!("late", "tier: Admin, priority: 9, ingress: [{action: Deny, from: [{namespaces: {}}]}]"),
            tiered!("early", "tier: Admin, priority: 1, ingress: [{action: Pass, from: [{namespaces: {matchLabels: {team: blue}}}]}, {action: Accept, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 81}}}]}]")
        ),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => allowed ingress=rule:NetworkPolicy/a/k#spec.ingress[0]
         pod:b/web -> pod:a/web TCP/81 => denied ingress=default-deny
         pod:a/db -> pod:a/web TCP/81 => allowed ingress=rule:ClusterNetworkPolicy/-/early#spec.ingress[1]
         pod:a/db -> pod:a/web TCP/80 => denied ingress=deny-rule:ClusterNetworkPolicy/-/late#spec.ingress[0]",
    ),
    case(
        "the baseline holds where no policy decides",
        concat!(
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: k, namespace: \
             a}, spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: \
             {matchLabels: {app: web}}}]}]}}\n",
            tiered!("base", "tier: Baseline, priority: 0, ingress: [{action: Deny, from: [{namespaces: {}}]}]")
        ),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => denied ingress=deny-rule:ClusterNetworkPolicy/-/base#spec.ingress[0]
         pod:a/web -> pod:a/db TCP/80 => allowed ingress=rule:NetworkPolicy/a/k#spec.ingress[0]
         ip:203.0.113.1 -> pod:a/web TCP/80 => allowed",
    ),
    case(
        "networks of administrators match pods, too, and ICMP",
        tiered!("net", "tier: Admin, priority: 0, egress: [{action: Deny, to: [{networks: [10.0.2.0/24, 203.0.113.0/24]}]}]"),
        Plainly,
        "pod:a/web -> pod:b/api TCP/80 => denied egress=deny-rule
         pod:a/web -> ip:203.0.113.1 ICMP => denied egress=deny-rule
         pod:a/web -> pod:b/web TCP/80 => allowed",
    ),
    case(
        "the older kinds of administrators have the same tiers",
        concat!(
            "{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: \
             {name: anp}, spec: {priority: 3, subject: {namespaces: {matchLabels: {team: red}}}, \
             ingress: [{action: Pass, from: [{pods: {namespaceSelector: {}, podSelector: \
             {matchLabels: {app: api}}}}]}, {action: Allow, from: [{namespaces: {}}], ports: \
             [{portRange: {protocol: TCP, start: 80, end: 89}}]}]}}\n---\n",
            "{apiVersion: policy.networking.k8s.io/v1alpha1, kind: BaselineAdminNetworkPolicy, \
             metadata: {name: default}, spec: {subject: {namespaces: {}}, ingress: [{action: Deny, \
             from: [{namespaces: {}}]}]}}\n"
        ),
        Plainly,
        "pod:b/web -> pod:a/web TCP/89 => allowed ingress=rule:AdminNetworkPolicy/-/anp#spec.ingress[1]
         pod:b/web -> pod:a/web TCP/90 => denied ingress=deny-rule:BaselineAdminNetworkPolicy/-/default#spec.ingress[0]
         pod:b/api -> pod:a/web TCP/89 => denied ingress=deny-rule
         pod:a/web -> pod:b/web TCP/89 => denied ingress=deny-rule",
    ),
    case(
        "there is one baseline of the older kind, and its name is default",
        "{apiVersion: policy.networking.k8s.io/v1alpha1, kind: BaselineAdminNetworkPolicy, metadata: \
         {name: other}, spec: {subject: {namespaces: {}}, ingress: []}}\n",
        Refused("default"),
        "",
    ),
    case(
        "names are no peers of a denial",
        tiered!("fq", "tier: Admin, priority: 0, egress: [{action: Deny, to: [{domainNames: [\"*.x.io\"]}]}]"),
        Refused("domainNames"),
        "",
    ),
    case(
        "policies of one name and different kinds are different rules",
        concat!(
            knp!("ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]"),
            "---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: k, \
             namespace: a}, spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: \
             {app: db}}]}]}, specs: [{endpointSelector: {}, ingress: [{fromEntities: [world]}]}]}\n"
        ),
        Plainly,
        "pod:a/db -> pod:a/web TCP/80 => allowed ingress=rule:NetworkPolicy/a/k#spec.ingress[0] ingress=rule:CiliumNetworkPolicy/a/k#spec.ingress[0]
         ip:203.0.113.1 -> pod:a/web TCP/80 => allowed ingress=rule:CiliumNetworkPolicy/a/k#specs[0].ingress[0]
         pod:b/web -> pod:a/web TCP/80 => denied ingress=default-deny:CiliumNetworkPolicy/a/k ingress=default-deny:NetworkPolicy/a/k",
    ),
    case(
        "selectors of a NetworkPolicy in one item are both meant, in two either",
        knp!(
            "ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}, podSelector: \
              {matchLabels: {app: web}}}], ports: [{port: 80}]}, {from: [{namespaceSelector: \
              {matchLabels: {team: blue}}}, {podSelector: {matchLabels: {app: db}}}], ports: [{port: \
              81}]}]"
        ),
        Plainly,
        "pod:b/web -> pod:a/web TCP/80 => allowed
         pod:b/api -> pod:a/web TCP/80 => denied
         pod:a/db -> pod:a/web TCP/80 => denied
         pod:b/api -> pod:a/web TCP/81 => allowed
         pod:a/db -> pod:a/web TCP/81 => allowed
         node:n2 -> pod:a/web TCP/81 => denied
         node:n1 -> pod:a/web TCP/9 => allowed",
    ),
];
