//! The scenarios of Kubernetes' own tests of `NetworkPolicy`, made from its
//! specification: three namespaces, three pods in each, two ports, three
//! protocols, and every pair asked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use policy::Options;
use policy::question::{Ask, Asked, Verdict};

mod support;

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const PODS: [&str; 3] = ["a", "b", "c"];
const PORTS: [u16; 2] = [80, 81];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

fn cluster() -> String {
    let mut text = String::new();
    for (n, namespace) in NAMESPACES.iter().enumerate() {
        text += &format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace:?}, labels: {{ns: {namespace:?}}}}}\n"
        );
        for (p, pod) in PODS.iter().enumerate() {
            let ports: String = PORTS
                .iter()
                .flat_map(|port| PROTOCOLS.map(|protocol| (port, protocol)))
                .map(|(port, protocol)| {
                    let name = format!("serve-{port}-{}", protocol.to_lowercase());
                    format!("{{containerPort: {port}, protocol: {protocol}, name: {name}}}, ")
                })
                .collect();
            text += &format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, namespace: {namespace:?}, labels: {{pod: {pod}}}}}\n\
                 spec: {{containers: [{{name: c, ports: [{ports}]}}]}}\n\
                 status: {{podIPs: [{{ip: 10.244.{n}.{p}}}]}}\n"
            );
        }
    }
    text
}

fn policy(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: {namespace:?}}}\nspec: {spec}\n"
    )
}

/// One question: two ends as `namespace/pod`, a port and a protocol.
struct Question<'a> {
    from: &'a str,
    to: &'a str,
    port: u16,
    protocol: &'a str,
}

impl Question<'_> {
    fn is_from(&self, name: &str) -> bool {
        self.from.starts_with(&format!("{name}/"))
    }

    fn is_to(&self, name: &str) -> bool {
        self.to.starts_with(&format!("{name}/"))
    }
}

/// Asks every pair, port and protocol; `allowed` says what the specification
/// does of two different pods.
#[track_caller]
fn check(policies: &[String], allowed: impl Fn(&Question<'_>) -> bool) {
    let (cluster, policies) = support::read(&(cluster() + &policies.concat()));
    let asked = Asked::new(&cluster, &policies, &Options::default());
    let ends: Vec<String> = NAMESPACES
        .iter()
        .flat_map(|namespace| PODS.map(|pod| format!("{namespace}/{pod}")))
        .collect();
    for from in &ends {
        for to in &ends {
            for port in PORTS {
                for protocol in PROTOCOLS {
                    let line = format!("pod:{from} -> pod:{to} {protocol}/{port}");
                    let ask = Ask::from_json(&support::probe(&line)).unwrap();
                    let answer = asked.answer(&ask).unwrap();
                    let question = Question { from, to, port, protocol };
                    // A pod cannot be kept from itself.
                    let want = from == to || allowed(&question);
                    assert_eq!(answer.verdict == Verdict::Allowed, want, "{line}");
                }
            }
        }
    }
}

#[test]
fn without_policies_everything_passes() {
    check(&[], |_| true);
}

#[test]
fn default_deny_ingress_closes_a_namespace() {
    check(&[policy("p", "x", "{podSelector: {}, policyTypes: [Ingress]}")], |q| !q.is_to("x"));
    check(&[policy("p", "x", "{podSelector: {}}")], |q| !q.is_to("x"));
}

#[test]
fn default_deny_of_both_directions_closes_both() {
    check(&[policy("p", "x", "{podSelector: {}, policyTypes: [Ingress, Egress]}")], |q| {
        !q.is_to("x") && !q.is_from("x")
    });
}

#[test]
fn default_deny_egress_leaves_ingress_open() {
    check(&[policy("p", "x", "{podSelector: {}, policyTypes: [Egress]}")], |q| !q.is_from("x"));
}

#[test]
fn an_empty_rule_allows_everything() {
    check(&[policy("p", "x", "{podSelector: {}, ingress: [{}]}")], |_| true);
    check(&[policy("p", "x", "{podSelector: {}, egress: [{}], policyTypes: [Egress]}")], |_| true);
}

#[test]
fn a_pod_selector_means_the_policys_own_namespace() {
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}",
        )],
        |q| q.to != "x/a" || q.from == "x/b",
    );
}

#[test]
fn expressions_select_pods() {
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchExpressions: [{key: pod, operator: In, values: [b, c]}]}}]}]}",
        )],
        |q| q.to != "x/a" || q.from == "x/b" || q.from == "x/c",
    );
}

#[test]
fn a_namespace_selector_means_all_pods_of_those_namespaces() {
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}",
        )],
        |q| q.to != "x/a" || q.is_from("y"),
    );
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}}]}]}",
        )],
        |q| q.to != "x/a" || !q.is_from("x"),
    );
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {}}]}]}",
        )],
        |_| true,
    );
}

#[test]
fn namespaces_are_selected_by_their_own_name() {
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}]}]}",
        )],
        |q| q.to != "x/a" || q.is_from("z"),
    );
}

#[test]
fn both_selectors_in_one_element_must_hold() {
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}, podSelector: {matchLabels: {pod: b}}}]}]}",
        )],
        |q| q.to != "x/a" || q.from == "y/b",
    );
}

#[test]
fn selectors_in_two_elements_are_alternatives() {
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}, {podSelector: {matchLabels: {pod: b}}}]}]}",
        )],
        |q| q.to != "x/a" || q.is_from("y") || q.from == "x/b",
    );
}

#[test]
fn a_port_is_a_port_of_its_protocol() {
    check(&[policy("p", "x", "{podSelector: {}, ingress: [{ports: [{port: 81}]}]}")], |q| {
        !q.is_to("x") || (q.port == 81 && q.protocol == "TCP")
    });
    for protocol in PROTOCOLS {
        check(
            &[policy(
                "p",
                "x",
                &format!(
                    "{{podSelector: {{}}, ingress: [{{ports: [{{port: 80, protocol: {protocol}}}]}}]}}"
                ),
            )],
            |q| !q.is_to("x") || (q.port == 80 && q.protocol == protocol),
        );
        check(
            &[policy(
                "p",
                "x",
                &format!("{{podSelector: {{}}, ingress: [{{ports: [{{protocol: {protocol}}}]}}]}}"),
            )],
            |q| !q.is_to("x") || q.protocol == protocol,
        );
    }
}

#[test]
fn a_named_port_is_the_destinations() {
    check(
        &[policy("p", "x", "{podSelector: {}, ingress: [{ports: [{port: serve-81-tcp}]}]}")],
        |q| !q.is_to("x") || (q.port == 81 && q.protocol == "TCP"),
    );
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: serve-80-udp, protocol: UDP}]}]}",
        )],
        |q| !q.is_from("x") || (q.port == 80 && q.protocol == "UDP"),
    );
    check(
        &[policy("p", "x", "{podSelector: {}, ingress: [{ports: [{port: no-such-port}]}]}")],
        |q| !q.is_to("x"),
    );
}

#[test]
fn a_range_of_ports_has_both_its_ends() {
    check(
        &[policy("p", "x", "{podSelector: {}, ingress: [{ports: [{port: 81, endPort: 90}]}]}")],
        |q| !q.is_to("x") || (q.port == 81 && q.protocol == "TCP"),
    );
}

#[test]
fn peers_and_ports_of_one_rule_must_both_hold() {
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}], ports: [{port: 80}]}]}",
        )],
        |q| q.to != "x/a" || (q.is_from("y") && q.port == 80 && q.protocol == "TCP"),
    );
}

#[test]
fn rules_and_policies_add_up() {
    let one = policy(
        "one",
        "x",
        "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}], ports: [{port: 80}]}]}",
    );
    let two = policy("two", "x", "{podSelector: {}, ingress: [{ports: [{port: 81}]}]}");
    check(&[one, two], |q| {
        let first = q.to == "x/a" && q.is_from("y") && q.port == 80;
        !q.is_to("x") || (q.protocol == "TCP" && (first || q.port == 81))
    });
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {}, ingress: [{ports: [{port: 80}]}, {ports: [{port: 81, protocol: UDP}]}]}",
        )],
        |q| {
            !q.is_to("x")
                || (q.port == 80 && q.protocol == "TCP")
                || (q.port == 81 && q.protocol == "UDP")
        },
    );
}

#[test]
fn both_ends_must_allow() {
    let egress = policy(
        "out",
        "x",
        "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}",
    );
    let ingress = policy(
        "in",
        "y",
        "{podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}, podSelector: {matchLabels: {pod: a}}}]}]}",
    );
    check(&[egress, ingress], |q| {
        (q.from != "x/a" || q.is_to("y")) && (q.to != "y/b" || q.from == "x/a")
    });
}

#[test]
fn egress_is_to_pods_and_ports() {
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: 'y'}}, podSelector: {matchLabels: {pod: a}}}], ports: [{port: 80}]}]}",
        )],
        |q| q.from != "x/a" || (q.to == "y/a" && q.port == 80 && q.protocol == "TCP"),
    );
}

#[test]
fn a_block_of_addresses_means_whoever_has_one() {
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.1.1/32}}]}]}",
        )],
        |q| q.from != "x/a" || q.to == "y/b",
    );
    check(
        &[policy(
            "p",
            "x",
            "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.1.0/24, except: [10.244.1.1/32]}}]}]}",
        )],
        |q| q.from != "x/a" || (q.is_to("y") && q.to != "y/b"),
    );
    // What one block excepts another may allow.
    check(
        &[
            policy(
                "p",
                "x",
                "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.1.0/24, except: [10.244.1.1/32]}}]}]}",
            ),
            policy(
                "q",
                "x",
                "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.1.1/32}}]}]}",
            ),
        ],
        |q| q.from != "x/a" || q.is_to("y"),
    );
}

#[test]
fn policy_types_decide_which_directions_are_closed() {
    // Without types: egress only if there are egress rules.
    check(&[policy("p", "x", "{podSelector: {}, ingress: [{}], egress: []}")], |_| true);
    check(&[policy("p", "x", "{podSelector: {}, egress: [{to: [{podSelector: {}}]}]}")], |q| {
        let out = !q.is_from("x") || q.is_to("x");
        out && !q.is_to("x")
    });
}

#[test]
fn a_selector_of_no_pod_closes_nothing() {
    check(&[policy("p", "x", "{podSelector: {matchLabels: {pod: none}}}")], |_| true);
}
