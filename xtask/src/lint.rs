//! Everything that can be said about the tree without running it.
//!
//! All checks run even when one fails: the list at the end is complete.

use std::io;
use std::path::{Path, PathBuf};

use crate::{clang, codegen, process, repository};

/// Why a check did not pass.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The program that checks says no.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// Crate `abi` is not what the kernel types say.
    #[error(transparent)]
    Codegen(#[from] codegen::Error),
    /// The tree cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// Which directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What became of a check that did not fail.
enum Outcome {
    Passed,
    /// This machine cannot: said, and not counted as passed.
    NotChecked,
}

type Check = fn() -> Result<Outcome, Error>;

const CHECKS: &[(&str, Check)] = &[
    ("format", format),
    ("clippy", clippy),
    ("generated code", generated_code),
    ("architecture", architecture),
    ("licences and sources", licences),
    ("advisories", advisories),
    ("kernel programs", kernel_programs),
    ("shell scripts", shell_scripts),
];

/// Runs all checks; returns whether all passed.
pub fn run() -> bool {
    let (mut passed, mut failed, mut left) = (0, Vec::new(), Vec::new());
    for (name, check) in CHECKS {
        eprintln!("\n== {name} ==");
        match check() {
            Ok(Outcome::Passed) => passed += 1,
            Ok(Outcome::NotChecked) => left.push(*name),
            Err(error) => {
                eprintln!("{error}");
                failed.push(*name);
            }
        }
    }
    eprintln!("\nlint: {passed} of {} checks passed", CHECKS.len());
    for (what, names) in [("failed", &failed), ("not checked", &left)] {
        if !names.is_empty() {
            eprintln!("lint: {what}: {}", names.join(", "));
        }
    }
    failed.is_empty()
}

fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Outcome, Error> {
    process::run(process::command("cargo").args(arguments))?;
    Ok(Outcome::Passed)
}

fn format() -> Result<Outcome, Error> {
    cargo(["fmt", "--all", "--check"])?;
    // A workspace of its own, because it is built with other flags.
    cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])
}

fn clippy() -> Result<Outcome, Error> {
    cargo(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
}

fn generated_code() -> Result<Outcome, Error> {
    codegen::run(true)?;
    Ok(Outcome::Passed)
}

fn architecture() -> Result<Outcome, Error> {
    cargo(["test", "--quiet", "--package", "xtask", "--test", "architecture"])
}

fn licences() -> Result<Outcome, Error> {
    cargo(["deny", "--log-level", "error", "check", "licenses", "bans", "sources"])
}

/// The database lies outside the package registries: not every machine may fetch it.
fn advisories() -> Result<Outcome, Error> {
    let mut fetch = process::command("timeout");
    fetch.args(["60", "cargo", "deny", "--log-level", "off", "fetch", "db"]);
    match process::output(&mut fetch) {
        Ok(_) => cargo(["deny", "--log-level", "error", "check", "advisories"]),
        Err(_) => {
            eprintln!("not checked: the advisory database cannot be reached from here");
            Ok(Outcome::NotChecked)
        }
    }
}

fn kernel_programs() -> Result<Outcome, Error> {
    for source in files(&repository::root().join("bpf"), ".bpf.c")? {
        let mut compile = clang::compile(&source, Path::new("/dev/null"));
        process::run(compile.args(["-Wall", "-Wextra", "-Werror"]))?;
    }
    Ok(Outcome::Passed)
}

fn shell_scripts() -> Result<Outcome, Error> {
    if process::find("shellcheck").is_none() {
        eprintln!("no shellcheck: `.ci/bootstrap lint` installs it");
    }
    let mut check = process::command("shellcheck");
    for directory in [".ci", "vm"] {
        let scripts = files(&repository::root().join(directory), "")?;
        check.args(scripts.into_iter().filter(|file| file.extension().is_none()));
    }
    check.args(files(&repository::root().join("examples"), ".sh")?);
    process::run(&mut check)?;
    Ok(Outcome::Passed)
}

fn files(directory: &Path, suffix: &str) -> Result<Vec<PathBuf>, Error> {
    repository::files(directory, suffix)
        .map_err(|source| Error::File { path: directory.to_path_buf(), source })
}
