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

mod attacks;
mod attempt;
mod bank;
mod capture;
mod chaining;
mod changes;
mod churn;
mod cleanup;
mod clock;
mod clusters;
mod conservation;
mod death;
mod faults;
mod forge;
mod frame;
mod frames;
mod host;
mod host_policy;
mod link_local;
mod listener;
mod live;
mod load;
mod matrix;
mod memory;
mod observe;
#[path = "../../../api/tests/openssl/mod.rs"]
mod openssl;
mod peers;
mod pictures;
mod probes;
#[path = "../../../api/tests/python/mod.rs"]
mod python;
mod ranges;
mod reach;
mod readme;
mod refusals;
mod reserved;
mod restart;
mod reuse;
mod scene;
mod sender;
mod service_rules;
mod services;
mod serving;
mod shadow;
mod signet;
mod told;
mod traces;

use libtest_mimic::{Arguments, Trial};

/// Name and body of each test.
const TESTS: &[(&str, fn())] = &[
    ("attacks::answers_to_nobody_s_question_and_claims_to_addresses", attacks::forgery::answers),
    ("attacks::frames_that_are_not_what_they_say", attacks::forgery::identities_and_headers),
    ("attacks::a_pod_that_takes_its_network_apart", attacks::breakage::of_its_own_network),
    ("attacks::a_flood_loses_none_of_a_neighbour_s_connections", attacks::flood::of_connections),
    ("attacks::a_dead_neighbour_s_address", attacks::surroundings::a_dead_neighbour_s_address),
    ("attacks::behind_the_node_s_address", attacks::surroundings::behind_the_node_s_address),
    ("attacks::into_the_node_s_overlay", attacks::surroundings::into_the_node_s_overlay),
    ("attacks::what_a_pod_says_of_itself_gives_it_no_rights", attacks::claims::about_itself),
    ("attacks::files_and_sockets_of_the_node", attacks::surroundings::files_and_sockets),
    ("bank::the_demo_tells_its_story_with_the_numbers_it_should", bank::demo),
    ("bank::every_command_of_the_tutorial_works_as_shown", bank::tutorial),
    ("bank::evaluation_and_the_probes_agree", bank::documents::evaluation),
    ("bank::the_tables_of_routes_are_the_probes", bank::documents::routes),
    ("bank::every_policy_says_what_it_is_for", bank::documents::purposes),
    ("bank::every_denied_probe_has_a_twin_or_says_why_not", bank::documents::twins),
    ("chaining::behind_ptp_everything_is_judged_as_ever", chaining::ptp),
    ("chaining::behind_a_bridge_both_ends_are_judged", chaining::bridge),
    ("changes::rollout_and_reschedule_change_no_verdict", changes::rollout),
    ("changes::a_label_changes_what_a_pod_may", changes::relabel),
    ("changes::nodes_come_and_go", changes::nodes),
    ("changes::a_follower_outlives_nodes_that_come_and_go", changes::follower),
    ("churn::every_verdict_is_what_its_revision_says", churn::every_verdict),
    ("churn::every_verdict_is_what_its_revision_says_for_long", churn::every_verdict_for_long),
    ("churn::changes_come_into_force_in_a_moment", churn::time_to_force),
    ("churn::changes_come_into_force_in_a_moment_for_long", churn::time_to_force_for_long),
    ("cleanup::a_killed_up_leaves_nothing_after_down", cleanup::killed_up),
    ("cleanup::a_test_that_fails_leaves_nothing", cleanup::failed_test),
    ("cleanup::two_labs_of_the_same_manifests_do_not_meet", cleanup::two_labs),
    ("clock::a_clock_that_is_set_changes_no_verdict", clock::set_forward_and_back),
    ("clusters::same_names_in_two_clusters_are_not_the_same", clusters::on_the_wire),
    ("conservation::records_of_a_paused_agent_are_delivered_or_told_as_lost", conservation::paused),
    ("conservation::a_flood_costs_its_neighbour_no_record", conservation::flood),
    ("death::agents_that_die_before_a_write_leave_the_old_or_the_new_state", death::before_a_write),
    ("death::nothing_is_lost_and_nothing_slips_under_load", death::under_load),
    ("death::nothing_is_lost_and_nothing_slips_under_load_for_long", death::under_load_for_long),
    ("faults::a_disk_that_is_full_or_read_only_is_told", faults::disk),
    ("faults::a_source_that_is_gone_leaves_what_was_read", faults::partition),
    ("faults::an_agent_at_the_limit_of_its_cgroup_changes_nothing", faults::memory_limit),
    ("faults::an_agent_without_memory_changes_nothing", faults::memory),
    ("faults::what_root_changed_is_told_and_put_right", faults::tampering),
    ("frames::no_denied_frame_leaves_a_pod_whatever_its_agent_does", frames::from_the_first_act),
    (
        "host_policy::a_confirmed_policy_outlives_its_trial_and_the_agent",
        host_policy::confirmed_stays,
    ),
    (
        "host_policy::a_lock_out_is_undone_with_and_without_an_agent",
        host_policy::lock_out_is_undone,
    ),
    ("host_policy::who_reaches_a_node_and_whom_it_reaches", host_policy::on_the_wire),
    ("link_local::the_node_s_end_of_a_pod_s_link_is_the_node", link_local::behind_ptp),
    (
        "link_local::a_node_s_sockets_on_a_link_are_its_own_and_not_the_world_s",
        link_local::on_the_wire,
    ),
    ("live::labels_of_namespaces_restarts_and_logs", live::namespaces),
    ("matrix::observed_expected_and_evaluated_are_the_same", matrix::on_the_wire),
    ("matrix::sctp_is_judged_as_every_other_protocol", matrix::sctp_on_the_wire),
    ("memory::an_agent_stays_within_what_is_promised", memory::promise),
    ("memory::an_agent_stays_within_what_is_promised_for_long", memory::promise_for_long),
    ("observe::filters_select_and_every_form_can_be_read", observe::filters_and_forms),
    ("observe::a_follower_sees_a_drop_within_two_seconds", observe::follow),
    ("observe::lists_tell_what_is_in_force", observe::lists),
    ("peers::everybody_is_who_the_policies_mean", peers::on_the_wire),
    ("peers::the_own_node_needs_a_rule_where_the_agent_is_told_so", peers::own_node),
    ("probes::every_denial_is_told_with_reason_rule_and_process", probes::denials),
    ("ranges::rules_about_ranges_hold_on_the_wire", ranges::on_the_wire),
    ("reach::nobody_in_a_pod_can_ask_an_agent", reach::from_pods),
    ("readme::every_command_works_as_shown", readme::typed),
    ("readme::nothing_is_shown_that_nobody_types", readme::complete),
    ("refusals::a_bad_manifest_is_refused_with_its_place", refusals::manifests),
    ("refusals::a_name_in_use_is_refused_and_its_lab_stays", refusals::name_in_use),
    ("refusals::a_user_who_is_not_root_is_refused", refusals::not_root),
    ("reserved::health_and_ingress_are_who_annotations_say", reserved::on_the_wire),
    ("reserved::an_annotation_without_an_address_is_refused", reserved::refused),
    ("restart::verdicts_connections_and_flows_outlive_the_agents", restart::killed_agents),
    ("reuse::an_address_means_who_has_it_now", reuse::from_hand_to_hand),
    ("service_rules::rules_about_services_hold_on_the_wire", service_rules::on_the_wire),
    ("shadow::what_would_be_denied_is_told_and_then_denied", shadow::on_the_wire),
    ("traces::the_end_of_a_connection_tells_what_it_carried", traces::on_the_wire),
    ("services::backends_are_judged_and_own_addresses_never_travel", services::on_the_wire),
    ("services::names_are_answered_as_policy_lets_them_be_asked", services::names),
    ("serving::what_an_agent_is_told_to_serve_and_export_is_there", serving::exports),
    ("serving::every_node_is_announced_as_it_comes_and_goes", serving::peers),
    ("serving::readers_and_certificates_change_without_a_restart", serving::renewal),
    ("services::changes_of_backends_and_dead_agents_lose_no_connection", services::changes),
];

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == sender::WORD) {
        sender::run(&words[2..]);
        return;
    }
    let trials = TESTS.iter().map(|(name, body)| {
        let trial = Trial::test(*name, || {
            body();
            Ok(())
        });
        // Hours, by `make soak` only.
        trial.with_ignored_flag(name.ends_with("for_long"))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}
