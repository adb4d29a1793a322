//! What a lab leaves behind, however it ends: nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::attempt::{Attempt, Outcome};
use crate::host;
use crate::scene::{self, Scene, eventually};
use crate::signet::{self, word};

/// How often `up` is killed.
const KILLS: u32 = 10;

pub fn killed_up() {
    let name = scene::name("killed");
    let directory = scene::tiny(&name);
    let before = host::links();
    let whole = {
        let started = Instant::now();
        signet::run(&["lab", "up", word(directory.path())]).good();
        started.elapsed()
    };
    assert!(!host::remains(&name).is_empty(), "the look for remains is blind");
    down(&name, &[0]);

    let mut points: Vec<_> = (0..KILLS).map(|_| whole.mul_f64(random())).collect();
    points.sort();
    for point in &points {
        let mut up = signet::command(&["lab", "up", word(directory.path())])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(*point);
        up.kill().unwrap();
        up.wait().unwrap();
        // 3: there was not even a name yet.
        down(&name, &[0, 3]);
        let remains = host::remains(&name);
        assert!(remains.is_empty(), "killed after {point:?} of {whole:?}: {remains:#?}");
    }
    eventually("no link is left on the host", || {
        let links = host::links();
        // What the plugin, the lab and the kernel call links that are made here.
        let ours = |link: &String| ["sg", "to", "veth"].iter().any(|name| link.starts_with(name));
        !links.difference(&before).any(ours)
    });
    signet::run(&["lab", "up", word(directory.path())]).good();
    down(&name, &[0]);
    assert!(host::remains(&name).is_empty(), "{:#?}", host::remains(&name));
}

#[track_caller]
fn down(name: &str, statuses: &[i32]) {
    let answer = signet::run(&["lab", "down", name]);
    assert!(answer.status.is_some_and(|status| statuses.contains(&status)), "{answer:?}");
}

/// From 0 to 1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    let mut source = std::fs::File::open("/dev/urandom").unwrap();
    std::io::Read::read_exact(&mut source, &mut bytes).unwrap();
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

pub fn failed_test() {
    let name = scene::name("failed");
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let scene = Scene::tiny("failed", "");
        assert!(!host::remains(scene.name()).is_empty());
        // What a test may have left running when it fails.
        let mut sleeper = signet::command(&[
            "lab",
            "exec",
            "--lab",
            scene.name(),
            "web/dev-pod",
            "--",
            "sleep",
            "600",
        ])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
        eventually("something runs in the pod", || {
            host::remains(scene.name()).iter().any(|line| line.contains("sleep 600"))
        });
        scene.kill_agents();
        drop(thread::spawn(move || sleeper.wait()));
        panic!("this is the test that fails");
    }));
    let reason = failed.unwrap_err();
    assert_eq!(reason.downcast_ref(), Some(&"this is the test that fails"));
    assert!(host::remains(&name).is_empty(), "{:#?}", host::remains(&name));
}

pub fn two_labs() {
    let one = Scene::tiny("one", "");
    let two = Scene::tiny("two", "");
    thread::scope(|scope| {
        for scene in [&one, &two] {
            scope.spawn(|| check_probes(scene));
        }
    });
    drop(one);
    let attempt = |from, port| Attempt { from, to: "payment.pay-svc", port, family: 6 };
    assert_eq!(attempt("web.web-fe", 8080).outcome(&two), Outcome::Connected);
    assert_eq!(attempt("web.dev-pod", 8080).outcome(&two), Outcome::Silence);
    assert!(two.flows().iter().any(|flow| flow["verdict"] == "DROPPED"));
    let limit = Duration::from_secs(5);
    let exec = lab::Exec {
        pod: "web/dev-pod".into(),
        container: None,
        command: ["true"].map(str::to_owned).into(),
    };
    assert!(two.lab.output(&exec, limit).unwrap().status.success());
}

fn check_probes(scene: &Scene) {
    let file = scene.directory.path().join("probes.jsonl");
    let answer = signet::run(&["lab", "probe", "--lab", scene.name(), word(&file)]);
    let report = answer.good();
    assert_eq!(report.lines().last(), Some("30 of 30 as expected"), "{report}");
}
