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

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use model::{Direction, IdentityBook, Label, Labels, Source};
use policy::{
    Capabilities, Compiler, Operator, Options, Peer, Peers, Policy, Port, Ports, Probe, References,
    Selector, evaluate,
};

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

/// Labels that a selector matches, and so somebody whom a policy is about.
fn somebody(selector: &Selector) -> Labels {
    let mut labels: Labels = [
        Label::k8s("io.kubernetes.pod.namespace", "default"),
        Label::k8s("io.cilium.k8s.policy.cluster", "default"),
    ]
    .into_iter()
    .collect();
    for requirement in selector.requirements() {
        let value = match &requirement.operator {
            Operator::In(values) => values.first().cloned().unwrap(),
            Operator::Exists => "x".to_owned(),
            Operator::NotIn(_) | Operator::DoesNotExist => continue,
        };
        let source = match &requirement.key.source {
            Source::Any => Source::K8s,
            source => source.clone(),
        };
        labels.insert(Label { key: requirement.key.key.clone(), source, value });
    }
    labels
}

/// Everybody whom the policies mention, as subject or peer.
fn mentioned(policies: &[Policy], references: &References) -> (Vec<Labels>, Vec<Labels>) {
    let mut subjects = BTreeSet::new();
    let mut peers: BTreeSet<Labels> = references.ranges().map(|(_, labels)| labels).collect();
    for rule in policies.iter().flat_map(|policy| &policy.rules) {
        subjects.insert(somebody(rule.subject.selector()));
        let Peers::OneOf(list) = &rule.peers else { continue };
        for peer in list {
            if let Peer::Endpoints(selector) | Peer::LocalEndpoints(selector) = peer {
                peers.insert(somebody(selector));
            }
            if let Peer::Name(pattern) = peer {
                let world = [Label::reserved("world")].into_iter().collect();
                peers.insert(references.learnt(&world, &pattern.as_str().replace('*', "x")));
            }
        }
    }
    peers.extend(subjects.iter().cloned());
    (subjects.into_iter().collect(), peers.into_iter().collect())
}

/// The edges of every port that the policies mention, and one that none does.
fn ports(policies: &[Policy]) -> BTreeSet<u16> {
    let mut ports = BTreeSet::from([0, 1, 54_321]);
    for rule in policies.iter().flat_map(|policy| &policy.rules) {
        let Ports::OneOf(list) = &rule.ports else { continue };
        for entry in list {
            if let Port::Range(first, last) = entry.port {
                ports.extend([first, last, last.saturating_add(1)]);
            }
        }
    }
    ports
}

#[test]
fn tables_of_public_manifests_agree_with_their_meaning() {
    let Some(corpus) = corpus() else { return };
    let labels = Capabilities { labels: true, ..Capabilities::DATAPATH };
    let options = Options { capabilities: labels, ..Options::default() };
    let mut asked = 0;
    for path in files(&corpus) {
        let name = path.display().to_string();
        let Ok(documents) = manifest::read_bytes(&name, &std::fs::read(&path).unwrap()) else {
            continue;
        };
        let policies = manifest::policies(&documents).policies;
        let references = References::of(&policies, &options);
        let (subjects, peers) = mentioned(&policies, &references);
        let book = IdentityBook::new(peers);
        let compiler = Compiler::new(&policies, &book, &options);
        let named = BTreeMap::from([("http".to_owned(), (6, 80)), ("dns".to_owned(), (17, 53))]);
        for subject in &subjects {
            let table = compiler.table(subject, &named).unwrap();
            for (id, peer) in book.iter() {
                for port in ports(&policies) {
                    for (direction, protocol) in
                        [(Direction::Ingress, 6), (Direction::Egress, 6), (Direction::Egress, 17)]
                    {
                        let probe = Probe { direction, peer, protocol, port };
                        let meant = evaluate(&policies, subject, &named, &probe, &options);
                        let found = table.lookup(direction, id, protocol, port);
                        assert_eq!(found, meant, "{name}: {subject:?} {probe:?}");
                        asked += 1;
                    }
                }
            }
        }
    }
    println!("{asked} questions");
    assert!(asked > 50_000, "{asked}");
}
