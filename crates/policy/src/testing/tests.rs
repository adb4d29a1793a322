//! The compiler against the meaning, on random cases.

use std::collections::BTreeMap;

use model::RuleId;

use super::*;
use crate::{Peer, Peers, Subject, Tier, Transport, Why};

/// Cases of one run, each of which asks eight packets; a long run asks for
/// more by `SIGNET_POLICY_CASES`.
fn cases() -> u64 {
    let wanted = std::env::var("SIGNET_POLICY_CASES").ok();
    wanted.map_or(50_000, |text| text.parse().expect("a number of cases"))
}

/// The first packet of the case on which the table and the meaning differ.
fn difference(case: &Case, table: &Table) -> Option<(Packet, Decision, Decision)> {
    case.packets.iter().find_map(|packet| {
        let meant = case.evaluate(packet).expect("every peer is of the case");
        let found = table.lookup(packet.direction, packet.peer, packet.protocol, packet.port);
        (meant != found).then_some((*packet, meant, found))
    })
}

/// What the language has and a run must have met in a rule that decided.
fn features(rule: &Rule) -> Vec<&'static str> {
    let mut found = vec![match rule.tier {
        Tier::Admin => "tier admin",
        Tier::Normal => "tier normal",
        Tier::Baseline => "tier baseline",
    }];
    if let Ports::OneOf(list) = &rule.ports {
        found.extend(list.iter().map(|entry| match (&entry.transport, &entry.port) {
            (Transport::Number(_), Port::Range(..)) => "icmp type",
            (Transport::Number(_), _) => "protocol number",
            (_, Port::Any) => "any port",
            (_, Port::Range(first, last)) if first == last => "port",
            (_, Port::Range(..)) => "range of ports",
            (_, Port::Named(_)) if rule.direction == Direction::Ingress => "own named port",
            (_, Port::Named(_)) => "named port of the peer",
        }));
    }
    if let Peers::OneOf(list) = &rule.peers {
        found.extend(list.iter().map(|peer| match peer {
            Peer::Endpoints(_) => "endpoints of any cluster",
            Peer::LocalEndpoints(_) => "endpoints",
            Peer::Entity(_) => "entity",
            Peer::Nodes(_) => "nodes",
            Peer::Cidr(range) if range.except.is_empty() => "range of addresses",
            Peer::Cidr(_) => "range with an exception",
            Peer::Name(_) => "name",
            Peer::Group(_) | Peer::Service(_) => "reference",
        }));
    }
    if matches!(rule.subject, Subject::Nodes(_)) {
        found.push("node as subject");
    }
    found
}

const FEATURES: [&str; 20] = [
    "any port",
    "conflict",
    "endpoints",
    "endpoints of any cluster",
    "entity",
    "icmp type",
    "name",
    "named port of the peer",
    "node as subject",
    "nodes",
    "own named port",
    "port",
    "protocol number",
    "range of addresses",
    "range of ports",
    "range with an exception",
    "tier admin",
    "tier baseline",
    "tier normal",
    "decided after a pass",
];

#[test]
fn the_table_agrees_with_the_meaning_and_every_outcome_is_common() {
    let mut outcomes: BTreeMap<Why, usize> = BTreeMap::new();
    let mut match_types: BTreeMap<u32, usize> = BTreeMap::new();
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut asked = 0;
    for seed in 0..cases() {
        let case = broad_case(seed);
        let table = case.compile().expect("random cases compile");
        let by_id: BTreeMap<&RuleId, &Rule> =
            case.policies.iter().flat_map(|policy| &policy.rules).map(|r| (&r.id, r)).collect();
        for packet in &case.packets {
            let meant = case.evaluate(packet).expect("every peer is of the case");
            let found = table.lookup(packet.direction, packet.peer, packet.protocol, packet.port);
            assert_eq!(found, meant, "seed {seed}: {packet:?}\n{case:#?}");
            *outcomes.entry(meant.why).or_default() += 1;
            asked += 1;
            let entry =
                table.find(packet.direction, packet.peer, packet.protocol, packet.port).unwrap();
            *match_types.entry(entry.key.match_type().number()).or_default() += 1;
            if entry.entry.precedence == u32::MAX {
                *met.entry("decided after a pass").or_default() += 1;
            }
            if meant.why == Why::Unsupported && case.options.capabilities == Capabilities::ALL {
                *met.entry("conflict").or_default() += 1;
            }
            for rule in &meant.rules.rules {
                for feature in features(by_id[rule]) {
                    *met.entry(feature).or_default() += 1;
                }
            }
        }
    }
    println!("{asked} packets: {outcomes:?}\nmatch types {match_types:?}\nmet {met:?}");
    for why in [Why::Rule, Why::DenyRule, Why::DefaultDeny, Why::Unenforced] {
        let share = outcomes[&why] * 100 / asked;
        assert!(share >= 15, "{why:?} is only {share} % of {asked}: {outcomes:?}");
    }
    assert!(outcomes[&Why::LocalHost] * 200 >= asked, "{outcomes:?}");
    assert!(outcomes[&Why::Unsupported] * 100 >= asked, "{outcomes:?}");
    assert_eq!(match_types.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    for feature in FEATURES {
        assert!(met.get(feature).is_some_and(|count| *count >= 50), "{feature}: {met:?}");
    }
}

/// What differs, if anything, in one of the two worlds.
fn shadow_difference(case: &Case, table: &Table) -> Option<String> {
    case.packets.iter().find_map(|packet| {
        let Packet { direction, peer, protocol, port } = *packet;
        let live = (case.evaluate(packet).unwrap(), table.lookup(direction, peer, protocol, port));
        let shadow = (case.evaluate_shadow(packet), table.shadow(direction, peer, protocol, port));
        let differs = live.0 != live.1 || shadow.0 != shadow.1;
        differs.then(|| format!("{packet:?}: live {live:#?}, shadow {shadow:#?}"))
    })
}

#[test]
fn what_decides_and_what_would_decide_agree_each_with_its_own_meaning() {
    let mut met: BTreeMap<(bool, Option<bool>), usize> = BTreeMap::new();
    let mut apart = 0;
    for seed in 0..cases() / 2 {
        let case = shadowed_case(seed, true);
        let table = case.compile().expect("random cases compile");
        if let Some(difference) = shadow_difference(&case, &table) {
            panic!("seed {seed}: {difference}\n{case:#?}");
        }
        for packet in &case.packets {
            let live = case.evaluate(packet).unwrap();
            let shadow = case.evaluate_shadow(packet);
            *met.entry((live.allow, shadow.map(|shadow| shadow.allow))).or_default() += 1;
        }
        apart += table.places().filter(|(_, held)| held.live.is_none()).count();
    }
    println!("{met:?}; {apart} places of the shadow alone");
    assert_eq!(met.len(), 6, "{met:?}");
    assert!(met.values().all(|count| *count * 50 >= 4 * cases() as usize), "{met:?}");
    assert!(apart > 1000);
}

#[test]
fn nobody_in_shadow_mode_costs_nothing() {
    for seed in 0..2_000 {
        let case = shadowed_case(seed, true);
        let mut enforced = case.clone();
        enforced.policies.iter_mut().for_each(|policy| policy.mode = Mode::Enforce);
        let table = enforced.compile().unwrap();
        assert!(!table.has_shadow(), "seed {seed}");
        assert!(table.places().all(|(_, held)| held.shadow.is_none()), "seed {seed}");
        assert_eq!(table.places().count(), table.entries().count(), "seed {seed}");
        // What a shadow adds to what decides are copies, and goes with it.
        let mut live = case.clone();
        live.policies.retain(|policy| policy.mode != Mode::Shadow);
        live.policies.iter_mut().for_each(|policy| policy.mode = Mode::Enforce);
        let (with, without) = (case.compile().unwrap(), live.compile().unwrap());
        let stripped = with.clone().without_shadow(CompileError::TooManyEntries { limit: 0 });
        assert!(stripped.entries().eq(without.entries()), "seed {seed}");
        assert!(with.has_shadow() || with == without, "seed {seed}");
    }
}

#[test]
fn a_compiler_that_takes_one_mode_for_another_is_caught() {
    for read in Mode::ALL {
        for as_if in Mode::ALL.into_iter().filter(|as_if| *as_if != read) {
            let caught = (0..cases()).any(|seed| {
                let case = shadowed_case(seed, true);
                let mut misread = case.clone();
                for policy in misread.policies.iter_mut().filter(|policy| policy.mode == read) {
                    policy.mode = as_if;
                }
                shadow_difference(&case, &misread.compile().unwrap()).is_some()
            });
            assert!(caught, "{read:?} read as {as_if:?} survived");
        }
    }
}

#[test]
#[ignore = "soak: a million cases of the whole language"]
fn the_table_agrees_with_the_meaning_for_long() {
    // Other cases than those of every day.
    for seed in (1 << 40)..(1 << 40) + 1_000_000 {
        let case = broad_case(seed);
        let table = case.compile().expect("random cases compile");
        let found = difference(&case, &table);
        assert!(found.is_none(), "seed {seed}: {found:?}");
    }
}

#[test]
fn the_order_of_policies_and_rules_does_not_matter() {
    for seed in 0..1_000 {
        let case = broad_case(seed);
        let mut shuffled = case.clone();
        shuffled.policies.reverse();
        shuffled.policies.iter_mut().for_each(|policy| policy.rules.reverse());
        let (table, other) = (case.compile().unwrap(), shuffled.compile().unwrap());
        assert_eq!(table, other, "seed {seed}");
        assert_eq!(table.digest(), other.digest(), "seed {seed}");
    }
}

#[test]
fn a_seed_always_gives_the_same_case() {
    assert_eq!(
        random_case(7).compile().unwrap().digest(),
        random_case(7).compile().unwrap().digest()
    );
}

#[test]
fn different_tables_have_different_digests() {
    let mut tables: BTreeMap<[u8; 32], Table> = BTreeMap::new();
    for seed in 0..500 {
        let table = broad_case(seed).compile().unwrap();
        let present = tables.entry(table.digest()).or_insert_with(|| table.clone());
        assert_eq!(*present, table, "seed {seed}");
    }
    assert!(tables.len() > 300);
}

#[test]
fn every_mutant_is_caught() {
    for mutant in Mutant::ALL {
        let caught = (0..cases()).find(|seed| {
            let case = broad_case(*seed);
            let table = compile_mutant(mutant, &case).expect("mutants compile");
            difference(&case, &table).is_some()
        });
        println!("{mutant:?}: seed {caught:?}");
        assert!(caught.is_some(), "{mutant:?} survived {} cases", cases());
    }
}
