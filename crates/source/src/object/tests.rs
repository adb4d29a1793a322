//! Manifests and the values they become.

use proptest::prelude::*;

use super::*;

/// The one object of a text that must be accepted.
#[track_caller]
fn object(text: &str) -> Object {
    let documents = manifest::read("a.yaml", text).unwrap();
    read(&documents[0]).unwrap().unwrap()
}

#[track_caller]
fn pod(text: &str) -> Pod {
    match object(text) {
        Object::Pod(pod) => pod,
        other => panic!("not a pod: {other:?}"),
    }
}

/// A text that must be refused, and how.
#[track_caller]
fn check_refused(text: &str, want: &str) {
    let documents = manifest::read("a.yaml", text).unwrap();
    assert_eq!(read(&documents[0]).unwrap().unwrap_err().to_string(), want);
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: api-7d9f-x2
  namespace: payment
  labels: {app: api, pod-template-hash: 7d9f}
  annotations: {anything: goes}
  ownerReferences:
  - {apiVersion: apps/v1, kind: ReplicaSet, name: api-7d9f, controller: true, uid: u}
spec:
  nodeName: node-1
  serviceAccountName: api
  containers:
  - name: main
    image: x
    ports:
    - {name: HTTP, containerPort: 8080}
    - {containerPort: 9090}
    - {name: dns, containerPort: 53, protocol: UDP}
  - name: second
    ports: [{name: http, containerPort: 1}]
  initContainers:
  - {name: once, ports: [{name: never, containerPort: 2}]}
  - {name: sidecar, restartPolicy: Always, ports: [{name: admin, containerPort: 15000}]}
status:
  phase: Running
  podIP: 10.1.0.5
  podIPs: [{ip: 10.1.0.5}, {ip: 'fd00:1::5'}]
";

#[test]
fn a_pod_is_read_with_all_that_policy_needs() {
    let pod = pod(POD);
    assert_eq!(pod.name.to_string(), "payment/api-7d9f-x2");
    assert_eq!(pod.labels.get("app").map(String::as_str), Some("api"));
    assert_eq!(pod.node, "node-1");
    assert_eq!(pod.service_account, "api");
    assert!(!pod.host_network);
    assert_eq!(pod.addresses, addresses(&["10.1.0.5", "fd00:1::5"]));
    let ports: Vec<(&str, (u8, u16))> =
        pod.ports.iter().map(|(name, port)| (name.as_str(), *port)).collect();
    assert_eq!(ports, [("admin", (6, 15000)), ("dns", (17, 53)), ("http", (6, 8080))]);
}

#[test]
fn a_pod_of_a_replica_set_belongs_to_its_deployment() {
    assert_eq!(pod(POD).workload, Some(("Deployment".into(), "api".into())));
    let alone = POD.replace("pod-template-hash: 7d9f", "tier: x");
    assert_eq!(pod(&alone).workload, Some(("ReplicaSet".into(), "api-7d9f".into())));
    let stateful = POD.replace("ReplicaSet, name: api-7d9f", "StatefulSet, name: api");
    assert_eq!(pod(&stateful).workload, Some(("StatefulSet".into(), "api".into())));
    let uncontrolled = POD.replace("controller: true", "controller: false");
    assert_eq!(pod(&uncontrolled).workload, None);
}

#[test]
fn a_pod_that_ran_to_its_end_has_no_address() {
    for phase in ["Succeeded", "Failed"] {
        assert_eq!(pod(&POD.replace("Running", phase)).addresses, addresses(&[]));
    }
}

#[test]
fn a_pod_may_lack_everything_but_a_name() {
    let pod = pod("{apiVersion: v1, kind: Pod, metadata: {name: a}}");
    assert_eq!(pod.name.to_string(), "default/a");
    assert_eq!((pod.node.as_str(), pod.addresses), ("", vec![]));
}

#[test]
fn nulls_are_as_good_as_nothing() {
    let pod = pod("{apiVersion: v1, kind: Pod, metadata: {name: a, labels: null}, \
         spec: {containers: [{name: x, ports: null}]}, status: {podIPs: null, podIP: ''}}");
    assert_eq!(pod.labels, BTreeMap::new());
    assert_eq!(pod.addresses, addresses(&[]));
}

#[test]
fn an_address_of_ipv4_in_ipv6_clothes_is_ipv4() {
    let text = POD.replace("'fd00:1::5'", "'::ffff:10.1.0.6'");
    assert_eq!(pod(&text).addresses, addresses(&["10.1.0.5", "10.1.0.6"]));
}

#[test]
fn a_pod_with_a_field_that_cannot_be_is_refused_with_its_place() {
    check_refused(
        &POD.replace("'fd00:1::5'", "localhost"),
        "a.yaml:29:33: status.podIPs[1].ip: `localhost` is not an IP address",
    );
    check_refused(
        &POD.replace("name: api-7d9f-x2", "name: 'a/b'"),
        "a.yaml:5:9: metadata.name: not a Kubernetes name",
    );
    check_refused(
        &POD.replace("protocol: UDP", "protocol: GRE"),
        "a.yaml:15:5: spec.containers: port `dns` has protocol `GRE`, not TCP, UDP or SCTP",
    );
}

#[test]
fn labels_that_would_forge_lines_are_refused() {
    check_refused(
        &POD.replace("app: api", "app: \"a\\nb\""),
        "a.yaml:7:11: metadata.labels: `app` is not a Kubernetes label",
    );
    check_refused(
        &POD.replace("app: api", "\"a=b\": c"),
        "a.yaml:7:11: metadata.labels: `a=b` is not a Kubernetes label",
    );
}

#[test]
fn a_namespace_carries_its_name_whatever_it_claims() {
    let text = "{apiVersion: v1, kind: Namespace, metadata: {name: payment, \
                labels: {kubernetes.io/metadata.name: other, team: pci}}}";
    let Object::Namespace(namespace) = object(text) else { panic!() };
    let labels: Vec<(&str, &str)> =
        namespace.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(labels, [("kubernetes.io/metadata.name", "payment"), ("team", "pci")]);
}

#[test]
fn a_node_has_its_addresses_but_not_its_names_and_its_ranges_once() {
    let text = "
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {kubernetes.io/os: linux}}
spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, 'fd00:1::/64']}
status:
  addresses:
  - {type: InternalIP, address: 192.168.0.1}
  - {type: ExternalIP, address: 'fd00::1'}
  - {type: Hostname, address: node-1}
";
    let Object::Node(node) = object(text) else { panic!() };
    assert_eq!(node.addresses, addresses(&["192.168.0.1", "fd00::1"]));
    let ranges: Vec<String> = node.pod_cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.1.0.0/24", "fd00:1::/64"]);
    check_refused(
        &text.replace("192.168.0.1", "node"),
        "a.yaml:8:33: status.addresses[0].address: `node` is not an IP address",
    );
    check_refused(
        &text.replace("[10.1.0.0/24", "[10.1.0.0"),
        "a.yaml:5:41: spec.podCIDRs[0]: `10.1.0.0` is not an address range",
    );
}

#[test]
fn a_node_says_who_else_stands_on_it() {
    let text = "
apiVersion: v1
kind: Node
metadata:
  name: node-1
  annotations:
    network.cilium.io/ipv4-health-ip: 10.1.0.9
    network.cilium.io/ipv6-Ingress-ip: 'fd00:1::9'
    other: 7
";
    let Object::Node(node) = object(text) else { panic!() };
    let want = [("10.1.0.9", model::Reserved::Health), ("fd00:1::9", model::Reserved::Ingress)];
    let want = want.map(|(address, reserved)| (address.parse::<IpAddr>().unwrap(), reserved));
    assert_eq!(node.reserved, want.into());
    check_refused(
        &text.replace("10.1.0.9", "10.1.0"),
        "a.yaml:7:39: metadata.annotations.network.cilium.io/ipv4-health-ip: `10.1.0` is not an IP address",
    );
    check_refused(
        &text.replace("10.1.0.9", "[10.1.0.9]"),
        "a.yaml:7:39: metadata.annotations.network.cilium.io/ipv4-health-ip: `{}` is not an IP address",
    );
}

#[track_caller]
fn check_apiserver(text: &str, want: &[&str]) {
    let documents = manifest::read("a.yaml", text).unwrap();
    let found = match read(&documents[0]) {
        Some(Ok(Object::Endpoints(endpoints))) if endpoints.is_api_server() => {
            let all = endpoints.serving.iter();
            all.flat_map(|one| one.ready.iter().chain(&one.unready).copied()).collect()
        }
        Some(Ok(Object::Endpoints(_))) => vec![],
        other => panic!("{other:?}"),
    };
    assert_eq!(found, addresses(want));
}

#[test]
fn the_api_server_is_at_the_addresses_of_its_endpoints_ready_or_not() {
    let text = "
apiVersion: v1
kind: Endpoints
metadata: {name: kubernetes, namespace: default}
subsets:
- addresses: [{ip: 192.168.0.1}]
  notReadyAddresses: [{ip: 192.168.0.2}]
  ports: [{port: 6443}]
";
    check_apiserver(text, &["192.168.0.1", "192.168.0.2"]);
    check_apiserver(&text.replace("namespace: default", "namespace: web"), &[]);
    check_apiserver(&text.replace("name: kubernetes", "name: web"), &[]);
}

#[test]
fn the_api_server_is_at_the_addresses_of_its_slices() {
    let text = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kubernetes-x
  namespace: default
  labels: {kubernetes.io/service-name: kubernetes}
addressType: IPv6
endpoints:
- addresses: ['fd00::1', 'fd00::2']
";
    check_apiserver(text, &["fd00::1", "fd00::2"]);
    check_apiserver(&text.replace("service-name: kubernetes", "service-name: web"), &[]);
    check_apiserver(&text.replace("namespace: default", "namespace: web"), &[]);
    check_apiserver(&text.replace("IPv6", "FQDN"), &[]);
}

/// Services in namespace `a`, and what is listed for them.
fn services(more: &str) -> String {
    let service = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: a}}\nspec: {spec}\n"
        )
    };
    service("legacy", "{ports: [{port: 80}]}")
        + &service("own", "{selector: {app: own}, ports: [{port: 80}]}")
        + "---\n"
        + more
}

/// What counts as backends of `a/NAME`.
#[track_caller]
fn check_backends(text: &str, name: &str, want: &[&str]) {
    let snapshot = crate::read("a.yaml", text);
    assert_eq!(snapshot.refused, [], "{text}");
    let service = snapshot.catalogue.services.iter().find(|service| service.name == name).unwrap();
    assert_eq!(service.backends, addresses(want), "{text}");
}

#[test]
fn a_service_without_a_selector_has_the_backends_that_are_listed_and_ready() {
    let endpoints = "
apiVersion: v1
kind: Endpoints
metadata: {name: legacy, namespace: a}
subsets:
- addresses: [{ip: 192.0.2.9}, {ip: 192.0.2.8}]
  notReadyAddresses: [{ip: 192.0.2.7}]
";
    check_backends(&services(endpoints), "legacy", &["192.0.2.8", "192.0.2.9"]);
    let slice = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: legacy-1, namespace: a, labels: {kubernetes.io/service-name: legacy}}
addressType: IPv6
endpoints:
- {addresses: ['2001:db8::1'], conditions: {ready: true}}
- {addresses: ['2001:db8::2']}
- {addresses: ['2001:db8::3'], conditions: {ready: false}}
";
    check_backends(&services(slice), "legacy", &["2001:db8::1", "2001:db8::2"]);
    // Several objects add up, whatever comes first, and the same address is one.
    let again = slice.replace("legacy-1", "legacy-2").replace("::2'", "::4'");
    let all = format!("{slice}---\n{again}---\n{endpoints}---\n{}", services(""));
    check_backends(
        &all,
        "legacy",
        &["192.0.2.8", "192.0.2.9", "2001:db8::1", "2001:db8::2", "2001:db8::4"],
    );
}

#[test]
fn what_is_listed_for_another_service_or_beside_a_selector_is_not_its_backend() {
    let endpoints = |name: &str, namespace: &str| {
        services(&format!(
            "{{apiVersion: v1, kind: Endpoints, metadata: {{name: {name}, namespace: {namespace}}}, \
             subsets: [{{addresses: [{{ip: 192.0.2.9}}]}}]}}\n"
        ))
    };
    check_backends(&endpoints("legacy", "a"), "legacy", &["192.0.2.9"]);
    check_backends(&endpoints("legacy", "b"), "legacy", &[]);
    check_backends(&endpoints("other", "a"), "legacy", &[]);
    check_backends(&endpoints("own", "a"), "own", &[]);
    // An IPv4 address in the clothes of IPv6 is that IPv4 address.
    let clothed = endpoints("legacy", "a").replace("192.0.2.9", "'::ffff:192.0.2.9'");
    check_backends(&clothed, "legacy", &["192.0.2.9"]);
    let snapshot = crate::read("a.yaml", &endpoints("legacy", "a").replace("192.0.2.9", "nowhere"));
    let [refused] = snapshot.refused.as_slice() else { panic!("{:?}", snapshot.refused) };
    let reason = refused.refusals[0].to_string();
    assert!(reason.contains("`nowhere` is not an IP address"), "{reason}");
}

#[test]
fn other_kinds_and_other_versions_are_not_read() {
    for text in [
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}",
        "{apiVersion: example.org/v1, kind: Pod, metadata: {name: a}}",
    ] {
        let documents = manifest::read("a.yaml", text).unwrap();
        assert!(read(&documents[0]).is_none(), "{text}");
    }
}

proptest! {
    /// Whatever is written into an object, it is read or refused.
    #[test]
    fn no_text_makes_the_reader_panic(at in 0..POD.len(), length in 0usize..40, text in ".{0,40}") {
        let mut bytes = POD.as_bytes().to_vec();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, text.bytes());
        if let Ok(text) = String::from_utf8(bytes) {
            let snapshot = crate::read("a.yaml", &text);
            prop_assert!(snapshot.pods.len() <= 1);
        }
    }

    /// Values of every type stand in for each value.
    #[test]
    fn no_value_makes_the_reader_panic(
        line in 0usize..32,
        value in prop::sample::select(vec!["null", "7", "-1", "1e400", "[]", "{}", "true", "''", "[{}]"]),
    ) {
        let lines: Vec<String> = POD
            .lines()
            .enumerate()
            .map(|(n, text)| match text.split_once(": ") {
                Some((key, _)) if n == line => format!("{key}: {value}"),
                _ => text.to_owned(),
            })
            .collect();
        crate::read("a.yaml", &lines.join("\n"));
    }
}
