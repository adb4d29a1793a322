//! What the demo, labs and the documents' commands run is installed by `.ci/bootstrap`.
//!
//! Reads scripts and manifests as a shell would, as far as to know which words are commands.
//! Which package has a program is written by hand here: a program that is not written down
//! fails the test, and so does one whose package nothing installs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test are the test")]

use std::collections::BTreeSet;
use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::Chars;

/// Packages of Debian's smallest installation, and what README asks for beside it.
const BASE: &[&str] =
    &["bash", "coreutils", "dash", "git", "grep", "make", "mawk", "sed", "util-linux"];

/// Programs, and the package that is installed for their sake.
const PROGRAMS: &[(&str, &str)] = &[
    ("awk", "mawk"),
    ("busybox", "busybox-static"),
    ("cat", "coreutils"),
    ("chown", "coreutils"),
    ("cp", "coreutils"),
    ("curl", "curl"),
    ("cut", "coreutils"),
    ("date", "coreutils"),
    ("git", "git"),
    ("grep", "grep"),
    ("head", "coreutils"),
    ("initdb", "postgresql"),
    ("make", "make"),
    ("mkdir", "coreutils"),
    ("mktemp", "coreutils"),
    ("nc", "netcat-openbsd"),
    ("ping", "iputils-ping"),
    ("postgres", "postgresql"),
    ("psql", "postgresql"),
    ("runc", "runc"),
    ("sed", "sed"),
    ("setpriv", "util-linux"),
    ("seq", "coreutils"),
    ("setsid", "util-linux"),
    ("sh", "dash"),
    ("sleep", "coreutils"),
    ("socat", "socat"),
    ("sort", "coreutils"),
    ("tail", "coreutils"),
    ("timeout", "coreutils"),
];

/// What follows these is a command again, behind flags and numbers.
const RUNNERS: &[&str] =
    &["command", "do", "else", "eval", "exec", "if", "sudo", "then", "timeout"];

/// What a shell does itself, and what the documents have built before.
const BUILT_IN: &[&str] = &[
    "case", "cd", "command", "do", "done", "echo", "else", "esac", "eval", "exec", "export", "fi",
    "for", "if", "local", "printf", "pwd", "set", "signet", "sudo", "then", "trap", "true",
];

/// What `make demo` prepares a user for.
const DOCUMENTS: &[&str] =
    &["README.md", "docs/bank.md", "docs/lab.md", "docs/pictures/scenes.txt", "docs/tutorial.md"];

/// Where crate `lab` says what it runs: the program's name follows.
const RUNS: &[&str] =
    &["Command::new(\"", "own(&[\"", "let own = [\"", "command.arg(\"", "RUNTIME: &str = \""];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Files below `place` with this ending.
fn files(place: &str, ending: &str) -> Vec<String> {
    let mut open = vec![root().join(place)];
    let mut texts = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.to_string_lossy().ends_with(ending) {
            texts.push(fs::read_to_string(&path).unwrap());
        }
    }
    assert!(!texts.is_empty(), "no `{ending}` in `{place}`");
    texts
}

/// A shell script, read as far as to find its commands.
#[derive(Default)]
struct Script {
    word: String,
    /// The next word is a command, or what stands before one.
    expected: bool,
    /// The next quoted word is a script: behind `-c`, or told to run by demo.sh.
    script: bool,
    found: BTreeSet<String>,
}

impl Script {
    fn commands(text: &str) -> BTreeSet<String> {
        let mut script = Self { expected: true, ..Self::default() };
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            script.take(char, &mut chars);
        }
        script.end_word();
        script.found
    }

    fn take(&mut self, char: char, rest: &mut Peekable<Chars<'_>>) {
        match char {
            '\'' | '"' => {
                let quoted = quoted(char, rest);
                if std::mem::take(&mut self.script) {
                    self.found.extend(Self::commands(&quoted));
                }
                self.word.push(char);
            }
            '#' if self.word.is_empty() => while rest.next_if(|next| *next != '\n').is_some() {},
            '\\' => self.word.extend(rest.next()),
            '|' | '&' | ';' | '(' | '`' | '\n' | '{' | '}' => {
                self.end_word();
                self.expected = true;
            }
            ')' => {
                self.end_word();
                self.expected = false;
            }
            char if char.is_whitespace() => self.end_word(),
            char => self.word.push(char),
        }
    }

    fn end_word(&mut self) {
        let word = std::mem::take(&mut self.word);
        if word.is_empty() {
            return;
        }
        self.script = matches!(word.as_str(), "-c" | "-ec" | "run");
        // `signet lab exec POD -- COMMAND`
        if word == "--" {
            self.expected = true;
            return;
        }
        // Behind a runner, or before the command.
        let skipped = word.contains('=')
            || word.starts_with(|char: char| char == '-' || char.is_ascii_digit());
        let is_name = word.starts_with(|char: char| char.is_ascii_lowercase())
            && word.chars().all(|char| char.is_ascii_alphanumeric() || "-_".contains(char));
        if !self.expected || skipped {
            return;
        }
        self.expected = RUNNERS.contains(&word.as_str());
        if is_name {
            self.found.insert(word);
        }
    }
}

/// What stands between these quotes; the first one is taken.
fn quoted(mark: char, rest: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(char) = rest.next() {
        match char {
            '\\' if mark == '"' => text.extend(rest.next()),
            char if char == mark => break,
            char => text.push(char),
        }
    }
    text
}

/// What a manifest's containers and hosts run.
fn of_manifest(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((before, command)) = line.split_once("command:") else { continue };
        let mut script = command.replace(['[', ']', ','], " ");
        let depth = before.len() - before.trim_start_matches([' ', '-']).len();
        let is_part = |line: &&str| {
            let inner = line.trim_start();
            let indent = line.len() - inner.len();
            indent > depth || (indent == depth && inner.starts_with("- "))
        };
        while let Some(part) = lines.next_if(is_part) {
            script.push('\n');
            script.push_str(part.trim_start().trim_start_matches("- "));
        }
        found.extend(Script::commands(&script));
    }
    found
}

/// Everything that is run.
fn called() -> BTreeSet<String> {
    let mut called = BTreeSet::new();
    for script in files("examples", ".sh") {
        let functions: Vec<_> =
            script.lines().filter_map(|line| line.split_once("() {").map(|it| it.0)).collect();
        let commands = Script::commands(&script);
        called.extend(commands.into_iter().filter(|it| !functions.contains(&it.as_str())));
    }
    files("examples", ".yaml").iter().for_each(|text| called.extend(of_manifest(text)));
    let documents = DOCUMENTS.iter().map(|name| fs::read_to_string(root().join(name)).unwrap());
    for line in documents.collect::<Vec<_>>().iter().flat_map(|text| text.lines()) {
        let command = line.strip_prefix("$ ").or_else(|| line.strip_prefix("! "));
        called.extend(command.iter().flat_map(|command| Script::commands(command)));
    }
    for source in files("crates/lab/src", ".rs") {
        let (source, _) = source.split_once("#[cfg(test)]").unwrap_or((&source, ""));
        for mark in RUNS {
            let programs = source.split(mark).skip(1).filter_map(|rest| rest.split('"').next());
            let programs = programs.filter(|it| !it.starts_with('-'));
            called.extend(programs.map(|it| it.rsplit('/').next().unwrap().to_owned()));
        }
    }
    called
}

#[test]
fn what_is_run_is_installed() {
    let list = Command::new(root().join(".ci/bootstrap")).args(["--list", "demo"]).output();
    let list = String::from_utf8(list.unwrap().stdout).unwrap();
    let installed: Vec<_> = list.lines().chain(BASE.iter().copied()).collect();
    assert!(installed.contains(&"clang-19"), "`.ci/bootstrap --list demo` prints {list}");

    let called = called();
    for command in called.iter().filter(|it| !BUILT_IN.contains(&it.as_str())) {
        let package = PROGRAMS.iter().find(|(program, _)| program == command);
        let (_, package) = package.unwrap_or_else(|| {
            panic!("`{command}` is run: write down here which package of Debian has it")
        });
        assert!(
            installed.contains(package),
            "`{command}` is run, and no `{package}` is installed: add it to .ci/bootstrap"
        );
    }
    for (program, _) in PROGRAMS {
        assert!(called.contains(*program), "nothing runs `{program}` any more");
    }
}

#[track_caller]
fn check(script: &str, want: &[&str]) {
    assert_eq!(Script::commands(script).iter().collect::<Vec<_>>(), want, "{script}");
}

#[test]
fn commands_of_scripts_are_found() {
    check("echo a b", &["echo"]);
    check("a | b -x; c && d || e & f", &["a", "b", "c", "d", "e", "f"]);
    check("signet lab exec x/y -- nc -z 1.2.3.4 80 || true", &["nc", "signet", "true"]);
    check("A=1 b x=$(c d)", &["b", "c"]);
    check("timeout 0.7 curl -m 1 h # not these", &["curl", "timeout"]);
    check("sh -ec 'mkdir x; exec postgres -D \"y z\"'", &["exec", "mkdir", "postgres", "sh"]);
    check("run \"psql -h x -Atc \\\"select 'the books'\\\"\"", &["psql", "run"]);
    check("if a; then b; else c; fi", &["a", "b", "c", "else", "fi", "if", "then"]);
}

#[test]
fn commands_of_manifests_are_found() {
    let inline =
        "      command: [sh, -c, \"busybox httpd -p 25; exec nc -l 80\"]\n      ports: []\n";
    assert_eq!(of_manifest(inline).iter().collect::<Vec<_>>(), ["busybox", "exec", "nc", "sh"]);
    let block = "    - name: a\n      command:\n        - sh\n        - -c\n        - |\n          mkdir x && exec setpriv --reuid=y sh -ec '\n            initdb z'\n      ports: [b]\n";
    let want = ["exec", "initdb", "mkdir", "setpriv", "sh"];
    assert_eq!(of_manifest(block).iter().collect::<Vec<_>>(), want);
}
