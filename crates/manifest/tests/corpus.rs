//! Public manifests: every file is read or refused with its line, and what is
//! refused is refused for what is not supported, not for what is misread.
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

use manifest::Refusal;

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

/// Refusals that no later version will lift: what is wrong there, by file, line
/// and the beginning of the message.
const REFUSED: [(&str, &str); 6] = [
    ("cilium+star-wars-demo/l7_policy.yaml:3:1", "description: is a field of `spec`"),
    ("cilium+star-wars-demo/policy__l7_policy.yaml:3:1", "description: is a field of `spec`"),
    (
        "isovalent+cilium-up-and-running/chapter12__invalid-policy.yaml:14:9",
        "spec.egress[0].toEntities: cannot stand beside `toEndpoints` in one rule",
    ),
    (
        "qiniu+cilium/examples__policies__auth__auth.yaml:13:5",
        "spec.egress[0].auth: there is no such field",
    ),
    (
        "qiniu+cilium/examples__policies__host__allow-extended-protocols.yaml:23:9",
        "spec.egress[0].toPorts[0].ports[5].port: a port is needed",
    ),
    (
        "qiniu+cilium/examples__policies__l3__requires__requires.yaml:11:7",
        "specs[0].ingress[0].fromRequires: is gone from the language",
    ),
];

/// Another engine's kind of the same name.
const FOREIGN: &str =
    "this kind is read as `networking.k8s.io/v1`, not as `crd.projectcalico.org/v1`";

/// Whether this refusal is one that the corpus should get.
fn expected(refusal: &Refusal) -> bool {
    let Refusal { file, at, field, reason, .. } = refusal;
    let place = format!("{file}:{}:{}", at.line, at.column);
    let message = format!("{field}: {reason}");
    reason.ends_with("supported yet")
        || reason == FOREIGN
        || REFUSED.iter().any(|(at, says)| *at == place && message.starts_with(says))
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

#[test]
fn every_public_manifest_is_read_or_refused_for_what_is_not_supported() {
    let Some(corpus) = corpus() else {
        assert!(std::env::var_os("CI").is_none(), "CI needs the corpus: set SIGNET_CORPORA");
        println!("the corpus is absent: nothing was checked");
        return;
    };
    let mut accepted = 0;
    let mut unreadable = BTreeSet::new();
    for path in files(&corpus) {
        let name = path.strip_prefix(&corpus).unwrap().display().to_string();
        match manifest::read_bytes(&name, &std::fs::read(&path).unwrap()) {
            Ok(documents) => {
                let outcome = manifest::policies(&documents);
                accepted += outcome.policies.len();
                for refusal in outcome.refusals {
                    assert!(expected(&refusal), "{refusal}");
                }
            }
            Err(_) => {
                unreadable.insert(name);
            }
        }
    }
    assert_eq!(unreadable, templates(&corpus));
    assert!(accepted >= 145, "only {accepted} policies are accepted");
}
