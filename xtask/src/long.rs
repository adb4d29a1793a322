//! Work that runs for as long as one lets it: benchmarks, long tests, fuzzing.
//!
//! Knows how to build and start it, not what it measures or tries.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::{process, repository};

/// Why it did not run, or what it found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It failed; for a fuzz target this is a finding.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// A directory that it needs cannot be used.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no such fuzz target.
    #[error("no fuzz target `{name}`; there are {known}")]
    NoTarget {
        /// As asked for.
        name: String,
        /// All that there are.
        known: String,
    },
}

/// What the compiler adds so that libFuzzer sees which input reaches new code. Stable
/// Rust has it; only the address sanitizer needs a nightly, and the code under test is safe.
const COVERAGE: &str = "--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cdebug-assertions -Coverflow-checks";

/// Seconds of each flood of flows.
const FLOOD_SECONDS: &str = "60";

/// Time per packet, round trips and memory of the kernel; how soon a change is in force
/// and what an agent takes of memory; then an agent under more flows than it can tell.
pub fn bench() -> Result<(), Error> {
    let example = |verb: &str, package: &str, name: &str| {
        let mut cargo = process::command("cargo");
        cargo.args([verb, "--release", "--package", package, "--example", name]);
        cargo
    };
    process::run(&mut example("run", "signet-datapath", "bench"))?;
    process::run(&mut example("run", "signet-agent", "limits"))?;
    process::run(&mut example("build", "signet-datapath", "generate"))?;
    let mut program = process::command("cargo");
    process::run(program.args(["build", "--release", "--package", "signet-cli"]))?;
    let signet = repository::target().join("release/signet");
    let mut flood = example("run", "signet-agent", "flood");
    Ok(process::run(flood.args(["--", FLOOD_SECONDS]).arg(signet))?)
}

/// The tests that are marked `#[ignore = "soak: ..."]` and whose names end in
/// `for_long`: other tests are ignored because another one starts them. They may
/// read `SIGNET_SOAK_MINUTES`.
pub fn soak(minutes: u64) -> Result<(), Error> {
    let mut tests = process::command("cargo");
    tests
        .args(["nextest", "run", "--workspace", "--release", "--profile", "soak"])
        .args(["--run-ignored", "only", "--no-tests", "fail", "--no-capture"])
        .args(["-E", "test(/for_long$/)"])
        .env("SIGNET_SOAK_MINUTES", minutes.to_string());
    Ok(process::run(&mut tests)?)
}

/// Feeds every fuzz target, or the named one, for that long. Ends at the first finding.
pub fn fuzz(only: Option<&str>, minutes: u64) -> Result<(), Error> {
    let fuzz = repository::root().join("fuzz");
    let targets = targets(&fuzz)?;
    if let Some(name) = only.filter(|name| !targets.iter().any(|target| target == name)) {
        return Err(Error::NoTarget { name: name.to_owned(), known: targets.join(", ") });
    }

    // With a target triple the flags spare build scripts, which do not link with them.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let built = repository::target().join("fuzz");
    let mut build = process::command("cargo");
    build.args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", &triple]);
    process::run(build.arg("--target-dir").arg(&built).env("RUSTFLAGS", COVERAGE))?;

    for target in targets.iter().filter(|target| only.is_none_or(|only| only == *target)) {
        let corpus = fuzz.join("corpus").join(target);
        let findings = fuzz.join("findings");
        for directory in [&corpus, &findings] {
            fs::create_dir_all(directory)
                .map_err(|source| Error::File { path: directory.clone(), source })?;
        }
        let mut run = process::command(built.join(&triple).join("release").join(target));
        run.arg(format!("-max_total_time={}", minutes * 60))
            .args([
                "-verbosity=0",
                "-print_final_stats=1",
                "-timeout=10",
                "-rss_limit_mb=4096",
                "-max_len=65536",
            ])
            .arg(format!("-artifact_prefix={}/{target}-", findings.display()))
            .arg(&corpus);
        let dictionary = fuzz.join("dictionaries").join(target);
        if dictionary.is_file() {
            run.arg(format!("-dict={}", dictionary.display()));
        }
        // The corpus grows and is not committed; the seeds are, and are only read.
        let seeds = fuzz.join("seeds").join(target);
        if seeds.is_dir() {
            run.arg(seeds);
        }
        process::run(&mut run)?;
    }
    Ok(())
}

/// The names of the fuzz targets: one file each.
fn targets(fuzz: &Path) -> Result<Vec<String>, Error> {
    let directory = fuzz.join("targets");
    let files = repository::files(&directory, ".rs")
        .map_err(|source| Error::File { path: directory, source })?;
    Ok(files
        .iter()
        .filter_map(|file| file.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .collect())
}
