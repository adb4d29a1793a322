//! Services and who serves them, from manifests.

use super::*;

const CLUSTER: &str = "
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec:
  clusterIP: 10.96.0.7
  clusterIPs: [10.96.0.7, 'fd00:10:96::7']
  selector: {app: api}
  sessionAffinity: ClientIP
  ports:
  - {name: web, port: 80, targetPort: HTTP}
  - {name: dns, port: 53, protocol: UDP}
  - {name: same, port: 53, targetPort: '5353'}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, labels: {app: api, more: x}}
spec: {containers: [{name: m, ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.1.0.5}, {ip: 'fd00:1::5'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: shop, labels: {app: api}}
spec: {containers: [{name: m, ports: [{name: http, containerPort: 9090}]}]}
status: {podIPs: [{ip: 10.1.0.6}]}
---
apiVersion: v1
kind: Pod
metadata: {name: nameless, namespace: shop, labels: {app: api}}
spec: {containers: [{name: m, ports: [{name: http, containerPort: 1, protocol: UDP}]}]}
status: {podIPs: [{ip: 10.1.0.7}]}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere, namespace: web, labels: {app: api}}
spec: {containers: [{name: m, ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.1.0.8}]}
---
apiVersion: v1
kind: Pod
metadata: {name: ended, namespace: shop, labels: {app: api}}
spec: {containers: [{name: m, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Succeeded, podIPs: [{ip: 10.1.0.9}]}
";

fn snapshot(text: &str) -> Snapshot {
    let snapshot = crate::read("a.yaml", text);
    assert_eq!(snapshot.refused, []);
    snapshot
}

/// Who serves a port of `shop/api`, in both families.
#[track_caller]
fn check(text: &str, port: &str, want: &[&str]) {
    let snapshot = snapshot(text);
    let name = ServiceName { namespace: "shop".into(), name: "api".into() };
    let service = &snapshot.services[&name];
    let port = service.ports.iter().find(|it| it.name == port).unwrap();
    let ends = [true, false].into_iter().flat_map(|v4| snapshot.serving(service, port, v4));
    assert_eq!(ends.map(|end| end.to_string()).collect::<Vec<_>>(), want);
}

#[test]
fn a_service_is_read_as_clients_meet_it() {
    let snapshot = snapshot(CLUSTER);
    let [service] = snapshot.services.values().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!(service.name.to_string(), "shop/api");
    let addresses: Vec<String> = service.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.96.0.7", "fd00:10:96::7"]);
    assert_eq!((service.headless, service.affinity_seconds), (false, 10_800));
    let ports: Vec<_> =
        service.ports.iter().map(|it| (it.name.as_str(), it.protocol, it.port)).collect();
    assert_eq!(ports, [("web", 6, 80), ("dns", 17, 53), ("same", 6, 53)]);
    // What rules mean by it is read as before.
    assert_eq!(snapshot.catalogue.services.len(), 1);
}

#[test]
fn pods_that_are_selected_serve_at_the_port_that_they_name() {
    check(CLUSTER, "web", &["10.1.0.5:8080", "10.1.0.6:9090", "[fd00:1::5]:8080"]);
    let all = ["10.1.0.5:53", "10.1.0.6:53", "10.1.0.7:53", "[fd00:1::5]:53"];
    check(CLUSTER, "dns", &all);
    check(CLUSTER, "same", &all.map(|end| end.replace(":53", ":5353")).each_ref().map(|s| &**s));
    // A service without a selector and without a list is served by nobody.
    check(&CLUSTER.replace("  selector: {app: api}\n", ""), "dns", &[]);
}

const ENDPOINTS: &str = "
---
apiVersion: v1
kind: Endpoints
metadata: {name: api, namespace: shop}
subsets:
- addresses: [{ip: 10.9.0.1}]
  notReadyAddresses: [{ip: 10.9.0.2}]
  ports: [{name: web, port: 81}, {name: dns, port: 54}, {name: dns, port: 55, protocol: UDP}]
- addresses: [{ip: 10.9.0.3}]
  ports: [{name: web, port: 82}]
";

const SLICES: &str = "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, namespace: shop, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{name: web, port: 81}, {name: dns, protocol: UDP}]
endpoints:
- {addresses: [10.9.0.1], conditions: {ready: true}}
- {addresses: [10.9.0.2], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.9.0.3]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-2, namespace: shop, labels: {kubernetes.io/service-name: api}}
addressType: IPv6
ports: [{name: web, port: 81}]
endpoints: [{addresses: ['fd00:9::1']}]
";

#[test]
fn what_the_cluster_lists_is_believed_before_any_selector() {
    let listed = format!("{CLUSTER}{ENDPOINTS}");
    check(&listed, "web", &["10.9.0.1:81", "10.9.0.3:82"]);
    // The port of the same name and of another protocol is another port.
    check(&listed, "dns", &["10.9.0.1:55"]);
    check(&listed, "same", &[]);
    let unready = listed.replace("  selector:", "  publishNotReadyAddresses: true\n  selector:");
    check(&unready, "web", &["10.9.0.1:81", "10.9.0.2:81", "10.9.0.3:82"]);
    let empty = format!(
        "{CLUSTER}---\n{{apiVersion: v1, kind: Endpoints, metadata: {{name: api, namespace: shop}}}}\n"
    );
    check(&empty, "web", &[]);
}

#[test]
fn all_slices_of_a_service_count_and_only_what_is_ready() {
    let listed = format!("{CLUSTER}{SLICES}");
    check(&listed, "web", &["10.9.0.1:81", "10.9.0.3:81", "[fd00:9::1]:81"]);
    // A port that is left open leads nowhere.
    check(&listed, "dns", &[]);
    let other = listed.replace("service-name: api", "service-name: other");
    check(&other, "web", &["10.1.0.5:8080", "10.1.0.6:9090", "[fd00:1::5]:8080"]);
}

#[track_caller]
fn check_refused(spec: &str, want: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: b}}\nspec: {spec}\n"
    );
    let snapshot = crate::read("a.yaml", &text);
    assert!(snapshot.services.is_empty());
    assert_eq!(snapshot.refused[0].refusals[0].to_string(), want);
}

#[test]
fn a_service_that_cannot_be_is_refused_with_its_place() {
    check_refused(
        "{clusterIPs: [10.96.0.300]}",
        "a.yaml:4:20: spec.clusterIPs: `10.96.0.300` is not an IP address",
    );
    check_refused(
        "{clusterIP: 127.0.0.1}",
        "a.yaml:4:7: spec.clusterIPs: `127.0.0.1` is no service's address",
    );
    check_refused(
        "{ports: [{port: 80}, {port: 81, protocol: ICMP}]}",
        "a.yaml:4:49: spec.ports[1].protocol: `ICMP` is not TCP, UDP or SCTP",
    );
    check_refused("{ports: [{port: 0}]}", "a.yaml:4:23: spec.ports[0].port: 0 is no port");
    check_refused(
        "{sessionAffinity: Cookie}",
        "a.yaml:4:25: spec.sessionAffinity: `Cookie` is neither `None` nor `ClientIP`",
    );
    let timeout =
        "{sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}}";
    check_refused(
        timeout,
        "a.yaml:4:86: spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not between 1 and 86400",
    );
}

#[test]
fn a_name_without_an_address_is_headless_or_another_name() {
    let of = |spec: &str| {
        let text =
            format!("{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {spec}}}");
        snapshot(&text).services.into_values().next().unwrap()
    };
    let headless = of("{clusterIP: None, clusterIPs: [None]}");
    assert!(headless.headless && headless.addresses.is_empty());
    let external = of("{type: ExternalName, externalName: bank.example, clusterIP: ''}");
    assert!(!external.headless && external.addresses.is_empty());
    let plain = of("{clusterIP: '', ports: []}");
    assert!(!plain.headless && plain.addresses.is_empty());
}
