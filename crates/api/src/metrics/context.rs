//! Labels that say between whom a flow was.

use model::{IdentityId, Reserved};

use super::family::{Labels, PodName};
use super::plugin::{EndContext, Plugin};
use crate::proto::flow::{Endpoint, Flow, TrafficDirection};

/// How one end is named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Context {
    App,
    Dns,
    Identity,
    Ip,
    Namespace,
    Pod,
    PodName,
    ReservedIdentity,
    Workload,
    WorkloadName,
}

const CONTEXTS: [(&str, Context); 10] = [
    ("app", Context::App),
    ("dns", Context::Dns),
    ("identity", Context::Identity),
    ("ip", Context::Ip),
    ("namespace", Context::Namespace),
    ("pod", Context::Pod),
    ("pod-name", Context::PodName),
    ("reserved-identity", Context::ReservedIdentity),
    ("workload", Context::Workload),
    ("workload-name", Context::WorkloadName),
];

/// One end of a flow.
struct End<'a> {
    endpoint: Option<&'a Endpoint>,
    names: &'a [String],
    ip: &'a str,
}

impl<'a> End<'a> {
    fn source(flow: &'a Flow) -> Self {
        let ip = flow.ip.as_ref().map_or("", |ip| &ip.source);
        Self { endpoint: flow.source.as_ref(), names: &flow.source_names, ip }
    }

    fn destination(flow: &'a Flow) -> Self {
        let ip = flow.ip.as_ref().map_or("", |ip| &ip.destination);
        Self { endpoint: flow.destination.as_ref(), names: &flow.destination_names, ip }
    }

    fn field(&self, field: impl Fn(&'a Endpoint) -> &'a str) -> &'a str {
        self.endpoint.map_or("", field)
    }

    fn workload(&self) -> (&'a str, &'a str) {
        let first = self.endpoint.and_then(|end| end.workloads.first());
        first.map_or(("", ""), |workload| (&workload.name, &workload.kind))
    }

    /// The name of the application, as its labels give it.
    fn app(&self) -> &'a str {
        let labels = self.endpoint.map_or(&[][..], |end| &end.labels);
        let keys = ["k8s:app.kubernetes.io/name=", "k8s:k8s-app=", "k8s:app="];
        keys.iter()
            .find_map(|key| labels.iter().find_map(|label| label.strip_prefix(key)))
            .unwrap_or("")
    }

    fn reserved(&self) -> String {
        let number = self.endpoint.map_or(0, |end| end.identity);
        let reserved = IdentityId::try_from(number).ok().and_then(Reserved::from_id);
        reserved.map_or_else(String::new, |reserved| format!("reserved:{}", reserved.name()))
    }

    fn qualified(&self, name: &str) -> String {
        match (self.field(|end| &end.namespace), name) {
            (_, "") => String::new(),
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        }
    }
}

impl Context {
    pub(super) fn new(name: &str) -> Option<Self> {
        CONTEXTS.iter().find(|(known, _)| *known == name).map(|(_, context)| *context)
    }

    pub(super) fn names() -> String {
        CONTEXTS.map(|(name, _)| name).join(", ")
    }

    fn value(self, end: &End<'_>) -> String {
        match self {
            Self::App => end.app().to_owned(),
            Self::Dns => end.names.join(","),
            Self::Identity => end.endpoint.map_or_else(String::new, |end| end.labels.join(",")),
            Self::Ip => end.ip.to_owned(),
            Self::Namespace => end.field(|end| &end.namespace).to_owned(),
            Self::Pod => end.qualified(end.field(|end| &end.pod_name)),
            Self::PodName => end.field(|end| &end.pod_name).to_owned(),
            Self::ReservedIdentity => end.reserved(),
            Self::Workload => end.qualified(end.workload().0),
            Self::WorkloadName => end.workload().0.to_owned(),
        }
    }
}

/// A label of its own, with a name that says of which end and what.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelContext {
    name: &'static str,
    value: fn(&Flow) -> String,
}

const LABELS: [LabelContext; 13] = [
    label("source_ip", |flow| End::source(flow).ip.to_owned()),
    label("source_namespace", |flow| Context::Namespace.value(&End::source(flow))),
    label("source_pod", |flow| Context::PodName.value(&End::source(flow))),
    label("source_workload", |flow| End::source(flow).workload().0.to_owned()),
    label("source_workload_kind", |flow| End::source(flow).workload().1.to_owned()),
    label("source_app", |flow| End::source(flow).app().to_owned()),
    label("destination_ip", |flow| End::destination(flow).ip.to_owned()),
    label("destination_namespace", |flow| Context::Namespace.value(&End::destination(flow))),
    label("destination_pod", |flow| Context::PodName.value(&End::destination(flow))),
    label("destination_workload", |flow| End::destination(flow).workload().0.to_owned()),
    label("destination_workload_kind", |flow| End::destination(flow).workload().1.to_owned()),
    label("destination_app", |flow| End::destination(flow).app().to_owned()),
    label("traffic_direction", |flow| match flow.traffic_direction() {
        TrafficDirection::Ingress => "ingress".to_owned(),
        TrafficDirection::Egress => "egress".to_owned(),
        TrafficDirection::Unknown => "unknown".to_owned(),
    }),
];

const fn label(name: &'static str, value: fn(&Flow) -> String) -> LabelContext {
    LabelContext { name, value }
}

impl LabelContext {
    pub(super) fn new(name: &str) -> Option<Self> {
        LABELS.into_iter().find(|label| label.name == name)
    }

    pub(super) fn names() -> String {
        LABELS.map(|label| label.name).join(", ")
    }
}

/// The labels that a metric's settings add to a flow.
pub(super) fn labels(plugin: &Plugin, flow: &Flow) -> Labels {
    let mut labels: Labels =
        plugin.labels.iter().map(|label| (label.name, (label.value)(flow))).collect();
    let sides = [
        ("source", &plugin.source, End::source(flow)),
        ("destination", &plugin.destination, End::destination(flow)),
    ];
    for (name, context, end) in sides {
        if context.is_set() {
            labels.push((name, first(context, flow, &end)));
        }
    }
    labels
}

/// The first alternative that has a value.
fn first(context: &EndContext, flow: &Flow, end: &End<'_>) -> String {
    let directed = match flow.traffic_direction() {
        TrafficDirection::Egress => &context.egress,
        TrafficDirection::Ingress => &context.ingress,
        TrafficDirection::Unknown => &context.always,
    };
    let contexts = if directed.is_empty() { &context.always } else { directed };
    contexts
        .iter()
        .map(|context| context.value(end))
        .find(|value| !value.is_empty())
        .unwrap_or_default()
}

/// The pods that such labels are about: those whose name or address is one of the values.
pub(super) fn pods(labels: &Labels, flow: &Flow) -> Vec<PodName> {
    if labels.is_empty() {
        return vec![];
    }
    let ends = [End::source(flow), End::destination(flow)];
    let named = ends.iter().filter(|end| {
        let name = end.field(|end| &end.pod_name);
        let own = [name.to_owned(), end.qualified(name), end.ip.to_owned()];
        !name.is_empty() && labels.iter().any(|(_, value)| own.contains(value))
    });
    let name = |end: &End<'_>| {
        let text = |field: &str| field.to_owned();
        (text(end.field(|end| &end.namespace)), text(end.field(|end| &end.pod_name)))
    };
    named.map(name).collect()
}
