//! Compiling for large clusters takes bounded time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::{Direction, IdentityBook, Label, Labels, PolicyKind, PolicyName, RuleId};
use policy::{
    Action, CidrPeer, Compiler, Options, Peer, Peers, Policy, Port, PortMatch, Ports, Reach,
    References, Requirement, Rule, Selector, SelectorKey, Tier, Transport,
};

/// What the whole test may take; without optimisation, some more.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

fn pod(app: usize) -> Labels {
    [
        Label::k8s("app", format!("app-{app}")),
        Label::k8s("team", format!("team-{}", app % 50)),
        Label::k8s("io.kubernetes.pod.namespace", format!("ns-{}", app % 100)),
        Label::k8s("io.cilium.k8s.policy.cluster", "default"),
    ]
    .into_iter()
    .collect()
}

fn policy(number: usize, peers: Peers, port: u16) -> Policy {
    let name = PolicyName {
        kind: PolicyKind::CiliumNetworkPolicy,
        namespace: Some("a".into()),
        name: format!("p-{number}"),
    };
    let rule = Rule {
        id: RuleId { policy: name.clone(), path: "spec.ingress[0]".into() },
        tier: Tier::Normal,
        priority: 0,
        subject: Selector::default().into(),
        direction: Direction::Ingress,
        action: Action::Allow,
        peers,
        ports: Ports::OneOf(vec![PortMatch {
            transport: Transport::Tcp,
            port: Port::Range(port, port),
        }]),
        default_deny: true,
        layer7: None,
        authentication: None,
        log: None,
    };
    Policy { name, mode: policy::Mode::Enforce, rules: vec![rule].into() }
}

#[test]
fn ten_thousand_identities_and_a_thousand_rules() {
    let identities = IdentityBook::new((0..10_000).map(pod));
    let policies: Vec<Policy> = (0..1_000)
        .map(|number| {
            let (key, value) = match number % 10 {
                0 => ("team", format!("team-{}", number % 50)),
                _ => ("app", format!("app-{}", number * 7)),
            };
            let requirement = Requirement::equals(SelectorKey::parse(key), value);
            let peer = Peer::LocalEndpoints([requirement].into_iter().collect());
            policy(number, Peers::OneOf(vec![peer]), u16::try_from(1 + number % 100).unwrap())
        })
        .collect();
    let options = Options::default();
    let start = Instant::now();
    let compiler = Compiler::new(&policies, &identities, &options);
    let table = compiler.table(&pod(3), &BTreeMap::new()).unwrap();
    let first = start.elapsed();
    // Another subject asks the same selectors again.
    compiler.table(&pod(4), &BTreeMap::new()).unwrap();
    println!("{} entries; first {first:?}, both {:?}", table.len(), start.elapsed());
    assert!(table.len() > 2_500);
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
}

#[test]
fn ten_thousand_ranges_in_one_rule() {
    let range = |number: u32| {
        let net = ipnet::Ipv4Net::new((0x0b00_0000 + number * 256).into(), 24).unwrap();
        Peer::Cidr(CidrPeer { net: net.into(), except: vec![], reach: Reach::World })
    };
    let policies = [policy(0, Peers::OneOf((0..10_000).map(range).collect()), 443)];
    let options = Options::default();
    let start = Instant::now();
    let references = References::of(&policies, &options);
    let sets = references.ranges().map(|(_, labels)| labels).chain([pod(1)]);
    let identities = IdentityBook::new(sets);
    let table =
        policy::compile(&policies, &pod(1), &BTreeMap::new(), &identities, &options).unwrap();
    println!("{} entries in {:?}", table.len(), start.elapsed());
    assert_eq!(table.len(), 10_003);
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
}
