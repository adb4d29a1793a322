//! The bank of the documents: its demo, its tutorial, and that documents, policies
//! and evaluation say the same of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::pictures;
use crate::scene::{self, BANK};
use crate::signet::{self, Answer, PROGRAM, word};
use crate::told::Reader;

const TUTORIAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tutorial.md");
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bank.md");

/// A folder with the bank in `examples/bank`, and the name its lab has there. The
/// lab goes with the value.
struct Place {
    folder: tempfile::TempDir,
    lab: String,
}

impl Place {
    fn new(test: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bank = folder.path().join("examples/bank");
        fs::create_dir_all(&bank).unwrap();
        let lab = scene::name(test);
        scene::copy_into(&bank, Path::new(BANK), "bank", &lab);
        Self { folder, lab }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lab::down(&self.lab.parse().unwrap())
            .unwrap_or_else(|error| eprintln!("{}", error.chain()));
    }
}

pub fn demo() {
    let place = Place::new("demo");
    let programs = Path::new(PROGRAM).parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let mut script = Command::new("bash");
    script.arg("examples/bank/demo.sh").current_dir(place.folder.path()).env("PATH", path);
    let text = Answer::from(script.output().unwrap()).good();

    // In this order, each once the one before was found.
    let story = [
        "1. A flat network",
        "21 of 21 pods enforced, 0 policies",
        "164 attempts: 164 allowed, 0 denied; ",
        "the books are open",
        "2. Default deny",
        "51 attempts: 2 allowed, 49 denied; 2 of 51 as expected",
        "3. The policies",
        "164 attempts: 51 allowed, 113 denied; 164 of 164 as expected",
        "the ledger reads its books",
        "the virtual machine answers",
        "8 attempts: 0 allowed, 8 denied; 8 of 8 as expected",
        "4. A pod is taken over",
        "DROP web → 10.123.123.10:5432 TCP policy-denied  nc",
        "5. What the documents show",
        "The lab is still up",
    ];
    let mut rest = text.as_str();
    for step in story {
        let Some(at) = rest.find(step) else { panic!("no `{step}` in its place:\n{text}") };
        rest = &rest[at + step.len()..];
    }
    assert_eq!(text.matches("\nnothing\n").count(), 6, "{text}");
    assert!(!text.contains("\nreached\n"), "{text}");
    let (_, documents) = text.split_once("5. What the documents show").unwrap();
    for drop in [
        "pay-svc → ledger-db:5432 TCP policy-denied",
        "web-fe → 198.51.100.7:80 TCP policy-denied",
        "fraud-svc → ledger-db:5432 TCP unsupported",
        "dev-pod → ledger-db:5432 TCP identity not allowed",
    ] {
        let line = format!(" DROP {drop}\n");
        assert!(documents.contains(&line), "no `{drop}`:\n{text}");
    }
    for seen in ["ledger-db:5432", "payment:8080", "185.220.101.42:443"] {
        let line = format!("DROP web → {seen} TCP ");
        assert!(text.contains(&line), "no `{line}`:\n{text}");
    }
    // Two minutes of reading: 240 words a minute, commands not counted.
    let prose: usize = text
        .lines()
        .filter(|line| !line.starts_with('$') && !line.contains(" DROP "))
        .map(|line| line.split_whitespace().count())
        .sum();
    assert!(prose < 480, "{prose} words");

    pictures::of_the_demo(&text, &place.lab);
    pictures::of_its_lab(place.folder.path(), &place.lab);
}

pub fn tutorial() {
    let place = Place::new("tutorial");
    let text = fs::read_to_string(TUTORIAL).unwrap();
    let reader =
        Reader { directory: place.folder.path(), lab: &place.lab, shown: "bank", instead: &[] };
    let commands = reader.follow(&text, &[]);
    assert!(commands >= 12, "{commands} commands");
}

pub fn documents() {
    let probes = format!("{BANK}/probes.jsonl");
    let words = ["policy", "evaluate", "--manifests", BANK, "--cluster", "jakarta", "--probes"];
    let answers = signet::run(&[&words[..], &[word(Path::new(&probes))]].concat());
    assert_eq!(answers.status, Some(0), "{}", answers.err);
    assert!(answers.out.contains("164 of 164 as expected"), "{}", answers.out);

    let mumbai = format!("{BANK}/clusters/mumbai");
    let probes_there = format!("{mumbai}/probes.jsonl");
    let words = ["policy", "evaluate", "--manifests", &mumbai, "--cluster", "mumbai", "--probes"];
    let answers = signet::run(&[&words[..], &[&probes_there]].concat());
    assert_eq!(answers.status, Some(0), "{}", answers.err);
    assert!(answers.out.contains("4 of 4 as expected"), "{}", answers.out);

    let probes = signet::lines(&fs::read_to_string(probes).unwrap());
    let allowed = probes.iter().filter(|probe| probe["expect"]["verdict"] == "allowed");
    let opening: BTreeSet<&str> = allowed.clone().flat_map(rules).collect();
    let table = fs::read_to_string(TABLE).unwrap();
    let told: BTreeSet<&str> = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`'))
        .filter(|word| word.contains("#spec."))
        .collect();
    assert_eq!(told, opening, "docs/bank.md and the probes disagree about what opens routes");

    let ids: BTreeSet<&str> = allowed.map(|probe| probe["id"].as_str().unwrap()).collect();
    let denied = probes.iter().filter(|probe| probe["expect"]["verdict"] == "denied");
    for probe in denied {
        let Some(twin) = probe["twin"].as_str() else { continue };
        assert!(ids.contains(twin), "{probe}: its twin is not allowed");
    }
}

/// The rules that a probe names, without the kind.
fn rules(probe: &Value) -> Vec<&str> {
    let sides =
        ["egress", "ingress"].iter().filter_map(|side| probe["expect"][side]["rule"].as_str());
    sides.filter_map(|rule| rule.split_once('/').map(|(_, name)| name)).collect()
}
