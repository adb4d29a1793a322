//! `signet policy check`: accept, or refuse with the line, before anything is
//! applied. The agent runs the same code.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::json;

use super::input::{self, Choices};

/// What to check.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  signet policy check policy.yaml
  signet policy check --strict manifests/
  kubectl get cnp -A -o yaml | signet policy check -

Exit status: 0 accepted, 1 refused (with --strict also: warned of), 2 usage, 3 internal")]
pub struct CheckArgs {
    /// Files, folders, or `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Take warnings for refusals
    #[arg(long)]
    strict: bool,
    /// Say nothing about what is accepted
    #[arg(long, short)]
    quiet: bool,
    /// How to print
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Format,
    #[command(flatten)]
    choices: Choices,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

const REFUSED: u8 = 1;
const USAGE: u8 = 2;
const INTERNAL: u8 = 3;

/// Checks, and says so; the exit status.
pub fn run(args: &CheckArgs) -> u8 {
    let input = match input::read(&args.files) {
        Ok(input) => input,
        Err(error) => {
            eprintln!("signet: {error}");
            return USAGE;
        }
    };
    input.tell_left_out();
    let mut report = manifest::check(&input.documents, &args.choices.options());
    report.outcome.refusals.splice(0..0, input.refusals);
    let printed = match args.output {
        Format::Text => text(&report, args.quiet, &mut io::stdout().lock()),
        Format::Json => json_lines(&report, &mut io::stdout().lock()),
    };
    if let Err(error) = printed
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("signet: cannot write: {error}");
        return INTERNAL;
    }
    let warned = report.outcome.notes.iter().any(|note| note.warning);
    if !report.outcome.refusals.is_empty() || args.strict && warned { REFUSED } else { 0 }
}

fn text(report: &manifest::Report, quiet: bool, out: &mut impl Write) -> io::Result<()> {
    for refusal in &report.outcome.refusals {
        writeln!(out, "refused: {refusal}")?;
    }
    for note in report.outcome.notes.iter().filter(|note| note.warning) {
        writeln!(out, "warning: {note}")?;
    }
    if quiet {
        return Ok(());
    }
    for note in report.outcome.notes.iter().filter(|note| !note.warning) {
        writeln!(out, "note: {note}")?;
    }
    for cost in &report.costs {
        writeln!(out, "accepted: {cost}")?;
    }
    let warnings = report.outcome.notes.iter().filter(|note| note.warning).count();
    writeln!(
        out,
        "{} accepted, {} refusals, {warnings} warnings",
        report.outcome.policies.len(),
        report.outcome.refusals.len()
    )
}

fn json_lines(report: &manifest::Report, out: &mut impl Write) -> io::Result<()> {
    for refusal in &report.outcome.refusals {
        let line = json!({
            "verdict": "refused", "file": refusal.file, "line": refusal.at.line,
            "column": refusal.at.column, "field": refusal.field, "reason": refusal.reason,
            "fix": refusal.fix,
        });
        writeln!(out, "{line}")?;
    }
    for note in &report.outcome.notes {
        let line = json!({
            "verdict": if note.warning { "warning" } else { "note" }, "file": note.file,
            "line": note.at.line, "column": note.at.column, "field": note.field,
            "reason": note.text,
        });
        writeln!(out, "{line}")?;
    }
    for cost in &report.costs {
        let line = json!({
            "verdict": "accepted", "policy": cost.policy.to_string(), "entries": cost.entries,
            "mode": cost.mode.as_str(), "tooMany": cost.too_many,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}
