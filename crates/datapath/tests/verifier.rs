//! What each program costs the kernel's verifier, against the committed figures of
//! this kernel: a program that grows fast will one day not load on an old one.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::collections::BTreeMap;

use support::*;

const COMMITTED: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/verifier.toml"));
/// Growth in percent that nobody has to say anything about.
const TOLERANCE: u64 = 25;
/// Programs this small may double.
const SMALL_PROGRAM: u64 = 2_000;

/// `6.12`, of `6.12.101+deb12-amd64`.
fn kernel() -> String {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    release.split(['.', '-', '+']).take(2).collect::<Vec<_>>().join(".")
}

fn committed(kernel: &str) -> BTreeMap<String, u64> {
    let all: toml::Table = COMMITTED.parse().unwrap();
    let Some(section) = all.get(kernel).and_then(toml::Value::as_table) else {
        return BTreeMap::new();
    };
    let number = |value: &toml::Value| u64::try_from(value.as_integer().unwrap()).unwrap();
    section.iter().map(|(name, value)| (name.clone(), number(value))).collect()
}

/// Every way in which a kernel's counts are not what is committed.
fn differences(committed: &BTreeMap<String, u64>, counted: &BTreeMap<String, u64>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, count) in counted {
        match committed.get(name) {
            None => found.push(format!("{name}: {count}, and nothing is committed")),
            Some(known) => {
                let limit = (known + known * TOLERANCE / 100).max((known * 2).min(SMALL_PROGRAM));
                if *count > limit {
                    found.push(format!("{name}: {count}, and {known} are committed"));
                }
            }
        }
    }
    let gone = committed.keys().filter(|name| !counted.contains_key(*name));
    found.extend(gone.map(|name| format!("{name}: committed, but there is no such program")));
    found
}

#[test]
fn no_program_has_grown_fast_on_this_kernel() {
    let node = Node::new(SMALL);
    let counted = node.datapath.verified_instructions().unwrap();
    let counted: BTreeMap<String, u64> =
        counted.into_iter().map(|(name, count)| (name, count.into())).collect();
    assert!(counted.values().all(|count| *count > 0), "{counted:?}");
    let kernel = kernel();
    let found = differences(&committed(&kernel), &counted);
    let lines: String = counted.iter().map(|(name, count)| format!("{name} = {count}\n")).collect();
    assert!(
        found.is_empty(),
        "{found:#?}\nif that is meant, let tests/verifier.toml say:\n\n[{kernel:?}]\n{lines}"
    );
}

#[test]
fn a_program_that_is_new_gone_or_grown_is_a_difference() {
    let counts = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };
    let known = counts(&[("big", 40_000), ("small", 300)]);
    assert!(differences(&known, &counts(&[("big", 50_000), ("small", 600)])).is_empty());
    let grown = differences(&known, &counts(&[("big", 50_001), ("small", 601)]));
    assert_eq!(grown.len(), 2, "{grown:?}");
    let other = differences(&known, &counts(&[("big", 1), ("new", 1)]));
    assert_eq!(
        other,
        ["new: 1, and nothing is committed", "small: committed, but there is no such program"]
    );
}
