//! What the headers say about types, fields and values, for people to read.
//!
//! A line-based reading of our own headers' style (`/* ... */` above or behind
//! what it is about), not a C parser: at worst a comment is missing.

use std::collections::HashMap;

/// Comments by what they are about: `sg_flow`, `sg_flow.port`, `sg_reason.SG_REASON_NONE`.
#[derive(Debug, Default)]
pub struct Comments(HashMap<String, String>);

impl Comments {
    /// The comment as a sentence.
    pub fn about(&self, what: &str) -> Option<&str> {
        self.0.get(what).map(String::as_str)
    }

    /// Takes in one header.
    pub fn read(&mut self, header: &str) {
        let mut owner: Option<String> = None;
        let mut above: Option<String> = None;
        let mut lines = header.lines();
        while let Some(line) = lines.next() {
            let (code, mut comment) = match line.split_once("/*") {
                Some((code, rest)) => (code.trim(), Some(rest.to_owned())),
                None => (line.trim(), None),
            };
            while let Some(text) = comment.as_mut().filter(|text| !text.contains("*/")) {
                let Some(more) = lines.next() else { break };
                text.push('\n');
                text.push_str(more);
            }
            let comment = comment.map(|text| sentence(&text));

            if code.is_empty() {
                // A blank line parts a comment from what follows.
                above = comment;
                continue;
            }
            let said = comment.or_else(|| above.take());
            above = None;
            if let Some(name) = opened(code) {
                owner = Some(name.to_owned());
                self.note(name.to_owned(), said);
            } else if code.starts_with('}') {
                owner = None;
            } else if let Some((owner, name)) = owner.as_ref().zip(declared(code)) {
                self.note(format!("{owner}.{name}"), said);
            }
        }
    }

    fn note(&mut self, what: String, said: Option<String>) {
        if let Some(said) = said.filter(|said| !said.is_empty()) {
            self.0.insert(what, said);
        }
    }
}

/// The name in `struct NAME {` or `enum NAME {`.
fn opened(code: &str) -> Option<&str> {
    let head = code.split_once('{')?.0.trim();
    head.strip_prefix("struct ").or_else(|| head.strip_prefix("enum ")).map(str::trim)
}

/// The name in `TYPE NAME;`, `TYPE NAME[N];`, `NAME,` or `NAME = N,`.
fn declared(code: &str) -> Option<&str> {
    let end = code.find(['=', '[', ';', ',', '}']).unwrap_or(code.len());
    let name = code[..end].split_whitespace().next_back()?;
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(name)
}

/// The text between `/*` and `*/`, without the stars, as a sentence of its own.
fn sentence(raw: &str) -> String {
    let text = raw.split_once("*/").map_or(raw, |(text, _)| text);
    let words = text.lines().map(|line| line.trim().trim_start_matches('*').trim());
    let text = words.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    // `[x]` would be a link.
    let text = text.replace('[', "\\[").replace(']', "\\]").replace('<', "\\<");
    let mut chars = text.chars();
    let starts_with_a_name = text
        .split_whitespace()
        .next()
        .is_some_and(|word| word.contains('_') || word.starts_with('`') || word.ends_with(':'));
    let capital: String = match chars.next() {
        Some(first) if !starts_with_a_name => first.to_uppercase().chain(chars).collect(),
        _ => text.clone(),
    };
    match capital.chars().next_back() {
        Some('.' | '?' | '!') | None => capital,
        Some(_) => capital + ".",
    }
}
