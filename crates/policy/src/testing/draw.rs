//! Random policies.

use ipnet::IpNet;
use model::{Direction, PolicyKind, PolicyName, RuleId, Source};

use crate::testing::PORTS;
use crate::testing::dice::Dice;
use crate::testing::universe::RANGES;
use crate::{
    Action, Authentication, CidrPeer, Entity, HttpRule, Layer7, Listener, NamePattern, Operator,
    Peer, Peers, Policy, Port, PortMatch, Ports, Reach, Requests, Requirement, Rule, Selector,
    SelectorKey, Subject, Tier, TlsContext, Transport, clusterwide_peer, namespaced_peer,
    namespaced_subject,
};

/// Up to six policies; in some of them rules pass.
pub(super) fn policies(dice: &mut Dice) -> Vec<Policy> {
    let passes = dice.chance(30);
    (0..dice.below(7)).map(|index| policy(dice, index, passes)).collect()
}

/// Where a policy is, and so what its selectors are scoped to.
type Place = Option<&'static str>;

fn policy(dice: &mut Dice, index: usize, passes: bool) -> Policy {
    let place: Place = dice.pick(&[None, Some("a"), Some("a"), Some("b")]);
    let kind = match place {
        Some(_) => PolicyKind::CiliumNetworkPolicy,
        None => PolicyKind::CiliumClusterwideNetworkPolicy,
    };
    let name =
        PolicyName { kind, namespace: place.map(str::to_owned), name: format!("policy-{index}") };
    let open = [dice.chance(35), dice.chance(35)];
    let mut rules = Vec::new();
    for at in 0..=dice.below(3) {
        let mut rule = rule(dice, &name, place, at, open);
        if passes && dice.chance(30) {
            pass(dice, &mut rule);
        }
        if (rule.layer7.is_some() || rule.authentication.is_some()) && dice.chance(40) {
            rules.push(twin(dice, &rule));
        }
        rules.push(rule);
    }
    Policy { name, mode: crate::Mode::Enforce, rules: rules.into() }
}

/// The rule once more, that asks for something else and perhaps for less.
fn twin(dice: &mut Dice, rule: &Rule) -> Rule {
    let mut twin = rule.clone();
    twin.id.path.push_str(".twin");
    twin.layer7 = if dice.chance(70) { Some(layer7(dice)) } else { None };
    twin.authentication = authentication(dice, 30);
    if let (true, Ports::OneOf(list)) = (dice.chance(50), &mut twin.ports) {
        list.truncate(1);
    }
    if let (true, Peers::OneOf(list)) = (dice.chance(50), &mut twin.peers) {
        list.truncate(1);
    }
    twin
}

fn authentication(dice: &mut Dice, percent: usize) -> Option<Authentication> {
    let modes = [Authentication::Required, Authentication::Disabled];
    dice.chance(percent).then(|| dice.pick(&modes))
}

fn rule(dice: &mut Dice, policy: &PolicyName, place: Place, at: usize, open: [bool; 2]) -> Rule {
    let direction = dice.pick(&[Direction::Ingress, Direction::Egress]);
    let action = if dice.chance(58) { Action::Allow } else { Action::Deny };
    let (tier, priority) = match dice.below(12) {
        0 => (Tier::Admin, dice.below(3)),
        1 => (Tier::Baseline, dice.below(3)),
        _ => (Tier::Normal, 0),
    };
    let written = if dice.chance(60) { Selector::default() } else { selector(dice) };
    let subject = match place {
        Some(namespace) => namespaced_subject(written, namespace),
        None => written,
    };
    let layer7 = if action == Action::Allow && dice.chance(12) { Some(layer7(dice)) } else { None };
    let authentication = if action == Action::Allow { authentication(dice, 6) } else { None };
    Rule {
        id: RuleId { policy: policy.clone(), path: format!("specs[{at}].{direction}[0]") },
        tier,
        priority: u32::try_from(priority).unwrap_or_default(),
        peers: peers(dice, place, &subject),
        subject: if place.is_none() && dice.chance(8) {
            Subject::Nodes(Selector::default())
        } else {
            Subject::Endpoints(subject)
        },
        direction,
        action,
        ports: ports(dice, direction),
        default_deny: !open[usize::from(direction == Direction::Egress)],
        layer7,
        authentication,
        log: None,
    }
}

/// Makes a rule of an administrator of it, that passes.
fn pass(dice: &mut Dice, rule: &mut Rule) {
    rule.action = Action::Pass;
    rule.tier = dice.pick(&[Tier::Admin, Tier::Admin, Tier::Baseline]);
    rule.priority = dice.pick(&[0, 1]);
    rule.default_deny = false;
    (rule.layer7, rule.authentication) = (None, None);
}

fn layer7(dice: &mut Dice) -> Layer7 {
    let mut layer7 = Layer7::requests(match dice.below(6) {
        0 | 1 => Requests::Dns(Vec::new()),
        2 => Requests::Any,
        _ => Requests::Http(vec![HttpRule::default()]),
    });
    let context = |name: &str| TlsContext { name: name.to_owned(), ..TlsContext::default() };
    if dice.chance(30) {
        layer7.terminating_tls = Some(context(dice.pick(&["one", "two"])));
    }
    if dice.chance(20) {
        layer7.originating_tls = Some(context(dice.pick(&["one", "two"])));
    }
    if layer7.requests == Requests::Any && dice.chance(50) {
        layer7.listener = Some(Listener {
            config_kind: "CiliumClusterwideEnvoyConfig".to_owned(),
            config_name: "config".to_owned(),
            name: dice.pick(&["one", "two"]).to_owned(),
            priority: dice.pick(&[None, Some(1)]),
        });
    }
    layer7
}

fn peers(dice: &mut Dice, place: Place, subject: &Selector) -> Peers {
    match dice.below(20) {
        0..=3 => Peers::Any,
        4 => Peers::OneOf(Vec::new()),
        5..=7 => Peers::OneOf(vec![Peer::Entity(dice.pick(&Entity::ALL))]),
        8..=10 => Peers::OneOf((0..=dice.below(2)).map(|_| Peer::Cidr(range(dice))).collect()),
        11 => Peers::OneOf(vec![other(dice)]),
        _ => {
            let selectors = (0..=dice.below(2)).map(|_| match dice.below(4) {
                0 => Selector::default(),
                _ => selector(dice),
            });
            let peers = selectors.map(|written| match place {
                Some(namespace) => namespaced_peer(written, namespace),
                None => clusterwide_peer(written, subject),
            });
            Peers::OneOf(peers.collect())
        }
    }
}

/// A range, sometimes less a part of it.
fn range(dice: &mut Dice) -> CidrPeer {
    let nets = RANGES.map(|text| text.parse::<IpNet>().unwrap_or_default());
    let net = dice.pick(&nets);
    let inside: Vec<IpNet> =
        nets.into_iter().filter(|other| *other != net && net.contains(other)).collect();
    let except = match inside.len() {
        0 => Vec::new(),
        len => vec![inside[dice.below(len)]].into_iter().filter(|_| dice.chance(60)).collect(),
    };
    CidrPeer { net, except, reach: dice.pick(&[Reach::World, Reach::World, Reach::Everybody]) }
}

/// Nodes by label, or a name.
fn other(dice: &mut Dice) -> Peer {
    if dice.chance(50) {
        let key = SelectorKey { source: Source::Other("node".to_owned()), key: "zone".to_owned() };
        let operator = match dice.below(3) {
            0 => Operator::NotIn(["one".to_owned()].into()),
            _ => Operator::In(["one".to_owned()].into()),
        };
        return Peer::Nodes([Requirement { key, operator }].into_iter().collect());
    }
    let pattern = NamePattern::pattern(dice.pick(&["*.example.com", "a.example.com"]));
    match pattern {
        Ok(pattern) => Peer::Name(pattern),
        Err(_) => Peer::Cidr(range(dice)),
    }
}

fn selector(dice: &mut Dice) -> Selector {
    (0..=dice.below(2)).map(|_| requirement(dice)).collect()
}

fn requirement(dice: &mut Dice) -> Requirement {
    let (key, values) = dice.pick(&[
        ("app", ["x", "y"]),
        ("k8s:app", ["y", "z"]),
        ("any:app", ["z", "x"]),
        ("tier", ["db", "web"]),
        ("io.kubernetes.pod.namespace", ["a", "b"]),
        ("k8s:io.kubernetes.pod.namespace", ["b", "a"]),
        ("io.cilium.k8s.namespace.labels.team", ["red", "blue"]),
        ("io.cilium.k8s.policy.cluster", ["here", "there"]),
        ("reserved:host", ["", "x"]),
        ("$world", ["", "x"]),
    ]);
    let both = || values.map(str::to_owned).into();
    let operator = match dice.below(8) {
        0 => Operator::Exists,
        1 => Operator::DoesNotExist,
        2 => Operator::In(both()),
        3 => Operator::NotIn(both()),
        4 => Operator::NotIn([values[0].to_owned()].into()),
        _ => Operator::In([values[0].to_owned()].into()),
    };
    Requirement { key: SelectorKey::parse(key), operator }
}

fn ports(dice: &mut Dice, direction: Direction) -> Ports {
    match dice.below(20) {
        0..=5 => Ports::All,
        6 => Ports::OneOf(Vec::new()),
        _ => Ports::OneOf((0..=dice.below(3)).map(|_| port_match(dice, direction)).collect()),
    }
}

fn port_match(dice: &mut Dice, direction: Direction) -> PortMatch {
    if dice.chance(16) {
        let types = [(1, 0), (1, 8), (58, 128), (47, 0), (47, 0), (47, 0)];
        let (number, icmp) = dice.pick(&types);
        if number == 47 {
            return PortMatch { transport: Transport::Number(number), port: Port::Any };
        }
        let port = if dice.chance(70) { Port::Range(icmp, icmp) } else { Port::Any };
        return PortMatch { transport: Transport::Number(number), port };
    }
    let transport = dice.pick(&[Transport::Any, Transport::Tcp, Transport::Udp, Transport::Sctp]);
    let (one, other) = (dice.pick(&PORTS), dice.pick(&PORTS));
    let port = match (dice.below(10), direction) {
        (0, _) => Port::Any,
        (1, _) => Port::Named(dice.pick(&["http", "dns", "absent"]).to_owned()),
        (2, Direction::Egress) => Port::Named("http".to_owned()),
        (2..=4, _) => Port::Range(one.min(other), one.max(other)),
        _ => Port::Range(one, one),
    };
    PortMatch { transport, port }
}
