//! `signet lab`: flags to commands; the lab itself is the `lab` crate.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use lab::Exec;
use lab::command::{Command, Format, ProbeFormat, Target};

/// What to do with labs.
#[derive(Debug, clap::Subcommand)]
pub enum LabCommand {
    /// Make the lab of a folder of manifests: nodes, pods, policies, all real
    #[command(after_help = "Example:\n  signet lab up examples/tiny")]
    Up {
        /// Folder of manifests, one of them a Lab
        directory: PathBuf,
    },
    /// Take a lab away, with everything that is its own
    #[command(after_help = "Examples:\n  signet lab down\n  signet lab down --all")]
    Down {
        /// Its folder or its name [default: the only lab]
        lab: Option<PathBuf>,
        /// Every lab of this host
        #[arg(long, conflicts_with = "lab")]
        all: bool,
    },
    /// Show what runs
    #[command(after_help = "Example:\n  signet lab status -o json")]
    Status {
        /// Name of a lab [default: all]
        lab: Option<String>,
        /// Form of the output
        #[arg(short, long, value_enum, default_value = "table")]
        output: FormatArg,
    },
    /// Run a command in a pod
    #[command(after_help = "Example:\n  signet lab exec payment/pay-svc -- nc -w1 ledger-db 5432")]
    Exec {
        /// Name of the lab [default: the only one]
        #[arg(long, value_name = "NAME")]
        lab: Option<String>,
        /// Container of the pod [default: the first]
        #[arg(short, long, value_name = "NAME")]
        container: Option<String>,
        /// The pod
        #[arg(value_name = "NAMESPACE/POD")]
        pod: String,
        /// Program and arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Be the name server of a lab: one of its pods runs this
    #[command(
        hide = true,
        after_help = "Example:\n  signet lab dns --cluster-dir /run/signet/cluster --host bank.example=198.51.100.7"
    )]
    Dns {
        /// Folder of the cluster's objects
        #[arg(long, value_name = "DIR")]
        cluster_dir: PathBuf,
        /// A name outside the cluster and its addresses
        #[arg(long, value_name = "NAME=ADDRESS,...", value_parser = host)]
        host: Vec<(String, Vec<IpAddr>)>,
    },
    /// Run probes with real traffic and compare with what they expect
    #[command(after_help = "\
Examples:
  signet lab probe examples/tiny/probes.jsonl
  signet lab probe examples/tiny/probes.jsonl --manifests examples/tiny")]
    Probe {
        /// Name of the lab [default: the only one]
        #[arg(long, value_name = "NAME")]
        lab: Option<String>,
        /// File of probes, one JSON object a line
        file: PathBuf,
        /// Folder of manifests; what they mean is compared, too
        #[arg(long, value_name = "DIR")]
        manifests: Vec<PathBuf>,
        /// Form of the output
        #[arg(short, long, value_enum, default_value = "table")]
        output: ProbeFormatArg,
    },
}

/// How answers to probes are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ProbeFormatArg {
    /// For people: a line for each probe
    Table,
    /// For people: a line for each `cell` that probes name
    Cells,
    /// For programs
    #[value(alias = "jsonl")]
    Json,
}

impl From<ProbeFormatArg> for ProbeFormat {
    fn from(format: ProbeFormatArg) -> Self {
        match format {
            ProbeFormatArg::Table => Self::Table,
            ProbeFormatArg::Cells => Self::Cells,
            ProbeFormatArg::Json => Self::Json,
        }
    }
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormatArg {
    /// For people
    Table,
    /// For programs
    Json,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Table => Self::Table,
            FormatArg::Json => Self::Json,
        }
    }
}

/// `name=address,address`.
fn host(text: &str) -> Result<(String, Vec<IpAddr>), String> {
    let (name, addresses) = text.split_once('=').ok_or("write it as NAME=ADDRESS")?;
    let parse = |text: &str| text.parse().map_err(|_| format!("`{text}` is not an IP address"));
    let addresses = addresses.split(',').map(parse).collect::<Result<_, _>>()?;
    Ok((name.to_ascii_lowercase(), addresses))
}

/// Runs the command; the lab's own exit status.
pub fn run(command: LabCommand) -> u8 {
    lab::command::run(match command {
        LabCommand::Up { directory } => Command::Up { directory },
        LabCommand::Down { all: true, .. } => Command::Down { target: Target::All },
        LabCommand::Down { lab: Some(lab), .. } => Command::Down { target: Target::One(lab) },
        LabCommand::Down { lab: None, .. } => Command::Down { target: Target::Only },
        LabCommand::Status { lab, output } => Command::Status { lab, format: output.into() },
        LabCommand::Exec { lab, container, pod, command } => {
            Command::Exec { lab, exec: Exec { pod, container, command } }
        }
        LabCommand::Dns { cluster_dir, host } => {
            Command::Dns { cluster: cluster_dir, hosts: host.into_iter().collect() }
        }
        LabCommand::Probe { lab, file, manifests, output } => {
            Command::Probe { lab, file, manifests, format: output.into() }
        }
    })
}
