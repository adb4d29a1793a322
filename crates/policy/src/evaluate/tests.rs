//! Truth tables, written from the facts (`policy.md` 1.4, 1.6, 1.7, 1.8) before
//! the code ran. Every line is asked of the meaning and of the compiled table.

use model::{IdentityBook, Label, PolicyKind, Reserved};

use super::*;
use crate::{
    Entity, Peer, Peers, Port, PortMatch, Ports, Requirement, Selector, SelectorKey, Tier,
    Transport, compile,
};

const CLUSTER: &str = "default";

fn pod(app: &str) -> Labels {
    [Label::k8s("app", app), Label::k8s("io.cilium.k8s.policy.cluster", CLUSTER)]
        .into_iter()
        .collect()
}

/// A pod by the value of its `app` label, or `@name` for a reserved identity.
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

/// `any`, `nobody`, `@entity`, or the value of an `app` label.
fn peers(text: &str) -> Peers {
    match text {
        "any" => Peers::Any,
        "nobody" => Peers::OneOf(vec![]),
        _ => Peers::OneOf(
            text.split('+')
                .map(|one| match one.strip_prefix('@') {
                    Some(name) => Peer::Entity(
                        Entity::ALL.into_iter().find(|entity| entity.name() == name).unwrap(),
                    ),
                    None => Peer::LocalEndpoints(
                        [Requirement::equals(SelectorKey::parse("app"), one)].into_iter().collect(),
                    ),
                })
                .collect(),
        ),
    }
}

/// `all`, `none`, or `tcp:80+any:*+udp:1-9+tcp:http`.
fn ports(text: &str) -> Ports {
    let entry = |one: &str| {
        let (transport, port) = one.split_once(':').unwrap();
        let transport = match transport {
            "any" => Transport::Any,
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            "sctp" => Transport::Sctp,
            other => panic!("{other}"),
        };
        let port = match (port, port.split_once('-')) {
            ("*", _) => Port::Any,
            (_, Some((first, last))) => Port::Range(first.parse().unwrap(), last.parse().unwrap()),
            (single, None) => match single.parse() {
                Ok(number) => Port::Range(number, number),
                Err(_) => Port::Named(single.to_owned()),
            },
        };
        PortMatch { transport, port }
    };
    match text {
        "all" => Ports::All,
        "none" => Ports::OneOf(vec![]),
        _ => Ports::OneOf(text.split('+').map(entry).collect()),
    }
}

/// `[open] [admin|baseline N] allow|deny in|out PEERS PORTS`: one policy, whose
/// subject is everybody and whose name is its position.
fn policy(position: usize, text: &str) -> Policy {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let open = words[0] == "open";
    if open {
        words.remove(0);
    }
    let tier = match words[0] {
        "admin" => Tier::Admin,
        "baseline" => Tier::Baseline,
        _ => Tier::Normal,
    };
    let priority = match tier {
        Tier::Normal => 0,
        _ => words.drain(..2).next_back().unwrap().parse().unwrap(),
    };
    let [action, direction, who, which] = words[..] else { panic!("{text}") };
    let name = PolicyName {
        kind: PolicyKind::CiliumNetworkPolicy,
        namespace: Some("a".into()),
        name: position.to_string(),
    };
    let rule = Rule {
        id: RuleId { policy: name.clone(), path: "r".into() },
        tier,
        priority,
        subject: Selector::default().into(),
        direction: direction_of(direction),
        action: match action {
            "allow" => Action::Allow,
            "deny" => Action::Deny,
            "pass" => Action::Pass,
            other => panic!("{other}"),
        },
        peers: peers(who),
        ports: ports(which),
        default_deny: !open,
        layer7: None,
        authentication: None,
        log: None,
    };
    Policy { name, mode: crate::Mode::Enforce, rules: vec![rule].into() }
}

fn direction_of(text: &str) -> Direction {
    if text == "in" { Direction::Ingress } else { Direction::Egress }
}

/// Asks each `DIRECTION END PROTOCOL[:PORT]` and compares with `WHY [NUMBERS]`,
/// the numbers being the positions of the deciding (or causing) policies.
#[track_caller]
fn check_as(options: &Options, subject: &str, rules: &[&str], cases: &[(&str, &str)]) {
    let policies: Vec<Policy> =
        rules.iter().enumerate().map(|(at, text)| policy(at, text)).collect();
    let named = BTreeMap::from([("http".to_owned(), (6, 8080)), ("dns".to_owned(), (17, 53))]);
    let identities = IdentityBook::new(["a", "b", "s"].map(pod));
    let subject = end(subject);
    let table = compile(&policies, &subject, &named, &identities, options).unwrap();
    for (question, want) in cases {
        let [direction, who, what] = question.split(' ').collect::<Vec<_>>()[..] else {
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
        let (direction, port) = (direction_of(direction), port.parse().unwrap());
        let peer = end(who);
        let probe = Probe { direction, peer: &peer, protocol, port };
        let meant = evaluate(&policies, &subject, &named, &probe, options);
        assert_eq!(shown(&meant), *want, "meaning of {question} under {rules:?}");
        let id = identities.id(&peer).unwrap();
        let found = table.lookup(direction, id, protocol, port);
        assert_eq!(shown(&found), *want, "table on {question} under {rules:?}");
    }
}

#[track_caller]
fn check(rules: &[&str], cases: &[(&str, &str)]) {
    check_as(&Options::default(), "s", rules, cases);
}

fn shown(decision: &Decision) -> String {
    let (allowed, word) = match decision.why {
        Why::Unenforced => (true, "unenforced"),
        Why::Rule => (true, "allow"),
        Why::DefaultDeny => (false, "default-deny"),
        Why::DenyRule => (false, "deny"),
        Why::LocalHost => (true, "localhost"),
        Why::Unsupported => (false, "unsupported"),
    };
    assert_eq!(decision.allow, allowed, "{decision:?}");
    let rules = decision.rules.rules.iter().map(|rule| rule.policy.name.as_str());
    let because = decision.rules.because.iter().map(|policy| policy.name.as_str());
    [word].into_iter().chain(rules).chain(because).collect::<Vec<_>>().join(" ")
}

#[test]
fn without_rules_nothing_is_enforced() {
    check(&[], &[("in a tcp:80", "unenforced"), ("out @world icmp", "unenforced")]);
}

// Section 1.4.

#[test]
fn a_rule_binds_its_own_direction_only() {
    check(
        &["allow in a all"],
        &[
            ("in a tcp:80", "allow 0"),
            ("in b tcp:80", "default-deny 0"),
            ("out b tcp:80", "unenforced"),
        ],
    );
}

#[test]
fn a_rule_for_nobody_still_denies_by_default() {
    check(&["allow in nobody all"], &[("in a tcp:80", "default-deny 0")]);
    check(&["allow in nobody tcp:80"], &[("in a tcp:80", "default-deny 0")]);
}

#[test]
fn a_rule_without_peers_is_about_anybody_the_world_included() {
    check(
        &["allow in any tcp:80"],
        &[
            ("in a tcp:80", "allow 0"),
            ("in @world tcp:80", "allow 0"),
            ("in @world tcp:81", "default-deny 0"),
            ("in a udp:80", "default-deny 0"),
        ],
    );
}

#[test]
fn a_rule_without_ports_is_about_every_protocol() {
    check(
        &["allow in a all"],
        &[("in a tcp:1", "allow 0"), ("in a sctp:9", "allow 0"), ("in a icmp", "allow 0")],
    );
}

#[test]
fn a_rule_for_no_port_still_denies_by_default() {
    check(
        &["allow in a none"],
        &[("in a tcp:80", "default-deny 0"), ("in a icmp", "default-deny 0")],
    );
}

#[test]
fn any_protocol_is_three_protocols_and_not_icmp() {
    check(
        &["allow in a any:*"],
        &[
            ("in a tcp:1", "allow 0"),
            ("in a udp:65535", "allow 0"),
            ("in a sctp:0", "allow 0"),
            ("in a icmp", "default-deny 0"),
        ],
    );
    check(
        &["allow in a any:80"],
        &[("in a sctp:80", "allow 0"), ("in a sctp:81", "default-deny 0")],
    );
}

#[test]
fn both_ends_of_a_range_are_inside() {
    check(
        &["allow in a tcp:8080-8090"],
        &[
            ("in a tcp:8079", "default-deny 0"),
            ("in a tcp:8080", "allow 0"),
            ("in a tcp:8090", "allow 0"),
            ("in a tcp:8091", "default-deny 0"),
            ("in a udp:8085", "default-deny 0"),
        ],
    );
}

#[test]
fn a_named_port_is_the_subjects_own() {
    check(
        &["allow in a tcp:http"],
        &[
            ("in a tcp:8080", "allow 0"),
            ("in a tcp:80", "default-deny 0"),
            ("in a udp:8080", "default-deny 0"),
        ],
    );
    check(
        &["allow in a tcp:dns+any:absent"],
        &[("in a tcp:53", "default-deny 0"), ("in a udp:53", "default-deny 0")],
    );
    check(&["allow in a any:dns"], &[("in a udp:53", "allow 0")]);
}

#[test]
fn peers_of_one_rule_are_alternatives() {
    check(
        &["allow in a+b tcp:80"],
        &[
            ("in a tcp:80", "allow 0"),
            ("in b tcp:80", "allow 0"),
            ("in s tcp:80", "default-deny 0"),
        ],
    );
}

#[test]
fn only_the_entity_all_reaches_everybody() {
    check(
        &["allow out @cluster all"],
        &[
            ("out a tcp:80", "allow 0"),
            ("out @remote-node tcp:80", "allow 0"),
            ("out @world tcp:80", "default-deny 0"),
        ],
    );
    check(
        &["allow out @world all"],
        &[
            ("out @world-ipv4 tcp:80", "allow 0"),
            ("out @world-ipv6 icmp", "allow 0"),
            ("out @unmanaged tcp:80", "default-deny 0"),
            ("out a tcp:80", "default-deny 0"),
        ],
    );
}

// Section 1.6: client `a` to the subject; the allow set, then what is denied.

const ALLOWED: [&str; 3] = ["allow in any tcp:80", "allow in any tcp:81", "allow in a all"];

#[test]
fn without_a_deny_rule_all_that_is_allowed_passes() {
    check(
        &ALLOWED,
        &[("in a tcp:81", "allow 1 2"), ("in a tcp:80", "allow 0 2"), ("in a icmp", "allow 2")],
    );
}

#[test]
fn denying_a_port_denies_it_to_everybody() {
    let rules = [&ALLOWED[..], &["deny in any tcp:80"]].concat();
    check(
        &rules,
        &[
            ("in a tcp:81", "allow 1 2"),
            ("in a tcp:80", "deny 3"),
            ("in a icmp", "allow 2"),
            ("in b tcp:80", "deny 3"),
            ("in b tcp:81", "allow 1"),
        ],
    );
}

#[test]
fn denying_a_peer_denies_it_everything() {
    let rules = [&ALLOWED[..], &["deny in a all"]].concat();
    check(
        &rules,
        &[
            ("in a tcp:81", "deny 3"),
            ("in a tcp:80", "deny 3"),
            ("in a icmp", "deny 3"),
            ("in b tcp:80", "allow 0"),
        ],
    );
    let rules = [&rules[..], &["deny in any tcp:80"]].concat();
    check(
        &rules,
        &[("in a tcp:81", "deny 3"), ("in a tcp:80", "deny 3 4"), ("in a icmp", "deny 3")],
    );
}

#[test]
fn deny_rules_alone_deny_the_rest_by_default() {
    check(
        &["deny in b tcp:80"],
        &[
            ("in b tcp:80", "deny 0"),
            ("in a tcp:80", "default-deny 0"),
            ("in a icmp", "default-deny 0"),
        ],
    );
}

#[test]
fn a_wide_deny_beats_a_narrow_allow_and_a_narrow_deny_a_wide_allow() {
    check(&["allow in a tcp:80", "deny in any all"], &[("in a tcp:80", "deny 1")]);
    check(
        &["allow in any all", "deny in a tcp:80"],
        &[("in a tcp:80", "deny 1"), ("in a tcp:81", "allow 0"), ("in b tcp:80", "allow 0")],
    );
    check(
        &["allow in a tcp:8080", "deny in a tcp:8000-9000"],
        &[("in a tcp:8080", "deny 1"), ("in a tcp:9001", "default-deny 0 1")],
    );
}

// Section 1.7.

#[test]
fn an_open_policy_denies_nothing_by_default() {
    check(
        &["open allow in a tcp:80"],
        &[("in a tcp:80", "allow 0"), ("in b tcp:80", "unenforced")],
    );
    check(
        &["open deny in a tcp:80"],
        &[("in a tcp:80", "deny 0"), ("in a tcp:81", "unenforced"), ("in b tcp:80", "unenforced")],
    );
}

#[test]
fn one_policy_that_is_not_open_is_enough() {
    check(
        &["open allow in a tcp:80", "allow in nobody all", "allow in b tcp:1"],
        &[("in a tcp:80", "allow 0"), ("in a tcp:81", "default-deny 1 2")],
    );
}

#[test]
fn always_enforces_without_policies() {
    let options = Options { enforcement: Enforcement::Always, ..Options::default() };
    check_as(
        &options,
        "s",
        &["open allow in a tcp:80"],
        &[
            ("in a tcp:80", "allow 0"),
            ("in b tcp:80", "default-deny"),
            ("out a tcp:80", "default-deny"),
            ("in @host tcp:80", "localhost"),
            ("out @host tcp:80", "default-deny"),
        ],
    );
}

#[test]
fn never_enforces_no_policy() {
    let options = Options { enforcement: Enforcement::Never, ..Options::default() };
    check_as(&options, "s", &["deny in any all"], &[("in a tcp:80", "unenforced")]);
    check_as(&options, "@init", &["deny in any all"], &[("in a tcp:80", "unenforced")]);
}

#[test]
fn an_endpoint_without_labels_yet_is_denied_by_default() {
    check_as(
        &Options::default(),
        "@init",
        &[],
        &[("in a tcp:80", "default-deny"), ("out a tcp:80", "default-deny")],
    );
}

#[test]
fn a_selector_of_endpoints_does_not_select_the_node() {
    check_as(&Options::default(), "@host", &["deny in any all"], &[("in a tcp:80", "unenforced")]);
    check_as(&Options::default(), "@health", &["deny in any all"], &[("in a tcp:80", "deny 0")]);
}

#[test]
fn the_own_node_may_enter_unless_a_rule_denies_it() {
    check(
        &["allow in a tcp:80"],
        &[("in @host tcp:10250", "localhost"), ("in @remote-node tcp:10250", "default-deny 0")],
    );
    check(
        &["allow in @host tcp:80"],
        &[("in @host tcp:80", "allow 0"), ("in @host tcp:81", "localhost")],
    );
    check(
        &["deny in @host tcp:80"],
        &[("in @host tcp:80", "deny 0"), ("in @host icmp", "localhost")],
    );
    check(
        &["deny in any tcp:80"],
        &[("in @host tcp:80", "deny 0"), ("in @host icmp", "localhost")],
    );
    check(&["open allow in a tcp:80"], &[("in @host icmp", "unenforced")]);
}

#[test]
fn the_own_node_needs_a_rule_where_the_installation_says_so() {
    let options = Options { allow_localhost: AllowLocalhost::Policy, ..Options::default() };
    check_as(
        &options,
        "s",
        &["allow in @host tcp:80"],
        &[("in @host tcp:80", "allow 0"), ("in @host tcp:81", "default-deny 0")],
    );
}

// Section 1.8.

#[test]
fn a_smaller_priority_decides_whatever_it_does() {
    check(
        &["admin 0 deny in any any:80", "admin 1 allow in a all"],
        &[
            ("in a tcp:80", "deny 0"),
            ("in a tcp:81", "allow 1"),
            ("in b tcp:80", "deny 0"),
            ("in b tcp:81", "default-deny 0 1"),
        ],
    );
    check(
        &["admin 0 allow in a all", "admin 1 deny in any any:80"],
        &[("in a tcp:80", "allow 0"), ("in b tcp:80", "deny 1")],
    );
}

#[test]
fn an_earlier_tier_decides_whatever_it_does() {
    check(
        &["admin 5 allow in a tcp:80", "deny in any all", "baseline 0 allow in b all"],
        &[("in a tcp:80", "allow 0"), ("in a tcp:81", "deny 1"), ("in b tcp:80", "deny 1")],
    );
    check(
        &["open baseline 0 deny in any all", "allow in a tcp:80"],
        &[("in a tcp:80", "allow 1"), ("in a tcp:81", "deny 0")],
    );
}

#[test]
fn rules_that_decide_together_are_all_named() {
    check(
        &["allow in any any:80", "allow in a tcp:80", "allow in a tcp:1-100", "deny in b all"],
        &[("in a tcp:80", "allow 0 1 2"), ("in a tcp:79", "allow 2"), ("in b tcp:80", "deny 3")],
    );
}

#[test]
fn passing_leaves_the_rest_of_the_tier_out() {
    // The third worked case: what passes is decided by the next tier.
    check(
        &["open admin 0 pass in a all", "open admin 1 deny in any any:80", "allow in a tcp:80"],
        &[
            ("in a tcp:80", "allow 2"),
            ("in a tcp:81", "default-deny 2"),
            ("in b tcp:80", "deny 1"),
            ("in b tcp:81", "default-deny 2"),
        ],
    );
    check(
        &["open admin 0 pass in a tcp:80", "open admin 0 deny in a tcp:80"],
        &[("in a tcp:80", "deny 1")],
    );
    check(
        &["open admin 0 pass in a tcp:80", "open admin 0 allow in any all"],
        &[("in a tcp:80", "allow 1")],
    );
}

#[test]
fn what_passes_every_tier_gets_the_default() {
    check(
        &["open admin 0 pass in a all", "open admin 1 deny in a all"],
        &[("in a tcp:80", "unenforced"), ("in b tcp:80", "unenforced")],
    );
    check(
        &["open admin 0 pass in a all", "open baseline 0 deny in any all"],
        &[("in a tcp:80", "deny 1"), ("in b tcp:80", "deny 1")],
    );
    check(
        &["open admin 0 pass in @host all", "allow in nobody all"],
        &[("in @host tcp:80", "localhost"), ("in a tcp:80", "default-deny 1")],
    );
}

#[test]
fn an_administrators_allow_stands_above_every_deny_of_a_namespace() {
    check(
        &["open admin 5 allow in a tcp:80", "deny in any all"],
        &[("in a tcp:80", "allow 0"), ("in b tcp:80", "deny 1")],
    );
}
