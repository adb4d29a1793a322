//! Whatever happens to a lab, nothing of it stays. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it goes wrong")]

mod scene;

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab::{Error, Lab};
use scene::{Scene, directory, options, remains};

/// Not a test: what the next one starts, to kill it.
#[test]
#[ignore = "run by `an_up_killed_at_any_point_can_be_taken_down`"]
fn up_to_be_killed() {
    let directory = std::env::var("LAB_TEST_DIRECTORY").unwrap();
    Lab::up(directory.as_ref(), &options()).unwrap();
}

#[test]
fn an_up_killed_at_any_point_can_be_taken_down() {
    let name = "t-killed";
    let directory = directory(name);
    let up = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "up_to_be_killed", "--ignored"])
            .env("LAB_TEST_DIRECTORY", directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let start = Instant::now();
    assert!(up().wait().unwrap().success());
    let whole = start.elapsed();
    lab::down(&name.parse().unwrap()).unwrap();
    assert_eq!(remains(name), Vec::<String>::new(), "after a whole one");
    for point in 0..10_u32 {
        let mut child = up();
        // A different point in each run, from the first millisecond to the end.
        thread::sleep(whole.mul_f64(f64::from(point) / 10.0) + Duration::from_millis(point.into()));
        child.kill().unwrap();
        child.wait().unwrap();
        lab::down(&name.parse().unwrap()).unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!(remains(name), Vec::<String>::new(), "killed at point {point}");
    }
}

#[test]
fn what_fails_midway_is_undone() {
    let name = "t-fails";
    let directory = directory(name);
    fs::write(
        directory.path().join("extra.yaml"),
        "{apiVersion: v1, kind: Pod, metadata: {name: broken, namespace: web}, \
         spec: {containers: [{name: main, command: [/etc/passwd]}]}}",
    )
    .unwrap();
    let error = Lab::up(directory.path(), &options()).unwrap_err();
    assert!(
        matches!(&error, Error::Program { what, .. } if what == "start a container"),
        "{error}"
    );
    assert_eq!(remains(name), Vec::<String>::new());
}

#[test]
fn taking_a_lab_down_twice_is_no_error() {
    let name = "t-twice".parse().unwrap();
    lab::down(&name).unwrap();
    lab::down(&name).unwrap();
}

#[test]
fn a_name_that_is_taken_is_refused_and_the_lab_that_has_it_lives() {
    let scene = Scene::of("t-taken");
    let error = Lab::up(scene.directory.path(), &options()).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    let output = scene.exec("web/client", &["true"]);
    assert!(output.status.success());
}

#[test]
fn what_cannot_run_here_is_refused_before_anything_is_touched() {
    let name = "t-refused";
    let directory = directory(name);
    let pod = directory.path().join("pod.yaml");
    fs::write(
        &pod,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n    - {name: main, command: [no-such-program]}\n",
    )
    .unwrap();
    let error = Lab::up(directory.path(), &options()).unwrap_err();
    assert!(error.to_string().contains("`no-such-program`, which is not installed"), "{error}");
    fs::write(&pod, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {}\n")
        .unwrap();
    let error = Lab::up(directory.path(), &options()).unwrap_err();
    assert!(error.to_string().contains("pod.yaml:1:1"), "{error}");
    assert_eq!(remains(name), Vec::<String>::new());
}

#[test]
fn processes_that_left_their_cgroup_are_found_by_their_network() {
    let scene = Scene::of("t-stray");
    let netns = format!("--net={}", scene.lab.places.netns("node-1").display());
    let mut stray = Command::new("nsenter").args([&netns, "sleep", "60"]).spawn().unwrap();
    thread::sleep(Duration::from_millis(100));
    lab::down(scene.lab.places.name()).unwrap();
    assert!(!stray.wait().unwrap().success(), "the stray process was not ended");
}
