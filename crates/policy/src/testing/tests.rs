//! The compiler against the meaning, on random cases.

use std::collections::BTreeMap;

use super::*;
use crate::Why;

/// Cases of one run, each of which asks two dozen packets; a long run asks for
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

#[test]
fn the_table_agrees_with_the_meaning_and_every_outcome_is_common() {
    let mut outcomes: BTreeMap<Why, usize> = BTreeMap::new();
    let mut asked = 0;
    for seed in 0..cases() {
        let case = broad_case(seed);
        let table = case.compile().expect("random cases compile");
        if let Some((packet, meant, found)) = difference(&case, &table) {
            panic!("seed {seed}: {packet:?}\nmeant {meant:?}\nfound {found:?}\n{case:#?}");
        }
        for packet in &case.packets {
            *outcomes.entry(case.evaluate(packet).unwrap().why).or_default() += 1;
            asked += 1;
        }
    }
    println!("{asked} packets: {outcomes:?}");
    for why in [Why::Rule, Why::DenyRule, Why::DefaultDeny, Why::Unenforced] {
        let share = outcomes[&why] * 100 / asked;
        assert!(share >= 15, "{why:?} is only {share} % of {asked}: {outcomes:?}");
    }
    assert!(outcomes[&Why::LocalHost] * 200 >= asked, "{outcomes:?}");
}

#[test]
fn random_cases_reach_every_match_type() {
    let mut seen = BTreeMap::new();
    for seed in 0..500 {
        let case = broad_case(seed);
        let table = case.compile().unwrap();
        for packet in &case.packets {
            let found =
                table.find(packet.direction, packet.peer, packet.protocol, packet.port).unwrap();
            *seen.entry(found.key.match_type().number()).or_insert(0) += 1;
        }
    }
    let kinds: Vec<u32> = seen.keys().copied().collect();
    assert_eq!(kinds, [1, 2, 3, 4, 5, 6], "{seen:?}");
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
