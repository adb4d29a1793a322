//! What the ledger says of each policy, step by step.

use super::*;

/// Counters of one CPU's drops.
fn counters(attempts: u64, lost: u64) -> Counters {
    Counters {
        traces: RingCounters { attempts: vec![0], lost: vec![0] },
        drops: RingCounters { attempts: vec![attempts], lost: vec![lost] },
        ..Counters::default()
    }
}

fn fresh() -> Ledger {
    let (ledger, away) = Ledger::start(&counters(0, 0), &Reported::new());
    assert!(away.is_empty());
    ledger
}

/// Enters numbers; for each what is expected: `None` a duplicate, else the loss.
#[track_caller]
fn check(ledger: &mut Ledger, arrivals: &[(u64, Option<u64>)]) {
    for (sequence, want) in arrivals {
        let want = want.map_or(Arrival::Duplicate, |lost| Arrival::New { lost });
        assert_eq!(ledger.take(Ring::Drops, 0, *sequence), want, "record {sequence}");
    }
}

#[track_caller]
fn check_totals(ledger: &Ledger, attempted: u64, delivered: u64, lost: u64) {
    assert_eq!(ledger.totals(Ring::Drops), Totals { attempted, delivered, lost });
}

#[test]
fn records_in_a_row_are_no_loss() {
    let mut ledger = fresh();
    check(&mut ledger, &[(0, Some(0)), (1, Some(0)), (2, Some(0))]);
    check_totals(&ledger, 3, 3, 0);
}

#[test]
fn a_gap_is_a_loss_of_its_length() {
    let mut ledger = fresh();
    check(&mut ledger, &[(0, Some(0)), (4, Some(3)), (5, Some(0))]);
    check_totals(&ledger, 6, 3, 3);
}

#[test]
fn losses_before_the_first_record_count() {
    let mut ledger = fresh();
    check(&mut ledger, &[(2, Some(2))]);
    check_totals(&ledger, 3, 1, 2);
}

#[test]
fn a_record_that_comes_again_counts_once() {
    let mut ledger = fresh();
    check(&mut ledger, &[(0, Some(0)), (1, Some(0)), (1, None), (0, None), (2, Some(0))]);
    check_totals(&ledger, 3, 3, 0);
}

#[test]
fn cpus_and_rings_are_numbered_apart() {
    let mut ledger = fresh();
    check(&mut ledger, &[(0, Some(0))]);
    assert_eq!(ledger.take(Ring::Traces, 0, 0), Arrival::New { lost: 0 });
    assert_eq!(ledger.take(Ring::Drops, 1, 0), Arrival::New { lost: 0 });
    check_totals(&ledger, 2, 2, 0);
}

#[test]
fn what_was_lost_at_the_tail_is_found_by_the_counters_and_found_once() {
    let mut ledger = fresh();
    check(&mut ledger, &[(0, Some(0))]);
    assert_eq!(ledger.settle(&counters(4, 3)), BTreeMap::from([(Ring::Drops, 3)]));
    check_totals(&ledger, 4, 1, 3);
    assert_eq!(ledger.settle(&counters(4, 3)), BTreeMap::new());
    check(&mut ledger, &[(4, Some(0))]);
    check_totals(&ledger, 5, 2, 3);
}

#[test]
fn counters_that_agree_report_nothing() {
    let mut ledger = fresh();
    check(&mut ledger, &[(0, Some(0)), (2, Some(1))]);
    assert_eq!(ledger.settle(&counters(3, 1)), BTreeMap::new());
    check_totals(&ledger, 3, 2, 1);
}

#[test]
fn what_waited_in_the_ring_for_a_new_agent_is_delivered_and_not_a_loss() {
    // Ten attempts, two lost and reported, five read by the agent before.
    let reported = Reported::from([((Ring::Drops, 0), 2)]);
    let (mut ledger, away) = Ledger::start(&counters(10, 2), &reported);
    assert!(away.is_empty());
    check(&mut ledger, &[(7, Some(0)), (8, Some(0)), (9, Some(0)), (10, Some(0))]);
    check_totals(&ledger, 4, 4, 0);
}

#[test]
fn a_gap_among_what_waited_is_not_counted_beside_the_kernels_own_count() {
    // Numbers 8 and 9 found no room while no agent ran.
    let (mut ledger, away) = Ledger::start(&counters(10, 2), &Reported::new());
    assert_eq!(away, BTreeMap::from([(Ring::Drops, 2)]));
    check(&mut ledger, &[(7, Some(0)), (10, Some(0))]);
    assert_eq!(ledger.settle(&counters(11, 2)), BTreeMap::new());
    check_totals(&ledger, 4, 2, 2);
}

#[test]
fn a_note_from_older_maps_hides_no_loss() {
    let reported = Reported::from([((Ring::Drops, 0), 100)]);
    let (_, away) = Ledger::start(&counters(10, 3), &reported);
    assert_eq!(away, BTreeMap::from([(Ring::Drops, 3)]));
}

#[test]
fn a_loss_that_the_numbers_do_not_show_is_taken_from_the_kernels_count() {
    // The attempt was read as ours, its loss was counted just after.
    let (mut ledger, _) = Ledger::start(&counters(5, 0), &Reported::new());
    assert_eq!(ledger.settle(&counters(5, 1)), BTreeMap::from([(Ring::Drops, 1)]));
}

#[test]
fn what_was_lost_is_remembered_for_the_next_agent() {
    let map = reported(&counters(10, 3));
    assert_eq!(map.get(&(Ring::Drops, 0)), Some(&3));
    let (_, away) = Ledger::start(&counters(12, 4), &map);
    assert_eq!(away, BTreeMap::from([(Ring::Drops, 1)]));
}
