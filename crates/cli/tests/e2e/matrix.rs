//! The probe matrix on real traffic: what is expected, what happens, and what
//! manifests mean are the same, for every family, protocol, path and policy.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::scene::Scene;
use crate::signet::{self, word};

/// The lab, the rules and the probes.
const MATRIX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/matrix");

pub fn on_the_wire() {
    check("matrix", "probes.jsonl", &[]);
}

/// Only selected where the kernel has SCTP (.config/nextest.toml), and fails where it
/// has not. Emulated processors start few programs at a time.
pub fn sctp_on_the_wire() {
    let loaded = Command::new("modprobe").arg("sctp").status();
    assert!(loaded.is_ok_and(|status| status.success()), "this kernel has no SCTP");
    check("sctp", "sctp-probes.jsonl", &["--at-once", "3"]);
}

fn check(test: &str, probes: &str, more: &[&str]) {
    let scene = Scene::like(Path::new(MATRIX), "matrix", test);
    let manifests = word(scene.directory.path());
    let file = Path::new(MATRIX).join(probes);
    let words = ["lab", "probe", "--lab", scene.name(), word(&file), "--manifests", manifests];
    let answer = signet::run(&[&words, more, &["-o", "cells"]].concat());
    let number = fs::read_to_string(&file).unwrap().lines().count();
    let last = answer.out.lines().last();
    assert_eq!(last, Some(&*format!("{number} of {number} as expected")), "{}", answer.out);
    assert_eq!(answer.status, Some(0), "{}", answer.err);
}
