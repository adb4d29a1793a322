//! The agent of another version dies before its writes, while it takes over from
//! this one's. Real sockets then say that each packet is judged as before, by the old
//! version or by the new; an agent of either, or of a third, goes on from there.
// Release builds have no crash points, and nothing to die of here.
#![cfg(debug_assertions)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

#[path = "support/crash.rs"]
mod crash;
mod support;
#[path = "support/traffic.rs"]
mod traffic;
#[path = "support/versions.rs"]
mod versions;
#[path = "support/wires.rs"]
mod wires;

use std::fs;
use std::path::Path;

use versions::{Agent, Scene, Version};

/// Dies in a child of this process before its n-th write. False: it has fewer, and
/// says how many.
fn upgrade_and_die(scene: &Scene, version: Version, write: u64, count: Option<&Path>) -> bool {
    crash::is_killed_in(|| {
        versions::die_before(version, write);
        let before = versions::writes(version);
        let mut agent = Agent::open(version, &scene.config);
        agent.apply(&scene.desired());
        std::mem::forget(agent);
        if let Some(path) = count {
            fs::write(path, (versions::writes(version) - before).to_string()).unwrap();
        }
    })
}

/// Dies at some writes of an upgrade, of how many there are.
fn sweep(version: Version, some: impl Fn(u64) -> Vec<u64>) {
    let mut scene = Scene::new(Version::This);
    let mut kept = traffic::Kept::open(&scene.wires);
    scene.agent = None;
    let counted =
        std::env::temp_dir().join(format!("signet-writes-{}-{version:?}", std::process::id()));
    let writes = {
        assert!(!upgrade_and_die(&scene, version, u64::MAX / 2, Some(&counted)));
        let text = fs::read_to_string(&counted).unwrap();
        fs::remove_file(&counted).unwrap();
        text.parse::<u64>().unwrap()
    };
    scene.replace_agent(Version::This);
    scene.agent = None;
    println!("{version:?}: {writes} writes");
    assert!(writes > 60, "an upgrade has writes");
    for write in some(writes) {
        let when = |what: &str| format!("{version:?}, write {write} of {writes}, {what}");
        if !upgrade_and_die(&scene, version, write, None) {
            // One write more or less: a connection that ended meanwhile.
            continue;
        }
        kept.check(&when("dead"));
        scene.check_arrivals(&when("dead"));
        let next = [version, Version::This, Version::Next, Version::Other][write as usize % 4];
        scene.replace_agent(next);
        kept.check(&when("gone on"));
        scene.check_arrivals(&when("gone on"));
        assert_eq!(scene.left_over(), Vec::<String>::new(), "{}", when("gone on"));
        if next != Version::This {
            scene.replace_agent(Version::This);
            kept.check(&when("back"));
        }
        scene.agent = None;
    }
    scene.check_arrivals("in the end");
}

/// The writes that replace programs and maps are the last ones; of those before,
/// which nobody is judged by yet, a few are enough.
#[test]
fn an_upgrade_that_dies_before_any_write_leaves_the_old_or_the_new() {
    sweep(Version::Next, |writes| {
        (1..writes - 24).step_by(31).chain(writes - 24..=writes).collect()
    });
}

/// Here connections are most of the writes.
#[test]
fn an_upgrade_that_carries_connections_over_may_die_too() {
    sweep(Version::Other, |writes| (1..=writes).step_by(11).collect());
}

/// In a virtual machine an agent takes seconds to start: there, only these.
#[test]
fn an_upgrade_that_dies_before_its_last_writes_leaves_the_old_or_the_new() {
    sweep(Version::Next, |writes| vec![writes - 12, writes - 4, writes]);
}
