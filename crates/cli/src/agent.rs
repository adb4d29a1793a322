//! `signet agent`: flags to settings; the agent itself is the `agent` crate.

use std::net::SocketAddr;
use std::path::PathBuf;

use agent::{AgentConfig, AgentSettings, TcpSettings, Traces};
use clap::ValueEnum;
use policy::{AllowLocalhost, Enforcement};

use crate::error::Error;
use crate::export::ExportArgs;

/// Enforce policy on this node and tell what happens
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  signet agent --node node-a --pins /sys/fs/bpf/signet/host/node-a \\
    --state-dir /run/signet --cluster-dir /etc/signet/cluster")]
pub struct AgentArgs {
    /// Name of this node, as in its Node object
    #[arg(long)]
    node: String,

    /// Name of the cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,

    /// Folder on bpffs for what must outlive the agent
    #[arg(long, value_name = "DIR")]
    pins: PathBuf,

    /// Folder of the agent's own files
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,

    /// Folder of the cluster's manifests
    #[arg(long, value_name = "DIR")]
    cluster_dir: PathBuf,

    /// Cgroup v2 folder of this node's containers; without it flows name no process
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,

    /// Unix socket to serve on [default: agent.sock in the state folder]
    #[arg(long, value_name = "PATH")]
    listen: Option<PathBuf>,

    /// Flows kept for those who ask later
    #[arg(long, value_name = "N")]
    flow_buffer: Option<usize>,

    /// Whom policy binds
    #[arg(long, value_enum, default_value = "default", value_name = "WHOM")]
    enforcement: EnforcementArg,

    /// Whether the own node may always reach its pods
    #[arg(long, value_enum, default_value = "always", value_name = "WHEN")]
    allow_localhost: AllowLocalhostArg,

    /// Whether a selector that names no cluster means this one only
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    default_local_cluster: bool,

    /// Judge packets of the node itself on this device; again for each [default: those
    /// with an address of the node or a default route]
    #[arg(long, value_name = "DEVICE")]
    host_device: Vec<String>,

    /// Undo a new node policy unless `signet policy confirm` comes within so many seconds
    #[arg(long, value_name = "N")]
    host_policy_confirm_seconds: Option<u32>,

    /// Count flows for Prometheus: dns, drop, flow, flows-to-world, http, icmp, policy,
    /// port-distribution, tcp, each with options as for Hubble
    #[arg(long, value_name = "NAME[:OPTION=VALUE;...] ...", default_value = "")]
    metrics: String,

    /// Serve metrics there: a loopback address with a port, or unix://PATH
    #[arg(long, value_name = "PLACE")]
    metrics_listen: Option<String>,

    /// Most series of one metric; beyond, flows are counted as `other`
    #[arg(long, value_name = "N")]
    metrics_series: Option<usize>,

    /// Tell of connections after their first packet
    #[arg(long, value_enum, default_value = "end", value_name = "WHAT")]
    trace: TraceArg,

    #[command(flatten)]
    export: ExportArgs,

    #[command(flatten)]
    tcp: Option<TcpArgs>,

    /// Where others find what is served there [default: the address listened on, or that
    /// of the Node object]
    #[arg(long, value_name = "ADDRESS:PORT", requires = "tcp_listen", help_heading = "TCP")]
    tcp_advertise: Option<SocketAddr>,
}

/// Serving on TCP: mutual TLS, and only to those on a list.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TCP")]
#[group(requires_all = ["tcp_listen", "tls_cert_file", "tls_key_file", "tls_client_ca_files", "access_file"])]
pub struct TcpArgs {
    /// Serve there too [default: on the unix socket only]
    #[arg(long, value_name = "ADDRESS:PORT", required = false)]
    tcp_listen: SocketAddr,

    /// The server's certificate chain, in PEM
    #[arg(long, value_name = "FILE", required = false)]
    tls_cert_file: PathBuf,

    /// Its key, in PEM
    #[arg(long, value_name = "FILE", required = false)]
    tls_key_file: PathBuf,

    /// Roots of the clients' certificates, in PEM
    #[arg(long, value_name = "FILE", required = false)]
    tls_client_ca_files: PathBuf,

    /// Who may see which namespaces: {"readers": [{"name": "soc", "certificateSha256":
    /// "...", "namespaces": ["*"]}]}, or tokenSha256
    #[arg(long, value_name = "FILE", required = false)]
    access_file: PathBuf,
}

impl TcpArgs {
    /// What the flags mean.
    pub fn settings(self) -> TcpSettings {
        let Self { tcp_listen, tls_cert_file, tls_key_file, tls_client_ca_files, access_file } =
            self;
        TcpSettings {
            listen: tcp_listen,
            certificate: tls_cert_file,
            key: tls_key_file,
            clients: tls_client_ca_files,
            access: access_file,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EnforcementArg {
    /// Endpoints that a policy selects
    Default,
    /// Every endpoint
    Always,
    /// Nobody
    Never,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AllowLocalhostArg {
    /// Unless a rule denies it
    Always,
    /// Only if a rule allows it
    Policy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TraceArg {
    /// Nothing
    None,
    /// The end of TCP connections, and what they carried
    End,
    /// The first answer of every connection, too
    All,
}

/// Runs the agent until it is told to stop.
pub fn run(args: AgentArgs) -> Result<(), Error> {
    let config = AgentConfig::try_from(settings(args))
        .map_err(|error| Error::Usage(format!("cannot run with these settings: {error}")))?;
    Ok(agent::run(config)?)
}

fn settings(args: AgentArgs) -> AgentSettings {
    // No `..`: a new flag does not compile until it is handled here.
    let AgentArgs {
        node,
        cluster,
        pins,
        state_dir,
        cluster_dir,
        cgroup,
        listen,
        flow_buffer,
        enforcement,
        allow_localhost,
        default_local_cluster,
        host_device,
        host_policy_confirm_seconds,
        metrics,
        metrics_listen,
        metrics_series,
        trace,
        export,
        tcp,
        tcp_advertise,
    } = args;
    let mut standard = AgentSettings::new(node, pins, state_dir, cluster_dir);
    standard.limits.traces = match trace {
        TraceArg::None => Traces::None,
        TraceArg::End => Traces::End,
        TraceArg::All => Traces::All,
    };
    AgentSettings {
        cluster: cluster.unwrap_or(standard.cluster),
        cgroup,
        listen,
        flow_buffer: flow_buffer.unwrap_or(standard.flow_buffer),
        enforcement: match enforcement {
            EnforcementArg::Default => Enforcement::Default,
            EnforcementArg::Always => Enforcement::Always,
            EnforcementArg::Never => Enforcement::Never,
        },
        allow_localhost: match allow_localhost {
            AllowLocalhostArg::Always => AllowLocalhost::Always,
            AllowLocalhostArg::Policy => AllowLocalhost::Policy,
        },
        default_local_cluster,
        host_devices: host_device,
        host_policy_confirm_seconds: host_policy_confirm_seconds
            .unwrap_or(standard.host_policy_confirm_seconds),
        metrics,
        metrics_listen,
        metrics_series: metrics_series.unwrap_or(standard.metrics_series),
        export: export.settings(),
        tcp: tcp.map(TcpArgs::settings),
        tcp_advertise,
        ..standard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: AgentArgs,
    }

    fn parse(more: &str) -> Result<AgentSettings, String> {
        let words = "agent --node n --pins /p --state-dir /s --cluster-dir /c";
        let words = words.split_whitespace().chain(more.split_whitespace());
        <Line as clap::Parser>::try_parse_from(words)
            .map(|line| settings(line.args))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_listens_on_a_network_unless_asked_for() {
        let settings = parse("").unwrap();
        assert_eq!((settings.tcp, settings.metrics_listen), (None, None));
    }

    #[test]
    fn tcp_needs_certificates_and_a_list() {
        let files = "--tls-cert-file a --tls-key-file b --tls-client-ca-files c --access-file d";
        let settings = parse(&format!("--tcp-listen 10.0.0.1:4244 {files}")).unwrap();
        assert_eq!(settings.tcp.unwrap().access, PathBuf::from("d"));
        assert!(parse("--tcp-listen 10.0.0.1:4244").is_err());
        assert!(parse(files).is_err());
    }
}
