//! What is written, recalled, and lost.

use std::os::unix::fs::PermissionsExt;

use super::*;

const POLICY: &str = r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy",
    "metadata":{"name":"p","namespace":"n"},"spec":{"podSelector":{}}}"#;

fn accepted(files: &[&str]) -> Vec<Accepted> {
    files
        .iter()
        .map(|file| Accepted { file: (*file).into(), documents: vec![POLICY.into()] })
        .collect()
}

fn endpoints() -> BTreeSet<[u8; 32]> {
    [[7; 32], [9; 32]].into()
}

fn recall(folder: &Path) -> (Memory, Vec<String>, Vec<String>) {
    let mut directory = Directory::new("/nonexistent");
    let (memory, errors) = Memory::recall(folder.to_owned(), &mut directory);
    let files = directory.accepted().into_iter().map(|accepted| accepted.file).collect();
    (memory, errors.iter().map(ToString::to_string).collect(), files)
}

/// A folder that remembers these files and two endpoints.
fn folder(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("accepted");
    let (mut memory, errors, _) = recall(&path);
    assert_eq!(errors, Vec::<String>::new());
    assert!(memory.is_behind());
    memory.keep(&accepted(files)).unwrap();
    memory.note_installed(endpoints()).unwrap();
    assert!(!memory.is_behind());
    (root, path)
}

#[test]
fn what_was_kept_is_recalled_and_only_root_may_read_it() {
    let (_root, path) = folder(&["a.yaml", "b.yaml"]);
    let (memory, errors, files) = recall(&path);
    assert_eq!((errors, files), (vec![], vec!["a.yaml".to_owned(), "b.yaml".to_owned()]));
    assert_eq!(memory.installed(), &endpoints());
    let modes = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    let modes: Vec<u32> = modes.map(|metadata| metadata.permissions().mode() & 0o777).collect();
    assert_eq!(modes, [0o600; 3]);
}

#[test]
fn what_is_gone_is_removed_with_the_drafts_of_an_agent_that_died() {
    let (_root, path) = folder(&["a.yaml", "b.yaml"]);
    fs::write(path.join("x.tmp"), "{").unwrap();
    let (mut memory, errors, _) = recall(&path);
    assert_eq!(errors, Vec::<String>::new());
    memory.keep(&accepted(&["b.yaml"])).unwrap();
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
    let (memory, _, files) = recall(&path);
    assert_eq!(files, ["b.yaml"]);
    assert_eq!(memory.installed(), &endpoints());
}

#[test]
fn where_a_policy_was_lost_no_endpoint_counts_as_in_force() {
    for junk in ["{", r#"{"version":2,"file":"a.yaml","documents":[]}"#] {
        let (_root, path) = folder(&["a.yaml"]);
        let name = format!("{}.json", hexadecimal(&digest([&b"a.yaml"[..]])));
        fs::write(path.join(name), junk).unwrap();
        let (mut memory, errors, files) = recall(&path);
        assert!(errors[0].contains("does not remember accepted policies"), "{errors:?}");
        assert_eq!((files.len(), memory.installed().len()), (0, 0));
        memory.keep(&accepted(&["a.yaml"])).unwrap();
        let (memory, errors, _) = recall(&path);
        assert_eq!((errors.len(), memory.installed().len()), (0, 0));
    }
}

#[test]
fn what_this_version_refuses_is_lost_too() {
    let (_root, path) = folder(&["a.yaml"]);
    let (mut memory, _, _) = recall(&path);
    let documents = vec![POLICY.replace("podSelector", "podSelektor").into()];
    memory.keep(&[Accepted { file: "a.yaml".into(), documents }]).unwrap();
    let (memory, errors, _) = recall(&path);
    assert!(errors[0].contains("that this one refuses"), "{errors:?}");
    assert!(memory.installed().is_empty());
}

#[test]
fn a_disk_that_takes_no_policy_forgets_the_endpoints_until_it_does() {
    let (_root, path) = folder(&["a.yaml"]);
    let (mut memory, _, _) = recall(&path);
    // The draft's name is taken by a folder.
    let name = hexadecimal(&digest([&b"b.yaml"[..]]));
    let obstacle = path.join(format!("{name}.tmp"));
    fs::create_dir(&obstacle).unwrap();
    memory.keep(&accepted(&["a.yaml", "b.yaml"])).unwrap_err();
    assert!(memory.is_behind());
    memory.note_installed(endpoints()).unwrap();
    assert!(recall(&path).0.installed().is_empty());
    fs::remove_dir(&obstacle).unwrap();
    memory.keep(&accepted(&["a.yaml", "b.yaml"])).unwrap();
    assert_eq!(recall(&path).0.installed(), &endpoints());
}

#[test]
fn many_files_at_once_are_recalled_like_few() {
    let files: Vec<String> = (0..=FLUSHED_EACH).map(|n| format!("{n}.yaml")).collect();
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let (_root, path) = folder(&names);
    assert_eq!(recall(&path).2.len(), FLUSHED_EACH + 1);
}

#[test]
fn more_than_the_bound_is_not_remembered() {
    let (_root, path) = folder(&[]);
    let (mut memory, _, _) = recall(&path);
    let text = "x".repeat(1 << 20).into();
    let documents = vec![text; 129];
    let error = memory.keep(&[Accepted { file: "a.yaml".into(), documents }]).unwrap_err();
    assert!(matches!(error, AcceptedError::TooMuch(_)), "{error}");
}
