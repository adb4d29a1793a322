//! Services as written, and as they are published.

use serde_json::{Value, json};

use crate::definition::tests::read_texts;

fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{ports: [{{port: 80}}]{spec}}}\n---\n"
    )
}

/// The published objects of kind Service, by name.
#[track_caller]
fn published(text: &str) -> Vec<(String, Value)> {
    let definition = read_texts(&[("s.yaml", text)]).unwrap();
    let services = definition.objects.into_iter().filter(|it| it["kind"] == "Service");
    services
        .map(|it| (it["metadata"]["name"].as_str().unwrap().into(), it["spec"].clone()))
        .collect()
}

#[track_caller]
fn check(spec: &str, want: Value) {
    let all = published(&service("api", spec));
    let (_, spec) = all.into_iter().find(|(name, _)| name == "api").unwrap();
    assert_eq!(spec["clusterIPs"], want);
    assert_eq!(spec["clusterIP"], want[0]);
}

#[test]
fn addresses_are_generated_in_the_families_that_are_asked_for() {
    check("", json!(["10.96.0.11"]));
    check(", ipFamilies: [IPv6]", json!(["fd00:10:96::11"]));
    check(", ipFamilyPolicy: PreferDualStack", json!(["10.96.0.11", "fd00:10:96::11"]));
    let six = ", ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6]";
    check(six, json!(["fd00:10:96::11", "10.96.0.11"]));
    check(", ipFamilies: [IPv4, IPv6]", json!(["10.96.0.11", "fd00:10:96::11"]));
    check(", clusterIP: 10.96.7.7", json!(["10.96.7.7"]));
    check(", clusterIP: 10.96.0.11", json!(["10.96.0.11"]));
    let both = ", clusterIP: 10.96.7.7, clusterIPs: [10.96.7.7, 'fd00:10:96::7']";
    check(both, json!(["10.96.7.7", "fd00:10:96::7"]));
    check(", clusterIP: None", json!(["None"]));
}

#[test]
fn no_two_services_get_one_address() {
    let text = [
        service("c", ""),
        service("a", ", clusterIP: 10.96.0.11"),
        service("b", ", ipFamilyPolicy: PreferDualStack"),
    ];
    let all: Vec<Value> =
        published(&text.concat()).into_iter().map(|it| it.1["clusterIPs"].clone()).collect();
    let names = json!(["10.96.0.10", "fd00:10:96::10"]);
    let (a, b) = (json!(["10.96.0.11"]), json!(["10.96.0.12", "fd00:10:96::12"]));
    assert_eq!(all, [names, a, b, json!(["10.96.0.13"])]);
}

#[test]
fn a_lab_with_services_or_names_has_a_name_server_and_no_other_has() {
    let server = |text: &str| {
        let definition = read_texts(&[("s.yaml", text)]).unwrap();
        definition
            .pods
            .iter()
            .any(|pod| (&*pod.namespace, &*pod.name) == ("kube-system", "coredns"))
    };
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: m}]}\n";
    assert!(!server(pod));
    assert!(server(&format!("{pod}---\n{}", service("api", ""))));
    let lab = "apiVersion: signet.dev/v1alpha1\nkind: Lab\nmetadata: {name: x}\n\
               spec: {external: [{name: a, names: [api.swift.com]}]}\n";
    assert!(server(&format!("{pod}---\n{lab}")));
    assert!(!server(&format!("{pod}---\n{}", lab.replace(", names: [api.swift.com]", ""))));
}

#[track_caller]
fn check_refused(text: &str, want: &[&str]) {
    assert_eq!(read_texts(&[("s.yaml", text)]).unwrap_err(), want);
}

#[test]
fn what_the_lab_does_not_run_is_refused_where_it_stands() {
    check_refused(
        &service("a", ", type: NodePort"),
        &[
            "s.yaml:4:35: spec.type: the lab has no NodePort services: it has ClusterIP and headless ones (fix: write `type: ClusterIP`, or leave it out)",
        ],
    );
    check_refused(
        &service("a", ", clusterIP: 10.97.0.1"),
        &["s.yaml:4:40: spec.clusterIP: `10.97.0.1` is not in 10.96.0.0/16 or fd00:10:96::/112"],
    );
    check_refused(
        &service("a", ", sessionAffinity: Cookie"),
        &["s.yaml:1:1: spec.sessionAffinity: `Cookie` is neither `None` nor `ClientIP`"],
    );
    let twice = service("a", ", clusterIP: 10.96.1.1") + &service("b", ", clusterIP: 10.96.1.1");
    check_refused(&twice, &["s.yaml:6:1: `10.96.1.1` is another service's"]);
    let twice = service("a", "") + &service("a", "");
    check_refused(&twice, &["s.yaml:6:1: a service `shop/a` exists already"]);
    let dns = service("kube-dns", "").replace("shop", "kube-system");
    check_refused(
        &dns,
        &[
            "s.yaml:1:1: the lab makes the Service `kube-system/kube-dns` itself (fix: leave it out)",
        ],
    );
}
