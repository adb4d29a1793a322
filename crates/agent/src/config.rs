//! What an agent runs on, checked whole before anything is touched.
//!
//! [`AgentSettings`] is what an operator wrote, [`AgentConfig`] what is run.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use api::metrics::serve::Place;
use datapath::Limits;
use policy::{AllowLocalhost, Enforcement};

/// Exactly what an operator may write; nothing else reads it.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// Name of this node, as in its Node object.
    pub node: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Folder on bpffs that holds this node's kernel state.
    pub pins: PathBuf,
    /// Folder of the agent's own files and of the CNI plugin's records.
    pub state_dir: PathBuf,
    /// Folder of the cluster's manifests.
    pub cluster_dir: PathBuf,
    /// Cgroup v2 folder of this node's containers; `None`: no process is named.
    pub cgroup: Option<PathBuf>,
    /// Unix socket of the API; `None`: `agent.sock` in the state folder.
    pub listen: Option<PathBuf>,
    /// Sizes of the kernel's maps.
    pub limits: Limits,
    /// Flows that are kept for those who ask later.
    pub flow_buffer: usize,
    /// Whom policy binds.
    pub enforcement: Enforcement,
    /// Whether the own node may always reach its pods.
    pub allow_localhost: AllowLocalhost,
    /// Whether a peer selector that names no cluster means this one only.
    pub default_local_cluster: bool,
    /// Devices on which the node itself is judged; none: those that look like uplinks.
    pub host_devices: Vec<String>,
    /// How long a new node policy is in force before somebody must have confirmed it.
    pub host_policy_confirm_seconds: u32,
    /// What is counted for Prometheus, as Hubble writes it: `drop flow tcp`.
    pub metrics: String,
    /// Where metrics are served: a loopback address or `unix://PATH`; `None`: nowhere.
    pub metrics_listen: Option<String>,
    /// Most series of one metric.
    pub metrics_series: usize,
    /// Where flows are kept beyond this node's memory.
    pub export: api::export::Settings,
    /// Serving on TCP, to those on a list; `None`: on the unix socket only.
    pub tcp: Option<TcpSettings>,
    /// Where others find that; `None`: at the address listened on, or the Node's.
    pub tcp_advertise: Option<SocketAddr>,
}

/// Serving on TCP: where, and the files that say to whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TcpSettings {
    /// Address and port.
    pub listen: SocketAddr,
    /// The server's certificate chain, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// Roots of the clients' certificates, in PEM.
    pub clients: PathBuf,
    /// The list of readers.
    pub access: PathBuf,
}

/// The flows kept by default: four times the reference system's, about 16 MiB.
pub const FLOW_BUFFER: usize = 16_383;

/// Time enough to open a new session and to say that all is well.
const CONFIRM_SECONDS: u32 = 120;

/// A day: whoever is locked out for longer comes in person.
const CONFIRM_SECONDS_MAX: usize = 86_400;

/// A gibibyte: a flow is about 1 KiB.
const FLOW_BUFFER_MAX: usize = 1 << 20;

/// A series takes a few hundred bytes: 20 MiB for each metric.
const SERIES_MAX: usize = 1 << 16;

/// The longest a Kubernetes node name is.
const NAME_MAX: usize = 253;

/// The kernel's bound on the path of a unix socket, its final NUL included.
const SOCKET_PATH_MAX: usize = 108;

impl AgentSettings {
    /// The defaults around what has none.
    pub fn new(
        node: impl Into<String>,
        pins: impl Into<PathBuf>,
        state_dir: impl Into<PathBuf>,
        cluster_dir: impl Into<PathBuf>,
    ) -> Self {
        let policy = policy::Options::default();
        Self {
            node: node.into(),
            cluster: policy.cluster,
            pins: pins.into(),
            state_dir: state_dir.into(),
            cluster_dir: cluster_dir.into(),
            cgroup: None,
            listen: None,
            limits: Limits::default(),
            flow_buffer: FLOW_BUFFER,
            enforcement: policy.enforcement,
            allow_localhost: policy.allow_localhost,
            default_local_cluster: policy.default_local_cluster,
            host_devices: vec![],
            host_policy_confirm_seconds: CONFIRM_SECONDS,
            metrics: String::new(),
            metrics_listen: None,
            metrics_series: api::metrics::Settings::default().series,
            export: api::export::Settings::default(),
            tcp: None,
            tcp_advertise: None,
        }
    }
}

/// What an agent runs on: every value legal.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Name of this node.
    pub node: String,
    /// What the kernel side is given.
    pub datapath: datapath::Config,
    /// Folder of the agent's own files.
    pub state_dir: PathBuf,
    /// Folder of the cluster's manifests.
    pub cluster_dir: PathBuf,
    /// Unix socket of the API.
    pub listen: PathBuf,
    /// Flows that are kept.
    pub flow_buffer: usize,
    /// The meaning of what policies leave open, the cluster's name included.
    pub policy: policy::Options,
    /// Devices on which the node itself is judged; none: those that look like uplinks.
    pub host_devices: Vec<String>,
    /// How long a new node policy is in force without being confirmed.
    pub host_policy_confirm_seconds: u32,
    /// What is counted for Prometheus.
    pub metrics: api::metrics::Settings,
    /// Where that is served, if anywhere.
    pub metrics_listen: Option<Place>,
    /// Where flows are kept beyond this node's memory.
    pub export: api::export::Settings,
    /// Serving on TCP, if at all.
    pub tcp: Option<TcpSettings>,
    /// Where others find that, if not where it says itself.
    pub tcp_advertise: Option<SocketAddr>,
}

impl AgentConfig {
    /// Takes the sizes of maps that are there already.
    pub fn fit(&mut self, limits: Limits) {
        self.datapath.limits = limits;
        self.policy.max_entries = usize::try_from(limits.table_entries).unwrap_or(usize::MAX);
    }

    /// Where accepted policies are remembered.
    pub fn accepted_dir(&self) -> PathBuf {
        self.state_dir.join("accepted")
    }

    /// Where it is remembered which node policies were confirmed.
    pub fn trials_path(&self) -> PathBuf {
        self.state_dir.join("node-policies.json")
    }

    /// Where the CNI plugin leaves its records.
    pub fn endpoints_dir(&self) -> PathBuf {
        self.state_dir.join("endpoints")
    }
}

/// One setting that cannot be, and what it should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct ConfigFault {
    /// Name of the setting, as the command line spells it.
    pub setting: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// All that is wrong with the settings, at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError(pub Vec<ConfigFault>);

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

/// Collects faults instead of stopping at the first.
#[derive(Default)]
struct Check(Vec<ConfigFault>);

impl Check {
    fn that(&mut self, holds: bool, setting: &'static str, reason: impl Into<String>) {
        if !holds {
            self.0.push(ConfigFault { setting, reason: reason.into() });
        }
    }

    fn parsed<T, E: fmt::Display>(
        &mut self,
        setting: &'static str,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.that(false, setting, error.to_string())).ok()
    }

    fn name(&mut self, setting: &'static str, text: &str) {
        let sound = !text.is_empty()
            && text.len() <= NAME_MAX
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        self.that(sound, setting, format!("`{}` is not a Kubernetes name", text.escape_debug()));
    }

    fn absolute(&mut self, setting: &'static str, path: &Path) {
        let reason = format!("`{}` is not an absolute path", path.display());
        self.that(path.is_absolute(), setting, reason);
    }

    fn count(&mut self, setting: &'static str, value: usize, least: usize, most: usize) {
        let reason = format!("{value} is not between {least} and {most}");
        self.that((least..=most).contains(&value), setting, reason);
    }
}

/// Page size of the smallest ring that the kernel accepts on every architecture.
const RING_MIN: u32 = 64 << 10;

impl TryFrom<AgentSettings> for AgentConfig {
    type Error = ConfigError;

    fn try_from(settings: AgentSettings) -> Result<Self, ConfigError> {
        // No `..`: a new setting does not compile until it is handled here.
        let AgentSettings {
            node,
            cluster,
            pins,
            state_dir,
            cluster_dir,
            cgroup,
            listen,
            limits,
            flow_buffer,
            enforcement,
            allow_localhost,
            default_local_cluster,
            host_devices,
            host_policy_confirm_seconds,
            metrics,
            metrics_listen,
            metrics_series,
            export,
            tcp,
            tcp_advertise,
        } = settings;
        let listen = listen.unwrap_or_else(|| state_dir.join("agent.sock"));
        let mut check = Check::default();
        check.name("node", &node);
        check.name("cluster", &cluster);
        check.absolute("pins", &pins);
        check.absolute("state-dir", &state_dir);
        check.absolute("cluster-dir", &cluster_dir);
        if let Some(cgroup) = &cgroup {
            check.absolute("cgroup", cgroup);
        }
        check.absolute("listen", &listen);
        check.that(
            listen.as_os_str().len() < SOCKET_PATH_MAX,
            "listen",
            format!("`{}` is too long for a unix socket", listen.display()),
        );
        check.count("flow-buffer", flow_buffer, 1, FLOW_BUFFER_MAX);
        check_limits(&mut check, limits);
        let seconds = usize::try_from(host_policy_confirm_seconds).unwrap_or(usize::MAX);
        check.count("host-policy-confirm-seconds", seconds, 1, CONFIRM_SECONDS_MAX);
        let plugins = check.parsed("metrics", api::metrics::plugins(&metrics));
        let metrics_listen =
            metrics_listen.and_then(|place| check.parsed("metrics-listen", place.parse::<Place>()));
        check.parsed("export", export.selection.check());
        if let Some((collector, _)) = &export.collector {
            check.parsed("export-otlp", collector.check());
        }
        if let Some((file, _)) = &export.file {
            check.absolute("export-file", file);
        }
        check.count("metrics-series", metrics_series, 1, SERIES_MAX);
        if let Some(TcpSettings { listen, .. }) = &tcp {
            check.that(listen.port() != 0, "tcp-listen", "port 0 can be told to nobody");
        }
        if let Some(address) = tcp_advertise {
            let sound = !address.ip().is_unspecified() && address.port() != 0;
            check.that(sound, "tcp-advertise", format!("nobody can be met at {address}"));
        }
        if !check.0.is_empty() {
            return Err(ConfigError(check.0));
        }
        let max_entries = usize::try_from(limits.table_entries).unwrap_or(usize::MAX);
        Ok(Self {
            node,
            datapath: datapath::Config { pins, cgroup, limits },
            state_dir,
            cluster_dir,
            listen,
            flow_buffer,
            host_devices,
            host_policy_confirm_seconds,
            metrics: api::metrics::Settings {
                plugins: plugins.unwrap_or_default(),
                series: metrics_series,
            },
            metrics_listen,
            export,
            tcp,
            tcp_advertise,
            policy: policy::Options {
                enforcement,
                allow_localhost,
                cluster,
                default_local_cluster,
                max_entries,
                cidr_match: None,
                capabilities: policy::Capabilities {
                    labels: true,
                    ..policy::Capabilities::DATAPATH
                },
            },
        })
    }
}

fn check_limits(check: &mut Check, limits: Limits) {
    let Limits {
        endpoints,
        connections_per_endpoint,
        addresses,
        table_entries,
        services,
        backends,
        ring_bytes,
        drop_records,
        traces: _,
    } = limits;
    check.that(endpoints > 0, "max-endpoints", "must not be 0");
    check.that(connections_per_endpoint > 0, "max-connections", "must not be 0");
    check.that(addresses > 0, "max-addresses", "must not be 0");
    check.that(table_entries >= 2, "max-table-entries", "a table has at least its two defaults");
    check.that(services > 0, "max-services", "must not be 0");
    check.that(backends > 0, "max-backends", "must not be 0");
    check.that(drop_records > 0, "max-drop-records", "must not be 0");
    check.that(
        ring_bytes.is_power_of_two() && ring_bytes >= RING_MIN,
        "ring-bytes",
        format!("{ring_bytes} is not a power of two from {RING_MIN} on"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> AgentSettings {
        AgentSettings::new("one", "/sys/fs/bpf/signet/a/one", "/run/signet/a/one", "/run/c")
    }

    /// Which settings are refused.
    #[track_caller]
    fn check(change: impl FnOnce(&mut AgentSettings), refused: &[&str]) {
        let mut settings = settings();
        change(&mut settings);
        let names: Vec<&str> = match AgentConfig::try_from(settings) {
            Ok(_) => vec![],
            Err(ConfigError(faults)) => faults.iter().map(|fault| fault.setting).collect(),
        };
        assert_eq!(names, refused);
    }

    #[test]
    fn the_defaults_are_legal_and_the_socket_is_in_the_state_folder() {
        let config = AgentConfig::try_from(settings()).unwrap();
        assert_eq!(config.listen, Path::new("/run/signet/a/one/agent.sock"));
        assert_eq!(config.endpoints_dir(), Path::new("/run/signet/a/one/endpoints"));
        assert_eq!(config.policy.cluster, "default");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        check(
            |settings| {
                settings.node = "a/b".into();
                settings.pins = "relative".into();
                settings.flow_buffer = 0;
                settings.limits.ring_bytes = 5000;
            },
            &["node", "pins", "flow-buffer", "ring-bytes"],
        );
    }

    #[test]
    fn a_socket_path_that_the_kernel_would_cut_is_refused() {
        check(
            |settings| settings.listen = Some(format!("/{}", "x".repeat(120)).into()),
            &["listen"],
        );
    }

    #[test]
    fn empty_maps_are_refused() {
        check(
            |settings| {
                settings.limits.endpoints = 0;
                settings.limits.table_entries = 1;
            },
            &["max-endpoints", "max-table-entries"],
        );
    }
}
