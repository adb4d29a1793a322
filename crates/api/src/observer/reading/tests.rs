//! What a slow reader is told of what it missed.

use std::collections::BTreeSet;

use super::*;
use crate::proto::flow::{Endpoint, Flow, TrafficDirection};
use crate::store::Limits;

/// A flow of an endpoint that was judged in a namespace. All are equally long.
fn flow(namespace: &str, id: u32, uuid: &str) -> GetFlowsResponse {
    let source = Endpoint { id, namespace: namespace.into(), ..Endpoint::default() };
    crate::flow::to_response(Flow {
        uuid: uuid.into(),
        source: Some(source),
        traffic_direction: TrafficDirection::Egress.into(),
        is_reply: Some(false),
        ..Flow::default()
    })
}

fn reading(store: &Arc<FlowStore>, scope: Scope, plan: Plan) -> Reading {
    let choice = Choice { filters: Filters::new(&[], &[]).unwrap(), mask: None, scope };
    Reading::new(Arc::clone(store), "node-a".into(), plan, choice)
}

fn payment() -> Scope {
    Scope::Namespaces(BTreeSet::from(["payment".to_owned()]))
}

fn word(answer: GetFlowsResponse) -> String {
    match answer.response_types.unwrap() {
        ResponseTypes::Flow(flow) => flow.uuid,
        ResponseTypes::LostEvents(lost) => format!("-{}", lost.num_events_lost),
        other => panic!("{other:?}"),
    }
}

/// Four fit. While the reader sleeps come three of a neighbour and six of its own;
/// the larger of both goes first, and of equals the one with the oldest: what stays
/// is w3, p4, p5, p6.
async fn check(scope: Scope, want: &[&str]) {
    let store = Arc::new(FlowStore::new(Limits { events: 4, ..Limits::default() }));
    assert!(store.push(&flow("payment", 1, "p0")));
    let mut reading = reading(&store, scope, Plan { follow: true, ..Plan::default() });
    reading.look_back().await;
    for uuid in ["w1", "w2", "w3", "p1", "p2", "p3", "p4", "p5", "p6"] {
        let (namespace, id) = if uuid.starts_with('p') { ("payment", 1) } else { ("website", 2) };
        assert!(store.push(&flow(namespace, id, uuid)));
    }
    let mut words = Vec::new();
    while words.len() < want.len() {
        words.push(word(reading.next().await.unwrap()));
    }
    assert_eq!(words, want);
}

#[tokio::test]
async fn who_sees_everything_is_told_of_all_that_is_missing() {
    // The second loss comes a second after the first.
    check(Scope::Everything, &["w3", "-2", "p4", "p5", "p6", "-3"]).await;
}

#[tokio::test]
async fn a_limited_reader_is_told_of_its_own_and_of_no_others() {
    check(payment(), &["p4", "-3", "p5", "p6"]).await;
}

#[tokio::test]
async fn a_neighbours_flood_is_no_loss_of_a_limited_reader() {
    let store = Arc::new(FlowStore::new(Limits { events: 4, ..Limits::default() }));
    let mut reading = reading(&store, payment(), Plan { follow: true, ..Plan::default() });
    reading.look_back().await;
    for n in 0..100 {
        assert!(store.push(&flow("website", 2, &format!("w{n:02}"))));
    }
    assert!(store.push(&flow("payment", 1, "p0")));
    assert_eq!(word(reading.next().await.unwrap()), "p0");
    assert!(reading.losses.deadline().is_none());
}

#[tokio::test]
async fn what_goes_while_the_past_is_read_counts_for_its_owner_only() {
    for (scope, want) in [(Scope::Everything, ["-1", "-1"].as_slice()), (payment(), &["-1"])] {
        let store = Arc::new(FlowStore::new(Limits { events: 2, ..Limits::default() }));
        assert!(store.push(&flow("payment", 1, "p0")));
        assert!(store.push(&flow("website", 2, "w0")));
        let mut reading = reading(&store, scope, Plan::default());
        reading.look_back().await;
        for n in 1..=4 {
            assert!(store.push(&flow("website", 2, &format!("w{n}"))));
            assert!(store.push(&flow("payment", 1, &format!("p{n}"))));
        }
        let mut words = Vec::new();
        while let Some(answer) = reading.next().await {
            words.push(word(answer));
        }
        assert_eq!(words, want);
    }
}
