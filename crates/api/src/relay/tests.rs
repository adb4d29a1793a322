//! The window's order; whole relays are tested over sockets in `tests/`.

use std::time::Duration;

use tokio::time::Instant;

use super::follow::Window;
use crate::flow::to_response;
use crate::proto::flow::Flow;
use crate::proto::observer::GetFlowsResponse;
use crate::time::timestamp;

fn at(ns: u64) -> GetFlowsResponse {
    to_response(Flow { time: Some(timestamp(ns)), ..Flow::default() })
}

#[test]
fn an_answer_waits_for_earlier_ones() {
    let start = Instant::now();
    let later = |ms| start + Duration::from_millis(ms);
    let mut window = Window::default();
    window.push(at(20), start);
    window.push(at(10), later(100));
    assert_eq!(window.pop(later(199)), None);
    // The earlier one arrived later and waits its own time; the other behind it.
    assert_eq!(window.pop(later(200)), None);
    assert_eq!(window.pop(later(300)), Some(at(10)));
    assert_eq!(window.pop(later(300)), Some(at(20)));
    assert_eq!(window.deadline(), None);
}

#[test]
fn answers_of_the_same_moment_keep_their_order() {
    let now = Instant::now();
    let mut window = Window::default();
    let named = |name: &str| GetFlowsResponse { node_name: name.into(), ..at(5) };
    window.push(named("first"), now);
    window.push(named("second"), now);
    assert_eq!(window.pop_any(), Some(named("first")));
    assert_eq!(window.pop_any(), Some(named("second")));
}

#[test]
fn too_many_waiting_answers_do_not_wait() {
    let now = Instant::now();
    let mut window = Window::default();
    (0..=4096).for_each(|n| window.push(at(n), now));
    assert_eq!(window.pop(now), Some(at(0)));
    assert_eq!(window.pop(now), None);
}
