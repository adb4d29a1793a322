//! README, typed from top to bottom by somebody who has just cloned the repository.

use std::fs;
use std::path::Path;

use crate::host;
use crate::scene::{self, BANK, TINY};
use crate::told::Reader;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
const MAKEFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Makefile");

/// Where the first lab is gone and the second one begins.
const SECOND: &str = "\n## Your own policies\n";

/// What is not typed as it is shown, and why.
const INSTEAD: &[(&str, &str)] = &[
    // Nobody to clone from, and the demo has a test of its own: what it leaves is a lab.
    ("git clone … signet && cd signet", "true"),
    ("make demo", "signet lab up examples/bank"),
    // Ends by itself, and in the form of a terminal.
    ("signet observe --follow --namespace banking", "signet observe --namespace banking --last 1"),
    (
        "signet observe --verdict DROPPED --last 1",
        "signet observe --verdict DROPPED --last 1 -o brief",
    ),
];

/// What is shown to fail.
const FAILING: &[&str] =
    &["signet lab exec dev/dev-pod -- nc -zvw1 ledger-db.banking 5432", "signet lab apply my-lab"];

pub fn typed() {
    let (folder, name) = (tempfile::tempdir().unwrap(), scene::name("readme"));
    let text = fs::read_to_string(README).unwrap();
    let (first, second) = text.split_once(SECOND).expect("README has the two labs");
    let mut commands = 0;
    for (part, shown, manifests) in [(first, "bank", BANK), (second, "tiny", TINY)] {
        let here = folder.path().join("examples").join(shown);
        let lab = format!("{name}-{shown}");
        fs::create_dir_all(&here).unwrap();
        scene::copy_into(&here, Path::new(manifests), shown, &lab);
        let _gone = Gone(&lab);
        let directory = folder.path();
        let reader = Reader { directory, lab: &lab, shown, instead: INSTEAD };
        commands += reader.follow(part, FAILING);
        assert!(host::remains(&lab).is_empty(), "README leaves {:#?}", host::remains(&lab));
    }
    assert!(commands >= 12, "{commands} commands");
}

/// Every fence with commands is one that is typed, and every target of make exists.
pub fn complete() {
    let text = fs::read_to_string(README).unwrap();
    let mut fence = "";
    for line in text.lines() {
        if line.starts_with("```") {
            fence = if fence.is_empty() { line } else { "" };
        }
        let is_command = line.starts_with("$ ") || line.starts_with("signet ");
        assert!(!is_command || fence == "```console", "nothing types `{line}`");
    }
    let makefile = fs::read_to_string(MAKEFILE).unwrap();
    let targets = text.split("`make ").skip(1);
    let targets: Vec<_> = targets.map(|rest| rest.split(['`', ' ']).next().unwrap()).collect();
    assert!(targets.len() >= 8, "{targets:?}");
    for target in targets {
        assert!(makefile.contains(&format!("\n{target}:")), "there is no `make {target}`");
    }
}

/// A lab that is gone with the value, whatever a command of README left.
struct Gone<'a>(&'a str);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        lab::down(&self.0.parse().unwrap()).unwrap_or_else(|error| eprintln!("{}", error.chain()));
    }
}
