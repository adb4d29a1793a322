//! Root removes pins while no agent runs. The next one finds again what programs and
//! interfaces still hold, says so, and nothing is lost; what is gone it makes anew.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;
#[path = "support/traffic.rs"]
mod traffic;
#[path = "support/versions.rs"]
mod versions;
#[path = "support/wires.rs"]
mod wires;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use libbpf_rs::{MapCore, MapHandle};
use traffic::Kept;
use versions::{Scene, Version};
use wires::{Who, every_probe};

/// Programs on interfaces use none of these: they go with their pins, and an agent
/// that starts fills them again.
const HELD_BY_NOBODY: [&str; 8] = [
    "affinities",
    "backends",
    "members",
    "node_slice",
    "origin_counters",
    "service_counters",
    "socket_services",
    "sweeper",
];

fn has_tcx() -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut parts = release.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next().unwrap(), parts.next().unwrap()) >= (6, 6)
}

fn map_ids(scene: &Scene) -> BTreeMap<String, u32> {
    let entries = fs::read_dir(scene.pins().join("maps")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let id = |path: &Path| MapHandle::from_pinned_path(path).unwrap().info().unwrap().info.id;
    paths.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), id(&path))).collect()
}

/// What a new agent of a version tells.
fn restart(scene: &mut Scene, version: Version) -> Vec<String> {
    scene.replace_agent(version);
    let desired = scene.desired();
    let agent = scene.agent.as_mut().unwrap();
    let mut told = agent.check(&desired);
    told.extend(agent.check(&desired));
    assert_eq!(agent.check(&desired), Vec::<String>::new(), "all is well again");
    told
}

#[track_caller]
fn check_told(told: &[String], what: &str) {
    assert!(told.iter().any(|line| line.contains(what)), "{what}: {told:#?}");
    assert!(told.iter().all(|line| line.contains("left: None")), "put right: {told:#?}");
}

/// The kernel takes a program off a while after the last pin of its link: then at
/// least so many probes arrive, or the test would show nothing.
#[track_caller]
fn check_opens(scene: &mut Scene, probes: usize) {
    let open = (0..100).any(|_| scene.wires.arrivals(&[]).new.len() >= probes);
    assert!(open, "somebody still judges");
}

#[test]
fn each_map_whose_pin_was_removed_is_found_again() {
    let mut scene = Scene::new(Version::This);
    let mut kept = Kept::open(&scene.wires);
    let before = map_ids(&scene);
    let before: Vec<(String, u32)> = before.into_iter().collect();
    // Some at a time: a restart takes its time under emulation.
    for (round, some) in before.chunks(5).enumerate() {
        let when = format!("round {round}");
        scene.agent = None;
        for (name, _) in some {
            fs::remove_file(scene.pins().join("maps").join(name)).unwrap();
        }
        kept.check(&when);
        scene.check_arrivals(&when);
        let told = restart(&mut scene, Version::This);
        let after = map_ids(&scene);
        for (name, id) in some.iter().filter(|(name, _)| !HELD_BY_NOBODY.contains(&name.as_str())) {
            check_told(&told, &format!("map `{name}` was in use and pinned no longer"));
            assert_eq!(after[name], *id, "{name}: the very same one");
        }
        assert_eq!(after.len(), before.len());
        kept.check(&when);
        scene.check_arrivals(&when);
    }
}

#[test]
fn all_maps_and_programs_are_found_again_by_what_interfaces_hold() {
    let mut scene = Scene::new(Version::This);
    let mut kept = Kept::open(&scene.wires);
    let before = map_ids(&scene);
    scene.agent = None;
    fs::remove_dir_all(scene.pins().join("maps")).unwrap();
    fs::remove_dir_all(scene.pins().join("programs")).unwrap();
    scene.check_arrivals("without pins");
    let told = restart(&mut scene, Version::This);
    check_told(&told, "map `control` was in use and pinned no longer");
    check_told(&told, "program `pod_egress` was in use and pinned no longer");
    let after = map_ids(&scene);
    for name in ["control", "conntrack", "endpoints", "tables", "usage", "drops", "traces"] {
        assert_eq!(after[name], before[name], "{name}");
    }
    kept.check("found again");
    scene.check_arrivals("found again");
}

#[test]
fn another_version_finds_them_too() {
    let mut scene = Scene::new(Version::This);
    let mut kept = Kept::open(&scene.wires);
    for version in [Version::Next, Version::Other, Version::This] {
        scene.agent = None;
        for map in ["control", "conntrack", "endpoints"] {
            fs::remove_file(scene.pins().join("maps").join(map)).unwrap();
        }
        let told = restart(&mut scene, version);
        check_told(&told, "map `conntrack` was in use and pinned no longer");
        kept.check(&format!("{version:?}"));
        scene.check_arrivals(&format!("{version:?}"));
    }
}

/// With its pin a link goes, and the program with it: until an agent starts, that
/// direction of that interface is judged by nobody. Filters need no pin.
#[test]
fn a_link_that_went_with_its_pin_is_attached_again_before_the_policy_comes() {
    if !has_tcx() {
        println!("no links here: filters have no pins that could go");
        return;
    }
    let mut scene = Scene::new(Version::This);
    let mut kept = Kept::open(&scene.wires);
    for version in [Version::This, Version::Next, Version::This] {
        scene.agent = None;
        let link = scene.pins().join(format!("links/{}_egress", Who::B.ifindex()));
        fs::remove_file(link).unwrap();
        let more = scene.allowed.len() + 1;
        check_opens(&mut scene, more);
        let agent = versions::Agent::open(version, &scene.config);
        scene.check_arrivals("before a policy");
        scene.agent = Some(agent);
        let told = restart(&mut scene, version);
        kept.check("attached again");
        scene.check_arrivals("attached again");
        drop(told);
    }
}

/// Filters hold everything; with links all is gone, and is installed as on a node
/// that never had an agent.
#[test]
fn a_folder_that_was_removed_whole_is_found_by_filters_or_made_anew() {
    let mut scene = Scene::new(Version::This);
    let mut kept = Kept::open(&scene.wires);
    let before = map_ids(&scene);
    scene.agent = None;
    fs::remove_dir_all(scene.pins()).unwrap();
    if has_tcx() {
        check_opens(&mut scene, every_probe().len());
    } else {
        scene.check_arrivals("filters go on");
    }
    let told = restart(&mut scene, Version::This);
    if has_tcx() {
        check_told(&told, "was detached");
    } else {
        check_told(&told, "map `control` was in use and pinned no longer");
        assert_eq!(map_ids(&scene)["conntrack"], before["conntrack"]);
        kept.check("found again");
    }
    scene.check_arrivals("put right");
}
