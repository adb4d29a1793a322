//! What is accepted and probably not meant, and what policies cost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use manifest::{Report, check as check_documents, read};
use policy::Options;

fn report(text: &str) -> Report {
    let report = check_documents(&read("f", text).unwrap(), &Options::default());
    assert_eq!(report.outcome.refusals, [], "{text}");
    report
}

fn warnings(text: &str) -> Vec<String> {
    let notes = report(text).outcome.notes;
    notes.iter().filter(|n| n.warning).map(|n| n.to_string().replacen("f:", "", 1)).collect()
}

#[track_caller]
fn check(text: &str, want: &[&str]) {
    assert_eq!(warnings(text), want, "{text}");
}

fn cnp(spec: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: p, namespace: a}}\nspec: {spec}\n"
    )
}

fn ccnp(spec: &str) -> String {
    cnp(spec)
        .replace("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
        .replace(", namespace: a", "")
}

const PODS: &str = "\
---
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
apiVersion: v1
kind: Namespace
metadata: {name: b}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: a, labels: {app: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: b, labels: {app: db}}
";

#[test]
fn a_plain_policy_has_no_warning() {
    check(
        &cnp(
            "{endpointSelector: {matchLabels: {app: web}}, ingress: [{fromEndpoints: [{matchLabels: {app: x}}]}]}",
        ),
        &[],
    );
}

#[test]
fn a_label_that_is_no_part_of_identities_matches_nothing() {
    check(
        &cnp(
            "{endpointSelector: {matchLabels: {pod-template-hash: x}}, ingress: [{fromEntities: [host]}]}",
        ),
        &["4:26: spec.endpointSelector: matches nothing: `pod-template-hash` is not part of \
           identities; use a label of your own, or for a namespace's label \
           `k8s:io.cilium.k8s.namespace.labels.pod-template-hash`"],
    );
    check(
        &ccnp(
            "{nodeSelector: {matchLabels: {kubernetes.io/os: linux}}, ingress: [{fromEntities: [host]}]}",
        ),
        &[
            "4:22: spec.nodeSelector: matches nothing: `kubernetes.io/os` is not part of identities; \
           use a label of your own, or for a namespace's label \
           `k8s:io.cilium.k8s.namespace.labels.kubernetes.io/os`",
        ],
    );
}

#[test]
fn labels_have_a_case_a_source_and_reserved_names() {
    let peer = |labels: &str| {
        cnp(&format!(
            "{{endpointSelector: {{}}, ingress: [{{fromEndpoints: [{{matchLabels: {{{labels}}}}}]}}]}}"
        ))
    };
    check(
        &peer("App: service-a"),
        &["4:40: spec.ingress[0]: probably matches nothing: labels have a case, and the label is \
           `app`, not `App`"],
    );
    check(
        &peer("'kubernetes:app': x"),
        &["4:40: spec.ingress[0]: matches nothing: no label has the source `kubernetes`; write \
           `k8s:` or leave it out"],
    );
    check(
        &peer("'reserved:hosts': ''"),
        &["4:40: spec.ingress[0]: matches nothing: there is no label `reserved:hosts`"],
    );
}

#[test]
fn a_namespace_that_is_not_there_matches_nothing() {
    let text = cnp(
        "{endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': c}}]}]}",
    );
    check(&text, &[]);
    check(&(text + PODS), &["4:40: spec.ingress[0]: matches nothing: there is no namespace `c`"]);
}

#[test]
fn a_peer_that_is_only_elsewhere_needs_its_namespace() {
    check(
        &(cnp("{endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]}")
            + PODS),
        &[
            "4:40: spec.ingress[0]: matches nothing: a peer is in the policy's namespace `a` unless it \
           names another; such pods are in `b`: add `k8s:io.kubernetes.pod.namespace: b`",
        ],
    );
}

#[test]
fn two_values_of_one_label_match_nothing() {
    check(
        &cnp(
            "{endpointSelector: {matchLabels: {app: a}, matchExpressions: [{key: app, operator: In, values: [b]}]}, ingress: [{fromEntities: [host]}]}",
        ),
        &["4:26: spec.endpointSelector: matches nothing: `app` would need two values"],
    );
}

#[test]
fn a_rule_that_another_hides_is_named() {
    check(
        &cnp(
            "{endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: x}}], toPorts: [{ports: [{port: '80'}]}]}], ingressDeny: [{fromEndpoints: [{}]}]}",
        ),
        &["4:40: spec.ingress[0]: never decides: `CiliumNetworkPolicy/a/p#spec.ingressDeny[0]` \
           matches all of it first"],
    );
    check(
        &cnp(
            "{endpointSelector: {}, ingress: [{fromEndpoints: [{}]}], ingressDeny: [{fromEndpoints: [{matchLabels: {app: x}}]}]}",
        ),
        &[],
    );
}

#[test]
fn names_need_a_rule_that_lets_pods_ask_for_them() {
    let names = "{toFQDNs: [{matchName: api.swift.com}], toPorts: [{ports: [{port: '443'}]}]}";
    check(
        &cnp(&format!("{{endpointSelector: {{}}, egress: [{names}]}}")),
        &[
            "4:39: spec.egress[0]: `api.swift.com` is never learnt: no rule lets these pods ask for it; \
           add an egress rule to the DNS server with `rules: {dns: [...]}`",
        ],
    );
    let dns = "{toEntities: [cluster], toPorts: [{ports: [{port: '53', protocol: ANY}], rules: {dns: [{matchPattern: '*.swift.com'}]}}]}";
    check(&cnp(&format!("{{endpointSelector: {{}}, egress: [{names}, {dns}]}}")), &[]);
}

#[test]
fn what_this_version_cannot_know_is_said_of_a_policy_that_is_right() {
    let missing = |egress: &str, cluster: &str| {
        let text = cnp(&format!("{{endpointSelector: {{}}, egress: [{egress}]}}"));
        let options = Options { cluster: cluster.to_owned(), ..Options::default() };
        let notes = check_documents(&read("f", &text).unwrap(), &options).outcome.notes;
        let notes = notes.iter().filter(|note| note.text.starts_with("is not in force"));
        notes.map(|note| format!("{}: {}", note.field, note.text)).collect::<Vec<_>>()
    };
    let dns = "{toEntities: [cluster], toPorts: [{ports: [{port: '53', protocol: ANY}]}]}";
    let names = "{toFQDNs: [{matchName: api.swift.com}]}";
    assert_eq!(
        missing(&format!("{dns}, {names}"), "default"),
        [
            "spec.egress[1]: is not in force with this version: addresses of names are not learnt yet"
        ]
    );
    let mesh = "{toEndpoints: [{matchLabels: {io.cilium.k8s.policy.cluster: mumbai}}]}";
    assert_eq!(
        missing(mesh, "jakarta"),
        ["spec.egress[0]: is not in force with this version: clusters are not joined yet: nobody \
          of another one is known"]
    );
    assert_eq!(missing(mesh, "mumbai"), [""; 0]);
    assert_eq!(missing("{toEndpoints: [{}]}", "jakarta"), [""; 0]);
}

#[test]
fn default_deny_that_may_surprise_is_named() {
    check(
        &cnp("{endpointSelector: {}, egressDeny: [{toEntities: [world]}]}"),
        &["4:43: spec.egressDeny[0]: has deny rules only, which also deny all other egress by \
           default; to deny no more than is written, add `enableDefaultDeny: {egress: false}`"],
    );
    check(
        &cnp(
            "{endpointSelector: {}, enableDefaultDeny: {egress: false}, egressDeny: [{toEntities: [world]}]}",
        ),
        &[],
    );
    check(
        &(cnp("{endpointSelector: {}, egressDeny: [{toEntities: [world]}]}")
            + "---\n"
            + &cnp("{endpointSelector: {}, egress: [{toEntities: [host]}]}")
                .replace("name: p", "name: q")),
        &[],
    );
    let notes = report(&cnp("{endpointSelector: {}, ingress: [{}]}")).outcome.notes;
    assert!(notes.iter().any(|note| !note.warning && note.text.starts_with("is an empty rule")));
    check(&cnp("{endpointSelector: {}, ingress: [{}]}"), &[]);
    check(
        &cnp(
            "{endpointSelector: {}, enableDefaultDeny: {ingress: true}, egress: [{toEntities: [host]}]}",
        ),
        &[
            "4:59: spec.enableDefaultDeny.ingress: has no effect without rules: to deny everything, \
           write `ingress: [{}]`",
        ],
    );
}

#[test]
fn what_reaches_past_the_namespace_is_named() {
    check(
        &cnp("{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: '80'}]}]}]}"),
        &["4:40: spec.ingress[0]: lets everybody in, the world outside the cluster included"],
    );
    check(
        &ccnp("{endpointSelector: {}, ingress: [{fromEntities: [cluster]}]}"),
        &[
            "4:26: spec.endpointSelector: selects the endpoints of every namespace, the system's own \
           included, and switches default deny on for them",
        ],
    );
    check(
        &cnp(
            "{endpointSelector: {matchLabels: {'k8s:io.kubernetes.pod.namespace': b}}, ingress: [{fromEntities: [host]}]}",
        ),
        &["4:26: spec.endpointSelector: selects pods of `a`, whatever namespace it asks for"],
    );
}

#[test]
fn rules_for_requests_without_a_protocol_mean_tcp() {
    check(
        &cnp(
            "{endpointSelector: {}, ingress: [{fromEntities: [host], toPorts: [{ports: [{port: '80'}], rules: {http: [{}]}}]}]}",
        ),
        &["4:82: spec.ingress[0].toPorts[0].ports[0].protocol: rules for requests without a \
           protocol: TCP is meant"],
    );
}

#[test]
fn references_that_are_not_there_are_named() {
    let text = cnp(
        "{endpointSelector: {}, egress: [{toServices: [{k8sService: {serviceName: s}}]}, {toCIDRSet: [{cidrGroupRef: g}]}]}",
    );
    check(
        &text,
        &[
            "4:39: spec.egress[0]: names a service that is not here: it means nobody until there is one",
            "4:87: spec.egress[1]: names a group of ranges that is not here: it means nobody until \
             there is one",
        ],
    );
    check(
        &(text
            + "---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: a}\nspec: {selector: {app: x}, ports: [{port: 80}]}\n\
               ---\napiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: g}\nspec: {externalCIDRs: [10.0.0.0/8]}\n"),
        &[],
    );
}

#[track_caller]
fn check_cost(text: &str, want: usize) {
    let costs: Vec<usize> = report(text).costs.iter().map(|cost| cost.entries).collect();
    assert_eq!(costs, [want], "{text}");
}

#[test]
fn costs_are_known_before() {
    let rule = |rule: &str| cnp(&format!("{{endpointSelector: {{}}, ingress: [{rule}]}}"));
    // One for the own node, which may enter; one for each peer and block of ports.
    check_cost(
        &rule(
            "{fromEndpoints: [{matchLabels: {app: x}}], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}",
        ),
        2,
    );
    check_cost(&rule("{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}"), 2);
    check_cost(&rule("{toPorts: [{ports: [{port: '80'}]}]}"), 4);
    check_cost(&rule("{toPorts: [{ports: [{port: '8080', endPort: 8090, protocol: TCP}]}]}"), 4);
    check_cost(&(rule("{fromEndpoints: [{}]}") + PODS), 2);
}
