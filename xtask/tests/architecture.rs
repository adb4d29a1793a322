//! Checks that the tree is what ARCHITECTURE.md says it is.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may depend on whom, tests apart. Changing a line is an architectural
/// decision and belongs in the same commit as the change to ARCHITECTURE.md.
///
/// `datapath`, `api` and `source` are edges: they meet only in a root. A root may
/// use another root for one thing that it leaves behind: the agent reads the
/// endpoint records that the CNI plugin writes.
const MAY_USE: &[(&str, &[&str])] = &[
    ("abi", &[]),
    ("model", &[]),
    ("policy", &["model"]),
    ("manifest", &["model", "policy"]),
    ("datapath", &["abi", "model", "policy"]),
    ("api", &["model"]),
    ("source", &["manifest", "model", "policy"]),
    ("agent", &["api", "cni", "datapath", "model", "policy", "source"]),
    ("cni", &["datapath", "model"]),
    ("lab", &["api", "cni", "datapath", "manifest", "model", "policy", "source"]),
    ("cli", &["agent", "api", "cni", "lab", "manifest", "model", "policy", "source"]),
];

/// Decide, and do nothing else: no I/O, no clock, no kernel.
const PURE: &[&str] = &["manifest", "model", "policy"];

/// What a pure crate must not link.
const IMPURE: &[&str] = &[
    "inotify",
    "libbpf-rs",
    "libbpf-sys",
    "libc",
    "nix",
    "rtnetlink",
    "tokio",
    "tonic",
    "tracing",
];

/// The one crate with `unsafe`.
const UNSAFE: &str = "crates/datapath";

/// Lines of a production file; tests are lists and may be longer.
const LINES: usize = 600;

/// Written by a program, for the compiler.
const GENERATED: &str = "/src/generated.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Our files below `place` that `wanted` accepts, by their path from the root.
fn files(place: &str, wanted: fn(&str) -> bool) -> Vec<(String, String)> {
    let (root, mut found) = (root(), Vec::new());
    let mut open = vec![root.join(place)];
    while let Some(path) = open.pop() {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let is_ours = !matches!(
            name.as_str(),
            ".git" | "target" | "fuzz/target" | "fuzz/corpus" | "fuzz/findings"
        );
        if path.is_dir() && is_ours && !path.is_symlink() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() && wanted(&name) {
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(!found.is_empty(), "nothing of that kind under `{place}`");
    found.sort();
    found
}

/// Fails with every file that breaks the rule.
#[track_caller]
fn check(
    place: &str,
    wanted: fn(&str) -> bool,
    rule: &str,
    breaks: impl Fn(&str, &str) -> Option<String>,
) {
    let mut broken = Vec::new();
    for (name, text) in files(place, wanted) {
        broken.extend(breaks(&name, &text).map(|detail| format!("{name}{detail}")));
    }
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

fn is_rust(name: &str) -> bool {
    name.ends_with(".rs")
}

fn is_kernel(name: &str) -> bool {
    name.ends_with(".c") || name.ends_with(".h")
}

fn is_code(name: &str) -> bool {
    is_rust(name) || is_kernel(name)
}

fn is_text(name: &str) -> bool {
    let ends = ["Makefile", ".md", ".sh", ".toml", ".yaml", ".yml"];
    is_code(name) || ends.iter().any(|end| name.ends_with(end))
}

/// `: line N` of the first line that `breaks`.
fn first_line(text: &str, breaks: impl Fn(&str) -> bool) -> Option<String> {
    let number = text.lines().position(breaks)?;
    Some(format!(": line {}", number + 1))
}

/// What the crate links: the names of its dependencies and its build script's.
fn dependencies(krate: &str) -> BTreeSet<String> {
    let path = root().join("crates").join(krate).join("Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
    let sections = ["dependencies", "build-dependencies"];
    let tables = sections.iter().filter_map(|name| manifest.get(*name)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let ours: BTreeSet<_> = MAY_USE.iter().map(|(krate, _)| (*krate).to_owned()).collect();
    for (krate, allowed) in MAY_USE {
        let allowed: BTreeSet<_> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let used: BTreeSet<_> = dependencies(krate).intersection(&ours).cloned().collect();
        let wrong: Vec<_> = used.difference(&allowed).collect();
        assert!(wrong.is_empty(), "`{krate}` may not use {wrong:?}");
    }
}

#[test]
fn every_crate_has_its_place_in_the_architecture() {
    let mut crates: Vec<_> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut placed: Vec<_> = MAY_USE.iter().map(|(krate, _)| (*krate).to_owned()).collect();
    crates.sort();
    placed.sort();
    assert_eq!(crates, placed);
}

#[test]
fn pure_crates_link_nothing_that_acts() {
    for krate in PURE {
        let used = dependencies(krate);
        let wrong: Vec<_> = IMPURE.iter().filter(|name| used.contains(**name)).collect();
        assert!(wrong.is_empty(), "`{krate}` is pure and may not use {wrong:?}");
    }
}

#[test]
fn pure_crates_forbid_unsafe_code() {
    for krate in PURE {
        let path = root().join("crates").join(krate).join("src/lib.rs");
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "`{krate}` is pure and must say so");
    }
}

#[test]
fn unsafe_code_is_in_one_crate() {
    check("", is_rust, "only the datapath crate may", |name, text| {
        if name.starts_with(UNSAFE) {
            return None;
        }
        first_line(text, |line| {
            let code = line.split("//").next().unwrap_or_default();
            ["{", "fn ", "impl ", "extern "]
                .iter()
                .any(|next| code.contains(&format!("{} {next}", "unsafe")))
        })
    });
}

#[test]
fn every_rust_file_says_first_what_it_is() {
    check("", is_rust, "the first line must be `//! ...`", |_, text| {
        (!text.starts_with("//! ")).then(String::new)
    });
}

#[test]
fn every_kernel_file_says_its_licence_first() {
    check("bpf", is_kernel, "the first line must be the licence", |_, text| {
        let licence = "/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */\n";
        (!text.starts_with(licence)).then(String::new)
    });
}

#[test]
fn no_file_is_too_long_to_read() {
    check("", is_code, "split what is longer than 600 lines", |name, text| {
        let lines = text.lines().count();
        let is_test = name.contains("/tests/") || name.ends_with("/tests.rs");
        (!name.ends_with(GENERATED) && !is_test && lines > LINES)
            .then(|| format!(": {lines} lines"))
    });
}

#[test]
fn every_decision_has_a_number_of_its_own() {
    let records = fs::read_dir(root().join("docs/adr")).unwrap();
    let mut seen = BTreeSet::new();
    for record in records.map(Result::unwrap) {
        let name = record.file_name().into_string().unwrap();
        let number: u32 = name.split('-').next().unwrap().parse().unwrap();
        let text = fs::read_to_string(record.path()).unwrap();
        assert!(text.starts_with(&format!("# {number}. ")), "{name} has another number inside");
        assert!(seen.insert(number), "{name}: {number} is another decision's");
    }
    assert!(!seen.is_empty());
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    check("", is_text, "do it, or open an issue", |_, text| {
        first_line(text, |line| {
            let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
            words.any(|word| marks.contains(&word))
        })
    });
}
