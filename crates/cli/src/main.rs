//! The `signet` command: parses, wires, runs. What it does lives in the crates it calls.

mod agent;
mod endpoint;
mod error;
mod export;
mod identity;
mod lab;
mod list;
mod observe;
mod policy;
mod relay;
mod rows;
mod server;
mod service;
mod status;
mod table;
mod watch;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use error::Error;
use policy::PolicyCommand;

/// Zero trust for Kubernetes and Linux hosts: who may talk to whom, enforced in the kernel.
#[derive(Debug, Parser)]
#[command(name = "signet", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A small cluster on this host, made from manifests
    #[command(subcommand)]
    Lab(lab::LabCommand),
    Observe(Box<observe::args::ObserveArgs>),
    Status(status::StatusArgs),
    /// What serves flows, and what flows are about
    #[command(subcommand)]
    List(list::ListCommand),
    /// What changes
    #[command(subcommand)]
    Watch(watch::WatchCommand),
    /// Workload interfaces and what is in force on them
    #[command(subcommand)]
    Endpoint(endpoint::EndpointCommand),
    /// The numbers the kernel knows workloads by
    #[command(subcommand)]
    Identity(identity::IdentityCommand),
    /// Services: who answers for them
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Policies: in force, or refused and why
    #[command(subcommand)]
    Policy(PolicyCommand),
    Agent(Box<agent::AgentArgs>),
    Relay(relay::RelayArgs),
    /// Be the CNI plugin: variables and stdin as the CNI specification says
    #[command(
        after_help = "Example:\n  CNI_COMMAND=VERSION signet cni <<< '{\"cniVersion\":\"1.1.0\"}'"
    )]
    Cni,
    /// Print completions for a shell
    #[command(after_help = "Example:\n  signet completions bash > /etc/bash_completion.d/signet")]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if matches!(command, Command::Agent(_) | Command::Relay(_)) {
        tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
    }
    let result = match command {
        Command::Lab(command) => return ExitCode::from(lab::run(command)),
        Command::Cni => return cni::command::run(),
        Command::Agent(args) => agent::run(*args),
        Command::Relay(args) => block_on(relay::run(args)),
        Command::Observe(args) => block_on(observe::run(*args)),
        Command::List(command) => block_on(list::run(command)),
        Command::Watch(command) => block_on(watch::run(command)),
        Command::Status(args) => block_on(status::run(args)),
        Command::Endpoint(command) => block_on(endpoint::run(command)),
        Command::Identity(command) => block_on(identity::run(command)),
        Command::Service(command) => block_on(service::run(command)),
        Command::Policy(PolicyCommand::Check(args)) => {
            return ExitCode::from(policy::check::run(&args));
        }
        Command::Policy(PolicyCommand::Evaluate(args)) => {
            return ExitCode::from(policy::evaluate::run(&args));
        }
        Command::Policy(PolicyCommand::Served(command)) => block_on(policy::run(*command)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "signet", &mut io::stdout());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let status = error.exit_status();
            if status != 0 {
                eprintln!("signet: {}", error::chain(&error));
            }
            ExitCode::from(status)
        }
    }
}

/// Clients wait for one server: one thread is enough.
fn block_on(command: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn leaves(command: &clap::Command, path: &str, without: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            if command.get_subcommands().next().is_none() && command.get_after_help().is_none() {
                without.push(path.clone());
            }
            command.get_subcommands().for_each(|inner| leaves(inner, &path, without));
        }
        let mut without = Vec::new();
        leaves(&Cli::command(), "", &mut without);
        assert!(without.is_empty(), "{without:?}");
    }
}
