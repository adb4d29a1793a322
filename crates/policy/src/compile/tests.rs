//! What tables look like: their size, their numbers, and what is refused.

use model::{Label, PolicyKind};

use super::*;
use crate::{
    Action, Peer, Port, PortMatch, Ports, Requirement, Selector, SelectorKey, Tier, Transport,
};

fn app(name: &str) -> Labels {
    [Label::k8s("app", name), Label::k8s("io.cilium.k8s.policy.cluster", "default")]
        .into_iter()
        .collect()
}

fn rule(name: &str, peers: Peers, ports: Ports) -> Rule {
    let policy = PolicyName {
        kind: PolicyKind::CiliumNetworkPolicy,
        namespace: Some("a".into()),
        name: name.into(),
    };
    Rule {
        id: RuleId { policy, path: "spec.ingress[0]".into() },
        tier: Tier::Normal,
        priority: 0,
        subject: Selector::default().into(),
        direction: Direction::Ingress,
        action: Action::Allow,
        peers,
        ports,
        default_deny: true,
        layer7: None,
        authentication: None,
        log: None,
    }
}

fn tcp(first: u16, last: u16) -> Ports {
    Ports::OneOf(vec![PortMatch { transport: Transport::Tcp, port: Port::Range(first, last) }])
}

fn peer(name: &str) -> Peers {
    let selector = [Requirement::equals(SelectorKey::parse("app"), name)].into_iter().collect();
    Peers::OneOf(vec![Peer::LocalEndpoints(selector)])
}

fn table(rules: Vec<Rule>, options: &Options) -> Result<Table, CompileError> {
    let policies: Vec<Policy> = rules
        .into_iter()
        .map(|rule| Policy {
            name: rule.id.policy.clone(),
            mode: Mode::Enforce,
            rules: vec![rule].into(),
        })
        .collect();
    let identities = IdentityBook::new(["a", "b", "s"].map(app));
    compile(&policies, &app("s"), &BTreeMap::new(), &identities, options)
}

/// How many entries beyond the default of each direction and the own node's.
#[track_caller]
fn check_size(rules: Vec<Rule>, want: usize) {
    assert_eq!(table(rules, &Options::default()).unwrap().len() - 3, want);
}

#[test]
fn a_subject_without_rules_has_its_two_defaults() {
    let table = table(vec![], &Options::default()).unwrap();
    let keys: Vec<Key> = table.entries().map(|(key, _)| key).collect();
    assert_eq!(keys, [Key::everything(Direction::Ingress), Key::everything(Direction::Egress)]);
}

#[test]
fn entries_are_peers_times_port_blocks() {
    check_size(vec![rule("p", peer("a"), tcp(80, 80))], 1);
    check_size(vec![rule("p", Peers::Any, tcp(80, 80))], 1);
    check_size(vec![rule("p", peer("a"), tcp(8080, 8090))], 3);
    check_size(vec![rule("p", peer("a"), tcp(1, 65534))], 30);
    check_size(vec![rule("p", peer("nobody"), tcp(80, 80))], 0);
}

#[test]
fn a_rule_for_everything_takes_the_place_of_the_default() {
    check_size(vec![rule("p", Peers::Any, Ports::All)], 0);
}

#[test]
fn an_entry_that_changes_nothing_is_left_out() {
    let mut deny = rule("q", peer("a"), Ports::All);
    deny.action = Action::Deny;
    check_size(vec![rule("p", peer("a"), tcp(80, 80)), deny], 1);
}

#[test]
fn the_default_names_the_policies_that_switched_it_on() {
    let mut open = rule("open", peer("a"), tcp(1, 1));
    open.default_deny = false;
    let rules = vec![rule("q", peer("a"), tcp(80, 80)), open, rule("p", peer("b"), tcp(80, 80))];
    let table = table(rules, &Options::default()).unwrap();
    let (_, default) =
        table.entries().find(|(key, _)| *key == Key::everything(Direction::Ingress)).unwrap();
    let because: Vec<String> =
        table.rule_set(default.rules).unwrap().because.iter().map(ToString::to_string).collect();
    assert_eq!(because, ["CiliumNetworkPolicy/a/p", "CiliumNetworkPolicy/a/q"]);
}

#[test]
fn a_table_that_does_not_fit_is_refused_whole() {
    let options = Options { max_entries: 31, ..Options::default() };
    let rules = vec![rule("p", peer("a"), tcp(1, 65534))];
    assert_eq!(table(rules.clone(), &options), Err(CompileError::TooManyEntries { limit: 31 }));
    let options = Options { max_entries: 33, ..Options::default() };
    assert_eq!(table(rules, &options).unwrap().len(), 33);
}

#[test]
fn a_shadow_that_does_not_compile_takes_nothing_from_what_decides() {
    let plain = rule("p", peer("a"), tcp(80, 80));
    let wide = rule("q", peer("b"), tcp(1, 65534));
    let mut beyond = rule("q", peer("b"), tcp(80, 80));
    beyond.priority = 1 << 20;
    let options = Options { max_entries: 31, ..Options::default() };
    let identities = IdentityBook::new(["a", "b", "s"].map(app));
    let compile = |rule: &Rule, mode: Mode| {
        let policy = |rule: &Rule, mode| Policy {
            name: rule.id.policy.clone(),
            mode,
            rules: vec![rule.clone()].into(),
        };
        let policies = [policy(&plain, Mode::Enforce), policy(rule, mode)];
        compile(&policies, &app("s"), &BTreeMap::new(), &identities, &options)
    };
    let alone = table(vec![plain.clone()], &options).unwrap();
    for refused in [wide, beyond] {
        let why = compile(&refused, Mode::Enforce).unwrap_err();
        let table = compile(&refused, Mode::Shadow).unwrap();
        assert_eq!(table.shadow_refused(), Some(&why));
        assert!(!table.has_shadow() && table.entries().eq(alone.entries()));
    }
    assert!(compile(&rule("q", peer("b"), tcp(81, 81)), Mode::Shadow).unwrap().has_shadow());
}

#[test]
fn a_priority_beyond_its_tier_is_refused() {
    let mut rule = rule("p", peer("a"), Ports::All);
    rule.priority = 1 << 20;
    assert!(matches!(table(vec![rule], &Options::default()), Err(CompileError::Priority { .. })));
}

/// Why a rule with these peers does not compile, where identities carry no
/// labels beyond those of pods.
#[track_caller]
fn check_refused(peers: Peers, ports: Ports, direction: Direction, want: &str) {
    let mut rule = rule("p", peers, ports);
    rule.direction = direction;
    let error = table(vec![rule], &Options::default()).unwrap_err();
    assert!(error.to_string().contains(want), "{error}");
}

#[test]
fn a_rule_that_would_miss_whom_it_means_is_refused() {
    let range = |reach| {
        let net = "10.0.0.0/8".parse().unwrap();
        Peers::OneOf(vec![Peer::Cidr(crate::CidrPeer { net, except: vec![], reach })])
    };
    let port = Port::Named("http".into());
    let named = Ports::OneOf(vec![PortMatch { transport: Transport::Tcp, port }]);
    let nodes = Peers::OneOf(vec![Peer::Nodes(Selector::default())]);
    check_refused(
        range(crate::Reach::World),
        Ports::All,
        Direction::Egress,
        "has no identity here",
    );
    check_refused(range(crate::Reach::Everybody), Ports::All, Direction::Ingress, "do not say who");
    check_refused(nodes, Ports::All, Direction::Ingress, "do not say who");
    check_refused(Peers::Any, named, Direction::Egress, "do not say who");
}
