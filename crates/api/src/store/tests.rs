//! What a store keeps, forgets, and tells its readers.

use super::*;
use crate::flow::to_response;
use crate::proto::flow::Endpoint;
use crate::time::timestamp;

fn flow(n: u64) -> GetFlowsResponse {
    to_response(Flow {
        uuid: format!("{n:04}"),
        time: Some(timestamp(n * 1_000_000_000)),
        ..Flow::default()
    })
}

fn store(events: usize) -> FlowStore {
    FlowStore::new(Limits { events, ..Limits::default() })
}

fn uuid(event: GetFlowsResponse) -> String {
    match event.response_types {
        Some(ResponseTypes::Flow(flow)) => flow.uuid,
        other => panic!("no flow: {other:?}"),
    }
}

/// The flows that are there, from a number on.
#[track_caller]
fn check(store: &FlowStore, from: u64, want: &[&str]) {
    let mut position = from;
    let found = std::iter::from_fn(|| {
        let (number, event) = store.at_or_after(position)?;
        position = number + 1;
        Some(uuid(event.decode()))
    });
    assert_eq!(found.collect::<Vec<_>>(), want);
}

#[test]
fn what_was_written_is_read_by_its_number() {
    let store = store(4);
    assert!(store.get(0).is_none() && store.before(7).is_none());
    store.push(&flow(7));
    check(&store, 0, &["0007"]);
    check(&store, 1, &[]);
    assert_eq!(uuid(store.get(0).unwrap().decode()), "0007");
    assert_eq!(store.before(1).unwrap().0, 0);
}

#[test]
fn a_full_store_forgets_the_oldest() {
    let store = store(3);
    (0..5).for_each(|n| assert!(store.push(&flow(n))));
    assert!(store.get(1).is_none());
    check(&store, 0, &["0002", "0003", "0004"]);
    assert_eq!((store.occupancy().events, store.occupancy().seen), (3, 5));
}

/// A drop of an endpoint of this node.
fn drop_of(endpoint: u32, n: u64) -> GetFlowsResponse {
    let mut event = flow(n);
    if let Some(ResponseTypes::Flow(flow)) = &mut event.response_types {
        flow.source = Some(Endpoint { id: endpoint, identity: 300, ..Endpoint::default() });
        flow.verdict = crate::proto::flow::Verdict::Dropped.into();
    }
    event
}

#[test]
fn a_flood_displaces_itself_and_not_its_neighbours_drops() {
    let store = store(10);
    store.push(&drop_of(1, 1));
    store.push(&drop_of(2, 2));
    (100..10_000).for_each(|n| assert!(store.push(&drop_of(7, n))));
    let last = ["9992", "9993", "9994", "9995", "9996", "9997", "9998", "9999"];
    check(&store, 0, &[&["0001", "0002"][..], &last].concat());
}

#[test]
fn nobody_displaces_an_equal_share_of_a_flooder_either() {
    let store = store(10);
    for n in 0..1000 {
        store.push(&drop_of(1, n));
        store.push(&drop_of(2, n));
    }
    let held = |endpoint| {
        let of = |n: u64| match store.get(n)?.decode().response_types {
            Some(ResponseTypes::Flow(flow)) => Some(flow.source?.id == endpoint),
            _ => None,
        };
        (0..store.next()).filter_map(of).filter(|of| *of).count()
    };
    assert_eq!((held(1), held(2)), (5, 5));
}

#[test]
fn a_source_cannot_hide_its_drop_behind_what_it_may_send() {
    let store = store(4);
    store.push(&drop_of(7, 1));
    for n in 100..200 {
        let mut allowed = drop_of(7, n);
        if let Some(ResponseTypes::Flow(flow)) = &mut allowed.response_types {
            flow.verdict = crate::proto::flow::Verdict::Forwarded.into();
        }
        store.push(&allowed);
    }
    check(&store, 0, &["0001", "0197", "0198", "0199"]);
}

#[test]
fn a_flow_that_stands_for_many_counts_as_many() {
    let store = store(4);
    store.push_times(&flow(1000), 41);
    store.push(&flow(1000));
    assert_eq!(store.occupancy().seen, 42);
    assert_eq!(store.rate(1000 * 1_000_000_000), 0.7);
}

#[test]
fn bytes_are_a_bound_of_their_own() {
    let one = flow(1).encoded_len();
    let store = FlowStore::new(Limits { events: 100, bytes: 2 * one + 1 });
    (1..=5).for_each(|n| assert!(store.push(&flow(n))));
    assert_eq!(store.occupancy(), Occupancy { events: 2, bytes: 2 * one, seen: 5 });
    check(&store, 0, &["0004", "0005"]);
}

#[test]
fn an_event_larger_than_the_store_is_not_kept() {
    let store = FlowStore::new(Limits { events: 100, bytes: 8 });
    assert!(!store.push(&flow(1)));
    assert_eq!(store.occupancy(), Occupancy { events: 0, bytes: 0, seen: 1 });
}

#[tokio::test]
async fn a_follower_wakes_when_its_event_is_written() {
    let store = Arc::new(store(4));
    let follower = tokio::spawn({
        let store = store.clone();
        async move { store.wait(1).await }
    });
    tokio::task::yield_now().await;
    store.push(&flow(1));
    tokio::task::yield_now().await;
    assert!(!follower.is_finished());
    store.push(&flow(2));
    follower.await.unwrap();
}

#[test]
fn readers_and_a_writer_never_see_a_torn_event() {
    let store = Arc::new(store(8));
    let reader = std::thread::spawn({
        let store = store.clone();
        move || {
            let (mut read, mut missed, mut number) = (0, 0, 0);
            while number < 5000 {
                let Some((found, event)) = store.at_or_after(number) else {
                    std::thread::yield_now();
                    continue;
                };
                assert_eq!(uuid(event.decode()), format!("{found:04}"));
                missed += found - number;
                read += 1;
                number = found + 1;
            }
            read + missed
        }
    });
    (0..5000).for_each(|n| assert!(store.push(&flow(n))));
    assert_eq!(reader.join().unwrap(), 5000);
}

#[test]
fn the_rate_covers_the_last_minute_only() {
    let store = store(4);
    (0..90).for_each(|n| assert!(store.push(&flow(1000 + n))));
    assert_eq!(store.rate(1089 * 1_000_000_000), 1.0);
    assert_eq!(store.rate(1119 * 1_000_000_000), 0.5);
    assert_eq!(store.rate(9999 * 1_000_000_000), 0.0);
}

#[test]
fn namespaces_are_forgotten_after_an_hour() {
    let store = store(4);
    let at = |n: u64, namespace: &str| {
        let end = Endpoint { namespace: namespace.into(), ..Endpoint::default() };
        let time = Some(timestamp(n * 1_000_000_000));
        store.push(&to_response(Flow { time, source: Some(end), ..Flow::default() }));
    };
    at(0, "old");
    at(1, "b");
    at(3600, "a");
    assert_eq!(
        store.namespaces(3601 * 1_000_000_000),
        [(String::new(), "a".to_owned()), (String::new(), "b".to_owned())]
    );
}

#[test]
fn it_knows_whether_its_clock_was_set_back() {
    let store = store(4);
    [10, 12, 11].into_iter().for_each(|second| assert!(store.push(&flow(second))));
    assert!(store.is_in_order(), "a second late is no step");
    store.push(&flow(90));
    assert!(store.is_in_order(), "nor is a step forward");
    store.push(&flow(30));
    assert!(!store.is_in_order(), "a minute back is one");
    (31..34).for_each(|second| assert!(store.push(&flow(second))));
    assert!(store.is_in_order(), "none of before is left");
}
