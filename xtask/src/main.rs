//! Build logic of the repository: what `make` and CI call.

mod clang;
mod codegen;
mod lint;
mod long;
mod pictures;
mod process;
mod repository;
mod vm;
mod worlds;

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// What `vm` returns when the command did not run to its end.
const NO_ANSWER: u8 = 125;

#[derive(Parser)]
#[command(about = "Build logic: code generation, virtual machines, test worlds, benchmarks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Generate crate `abi` from the types that the kernel programs use.
    Codegen {
        /// Write nothing; fail when the committed file is stale.
        #[arg(long)]
        check: bool,
    },
    /// Check format, lints, generated code, architecture, licences, C warnings and scripts.
    Lint,
    /// Take the documentation's pictures: the demo and some commands on its lab.
    Pictures {
        /// The program to show, other than the release build.
        #[arg(long, value_name = "PATH")]
        signet: Option<PathBuf>,
    },
    /// Measure nanoseconds per packet.
    Bench,
    /// Run the long tests.
    Soak {
        /// How long each may run.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
    },
    /// Feed hostile input to the parsers.
    Fuzz {
        /// Only this target.
        target: Option<String>,
        /// How long each runs.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
    },
    /// Run the tests on this host and under stock kernels, and compare how many ran.
    Test {
        /// Only this world of tests/worlds.toml; may be repeated.
        #[arg(long = "world", value_name = "WORLD")]
        worlds: Vec<String>,
        /// Write how many tests ran to tests/worlds.toml.
        #[arg(long)]
        bless: bool,
    },
    /// Run a command as root under a stock Debian kernel, on this machine's files.
    #[command(after_help = "Example: cargo xtask vm --kernel 6.1 -- uname -r")]
    Vm {
        /// The kernel series: 6.1 or 6.12.
        #[arg(long, value_name = "SERIES")]
        kernel: String,
        /// Virtual processors.
        #[arg(long, default_value_t = 2)]
        cpus: u32,
        /// Seconds until the guest is killed.
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
        timeout: u64,
        /// The command; its exit code becomes ours, or 125 when there is none.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode, Box<dyn Error>> {
    match task {
        Task::Codegen { check } => codegen::run(check)?,
        Task::Lint => return Ok(verdict(lint::run())),
        Task::Pictures { signet } => pictures::run(signet.as_deref())?,
        Task::Bench => long::bench()?,
        Task::Soak { minutes } => long::soak(minutes)?,
        Task::Fuzz { target, minutes } => long::fuzz(target.as_deref(), minutes)?,
        Task::Test { worlds, bless } => return Ok(verdict(worlds::run(&worlds, bless)?)),
        Task::Vm { kernel, cpus, timeout, command } => {
            let timeout = Duration::from_secs(timeout);
            let machine = vm::Machine { series: kernel, cpus, timeout, prefix: None };
            return Ok(
                match vm::Share::create().and_then(|share| vm::run(&machine, &share, &command)) {
                    Ok(code) => ExitCode::from(code),
                    Err(error) => {
                        report(&error);
                        ExitCode::from(NO_ANSWER)
                    }
                },
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn verdict(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The error and everything that caused it, one line each.
fn report(error: &dyn Error) {
    eprintln!("xtask: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because {error}");
        cause = error.source();
    }
}
