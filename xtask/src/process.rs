//! Running other programs: say what runs, and say plainly when it fails.
//!
//! Does not know what the programs do.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::{env, io};

use crate::repository;

/// Why a program did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or may not be executed.
    #[error("cannot start `{program}`; `.ci/bootstrap` installs what is missing")]
    Start {
        /// What was to be started.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It ended with another code than 0.
    #[error("`{command}` failed: {status}{detail}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed, when that was captured.
        detail: String,
    },
}

/// A command that runs in the repository's root and finds the repository's own tools.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(repository::root()).env("PATH", path()).stdin(Stdio::null());
    command
}

/// The search path: as the caller's, with the repository's own tools last.
pub fn path() -> OsString {
    let inherited = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&inherited).chain([repository::tools()]);
    env::join_paths(places).unwrap_or(inherited)
}

/// Where `program` would be found, if anywhere.
pub fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&path()).map(|place| place.join(program)).find(|file| file.is_file())
}

/// Prints the command line and runs it; its output goes where ours goes.
pub fn run(command: &mut Command) -> Result<(), Error> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command.status().map_err(|source| start(command, source))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { command: line, status, detail: String::new() })
}

/// Runs the command silently and returns what it wrote to standard output.
pub fn output(command: &mut Command) -> Result<Vec<u8>, Error> {
    let output = command.output().map_err(|source| start(command, source))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let detail = format!("\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    Err(Error::Failed { command: line(command), status: output.status, detail })
}

/// The command as one would type it, relative to the repository.
fn line(command: &Command) -> String {
    let root = format!("{}/", repository::root().display());
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().replace(&root, "")).collect();
    words.join(" ")
}

fn start(command: &Command, source: io::Error) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}
