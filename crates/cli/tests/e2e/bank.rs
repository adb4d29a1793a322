//! The bank of the documents: its demo, and its tutorial.

pub mod documents;

use std::fs;
use std::path::Path;
use std::process::Command;

use lab::Lab;
use serde_json::Value;

use crate::host;
use crate::pictures;
use crate::scene::{self, BANK};
use crate::signet::{self, Answer, PROGRAM, texts};
use crate::told::{self, Reader};

const TUTORIAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tutorial.md");

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
        "192 attempts: 192 allowed, 0 denied; ",
        "the books are open",
        "2. Default deny",
        "66 attempts: 6 allowed, 60 denied; 6 of 66 as expected",
        "3. The policies",
        "192 attempts: 66 allowed, 126 denied; 192 of 192 as expected",
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
    let (_, attack) = text.split_once("4. A pod is taken over").unwrap();
    for seen in [
        "DROP web → ledger-db:5432 TCP policy-denied",
        "DROP web → payment:8080 TCP policy-denied",
        "DROP web → 10.123.123.10:5432 TCP policy-denied",
        "DROP web → 172.20.0.2:443 TCP policy-denied",
        "DROP web → 185.220.101.42:443 TCP denied by no-tor",
        " → ledger-db:5432 TCP denied by pci-scope",
    ] {
        assert!(attack.contains(seen), "no `{seen}`:\n{text}");
    }
    attempts_were_seen(&place.lab);
    // Two minutes of reading: 240 words a minute, commands not counted.
    let prose: usize = text
        .lines()
        .filter(|line| !line.starts_with('$') && !line.contains(" DROP "))
        .map(|line| line.split_whitespace().count())
        .sum();
    assert!(prose < 480, "{prose} words");

    pictures::of_the_demo(&text, &place.lab);
    pictures::of_its_lab(place.folder.path(), &place.lab);
    identities(&place);
    what_waits(&place);
    mumbai(&place);
    go_on(&place, &text);
}

/// The last that the pod which was taken over and the one of mumbai have tried: these six,
/// each dropped, and each known by its program, or by why that is not known.
fn attempts_were_seen(name: &str) {
    let relay = format!("unix:/run/signet/{name}/relay.sock");
    let lab = Lab::open(Some(&name.parse().unwrap())).unwrap();
    let address = |pod: &str| lab.pod(pod).unwrap().addresses[0].to_string();
    let last = |filter: &[&str], attempts: usize| {
        let words = ["observe", "-o", "json", "--verdict", "DROPPED", "--last", "40"];
        let words = [&words[..], filter, &["--server", &relay]].concat();
        let mut seen: Vec<(String, u64, String)> = Vec::new();
        let mut sources: Vec<Value> = Vec::new();
        for answer in signet::lines(&signet::run(&words).good()) {
            let flow = &answer["flow"];
            let tcp = &flow["l4"]["TCP"];
            // One attempt is one source port, however often its SYN is sent.
            if !flow.is_object() || sources.contains(&tcp["source_port"]) {
                continue;
            }
            sources.push(tcp["source_port"].clone());
            let process = &flow["extensions"]["value"]["process"]["source"];
            let known = process["binary"].as_str().or(process["unknown"].as_str());
            seen.push((
                flow["IP"]["destination"].as_str().unwrap_or_default().to_owned(),
                tcp["destination_port"].as_u64().unwrap_or_default(),
                known.unwrap_or_default().to_owned(),
            ));
        }
        seen.split_off(seen.len().saturating_sub(attempts))
    };
    let nc = "/usr/bin/nc.openbsd".to_owned();
    let want = [
        (address("banking/ledger-db-1"), 5432, nc.clone()),
        (address("payment/payment-1"), 8080, nc.clone()),
        ("10.123.123.10".into(), 5432, nc.clone()),
        ("172.20.0.2".into(), 443, nc.clone()),
        ("185.220.101.42".into(), 443, nc),
    ];
    assert_eq!(last(&["--from-pod", "web/web-1"], 5), want);
    let want = [(address("banking/ledger-db-1"), 5432, "not-local".into())];
    assert_eq!(last(&["--from-ip", "10.246.0.0/16"], 1), want);
}

/// The documents' identities: an application's labels, and the reserved ones.
fn identities(place: &Place) {
    let answer = told::line("signet identity list -o json", place.folder.path(), &place.lab);
    let answer: Value = serde_json::from_str(&answer.good()).unwrap();
    let rows = answer["identities"].as_array().unwrap();
    for labels in [
        &["k8s:app=payment", "k8s:env=production", "k8s:io.cilium.k8s.policy.cluster=jakarta"][..],
        &["k8s:app=ledger", "k8s:env=production", "k8s:io.cilium.k8s.policy.cluster=mumbai"],
        &["reserved:host"],
        &["reserved:remote-node"],
        &["reserved:kube-apiserver"],
    ] {
        let has = |row: &&Value| labels.iter().all(|label| texts(&row["labels"]).contains(label));
        assert!(rows.iter().any(|row| has(&row)), "nobody has {labels:?}");
    }
}

/// A denial by default tells which rules wait for a part that there is not yet.
fn what_waits(place: &Place) {
    let line = "signet observe --why $(signet observe --from-namespace payment --to-ip 203.0.113.10 \
                --verdict DROPPED --last 1 -o json | grep -o '\"uuid\":\"[^\"]*' | cut -d'\"' -f4)";
    let told = told::line(line, place.folder.path(), &place.lab).good();
    let lines: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("not yet    ")).collect();
    let rule = |policy: &str, why: &str| {
        format!("`CiliumNetworkPolicy/payment/{policy}` is not in force: {why}")
    };
    let names = "addresses of names are not learnt yet";
    let want = [
        rule("payment-dns#spec.egress[0]", "the inside of connections is not looked at yet"),
        rule("payment-fqdn#spec.egress[0]", names),
        rule("payment-fqdn#spec.egress[1]", names),
        rule(
            "payment-mumbai#spec.egress[0]",
            "clusters are not joined yet: nobody of another one is known",
        ),
    ];
    assert_eq!(lines, want, "{told}");
    let list = told::line("signet policy list", place.folder.path(), &place.lab).good();
    for want in want {
        assert!(list.contains(&want), "no {want} in {list}");
    }
}

/// What mumbai's own policies say, in both directions.
fn mumbai(place: &Place) {
    let line = "signet lab probe examples/bank/clusters/mumbai/probes.jsonl";
    let answer = told::line(line, place.folder.path(), &place.lab);
    assert!(answer.out.ends_with("30 of 30 as expected\n"), "{}", answer.out);
}

/// The commands with which the demo ends, as a reader runs them: the second in a terminal
/// of its own while the first follows.
fn go_on(place: &Place, transcript: &str) {
    let (_, end) = transcript.split_once("Go on:").unwrap();
    let commands = end.lines().filter_map(|line| line.strip_prefix("  signet "));
    let commands = commands.map(|line| line.split('#').next().unwrap().trim());
    let commands: Vec<_> = commands.map(|line| format!("signet {line}")).collect();
    let [status, follow, knock, restart, label, traffic, down] = &commands[..] else {
        panic!("{commands:#?}")
    };
    let run = |line: &str| told::line(line, place.folder.path(), &place.lab);
    let status = run(status).good();
    assert!(status.starts_with(&format!("Lab {} (clusters jakarta, mumbai): healthy", place.lab)));
    let both = format!(
        "set -m; {follow} >seen.txt & sleep 1; {knock}; sleep 1; kill -- -$!; cat seen.txt"
    );
    let seen = run(&both).out;
    assert!(seen.contains("dev-pod") && seen.contains("172.20.0.2:443"), "{seen}");
    let moved = run(restart).good();
    for pod in ["payment-1", "payment-2"] {
        let line = moved.lines().find(|line| line.starts_with(&format!("Pod/payment/{pod} ")));
        let line = line.unwrap_or_else(|| panic!("nothing of {pod}: {moved}"));
        assert!(line.ends_with(" to jakarta-2") || line.ends_with(" restarted"), "{line}");
    }
    assert!(run(label).good().starts_with("Pod/dev/dev-pod relabelled"));
    // Half a minute, if nothing else is said.
    let steady = run(&format!("{traffic} --seconds 4"));
    assert!(steady.out.contains(" allowed, 0 denied; "), "{}{}", steady.out, steady.err);
    assert_eq!(steady.status, Some(0), "{}{}", steady.out, steady.err);
    let gone = run(down);
    assert_eq!(
        (gone.status, gone.out + &gone.err),
        (Some(0), format!("lab `{}` is gone\n", place.lab))
    );
    assert!(host::remains(&place.lab).is_empty(), "{:#?}", host::remains(&place.lab));
}

pub fn tutorial() {
    let place = Place::new("tutorial");
    let text = fs::read_to_string(TUTORIAL).unwrap();
    let reader =
        Reader { directory: place.folder.path(), lab: &place.lab, shown: "bank", instead: &[] };
    let commands = reader.follow(&text, &[]);
    assert!(commands >= 12, "{commands} commands");
}
