//! `signet lab`: flags to commands; the lab itself is the `lab` crate.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use lab::Exec;
use lab::command::{Command, Format, ProbeFormat, Probes, Target};
use lab::label::Label;
use lab::probe::Run;
use lab::traffic::Load;

/// What to do with labs.
#[derive(Debug, clap::Subcommand)]
pub enum LabCommand {
    /// Make the lab of a folder of manifests: nodes, pods, policies, all real
    #[command(after_help = "Example:\n  signet lab up examples/tiny")]
    Up {
        /// Folder of manifests, one of them a Lab
        directory: PathBuf,
        /// Everything but the policies: the flat network Kubernetes starts with
        #[arg(long)]
        without_policies: bool,
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
    /// Make a running lab what manifests say: create, change, move, roll out
    #[command(
        after_help = "Examples:\n  signet lab apply examples/bank/policy-payment.yaml\n  signet lab apply examples/bank"
    )]
    Apply {
        /// Name of the lab [default: the only one]
        #[arg(long, value_name = "NAME")]
        lab: Option<String>,
        /// Cluster of the lab [default: the one among whose manifests it is, or the first]
        #[arg(long, value_name = "NAME")]
        cluster: Option<String>,
        /// File or folder of manifests
        path: PathBuf,
    },
    /// Take what manifests name out of a running lab
    #[command(after_help = "Example:\n  signet lab delete examples/bank/policy-dev.yaml")]
    Delete {
        /// Name of the lab [default: the only one]
        #[arg(long, value_name = "NAME")]
        lab: Option<String>,
        /// Cluster of the lab [default: the one among whose manifests it is, or the first]
        #[arg(long, value_name = "NAME")]
        cluster: Option<String>,
        /// File or folder of manifests
        path: PathBuf,
    },
    /// Change the labels of a running pod, and so who it is
    #[command(
        after_help = "Examples:\n  signet lab label dev/dev-pod app=pay-svc\n  signet lab label dev/dev-pod env-"
    )]
    Label {
        /// Name of the lab [default: the only one]
        #[arg(long, value_name = "NAME")]
        lab: Option<String>,
        /// The pod
        #[arg(value_name = "NAMESPACE/POD")]
        pod: String,
        /// New values, and labels to take away
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        labels: Vec<Label>,
    },
    /// Show what a pod, a host outside, an agent or the relay has printed
    #[command(
        after_help = "Examples:\n  signet lab logs banking/ledger-db\n  signet lab logs postgres-a\n  signet lab logs jakarta-1"
    )]
    Logs {
        /// Name of the lab [default: the only one]
        #[arg(long, value_name = "NAME")]
        lab: Option<String>,
        /// Container of a pod [default: the first]
        #[arg(short, long, value_name = "NAME")]
        container: Option<String>,
        /// Whose log; a node's is its agent's
        #[arg(value_name = "NAMESPACE/POD|HOST|NODE|relay")]
        what: String,
    },
    /// Start pods anew, here or on another node, or a node's agent
    #[command(
        after_help = "Examples:\n  signet lab restart payment/payment\n  signet lab restart payment/payment-1 --node jakarta-3\n  signet lab restart jakarta-1"
    )]
    Restart {
        /// Name of the lab [default: the only one]
        #[arg(long, value_name = "NAME")]
        lab: Option<String>,
        /// A pod, all pods of a workload one after the other, or a node's agent
        #[arg(value_name = "NAMESPACE/POD|NAMESPACE/WORKLOAD|NODE")]
        what: String,
        /// The node on which the pod runs from now on
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
    },
    /// Repeat probes as a steady load and count what is not as expected
    #[command(
        after_help = "Example:\n  signet lab traffic examples/bank/probes.jsonl --seconds 30 --rate 50"
    )]
    Traffic {
        /// Name of the lab [default: the only one]
        #[arg(long, value_name = "NAME")]
        lab: Option<String>,
        /// File of probes; those for TCP that are expected to be allowed are used
        file: PathBuf,
        /// How long
        #[arg(long, value_name = "N", default_value_t = 30)]
        seconds: u64,
        /// Connections a second, of all pods together
        #[arg(long, value_name = "N", default_value_t = 20)]
        rate: u32,
        /// Try also what is expected to be denied
        #[arg(long)]
        denied: bool,
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
  signet lab probe examples/tiny/probes.jsonl --manifests examples/tiny
  signet lab probe --from pod:dev/dev-pod --to pod:banking/ledger-db --port 5432")]
    Probe {
        /// Name of the lab [default: the only one]
        #[arg(long, value_name = "NAME")]
        lab: Option<String>,
        /// File of probes, one JSON object a line
        #[arg(required_unless_present = "from", conflicts_with = "from")]
        file: Option<PathBuf>,
        /// One probe from here, as `pod:NAMESPACE/NAME`, `node:NAME`, `ip:ADDRESS`
        #[arg(long, value_name = "END", requires = "to")]
        from: Option<String>,
        /// Where it goes
        #[arg(long, value_name = "END", requires = "from")]
        to: Option<String>,
        /// To this port of TCP, by number or name; without one it is a ping
        #[arg(long, value_name = "PORT", requires = "from")]
        port: Option<String>,
        /// Only probes that are expected to end like this
        #[arg(long, value_name = "VERDICT", value_parser = ["allowed", "denied"])]
        only: Option<String>,
        /// Probes at the same time; fewer where the machine is slow
        #[arg(long, value_name = "N", default_value_t = 24,
              value_parser = clap::value_parser!(u16).range(1..=256))]
        at_once: u16,
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
    /// Only how many did what
    Summary,
}

impl From<ProbeFormatArg> for ProbeFormat {
    fn from(format: ProbeFormatArg) -> Self {
        match format {
            ProbeFormatArg::Table => Self::Table,
            ProbeFormatArg::Cells => Self::Cells,
            ProbeFormatArg::Json => Self::Json,
            ProbeFormatArg::Summary => Self::Summary,
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
        LabCommand::Up { directory, without_policies } => {
            Command::Up { directory, policies: !without_policies }
        }
        LabCommand::Apply { lab, cluster, path } => Command::Apply { lab, cluster, path },
        LabCommand::Delete { lab, cluster, path } => Command::Delete { lab, cluster, path },
        LabCommand::Label { lab, pod, labels } => Command::Label { lab, pod, labels },
        LabCommand::Logs { lab, container, what } => Command::Logs { lab, what, container },
        LabCommand::Restart { lab, what, node } => Command::Restart { lab, what, node },
        LabCommand::Traffic { lab, file, seconds, rate, denied } => {
            Command::Traffic { lab, file, load: Load { seconds, rate, denied } }
        }
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
        LabCommand::Probe { lab, file, from, to, port, only, at_once, manifests, output } => {
            let what = match file {
                Some(file) => Probes::File(file),
                None => Probes::One(one_probe(from, to, port)),
            };
            let run = Run { only, at_once: at_once.into() };
            Command::Probe { lab, what, run, manifests, format: output.into() }
        }
    })
}

/// A probe as a line of a file.
fn one_probe(from: Option<String>, to: Option<String>, port: Option<String>) -> String {
    let mut probe = serde_json::json!({"id": "probe", "from": from, "to": to});
    match port.map(|port| (port.parse::<u16>(), port)) {
        Some((Ok(number), _)) => probe["port"] = number.into(),
        Some((Err(_), name)) => probe["port"] = name.into(),
        None => probe["protocol"] = "ICMP".into(),
    }
    probe.to_string()
}
