//! Which metrics are on, written as for Hubble: `drop`, or
//! `flow:sourceContext=workload|dns;labelsContext=source_namespace,destination_namespace`.

use super::context::{Context, LabelContext};

/// Why a metric's settings are refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PluginError {
    /// No metric of this name.
    #[error("no metric `{0}`: there are {names}", names = NAMES.join(", "))]
    Unknown(String),
    /// The metric has no such option.
    #[error("metric `{metric}` has no option `{option}`")]
    Option {
        /// Which metric.
        metric: String,
        /// As it was written.
        option: String,
    },
    /// The option's value means nothing.
    #[error("option `{option}` of metric `{metric}`: `{value}` is none of {allowed}")]
    Value {
        /// Which metric.
        metric: String,
        /// Which option.
        option: String,
        /// As it was written.
        value: String,
        /// What it could have been.
        allowed: String,
    },
    /// The same metric twice.
    #[error("metric `{0}` is given twice")]
    Twice(String),
}

const NAMES: [&str; 10] = [
    "dns",
    "drop",
    "flow",
    "flows-to-world",
    "http",
    "httpV2",
    "icmp",
    "policy",
    "port-distribution",
    "tcp",
];

/// What one metric counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Dns { query: bool, ignore_aaaa: bool },
    Drop,
    Flow,
    FlowsToWorld { any_drop: bool, port: bool, syn_only: bool },
    Http,
    Icmp,
    Policy,
    PortDistribution,
    Tcp,
}

/// The contexts that name one end: alternatives, the first that has a value wins.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct EndContext {
    pub(super) always: Vec<Context>,
    pub(super) egress: Vec<Context>,
    pub(super) ingress: Vec<Context>,
}

impl EndContext {
    pub(super) fn is_set(&self) -> bool {
        !(self.always.is_empty() && self.egress.is_empty() && self.ingress.is_empty())
    }
}

/// A metric that is on.
#[derive(Clone, Debug)]
pub struct Plugin {
    pub(super) kind: Kind,
    pub(super) source: EndContext,
    pub(super) destination: EndContext,
    pub(super) labels: Vec<LabelContext>,
}

/// Reads a list, separated by blanks.
pub fn plugins(text: &str) -> Result<Vec<Plugin>, PluginError> {
    let mut found: Vec<(String, Plugin)> = Vec::new();
    for item in text.split_whitespace() {
        let (name, options) = item.split_once(':').unwrap_or((item, ""));
        // Both write the same metrics.
        let name = if name == "httpV2" { "http" } else { name };
        if found.iter().any(|(known, _)| known == name) {
            return Err(PluginError::Twice(name.to_owned()));
        }
        found.push((name.to_owned(), plugin(name, options)?));
    }
    Ok(found.into_iter().map(|(_, plugin)| plugin).collect())
}

fn plugin(name: &str, options: &str) -> Result<Plugin, PluginError> {
    let kind = match name {
        "dns" => Kind::Dns { query: false, ignore_aaaa: false },
        "drop" => Kind::Drop,
        "flow" => Kind::Flow,
        "flows-to-world" => Kind::FlowsToWorld { any_drop: false, port: false, syn_only: false },
        "http" => Kind::Http,
        "icmp" => Kind::Icmp,
        "policy" => Kind::Policy,
        "port-distribution" => Kind::PortDistribution,
        "tcp" => Kind::Tcp,
        other => return Err(PluginError::Unknown(other.to_owned())),
    };
    let mut plugin = Plugin {
        kind,
        source: EndContext::default(),
        destination: EndContext::default(),
        labels: vec![],
    };
    for option in options.split(';').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        plugin.set(name, key, value)?;
    }
    Ok(plugin)
}

impl Plugin {
    fn set(&mut self, metric: &str, option: &str, value: &str) -> Result<(), PluginError> {
        let unknown =
            || PluginError::Option { metric: metric.to_owned(), option: option.to_owned() };
        let refused = |value: &str, allowed: String| PluginError::Value {
            metric: metric.to_owned(),
            option: option.to_owned(),
            value: value.to_owned(),
            allowed,
        };
        let context =
            |name: &str| Context::new(name).ok_or_else(|| refused(name, Context::names()));
        let contexts = || value.split('|').map(context).collect::<Result<Vec<_>, _>>();
        match (option, &mut self.kind) {
            ("sourceContext", _) => self.source.always = contexts()?,
            ("sourceEgressContext", _) => self.source.egress = contexts()?,
            ("sourceIngressContext", _) => self.source.ingress = contexts()?,
            ("destinationContext", _) => self.destination.always = contexts()?,
            ("destinationEgressContext", _) => self.destination.egress = contexts()?,
            ("destinationIngressContext", _) => self.destination.ingress = contexts()?,
            ("labelsContext", _) => {
                let label = |name: &str| {
                    LabelContext::new(name).ok_or_else(|| refused(name, LabelContext::names()))
                };
                self.labels = value.split(',').map(label).collect::<Result<_, _>>()?;
            }
            ("query", Kind::Dns { query, .. }) => *query = true,
            ("ignoreAAAA", Kind::Dns { ignore_aaaa, .. }) => *ignore_aaaa = true,
            ("any-drop", Kind::FlowsToWorld { any_drop, .. }) => *any_drop = true,
            ("port", Kind::FlowsToWorld { port, .. }) => *port = true,
            ("syn-only", Kind::FlowsToWorld { syn_only, .. }) => *syn_only = true,
            _ => return Err(unknown()),
        }
        Ok(())
    }
}
