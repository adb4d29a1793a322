//! Questions to manifests, written as lines: for tests of what policies mean.
//!
//! A line is `FROM -> TO WHAT [{JSON}] => WANT`, as
//! `pod:a/x -> pod:b/y TCP/80 {"http":{"method":"GET","path":"/"}} => denied l7=denied`.
//! `WANT` is the verdict, then any of `egress=REASON[:PATH]`, `ingress=...` (or
//! `-` where nobody judges) and `l7=allowed|denied|-`.
#![allow(dead_code, reason = "each test uses the part it needs")]

use policy::Options;
use policy::question::{Ask, Asked};
use serde_json::{Map, Value, json};

/// A cluster with its policies, none of which may be refused.
pub fn read(text: &str) -> (policy::question::Cluster, Vec<policy::Policy>) {
    let documents = manifest::read("manifests.yaml", text).unwrap_or_else(|refusals| {
        panic!("{}", refusals.iter().map(|r| format!("{r}\n")).collect::<String>())
    });
    let outcome = manifest::policies(&documents);
    let (cluster, more) = manifest::cluster(&documents);
    let refusals: Vec<String> =
        outcome.refusals.iter().chain(&more).map(ToString::to_string).collect();
    assert!(refusals.is_empty(), "{refusals:#?}");
    (cluster, outcome.policies)
}

/// Asks every line.
#[track_caller]
pub fn check(manifests: &str, lines: &str) {
    check_with(&Options::default(), manifests, lines);
}

/// Asks every line of an installation with other choices.
#[track_caller]
pub fn check_with(options: &Options, manifests: &str, lines: &str) {
    let (cluster, policies) = read(manifests);
    let asked = Asked::new(&cluster, &policies, options);
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (question, want) =
            line.split_once(" => ").unwrap_or_else(|| panic!("no ` => `: {line}"));
        let answer = ask(&asked, question);
        let got = shown(&answer);
        let missing: Vec<&str> =
            want.split(' ').filter(|word| !got.contains(&(*word).to_owned())).collect();
        assert!(missing.is_empty(), "{question}\n  wanted {want}\n  got    {}", got.join(" "));
    }
}

/// The JSON answer to the question of a line.
pub fn ask(asked: &Asked<'_>, question: &str) -> Value {
    let probe = probe(question);
    match Ask::from_json(&probe).and_then(|ask| asked.answer(&ask)) {
        Ok(answer) => answer.to_json(&probe),
        Err(error) => json!({"verdict": "error", "reason": error.to_string()}),
    }
}

pub fn probe(question: &str) -> Map<String, Value> {
    let (words, more) = match question.find(" {") {
        Some(at) => (&question[..at], &question[at + 1..]),
        None => (question, "{}"),
    };
    let [from, "->", to, what] = words.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("no question: {question}")
    };
    let mut probe: Map<String, Value> = serde_json::from_str(more).expect("JSON");
    probe.insert("from".into(), from.into());
    probe.insert("to".into(), to.into());
    let (protocol, port) = what.split_once('/').unwrap_or((what, ""));
    probe.insert("protocol".into(), protocol.into());
    match port.parse::<u16>() {
        Ok(number) => probe.insert("port".into(), number.into()),
        Err(_) if !port.is_empty() => probe.insert("port".into(), port.into()),
        Err(_) => None,
    };
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
    words.push(match answer["l7"]["verdict"].as_str() {
        Some(verdict) => format!("l7={verdict}"),
        None => "l7=-".to_owned(),
    });
    words
}

/// Writes what an explanation suggests for each denial by default, and asks
/// again: the end must let it pass then. The number of suggestions.
pub fn check_suggestions(manifests: &str, lines: &str) -> usize {
    let (cluster, policies) = read(manifests);
    let options = Options::default();
    let asked = Asked::new(&cluster, &policies, &options);
    let mut tried = 0;
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let (question, _) = line.split_once(" => ").expect("a line");
        let ask = Ask::from_json(&probe(question)).expect("a question");
        let Ok(answer) = asked.answer(&ask) else { continue };
        for end in &answer.explanation.ends {
            let Some(fix) = end.fix.as_ref().filter(|fix| fix.starts_with("apiVersion")) else {
                continue;
            };
            let (_, more) = read(fix);
            let all = [&policies[..], &more].concat();
            let again = Asked::new(&cluster, &all, &options).answer(&ask).expect("an answer");
            let side = match end.direction {
                model::Direction::Ingress => again.ingress,
                model::Direction::Egress => again.egress,
            };
            let allowed =
                side.is_some_and(|side| side.verdict == policy::question::Verdict::Allowed);
            assert!(allowed, "{question}\n{fix}");
            tried += 1;
        }
    }
    tried
}
