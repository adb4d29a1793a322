//! Metrics as others read them: Prometheus' own linter on the text, and Prometheus
//! itself scraping the listener.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the lints' exception for tests does not reach the functions tests share"
)]

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use api::metrics::serve::{Place, listen, serve};
use api::metrics::{FlowMetrics, Settings, Text, plugins};
use api::proto::flow::LostEvent;
use api::proto::observer::GetFlowsResponse;
use api::proto::observer::get_flows_response::ResponseTypes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const FLOWS: &str = include_str!("protocol/flows.jsonl");

/// Everything counted, with a context.
fn text() -> String {
    let on = "dns:query drop:sourceContext=pod|ip flow flows-to-world http icmp policy port-distribution tcp";
    let metrics =
        FlowMetrics::new(Settings { plugins: plugins(on).unwrap(), ..Settings::default() });
    for line in FLOWS.lines() {
        let answer: GetFlowsResponse = api::json::from_json(line).unwrap();
        if let Some(ResponseTypes::Flow(flow)) = answer.response_types {
            metrics.flow(&flow, 1);
        }
    }
    metrics.lost(&LostEvent { source: 1, num_events_lost: 7, ..LostEvent::default() });
    let mut text = Text::default();
    metrics.render(&mut text);
    text.into_string()
}

/// Whether a program of the `prometheus` package is there; CI must have it.
fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    assert!(there || std::env::var_os("CI").is_none(), "`{program}` is not installed");
    if !there {
        eprintln!("not run: `{program}` is not installed");
    }
    there
}

#[test]
fn prometheus_linter_finds_no_fault_with_names() {
    if !has("promtool") {
        return;
    }
    let mut linter = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    linter.stdin.take().unwrap().write_all(text().as_bytes()).unwrap();
    let found = linter.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(found.status.success(), "{said}{}", String::from_utf8_lossy(&found.stdout));
}

/// A listener on a free port of loopback.
async fn serving() -> SocketAddr {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listening = listen(&Place::Loopback(free)).await.unwrap();
    tokio::spawn(serve(listening, text));
    free
}

async fn get(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn only_metrics_are_served() {
    let address = serving().await;
    for (request, want) in [
        ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 Not Found"),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405"),
        ("nonsense\r\n\r\n", "HTTP/1.1 400"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let answer = get(&mut stream, request).await;
        assert!(answer.starts_with(want), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_socket_of_metrics_is_roots() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.sock");
    let listening = listen(&Place::Socket(path.clone())).await.unwrap();
    tokio::spawn(serve(listening, text));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let answer = get(&mut stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.contains("hubble_drop_total{"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_it() {
    if !has("prometheus") {
        return;
    }
    let target = serving().await;
    let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("prometheus.yml");
    let settings = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: signet\n  static_configs:\n  - targets: ['{target}']\n"
    );
    std::fs::write(&config, settings).unwrap();
    let mut prometheus = tokio::process::Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
        .arg(format!("--web.listen-address={own}"))
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let query = "GET /api/v1/query?query=hubble_drop_total HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let deadline = Instant::now() + Duration::from_secs(30);
    let answer = loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let Ok(mut stream) = tokio::net::TcpStream::connect(own).await else {
            assert!(Instant::now() < deadline, "prometheus does not start");
            continue;
        };
        let answer = get(&mut stream, query).await;
        if answer.contains("POLICY_DENIED") || Instant::now() > deadline {
            break answer;
        }
    };
    prometheus.kill().await.unwrap();
    assert!(answer.contains(r#""source":"web/front-1""#), "{answer}");
}
