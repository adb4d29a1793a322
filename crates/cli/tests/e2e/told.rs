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

/// Runs a line of a document in `directory`.
pub fn line(line: &str, directory: &Path, lab: &str) -> Answer {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{FUNCTION}{line}")]).current_dir(directory);
    shell.env("program", PROGRAM).env("lab", lab).output().unwrap().into()
}

/// Whether `shown` is what a line of the document says: `...` stands for anything.
pub fn matches(line: &str, shown: &str) -> bool {
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
