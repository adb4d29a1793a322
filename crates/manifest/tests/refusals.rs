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
    - matchName: '*.example.com'
";
    check(
        text,
        &[
            "8:12: spec.endpointSelector.matchLabels.app: must be a string, this is an integer (fix: \
         quote it)",
            "10:5: spec.ingress[0].fromEndpoint: there is no such field (fix: write `fromEndpoints`)",
            "14:15: spec.ingress[0].toPorts[0].ports[0].port: must be a string, this is an integer \
         (fix: quote it)",
            "15:19: spec.ingress[0].toPorts[0].ports[0].protocol: rules for requests need TCP (fix: \
         write TCP)",
            "20:18: spec.egress[0].toFQDNs[0].matchName: holds `*`: this is a plain name (fix: write \
         `matchPattern`)",
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
        format!("{}---\n{}", ingress("{icmp: []}"), ingress("{}").replace("name: p", "name: q"));
    let outcome = policies(&read("f", &text).unwrap());
    assert_eq!(outcome.policies.len(), 1);
    assert_eq!(outcome.policies[0].name.name, "q");
    assert_eq!(outcome.refusals.len(), 1);
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
        &["4:55: spec.ingress[0].fromRequires: is gone from the language: it allowed nothing by \
         itself (fix: add its labels to every selector of the other rules)"],
    );
}

#[test]
fn shorthand_is_refused() {
    check(
        &cnp("{endpointSelector: {app: api}, ingress: [{}]}"),
        &["4:27: spec.endpointSelector.app: there is no such field (fix: labels stand below \
           `matchLabels`: `matchLabels: {app: api}`)"],
    );
    check(
        &ingress("{fromEndpoints: [{app: orders}]}"),
        &["4:58: spec.ingress[0].fromEndpoints[0].app: there is no such field (fix: labels stand \
           below `matchLabels`: `matchLabels: {app: orders}`)"],
    );
    check(
        &ingress("{toPorts: [{http: []}]}"),
        &[
            "4:52: spec.ingress[0].toPorts[0].http: there is no such field here: it belongs to `rules` \
           (fix: write `rules: {...}` around it, beside `ports`)",
        ],
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
        &ingress("{fromEndpoints: [{}], fromEntities: [all]}"),
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
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: ClusterNetworkPolicies\n",
        &["2:7: kind: there is no kind `ClusterNetworkPolicies`: it would not be enforced \
           (fix: kind: ClusterNetworkPolicy)"],
    );
    check(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: Ingress\n",
        &["2:7: kind: there is no kind `Ingress` in this group"],
    );
    check(
        "apiVersion: x/v1\nkind: AdminNetworkPolicy\n",
        &[
            "1:13: apiVersion: this kind is read as `policy.networking.k8s.io/v1alpha1`, not as `x/v1`",
        ],
    );
    check(
        "apiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy\n",
        &["1:13: apiVersion: this kind is read as `networking.k8s.io/v1`, not as \
         `crd.projectcalico.org/v1`"],
    );
}

#[test]
fn a_misspelt_kind_is_refused_with_the_right_spelling() {
    let spelt = |kind: &str| ingress("{}").replace("CiliumNetworkPolicy", kind);
    for (kind, meant) in [
        ("CiliumNetworkPolcy", "CiliumNetworkPolicy"),
        ("CiliumnetworkPolicy", "CiliumNetworkPolicy"),
        ("CiliumClusterWideNetworkPolicy", "CiliumClusterwideNetworkPolicy"),
        ("NetworkPoilcy", "NetworkPolicy"),
    ] {
        let want = format!(
            "2:7: kind: there is no kind `{kind}`: it would not be enforced (fix: kind: {meant})"
        );
        check(&spelt(kind), &[&want]);
    }
    // Also in the items of a list, and where the version is wrong as well.
    check(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: cilium.io/v1\n  kind: \
         CiliumCIDRGruop\n",
        &["5:9: items[0].kind: there is no kind `CiliumCIDRGruop`: it would not be enforced \
           (fix: kind: CiliumCIDRGroup)"],
    );
    // Kinds of their own are left alone.
    for kind in ["CiliumEgressGatewayPolicy", "CiliumNode", "TracingPolicy"] {
        check(&spelt(kind), &[]);
    }
}

#[test]
fn a_right_kind_with_a_wrong_version_is_refused() {
    for (kind, wrong, reason) in [
        ("CiliumNetworkPolicy", "cilium.io/v2alpha1", "`cilium.io/v2alpha1` is not read"),
        ("CiliumCIDRGroup", "cilium.io/v1", "`cilium.io/v1` is not read"),
        ("CiliumCIDRGroup", "v2", "this kind is read as `cilium.io/v2`, not as `v2`"),
        (
            "NetworkPolicy",
            "extensions/v1beta1",
            "this kind is read as `networking.k8s.io/v1`, not as `extensions/v1beta1`",
        ),
        ("NetworkPolicy", "networking.k8s.io/v1beta1", "`networking.k8s.io/v1beta1` is not read"),
        (
            "ClusterNetworkPolicy",
            "policy.networking.k8s.io/v1alpha1",
            "`policy.networking.k8s.io/v1alpha1` is not read",
        ),
        (
            "AdminNetworkPolicy",
            "policy.networking.k8s.io/v1alpha2",
            "`policy.networking.k8s.io/v1alpha2` is not read",
        ),
    ] {
        let found = refusals(&format!("apiVersion: {wrong}\nkind: {kind}\n"));
        let wanted = format!("1:13: apiVersion: {reason}");
        assert!(found.iter().any(|refusal| refusal.starts_with(&wanted)), "{wanted}\n{found:#?}");
    }
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
    check("{port: ''}", ".port: a port is needed (fix: `port: \"0\"` is every port)");
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
    check("{port: '1', protocol: VRRP}", ".port: this protocol has no ports (fix: leave it out)");
    check(
        "{port: '1', protocol: ICMP}",
        ".protocol: there is no protocol `ICMP` (fix: use `icmps` instead of `toPorts`)",
    );
    check(
        "{port: '1', protocol: HTTP}",
        ".protocol: there is no protocol `HTTP` (fix: write TCP, UDP, SCTP or ANY)",
    );
    check("~", ": an element of the list is empty");
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
        &policy("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.1}}]}]}"),
        &[
            "4:60: spec.ingress[0].from[0].ipBlock.cidr: `10.0.0.1` has no prefix length (fix: write \
         10.0.0.1/32)",
        ],
    );
    check(
        &policy(
            "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}",
        ),
        &["4:78: spec.egress[0].to[0].ipBlock.except[0]: `11.0.0.0/16` is not inside `10.0.0.0/8`"],
    );
    check(
        &policy("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: ::/0}, podSelector: {}}]}]}"),
        &[
            "4:53: spec.ingress[0].from[0].ipBlock: an `ipBlock` stands alone (fix: write two elements)",
        ],
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
}

#[test]
fn a_thousand_mistakes_are_cut_short() {
    let fields: String = (0..100_000).map(|n| format!("  endpointSelectr{n}: 1\n")).collect();
    let text = cnp(&format!("\n{fields}"));
    assert_eq!(refusals(&text).len(), 100);
}

#[test]
fn members_of_cilium_rules_are_checked() {
    let check = |rule: &str, want: &str| {
        let text = cnp(&format!("{{endpointSelector: {{}}, egress: [{rule}]}}"));
        let refusals = refusals(&text);
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        let (_, message) = refusals[0].split_once(" spec.egress[0]").unwrap();
        assert_eq!(message, want);
    };
    check(
        "{toCIDRSet: ['cidr:172.21.89.10/32']}",
        ".toCIDRSet[0]: `cidr:172.21.89.10/32` is a text, not a mapping (fix: a space is missing: \
         write `cidr: 172.21.89.10/32`)",
    );
    check(
        "{toCIDRSet: [10.0.0.0/8]}",
        ".toCIDRSet[0]: a range here is a mapping, this is a string (fix: write `cidr: 10.0.0.0/8`)",
    );
    check(
        "{toCIDRSet: [{cidr: 10.0.0.0/8, cidrGroupRef: a}]}",
        ".toCIDRSet[0]: needs exactly one of `cidr`, `cidrGroupRef` and `cidrGroupSelector`",
    );
    check(
        "{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.0/7]}]}",
        ".toCIDRSet[0].except[0]: `10.0.0.0/7` is not inside `10.0.0.0/8`",
    );
    check(
        "{toCIDR: [10.0.0.0/33]}",
        ".toCIDR[0]: `10.0.0.0/33` is no range of addresses (fix: write an address and a prefix \
         length, as 10.0.0.0/8)",
    );
    check(
        "{toGroups: [{aws: {}}]}",
        ".toGroups: needs a cloud provider's interface, which is not asked (fix: write the \
         addresses with `toCIDRSet`, or keep them in a `CiliumCIDRGroup`)",
    );
    check(
        "{toFQDNs: [{matchName: a, matchPattern: b}]}",
        ".toFQDNs[0]: `matchName` and `matchPattern` exclude each other",
    );
    check(
        "{toServices: [{k8sService: {namespace: a}}]}",
        ".toServices[0].k8sService.serviceName: a service needs a name",
    );
    check(
        "{icmps: [{fields: [{type: EchoRequst}]}]}",
        ".icmps[0].fields[0].type: there is no ICMP type of this name in IPv4 (fix: write its number)",
    );
    check(
        "{icmps: [{fields: [{type: PacketTooBig}]}]}",
        ".icmps[0].fields[0].type: there is no ICMP type of this name in IPv4 (fix: write `family: \
         IPv6`)",
    );
    check(
        "{icmps: [{fields: [{type: 256}]}]}",
        ".icmps[0].fields[0].type: must be 0 to 255, this is 256",
    );
    check(
        "{icmps: [{fields: [{type: 8}]}], toPorts: [{ports: [{port: '1'}]}]}",
        ".icmps: cannot stand beside `toPorts` in one rule (fix: write two rules)",
    );
    check(
        "{toEntities: [world], authentication: {mode: on}}",
        ".authentication.mode: must be a string, this is a boolean (fix: quote it)",
    );
    check(
        "{toEntities: [world], authentication: {mode: mutual}}",
        ".authentication.mode: there is no such mode (fix: write disabled, required or \
         test-always-fail)",
    );
}

#[test]
fn rules_about_the_inside_of_connections_are_checked() {
    let check = |direction: &str, element: &str, want: &str| {
        let rule = format!("{direction}: [{{toPorts: [{element}]}}]");
        let refusals = refusals(&cnp(&format!("{{endpointSelector: {{}}, {rule}}}")));
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        let (_, message) = refusals[0].split_once(".toPorts[0]").unwrap();
        assert_eq!(message, want);
    };
    let tcp = "ports: [{port: '80', protocol: TCP}]";
    check(
        "ingress",
        "{ports: [{port: '80', protocol: UDP}], rules: {http: [{}]}}",
        ".ports[0].protocol: rules for requests need TCP (fix: write TCP)",
    );
    check(
        "ingress",
        "{ports: [{port: '80', protocol: ANY}], rules: {http: [{}]}}",
        ".ports[0].protocol: rules for requests need TCP (fix: write TCP)",
    );
    check(
        "ingress",
        "{ports: [{port: '0', protocol: TCP}], rules: {http: [{}]}}",
        ".ports[0].port: rules for requests need a port (fix: name the port they are sent to)",
    );
    check(
        "ingress",
        "{ports: [{port: '53'}], rules: {dns: [{matchPattern: '*'}]}}",
        ".rules.dns: stands in egress rules only: queries are seen where they are sent (fix: move \
         it to `egress`)",
    );
    check(
        "egress",
        "{rules: {dns: [{matchPattern: '*'}]}}",
        ": `dns` rules need a port (fix: `ports: [{port: \"53\", protocol: ANY}]`)",
    );
    check(
        "egress",
        "{ports: [{port: '53', endPort: 54}], rules: {dns: [{matchPattern: '*'}]}}",
        ".ports[0].endPort: `dns` rules take single ports, no ranges",
    );
    check(
        "ingress",
        &format!("{{{tcp}, rules: {{http: [{{}}], kafka: [{{}}]}}}}"),
        ".rules.kafka: `kafka` rules cannot stand beside others in one element (fix: use a second \
         element of `toPorts`)",
    );
    check(
        "ingress",
        &format!("{{{tcp}, rules: {{l7proto: r2d2}}}}"),
        ".rules.l7proto: is gone from the language: no proxy speaks it (fix: write `http`, `dns` or \
         `kafka` rules, or none to allow the whole port)",
    );
    check(
        "ingress",
        &format!("{{{tcp}, rules: {{http: [{{path: '('}}]}}}}"),
        ".rules.http[0].path: is no regular expression: error: unclosed group",
    );
    check(
        "ingress",
        &format!("{{{tcp}, rules: {{http: [{{path: '((a{{500}}){{500}}){{500}}'}}]}}}}"),
        ".rules.http[0].path: is too large: it needs more than 262144 bytes once compiled",
    );
    check(
        "ingress",
        &format!("{{{tcp}, rules: {{kafka: [{{role: produce, apiKey: fetch}}]}}}}"),
        ".rules.kafka[0].role: `role` and `apiKey` exclude each other",
    );
    check(
        "egress",
        &format!("{{{tcp}, serverNames: [a.b], rules: {{http: [{{}}]}}}}"),
        ".serverNames: cannot stand beside `rules`: requests inside TLS are not seen (fix: add \
         `terminatingTLS`)",
    );
    check("egress", &format!("{{{tcp}, serverNames: ['']}}"), ".serverNames[0]: is empty");
    check(
        "ingress",
        &format!(
            "{{{tcp}, listener: {{name: l, envoyConfig: {{kind: CiliumEnvoyConfig, name: c}}}}}}"
        ),
        ".listener: stands in egress rules only",
    );
    check(
        "egress",
        &format!("{{{tcp}, terminatingTLS: {{}}}}"),
        ".terminatingTLS.secret: TLS needs a secret (fix: `secret: {namespace: NAMESPACE, name: NAME}`)",
    );
    check(
        "ingressDeny",
        &format!("{{{tcp}, rules: {{http: [{{}}]}}}}"),
        ".rules: cannot stand in a deny rule: it denies whole connections",
    );
}

#[test]
fn policies_for_nodes_are_cluster_wide() {
    check(
        &cnp("{nodeSelector: {}, ingress: [{}]}"),
        &["4:22: spec.nodeSelector: a policy for nodes is in no namespace (fix: kind: \
         CiliumClusterwideNetworkPolicy)"],
    );
    let ccnp = |spec: &str| {
        format!(
            "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\n\
             metadata: {{name: p}}\nspec: {spec}\n"
        )
    };
    check(&ccnp("{nodeSelector: {}, ingress: [{}]}"), &[]);
    check(
        &ccnp("{nodeSelector: {}, endpointSelector: {}, ingress: [{}]}"),
        &["4:22: spec.nodeSelector: cannot stand beside `endpointSelector` (fix: write two specs)"],
    );
    check(
        &ccnp(
            "{nodeSelector: {}, ingress: [{toPorts: [{ports: [{port: '1', protocol: TCP}], rules: {http: [{}]}}]}]}",
        ),
        &[
            "4:92: spec.ingress[0].toPorts[0].rules: a policy for nodes takes `dns` rules in egress only",
        ],
    );
}

#[test]
fn administrators_policies_are_checked() {
    let cluster = |spec: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n\
             metadata: {{name: p}}\nspec: {spec}\n"
        )
    };
    let head = "tier: Admin, priority: 1, subject: {namespaces: {}}";
    check(&cluster(&format!("{{{head}}}")), &[]);
    check(
        &cluster("{tier: Normal, priority: 1001}"),
        &[
            "4:7: spec.subject: a policy needs a `subject` (fix: `subject: {namespaces: {}}` is every \
             pod)",
            "4:14: spec.tier: there is no such tier (fix: write Admin or Baseline)",
            "4:32: spec.priority: must be 0 to 1000, this is 1001",
        ],
    );
    let rule = |direction: &str, rule: &str| cluster(&format!("{{{head}, {direction}: [{rule}]}}"));
    let first = |text: String| {
        let found = refusals(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].split_once(" spec.").unwrap().1.to_owned()
    };
    let pods = "namespaces: {}";
    assert_eq!(
        first(rule("ingress", &format!("{{action: Allow, from: [{{{pods}}}]}}"))),
        "ingress[0].action: there is no such action (fix: write Accept or Deny or Pass)"
    );
    assert_eq!(
        first(rule("ingress", "{action: Deny, from: [{}]}")),
        "ingress[0].from[0]: needs exactly one of `namespaces`, `pods` (fix: `namespaces: {}` is \
         every pod)"
    );
    assert_eq!(
        first(rule("ingress", "{action: Deny, from: []}")),
        "ingress[0].from: has 0 peers, 1 to 25 are allowed"
    );
    assert_eq!(
        first(rule("egress", "{action: Deny, to: [{domainNames: [a.b]}]}")),
        "egress[0].to[0].domainNames: names stand in rules that accept only"
    );
    assert_eq!(
        first(rule(
            "egress",
            "{action: Deny, to: [{networks: [10.0.0.0/8]}], protocols: [{destinationNamedPort: x}]}"
        )),
        "egress[0]: names of ports mean something for pods only (fix: write the number)"
    );
    assert_eq!(
        first(rule(
            "ingress",
            &format!(
                "{{action: Deny, from: [{{{pods}}}], protocols: [{{tcp: {{destinationPort: {{range: \
                 {{start: 5, end: 5}}}}}}}}]}}"
            )
        )),
        "ingress[0].protocols[0].tcp.destinationPort.range.end: a range ends behind its start"
    );
    check(
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicy\n\
         metadata: {name: p}\nspec: {subject: {namespaces: {}}}\n",
        &["3:18: metadata.name: there is one of this kind, named `default` (fix: name: default)"],
    );
}

#[test]
fn groups_of_ranges_are_checked() {
    let group = |spec: &str| {
        format!(
            "apiVersion: cilium.io/v2alpha1\nkind: CiliumCIDRGroup\nmetadata: {{name: g}}\n\
             spec: {spec}\n"
        )
    };
    check(&group("{externalCIDRs: [10.0.0.0/8, 'fd00::/8']}"), &[]);
    check(&group("{externalCIDRs: []}"), &[]);
    check(
        &group("{externalCIDRs: [x]}"),
        &[
            "4:24: spec.externalCIDRs[0]: `x` is no range of addresses (fix: write an address and a \
         prefix length, as 10.0.0.0/8)",
        ],
    );
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
  - fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}, {cidrGroupRef: g}]
    authentication: {mode: required}
    toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{path: '/a.*', headers: ['X: y']}]}}]
  egress:
  - toFQDNs: [{matchName: a.b}, {matchPattern: '*.c'}]
    toPorts: [{ports: [{port: '53', protocol: ANY}], rules: {dns: [{matchPattern: '*'}]}}]
  - toServices: [{k8sService: {serviceName: s, namespace: b}}]
  - toNodes: [{matchLabels: {zone: a}}]
    icmps: [{fields: [{type: EchoRequest, family: IPv6}]}]
  egressDeny: [{toEntities: [host]}]
  log: {value: x}
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
