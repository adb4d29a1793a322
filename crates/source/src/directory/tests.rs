//! Directories that are read, changed and read again.

use std::os::unix::fs::symlink;

use super::*;
use crate::{Changes, ObjectName, Scope};

const POLICY: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: NAME, namespace: payment}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
";

fn policy(name: &str) -> String {
    POLICY.replace("NAME", name)
}

fn pod(name: &str) -> String {
    format!("{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"{name}\"}}}}")
}

/// What a directory says, in words: policies and pods by name, `!` what was refused.
fn words(snapshot: &Snapshot) -> Vec<String> {
    let policies = snapshot.policies.iter().map(|policy| policy.name.name.clone());
    let pods = snapshot.pods.iter().map(|pod| pod.name.name);
    let refused = snapshot.refused.iter().map(|refused| {
        let kept = if !refused.kept.is_empty() { " (kept)" } else { "" };
        format!("!{}{kept}", refused.file)
    });
    policies.chain(pods).chain(refused).collect()
}

#[track_caller]
fn check(directory: &mut Directory, want: &[&str]) {
    let snapshot = directory.scan().unwrap().expect("something new");
    assert_eq!(words(&snapshot), want);
}

#[track_caller]
fn check_unchanged(directory: &mut Directory) {
    assert!(directory.scan().unwrap().is_none());
}

/// Replaces a file as a careful writer does.
fn put(folder: &Path, name: &str, text: &str) {
    let draft = folder.join(format!(".{name}.tmp"));
    fs::write(&draft, text).unwrap();
    fs::rename(draft, folder.join(name)).unwrap();
}

#[test]
fn manifests_of_every_extension_are_read_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), policy("a")).unwrap();
    fs::write(folder.path().join("b.yml"), policy("b")).unwrap();
    fs::write(folder.path().join("c.json"), pod("c")).unwrap();
    fs::write(folder.path().join("d.txt"), "{").unwrap();
    fs::write(folder.path().join(".e.yaml"), "{").unwrap();
    fs::create_dir(folder.path().join("f.yaml")).unwrap();
    check(&mut Directory::new(folder.path()), &["a", "b", "c"]);
}

#[test]
fn an_empty_directory_is_an_empty_cluster_and_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(folder.path());
    check(&mut directory, &[]);
    check_unchanged(&mut directory);
}

#[test]
fn a_directory_that_is_not_there_is_an_error_not_an_empty_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cluster");
    let mut directory = Directory::new(&path);
    assert!(directory.scan().is_err());
    fs::create_dir(&path).unwrap();
    put(&path, "a.yaml", &policy("a"));
    check(&mut directory, &["a"]);
    fs::rename(&path, folder.path().join("away")).unwrap();
    assert!(directory.scan().is_err());
    fs::rename(folder.path().join("away"), &path).unwrap();
    check_unchanged(&mut directory);
}

#[test]
fn what_is_added_changed_and_removed_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(folder.path());
    put(folder.path(), "a.yaml", &policy("a"));
    check(&mut directory, &["a"]);
    check_unchanged(&mut directory);
    put(folder.path(), "b.json", &pod("b"));
    check(&mut directory, &["a", "b"]);
    // The same size, within the same tick of the clock.
    put(folder.path(), "a.yaml", &policy("z"));
    check(&mut directory, &["z", "b"]);
    fs::remove_file(folder.path().join("b.json")).unwrap();
    check(&mut directory, &["z"]);
}

#[test]
fn a_file_written_in_place_within_one_tick_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let mut directory = Directory::new(folder.path());
    for name in ["a", "b", "c", "d", "e"] {
        fs::write(&path, policy(name)).unwrap();
        check(&mut directory, &[name]);
    }
}

#[test]
fn a_file_that_is_touched_says_nothing_new() {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(folder.path());
    put(folder.path(), "a.yaml", &policy("a"));
    check(&mut directory, &["a"]);
    put(folder.path(), "a.yaml", &policy("a"));
    check_unchanged(&mut directory);
}

#[test]
fn one_bad_document_refuses_that_document_only() {
    let folder = tempfile::tempdir().unwrap();
    let bad = policy("bad").replace("fromEndpoints", "fromNobody");
    put(folder.path(), "a.yaml", &format!("{}\n---\n{bad}\n---\n{}", policy("a"), pod("p")));
    put(folder.path(), "b.yaml", "{");
    let mut directory = Directory::new(folder.path());
    let snapshot = directory.scan().unwrap().unwrap();
    assert_eq!(words(&snapshot), ["a", "p", "!a.yaml", "!b.yaml"]);
    let object = ObjectName {
        kind: "CiliumNetworkPolicy".into(),
        namespace: Some("payment".into()),
        name: "bad".into(),
    };
    assert_eq!(snapshot.refused[0].object.as_ref(), Some(&object));
    assert_eq!(snapshot.refused[1].object, None);
}

#[test]
fn a_policy_that_turns_bad_stays_as_it_was_until_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(folder.path());
    put(folder.path(), "a.yaml", &policy("a"));
    check(&mut directory, &["a"]);
    put(folder.path(), "a.yaml", &policy("a").replace("fromEndpoints", "fromNobody"));
    check(&mut directory, &["a", "!a.yaml (kept)"]);
    put(folder.path(), "a.yaml", "{");
    check(&mut directory, &["a", "!a.yaml (kept)"]);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    check(&mut directory, &[]);
}

#[test]
fn a_policy_that_is_taken_out_of_a_file_goes_when_the_whole_file_is_good_a_pod_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(folder.path());
    let text = format!("{}\n---\n{}\n---\n{}", policy("a"), policy("b"), pod("p"));
    put(folder.path(), "a.yaml", &text);
    check(&mut directory, &["a", "b", "p"]);
    put(folder.path(), "a.yaml", &policy("a").replace("fromEndpoints", "fromNobody"));
    check(&mut directory, &["a", "b", "!a.yaml (kept)"]);
    put(folder.path(), "a.yaml", &policy("a"));
    check(&mut directory, &["a"]);
}

#[test]
fn a_policy_that_is_renamed_with_a_slip_stays_under_its_old_name_until_the_slip_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(folder.path());
    let slip = |name| policy(name).replace("fromEndpoints", "fromNobody");
    put(folder.path(), "a.yaml", &format!("{}\n---\n{}", policy("a"), policy("b")));
    check(&mut directory, &["a", "b"]);
    put(folder.path(), "a.yaml", &format!("{}\n---\n{}", policy("a"), slip("b-2")));
    check(&mut directory, &["a", "b", "!a.yaml (kept)"]);
    put(folder.path(), "a.yaml", &format!("{}\n---\n{}", policy("a"), policy("b-2")));
    check(&mut directory, &["a", "b-2"]);
}

#[test]
fn a_policy_that_moves_to_another_file_with_a_slip_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(folder.path());
    put(folder.path(), "a.yaml", &policy("a"));
    check(&mut directory, &["a"]);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    put(folder.path(), "b.yaml", &policy("a").replace("fromEndpoints", "fromNobody"));
    check(&mut directory, &["a", "!b.yaml (kept)"]);
}

#[test]
fn what_was_accepted_is_remembered_as_it_was_but_for_pods() {
    let folder = tempfile::tempdir().unwrap();
    let namespace = r#"
apiVersion: v1
kind: Namespace
metadata: {name: n, labels: {a: "yes"}, annotations: {b: "\x7f\u2028"}}"#;
    let text = format!("{}\n---\n{}\n---{namespace}", policy("a"), pod("p"));
    put(folder.path(), "a.yaml", &text);
    let mut first = Directory::new(folder.path());
    let before = first.scan().unwrap().unwrap();
    put(folder.path(), "a.yaml", "{");
    let mut second = Directory::new(folder.path());
    assert!(second.remember(&first.accepted()));
    let after = second.scan().unwrap().unwrap();
    assert_eq!(words(&after), ["a", "!a.yaml (kept)"]);
    assert_eq!((&after.policies, &after.namespaces), (&before.policies, &before.namespaces));
    assert_eq!(second.accepted(), first.accepted());
}

#[test]
fn what_can_no_longer_be_read_is_not_remembered_and_said() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.yaml", "{");
    let mut directory = Directory::new(folder.path());
    let documents = vec![policy("a").into(), policy("b").replace("from", "to").into()];
    assert!(!directory.remember(&[Accepted { file: "a.yaml".into(), documents }]));
    check(&mut directory, &["a", "!a.yaml (kept)"]);
}

/// Whose policy may be missing when this alone is read.
#[track_caller]
fn check_scope(text: &str, want: Scope) {
    let snapshot = crate::read("a.yaml", text);
    let scopes: Vec<&Scope> = snapshot.refused.iter().map(|refused| &refused.scope).collect();
    assert_eq!(scopes, [&want]);
}

#[test]
fn a_refusal_says_whose_policy_may_be_missing() {
    let bad = policy("a").replace("fromEndpoints", "fromNobody");
    let payment = || Scope::Namespace("payment".into());
    check_scope(&bad, payment());
    check_scope(&bad.replace("name: a, ", ""), payment());
    check_scope(&bad.replace(", namespace: payment", ""), Scope::Namespace("default".into()));
    check_scope(&bad.replace("payment", "'pay ment'"), Scope::Everybody);
    check_scope(&bad.replace("payment", "7"), Scope::Everybody);
    check_scope(&bad.replace("{name: a, namespace: payment}", "a"), Scope::Everybody);
    check_scope(&bad.replace("CiliumN", "CiliumClusterwideN"), Scope::Everybody);
    check_scope("{", Scope::Everybody);
    check_scope("{apiVersion: v1, kind: Pod, metadata: {name: 'a b'}}", Scope::Nobody);
    check_scope("{apiVersion: v1, kind: Pod, metadata: {}}", Scope::Nobody);
    check_scope("{apiVersion: v1, kind: Namespace, metadata: {name: 'a b'}}", Scope::Nobody);
}

#[test]
fn of_two_objects_with_one_name_the_later_file_counts_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.yaml", &policy("a"));
    put(folder.path(), "b.yaml", &policy("a").replace("app: web", "app: other"));
    let snapshot = Directory::new(folder.path()).scan().unwrap().unwrap();
    assert_eq!(words(&snapshot), ["a"]);
    assert_eq!(snapshot.origins.values().collect::<Vec<_>>(), ["b.yaml"]);
    assert_eq!(
        snapshot.notes,
        ["b.yaml: `CiliumNetworkPolicy/payment/a` takes the place of a.yaml's"]
    );
}

#[test]
fn kinds_that_say_nothing_are_noted() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}");
    put(folder.path(), "b.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}");
    let snapshot = Directory::new(folder.path()).scan().unwrap().unwrap();
    assert_eq!(snapshot.notes, ["2 of kind `ConfigMap`: not used"]);
    assert_eq!(words(&snapshot), Vec::<String>::new());
}

#[test]
fn what_is_no_regular_text_file_is_refused_and_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&folder.path().join("a.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(folder.path().join("b.yaml"), b"\xff\xfe").unwrap();
    File::create(folder.path().join("c.yaml")).unwrap().set_len(FILE_MAX + 1).unwrap();
    symlink("/nonexistent", folder.path().join("d.yaml")).unwrap();
    let snapshot = Directory::new(folder.path()).scan().unwrap().unwrap();
    let reasons: Vec<String> =
        snapshot.refused.iter().map(|refused| refused.refusals[0].to_string()).collect();
    assert_eq!(
        reasons,
        [
            "a.yaml:1:1: not a regular file",
            "b.yaml:1:1: not UTF-8",
            "c.yaml:1:1: larger than 16 MiB",
        ]
    );
}

#[test]
fn mounted_configuration_is_followed_through_its_links() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        put(&folder.path().join(name), "a.yaml", &policy(name));
    }
    let link = folder.path().join("cluster");
    symlink("one", &link).unwrap();
    let mut directory = Directory::new(&link);
    check(&mut directory, &["one"]);
    fs::remove_file(&link).unwrap();
    symlink("two", &link).unwrap();
    check(&mut directory, &["two"]);
}

#[test]
fn a_change_is_signalled_and_read_within_moments() {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(folder.path());
    let mut changes = Changes::of(&[folder.path()]);
    check(&mut directory, &[]);
    put(folder.path(), "a.yaml", &policy("a"));
    assert!(changes.wait(Duration::from_secs(10)).unwrap());
    check(&mut directory, &["a"]);
}

#[test]
fn ten_thousand_files_are_parsed_once() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..10_000 {
        fs::write(folder.path().join(format!("{n}.json")), pod(&format!("p{n}"))).unwrap();
    }
    std::thread::sleep(2 * UNSETTLED);
    let mut directory = Directory::new(folder.path());
    assert_eq!(directory.scan().unwrap().unwrap().pods.len(), 10_000);
    let parsed = |directory: &Directory| {
        directory.files.values().filter(|cached| cached.stamp.is_none()).count()
    };
    assert_eq!(parsed(&directory), 0, "all are settled, none will be read again");
    put(folder.path(), "0.json", &pod("other"));
    let snapshot = directory.scan().unwrap().unwrap();
    assert_eq!(snapshot.pods.len(), 10_000);
    assert_eq!(parsed(&directory), 1, "only the one that was just written");
}
