//! The whole system on the running kernel: the `signet` program, its agents, real
//! pods and real traffic, each test in a lab of its own. Needs root.
//!
//! Has a `main` of its own because this program is also what a pod of one test
//! runs: with `raw-frames` as its first word it sends frames, and nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lints' exception for tests does not reach the functions tests share"
)]

mod attempt;
mod bank;
mod changes;
mod cleanup;
mod conservation;
mod frame;
mod frames;
mod host;
mod listener;
mod observe;
mod probes;
mod ranges;
mod refusals;
mod restart;
mod scene;
mod sender;
mod signet;
mod told;

use libtest_mimic::{Arguments, Trial};

/// Name and body of each test.
const TESTS: &[(&str, fn())] = &[
    ("bank::the_demo_tells_its_story_with_the_numbers_it_should", bank::demo),
    ("bank::every_command_of_the_tutorial_works_as_shown", bank::tutorial),
    ("bank::evaluation_and_documents_agree_with_the_probes", bank::documents),
    ("changes::rollout_and_reschedule_change_no_verdict", changes::rollout),
    ("changes::a_label_changes_what_a_pod_may", changes::relabel),
    ("changes::nodes_come_and_go", changes::nodes),
    ("cleanup::a_killed_up_leaves_nothing_after_down", cleanup::killed_up),
    ("cleanup::a_test_that_fails_leaves_nothing", cleanup::failed_test),
    ("cleanup::two_labs_of_the_same_manifests_do_not_meet", cleanup::two_labs),
    ("conservation::records_of_a_paused_agent_are_delivered_or_told_as_lost", conservation::paused),
    ("frames::no_denied_frame_leaves_a_pod_whatever_its_agent_does", frames::from_the_first_act),
    ("observe::filters_select_and_every_form_can_be_read", observe::filters_and_forms),
    ("observe::a_follower_sees_a_drop_within_two_seconds", observe::follow),
    ("observe::lists_tell_what_is_in_force", observe::lists),
    ("probes::every_denial_is_told_with_reason_rule_and_process", probes::denials),
    ("ranges::rules_about_ranges_hold_on_the_wire", ranges::on_the_wire),
    ("refusals::a_bad_manifest_is_refused_with_its_place", refusals::manifests),
    ("refusals::a_name_in_use_is_refused_and_its_lab_stays", refusals::name_in_use),
    ("refusals::a_user_who_is_not_root_is_refused", refusals::not_root),
    ("restart::verdicts_connections_and_flows_outlive_the_agents", restart::killed_agents),
];

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == sender::WORD) {
        sender::run(&words[2..]);
        return;
    }
    let trials = TESTS.iter().map(|(name, body)| {
        Trial::test(*name, || {
            body();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}
