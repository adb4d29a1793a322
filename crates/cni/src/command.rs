//! The commands of the CNI specification: from variables and stdin to stdout and
//! an exit code.
//!
//! [`run`] is the process, [`execute`] the same without one. Each command has its
//! own file; `unwire` is what DEL does and what ADD does when it fails, so that
//! there is one way down.

mod add;
mod chained;
mod check;
mod del;
mod status;
mod unwire;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::config::{self, NetworkConfig};
use crate::environment::{self, Request};
use crate::failure::{Code, Failure, causes};
use crate::programs::{Pinned, Programs, ProgramsError};
use crate::version::Version;

/// Larger than any network configuration.
const LARGEST_INPUT: u64 = 1024 * 1024;

/// What a command answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Whether it did what it was asked.
    pub succeeded: bool,
    /// For stdout; nothing for commands whose success has nothing to say.
    pub answer: Option<Value>,
    /// For stderr, one line each: what an operator should know of a success.
    pub notes: Vec<String>,
}

/// The success of a command.
#[derive(Debug, Default)]
struct Done {
    answer: Option<Value>,
    notes: Vec<String>,
}

/// What every command works with.
struct Node<'a> {
    config: &'a NetworkConfig,
    programs: &'a dyn Programs,
}

/// Runs the plugin as a process: `CNI_*` variables and stdin in, stdout, stderr
/// and the exit code out.
pub fn run() -> ExitCode {
    let mut input = String::new();
    let read = io::stdin().lock().take(LARGEST_INPUT).read_to_string(&mut input);
    let outcome = match read {
        Ok(_) => execute(&|name| std::env::var(name).ok(), &input, &Pinned),
        Err(error) => {
            let failure = Failure::new(Code::Io, format!("cannot read stdin: {error}"));
            failed(&failure, Version::NEWEST)
        }
    };
    for note in &outcome.notes {
        eprintln!("signet cni: {note}");
    }
    let printed = match &outcome.answer {
        Some(answer) => writeln!(io::stdout().lock(), "{answer}"),
        None => Ok(()),
    };
    if outcome.succeeded && printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Does what the variables and the input ask for, in the calling thread's network
/// namespace, which is the node's.
pub fn execute(
    variable: &dyn Fn(&str) -> Option<String>,
    input: &str,
    programs: &dyn Programs,
) -> Outcome {
    let version = config::version(input).unwrap_or(Version::NEWEST);
    match dispatch(variable, input, programs) {
        Ok(Done { answer, notes }) => Outcome { succeeded: true, answer, notes },
        Err(failure) => failed(&failure, version),
    }
}

fn failed(failure: &Failure, version: Version) -> Outcome {
    Outcome { succeeded: false, answer: Some(failure.to_json(version)), notes: Vec::new() }
}

fn dispatch(
    variable: &dyn Fn(&str) -> Option<String>,
    input: &str,
    programs: &dyn Programs,
) -> Result<Done, Failure> {
    let request = environment::read(variable)?;
    if request == Request::Version {
        return Ok(Done { answer: Some(versions(input)), notes: Vec::new() });
    }
    let config = NetworkConfig::read(input)?;
    let node = Node { config: &config, programs };
    match request {
        Request::Add { attachment, netns, pod } if config.chained => {
            let (node, attachment, netns, pod) = (&node, &attachment, &*netns, &pod);
            chained::add(&add::Addition { node, attachment, netns, pod })
        }
        Request::Del { attachment } if config.chained => chained::del(&node, &attachment),
        Request::Check { attachment, netns } if config.chained => {
            chained::check(&node, &attachment, &netns)
        }
        Request::Gc if config.chained => chained::gc(&node),
        Request::Add { attachment, netns, pod } => {
            add::Addition { node: &node, attachment: &attachment, netns: &netns, pod: &pod }.add()
        }
        Request::Del { attachment } => del::del(&node, &attachment),
        Request::Check { attachment, netns } => check::check(&node, &attachment, &netns),
        Request::Gc => del::gc(&node),
        Request::Status => status::status(&node),
        Request::Version => Ok(Done::default()),
    }
}

/// The failure when the datapath would not `action` the programs of an interface.
fn refused(action: &str, interface: &str, error: &ProgramsError) -> Failure {
    let (code, message) = match error {
        // Whatever was tried: an agent must run first, and then it will work.
        ProgramsError::NotInstalled { .. } => (Code::TryLater, error.to_string()),
        ProgramsError::Refused(_) => {
            (Code::Programs, format!("cannot {action} `{interface}`: {error}"))
        }
    };
    Failure { code, message, details: causes(error) }
}

/// CNI specification, "VERSION": the asked version comes back as it was given.
fn versions(input: &str) -> Value {
    let asked: Option<Value> = serde_json::from_str(input).ok();
    let asked = asked.as_ref().and_then(|asked| asked.get("cniVersion")).and_then(Value::as_str);
    json!({
        "cniVersion": asked.unwrap_or(Version::NEWEST.as_str()),
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
}

/// GC and STATUS came with 1.1.0; an older caller means something else.
fn needs_1_1(config: &NetworkConfig, command: &str) -> Result<(), Failure> {
    if config.version >= Version::V1_1_0 {
        return Ok(());
    }
    Err(Failure::new(
        Code::IncompatibleVersion,
        format!("{command} came with cniVersion 1.1.0, the configuration says {}", config.version),
    ))
}
