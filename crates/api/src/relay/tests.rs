//! The window's order; whole relays are tested over sockets in `tests/`.

use std::time::Duration;

use tokio::time::Instant;

use super::recent::Recent;
use super::window::{NodeName, Window, latest};
use crate::flow::to_response;
use crate::proto::flow::{Flow, LostEvent};
use crate::proto::observer::GetFlowsResponse;
use crate::proto::observer::get_flows_response::ResponseTypes;
use crate::time::timestamp;

fn at(ns: u64) -> GetFlowsResponse {
    to_response(Flow { time: Some(timestamp(ns)), ..Flow::default() })
}

/// A window of two nodes.
fn window() -> (Window, NodeName, NodeName) {
    let (a, b) = (NodeName::from("a"), NodeName::from("b"));
    let mut window = Window::default();
    window.expect(&a);
    window.expect(&b);
    (window, a, b)
}

#[test]
fn an_answer_waits_for_earlier_ones_of_a_silent_node() {
    let start = Instant::now();
    let later = |ms| start + Duration::from_millis(ms);
    let (mut window, a, _) = window();
    window.push(&a, at(20), start);
    window.push(&a, at(10), later(100));
    assert_eq!(window.pop(later(199)), None);
    // The earlier one arrived later and waits its own time; the other behind it.
    assert_eq!(window.pop(later(200)), None);
    assert_eq!(window.pop(later(300)), Some(at(10)));
    assert_eq!(window.pop(later(300)), Some(at(20)));
    assert_eq!(window.deadline(), None);
}

#[test]
fn an_answer_goes_out_at_once_when_no_node_is_behind_it() {
    let now = Instant::now();
    let (mut window, a, b) = window();
    window.push(&a, at(20), now);
    assert_eq!(window.pop(now), None);
    window.push(&b, at(10), now);
    assert_eq!(window.pop(now), Some(at(10)));
    assert_eq!(window.pop(now), None);
    window.push(&b, at(30), now);
    assert_eq!(window.pop(now), Some(at(20)));
    assert_eq!(window.pop(now), None);
    // Nobody waits for a node that is away.
    window.leave(&a);
    assert_eq!(window.pop(now), Some(at(30)));
}

#[test]
fn answers_of_the_same_moment_keep_their_order() {
    let now = Instant::now();
    let (mut window, a, _) = window();
    let named = |name: &str| GetFlowsResponse { node_name: name.into(), ..at(5) };
    window.push(&a, named("first"), now);
    window.push(&a, named("second"), now);
    assert_eq!(window.pop_any(), Some(named("first")));
    assert_eq!(window.pop_any(), Some(named("second")));
}

#[test]
fn too_many_waiting_answers_do_not_wait() {
    let now = Instant::now();
    let (mut window, a, _) = window();
    (0..=4096).for_each(|n| window.push(&a, at(n + 1), now));
    assert_eq!(window.pop(now), Some(at(1)));
    assert_eq!(window.pop(now), None);
}

/// A node whose clock is ahead, or was, is heard although others go on.
#[test]
fn nobody_waits_for_ever_for_those_of_earlier_clocks() {
    let start = Instant::now();
    let later = |ms| start + Duration::from_millis(ms);
    let (mut window, a, _) = window();
    window.push(&a, at(1_000_000), start);
    for step in 1..=9 {
        window.push(&a, at(step), later(step * 100));
    }
    let told = |window: &mut Window, ms| -> Vec<GetFlowsResponse> {
        std::iter::from_fn(|| window.pop(later(ms))).collect()
    };
    assert_eq!(told(&mut window, 950), (1..=7).map(at).collect::<Vec<_>>());
    assert_eq!(window.deadline(), Some(later(1000)));
    assert_eq!(told(&mut window, 1000), [at(1_000_000), at(8)]);
    assert_eq!(told(&mut window, 1100), [at(9)]);
    assert_eq!(window.deadline(), None);
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_node_is_as_far_as_its_latest_or_where_its_clock_was_set_back_to() {
    assert_eq!(latest(0, 50 * SECOND), 50 * SECOND);
    assert_eq!(latest(50 * SECOND, 51 * SECOND), 51 * SECOND, "later");
    assert_eq!(latest(50 * SECOND, 49 * SECOND), 50 * SECOND, "told late");
    assert_eq!(latest(50 * SECOND, 7 * SECOND), 7 * SECOND, "set back");
}

#[test]
fn what_was_passed_on_is_known_for_as_long_as_it_may_come_again() {
    let mut recent = Recent::default();
    let flow = |uuid: &str, ns| {
        to_response(Flow { uuid: uuid.into(), time: Some(timestamp(ns)), ..Flow::default() })
    };
    let lost = |number| GetFlowsResponse {
        response_types: Some(ResponseTypes::LostEvents(LostEvent {
            num_events_lost: number,
            ..LostEvent::default()
        })),
        ..at(10 * SECOND)
    };
    assert!(recent.is_new(&flow("a", 10 * SECOND)));
    assert!(!recent.is_new(&flow("a", 10 * SECOND)));
    assert!(recent.is_new(&flow("b", 10 * SECOND)), "another flow of that moment");
    assert!(recent.is_new(&lost(7)) && !recent.is_new(&lost(7)));
    assert!(recent.is_new(&lost(8)));
    assert!(recent.is_new(&flow("c", 12 * SECOND)) && !recent.is_new(&flow("a", 10 * SECOND)));
    // Too old to come again by itself: forgotten.
    assert!(recent.is_new(&flow("d", 12 * SECOND + 1)));
    assert!(recent.is_new(&flow("a", 10 * SECOND)));
}
