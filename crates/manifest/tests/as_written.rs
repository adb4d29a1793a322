//! The documents' YAML as it stands in their text, letter by letter, each with what is
//! said of it. Slides lose indentation, marks of comments and line breaks; what is left
//! must never be taken for something that it does not say. What each snippet means
//! when it is written out is in `snippets.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use std::collections::BTreeSet;
use std::fs;

use manifest::{check as check_documents, read};
use policy::Options;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/as-written");
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bank.md");

/// Every snippet of the documents, counted by hand: three of the first (*Kubernetes
/// security*), eighteen of the second (*Zero trust for fintech*). YAML is a file of
/// `data/as-written`; what a console or a panel shows is a row of docs/bank.md that
/// begins with this text.
const INDEX: [(&str, Shown); 21] = [
    ("tail -f /var/log/cluster/audit.log \\| evidence 0", Shown::Console),
    ("isolation", Shown::Yaml),
    ("Zero Trust for Kubernetes (NIST 800-207)", Shown::Console),
    ("id:1234 -> app=payment,env=production", Shown::Console),
    ("reserved:host, reserved:remote-node", Shown::Console),
    ("cluster:jakarta ↔ cluster:mumbai", Shown::Console),
    ("reserved:kube-apiserver", Shown::Console),
    ("identity", Shown::Yaml),
    ("fqdn", Shown::Yaml),
    ("cidr", Shown::Yaml),
    ("http", Shown::Yaml),
    ("gateway", Shown::Yaml),
    ("dns", Shown::Yaml),
    ("collector", Shown::Yaml),
    ("apiserver", Shown::Yaml),
    ("postgres", Shown::Yaml),
    ("third-party", Shown::Yaml),
    ("mesh", Shown::Yaml),
    ("encryption", Shown::Yaml),
    ("hubble observe --namespace banking --verdict DROPPED", Shown::Console),
    ("tetra getevents -o compact", Shown::Console),
];

#[derive(Clone, Copy, PartialEq)]
enum Shown {
    Yaml,
    Console,
}

/// What stands around a snippet, so that it is a policy if it can be one.
#[derive(Clone, Copy)]
enum Around {
    /// Nothing: it is a file.
    Nothing,
    /// A `spec`; the snippet begins in line 6, indented by two.
    Spec,
    /// A list of rules; it begins in line 7, indented by two.
    Rules(&'static str),
    /// One rule; it begins in line 7, behind `  - `.
    Rule(&'static str),
}

impl Around {
    fn policy(self, snippet: &str) -> String {
        let head = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
                    metadata: {name: p, namespace: banking}\n\
                    spec:\n  endpointSelector: {matchLabels: {app: api}}\n";
        let indented =
            |by: &str| -> String { snippet.lines().map(|line| format!("{by}{line}\n")).collect() };
        match self {
            Self::Nothing => snippet.to_owned(),
            Self::Spec => format!("{head}{}", indented("  ")),
            Self::Rules(list) => format!("{head}  {list}:\n{}", indented("  ")),
            Self::Rule(list) => {
                format!("{head}  {list}:\n{}", indented("    ").replacen("    ", "  - ", 1))
            }
        }
    }
}

/// Refusals, and if there are none, warnings.
fn said(text: &str) -> Vec<String> {
    let words = |text: String| text.replacen("f:", "", 1);
    match read("f", text) {
        Err(refusals) => refusals.iter().map(|refusal| words(refusal.to_string())).collect(),
        Ok(documents) => {
            let outcome = check_documents(&documents, &Options::default()).outcome;
            let warnings = outcome.notes.iter().filter(|note| note.warning);
            let warnings = warnings.map(|note| format!("warning: {}", words(note.to_string())));
            let refusals = outcome.refusals.iter().map(|refusal| words(refusal.to_string()));
            if outcome.refusals.is_empty() { warnings.collect() } else { refusals.collect() }
        }
    }
}

/// Whether a line is as stated; `...` stands for the parser's own words.
fn is(line: &str, stated: &str) -> bool {
    match stated.split_once("...") {
        Some((first, last)) => line.starts_with(first) && line.ends_with(last),
        None => line == stated,
    }
}

#[track_caller]
fn check_text(around: Around, snippet: &str, stated: &[&str]) {
    let text = around.policy(snippet);
    let said = said(&text);
    let same = said.len() == stated.len()
        && said.iter().zip(stated).all(|(line, stated)| is(line, stated));
    assert!(same, "{text}\nstated {stated:#?}\nsaid   {said:#?}");
}

fn as_written(name: &str) -> String {
    fs::read_to_string(format!("{DATA}/{name}.yaml")).unwrap()
}

/// The snippet as it is written, and what is said of it.
#[track_caller]
fn check(name: &str, around: Around, stated: &[&str]) {
    check_text(around, &as_written(name), stated);
}

const OF_A_RULE: &str = "there is no such field here: it belongs to a rule of `ingress` or \
                         `egress` (fix: indent it, so that it stands below the rule's `-`)";
const OF_A_PEER: &str = "there is no such field here: it belongs to an element of the list of \
                         peers before it (fix: indent it, so that it stands below that list)";
const OF_A_PORT: &str = "there is no such field here: it belongs to an element of `ports` (fix: \
                         write `ports: [{port: ..., protocol: ...}]`)";
const INDENTATION: &str =
    "not YAML: ... (fix: look at the indentation of this line and of the one before)";

/// The parser stops at a line, or just behind a line of words.
fn not_yaml(at: &str) -> String {
    format!("{at}: {INDENTATION}")
}

fn words(at: &str, line: u32) -> String {
    format!(
        "{at}: not YAML: ... (fix: line {line} is no field: begin it with `#` if it is a comment, \
         indent it below its field if it is a value)"
    )
}

#[test]
fn the_layer_7_slide_has_several_fields_in_a_line() {
    check("isolation", Around::Nothing, &[&not_yaml("2:31")]);
}

#[test]
fn labels_beside_their_field_are_refused() {
    check(
        "identity",
        Around::Rule("egress"),
        &[
            "9:7: spec.egress[0].toEndpoints[0][\"k8s:io.kubernetes.pod.namespace\"]: there is no \
             such field (fix: labels stand below `matchLabels`: `matchLabels: \
             {k8s:io.kubernetes.pod.namespace: payment}`)",
            "10:7: spec.egress[0].toEndpoints[0].app: there is no such field (fix: labels stand \
             below `matchLabels`: `matchLabels: {app: payment}`)",
        ],
    );
}

#[test]
fn names_without_a_rule_for_questions_are_warned_of() {
    let never = |name: &str| {
        format!(
            "warning: 7:5: spec.egress[0]: `{name}` is never learnt: no rule lets these pods ask \
             for it; add an egress rule to the DNS server with `rules: {{dns: [...]}}`"
        )
    };
    let text = Around::Rule("egress").policy(&as_written("fqdn"));
    assert_eq!(said(&text), [never("api.swift.com"), never("*.cncf.com")]);
}

#[test]
fn a_range_without_its_space_is_refused() {
    check(
        "cidr",
        Around::Rule("egress"),
        &[
            "8:7: spec.egress[0].toCIDRSet[0]: `cidr:172.21.89.10/32` is a text, not a mapping (fix: \
           a space is missing: write `cidr: 172.21.89.10/32`)",
        ],
    );
}

#[test]
fn verb_and_path_are_accepted_for_everybody_and_that_is_said() {
    check(
        "http",
        Around::Rule("ingress"),
        &[
            "warning: 8:15: spec.ingress[0].toPorts[0].ports[0].protocol: rules for requests without \
             a protocol: TCP is meant",
            "warning: 7:5: spec.ingress[0]: lets everybody in, the world outside the cluster included",
        ],
    );
}

#[test]
fn values_and_comments_that_fell_out_of_their_line_are_refused() {
    check("gateway", Around::Spec, &[&words("12:8", 11)]);
    check("dns", Around::Spec, &[&words("8:3", 7)]);
    check("collector", Around::Spec, &[&words("9:3", 8)]);
    check("third-party", Around::Rules("egress"), &[&words("8:3", 7)]);
    check("mesh", Around::Spec, &[&words("8:3", 7)]);
}

/// The same with the comment's mark put back: the rest is refused for what it is.
#[test]
fn what_stands_beside_its_field_is_refused_at_its_place() {
    let marked = |name: &str, words: &str| {
        let text = as_written(name);
        assert!(text.contains(words), "{text}");
        text.replacen(words, &format!("# {}", words.replace('\n', " ")), 1)
    };
    let dns = marked("dns", "DNS - REQUIRED");
    check_text(Around::Spec, &dns, &[&not_yaml("9:4")]);
    let mesh = marked("mesh", "Cross-cluster");
    check_text(Around::Spec, &mesh, &[&not_yaml("9:4")]);
    let collector = as_written("collector").replacen("\ncollector", " collector", 1);
    check_text(
        Around::Spec,
        &collector,
        &[
            "9:5: spec.egress[1]: must be a mapping, this is a string",
            &format!("10:3: spec.toPorts: {OF_A_RULE}"),
            "13:3: spec.protocol: there is no such field",
        ],
    );
    let names = marked("third-party", "FQDN 3rd party");
    check_text(
        Around::Rules("egress"),
        &names,
        &[
            &format!("9:5: spec.egress[1].matchName: {OF_A_PEER}"),
            &format!("10:5: spec.egress[2].matchPattern: {OF_A_PEER}"),
            &format!("11:3: spec.toPorts: {OF_A_RULE}"),
            "14:3: spec.protocol: there is no such field",
        ],
    );
}

#[test]
fn peers_beside_their_list_are_refused() {
    check(
        "apiserver",
        Around::Rules("egress"),
        &[
            "9:5: spec.egress[1]: must be a mapping, this is a string",
            &format!("10:3: spec.toPorts: {OF_A_RULE}"),
        ],
    );
    check(
        "postgres",
        Around::Rules("egress"),
        &[
            &format!("9:5: spec.egress[1].cidr: {OF_A_PEER}"),
            &format!("10:5: spec.egress[2].cidr: {OF_A_PEER}"),
            &format!("11:3: spec.toPorts: {OF_A_RULE}"),
            "14:3: spec.protocol: there is no such field",
        ],
    );
}

/// As written it is no YAML. With a space more before each inner `-` it would be, and
/// each line of it is refused.
#[test]
fn the_encryption_slide_is_refused_however_it_is_indented() {
    check("encryption", Around::Spec, &[&not_yaml("8:4")]);
    check_text(
        Around::Spec,
        &as_written("encryption").replace("\n -", "\n  -"),
        &[
            "9:7: spec.ingress[0].fromEndpoints[1].App: there is no such field (fix: labels stand \
             below `matchLabels`: `matchLabels: {App: service-a}`)",
            "11:7: spec.ingress[1].authentication: must be a mapping, this is a list (fix: leave out \
             the `-` before its fields)",
            &format!("14:7: spec.ingress[2].toPorts[1].port: {OF_A_PORT}"),
            &format!("15:7: spec.ingress[2].toPorts[2].protocol: {OF_A_PORT}"),
        ],
    );
}

/// Its members as items of their own: everybody would get to the port, and nobody would
/// have to prove anything.
#[test]
fn members_of_a_rule_that_are_rules_of_their_own_are_told() {
    let peers = "ingress:\n- fromEndpoints:\n  - matchLabels:\n      app: service-a\n";
    let proof = "- authentication:\n    mode: required\n";
    let ports = "- toPorts:\n  - ports: [{port: \"8080\", protocol: TCP}]\n";
    check_text(
        Around::Spec,
        &format!("{peers}{proof}{ports}"),
        &["10:5: spec.ingress[1]: names nobody and no ports: nobody would have to prove anything \
           (fix: leave out the `-` before it, if it belongs to the rule before)"],
    );
    check_text(
        Around::Spec,
        &format!("{peers}{ports}"),
        &["warning: 10:5: spec.ingress[1]: lets everybody in, the world outside the cluster \
           included; if its ports are meant for `spec.ingress[0]`, leave out the `-` before \
           `toPorts`"],
    );
    // One rule, as it is meant.
    let one = format!("{peers}{proof}{ports}").replace("\n- a", "\n  a").replace("\n- t", "\n  t");
    let one = one.replace("\n    mode", "\n      mode").replace("\n  - ports", "\n    - ports");
    check_text(Around::Spec, &one, &[]);
}

#[test]
fn no_snippet_is_forgotten() {
    let of = |shown: Shown| {
        let names = INDEX.iter().filter(move |(_, it)| *it == shown);
        names.map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>()
    };
    let files = fs::read_dir(DATA).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeSet<_> =
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(files, of(Shown::Yaml));
    let tests = include_str!("as_written.rs");
    let table = fs::read_to_string(TABLE).unwrap();
    for name in of(Shown::Yaml) {
        assert!(
            tests.contains(&format!("check(\"{name}\""))
                || tests.contains(&format!("check(\n        \"{name}\""))
                || tests.contains(&format!("as_written(\"{name}\")")),
            "no result is stated for {name}"
        );
        let row = format!("| `as-written/{name}.yaml` |");
        assert!(table.contains(&row), "docs/bank.md has no row {row}");
    }
    for text in of(Shown::Console) {
        let row = format!("\n| `{text}`");
        assert!(table.contains(&row), "docs/bank.md has no row{row}");
    }
}
