//! Trials by the clock, without a kernel.

use super::*;

const NODE: &str = "
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: NAME}
spec:
  nodeSelector: {matchLabels: {role: edge}}
  ingress:
  - toPorts: [{ports: [{port: 'PORT', protocol: TCP}]}]
";

fn labels() -> Labels {
    ["reserved:host", "k8s:role=edge"].iter().map(|text| text.parse().unwrap()).collect()
}

fn snapshot(policies: &[(&str, u16)]) -> Snapshot {
    let documents: Vec<String> = policies
        .iter()
        .map(|(name, port)| NODE.replace("NAME", name).replace("PORT", &port.to_string()))
        .collect();
    let snapshot = source::read("node.yaml", &documents.join("---"));
    assert_eq!(snapshot.refused, []);
    snapshot
}

/// Policies of a node by name and port.
fn present(policies: &[(&str, u16)]) -> BTreeMap<PolicyName, Version> {
    of_the_node(&snapshot(policies), &labels())
}

fn standing(trials: &Trials, name: &str) -> Option<Standing> {
    let standings = trials.standings();
    standings.into_iter().find(|(known, _)| known.name == name).map(|(_, standing)| standing)
}

/// The same policies, as one may write them in a list.
#[track_caller]
fn check(trials: &Trials, in_force: &[(&str, u16)], fallback: &[(&str, u16)], by: Option<u32>) {
    let policies = |list: &[(&str, u16)]| -> Vec<Policy> {
        present(list).into_values().map(|version| version.policy).collect()
    };
    let want =
        NodePolicies { in_force: policies(in_force), fallback: policies(fallback), confirm_by: by };
    assert_eq!(trials.policies(), want);
}

#[test]
fn only_policies_that_select_the_node_are_its_own() {
    let other: Labels =
        ["reserved:host", "k8s:role=core"].iter().map(|t| t.parse().unwrap()).collect();
    assert_eq!(of_the_node(&snapshot(&[("a", 22)]), &labels()).len(), 1);
    assert!(of_the_node(&snapshot(&[("a", 22)]), &other).is_empty());
}

#[test]
fn a_new_policy_is_on_trial_and_then_reverted() {
    let mut trials = Trials::default();
    assert!(trials.look(present(&[("a", 22)]), 1000, 120));
    assert!(!trials.look(present(&[("a", 22)]), 1060, 120), "the time does not start again");
    check(&trials, &[("a", 22)], &[], Some(1120));
    assert!(trials.expire(1119).is_empty());
    assert_eq!(trials.expire(1120).len(), 1);
    assert_eq!(standing(&trials, "a"), Some(Standing::Reverted { earlier: false }));
    check(&trials, &[], &[], None);
    assert!(!trials.look(present(&[("a", 22)]), 2000, 120), "it is not tried again");
    assert!(trials.look(present(&[("a", 23)]), 2000, 120), "unless it changes");
    check(&trials, &[("a", 23)], &[], Some(2120));
}

#[test]
fn a_confirmed_policy_stays_and_a_change_of_it_is_on_trial() {
    let mut trials = Trials::default();
    trials.look(present(&[("a", 22), ("b", 53)]), 1000, 120);
    assert_eq!(trials.confirm(&[]).len(), 2);
    assert!(trials.expire(5000).is_empty());
    check(&trials, &[("a", 22), ("b", 53)], &[("a", 22), ("b", 53)], None);
    trials.look(present(&[("a", 23), ("b", 53)]), 6000, 120);
    check(&trials, &[("a", 23), ("b", 53)], &[("a", 22), ("b", 53)], Some(6120));
    trials.expire(6120);
    assert_eq!(standing(&trials, "a"), Some(Standing::Reverted { earlier: true }));
    check(&trials, &[("a", 22), ("b", 53)], &[("a", 22), ("b", 53)], None);
    assert!(trials.look(present(&[("a", 22), ("b", 53)]), 6200, 120), "taken back by hand");
    assert_eq!(standing(&trials, "a"), Some(Standing::Confirmed));
}

#[test]
fn a_policy_is_confirmed_by_its_name_also_after_its_time() {
    let mut trials = Trials::default();
    trials.look(present(&[("a", 22), ("b", 53)]), 1000, 120);
    assert_eq!(trials.confirm(&["x".to_owned()]), []);
    assert_eq!(trials.confirm(&["a".to_owned()]).len(), 1);
    check(&trials, &[("a", 22), ("b", 53)], &[("a", 22)], Some(1120));
    trials.expire(1120);
    assert_eq!(trials.confirm(&[]), [], "what was undone must be named");
    let name = "CiliumClusterwideNetworkPolicy/-/b".to_owned();
    assert_eq!(trials.confirm(&[name]).len(), 1);
    check(&trials, &[("a", 22), ("b", 53)], &[("a", 22), ("b", 53)], None);
}

#[test]
fn the_first_of_several_trials_ends_the_fallback_of_all() {
    let mut trials = Trials::default();
    trials.look(present(&[("a", 22)]), 1000, 120);
    trials.look(present(&[("a", 22), ("b", 53)]), 1100, 120);
    check(&trials, &[("a", 22), ("b", 53)], &[], Some(1120));
    trials.expire(1120);
    check(&trials, &[("b", 53)], &[], Some(1220));
}

#[test]
fn what_is_taken_away_is_gone_at_once_and_comes_back_confirmed() {
    let mut trials = Trials::default();
    trials.look(present(&[("a", 22), ("b", 53)]), 1000, 120);
    trials.confirm(&[]);
    assert!(trials.look(present(&[("b", 53)]), 1500, 120));
    check(&trials, &[("b", 53)], &[("b", 53)], None);
    assert!(trials.look(present(&[("a", 22), ("b", 53)]), 1600, 120));
    check(&trials, &[("a", 22), ("b", 53)], &[("a", 22), ("b", 53)], None);
    trials.look(present(&[("b", 53)]), 1700, 120);
    assert!(trials.look(present(&[("a", 23), ("b", 53)]), 1800, 120), "it comes back changed");
    check(&trials, &[("a", 23), ("b", 53)], &[("a", 22), ("b", 53)], Some(1920));
}

#[test]
fn what_was_said_is_remembered_and_a_trial_does_not_outlive_a_boot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node-policies.json");
    let mut trials = load(&path, "one").unwrap();
    trials.look(present(&[("a", 22), ("b", 53)]), 1000, 120);
    trials.confirm(&["a".to_owned()]);
    save(&path, &trials, "one").unwrap();
    let mut again = load(&path, "one").unwrap();
    again.look(present(&[("a", 22), ("b", 53)]), 1050, 120);
    check(&again, &[("a", 22), ("b", 53)], &[("a", 22)], Some(1120));
    let mut booted = load(&path, "two").unwrap();
    booted.look(present(&[("a", 22), ("b", 53)]), 5, 120);
    assert_eq!(booted.expire(5).len(), 1);
    check(&booted, &[("a", 22)], &[("a", 22)], None);
    std::fs::write(&path, "{").unwrap();
    assert!(matches!(load(&path, "one"), Err(TrialError::Junk { .. })));
}

/// One that decides nothing shuts nobody out: it is put on trial when it is enforced.
#[test]
fn a_policy_in_shadow_mode_needs_no_confirmation() {
    let with = |mode: &str| {
        let annotated = format!("{{name: NAME, annotations: {{signet.dev/mode: {mode}}}}}");
        let text = NODE.replace("{name: NAME}", &annotated);
        let text = text.replace("NAME", "a").replace("PORT", "22");
        let snapshot = source::read("node.yaml", &text);
        assert_eq!(snapshot.refused, []);
        of_the_node(&snapshot, &labels())
    };
    let mut trials = Trials::default();
    assert!(trials.look(with("shadow"), 100, 60));
    assert_eq!(standing(&trials, "a"), Some(Standing::Confirmed));
    assert!(!trials.look(with("shadow"), 100, 60));
    assert!(trials.look(with("enforce"), 100, 60));
    assert_eq!(standing(&trials, "a"), Some(Standing::OnTrial { until: 160 }));
    // Undone, it is what it was: a shadow.
    trials.expire(160);
    assert_eq!(trials.policies().in_force[0].mode, policy::Mode::Shadow);
    trials.confirm(&["a".to_owned()]);
    assert_eq!(trials.policies().in_force[0].mode, policy::Mode::Enforce);
    // To retire what decides changes no verdict; to enforce it again neither.
    for mode in ["retire", "enforce"] {
        assert!(trials.look(with(mode), 200, 60));
        assert_eq!(standing(&trials, "a"), Some(Standing::Confirmed), "{mode}");
    }
    assert!(trials.look(with("shadow"), 200, 60));
    assert!(trials.look(with("retire"), 200, 60));
    assert_eq!(standing(&trials, "a"), Some(Standing::OnTrial { until: 260 }));
}
