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

#[track_caller]
fn check(store: &FlowStore, number: u64, want: &str) {
    let found = match store.read(number) {
        Read::Event(event) => uuid(event.decode()),
        Read::Gone { oldest } => format!("gone, oldest {oldest}"),
        Read::NotYet => "not yet".to_owned(),
    };
    assert_eq!(found, want);
}

#[test]
fn what_was_written_is_read_by_its_number() {
    let store = store(4);
    check(&store, 0, "not yet");
    store.push(&flow(7));
    check(&store, 0, "0007");
    check(&store, 1, "not yet");
}

#[test]
fn a_full_store_forgets_the_oldest() {
    let store = store(3);
    (0..5).for_each(|n| assert!(store.push(&flow(n))));
    check(&store, 0, "gone, oldest 2");
    check(&store, 1, "gone, oldest 2");
    check(&store, 2, "0002");
    check(&store, 4, "0004");
    assert_eq!((store.occupancy().events, store.occupancy().seen), (3, 5));
}

#[test]
fn bytes_are_a_bound_of_their_own() {
    let one = flow(1).encoded_len();
    let store = FlowStore::new(Limits { events: 100, bytes: 2 * one + 1 });
    (1..=5).for_each(|n| assert!(store.push(&flow(n))));
    assert_eq!(store.occupancy(), Occupancy { events: 2, bytes: 2 * one, seen: 5 });
    check(&store, 3, "0004");
}

#[test]
fn an_event_larger_than_the_store_is_not_kept() {
    let store = FlowStore::new(Limits { events: 100, bytes: 8 });
    assert!(!store.push(&flow(1)));
    assert_eq!(store.occupancy(), Occupancy { events: 0, bytes: 0, seen: 1 });
}

#[tokio::test]
async fn a_follower_wakes_when_its_event_is_written() {
    let store = std::sync::Arc::new(store(4));
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
    let store = std::sync::Arc::new(store(8));
    let reader = std::thread::spawn({
        let store = store.clone();
        move || {
            let (mut read, mut missed, mut number) = (0, 0, 0);
            while number < 5000 {
                match store.read(number) {
                    Read::Event(event) => {
                        assert_eq!(uuid(event.decode()), format!("{number:04}"));
                        read += 1;
                        number += 1;
                    }
                    Read::Gone { oldest } => {
                        missed += oldest - number;
                        number = oldest;
                    }
                    Read::NotYet => std::thread::yield_now(),
                }
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
