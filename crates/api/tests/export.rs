//! Flows and metrics as a collector of another make receives them, and as files
//! that can be read again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lints' exception for tests does not reach the functions tests share"
)]

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use api::export::{Collector, Origin, Rotation, Selection, Settings, TlsFiles, run};
use api::metrics::{FlowMetrics, Text, plugins};
use api::observer::NodeObserver;
use api::proto::flow::{Aggregate, FlowFilter, Verdict};
use api::proto::observer::GetFlowsResponse;
use api::proto::observer::get_flows_response::ResponseTypes;
use api::store::{FlowStore, Limits};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use serde_json::Value;

mod openssl;
mod python;

use openssl::Authority;

const FLOWS: &str = include_str!("protocol/flows.jsonl");

fn answers() -> Vec<GetFlowsResponse> {
    FLOWS.lines().map(|line| api::json::from_json(line).unwrap()).collect()
}

fn numbers() -> Text {
    let plugins = plugins("flow http").unwrap();
    let metrics = FlowMetrics::new(api::metrics::Settings { plugins, series: 100 });
    for answer in answers() {
        if let Some(ResponseTypes::Flow(flow)) = answer.response_types {
            metrics.flow(&flow, 1);
        }
    }
    let mut text = Text::default();
    metrics.render(&mut text);
    text
}

/// Exports the flows of the file while `body` runs.
fn exporting(settings: Settings, body: impl FnOnce()) {
    exporting_of((&[], &answers()), settings, body);
}

type Answers<'a> = &'a [GetFlowsResponse];

/// Those that are there before the exporter, and those that come while it runs.
fn exporting_of(
    (before, after): (Answers<'_>, Answers<'_>),
    settings: Settings,
    body: impl FnOnce(),
) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Arc::new(FlowStore::new(Limits::default()));
    let observer = NodeObserver::new(Arc::clone(&store), "c1/node-a");
    let origin = Origin { node: "node-a".into(), cluster: "c1".into(), started_ns: 1 };
    before.iter().for_each(|answer| assert!(store.push(answer)));
    runtime.spawn(run(observer, settings, origin, numbers));
    std::thread::sleep(Duration::from_millis(300));
    after.iter().for_each(|answer| assert!(store.push(answer)));
    body();
    runtime.shutdown_background();
}

/// A running collector; it ends when its standard input does.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    ports: Value,
}

impl Running {
    fn start(files: &[PathBuf]) -> Option<Self> {
        let (python, _) = python::client()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocol/collector.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ports = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        Some(Self { child, lines, ports })
    }

    /// The next request of this kind.
    fn next(&mut self, how: &str, what: &str) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
            if line["what"] == what {
                assert_eq!(line["how"], how);
                return line["request"].clone();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The value of an attribute, as text.
fn attribute<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    let attributes = of["attributes"].as_array()?;
    let found = attributes.iter().find(|attribute| attribute["key"] == key)?;
    found["value"]["stringValue"].as_str().or_else(|| found["value"]["intValue"].as_str())
}

#[track_caller]
fn check_logs(logs: &Value) {
    let resource = &logs["resourceLogs"][0];
    assert_eq!(attribute(&resource["resource"], "k8s.node.name"), Some("node-a"));
    let records = resource["scopeLogs"][0]["logRecords"].as_array().unwrap();
    assert_eq!(records.len(), 6, "five flows and a loss");
    let drop = &records[1];
    assert_eq!(
        (drop["severityText"].as_str(), drop["eventName"].as_str()),
        (Some("WARN"), Some("signet.flow"))
    );
    assert_eq!(drop["timeUnixNano"], "1767323042000000000");
    for (key, want) in [
        ("signet.flow.uuid", "b"),
        ("signet.verdict", "DROPPED"),
        ("signet.drop.reason", "POLICY_DENIED"),
        ("source.address", "10.1.0.6"),
        ("destination.port", "5432"),
        ("network.transport", "tcp"),
        ("signet.source.pod.name", "front-1"),
        ("signet.destination.namespace", "payment"),
        ("signet.policies", "NetworkPolicy/payment/in"),
    ] {
        assert_eq!(attribute(drop, key), Some(want), "{key}");
    }
    assert_eq!(attribute(&records[5], "signet.lost.events"), Some("7"));
}

#[track_caller]
fn check_metrics(metrics: &Value) {
    let metrics = metrics["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
    let of = |name: &str| metrics.iter().find(|metric| metric["name"] == name).unwrap();
    let flows = &of("hubble_flows_processed_total")["sum"];
    assert_eq!(flows["isMonotonic"], true);
    assert_eq!(flows["aggregationTemporality"], "AGGREGATION_TEMPORALITY_CUMULATIVE");
    assert_eq!(flows["dataPoints"].as_array().unwrap().len(), 5);
    let seconds = &of("hubble_http_request_duration_seconds")["histogram"]["dataPoints"][0];
    assert_eq!((seconds["count"].as_str(), seconds["sum"].as_f64()), (Some("1"), Some(0.003)));
}

#[track_caller]
fn check_collector(how: &str) {
    let Some(mut running) = Running::start(&[]) else { return };
    let scheme_and_port = format!("{how}://127.0.0.1:{}", running.ports[how]);
    let collector: Collector = scheme_and_port.parse().unwrap();
    let settings =
        Settings { collector: Some((collector, Duration::from_secs(1))), ..Settings::default() };
    exporting(settings, || {
        check_metrics(&running.next(how, "metrics"));
        check_logs(&running.next(how, "logs"));
    });
}

#[test]
fn a_collector_of_another_make_gets_logs_and_metrics_over_grpc() {
    check_collector("grpc");
}

#[test]
fn a_collector_of_another_make_gets_logs_and_metrics_over_http() {
    check_collector("http");
}

/// A collector elsewhere, which wants our certificate as we want its.
#[track_caller]
fn check_encrypted(scheme: &str, how: &str) {
    let authority = Authority::new();
    for name in ["localhost", "agent"] {
        authority.issue(name);
    }
    let files = ["ca.pem", "localhost.pem", "localhost.key"].map(|name| authority.path(name));
    let Some(mut running) = Running::start(&files) else { return };
    let place = format!("{scheme}://localhost:{}", running.ports[how]);
    let identity = Some((authority.path("agent.pem"), authority.path("agent.key")));
    let files = TlsFiles { roots: vec![authority.path("ca.pem")], identity };
    let collector = place.parse::<Collector>().unwrap().with_files(files.clone());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refused = |files: TlsFiles| {
        let collector = place.parse::<Collector>().unwrap().with_files(files);
        runtime.block_on(collector.send_logs(ExportLogsServiceRequest::default())).unwrap_err()
    };
    // One that is not of this authority is not told anything, nor who is not.
    let other = Authority::new();
    let strange = TlsFiles { roots: vec![other.path("ca.pem")], ..files.clone() };
    let error = refused(strange).to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    assert!(refused(TlsFiles { identity: None, ..files }).is_temporary());
    let settings =
        Settings { collector: Some((collector, Duration::from_secs(1))), ..Settings::default() };
    exporting(settings, || {
        check_metrics(&running.next(how, "metrics"));
        check_logs(&running.next(how, "logs"));
    });
}

#[test]
fn a_collector_elsewhere_gets_them_over_grpc_with_tls() {
    check_encrypted("grpcs", "grpc");
}

#[test]
fn a_collector_elsewhere_gets_them_over_https() {
    check_encrypted("https", "http");
}

/// The lines of the file that a selection makes of the flows.
fn exported(selection: Selection) -> Vec<String> {
    exported_of((&[], &answers()), selection)
}

fn exported_of(flows: (Answers<'_>, Answers<'_>), selection: Selection) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows.log");
    let settings = Settings {
        file: Some((path.clone(), Rotation::default())),
        selection,
        ..Settings::default()
    };
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    let mut text = String::new();
    exporting_of(flows, settings, || {
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(100));
            if !read().is_empty() {
                // Nor does anything come after what is awaited.
                std::thread::sleep(Duration::from_secs(1));
                text = read();
                return;
            }
        }
    });
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_file_holds_what_hubbles_would() {
    let want: Vec<String> =
        answers().iter().map(|answer| api::json::to_json(answer).unwrap()).collect();
    assert_eq!(exported(Selection::default()), want);
}

#[test]
fn only_what_was_selected_leaves() {
    let selection = Selection {
        allow: vec![FlowFilter { verdict: vec![Verdict::Dropped.into()], ..FlowFilter::default() }],
        deny: vec![FlowFilter { uuid: vec!["e".into()], ..FlowFilter::default() }],
        fields: vec!["uuid".into()],
        ..Selection::default()
    };
    let lines = exported(selection);
    assert_eq!(
        lines,
        [
            r#"{"flow":{"uuid":"b"},"node_name":"c1/node-a","time":"2026-01-02T03:04:02Z"}"#,
            FLOWS.lines().nth(5).unwrap(),
        ]
    );
}

#[test]
fn what_was_lost_before_the_exporter_ran_is_exported_once() {
    let lost = answers().remove(5);
    let lines =
        exported_of((std::slice::from_ref(&lost), &[answers().remove(0)]), Selection::default());
    assert_eq!(lines, [5, 0].map(|line| FLOWS.lines().nth(line).unwrap()));
    // Alone, too: nothing has to happen before it is told.
    let lines = exported_of((&[lost], &[]), Selection::default());
    assert_eq!(lines, [FLOWS.lines().nth(5).unwrap()]);
}

/// Flows are counted by what they are, not by what of them leaves, and one that
/// stands for 41 counts as 41.
#[test]
fn a_field_mask_does_not_change_how_many_flows_there_were() {
    let mut many = answers().remove(1);
    if let Some(ResponseTypes::Flow(flow)) = &mut many.response_types {
        flow.aggregate = Some(Aggregate { ingress_flow_count: 41, ..Aggregate::default() });
    }
    let selection = Selection {
        allow: vec![FlowFilter { uuid: vec!["b".into()], ..FlowFilter::default() }],
        fields: vec!["verdict".into()],
        aggregate: vec!["destination.pod_name".into()],
        interval: Duration::from_millis(500),
        ..Selection::default()
    };
    let lines = exported_of((&[], &[many, answers().remove(1)]), selection);
    assert_eq!(
        lines,
        [
            r#"{"flow":{"verdict":"DROPPED","aggregate":{"ingress_flow_count":42}},"node_name":"c1/node-a","time":"2026-01-02T03:04:02Z"}"#
        ]
    );
}

#[test]
fn flows_that_are_equal_leave_as_one() {
    let selection = Selection {
        aggregate: vec!["verdict".into()],
        interval: Duration::from_millis(500),
        ..Selection::default()
    };
    let lines = exported(selection);
    assert_eq!(lines.len(), 3, "{lines:?}");
    let counted = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(counted(r#""aggregate":{"ingress_flow_count":1,"egress_flow_count":2}"#), 1);
    assert_eq!(counted(r#""aggregate":{"ingress_flow_count":1,"egress_flow_count":1}"#), 1);
}

#[test]
fn a_selection_that_means_nothing_is_refused_before_it_starts() {
    let selection = Selection { aggregate: vec!["sauce".into()], ..Selection::default() };
    assert!(selection.check().unwrap_err().contains("sauce"));
    let selection = Selection { aggregate: vec!["verdict".into()], ..Selection::default() };
    assert!(selection.check().unwrap_err().contains("interval"));
}
