//! The snippets of the documents that this system is built from, each with a
//! stated result. Slides abbreviate: what stands there is completed by a subject
//! only, and what is no manifest is refused with the rewrite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use manifest::{check as check_documents, read};
use policy::Options;

mod support;

/// A bank, and what its pods talk to.
const BANK: &str = "\
---
apiVersion: v1
kind: Namespace
metadata: {name: banking}
---
apiVersion: v1
kind: Node
metadata: {name: one}
status: {addresses: [{type: InternalIP, address: 172.20.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: banking, labels: {app: api}}
spec: {nodeName: one}
---
apiVersion: v1
kind: Pod
metadata: {name: orders, namespace: banking, labels: {app: orders}}
spec: {nodeName: one}
---
apiVersion: v1
kind: Pod
metadata: {name: payment, namespace: payment, labels: {app: payment}}
---
apiVersion: v1
kind: Pod
metadata: {name: notif, namespace: notif, labels: {app: notif}}
---
apiVersion: v1
kind: Pod
metadata: {name: dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
---
apiVersion: v1
kind: Endpoints
metadata: {name: kubernetes, namespace: default}
subsets: [{addresses: [{ip: 172.20.0.1}]}]
";

/// A policy of the pod `api`, with the snippet as its rules.
fn policy(rules: &str) -> String {
    let indented: String = rules.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p, namespace: banking}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: api}}}}\n{indented}"
    )
}

#[track_caller]
fn accepted(rules: &str, lines: &str) {
    support::check(&(policy(rules) + BANK), lines);
}

/// Everything that is said about a text: refusals, then warnings.
fn said(text: &str) -> Vec<String> {
    match read("f", text) {
        Err(refusals) => refusals.iter().map(ToString::to_string).collect(),
        Ok(documents) => {
            let outcome = check_documents(&documents, &Options::default()).outcome;
            let warnings =
                outcome.notes.iter().filter(|note| note.warning).map(ToString::to_string);
            outcome.refusals.iter().map(ToString::to_string).chain(warnings).collect()
        }
    }
}

#[track_caller]
fn check_said(text: &str, want: &[&str]) {
    let said = said(text);
    for want in want {
        assert!(said.iter().any(|text| text.contains(want)), "{want}\n{said:#?}");
    }
}

#[test]
fn the_layer_7_slide_is_shorthand() {
    check_said(
        "kind: CiliumNetworkPolicy\nspec:\n  endpointSelector: { app: api }\n",
        &["no `apiVersion`: nobody can say what this is"],
    );
    check_said(
        &policy("egress:\n- toEndpoints: [{ app: orders }]\n  toPorts: [ http: [{ method: GET, path: /api/orders }]]")
            .replace("{matchLabels: {app: api}}", "{ app: api }"),
        &[
            "spec.endpointSelector.app: there is no such field",
            "spec.egress[0].toEndpoints[0].app: there is no such field",
            "spec.egress[0].toPorts[0].http: there is no such field",
        ],
    );
    // What it means, written out.
    accepted(
        "egress:\n- toEndpoints: [{matchLabels: {app: orders}}]\n  toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{method: GET, path: /api/orders}]}}]",
        "pod:banking/api -> pod:banking/orders TCP/80 {\"http\":{\"method\":\"GET\",\"path\":\"/api/orders\"}} => allowed l7=allowed
         pod:banking/api -> pod:banking/orders TCP/80 {\"http\":{\"method\":\"POST\",\"path\":\"/api/orders\"}} => denied l7=denied
         pod:banking/api -> ip:203.0.113.1 TCP/80 => denied egress=default-deny",
    );
}

#[test]
fn identity() {
    accepted(
        "egress:\n- toEndpoints:\n  - matchLabels:\n      k8s:io.kubernetes.pod.namespace: payment\n      app: payment\n  toPorts:\n  - ports: [{ port: \"8080\" }]",
        "pod:banking/api -> pod:payment/payment TCP/8080 => allowed egress=rule:egress[0]
         pod:banking/api -> pod:payment/payment UDP/8080 => allowed
         pod:banking/api -> pod:payment/payment TCP/8081 => denied
         pod:banking/api -> pod:banking/orders TCP/8080 => denied",
    );
}

#[test]
fn names_with_the_dns_rule_they_need() {
    let names = "- toFQDNs:\n  - matchName: \"api.swift.com\"\n  - matchPattern: \"*.cncf.com\"\n  toPorts:\n  - ports: [{ port: \"443\" }]";
    let dns = "- toEndpoints:\n  - matchLabels:\n      io.kubernetes.pod.namespace: kube-system\n      k8s-app: kube-dns\n  toPorts:\n  - ports:\n    - port: \"53\"\n      protocol: ANY\n    rules:\n      dns:\n      - matchPattern: \"*\"";
    accepted(
        &format!("egress:\n{dns}\n{names}"),
        "pod:banking/api -> fqdn:api.swift.com TCP/443 => allowed egress=rule:egress[1]
         pod:banking/api -> fqdn:www.cncf.com TCP/443 => allowed egress=rule:egress[1]
         pod:banking/api -> fqdn:cncf.com TCP/443 => denied
         pod:banking/api -> fqdn:evil.com TCP/443 => denied egress=default-deny
         pod:banking/api -> pod:kube-system/dns UDP/53 {\"dns\":{\"name\":\"evil.com\"}} => allowed l7=allowed",
    );
    // Alone, nothing is ever learnt.
    accepted(
        &format!("egress:\n{names}"),
        "pod:banking/api -> fqdn:api.swift.com TCP/443 => denied",
    );
    check_said(&policy(&format!("egress:\n{names}")), &["`api.swift.com` is never learnt"]);
}

#[test]
fn a_range_without_its_space() {
    check_said(
        &policy(
            "egress:\n- toCIDRSet:\n  - cidr:172.21.89.10/32\n  toPorts:\n  - ports: [{ port: \"5432\" }]",
        ),
        &[
            "spec.egress[0].toCIDRSet[0]: `cidr:172.21.89.10/32` is a text, not a mapping (fix: a space \
           is missing: write `cidr: 172.21.89.10/32`)",
        ],
    );
    accepted(
        "egress:\n- toCIDRSet:\n  - cidr: 172.21.89.10/32\n  toPorts:\n  - ports: [{ port: \"5432\" }]",
        "pod:banking/api -> ip:172.21.89.10 TCP/5432 => allowed egress=rule:egress[0]
         pod:banking/api -> ip:172.21.89.11 TCP/5432 => denied",
    );
    accepted(
        "egress:\n- toCIDRSet:\n  - cidr: 10.123.123.10/32\n  - cidr: 10.123.123.20/32\n  toPorts:\n  - ports:\n    - port: \"5432\"\n      protocol: TCP",
        "pod:banking/api -> ip:10.123.123.20 TCP/5432 => allowed
         pod:banking/api -> ip:10.123.123.21 TCP/5432 => denied
         pod:banking/api -> ip:10.123.123.20 UDP/5432 => denied",
    );
}

#[test]
fn verb_and_path() {
    let rules = "- fromEndpoints: [{}]\n  toPorts:\n  - ports: [{ port: \"8080\" }]\n    rules:\n      http:\n      - { method: \"GET\", path: \"/balance\" }\n      - { method: \"POST\", path: \"/transfer\" }";
    let text = policy(&format!("ingress:\n{rules}"));
    check_said(&text, &["rules for requests without a protocol: TCP is meant"]);
    accepted(
        &format!("ingress:\n{rules}"),
        "pod:banking/orders -> pod:banking/api TCP/8080 {\"http\":{\"method\":\"GET\",\"path\":\"/balance\"}} => allowed l7=allowed
         pod:banking/orders -> pod:banking/api TCP/8080 {\"http\":{\"method\":\"POST\",\"path\":\"/transfer\"}} => allowed l7=allowed
         pod:banking/orders -> pod:banking/api TCP/8080 {\"http\":{\"method\":\"DELETE\",\"path\":\"/balance\"}} => denied l7=denied
         pod:banking/orders -> pod:banking/api UDP/8080 => denied
         pod:payment/payment -> pod:banking/api TCP/8080 => denied",
    );
    // As the slide indents it, `rules` is a field of the rule.
    check_said(
        &policy(
            "ingress:\n- toPorts:\n  - ports:\n    - port: \"8080\"\n      protocol: TCP\n  rules:\n    http:\n    - method: \"GET\"",
        ),
        &["spec.ingress[0].rules: there is no such field"],
    );
}

#[test]
fn the_dns_slide_as_it_is_indented() {
    // A list where a mapping is meant.
    check_said(
        &policy(
            "egress:\n- toEndpoints:\n  - matchLabels:\n    - io.kubernetes.pod.namespace: kube-system\n    - k8s-app: kube-dns",
        ),
        &["spec.egress[0].toEndpoints[0].matchLabels: must be a mapping, this is a list"],
    );
    check_said(
        &policy("egress:\n- toPorts:\n  - ports:\n    - port: \"53\"\n    - protocol: ANY"),
        &["spec.egress[0].toPorts[0].ports[1].port: a port is needed"],
    );
}

#[test]
fn the_own_node_and_the_api_server() {
    accepted(
        "egress:\n- toEntities:\n  - host\n  toPorts:\n  - ports:\n    - port: \"4317\"\n      protocol: TCP\n- toEntities:\n  - kube-apiserver\n  toPorts:\n  - ports:\n    - port: \"443\"\n      protocol: TCP",
        "pod:banking/api -> entity:host TCP/4317 => allowed egress=rule:egress[0]
         pod:banking/api -> entity:kube-apiserver TCP/443 => allowed egress=rule:egress[1]
         pod:banking/api -> entity:remote-node TCP/4317 => denied
         pod:banking/api -> ip:203.0.113.1 TCP/443 => denied",
    );
}

#[test]
fn another_cluster() {
    accepted(
        "egress:\n- toEndpoints:\n  - matchLabels:\n      io.cilium.k8s.policy.cluster: mumbai\n      io.kubernetes.pod.namespace: notif\n      app: notif\n  toPorts:\n  - ports:\n    - port: \"8080\"\n      protocol: TCP",
        "pod:banking/api -> cluster:mumbai/pod:notif/notif TCP/8080 => allowed egress=rule:egress[0] ingress=-
         pod:banking/api -> pod:notif/notif TCP/8080 => denied",
    );
}

#[test]
fn mutual_authentication() {
    accepted(
        "ingress:\n- fromEndpoints:\n  - matchLabels:\n      app: orders\n  authentication:\n    mode: required",
        "pod:banking/orders -> pod:banking/api TCP/8080 => allowed ingress=rule:ingress[0]
         pod:banking/orders -> pod:banking/api UDP/8080 => denied ingress=auth-required",
    );
}

#[test]
fn a_label_in_the_wrong_case_is_warned_of() {
    check_said(
        &(policy("ingress:\n- fromEndpoints:\n  - matchLabels:\n      App: service-a") + BANK),
        &["labels have a case, and the label is `app`, not `App`"],
    );
}

#[test]
fn third_parties_by_name() {
    let dns = "- toEndpoints:\n  - matchLabels:\n      io.kubernetes.pod.namespace: kube-system\n      k8s-app: kube-dns\n  toPorts:\n  - ports:\n    - port: \"53\"\n      protocol: ANY\n    rules:\n      dns:\n      - matchPattern: \"*\"";
    let names = "- toFQDNs:\n  - matchName: \"api.abc123.com\"\n  - matchPattern: \"*.cncf.io\"\n  toPorts:\n  - ports:\n    - port: \"443\"\n      protocol: TCP";
    accepted(
        &format!("egress:\n{dns}\n{names}"),
        "pod:banking/api -> fqdn:api.abc123.com TCP/443 => allowed egress=rule:egress[1]
         pod:banking/api -> fqdn:www.cncf.io TCP/443 => allowed egress=rule:egress[1]
         pod:banking/api -> fqdn:www.cncf.com TCP/443 => denied
         pod:banking/api -> fqdn:api.abc123.com UDP/443 => denied
         pod:banking/api -> fqdn:api.abc123.com TCP/80 => denied",
    );
}

#[test]
fn verb_and_path_for_the_gateway_of_another_namespace() {
    let gateway = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: gateway, namespace: ingress-gateway, labels: {app: api-gateway}}\n";
    // The slide breaks the line behind the namespace's key; YAML reads it all the same.
    let rules = "ingress:\n- fromEndpoints:\n  - matchLabels:\n      io.kubernetes.pod.namespace:\n        ingress-gateway\n      app: api-gateway\n  toPorts:\n  - ports:\n    - port: \"8080\"\n      protocol: TCP\n    rules:\n      http:\n      - method: \"GET\"\n        path: \"/balance\"\n      - method: \"POST\"\n        path: \"/transfer\"";
    support::check(
        &(policy(rules) + BANK + gateway),
        "pod:ingress-gateway/gateway -> pod:banking/api TCP/8080 {\"http\":{\"method\":\"GET\",\"path\":\"/balance\"}} => allowed ingress=rule:ingress[0] l7=allowed
         pod:ingress-gateway/gateway -> pod:banking/api TCP/8080 {\"http\":{\"method\":\"POST\",\"path\":\"/balance\"}} => denied l7=denied
         pod:ingress-gateway/gateway -> pod:banking/api TCP/9090 => denied ingress=default-deny
         pod:payment/payment -> pod:banking/api TCP/8080 {\"http\":{\"method\":\"GET\",\"path\":\"/balance\"}} => denied ingress=default-deny",
    );
}

#[test]
fn mutual_authentication_on_one_port() {
    accepted(
        "ingress:\n- fromEndpoints:\n  - matchLabels:\n      app: orders\n  authentication:\n    mode: \"required\"\n  toPorts:\n  - ports:\n    - port: \"8080\"\n      protocol: TCP",
        "pod:banking/orders -> pod:banking/api TCP/8080 => allowed ingress=rule:ingress[0]
         pod:banking/orders -> pod:banking/api TCP/8081 => denied ingress=default-deny
         pod:payment/payment -> pod:banking/api TCP/8080 => denied ingress=default-deny",
    );
}
