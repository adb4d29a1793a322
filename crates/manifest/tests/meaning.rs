//! What manifests mean: truth tables written from the facts (`policy.md`
//! sections 1.1, 1.4, 1.7, 2.3, 2.6 and 4.1) before the code ran.
//!
//! Every line is asked of the evaluator and of the compiled table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use std::collections::BTreeMap;

use model::{Direction, IdentityBook, Label, Labels, Reserved};
use policy::{Decision, Options, Policy, Probe, Why, compile, evaluate};

/// Pods of namespaces `a` (team red) and `b` (team blue), as `ns/app`, and one
/// of another cluster, `far:a/x`.
fn pod(text: &str) -> Labels {
    let (cluster, text) = match text.strip_prefix("far:") {
        Some(text) => ("far", text),
        None => ("default", text),
    };
    let (namespace, app) = text.split_once('/').expect("ns/app");
    let team = if namespace == "a" { "red" } else { "blue" };
    [
        Label::k8s("app", app),
        Label::k8s("io.kubernetes.pod.namespace", namespace),
        Label::k8s("io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name", namespace),
        Label::k8s("io.cilium.k8s.namespace.labels.team", team),
        Label::k8s("io.cilium.k8s.policy.cluster", cluster),
        Label::k8s("io.cilium.k8s.policy.serviceaccount", "default"),
    ]
    .into_iter()
    .collect()
}

/// A pod, or `@name` for a reserved identity.
fn end(text: &str) -> Labels {
    match text.strip_prefix('@') {
        Some(name) => Reserved::ALL
            .into_iter()
            .find(|reserved| reserved.name() == name)
            .map(|reserved| reserved.identity().labels)
            .expect("a reserved identity"),
        None => pod(text),
    }
}

fn accepted(text: &str) -> Vec<Policy> {
    let documents = manifest::read("f.yaml", text).expect("readable");
    let outcome = manifest::policies(&documents);
    let refusals: Vec<String> = outcome.refusals.iter().map(ToString::to_string).collect();
    assert_eq!(refusals, Vec::<String>::new(), "{text}");
    outcome.policies
}

/// `WHY RULE...`, rules by their path inside the object.
fn shown(decision: &Decision) -> String {
    let word = match (decision.why, decision.allow) {
        (Why::Unenforced, true) => "unenforced",
        (Why::Rule, true) => "allow",
        (Why::DefaultDeny, false) => "default-deny",
        (Why::DenyRule, false) => "deny",
        (Why::LocalHost, true) => "localhost",
        other => panic!("{other:?}"),
    };
    let rules = decision.rules.rules.iter().map(|rule| rule.path.trim_start_matches("spec."));
    [word].into_iter().chain(rules).collect::<Vec<_>>().join(" ")
}

/// Asks each `SUBJECT in|out END PROTOCOL[:PORT]`.
#[track_caller]
fn check(text: &str, cases: &[(&str, &str)]) {
    let policies = accepted(text);
    let pods = ["a/x", "a/y", "b/x", "b/y", "far:a/x"].map(pod);
    let identities = IdentityBook::new(pods);
    let ports = BTreeMap::from([("http".to_owned(), (6, 8080))]);
    let options = Options::default();
    for (question, want) in cases {
        let [subject, direction, peer, what] = question.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{question}")
        };
        let (protocol, port) = what.split_once(':').unwrap_or((what, "0"));
        let protocol = match protocol {
            "tcp" => 6,
            "udp" => 17,
            "sctp" => 132,
            "icmp" => 1,
            other => panic!("{other}"),
        };
        let direction = if direction == "in" { Direction::Ingress } else { Direction::Egress };
        let (subject, peer, port) = (end(subject), end(peer), port.parse().unwrap());
        let probe = Probe { direction, peer: &peer, protocol, port };
        let meant = evaluate(&policies, &subject, &ports, &probe, &options);
        assert_eq!(shown(&meant), *want, "meaning of {question} under {text}");
        let table = compile(&policies, &subject, &ports, &identities, &options).unwrap();
        let found = table.lookup(direction, identities.id(&peer).unwrap(), protocol, port);
        assert_eq!(found, meant, "table on {question} under {text}");
    }
}

/// A `CiliumNetworkPolicy` of namespace `a` for everybody there.
fn cnp(body: &str) -> String {
    policy("CiliumNetworkPolicy", "  name: p\n  namespace: a", body)
}

/// A `CiliumClusterwideNetworkPolicy` for everybody.
fn ccnp(body: &str) -> String {
    policy("CiliumClusterwideNetworkPolicy", "  name: p", body)
}

fn policy(kind: &str, metadata: &str, body: &str) -> String {
    let body = body.replace('\n', "\n  ");
    format!(
        "apiVersion: cilium.io/v2\nkind: {kind}\nmetadata:\n{metadata}\nspec:\n  \
         endpointSelector: {{}}\n  {body}\n"
    )
}

// Section 1.1: the envelope.

#[test]
fn rules_have_the_name_that_operators_write() {
    let text = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: a}\n\
                spec: {endpointSelector: {}, ingress: [{}, {}]}\n\
                specs:\n- {endpointSelector: {}, egress: [{}]}\n- {endpointSelector: {}, egressDeny: [{}], ingressDeny: [{}]}\n";
    let names: Vec<String> =
        accepted(text)[0].rules.iter().map(|rule| rule.id.to_string()).collect();
    assert_eq!(
        names,
        [
            "CiliumNetworkPolicy/a/p#spec.ingress[0]",
            "CiliumNetworkPolicy/a/p#spec.ingress[1]",
            "CiliumNetworkPolicy/a/p#specs[0].egress[0]",
            "CiliumNetworkPolicy/a/p#specs[1].ingressDeny[0]",
            "CiliumNetworkPolicy/a/p#specs[1].egressDeny[0]",
        ]
    );
    let names: Vec<String> =
        accepted(&ccnp("ingress: [{}]"))[0].rules.iter().map(|rule| rule.id.to_string()).collect();
    assert_eq!(names, ["CiliumClusterwideNetworkPolicy/-/p#spec.ingress[0]"]);
}

#[test]
fn spec_and_specs_all_apply() {
    let text = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: a}\n\
                spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: x}}]}]}\n\
                specs: [{endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: 'y'}}]}]}]\n";
    check(
        text,
        &[
            ("a/y in a/x tcp:80", "allow ingress[0]"),
            ("a/x in a/y tcp:80", "allow specs[0].ingress[0]"),
            ("a/x in b/x tcp:80", "default-deny"),
        ],
    );
}

#[test]
fn the_fields_that_only_describe_change_nothing() {
    check(
        &cnp(
            "description: words\nlabels: [\"k8s:a=b\", {key: a, value: b, source: k8s}]\nnodeSelector: null\ningress: [{}]",
        ),
        &[("a/x in a/y tcp:80", "default-deny")],
    );
}

#[test]
fn a_policy_without_a_namespace_is_in_the_default_one() {
    let policies = accepted(&policy("CiliumNetworkPolicy", "  name: p", "ingress: [{}]"));
    assert_eq!(policies[0].name.to_string(), "CiliumNetworkPolicy/default/p");
}

#[test]
fn of_two_objects_with_one_name_the_later_counts() {
    let text = format!("{}---\n{}", cnp("ingress: [{}]"), cnp("egress: [{}]"));
    check(&text, &[("a/x in a/y tcp:80", "unenforced"), ("a/x out a/y tcp:80", "default-deny")]);
}

// Section 1.4: absent, null and empty.

#[test]
fn a_rule_without_members_allows_nobody_and_denies_by_default() {
    for body in ["ingress: [{}]", "ingress: [{fromEndpoints: null}]", "ingress: [{toPorts: []}]"] {
        check(
            &cnp(body),
            &[
                ("a/x in a/y tcp:80", "default-deny"),
                ("a/x in @world tcp:80", "default-deny"),
                ("a/x out a/y tcp:80", "unenforced"),
                ("b/x in a/y tcp:80", "unenforced"),
            ],
        );
    }
    check(
        &cnp("egress: [{}]"),
        &[("a/x out a/y tcp:80", "default-deny"), ("a/x in a/y tcp:80", "unenforced")],
    );
    check(&cnp("ingressDeny: [{}]"), &[("a/x in a/y tcp:80", "default-deny")]);
}

#[test]
fn ports_alone_are_open_to_anybody() {
    check(
        &cnp("ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]"),
        &[
            ("a/x in @world tcp:80", "allow ingress[0]"),
            ("a/x in b/y tcp:80", "allow ingress[0]"),
            ("a/x in a/y tcp:81", "default-deny"),
            ("a/x in a/y icmp", "default-deny"),
        ],
    );
}

#[test]
fn an_empty_list_of_peers_is_nobody_even_with_ports() {
    for member in ["fromEndpoints", "fromEntities"] {
        for ports in ["", ", toPorts: [{ports: [{port: '80'}]}]"] {
            check(
                &cnp(&format!("ingress: [{{{member}: []{ports}}}]")),
                &[("a/x in a/y tcp:80", "default-deny"), ("a/x in @world tcp:80", "default-deny")],
            );
        }
    }
}

#[test]
fn an_empty_list_of_ports_is_every_port() {
    check(
        &cnp("ingress: [{fromEndpoints: [{}], toPorts: []}]"),
        &[("a/x in a/y tcp:1", "allow ingress[0]"), ("a/x in a/y icmp", "allow ingress[0]")],
    );
}

#[test]
fn an_element_without_ports_adds_none_but_is_there() {
    for ports in ["[{}]", "[{ports: []}]", "[{ports: null}]"] {
        check(
            &cnp(&format!("ingress: [{{fromEndpoints: [{{}}], toPorts: {ports}}}]")),
            &[("a/x in a/y tcp:80", "default-deny"), ("a/x in a/y icmp", "default-deny")],
        );
        check(
            &cnp(&format!("ingress: [{{toPorts: {ports}}}]")),
            &[("a/x in a/y tcp:80", "default-deny")],
        );
    }
    check(
        &cnp("ingress: [{fromEndpoints: [{}], toPorts: [{}, {ports: [{port: '80'}]}]}]"),
        &[("a/x in a/y tcp:80", "allow ingress[0]"), ("a/x in a/y tcp:81", "default-deny")],
    );
}

#[test]
fn an_empty_peer_selector_is_the_namespace_or_every_pod() {
    check(
        &cnp("ingress: [{fromEndpoints: [{}]}]"),
        &[
            ("a/x in a/y tcp:80", "allow ingress[0]"),
            ("a/x in b/y tcp:80", "default-deny"),
            ("a/x in far:a/x tcp:80", "default-deny"),
            ("a/x in @world tcp:80", "default-deny"),
            ("a/x in @remote-node tcp:80", "default-deny"),
        ],
    );
    check(
        &ccnp("ingress: [{fromEndpoints: [{}]}]"),
        &[
            ("a/x in b/y tcp:80", "allow ingress[0]"),
            ("a/x in far:a/x tcp:80", "default-deny"),
            ("a/x in @world tcp:80", "default-deny"),
            ("a/x in @init tcp:80", "default-deny"),
            ("a/x in @host tcp:80", "localhost"),
        ],
    );
}

#[test]
fn the_entity_all_is_the_only_true_wildcard() {
    check(
        &cnp("ingress: [{fromEntities: [all]}]"),
        &[
            ("a/x in @world tcp:80", "allow ingress[0]"),
            ("a/x in far:a/x icmp", "allow ingress[0]"),
            ("a/x in @unmanaged udp:53", "allow ingress[0]"),
        ],
    );
}

#[test]
fn ports_are_numbers_ranges_and_the_subjects_names() {
    let ports = |ports: &str| {
        cnp(&format!("ingress: [{{fromEndpoints: [{{}}], toPorts: [{{ports: [{ports}]}}]}}]"))
    };
    check(
        &ports("{port: '8080', endPort: 8090, protocol: TCP}"),
        &[
            ("a/x in a/y tcp:8079", "default-deny"),
            ("a/x in a/y tcp:8080", "allow ingress[0]"),
            ("a/x in a/y tcp:8090", "allow ingress[0]"),
            ("a/x in a/y tcp:8091", "default-deny"),
        ],
    );
    // An end that is not behind the beginning is ignored.
    check(
        &ports("{port: '80', endPort: 7}"),
        &[("a/x in a/y tcp:80", "allow ingress[0]"), ("a/x in a/y tcp:7", "default-deny")],
    );
    // Without a protocol, and with ANY: TCP, UDP and SCTP, not ICMP.
    for text in ["{port: '80'}", "{port: '80', protocol: ANY}", "{port: '80', protocol: ''}"] {
        check(
            &ports(text),
            &[
                ("a/x in a/y tcp:80", "allow ingress[0]"),
                ("a/x in a/y udp:80", "allow ingress[0]"),
                ("a/x in a/y sctp:80", "allow ingress[0]"),
                ("a/x in a/y icmp", "default-deny"),
            ],
        );
    }
    for text in ["{port: '0', protocol: UDP}", "{port: '0', endPort: 65535, protocol: UDP}"] {
        check(
            &ports(text),
            &[
                ("a/x in a/y udp:1", "allow ingress[0]"),
                ("a/x in a/y udp:65535", "allow ingress[0]"),
                ("a/x in a/y tcp:80", "default-deny"),
            ],
        );
    }
    // A number that begins with 0 is octal.
    check(
        &ports("{port: '0120'}"),
        &[("a/x in a/y tcp:80", "allow ingress[0]"), ("a/x in a/y tcp:120", "default-deny")],
    );
    check(
        &ports("{port: HTTP, protocol: TCP}"),
        &[("a/x in a/y tcp:8080", "allow ingress[0]"), ("a/x in a/y tcp:80", "default-deny")],
    );
}

#[test]
fn elements_of_to_ports_are_alternatives() {
    check(
        &cnp(
            "egress: [{toPorts: [{ports: [{port: '80'}]}, {ports: [{port: '81'}, {port: '82'}]}]}]",
        ),
        &[
            ("a/x out b/y tcp:80", "allow egress[0]"),
            ("a/x out b/y tcp:82", "allow egress[0]"),
            ("a/x out b/y tcp:83", "default-deny"),
        ],
    );
}

// Section 1.6 and 1.7.

#[test]
fn deny_rules_win_and_have_their_own_names() {
    check(
        &cnp(
            "ingress:\n- fromEndpoints: [{}]\n- fromEntities: [world]\ningressDeny:\n- fromEntities: [world]\n- toPorts: [{ports: [{port: '22'}]}]",
        ),
        &[
            ("a/x in a/y tcp:80", "allow ingress[0]"),
            ("a/x in a/y tcp:22", "deny ingressDeny[1]"),
            ("a/x in @world tcp:80", "deny ingressDeny[0]"),
            ("a/x in @world tcp:22", "deny ingressDeny[0] ingressDeny[1]"),
            ("a/x in b/y tcp:80", "default-deny"),
        ],
    );
}

#[test]
fn default_deny_can_be_left_off_for_each_direction() {
    check(
        &cnp(
            "enableDefaultDeny: {ingress: false}\ningress: [{fromEntities: [world]}]\negress: [{}]",
        ),
        &[
            ("a/x in a/y tcp:80", "unenforced"),
            ("a/x in @world tcp:80", "allow ingress[0]"),
            ("a/x out a/y tcp:80", "default-deny"),
        ],
    );
    // The switch is the rules': without rules of its direction it does nothing.
    check(
        &cnp("enableDefaultDeny: {ingress: true, egress: true}\negress: [{}]"),
        &[("a/x in a/y tcp:80", "unenforced"), ("a/x out a/y tcp:80", "default-deny")],
    );
    check(
        &cnp("enableDefaultDeny: {egress: null}\negress: [{}]"),
        &[("a/x out a/y tcp:80", "default-deny")],
    );
}

#[test]
fn a_default_denial_names_the_policies_that_switched_it_on() {
    let text = format!(
        "{}---\n{}",
        cnp("ingress: [{fromEntities: [world]}]"),
        ccnp("ingress: [{fromEntities: [health]}]")
    );
    let probe = Probe { direction: Direction::Ingress, peer: &pod("a/y"), protocol: 6, port: 80 };
    let decision =
        evaluate(&accepted(&text), &pod("a/x"), &BTreeMap::new(), &probe, &Options::default());
    let because: Vec<String> = decision.rules.because.iter().map(ToString::to_string).collect();
    assert_eq!(because, ["CiliumClusterwideNetworkPolicy/-/p", "CiliumNetworkPolicy/a/p"]);
}

// Section 2.3: scopes.

fn from(selector: &str) -> String {
    format!("ingress: [{{fromEndpoints: [{selector}]}}]")
}

#[test]
fn a_namespaced_subject_cannot_leave_its_namespace() {
    let text = cnp("ingress: [{}]").replace(
        "endpointSelector: {}",
        "endpointSelector: {matchLabels: {app: x, 'k8s:io.kubernetes.pod.namespace': b}}",
    );
    check(
        &text,
        &[
            ("a/x in a/y tcp:80", "default-deny"),
            ("a/y in a/x tcp:80", "unenforced"),
            ("b/x in a/y tcp:80", "unenforced"),
        ],
    );
}

#[test]
fn a_clusterwide_subject_is_everybody_but_the_node() {
    check(
        &ccnp("ingress: [{}]"),
        &[
            ("a/x in a/y tcp:80", "default-deny"),
            ("b/x in a/y tcp:80", "default-deny"),
            ("@health in a/y tcp:80", "default-deny"),
            ("@ingress in a/y tcp:80", "default-deny"),
            ("@host in a/y tcp:80", "unenforced"),
        ],
    );
}

#[test]
fn peers_are_of_the_policys_namespace_unless_they_name_another() {
    check(
        &cnp(&from("{matchLabels: {app: 'y'}}")),
        &[("a/x in a/y tcp:80", "allow ingress[0]"), ("a/x in b/y tcp:80", "default-deny")],
    );
    for key in [
        "io.kubernetes.pod.namespace",
        "'k8s:io.kubernetes.pod.namespace'",
        "'any:io.kubernetes.pod.namespace'",
    ] {
        check(
            &cnp(&from(&format!("{{matchLabels: {{app: 'y', {key}: b}}}}"))),
            &[
                ("a/x in b/y tcp:80", "allow ingress[0]"),
                ("a/x in b/x tcp:80", "default-deny"),
                ("a/x in a/y tcp:80", "default-deny"),
            ],
        );
    }
    check(
        &cnp(&from("{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: Exists}]}")),
        &[
            ("a/x in b/y tcp:80", "allow ingress[0]"),
            ("a/x in a/y tcp:80", "allow ingress[0]"),
            ("a/x in far:a/x tcp:80", "default-deny"),
            ("a/x in @world tcp:80", "default-deny"),
        ],
    );
}

#[test]
fn labels_of_a_namespace_reach_across_namespaces() {
    check(
        &cnp(&from("{matchLabels: {'k8s:io.cilium.k8s.namespace.labels.team': blue}}")),
        &[("a/x in b/y tcp:80", "allow ingress[0]"), ("a/x in a/y tcp:80", "default-deny")],
    );
    check(
        &cnp(&from(
            "{matchLabels: {app: 'y', io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name: b}}",
        )),
        &[("a/x in b/y tcp:80", "allow ingress[0]"), ("a/x in b/x tcp:80", "default-deny")],
    );
}

#[test]
fn a_reserved_label_is_taken_as_it_is() {
    for key in ["'reserved:remote-node'", "$remote-node"] {
        check(
            &cnp(&from(&format!("{{matchLabels: {{{key}: ''}}}}"))),
            &[
                ("a/x in @remote-node tcp:80", "allow ingress[0]"),
                ("a/x in a/y tcp:80", "default-deny"),
            ],
        );
    }
    check(
        &ccnp(&from("{matchExpressions: [{key: 'reserved:health', operator: Exists}]}")),
        &[("a/x in @health tcp:80", "allow ingress[0]")],
    );
}

#[test]
fn a_policy_for_endpoints_without_labels_reaches_peers_in_no_namespace() {
    let text = ccnp(&from("{}"))
        .replace("endpointSelector: {}", "endpointSelector: {matchLabels: {'reserved:init': ''}}");
    // Still of this cluster: reserved identities carry no cluster.
    check(
        &text,
        &[("@init in a/y tcp:80", "allow ingress[0]"), ("@init in @health tcp:80", "default-deny")],
    );
}

#[test]
fn another_cluster_must_be_named() {
    check(
        &cnp(&from("{matchLabels: {app: x, io.cilium.k8s.policy.cluster: far}}")),
        &[("a/y in far:a/x tcp:80", "allow ingress[0]"), ("a/y in a/x tcp:80", "default-deny")],
    );
    check(
        &cnp(&from("{matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}]}")),
        &[("a/y in far:a/x tcp:80", "allow ingress[0]"), ("a/y in a/x tcp:80", "allow ingress[0]")],
    );
}

#[test]
fn expressions_that_exclude_match_what_lacks_the_key() {
    check(
        &cnp(&from(
            "{matchExpressions: [{key: app, operator: NotIn, values: [x]}, {key: old, operator: DoesNotExist}]}",
        )),
        &[("a/x in a/y tcp:80", "allow ingress[0]"), ("a/y in a/x tcp:80", "default-deny")],
    );
}

#[test]
fn selectors_of_one_rule_are_alternatives() {
    check(
        &cnp(&from("{matchLabels: {app: x}}, {matchLabels: {app: 'y'}}")),
        &[("a/x in a/y tcp:80", "allow ingress[0]"), ("a/y in a/x tcp:80", "allow ingress[0]")],
    );
    check(
        &cnp(&from("{matchLabels: {app: x, team: 'y'}}")),
        &[("a/y in a/x tcp:80", "default-deny")],
    );
}

// Section 2.6.

#[test]
fn the_cluster_is_pods_and_nodes_of_this_cluster() {
    check(
        &cnp("egress: [{toEntities: [cluster]}]"),
        &[
            ("a/x out b/y tcp:80", "allow egress[0]"),
            ("a/x out @host tcp:80", "allow egress[0]"),
            ("a/x out @kube-apiserver tcp:80", "allow egress[0]"),
            ("a/x out @unmanaged tcp:80", "allow egress[0]"),
            ("a/x out far:a/x tcp:80", "default-deny"),
            ("a/x out @world tcp:80", "default-deny"),
        ],
    );
    check(
        &cnp("egress: [{toEntities: [cluster-mesh]}]"),
        &[("a/x out far:a/x tcp:80", "allow egress[0]"), ("a/x out @world tcp:80", "default-deny")],
    );
    check(&cnp("egress: [{toEntities: [none]}]"), &[("a/x out b/y tcp:80", "default-deny")]);
    check(
        &cnp("egress: [{toEntities: [world, host]}]"),
        &[
            ("a/x out @world-ipv6 tcp:80", "allow egress[0]"),
            ("a/x out @host tcp:80", "allow egress[0]"),
            ("a/x out @remote-node tcp:80", "default-deny"),
        ],
    );
}

// Section 4.1: NetworkPolicy of Kubernetes.

fn knp(body: &str) -> String {
    let body = body.replace('\n', "\n  ");
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: p\n  \
         namespace: a\nspec:\n  {body}\n"
    )
}

#[test]
fn a_network_policy_isolates_what_it_lists() {
    for body in [
        "podSelector: {}",
        "podSelector: {}\npolicyTypes: [Ingress]",
        "podSelector: {}\ningress: []",
        "podSelector: {}\negress: []",
    ] {
        check(
            &knp(body),
            &[
                ("a/x in a/y tcp:80", "default-deny"),
                ("a/x in @host tcp:80", "localhost"),
                ("a/x out a/y tcp:80", "unenforced"),
                ("b/x in a/y tcp:80", "unenforced"),
            ],
        );
    }
    check(
        &knp("podSelector: {}\npolicyTypes: [Egress]"),
        &[("a/x in a/y tcp:80", "unenforced"), ("a/x out a/y tcp:80", "default-deny")],
    );
    check(
        &knp("podSelector: {}\negress: [{}]"),
        &[("a/x in a/y tcp:80", "default-deny"), ("a/x out @world tcp:80", "allow egress[0]")],
    );
    // Rules of a direction that is not listed have no effect.
    check(
        &knp("podSelector: {}\npolicyTypes: [Egress]\ningress: [{}]"),
        &[("a/x in a/y tcp:80", "unenforced")],
    );
}

#[test]
fn an_empty_rule_of_a_network_policy_allows_everything() {
    for body in ["[{}]", "[{from: []}]", "[{from: null, ports: []}]"] {
        check(
            &knp(&format!("podSelector: {{}}\ningress: {body}")),
            &[
                ("a/x in @world icmp", "allow ingress[0]"),
                ("a/x in far:a/x tcp:80", "allow ingress[0]"),
            ],
        );
    }
}

#[test]
fn peers_of_a_network_policy_are_pods_namespaces_or_both() {
    let from = |peers: &str| knp(&format!("podSelector: {{}}\ningress: [{{from: [{peers}]}}]"));
    check(
        &from("{podSelector: {matchLabels: {app: 'y'}}}"),
        &[("a/x in a/y tcp:80", "allow ingress[0]"), ("a/x in b/y tcp:80", "default-deny")],
    );
    check(
        &from("{podSelector: {}}"),
        &[("a/x in a/y tcp:80", "allow ingress[0]"), ("a/x in b/y tcp:80", "default-deny")],
    );
    check(
        &from("{namespaceSelector: {matchLabels: {team: blue}}}"),
        &[("a/x in b/x tcp:80", "allow ingress[0]"), ("a/x in a/y tcp:80", "default-deny")],
    );
    check(
        &from("{namespaceSelector: {}}"),
        &[
            ("a/x in b/x tcp:80", "allow ingress[0]"),
            ("a/x in a/y tcp:80", "allow ingress[0]"),
            ("a/x in @world tcp:80", "default-deny"),
            ("a/x in far:a/x tcp:80", "default-deny"),
        ],
    );
    let both = "namespaceSelector: {matchLabels: {team: blue}}";
    let pods = "podSelector: {matchLabels: {app: 'y'}}";
    check(
        &from(&format!("{{{both}, {pods}}}")),
        &[
            ("a/x in b/y tcp:80", "allow ingress[0]"),
            ("a/x in b/x tcp:80", "default-deny"),
            ("a/x in a/y tcp:80", "default-deny"),
        ],
    );
    check(
        &from(&format!("{{{both}}}, {{{pods}}}")),
        &[
            ("a/x in b/x tcp:80", "allow ingress[0]"),
            ("a/x in a/y tcp:80", "allow ingress[0]"),
            ("a/y in a/x tcp:80", "default-deny"),
        ],
    );
}

#[test]
fn ports_of_a_network_policy_are_tcp_unless_said_otherwise() {
    let ports = |ports: &str| knp(&format!("podSelector: {{}}\ningress: [{{ports: [{ports}]}}]"));
    check(
        &ports("{port: 80}"),
        &[("a/x in a/y tcp:80", "allow ingress[0]"), ("a/x in a/y udp:80", "default-deny")],
    );
    check(
        &ports("{protocol: UDP}"),
        &[("a/x in a/y udp:1", "allow ingress[0]"), ("a/x in a/y tcp:1", "default-deny")],
    );
    check(
        &ports("{port: 80, endPort: 90}, {port: http}"),
        &[
            ("a/x in a/y tcp:90", "allow ingress[0]"),
            ("a/x in a/y tcp:91", "default-deny"),
            ("a/x in a/y tcp:8080", "allow ingress[0]"),
        ],
    );
}
