//! Public manifests: every file is read, or refused with the line and the reason
//! that the committed list says.
//!
//! `data/corpus-refusals.txt` holds every refusal. It is read line by line when
//! it changes: each must be one that the language demands. After a change that
//! is meant, `SIGNET_BLESS=1` writes it anew.
//!
//! The corpus is not part of the repository: `SIGNET_CORPORA` says where it is,
//! else `../shared/corpora` beside the repository. Without it the test says so
//! and passes, except in CI.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn corpus() -> Option<PathBuf> {
    let root = std::env::var_os("SIGNET_CORPORA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora"),
        PathBuf::from,
    );
    Some(root.join("policy")).filter(|path| path.is_dir())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|ext| ["yaml", "yml"].iter().any(|e| ext == *e)) {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Files that the corpus' own index says are templates.
fn templates(corpus: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(corpus.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&text).unwrap();
    let files = index.as_array().unwrap().iter();
    files
        .filter(|file| file["parses"] == false)
        .map(|file| file["file"].as_str().unwrap().to_owned())
        .collect()
}

/// Every refusal that the corpus gets, a line each.
const REFUSED: &str = include_str!("data/corpus-refusals.txt");

#[test]
fn every_public_manifest_is_read_or_refused_as_the_list_says() {
    let Some(corpus) = corpus() else {
        assert!(std::env::var_os("CI").is_none(), "CI needs the corpus: set SIGNET_CORPORA");
        println!("the corpus is absent: nothing was checked");
        return;
    };
    let mut accepted = 0;
    let mut unreadable = BTreeSet::new();
    let mut refused = String::new();
    for path in files(&corpus) {
        let name = path.strip_prefix(&corpus).unwrap().display().to_string();
        let refusals = match manifest::read_bytes(&name, &std::fs::read(&path).unwrap()) {
            Ok(documents) => {
                let outcome = manifest::policies(&documents);
                accepted += outcome.policies.len();
                outcome.refusals
            }
            Err(refusals) => {
                unreadable.insert(name);
                refusals
            }
        };
        for refusal in refusals {
            refused += &format!("{refusal}\n");
        }
    }
    if std::env::var_os("SIGNET_BLESS").is_some() {
        let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpus-refusals.txt");
        std::fs::write(list, &refused).unwrap();
        return;
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<String>>();
    let (found, listed) = (lines(&refused), lines(REFUSED));
    let new: Vec<&String> = found.difference(&listed).collect();
    let gone: Vec<&String> = listed.difference(&found).collect();
    assert!(new.is_empty() && gone.is_empty(), "new: {new:#?}\ngone: {gone:#?}");
    assert_eq!(unreadable, templates(&corpus));
    assert!(accepted >= 230, "only {accepted} policies are accepted");
}
