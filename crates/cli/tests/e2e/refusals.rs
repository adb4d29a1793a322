//! What `signet lab up` refuses, before it touches anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::host;
use crate::scene::{self, Scene};
use crate::signet::{self, Answer, PROGRAM, word};

const NOBODY: u32 = 65_534;

pub fn manifests() {
    let policy = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: web}\nspec:\n  endpointSelector: {}\n";
    check("policy", &format!("{policy}  ingres: [{{}}]\n"), "more.yaml:6:3: spec.ingres: ");
    check("syntax", "kind: Pod\n  name: x\n", "more.yaml:2:");
    check("kind", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "more.yaml:1:1: ");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  nodeName: node-9\n  containers: [{name: a}]\n";
    check("node", pod, "more.yaml:5:13: spec.nodeName: ");
    let lab =
        "apiVersion: signet.dev/v1alpha1\nkind: Lab\nmetadata: {name: LAB}\nspec:\n  nodez: []\n";
    check_instead_of_the_lab("lab", lab, "lab.yaml:5:3: spec.nodez: ");
}

/// The example with this file beside it is refused at that place.
#[track_caller]
fn check(test: &str, text: &str, place: &str) {
    let name = scene::name(test);
    let directory = scene::tiny(&name);
    fs::write(directory.path().join("more.yaml"), text).unwrap();
    check_refused(&name, up(&directory), place);
}

#[track_caller]
fn check_instead_of_the_lab(test: &str, text: &str, place: &str) {
    let name = scene::name(test);
    let directory = scene::tiny(&name);
    fs::write(directory.path().join("lab.yaml"), text.replace("LAB", &name)).unwrap();
    check_refused(&name, up(&directory), place);
}

fn up(directory: &tempfile::TempDir) -> Answer {
    signet::run(&["lab", "up", word(directory.path())])
}

#[track_caller]
fn check_refused(name: &str, answer: Answer, words: &str) {
    assert_eq!(answer.status, Some(1), "{answer:?}");
    assert!(answer.err.contains(words), "no `{words}` in {}", answer.err);
    assert_eq!(answer.out, "");
    assert!(host::remains(name).is_empty(), "{:#?}", host::remains(name));
}

pub fn name_in_use() {
    let scene = Scene::tiny("taken", "");
    let before = host::remains(scene.name());
    let answer = up(&scene.directory);
    assert_eq!(answer.status, Some(1), "{answer:?}");
    assert!(answer.err.contains(scene.name()), "{}", answer.err);
    assert_eq!(host::remains(scene.name()), before);
    assert_eq!(scene.list(&["endpoint", "list"], "endpoints").len(), 5);
}

pub fn not_root() {
    let name = scene::name("nobody");
    // A place that nobody may read, for the program and the manifests.
    let place = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("signet");
    fs::copy(PROGRAM, &program).unwrap();
    let manifests = place.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    let lab = format!("apiVersion: signet.dev/v1alpha1\nkind: Lab\nmetadata: {{name: {name}}}\n");
    fs::write(manifests.join("lab.yaml"), lab).unwrap();
    let output = Command::new(program)
        .args(["lab", "up", word(&manifests)])
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    check_refused(&name, output.unwrap().into(), "root");
}
