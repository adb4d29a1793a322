//! The look-up, on tables written by hand (facts: `policy.md` section 1.8, map
//! look-up).

use super::*;

fn id(raw: u32) -> IdentityId {
    IdentityId::try_from(raw).unwrap()
}

/// `PEER PROTOCOL:PORT/BITS PRECEDENCE`, `*` for any peer, `*` for everything.
fn table(entries: &[&str]) -> Table {
    let mut map = BTreeMap::new();
    let mut rule_sets = BTreeMap::new();
    for (at, text) in entries.iter().enumerate() {
        let [peer, what, precedence] = text.split(' ').collect::<Vec<_>>()[..] else { panic!() };
        let peer = (peer != "*").then(|| id(peer.parse().unwrap()));
        let mut key = Key { peer, ..Key::everything(Direction::Ingress) };
        if let Some((protocol, prefix)) = what.split_once(':') {
            let (port, bits) = prefix.split_once('/').unwrap();
            key.protocol = protocol.parse().unwrap();
            key.port = port.parse().unwrap();
            key.port_bits = bits.parse().unwrap();
        }
        let rules = RuleSetId(u32::try_from(at).unwrap() + 1);
        let precedence = precedence.parse().unwrap();
        map.insert(
            key,
            Entry { allow: true, why: Why::Rule, precedence, rules, specificity: key.prefix_len() },
        );
        rule_sets.insert(rules, RuleSet::default());
    }
    Table::new(map, rule_sets)
}

/// Which entry decides for peer 1 on TCP 80, and which other has its precedence.
#[track_caller]
fn check(entries: &[&str], want: Option<(usize, Option<usize>)>) {
    let found = table(entries).find(Direction::Ingress, id(1), 6, 80);
    let position = |rules: RuleSetId| rules.0 as usize - 1;
    assert_eq!(found.map(|found| (position(found.entry.rules), found.also.map(position))), want);
}

#[test]
fn an_empty_table_denies() {
    check(&[], None);
    let decision = Table::default().lookup(Direction::Ingress, id(1), 6, 80);
    assert!(!decision.allow);
}

#[test]
fn the_other_direction_and_other_peers_do_not_count() {
    check(&["2 6:80/16 9"], None);
    assert_eq!(table(&["1 6:80/16 9"]).find(Direction::Egress, id(1), 6, 80), None);
}

#[test]
fn the_longest_prefix_of_one_peer_decides_alone() {
    check(&["1 * 9", "1 6:80/16 1"], Some((1, None)));
    check(&["1 6:64/10 1", "1 6:0/0 9"], Some((0, None)));
}

#[test]
fn a_higher_precedence_wins_between_specific_and_any() {
    check(&["1 6:80/16 1", "* * 2"], Some((1, None)));
    check(&["1 * 2", "* 6:80/16 1"], Some((0, None)));
}

#[test]
fn of_equals_the_longer_prefix_wins_then_the_specific_peer() {
    check(&["1 6:0/0 1", "* 6:80/16 1"], Some((1, Some(0))));
    check(&["1 6:80/16 1", "* 6:0/0 1"], Some((0, Some(1))));
    check(&["* 6:80/16 1", "1 6:80/16 1"], Some((1, Some(0))));
}

#[test]
fn defaults_are_not_reported_together() {
    check(&["1 * 0", "* * 0"], Some((0, None)));
}

#[test]
fn one_result_is_enough() {
    check(&["1 6:80/16 1"], Some((0, None)));
    check(&["* 6:80/16 1"], Some((0, None)));
}

/// Who decides, and who would, for peer 1 on TCP 80: positions in the two lists.
#[track_caller]
fn check_shadow(live: &[&str], shadow: &[&str], want: (Option<usize>, Option<usize>)) {
    let whole = table(live).with_shadow(table(shadow).entries);
    let packet = Key {
        peer: Some(id(1)),
        protocol: 6,
        port: 80,
        port_bits: 16,
        ..Key::everything(Direction::Ingress)
    };
    let found = |world| whole.find_in(world, packet).map(|found| found.entry.rules.0 as usize - 1);
    assert_eq!((found(World::Live), found(World::Shadow)), want);
}

#[test]
fn a_longer_key_of_one_world_hides_nothing_of_the_other() {
    check_shadow(&["* * 0", "1 6:0/0 5"], &["* * 0", "1 6:80/16 7"], (Some(1), Some(1)));
    check_shadow(&["* * 0", "1 6:80/16 5"], &["* * 0", "1 * 7"], (Some(1), Some(1)));
    check_shadow(&["* * 3", "* 6:80/16 2"], &["* * 0", "* 6:80/15 4"], (Some(1), Some(1)));
    // A peer that only one world has an entry of is anybody in the other.
    check_shadow(&["* * 0"], &["* * 0", "1 6:80/16 7"], (Some(0), Some(1)));
    check_shadow(&["* * 0", "1 6:80/16 7"], &["* * 0"], (Some(1), Some(0)));
}

/// Of equals the longer prefix wins: as long as it was, not as long as the other
/// world has made its place.
#[test]
fn what_is_copied_to_a_longer_key_is_no_more_specific_there() {
    let live = ["* 6:0/0 5", "1 * 5"];
    check_shadow(&live, &["* * 0"], (Some(0), Some(0)));
    check_shadow(&live, &["* * 0", "1 6:80/16 9"], (Some(0), Some(1)));
    check_shadow(&["* * 0", "1 6:80/16 9"], &live, (Some(1), Some(0)));
}

#[test]
fn a_prefix_covers_exactly_its_ports() {
    let table = table(&["* 6:8080/15 1"]);
    let covered = |port| table.find(Direction::Ingress, id(1), 6, port).is_some();
    assert_eq!([8079, 8080, 8081, 8082].map(covered), [false, true, true, false]);
}

#[test]
fn match_types_have_hubbles_meaning() {
    let numbers: Vec<u32> =
        table(&["* * 1", "* 6:0/0 1", "* 6:80/16 1", "1 * 1", "1 6:0/0 1", "1 6:64/10 1"])
            .entries()
            .map(|(key, _)| key.match_type().number())
            .collect();
    assert_eq!(numbers, [4, 6, 3, 1, 5, 2]);
}

#[test]
fn masks_keep_the_leading_bits() {
    assert_eq!(masked(0xffff, 0), 0);
    assert_eq!(masked(0xffff, 1), 0x8000);
    assert_eq!(masked(8081, 15), 8080);
    assert_eq!(masked(8081, 16), 8081);
}

#[test]
fn numbers_of_reasons_are_read_back() {
    for number in 0..=u8::MAX {
        match Why::try_from(number) {
            Ok(why) => assert_eq!(why as u8, number),
            Err(error) => assert_eq!(error, NotAWhy(number)),
        }
    }
    assert_eq!(Why::try_from(3), Ok(Why::DefaultDeny));
}
