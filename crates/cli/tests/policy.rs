//! `signet policy check` and `signet policy evaluate` as one runs them, on files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

mod policy {
    pub mod cases;
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn signet(arguments: &[&str], folder: &Path) -> Output {
    let mut signet = Command::new(env!("CARGO_BIN_EXE_signet"));
    signet.arg("policy").args(arguments).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The answers to probes, one a line.
fn answers(output: &Output) -> Vec<Value> {
    let lines = text(&output.stdout);
    lines.lines().map(|line| serde_json::from_str(line).expect("an answer")).collect()
}

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: a, labels: {app: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: job, namespace: a, labels: {app: job}}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: a, labels: {app: api}}
";

/// `api` may be reached by `web` at TCP `port`.
fn api_at(port: u16) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p, namespace: a}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: api}}}}\n  ingress:\n  - fromEndpoints: \
         [{{matchLabels: {{app: web}}}}]\n    toPorts: [{{ports: [{{port: \"{port}\", protocol: \
         TCP}}]}}]\n"
    )
}

/// `job` may reach nobody.
const LOCK: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: lock, namespace: a}
spec: {endpointSelector: {matchLabels: {app: job}}, egress: [{}]}
";

const PROBES: &str = r#"
{"id":"80","from":"pod:a/web","to":"pod:a/api","port":80,"expect":{"verdict":"allowed","shadow":{"verdict":"denied","reason":"default-deny"}}}
{"id":"81","from":"pod:a/web","to":"pod:a/api","port":81,"expect":{"verdict":"denied","shadow":{"verdict":"allowed","rule":"CiliumNetworkPolicy/a/p#spec.ingress[0]"}}}
{"id":"job","from":"pod:a/job","to":"pod:a/api","port":80,"expect":{"verdict":"denied","egress":{"verdict":"allowed","reason":"unenforced","shadow":{"verdict":"denied","reason":"default-deny","because":["CiliumNetworkPolicy/a/lock"]}}}}
{"id":"self","from":"pod:a/api","to":"pod:a/api","port":1,"expect":{"verdict":"allowed","egress":null,"shadow":{"verdict":"allowed"}}}
{"id":"none","from":"pod:a/none","to":"pod:a/api","port":1,"expect":{"verdict":"error","shadow":null}}
"#;

#[test]
fn a_candidate_is_answered_for_beside_what_is() {
    let candidate = api_at(81) + "---" + LOCK;
    let folder = folder(&[
        ("pods.yaml", PODS),
        ("p.yaml", &api_at(80)),
        ("probes.jsonl", PROBES),
        ("candidate", &candidate),
    ]);
    let manifests = ["evaluate", "--manifests", "pods.yaml", "--manifests", "p.yaml"];
    let asked = [&manifests[..], &["--probes", "probes.jsonl"]].concat();
    let output =
        signet(&[&asked[..], &["--shadow", "candidate", "-o", "jsonl"]].concat(), folder.path());
    let said = text(&output.stderr);
    assert!(said.contains("2 of 5 have another verdict in the shadow"), "{said}");
    assert!(said.contains("5 of 5 as expected") && output.status.success(), "{said}");
    let found = answers(&output);
    let p = "CiliumNetworkPolicy/a/p";
    assert_eq!(
        found[0]["ingress"]["shadow"],
        json!({"verdict": "denied", "reason": "default-deny", "code": 133, "rule": null,
            "rules": [], "because": [p]})
    );
    assert_eq!(found[0]["egress"]["shadow"]["reason"], "unenforced");
    assert_eq!(found[0]["shadow"]["because"], json!([p]));
    assert_eq!(found[3]["ingress"], Value::Null);

    // For a reader.
    let output = signet(&[&asked[..], &["--shadow", "candidate"]].concat(), folder.path());
    let said = text(&output.stdout);
    assert!(said.contains("allowed  80: rule; shadow: denied: default-deny\n"), "{said}");
    assert!(said.contains("denied   job: default-deny\n"), "{said}");
    let one = ["--from", "pod:a/web", "--to", "pod:a/api", "--port", "80"];
    let output =
        signet(&[&manifests[..], &one, &["--shadow", "candidate"]].concat(), folder.path());
    let said = text(&output.stdout);
    assert!(said.starts_with("allowed\n") && said.contains("\nshadow: denied\n"), "{said}");

    // Without one there is none.
    let output = signet(&[&asked[..], &["-o", "jsonl"]].concat(), folder.path());
    assert!(!output.status.success(), "what is expected of the shadow is missing");
    for answer in answers(&output) {
        assert_eq!(answer["shadow"], Value::Null);
        for end in ["egress", "ingress"].iter().filter_map(|end| answer[*end].as_object()) {
            assert_eq!(end["shadow"], Value::Null);
        }
    }
}

/// `lock` and `p` in shadow mode, `old` to be retired: the shadow of the manifests
/// themselves, and with a candidate both together.
#[test]
fn policies_in_shadow_mode_are_answered_for_beside_those_that_decide() {
    let with = |text: String, mode: &str| {
        text.replace(
            "namespace: a}",
            &format!("namespace: a, annotations: {{signet.dev/mode: {mode}}}}}"),
        )
    };
    let old = with(api_at(81).replace("name: p", "name: old"), "retire");
    let probes = r#"
{"id":"80","from":"pod:a/web","to":"pod:a/api","port":80,"expect":{"verdict":"denied","because":["CiliumNetworkPolicy/a/old"],"shadow":{"verdict":"allowed","rule":"CiliumNetworkPolicy/a/p#spec.ingress[0]"}}}
{"id":"81","from":"pod:a/web","to":"pod:a/api","port":81,"expect":{"verdict":"allowed","rule":"CiliumNetworkPolicy/a/old#spec.ingress[0]","shadow":{"verdict":"denied","because":["CiliumNetworkPolicy/a/p"]}}}
{"id":"job","from":"pod:a/job","to":"pod:a/web","port":80,"expect":{"verdict":"allowed","reason":"unenforced","shadow":{"verdict":"denied","because":["CiliumNetworkPolicy/a/lock"]}}}
{"id":"api","from":"pod:a/api","to":"pod:a/web","port":80,"expect":{"verdict":"allowed","shadow":{"verdict":"allowed"}}}
"#;
    let folder = folder(&[
        ("pods.yaml", PODS),
        ("p.yaml", &with(api_at(80), "shadow")),
        ("lock.yaml", &with(LOCK.to_owned(), "shadow")),
        ("old.yaml", &old),
        ("probes.jsonl", probes),
        ("candidate", &with(api_at(82), "shadow")),
    ]);
    let mut asked = vec!["evaluate", "--probes", "probes.jsonl", "-o", "jsonl"];
    for file in ["pods.yaml", "p.yaml", "lock.yaml", "old.yaml"] {
        asked.extend(["--manifests", file]);
    }
    let output = signet(&asked, folder.path());
    let said = text(&output.stderr);
    assert!(said.contains("3 of 4 have another verdict in the shadow"), "{said}");
    assert!(said.contains("4 of 4 as expected") && output.status.success(), "{said}");
    asked.extend(["--shadow", "candidate"]);
    let output = signet(&asked, folder.path());
    let shadows: Vec<Value> =
        answers(&output).iter().map(|answer| answer["shadow"]["verdict"].clone()).collect();
    assert_eq!(shadows, ["denied", "denied", "denied", "allowed"]);
}

#[test]
fn a_candidate_that_would_be_refused_is_not_answered_for() {
    let folder = folder(&[
        ("pods.yaml", PODS),
        ("candidate.yaml", &api_at(80).replace("fromEndpoints", "fromNobody")),
    ]);
    let one = ["--from", "pod:a/web", "--to", "pod:a/api", "--port", "80"];
    let asked = ["evaluate", "--manifests", "pods.yaml", "--shadow", "candidate.yaml"];
    let output = signet(&[&asked[..], &one].concat(), folder.path());
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    let said = text(&output.stderr);
    assert!(said.contains("candidate.yaml:7:5: spec.ingress[0].fromNobody"), "{said}");
}

/// A candidate may change who somebody is, not only what policies say.
#[test]
fn a_candidate_may_change_labels() {
    let relabelled = "{apiVersion: v1, kind: Pod, metadata: {name: job, namespace: a, labels: {app: \
                      web}}}";
    let folder =
        folder(&[("pods.yaml", PODS), ("p.yaml", &api_at(80)), ("candidate.yaml", relabelled)]);
    let asked = ["evaluate", "--manifests", "pods.yaml", "--manifests", "p.yaml", "-o", "json"];
    let one = ["--from", "pod:a/job", "--to", "pod:a/api", "--port", "80"];
    let output =
        signet(&[&asked[..], &one, &["--shadow", "candidate.yaml"]].concat(), folder.path());
    let answer = &answers(&output)[0];
    assert_eq!(
        (&answer["verdict"], &answer["shadow"]["verdict"]),
        (&json!("denied"), &json!("allowed"))
    );
}

#[test]
fn rules_that_contradict_each_other_are_refused_and_named() {
    let with = |name: &str, rules: &str| {
        api_at(80)
            .replace("name: p", &format!("name: {name}"))
            .replace("protocol: TCP}]", &format!("protocol: TCP}}], rules: {rules}"))
    };
    let folder = folder(&[
        ("pods.yaml", PODS),
        ("one.yaml", &with("one", "{http: [{}]}")),
        ("two.yaml", &with("two", "{kafka: [{}]}")),
    ]);
    let output = signet(&["check", "."], folder.path());
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("two.yaml:7:5: spec.ingress[0]: `CiliumNetworkPolicy/a/one#"), "{said}");
    let output = signet(&["check", "pods.yaml", "one.yaml"], folder.path());
    assert_eq!(output.status.code(), Some(0), "each alone is legal");
    let one = ["--from", "pod:a/web", "--to", "pod:a/api", "--port", "80", "--explain"];
    let output = signet(&[&["evaluate", "--manifests", "."], &one[..]].concat(), folder.path());
    assert!(text(&output.stderr).contains("conflict: `CiliumNetworkPolicy/a/one#"));
    let said = text(&output.stdout);
    assert!(said.starts_with("denied\n") && said.contains("contradict each other"), "{said}");
    assert!(said.contains("ask for the same, or for other peers or ports"), "{said}");
}

/// The probe of a line.
fn probe(id: usize, question: &str) -> Value {
    let (words, more) = match question.find(" {") {
        Some(at) => (&question[..at], &question[at + 1..]),
        None => (question, "{}"),
    };
    let [from, "->", to, what] = words.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("no question: {question}")
    };
    let mut probe: Value = serde_json::from_str(more).expect("JSON");
    let (protocol, port) = what.split_once('/').unwrap_or((what, ""));
    probe["id"] = id.into();
    probe["from"] = from.into();
    probe["to"] = to.into();
    probe["protocol"] = protocol.into();
    match port.parse::<u16>() {
        Ok(number) => probe["port"] = number.into(),
        Err(_) if !port.is_empty() => probe["port"] = port.into(),
        Err(_) => {}
    }
    probe
}

/// Everything that a line can want of an answer.
fn shown(answer: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut words = vec![text(&answer["verdict"])];
    for end in ["egress", "ingress"] {
        let side = &answer[end];
        if side.is_null() {
            words.push(format!("{end}=-"));
            continue;
        }
        let reason = text(&side["reason"]);
        words.push(format!("{end}={reason}"));
        let names =
            side["rules"].as_array().into_iter().chain(side["because"].as_array()).flatten();
        for name in names.map(text) {
            let path = name.rsplit('#').next().unwrap_or_default().replace("spec.", "");
            words.push(format!("{end}={reason}:{path}"));
            words.push(format!("{end}={reason}:{name}"));
        }
    }
    words
}

/// What is different from what was written, for one case.
fn differences(case: &policy::cases::Case) -> Vec<String> {
    use policy::cases::{CLUSTER, Plainly, Refused, Warned};
    let folder = folder(&[("cluster.yaml", CLUSTER), ("policies.yaml", case.policies)]);
    let output = signet(&["check", "cluster.yaml", "policies.yaml"], folder.path());
    let said = text(&output.stdout);
    let has = |word: &str, text: &str| {
        said.lines().any(|line| line.starts_with(word) && line.contains(text))
    };
    let (status, held) = match case.taken {
        Plainly => (0, !has("warning:", "")),
        Warned(text) => (0, has("warning:", text)),
        Refused(text) => (1, has("refused: policies.yaml:", text)),
    };
    let mut found = Vec::new();
    if output.status.code() != Some(status) || !held {
        found.push(format!("{}: check said\n{said}", case.name));
    }
    let lines: Vec<&str> = case.probes.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let probes: String = lines
        .iter()
        .enumerate()
        .map(|(id, line)| format!("{}\n", probe(id, line.split_once(" => ").unwrap().0)))
        .collect();
    fs::write(folder.path().join("probes"), probes).unwrap();
    let asked = ["evaluate", "--manifests", ".", "--probes", "probes", "-o", "jsonl"];
    let output = signet(&[&asked[..], case.flags].concat(), folder.path());
    let answers = answers(&output);
    assert_eq!(answers.len(), lines.len(), "{}: {}", case.name, text(&output.stderr));
    for (line, answer) in lines.iter().zip(&answers) {
        let got = shown(answer);
        let want = line.split_once(" => ").unwrap().1;
        if !want.split(' ').all(|word| got.contains(&word.to_owned())) {
            found.push(format!("{}:\n  {line}\n  got {}", case.name, got.join(" ")));
        }
    }
    found
}

#[test]
fn cases_that_are_easily_read_wrongly_mean_what_was_written() {
    use policy::cases::{EMPTY, PEERS, PORTS, TIERS};
    let cases: Vec<_> = [EMPTY, PEERS, PORTS, TIERS].into_iter().flatten().collect();
    let probes = |case: &&policy::cases::Case| case.probes.lines().count();
    println!("{} cases, {} probes", cases.len(), cases.iter().map(probes).sum::<usize>());
    assert!(cases.len() >= 70);
    let found: Vec<String> = cases.into_iter().flat_map(differences).collect();
    assert!(found.is_empty(), "{} differ\n{}", found.len(), found.join("\n"));
}

/// Probes that say themselves what they expect.
#[test]
fn probes_with_expectations_are_compared() {
    let folder = folder(&[
        ("cluster.yaml", policy::cases::CLUSTER),
        ("policies.yaml", include_str!("data/language/policies.yaml")),
        ("probes", include_str!("data/language/probes.jsonl")),
        (
            "wrong",
            r#"{"id":"w","from":"node:n1","to":"pod:b/api","port":1,"expect":{"verdict":"denied"}}"#,
        ),
    ]);
    let ask = |probes| {
        signet(&["evaluate", "--manifests", ".", "--probes", probes, "-o", "jsonl"], folder.path())
    };
    let output = ask("probes");
    let said = text(&output.stderr);
    assert!(said.ends_with("21 of 21 as expected\n") && output.status.success(), "{said}");
    let output = ask("wrong");
    let said = text(&output.stderr);
    assert!(said.contains("w: verdict: expected \"denied\", got \"allowed\""), "{said}");
    assert_eq!(output.status.code(), Some(1));
}
