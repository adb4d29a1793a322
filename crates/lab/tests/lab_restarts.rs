//! Agents and pods that start again while the lab is up. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it goes wrong")]

mod scene;

use std::time::Duration;

use lab::{Exec, Lab};
use scene::{Scene, options};

#[test]
fn an_agent_that_was_killed_is_started_again() {
    let mut scene = Scene::of("t-agent");
    let pid = |lab: &Lab| {
        let daemons = &lab.journal.daemons;
        daemons.iter().find(|it| it.node.as_deref() == Some("node-1")).unwrap().process
    };
    let before = pid(&scene.lab);
    scene.lab.restart_agent("node-1", &options()).unwrap();
    assert!(!before.is_alive());
    assert!(pid(&scene.lab).is_alive());
    let opened = Lab::open(Some(scene.lab.places.name())).unwrap();
    assert_eq!(opened.journal, scene.lab.journal);
}

#[test]
fn a_pod_that_is_started_again_has_other_containers_and_works() {
    let mut scene = Scene::of("t-pod");
    let before = scene.lab.pod("payment/server").unwrap().clone();
    scene.lab.restart_pod("payment/server", &options()).unwrap();
    let after = scene.lab.pod("payment/server").unwrap();
    assert!(before.containers.iter().all(|it| !it.process.unwrap().is_alive()));
    assert_ne!(before.sandbox, after.sandbox);
    assert_ne!(before.addresses, after.addresses);
    std::thread::sleep(Duration::from_millis(200));
    let address = after.addresses[1].to_string();
    let exec = Exec {
        pod: "web/client".into(),
        container: None,
        command: ["nc", "-z", "-w", "2", &address, "8080"].map(str::to_owned).into(),
    };
    let output = scene.lab.output(&exec, Duration::from_secs(5)).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
}
