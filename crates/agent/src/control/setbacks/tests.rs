//! Policies that do not fit, before and after the agent is another one.

use std::sync::Arc;

use policy::Why;

use crate::control::tests::{Bench, NODE_POLICY, answer, bench, host, other_events};
use crate::planner::HOST_TABLE;
use crate::service::policy_rows;
use crate::testing::{self, CLUSTER};

/// The rule of [`CLUSTER`] with one port more than before: an entry more.
fn grown(text: &str) -> String {
    let ports = "ports: [{port: '8080', protocol: TCP}]";
    text.replace(ports, "ports: [{port: '9090', protocol: TCP}, {port: '9095', protocol: TCP}]")
}

/// Tables of more than so many entries are refused from now on.
fn narrow(bench: &mut Bench, entries: usize) {
    bench.control.options.policy.max_entries = entries;
}

/// Whether the front may speak with the api on a port, as the kernel was told last.
#[track_caller]
fn allows(bench: &Bench, port: u16) -> bool {
    let desired = bench.last();
    let table = &desired.tables[&desired.endpoints[&5].table];
    let plan = bench.state.control().newest.clone().unwrap();
    let front = testing::identity(&plan, "web/front-1");
    let decision = table.lookup(model::Direction::Ingress, front, 6, port);
    assert!(decision.allow || decision.why == Why::DefaultDeny);
    decision.allow
}

/// Revision and reason of the first policy, as `signet policy list` has them.
fn listed(bench: &Bench) -> (u32, String) {
    let row = policy_rows("node-1", &bench.state.control()).remove(0);
    assert!(row.accepted);
    assert_eq!(row.since.is_some(), row.revision > 0);
    (row.revision, row.reason)
}

/// The rule is in force: the defaults, its entry, the node's own.
fn in_force() -> Bench {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    bench.step();
    assert!(allows(&bench, 8080) && !allows(&bench, 9090));
    assert_eq!(listed(&bench), (11, String::new()));
    narrow(&mut bench, 4);
    bench
}

const REASON: &str = "the table needs more than 4 entries: use broader selectors or fewer port \
                      ranges; the last good one stays";

#[test]
fn a_policy_that_does_not_fit_is_told_as_not_in_force_until_it_is() {
    let mut bench = in_force();
    bench.cluster(&grown(CLUSTER));
    bench.step();
    assert!(allows(&bench, 8080) && !allows(&bench, 9090), "what was in force stays");
    let (revision, reason) = listed(&bench);
    assert!(revision == 0 && reason.ends_with(REASON), "{revision} {reason}");
    assert_eq!(bench.control.health.refusals, 1);
    let refused = |bench: &Bench| {
        let events = other_events(&bench.state).into_iter();
        events.filter(|(kind, _)| kind == "refused").map(|(_, text)| text).collect::<Vec<_>>()
    };
    let [told] = &refused(&bench)[..] else { panic!("{:?}", refused(&bench)) };
    assert!(told.ends_with(REASON) && told.contains("k8s:app=api"), "{told}");
    assert_eq!(bench.state.control().last_error.as_ref().unwrap().0, *told);
    let since = bench.state.control().setbacks[0].1;

    // Another change is no news of this one.
    bench.wire(&testing::db());
    bench.step();
    bench.check_installed(&[5, 6]);
    assert_eq!((refused(&bench).len(), bench.control.health.refusals), (1, 1));
    assert_eq!(bench.state.control().setbacks[0].1, since);

    narrow(&mut bench, 5);
    bench.control.enforce(std::time::Instant::now());
    assert!(!allows(&bench, 8080) && allows(&bench, 9090) && allows(&bench, 9095));
    assert_eq!(listed(&bench), (14, String::new()));
    assert!(bench.state.control().setbacks.is_empty());
}

#[test]
fn what_an_earlier_agent_left_goes_on_where_a_policy_does_not_fit() {
    let bench = in_force();
    bench.cluster(&grown(CLUSTER));
    let mut bench = bench.succeeded();
    narrow(&mut bench, 4);
    bench.step();
    bench.check_installed(&[5]);
    assert!(allows(&bench, 8080) && !allows(&bench, 9090));
    let (revision, reason) = listed(&bench);
    assert!(revision == 0 && reason.ends_with(REASON), "{revision} {reason}");

    // Also after the next one, and by its names.
    let mut bench = bench.succeeded();
    narrow(&mut bench, 4);
    bench.step();
    assert!(allows(&bench, 8080) && !allows(&bench, 9090));
    let desired = bench.last();
    let table = &desired.tables[&desired.endpoints[&5].table];
    let sets: Vec<String> = table
        .rule_sets()
        .flat_map(|(_, set)| set.rules.iter().map(ToString::to_string).collect::<Vec<_>>())
        .collect();
    assert_eq!(sets, [testing::RULE]);
}

#[test]
fn a_pod_that_nobody_ever_judged_drops_everything_and_its_neighbour_does_not() {
    let mut bench = bench();
    bench.cluster(&grown(CLUSTER));
    bench.wire(&testing::api());
    bench.wire(&testing::db());
    narrow(&mut bench, 4);
    bench.step();
    bench.check_installed(&[6]);
    let (revision, reason) = listed(&bench);
    assert!(revision == 0 && reason.ends_with("; its pods drop everything"), "{reason}");
    assert_eq!(bench.control.health.refusals, 1);
}

#[test]
fn room_is_counted_beside_what_an_earlier_agent_left() {
    let bench = in_force();
    bench.cluster(&grown(CLUSTER));
    let mut bench = bench.succeeded();
    // The new one alone would fit: the defaults, the node's own, two of the rule.
    bench.control.options.limits.table_entries = 5;
    bench.step();
    assert!(allows(&bench, 8080) && !allows(&bench, 9090));
    let (_, reason) = listed(&bench);
    assert!(reason.contains("old and new entries are 6 together, 5 is the limit"), "{reason}");
    bench.control.options.limits.table_entries = 6;
    bench.control.enforce(std::time::Instant::now());
    assert!(!allows(&bench, 8080) && allows(&bench, 9090));
}

#[test]
fn a_full_node_keeps_whom_an_earlier_agent_installed() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::db());
    bench.step();
    // The api comes first by name.
    bench.wire(&testing::api());
    let mut bench = bench.succeeded();
    bench.control.options.limits.endpoints = 1;
    bench.step();
    bench.check_installed(&[6]);
}

/// A node policy of one entry more than [`NODE_POLICY`].
fn longer() -> String {
    NODE_POLICY.replace("{port: '22', protocol: TCP}", "{port: '22'}, {port: '443'}, {port: '80'}")
}

/// Whether the world reaches the node on a port, as the kernel was told last.
fn reaches_node(bench: &Bench, port: u16) -> bool {
    let world = model::Reserved::WorldIpv4.id();
    bench.last().tables[&HOST_TABLE].lookup(model::Direction::Ingress, world, 6, port).allow
}

#[test]
fn a_node_goes_on_with_what_was_in_force_also_under_another_agent() {
    let mut bench = bench();
    bench.cluster(&format!("{CLUSTER}{NODE_POLICY}"));
    bench.step();
    assert_eq!(answer(&mut bench, &[]).unwrap().len(), 1);
    assert!(reaches_node(&bench, 22) && !reaches_node(&bench, 80));
    let entries = bench.last().tables[&HOST_TABLE].len();
    narrow(&mut bench, entries);

    bench.cluster(&format!("{CLUSTER}{}", longer()));
    bench.step();
    assert!(reaches_node(&bench, 22) && !reaches_node(&bench, 80));
    assert_eq!(host(&bench).unwrap().trial, None);
    let refusal = answer(&mut bench, &[]).unwrap_err();
    let want = "nothing is confirmed: the policy of the node cannot be enforced: ";
    assert!(refusal.starts_with(want), "{refusal}");

    let mut bench = bench.succeeded();
    narrow(&mut bench, entries);
    bench.step();
    assert!(reaches_node(&bench, 22) && !reaches_node(&bench, 80));
    let rows = policy_rows("node-1", &bench.state.control());
    let row = rows.iter().find(|row| row.name == "shut").unwrap();
    assert!(row.reason.ends_with("; the last good one stays"), "{}", row.reason);
    assert_eq!((row.revision, row.since), (0, None));

    narrow(&mut bench, 100);
    bench.control.enforce(std::time::Instant::now());
    assert!(reaches_node(&bench, 22) && reaches_node(&bench, 80));
    assert!(host(&bench).unwrap().trial.is_some(), "its trial goes on");
}

#[test]
fn a_node_without_a_last_good_policy_goes_on_with_the_confirmed_one() {
    let mut bench = bench();
    bench.cluster(&format!("{CLUSTER}{NODE_POLICY}"));
    bench.step();
    answer(&mut bench, &[]).unwrap();
    let entries = bench.last().tables[&HOST_TABLE].len();
    bench.cluster(&format!("{CLUSTER}{}", longer()));
    // The kernel has forgotten everything.
    let mut bench = bench.restarted();
    narrow(&mut bench, entries);
    bench.step();
    assert!(reaches_node(&bench, 22) && !reaches_node(&bench, 80));
    narrow(&mut bench, 2);
    let mut bench = bench.restarted();
    narrow(&mut bench, 2);
    bench.step();
    assert_eq!(host(&bench), None);
    let told = bench.state.control().last_error.clone().unwrap().0;
    assert!(told.ends_with("; nobody judges the node"), "{told}");
}

#[test]
fn what_another_version_enforces_is_not_replaced_by_less() {
    let bench = in_force();
    bench.cluster(&grown(CLUSTER));
    let mut bench = bench.succeeded_by_another_version();
    narrow(&mut bench, 4);
    bench.step();
    assert_eq!(bench.installs(), 0);
    let pending = bench.state.control().pending.clone().unwrap();
    assert!(pending.ends_with("another version's policy stays in force meanwhile"), "{pending}");
    narrow(&mut bench, 5);
    bench.control.enforce(std::time::Instant::now());
    assert_eq!(bench.installs(), 1);
    assert!(Arc::clone(bench.state.control().newest.as_ref().unwrap()).setbacks.is_empty());
}
