//! Three readings of the same policies must agree: the evaluator that reads the
//! rules, the compiled table, and the kernel program on real frames.
//!
//! Moving one node from case to case also moves its table from any content to
//! any other, so the ways of [`datapath::Datapath::apply`] are tried as well.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datapath::{Desired, Endpoint, Record, TestRun};
use model::{Direction, IdentityId, Layer4, Reserved, RuleSet, RuleSetId, Verdict};
use policy::testing::{Case, Mutant, Packet, compile_mutant, random_case, shadowed_case};
use policy::{Decision, Mode, Table, Why};
use support::*;

/// The reason of a drop by which the kernel refuses a carrier.
const ENCAPSULATION: u8 = 170;

/// Packets judged by all three, in every day's tests and in a long one.
const PACKETS: usize = 20_000;
const PACKETS_FOR_LONG: usize = 1_000_000;
/// Tests that share the packets of every day, each with cases of its own.
const SHARES: usize = 4;
/// How many cases a mutant may survive.
const CASES_FOR_A_MUTANT: u64 = 2_000;

/// Where the peer of a packet is: each packet has one of its own, so that no
/// connection of an earlier one can answer for it.
fn address_of(peer: IdentityId, index: usize, packet: &Packet) -> IpAddr {
    let low = u8::try_from(index).unwrap();
    let v6 = match packet.protocol {
        1 => false,
        58 => true,
        _ => index % 2 == 1,
    };
    let v6 = match Reserved::from_id(peer) {
        Some(Reserved::WorldIpv4) => false,
        Some(Reserved::WorldIpv6) => true,
        _ => v6,
    };
    let text = match (Reserved::from_id(peer), v6) {
        (Some(Reserved::WorldIpv4), _) => format!("198.51.100.{low}"),
        (Some(Reserved::WorldIpv6), _) => format!("2001:db8::{low:x}"),
        (Some(Reserved::Unmanaged), false) => format!("10.9.0.{low}"),
        (Some(Reserved::Unmanaged), true) => format!("fd00:9::{low:x}"),
        (_, false) => format!("10.2.0.{low}"),
        (_, true) => format!("fd00:2::{low:x}"),
    };
    text.parse().unwrap()
}

fn frame(packet: &Packet, peer: IpAddr) -> Vec<u8> {
    let pod: IpAddr = if peer.is_ipv4() { POD.into() } else { POD6.into() };
    let (source, destination) = match packet.direction {
        Direction::Egress => (pod, peer),
        Direction::Ingress => (peer, pod),
    };
    let ports = ((source, 40_000), (destination, packet.port));
    match packet.protocol {
        6 => segment(packet.direction, ports.0, ports.1, Tcp::Syn),
        17 => datagram(packet.direction, ports.0, ports.1),
        132 => {
            let mut header = 40_000u16.to_be_bytes().to_vec();
            header.extend(packet.port.to_be_bytes());
            header.extend([0; 8]);
            raw(packet.direction, source, destination, 132, &header)
        }
        other => {
            // The type of an ICMP message, and nothing to the others.
            let kind = u8::try_from(packet.port).unwrap_or_default();
            raw(packet.direction, source, destination, other, &[kind, 0, 0, 0, 0, 7, 0, 1])
        }
    }
}

/// Whether a policy alone decides about the packet when nothing came before it:
/// answers and errors depend on what they answer, and neighbours on their link.
fn stands_alone(packet: &Packet) -> bool {
    match packet.protocol {
        1 => !matches!(packet.port, 0 | 3 | 11 | 12 | 256..),
        58 => !matches!(packet.port, 1..=4 | 129..=137 | 143 | 256..),
        _ => true,
    }
}

/// The node as the case wants it, with this table.
fn desired(case: &Case, table: &Table) -> Desired {
    let mut addresses = BTreeMap::new();
    for (index, packet) in case.packets.iter().enumerate() {
        let resolved_by_range = [Reserved::WorldIpv4, Reserved::WorldIpv6, Reserved::Unmanaged]
            .map(Reserved::id)
            .contains(&packet.peer);
        if !resolved_by_range {
            addresses.insert(address_of(packet.peer, index, packet), packet.peer);
        }
    }
    let endpoint = Endpoint {
        id: ENDPOINT,
        identity: case.identities.id(&case.subject).unwrap(),
        table: TABLE,
        mac: MAC,
        ipv4: Some(POD),
        ipv6: Some(POD6),
        netns_id: -1,
    };
    Desired {
        endpoints: [(TestRun::ifindex(), endpoint)].into(),
        host: Default::default(),
        addresses,
        prefixes: ["10.9.0.0/16", "fd00:9::/32"]
            .map(|range| (range.parse().unwrap(), Reserved::Unmanaged.id()))
            .into(),
        tables: [(TABLE, Arc::new(table.clone()))].into(),
        ..Desired::default()
    }
}

/// What the kernel said, in the evaluator's words.
fn decision(record: &Record, table: &Table) -> Decision {
    named(record.verdict, record.why, record.rule_sets, table)
}

/// What it said would be decided.
fn shadow_decision(record: &Record, table: &Table) -> Option<Decision> {
    record.shadow.map(|shadow| named(shadow.verdict, shadow.why, shadow.rule_sets, table))
}

fn named(verdict: Verdict, why: u8, rule_sets: [RuleSetId; 2], table: &Table) -> Decision {
    let mut union = RuleSet::default();
    for set in rule_sets.iter().filter_map(|id| table.rule_set(*id)) {
        union.rules.extend(set.rules.iter().cloned());
        union.because.extend(set.because.iter().cloned());
    }
    let sorted: BTreeSet<_> = union.rules.into_iter().collect();
    let causes: BTreeSet<_> = union.because.into_iter().collect();
    Decision {
        allow: verdict == Verdict::Forwarded,
        why: Why::try_from(why).unwrap(),
        rules: RuleSet {
            rules: sorted.into_iter().collect(),
            because: causes.into_iter().collect(),
        },
    }
}

/// Judges every packet of a case with a table on the kernel; `Err`: where it
/// differs from the rules' meaning.
fn judge(
    node: &mut Node,
    turn: &mut u32,
    case: &Case,
    table: &Table,
) -> Result<Vec<(Decision, Option<bool>)>, String> {
    // No connection of an earlier case may answer for this one: the endpoint
    // gets another number, and the sweep frees what had the old one.
    let mut desired = desired(case, table);
    for endpoint in desired.endpoints.values_mut() {
        endpoint.id = ENDPOINT + *turn;
    }
    *turn += 1;
    node.apply(&desired);
    node.datapath.expire_connections().unwrap();
    let mut decisions = Vec::new();
    for (index, packet) in case.packets.iter().enumerate() {
        if !stands_alone(packet) {
            continue;
        }
        let peer = address_of(packet.peer, index, packet);
        let record = node.record(packet.direction, &frame(packet, peer));
        check_record(&record, packet, peer, case);
        let kernel = decision(&record, table);
        let (mut meaning, carries) = (case.evaluate(packet).unwrap(), case.refuses_carrier(packet));
        meaning.allow &= carries != Some(true);
        if (record.reason == ENCAPSULATION) != (carries == Some(true)) {
            return Err(format!("{packet:?}: kernel {}, a carrier {carries:?}", record.reason));
        }
        if kernel != meaning {
            return Err(format!("{packet:?}: kernel {kernel:?}, rules {meaning:?}"));
        }
        let meant = case.evaluate_shadow(packet).filter(|_| carries.is_none());
        let kernel = shadow_decision(&record, table);
        if kernel != meant {
            return Err(format!("{packet:?}: in the shadow kernel {kernel:?}, rules {meant:?}"));
        }
        decisions.push((meaning, carries));
    }
    Ok(decisions)
}

fn check_record(record: &Record, packet: &Packet, peer: IpAddr, case: &Case) {
    let subject = u32::from(case.identities.id(&case.subject).unwrap());
    let (source, destination) = record.addresses.unwrap();
    let (told, told_peer, told_subject) = match packet.direction {
        Direction::Egress => (destination, record.destination_identity, record.source_identity),
        Direction::Ingress => (source, record.source_identity, record.destination_identity),
    };
    assert_eq!((told, told_peer, told_subject), (peer, packet.peer.into(), subject));
    if matches!(packet.protocol, 6 | 17 | 132) {
        assert_eq!(record.l4.and_then(Layer4::destination_port), Some(packet.port));
    }
    assert_eq!(record.direction, Some(packet.direction));
}

/// One case, by all three; counts the answers. In every third some policies are
/// in shadow mode or retired.
fn compare(node: &mut Node, turn: &mut u32, seed: u64, judged: &mut Judged) {
    let case = if seed % 3 == 1 { shadowed_case(seed, false) } else { random_case(seed) };
    let table = case.compile().unwrap();
    for packet in &case.packets {
        let meaning = case.evaluate(packet).unwrap();
        let found = table.lookup(packet.direction, packet.peer, packet.protocol, packet.port);
        assert_eq!(found, meaning, "seed {seed}: table and rules differ on {packet:?}");
        let found = table.shadow(packet.direction, packet.peer, packet.protocol, packet.port);
        let meaning = case.evaluate_shadow(packet);
        assert_eq!(found, meaning, "seed {seed}: they differ in the shadow on {packet:?}");
    }
    let decisions = judge(node, turn, &case, &table)
        .unwrap_or_else(|difference| panic!("seed {seed}: {difference}"));
    for (decision, carries) in decisions {
        *judged.entry(decision.why as u8).or_insert(0) += 1;
        // A carrier that is let out, and one that is not.
        if let Some(refused) = carries.filter(|refused| *refused || decision.allow) {
            *judged.entry(CARRIER[usize::from(refused)]).or_insert(0) += 1;
        }
    }
}

/// How many packets were judged for each reason, and how many carriers.
type Judged = BTreeMap<u8, usize>;

/// Stand for carriers that are let out and refused, where others have a reason.
const CARRIER: [u8; 2] = [200, 201];

fn all(judged: &Judged) -> usize {
    judged.iter().filter(|(why, _)| !CARRIER.contains(why)).map(|(_, count)| count).sum()
}

/// One share of the packets.
fn agree(share: u64) {
    let mut node = Node::new(SMALL);
    let (mut turn, mut judged) = (0, BTreeMap::new());
    for seed in 0.. {
        compare(&mut node, &mut turn, (share << 24) + seed, &mut judged);
        if all(&judged) >= PACKETS / SHARES {
            break;
        }
    }
    check_mixture(&judged);
}

/// A differential that meets one kind of answer only proves little.
fn check_mixture(judged: &Judged) {
    let all = all(judged);
    for carrier in CARRIER {
        let met = judged.get(&carrier).copied().unwrap_or(0);
        assert!(met * 2000 >= all, "{met} of {all}: {judged:?}");
    }
    for why in [Why::Unenforced, Why::Rule, Why::DefaultDeny, Why::DenyRule] {
        let share = judged.get(&(why as u8)).copied().unwrap_or(0);
        assert!(share * 100 >= all * 15, "{why:?} is only {share} of {all}: {judged:?}");
    }
}

#[test]
fn evaluator_table_and_kernel_agree_on_random_cases_1_of_4() {
    agree(0);
}

#[test]
fn evaluator_table_and_kernel_agree_on_random_cases_2_of_4() {
    agree(1);
}

#[test]
fn evaluator_table_and_kernel_agree_on_random_cases_3_of_4() {
    agree(2);
}

#[test]
fn evaluator_table_and_kernel_agree_on_random_cases_4_of_4() {
    agree(3);
}

#[test]
#[ignore = "soak: a million packets, or as many minutes as SIGNET_SOAK_MINUTES says if that is more"]
fn they_agree_on_random_cases_for_long() {
    let minutes = std::env::var("SIGNET_SOAK_MINUTES").map_or(0, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut node = Node::new(SMALL);
    let (mut turn, mut judged) = (0, BTreeMap::new());
    // Other cases than those of every day.
    let mut seed = 1 << 32;
    while Instant::now() < end || all(&judged) < PACKETS_FOR_LONG {
        compare(&mut node, &mut turn, seed, &mut judged);
        seed += 1;
    }
    check_mixture(&judged);
    println!("{} packets judged by all three: {judged:?}", all(&judged));
}

/// A compiler that takes policies in shadow mode for enforced ones, or the other way
/// round, is shown by the kernel in the world where it is wrong.
#[test]
fn the_kernel_shows_every_mode_that_is_taken_for_another() {
    let mut node = Node::new(SMALL);
    let mut turn = 0;
    for read in Mode::ALL {
        for as_if in Mode::ALL.into_iter().filter(|as_if| *as_if != read) {
            let shown = (0..CASES_FOR_A_MUTANT).any(|seed| {
                let case = shadowed_case(seed, false);
                let mut misread = case.clone();
                for policy in misread.policies.iter_mut().filter(|policy| policy.mode == read) {
                    policy.mode = as_if;
                }
                let (right, wrong) = (case.compile().unwrap(), misread.compile().unwrap());
                right != wrong && judge(&mut node, &mut turn, &case, &wrong).is_err()
            });
            assert!(shown, "{read:?} taken for {as_if:?} survived");
        }
    }
}

/// Bugs that concern what the kernel judges; the others are about parts of the
/// language that it does not judge yet, and are caught without it.
const MUTANTS_IN_REACH: usize = 20;

#[test]
fn the_kernel_shows_every_bug_of_a_compiler() {
    let mut node = Node::new(SMALL);
    let (mut turn, mut caught) = (0, 0);
    let right: Vec<(Case, Table)> = (0..CASES_FOR_A_MUTANT)
        .map(random_case)
        .map(|case| {
            let table = case.compile().unwrap();
            (case, table)
        })
        .collect();
    for mutant in Mutant::ALL {
        // Most cases do not touch the bug: only those go to the kernel where its
        // table is not the right one.
        let mut wrong = right.iter().filter_map(|(case, right)| {
            let table = compile_mutant(mutant, case).ok()?;
            (table != *right).then_some((case, table))
        });
        let mut reached = false;
        let shown = wrong.any(|(case, table)| {
            reached = true;
            judge(&mut node, &mut turn, case, &table).is_err()
        });
        assert!(shown || !reached, "{mutant:?} survived");
        caught += usize::from(shown);
    }
    assert!(caught >= MUTANTS_IN_REACH, "only {caught} bugs were shown");
}
