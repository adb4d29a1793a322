//! What is refused, where, and with which words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use manifest::{Note, policies, read};
use proptest::prelude::*;

/// Refusals of the policies in the text, without the file's name.
fn refusals(text: &str) -> Vec<String> {
    let refusals = match read("f", text) {
        Ok(documents) => policies(&documents).refusals,
        Err(refusals) => refusals,
    };
    refusals.iter().map(|refusal| refusal.to_string().replacen("f:", "", 1)).collect()
}

#[track_caller]
fn check(text: &str, want: &[&str]) {
    assert_eq!(refusals(text), want, "{text}");
}

/// A policy whose `spec` begins in line 4 at column 7.
fn cnp(spec: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: p, namespace: a}}\nspec: {spec}\n"
    )
}

fn ingress(rule: &str) -> String {
    cnp(&format!("{{endpointSelector: {{}}, ingress: [{rule}]}}"))
}

#[test]
fn several_mistakes_are_named_at_once() {
    let text = "\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: p
spec:
  endpointSelector:
    matchLabels:
      app: 7
  ingress:
  - fromEndpoint:
    - matchLabels: {app: a}
    toPorts:
    - ports:
      - port: 8080
        protocol: tcp
      rules:
        http: [{}]
  egress:
  - toFQDNs:
    - matchName: example.com
";
    check(
        text,
        &[
            "8:12: spec.endpointSelector.matchLabels.app: must be a string, this is an integer (fix: \
         quote it)",
            "10:5: spec.ingress[0].fromEndpoint: there is no such field (fix: write `fromEndpoints`)",
            "14:15: spec.ingress[0].toPorts[0].ports[0].port: must be a string, this is an integer \
         (fix: quote it)",
            "15:19: spec.ingress[0].toPorts[0].ports[0].protocol: there is no protocol `tcp` (fix: \
         write TCP)",
            "16:7: spec.ingress[0].toPorts[0].rules: rules for what is inside the connection are not \
         supported yet",
            "19:5: spec.egress[0].toFQDNs: names are not supported yet",
        ],
    );
}

#[test]
fn no_mistake_hides_another() {
    let text = ingress("{fromEntities: [x], toPorts: [{ports: [{port: '99999'}]}]}")
        .replace("name: p", "name: P");
    let fields: Vec<String> = refusals(&text)
        .iter()
        .map(|refusal| refusal.split(": ").take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        fields,
        [
            "3:18 metadata.name",
            "4:56 spec.ingress[0].fromEntities[0]",
            "4:86 spec.ingress[0].toPorts[0].ports[0].port",
        ]
    );
}

#[test]
fn one_refused_document_does_not_hide_the_others() {
    let text =
        format!("{}---\n{}", ingress("{icmps: []}"), ingress("{}").replace("name: p", "name: q"));
    let outcome = policies(&read("f", &text).unwrap());
    assert_eq!(outcome.policies.len(), 1);
    assert_eq!(outcome.policies[0].name.name, "q");
    assert_eq!(outcome.refusals.len(), 1);
}

#[test]
fn what_is_not_supported_yet_is_refused_in_every_direction() {
    for (list, members) in [
        ("ingress", "fromCIDR fromCIDRSet fromGroups fromNodes icmps authentication"),
        ("ingressDeny", "fromCIDR fromCIDRSet fromGroups fromNodes icmps"),
        ("egress", "toCIDR toCIDRSet toGroups toNodes toServices toFQDNs icmps authentication"),
        ("egressDeny", "toCIDR toCIDRSet toGroups toNodes toServices icmps"),
    ] {
        for member in members.split(' ') {
            let text = cnp(&format!("{{endpointSelector: {{}}, {list}: [{{{member}: []}}]}}"));
            let refusals = refusals(&text);
            let field = format!("spec.{list}[0].{member}: ");
            assert_eq!(refusals.len(), 1, "{refusals:?}");
            assert!(refusals[0].contains(&field), "{refusals:?}");
            assert!(refusals[0].contains("supported yet"), "{refusals:?}");
        }
    }
    for member in ["rules", "terminatingTLS", "originatingTLS", "serverNames", "listener"] {
        let refusals = refusals(&ingress(&format!("{{toPorts: [{{{member}: x}}]}}")));
        assert!(refusals[0].contains("supported yet"), "{refusals:?}");
    }
    check(
        &cnp("{nodeSelector: {}, ingress: [{}]}"),
        &["4:8: spec.nodeSelector: policies for nodes are not supported yet"],
    );
    check(
        &cnp("{endpointSelector: {}, log: {value: x}, ingress: [{}]}"),
        &["4:30: spec.log: log texts are not supported yet"],
    );
}

#[test]
fn members_that_a_deny_rule_cannot_have_are_refused() {
    check(
        &cnp("{endpointSelector: {}, egressDeny: [{toFQDNs: []}]}"),
        &["4:44: spec.egressDeny[0].toFQDNs: cannot stand in a deny rule"],
    );
}

#[test]
fn requirements_that_left_the_language_are_refused_with_the_rewrite() {
    check(
        &ingress("{fromRequires: [{}]}"),
        &["4:41: spec.ingress[0].fromRequires: is gone from the language: it allowed nothing by \
         itself (fix: add its labels to every selector of the other rules)"],
    );
}

#[test]
fn shorthand_is_refused() {
    check(
        &cnp("{endpointSelector: {app: api}, ingress: [{}]}"),
        &["4:27: spec.endpointSelector.app: there is no such field"],
    );
    check(
        &ingress("{fromEndpoints: [{app: orders}]}"),
        &["4:58: spec.ingress[0].fromEndpoints[0].app: there is no such field"],
    );
    check(
        &ingress("{toPorts: [{http: []}]}"),
        &["4:52: spec.ingress[0].toPorts[0].http: there is no such field"],
    );
}

#[test]
fn a_policy_without_rules_or_subject_is_refused() {
    let empty = "has no rules: it would enforce nothing (fix: to deny everything, write `ingress: \
                 [{}]` or `egress: [{}]`)";
    check(&cnp("{endpointSelector: {}}"), &[&format!("4:7: spec: {empty}")]);
    check(
        &cnp("{endpointSelector: {}, ingress: [], egress: [], enableDefaultDeny: {ingress: true}}"),
        &[&format!("4:7: spec: {empty}")],
    );
    check(
        &cnp("{ingress: [{}]}"),
        &["4:7: spec.endpointSelector: a policy needs an `endpointSelector` (fix: \
         `endpointSelector: {}` selects every endpoint in scope)"],
    );
    check(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\n",
        &["1:1: spec: a policy needs `spec` or `specs`"],
    );
}

#[test]
fn two_kinds_of_peers_in_one_rule_are_refused() {
    check(
        &ingress("{fromEndpoints: [{}], fromEntities: []}"),
        &["4:76: spec.ingress[0].fromEntities: cannot stand beside `fromEndpoints` in one rule \
         (fix: write two rules)"],
    );
}

#[test]
fn names_are_checked() {
    let policy = |metadata: &str| {
        format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {metadata}\n\
             spec: {{endpointSelector: {{}}, ingress: [{{}}]}}\n"
        )
    };
    check(&policy("{namespace: a}"), &["3:11: metadata.name: every policy needs a name"]);
    check(
        &policy("{name: a#b}"),
        &["3:18: metadata.name: is no name: at most 253 of a-z, 0-9 and `-`, in parts divided by \
         `.`, letters or digits at both ends"],
    );
    check(
        &policy("{name: a, namespace: b.c}"),
        &[
            "3:32: metadata.namespace: is no name: at most 63 of a-z, 0-9 and `-`, letters or digits \
         at both ends",
        ],
    );
    check(
        &policy("{name: a, nmae: b}"),
        &["3:21: metadata.nmae: there is no such field (fix: write `name`)"],
    );
    check(
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\n\
         metadata: {name: a, namespace: b}\nspec: {endpointSelector: {}, ingress: [{}]}\n",
        &["3:32: metadata.namespace: a `CiliumClusterwideNetworkPolicy` is in no namespace (fix: \
           leave the namespace out)"],
    );
}

#[test]
fn versions_and_kinds_that_are_not_read_are_refused_not_ignored() {
    check(
        &ingress("{}").replace("cilium.io/v2", "cilium.io/v1"),
        &["1:13: apiVersion: `cilium.io/v1` is not read (fix: apiVersion: cilium.io/v2)"],
    );
    check(
        &ingress("{}").replace("cilium.io/v2", "v1"),
        &["1:13: apiVersion: this kind is read as `cilium.io/v2`, not as `v1`"],
    );
    check(
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\n",
        &["2:7: kind: `AdminNetworkPolicy` is not supported yet"],
    );
    check(
        "apiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy\n",
        &["1:13: apiVersion: this kind is read as `networking.k8s.io/v1`, not as \
         `crd.projectcalico.org/v1`"],
    );
}

#[test]
fn other_kinds_are_left_alone_with_a_note() {
    let text =
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n".to_owned() + &ingress("{}");
    let outcome = policies(&read("f", &text).unwrap());
    assert_eq!((outcome.policies.len(), outcome.refusals.len()), (1, 0));
    let notes: Vec<String> = outcome.notes.iter().map(Note::to_string).collect();
    assert_eq!(notes, ["f:2:7: kind: `Namespace` is not read as a policy: left alone"]);
}

#[test]
fn ports_are_checked() {
    let check = |port: &str, want: &str| {
        let text = ingress(&format!("{{toPorts: [{{ports: [{port}]}}]}}"));
        let refusals = refusals(&text);
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        let (_, message) = refusals[0].split_once(" spec.ingress[0].toPorts[0].ports[0]").unwrap();
        assert_eq!(message, want);
    };
    check("{port: '65536'}", ".port: is no port: they end at 65535");
    check("{port: '99999999999999999999'}", ".port: is no port: they end at 65535");
    check("{port: '08'}", ".port: is no port: a number that begins with 0 is octal");
    check("{port: ''}", ".port: is neither a number nor a name of a port");
    check("{port: '-1x_'}", ".port: is neither a number nor a name of a port");
    check(
        "{port: '80', endPort: '90'}",
        ".endPort: must be an integer, this is a string (fix: leave out the quotes)",
    );
    check("{port: '80', endPort: 65536}", ".endPort: must be 0 to 65535, this is 65536");
    check(
        "{port: '0', endPort: 9}",
        ".port: port 0 is every port and begins no range (fix: begin at \"1\")",
    );
    check("{protocol: TCP}", ".port: a port is needed (fix: `port: \"0\"` is every port)");
    check("{port: '1', protocol: VRRP}", ".protocol: `VRRP` is not supported yet");
    check(
        "{port: '1', protocol: HTTP}",
        ".protocol: there is no protocol `HTTP` (fix: write TCP, UDP, SCTP or ANY)",
    );
    check("~", ": an element of the list is empty");
}

#[test]
fn names_of_ports_are_refused_in_egress() {
    check(
        &cnp("{endpointSelector: {}, egress: [{toPorts: [{ports: [{port: http}]}]}]}"),
        &["4:66: spec.egress[0].toPorts[0].ports[0].port: names of ports are not supported in \
         egress rules yet (fix: write the number)"],
    );
}

#[test]
fn more_than_forty_ports_are_refused() {
    let ports = |count: usize| vec!["{port: '1'}"; count].join(", ");
    let policy = |count| ingress(&format!("{{toPorts: [{{ports: [{}]}}]}}", ports(count)));
    check(&policy(40), &[]);
    check(
        &policy(41),
        &[
            "4:59: spec.ingress[0].toPorts[0].ports: has 41 ports, at most 40 are allowed (fix: use a \
         second element of `toPorts`)",
        ],
    );
}

#[test]
fn selectors_are_checked() {
    let check = |selector: &str, want: &str| {
        let refusals = refusals(&ingress(&format!("{{fromEndpoints: [{selector}]}}")));
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        let (_, message) = refusals[0].split_once(" spec.ingress[0].fromEndpoints[0]").unwrap();
        assert_eq!(message, want);
    };
    check(
        "{matchLabels: {app: yes}}",
        ".matchLabels.app: must be a string, this is a boolean (fix: quote it)",
    );
    check(
        "{matchLabels: {a b: c}}",
        ".matchLabels.a b: `a b` is no key of a label (fix: letters, digits, `-`, `_`, `.` and `/`)",
    );
    check(
        "{matchLabels: {app: 'a b'}}",
        ".matchLabels.app: `a b` is no value of a label (fix: at most 63 letters, digits, `-`, `_` and `.`, letters or digits at both ends)",
    );
    check("{matchLabels: [app]}", ".matchLabels: must be a mapping, this is a list");
    check(
        "{matchExpressions: [{operator: In}]}",
        ".matchExpressions[0].key: an expression needs a key",
    );
    check(
        "{matchExpressions: [{key: a}]}",
        ".matchExpressions[0].operator: an expression needs an operator",
    );
    check(
        "{matchExpressions: [{key: a, operator: in, values: [b]}]}",
        ".matchExpressions[0].operator: there is no operator `in` (fix: write In, NotIn, Exists or DoesNotExist)",
    );
    check(
        "{matchExpressions: [{key: a, operator: In}]}",
        ".matchExpressions[0].values: `In` needs values",
    );
    check(
        "{matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
        ".matchExpressions[0].values: `Exists` takes no values",
    );
    check("app", ": must be a mapping, this is a string");
}

#[test]
fn entities_are_checked() {
    let refusals = refusals(&ingress("{fromEntities: [Host, world-ipv4]}"));
    assert!(
        refusals[0]
            .contains("fromEntities[0]: there is no entity `Host` (fix: write all, world, host,"),
        "{refusals:?}"
    );
    assert!(
        refusals[1].ends_with(
            "there is no entity `world-ipv4` (fix: write `world`, which is both families)"
        ),
        "{refusals:?}"
    );
}

#[test]
fn a_field_of_an_item_of_a_list_has_the_items_path() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: cilium.io/v2\n  kind: CiliumNetworkPolicy\n  metadata: {name: p}\n  spec: {endpointSelector: {}}\n";
    assert!(
        refusals(text)[0].starts_with("7:9: items[0].spec: has no rules"),
        "{:?}",
        refusals(text)
    );
}

#[test]
fn network_policies_are_checked() {
    let policy = |spec: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: p, namespace: a}}\nspec: {spec}\n"
        )
    };
    check(
        &policy("{ingress: []}"),
        &["4:7: spec.podSelector: a policy needs a `podSelector` (fix: `podSelector: {}` selects \
         every pod of the namespace)"],
    );
    check(
        &policy("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}"),
        &["4:44: spec.ingress[0].from[0].ipBlock: address ranges are not supported yet"],
    );
    check(
        &policy("{podSelector: {}, ingress: [{from: [{}]}]}"),
        &[
            "4:43: spec.ingress[0].from[0]: names neither pods nor namespaces (fix: `podSelector: {}` \
         is every pod of the namespace)",
        ],
    );
    check(
        &policy("{podSelector: {}, policyTypes: [ingress]}"),
        &["4:39: spec.policyTypes[0]: there is no such type (fix: write Ingress or Egress)"],
    );
    check(
        &policy("{podSelector: {}, ingress: [{ports: [{port: '80'}]}]}"),
        &[
            "4:51: spec.ingress[0].ports[0].port: a number in quotes is taken for a name (fix: leave \
         out the quotes)",
        ],
    );
    check(
        &policy("{podSelector: {}, ingress: [{ports: [{endPort: 80}]}]}"),
        &["4:54: spec.ingress[0].ports[0].endPort: a range needs a `port` to begin at"],
    );
    check(
        &policy("{podSelector: {}, egress: [{ports: [{port: dns}]}]}"),
        &["4:50: spec.egress[0].ports[0].port: names of ports are not supported in egress rules \
         yet (fix: write the number)"],
    );
}

#[test]
fn a_thousand_mistakes_are_cut_short() {
    let fields: String = (0..100_000).map(|n| format!("  endpointSelectr{n}: 1\n")).collect();
    let text = cnp(&format!("\n{fields}"));
    assert_eq!(refusals(&text).len(), 100);
}

/// A policy with everything in it, from which to take pieces away.
const WHOLE: &str = "\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: a, labels: {a: b}}
spec:
  endpointSelector: {matchLabels: {app: x}, matchExpressions: [{key: a, operator: In, values: [b]}]}
  enableDefaultDeny: {ingress: true, egress: false}
  labels: [\"a=b\", {key: a}]
  ingress:
  - fromEndpoints: [{}, {matchLabels: {'k8s:app': z}}]
    toPorts: [{ports: [{port: '80', endPort: 90, protocol: TCP}, {port: http}]}]
  - fromEntities: [world, all]
  egressDeny: [{toEntities: [host]}]
specs:
- {endpointSelector: {}, egress: [{}]}
";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Damaged policies are refused or taken, and never panic.
    #[test]
    fn no_damaged_policy_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[ -~\n]{0,3}"), 1..6)
    ) {
        let mut text: Vec<char> = WHOLE.chars().collect();
        for (at, new) in edits {
            let at = at.index(text.len());
            text.splice(at..=at, new.chars());
        }
        let text: String = text.into_iter().collect();
        if let Ok(documents) = read("f", &text) {
            let outcome = policies(&documents);
            // Whole or not at all.
            prop_assert!(outcome.policies.len() + outcome.refusals.len() > 0 || !outcome.notes.is_empty() || documents.is_empty());
        }
    }
}

#[test]
fn the_whole_policy_is_taken() {
    check(WHOLE, &[]);
}
