//! `docs/policy-semantics.md`, executed: every example in it is read and asked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use manifest::{policies, read};

mod support;

const DOCUMENT: &str = include_str!("../../../docs/policy-semantics.md");

/// Fenced blocks: the word behind the fence, the text, and the line it starts in.
fn blocks() -> Vec<(&'static str, String, usize)> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String, usize)> = None;
    for (number, line) in (1..).zip(DOCUMENT.lines()) {
        match (line.strip_prefix("```"), open.take()) {
            (Some(word), None) => open = Some((word, String::new(), number)),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some((word, text, at))) => open = Some((word, text + line + "\n", at)),
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn every_example_means_what_the_document_says() {
    let blocks = blocks();
    let (word, cluster, _) = &blocks[0];
    assert_eq!(*word, "yaml", "the document begins with its cluster");
    let mut manifests = None;
    let (mut asked, mut refused, mut suggested) = (0, 0, 0);
    for (word, text, line) in &blocks[1..] {
        match *word {
            "yaml" => manifests = Some(text),
            "probes" => {
                let text = text.lines().map(|line| format!("{line}\n")).collect::<String>();
                println!("line {line}");
                let manifests = manifests.expect("manifests before probes");
                let manifests = format!("{cluster}---\n{manifests}");
                support::check(&manifests, &text);
                suggested += support::check_suggestions(&manifests, &text);
                asked += text.lines().count();
            }
            "refused" => {
                let manifests = manifests.expect("manifests before a refusal");
                let found = match read("f", manifests) {
                    Ok(documents) => policies(&documents).refusals,
                    Err(refusals) => refusals,
                };
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                for wanted in text.lines() {
                    assert!(
                        found.iter().any(|refusal| refusal.contains(wanted)),
                        "line {line}: {wanted}\n{found:#?}"
                    );
                    refused += 1;
                }
            }
            other => panic!("line {line}: no `{other}` is known"),
        }
    }
    println!("{asked} questions, {refused} refusals, {suggested} suggestions");
    assert!(asked >= 100 && refused >= 5 && suggested >= 40);
}
