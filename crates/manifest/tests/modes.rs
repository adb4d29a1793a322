//! The annotation that says whether a policy decides, on every kind of policy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use manifest::{Outcome, check as check_documents, policies, read};
use policy::{Mode, Options};

/// One object of each kind, with these lines in its `metadata`.
fn kinds(metadata: &str) -> [String; 6] {
    let object = |version: &str, kind: &str, name: &str, spec: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\n{metadata}spec: {spec}\n"
        )
    };
    let upstream = "policy.networking.k8s.io";
    let (v1, v2) = (format!("{upstream}/v1alpha1"), format!("{upstream}/v1alpha2"));
    let empty = "{endpointSelector: {}, ingress: [{}]}";
    [
        object("cilium.io/v2", "CiliumNetworkPolicy", "p", empty),
        object("cilium.io/v2", "CiliumClusterwideNetworkPolicy", "p", empty),
        object("networking.k8s.io/v1", "NetworkPolicy", "p", "{podSelector: {}}"),
        object(&v1, "AdminNetworkPolicy", "p", "{priority: 1, subject: {namespaces: {}}}"),
        object(&v1, "BaselineAdminNetworkPolicy", "default", "{subject: {namespaces: {}}}"),
        object(
            &v2,
            "ClusterNetworkPolicy",
            "p",
            "{tier: Admin, priority: 1, subject: {namespaces: {}}}",
        ),
    ]
}

fn outcome(text: &str) -> Outcome {
    policies(&read("f", text).unwrap())
}

#[track_caller]
fn check(metadata: &str, want: Mode) {
    for text in kinds(metadata) {
        let outcome = outcome(&text);
        assert_eq!(outcome.refusals, [], "{text}");
        assert_eq!(outcome.policies[0].mode, want, "{text}");
    }
}

/// What follows the file's name in the one refusal of each kind.
#[track_caller]
fn check_refused(metadata: &str, want: &str) {
    for text in kinds(metadata) {
        let outcome = outcome(&text);
        assert!(outcome.policies.is_empty(), "{text}");
        let refusals: Vec<String> = outcome.refusals.iter().map(ToString::to_string).collect();
        assert_eq!(refusals, [format!("f:{want}")], "{text}");
    }
}

#[test]
fn every_kind_of_policy_has_a_mode() {
    let mode = |mode: &str| format!("  annotations:\n    signet.dev/mode: {mode}\n");
    check("", Mode::Enforce);
    check("  annotations: {other.example/mode: shadow}\n", Mode::Enforce);
    check("  annotations:\n", Mode::Enforce);
    check(&mode("enforce"), Mode::Enforce);
    check(&mode("shadow"), Mode::Shadow);
    check(&mode("'retire'"), Mode::Retire);
}

#[test]
fn a_mode_that_there_is_not_is_refused() {
    let field = "metadata.annotations[\"signet.dev/mode\"]";
    let fix = "(fix: write enforce, shadow or retire)";
    for text in ["Shadow", "audit", "''"] {
        check_refused(
            &format!("  annotations:\n    signet.dev/mode: {text}\n"),
            &format!("6:22: {field}: there is no such mode {fix}"),
        );
    }
    check_refused(
        "  annotations:\n    signet.dev/mode: on\n",
        &format!("6:22: {field}: must be a string, this is a boolean (fix: quote it)"),
    );
    check_refused(
        "  annotations:\n    signet.dev/mode:\n",
        &format!("6:20: {field}: must be a string, this is null"),
    );
}

#[test]
fn a_slip_in_the_annotations_name_is_told() {
    let [text, ..] = kinds("  namespace: a\n  annotations:\n    signet.dev/modes: shadow\n");
    let outcome = outcome(&text);
    let notes: Vec<String> = outcome.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "f:7:23: metadata.annotations[\"signet.dev/modes\"]: is not read: the one that is read is \
          `signet.dev/mode`"
        ]
    );
    assert!(outcome.notes[0].warning);
}

#[test]
fn check_says_what_decides_nothing_and_what_it_would_cost() {
    let of = |mode: &str| {
        let [text, ..] = kinds(&format!("  annotations: {{signet.dev/mode: {mode}}}\n"));
        let report = check_documents(&read("f", &text).unwrap(), &Options::default());
        report.costs[0].to_string()
    };
    let cost = "CiliumNetworkPolicy/default/p: 1 table entries for each subject";
    assert_eq!(of("enforce"), cost);
    assert_eq!(of("shadow"), format!("{cost}; in shadow mode: it decides nothing"));
    assert_eq!(of("retire"), format!("{cost}; to be retired: it decides still"));
}
