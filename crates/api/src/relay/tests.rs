//! The window's order; whole relays are tested over sockets in `tests/`.

use std::time::Duration;

use tokio::time::Instant;

use super::follow::{Window, resume};
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

/// A node whose clock is ahead, or was, is heard although others go on.
#[test]
fn nobody_waits_for_ever_for_those_of_earlier_clocks() {
    let start = Instant::now();
    let later = |ms| start + Duration::from_millis(ms);
    let mut window = Window::default();
    window.push(at(1_000_000), start);
    for step in 1..=9 {
        window.push(at(step), later(step * 100));
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

#[test]
fn who_goes_on_after_a_pause_begins_after_the_latest_or_after_a_clock_that_was_set_back() {
    const SECOND: u64 = 1_000_000_000;
    assert_eq!(resume(None, 50 * SECOND), 50 * SECOND + 1);
    let after = Some(50 * SECOND + 1);
    assert_eq!(resume(after, 51 * SECOND), 51 * SECOND + 1, "later");
    assert_eq!(resume(after, 49 * SECOND), 50 * SECOND + 1, "told late");
    assert_eq!(resume(after, 7 * SECOND), 7 * SECOND + 1, "set back");
}
