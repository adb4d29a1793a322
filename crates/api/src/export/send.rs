//! How a collector is reached: OTLP over gRPC, or as protobuf over HTTP.
//!
//! Without TLS, so on this host only: a collector beside the agent, which sends
//! on. Flows name pods and processes and do not leave the host in the clear.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read.
const ANSWER: usize = 64 << 10;

/// A collector on this host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Collector {
    /// `grpc://127.0.0.1:4317`
    Grpc(SocketAddr),
    /// `http://127.0.0.1:4318`
    Http(SocketAddr),
}

/// Why a collector is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CollectorError {
    /// Neither form.
    #[error("`{0}` is neither grpc://ADDRESS:PORT nor http://ADDRESS:PORT")]
    Form(String),
    /// Flows would leave the host in the clear.
    #[error(
        "`{0}` is not an address of the loopback interface: flows leave a host only encrypted, so give a collector on this host, which sends on"
    )]
    NotLoopback(SocketAddr),
}

impl FromStr for Collector {
    type Err = CollectorError;

    fn from_str(text: &str) -> Result<Self, CollectorError> {
        let form = || CollectorError::Form(text.to_owned());
        let (scheme, address) = text.split_once("://").ok_or_else(form)?;
        let address: SocketAddr = address.trim_end_matches('/').parse().map_err(|_| form())?;
        if !address.ip().is_loopback() {
            return Err(CollectorError::NotLoopback(address));
        }
        match scheme {
            "grpc" => Ok(Self::Grpc(address)),
            "http" => Ok(Self::Http(address)),
            _ => Err(form()),
        }
    }
}

/// Why a collector did not take something.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It cannot be reached, or not in time.
    #[error("the collector at {address} does not answer: {reason}")]
    Away {
        /// Where.
        address: SocketAddr,
        /// The innermost cause.
        reason: String,
    },
    /// It answered, and refused.
    #[error("the collector refused: {reason}")]
    Refused {
        /// In its own words.
        reason: String,
        /// Whether it asks to try again.
        temporary: bool,
    },
    /// It took a part only.
    #[error("the collector rejected {rejected} of them: {reason}")]
    Partial {
        /// How many it did not take.
        rejected: i64,
        /// In its own words.
        reason: String,
    },
}

impl SendError {
    /// Whether trying again may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Refused { temporary, .. } => *temporary,
            Self::Partial { .. } => false,
        }
    }
}

impl Collector {
    /// Hands over flows.
    pub async fn send_logs(&self, request: ExportLogsServiceRequest) -> Result<(), SendError> {
        let answer: ExportLogsServiceResponse = match self {
            Self::Grpc(address) => {
                let mut client = LogsServiceClient::new(channel(*address).await?);
                client.export(request).await.map_err(|status| refused(&status))?.into_inner()
            }
            Self::Http(address) => post(*address, "/v1/logs", &request).await?,
        };
        match answer.partial_success {
            Some(partial) if partial.rejected_log_records > 0 => Err(SendError::Partial {
                rejected: partial.rejected_log_records,
                reason: partial.error_message,
            }),
            _ => Ok(()),
        }
    }

    /// Hands over metrics.
    pub async fn send_metrics(
        &self,
        request: ExportMetricsServiceRequest,
    ) -> Result<(), SendError> {
        let answer: ExportMetricsServiceResponse = match self {
            Self::Grpc(address) => {
                let mut client = MetricsServiceClient::new(channel(*address).await?);
                client.export(request).await.map_err(|status| refused(&status))?.into_inner()
            }
            Self::Http(address) => post(*address, "/v1/metrics", &request).await?,
        };
        match answer.partial_success {
            Some(partial) if partial.rejected_data_points > 0 => Err(SendError::Partial {
                rejected: partial.rejected_data_points,
                reason: partial.error_message,
            }),
            _ => Ok(()),
        }
    }
}

/// OTLP names the codes after which to try again.
fn refused(status: &tonic::Status) -> SendError {
    let temporary = matches!(
        status.code(),
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
    );
    SendError::Refused { reason: status.message().to_owned(), temporary }
}

async fn channel(address: SocketAddr) -> Result<Channel, SendError> {
    let away = |reason: String| SendError::Away { address, reason };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| away(error.to_string()))?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE);
    endpoint.connect().await.map_err(|error| away(crate::client::innermost(&error)))
}

/// One request on a connection of its own: a batch is large and rare.
async fn post<A: Message + Default>(
    address: SocketAddr,
    path: &str,
    message: &impl Message,
) -> Result<A, SendError> {
    let exchange = exchange(address, path, message.encode_to_vec());
    let away = |reason: String| SendError::Away { address, reason };
    let (status, body) = match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(answer) => answer.map_err(|error| away(crate::client::innermost(&*error)))?,
        Err(_) => return Err(away(format!("no answer within {} s", PATIENCE.as_secs()))),
    };
    if status.is_success() {
        return A::decode(body).map_err(|error| away(error.to_string()));
    }
    let temporary = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    Err(SendError::Refused { reason: status.to_string(), temporary })
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    address: SocketAddr,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), Cause> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(path)
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER).collect().await?.to_bytes();
    connection.abort();
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_on_this_host() {
        let collector = |text: &str| text.parse::<Collector>();
        assert!(matches!(collector("grpc://127.0.0.1:4317"), Ok(Collector::Grpc(_))));
        assert!(matches!(collector("http://[::1]:4318/"), Ok(Collector::Http(_))));
        let far = collector("grpc://10.0.0.1:4317");
        assert!(matches!(far, Err(CollectorError::NotLoopback(_))));
        for text in ["", "127.0.0.1:4317", "https://127.0.0.1:4318", "grpc://localhost:4317"] {
            assert!(matches!(collector(text), Err(CollectorError::Form(_))), "{text}");
        }
    }
}
