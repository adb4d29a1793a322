//! Runs the commands of a document, or a script, as a reader would who has only one
//! lab: names of labs and sockets that a reader need not give are added here.

use std::path::Path;
use std::process::Command;

use crate::signet::{Answer, PROGRAM};

/// What a shell calls `signet`. `$program`, `$lab` are given by the environment.
const FUNCTION: &str = r#"
signet() {
  case "$1 $2" in
    "lab up" | "lab down bank") "$program" "${@/#bank/$lab}" ;;
    "lab down") "$program" lab down "$lab" ;;
    "lab status") "$program" lab status "$lab" "${@:3}" ;;
    "lab "*) "$program" lab "$2" --lab "$lab" "${@:3}" ;;
    "policy check" | "policy evaluate") "$program" "$@" ;;
    *) "$program" "$@" --server "unix:/run/signet/$lab/relay.sock" ;;
  esac
}
"#;

/// Somebody who types what a document shows.
pub struct Reader<'a> {
    /// Where.
    pub directory: &'a Path,
    /// The name that the lab has here.
    pub lab: &'a str,
    /// The name that it has in the document.
    pub shown: &'a str,
    /// What is not typed as it is shown: the line, and the line instead; none is passed over.
    pub instead: &'a [(&'a str, &'a str)],
}

impl Reader<'_> {
    /// Runs every command of the document, in order, and finds what it is shown to print in
    /// what it prints. Each must end with 0 unless it is in `failing`, and then must not.
    /// Returns how many ran.
    #[track_caller]
    pub fn follow(&self, document: &str, failing: &[&str]) -> usize {
        let mut commands = 0;
        let mut output: Vec<String> = Vec::new();
        let mut command = "";
        let mut inside = false;
        for shown in document.lines() {
            if shown.starts_with("```") {
                inside = shown == "```console";
            } else if let (true, Some(line)) = (inside, shown.strip_prefix("$ ")) {
                command = line.split("  #").next().unwrap_or(line).trim_end();
                let typed = self.instead.iter().find(|(shown, _)| *shown == command);
                let typed = typed.map_or(command, |(_, typed)| typed);
                let answer = self::line(typed, self.directory, self.lab);
                let good = answer.status == Some(0);
                assert_eq!(
                    good,
                    !failing.contains(&command),
                    "{typed}\n{}{}",
                    answer.out,
                    answer.err
                );
                let printed = answer.out + &answer.err;
                output = printed.lines().map(|line| line.replace(self.lab, self.shown)).collect();
                commands += 1;
            } else if inside && shown != "..." {
                let found = output.iter().position(|line| matches(line.trim_end(), shown));
                let found = found.unwrap_or_else(|| {
                    panic!("{command}\nshows no `{shown}`, but\n{}", output.join("\n"))
                });
                output.drain(..=found);
            }
        }
        commands
    }
}

/// Runs a line of a document in `directory`.
pub fn line(line: &str, directory: &Path, lab: &str) -> Answer {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{FUNCTION}{line}")]).current_dir(directory);
    shell.env("program", PROGRAM).env("lab", lab).output().unwrap().into()
}

/// Whether `shown` is what a line of the document says: `...` stands for anything.
fn matches(line: &str, shown: &str) -> bool {
    let mut rest = line;
    let parts: Vec<&str> = shown.split("...").collect();
    for (index, part) in parts.iter().enumerate() {
        let Some(at) = rest.find(part) else { return false };
        if index == 0 && at != 0 {
            return false;
        }
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || shown.ends_with("...")
}
