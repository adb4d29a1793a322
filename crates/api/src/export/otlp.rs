//! Flows as OpenTelemetry's log records, and metrics as its metrics.
//!
//! Attribute names are those of the semantic conventions where one fits
//! (`source.address`, `network.transport`). Those for pods describe one resource
//! and a flow has two ends, so ours begin with `signet.source` and
//! `signet.destination`.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::metrics::v1::{
    self as otlp, AggregationTemporality, Gauge, Histogram, HistogramDataPoint, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::flow::detail::{Actor, Detail};
use crate::metrics::{BOUNDS, Metric, Sample, Shape, Text};
use crate::proto::flow::layer4::Protocol;
use crate::proto::flow::{Endpoint, Flow, Policy, Verdict};
use crate::proto::observer::GetFlowsResponse;
use crate::proto::observer::get_flows_response::ResponseTypes;
use crate::time::nanoseconds;

/// Severities of the log data model: an allowed flow informs, a drop warns.
const INFO: i32 = 9;
const WARN: i32 = 13;

/// Who exports.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Name of the node.
    pub node: String,
    /// Name of the cluster.
    pub cluster: String,
    /// When counting began, in nanoseconds since the epoch.
    pub started_ns: u64,
}

impl Origin {
    fn resource(&self) -> Resource {
        let attributes = [
            ("service.name", "signet-agent"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("k8s.node.name", &self.node),
            ("k8s.cluster.name", &self.cluster),
        ];
        Resource {
            attributes: attributes.into_iter().map(|(key, value)| text(key, value)).collect(),
            ..Resource::default()
        }
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "signet.flows".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

fn any(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: any(value), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

/// A batch as log records; what is neither flow nor loss is left out.
pub fn logs(batch: &[GetFlowsResponse], origin: &Origin) -> ExportLogsServiceRequest {
    let scope_logs = ScopeLogs {
        scope: Some(scope()),
        log_records: batch.iter().filter_map(record).collect(),
        ..ScopeLogs::default()
    };
    let resource_logs = ResourceLogs {
        resource: Some(origin.resource()),
        scope_logs: vec![scope_logs],
        ..ResourceLogs::default()
    };
    ExportLogsServiceRequest { resource_logs: vec![resource_logs] }
}

fn record(answer: &GetFlowsResponse) -> Option<LogRecord> {
    let time_unix_nano = answer.time.as_ref().map_or(0, nanoseconds);
    let (event, warns, body, attributes) = match answer.response_types.as_ref()? {
        ResponseTypes::Flow(flow) => (
            "signet.flow",
            flow.verdict == i32::from(Verdict::Dropped),
            flow.summary.clone(),
            flow_attributes(flow),
        ),
        ResponseTypes::LostEvents(lost) => {
            let number = i64::try_from(lost.num_events_lost).unwrap_or(i64::MAX);
            let attributes = vec![
                attribute("signet.lost.events", Value::IntValue(number)),
                text("signet.lost.source", lost.source().as_str_name()),
            ];
            ("signet.lost", true, format!("{number} events lost"), attributes)
        }
        ResponseTypes::NodeStatus(_) => return None,
    };
    Some(LogRecord {
        time_unix_nano,
        observed_time_unix_nano: time_unix_nano,
        severity_number: if warns { WARN } else { INFO },
        severity_text: if warns { "WARN" } else { "INFO" }.to_owned(),
        body: any(Value::StringValue(body)),
        attributes,
        event_name: event.to_owned(),
        ..LogRecord::default()
    })
}

fn flow_attributes(flow: &Flow) -> Vec<KeyValue> {
    let mut list = vec![
        text("signet.flow.uuid", &flow.uuid),
        text("signet.verdict", flow.verdict().as_str_name()),
        text("signet.direction", flow.traffic_direction().as_str_name()),
        text("signet.node", &flow.node_name),
    ];
    if flow.drop_reason_desc != 0 {
        list.push(text("signet.drop.reason", flow.drop_reason_desc().as_str_name()));
    }
    if let Some(ip) = &flow.ip {
        list.push(text("source.address", &ip.source));
        list.push(text("destination.address", &ip.destination));
    }
    list.extend(transport(flow));
    list.extend(end("source", flow.source.as_ref()));
    list.extend(end("destination", flow.destination.as_ref()));
    list.extend(policies(flow));
    if let Some(aggregate) = &flow.aggregate {
        let number = i64::from(aggregate.ingress_flow_count)
            + i64::from(aggregate.egress_flow_count)
            + i64::from(aggregate.unknown_direction_flow_count);
        list.push(attribute("signet.flow.count", Value::IntValue(number)));
    }
    if let Some(detail) = flow.extensions.as_ref().and_then(Detail::from_any) {
        list.extend(details(&detail));
    }
    list
}

fn transport(flow: &Flow) -> Vec<KeyValue> {
    let (name, ports) = match flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref()) {
        Some(Protocol::Tcp(tcp)) => ("tcp", Some((tcp.source_port, tcp.destination_port))),
        Some(Protocol::Udp(udp)) => ("udp", Some((udp.source_port, udp.destination_port))),
        Some(Protocol::Sctp(sctp)) => ("sctp", Some((sctp.source_port, sctp.destination_port))),
        Some(Protocol::IcmPv4(_)) => ("icmp", None),
        Some(Protocol::IcmPv6(_)) => ("icmpv6", None),
        Some(Protocol::Vrrp(_) | Protocol::Igmp(_)) | None => return vec![],
    };
    let port = |key, port: u32| attribute(key, Value::IntValue(port.into()));
    let ports = ports.map(|(source, destination)| {
        [port("source.port", source), port("destination.port", destination)]
    });
    let name = text("network.transport", name);
    std::iter::once(name).chain(ports.into_iter().flatten()).collect()
}

fn end(side: &str, endpoint: Option<&Endpoint>) -> Vec<KeyValue> {
    let Some(endpoint) = endpoint else {
        return vec![];
    };
    let workload = endpoint.workloads.first().map_or("", |workload| &workload.name);
    let names = [
        ("namespace", endpoint.namespace.as_str()),
        ("pod.name", &endpoint.pod_name),
        ("workload.name", workload),
    ];
    let set = names.into_iter().filter(|(_, value)| !value.is_empty());
    let names = set.map(|(key, value)| text(&format!("signet.{side}.{key}"), value));
    let identity = Value::IntValue(endpoint.identity.into());
    names.chain([attribute(&format!("signet.{side}.identity"), identity)]).collect()
}

fn policies(flow: &Flow) -> Option<KeyValue> {
    let lists = [
        &flow.egress_allowed_by,
        &flow.ingress_allowed_by,
        &flow.egress_denied_by,
        &flow.ingress_denied_by,
    ];
    let name = |policy: &Policy| match policy.namespace.as_str() {
        "" => format!("{}/{}", policy.kind, policy.name),
        namespace => format!("{}/{namespace}/{}", policy.kind, policy.name),
    };
    let names: Vec<String> = lists.into_iter().flatten().map(name).collect();
    (!names.is_empty()).then(|| text("signet.policies", &names.join(",")))
}

fn details(detail: &Detail) -> Vec<KeyValue> {
    let mut list = vec![text("signet.reason", &detail.reason)];
    if !detail.rules.is_empty() {
        list.push(text("signet.rules", &detail.rules.join(",")));
    }
    if let Some(shadow) = &detail.shadow {
        list.push(text("signet.shadow.verdict", &shadow.verdict));
        list.push(text("signet.shadow.reason", &shadow.reason));
        let names = if shadow.rules.is_empty() { &shadow.because } else { &shadow.rules };
        list.push(text("signet.shadow.rules", &names.join(",")));
    }
    for (side, actor) in [("source", &detail.source), ("destination", &detail.destination)] {
        if let Actor::Known(process) = actor {
            let key = |name: &str| format!("signet.{side}.process.{name}");
            list.push(attribute(&key("pid"), Value::IntValue(process.pid.into())));
            list.push(text(&key("executable.path"), &process.binary));
        }
    }
    list
}

/// Metrics as they stand at `now_ns`, counted since the agent started.
pub fn metrics(numbers: &Text, origin: &Origin, now_ns: u64) -> ExportMetricsServiceRequest {
    let metrics = numbers.metrics().iter().filter(|metric| !metric.samples.is_empty());
    let scope_metrics = ScopeMetrics {
        scope: Some(scope()),
        metrics: metrics.map(|metric| converted(metric, origin.started_ns, now_ns)).collect(),
        ..ScopeMetrics::default()
    };
    let resource_metrics = ResourceMetrics {
        resource: Some(origin.resource()),
        scope_metrics: vec![scope_metrics],
        ..ResourceMetrics::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }
}

fn converted(metric: &Metric, started_ns: u64, now_ns: u64) -> otlp::Metric {
    let attributes = |sample: &Sample| -> Vec<KeyValue> {
        sample.labels.iter().map(|(name, value)| text(name, value)).collect()
    };
    let number = |sample: &Sample| NumberDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: started_ns,
        time_unix_nano: now_ns,
        value: Some(number_data_point::Value::AsDouble(sample.value)),
        ..NumberDataPoint::default()
    };
    let histogram = |sample: &Sample| HistogramDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: started_ns,
        time_unix_nano: now_ns,
        count: sample.buckets.iter().sum(),
        sum: Some(sample.value),
        bucket_counts: sample.buckets.clone(),
        explicit_bounds: BOUNDS.to_vec(),
        ..HistogramDataPoint::default()
    };
    let cumulative = i32::from(AggregationTemporality::Cumulative);
    let data = match metric.shape {
        Shape::Gauge => {
            Data::Gauge(Gauge { data_points: metric.samples.iter().map(number).collect() })
        }
        Shape::Counter => Data::Sum(Sum {
            data_points: metric.samples.iter().map(number).collect(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Shape::Histogram => Data::Histogram(Histogram {
            data_points: metric.samples.iter().map(histogram).collect(),
            aggregation_temporality: cumulative,
        }),
    };
    otlp::Metric {
        name: metric.name.to_owned(),
        description: metric.help.to_owned(),
        unit: if metric.name.ends_with("_seconds") { "s" } else { "1" }.to_owned(),
        data: Some(data),
        ..otlp::Metric::default()
    }
}
