//! The documentation's pictures show what the commands in them print today. What differs
//! from run to run (numbers, and how a line is broken) does not count.

use std::fs;
use std::path::Path;

use crate::told;

const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pictures");

/// The lines of a picture, as one text without what does not count.
fn shown(name: &str) -> Vec<String> {
    let svg = fs::read_to_string(format!("{PICTURES}/{name}.svg")).unwrap();
    let lines = svg.lines().filter(|line| line.contains("textLength="));
    let lines: Vec<_> = lines.map(text).collect();
    assert!(!lines.is_empty(), "{name} shows nothing");
    lines
}

/// What a line of a picture says.
fn text(line: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for char in line.chars() {
        match char {
            '<' => inside = true,
            '>' => inside = false,
            char if !inside => text.push(char),
            _ => {}
        }
    }
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Numbers, identifiers and spaces do not count.
fn plain(text: &str) -> String {
    let identifier = |word: &str| {
        let hex = |char: char| char.is_ascii_hexdigit() || char == '-';
        word.len() >= 32 && word.chars().all(hex)
    };
    let mut plain = String::new();
    for word in text.split([' ', '\n', ',']).filter(|word| !word.is_empty()) {
        let word = if identifier(word) { "0" } else { word };
        for char in word.chars() {
            let char = if char.is_ascii_digit() { '0' } else { char };
            if char != '0' || !plain.ends_with('0') {
                plain.push(char);
            }
        }
    }
    plain
}

/// A picture of the demo shows what the demo has told.
pub fn of_the_demo(transcript: &str, lab: &str) {
    let told = plain(&transcript.replace(lab, "bank"));
    for name in ["demo", "attack"] {
        let lines = shown(name);
        // Flows are those of one run: which came last, not what was decided.
        let steady =
            lines.iter().filter(|line| !line.contains(" DROP ") && !line.starts_with("    "));
        for line in steady {
            let line = plain(line.trim_end());
            assert!(
                told.contains(&line),
                "{name}.svg is old: `{line}`; take it anew: make pictures"
            );
        }
    }
}

/// The other pictures show what their commands print on the lab of the demo.
pub fn of_its_lab(directory: &Path, lab: &str) {
    let scenes = fs::read_to_string(format!("{PICTURES}/scenes.txt")).unwrap();
    let mut seen = 0;
    let mut name = "";
    let mut told = String::new();
    let compare = |name: &str, told: &str| {
        let shown = plain(&shown(name).join("\n"));
        let told = plain(&told.replace(lab, "bank"));
        assert_eq!(shown, told, "{name}.svg is old; take it anew: make pictures");
    };
    for line in scenes.lines() {
        if let Some(head) = line.strip_prefix("== ") {
            if !name.is_empty() {
                compare(name, &told);
            }
            name = head.split_once(": ").unwrap().0;
            told.clear();
            seen += 1;
        } else if let Some(command) = line.strip_prefix("$ ") {
            let answer = told::line(command, directory, lab);
            told.push_str(&format!("{line}\n{}{}", answer.out, answer.err));
        } else if let Some(command) = line.strip_prefix("! ") {
            told::line(command, directory, lab);
        }
    }
    compare(name, &told);
    assert!(seen >= 4, "{seen} scenes");
}
