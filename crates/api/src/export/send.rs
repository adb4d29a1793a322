//! How a collector is reached: OTLP over gRPC, or as protobuf over HTTP.
//!
//! Without TLS on this host only: a collector beside the agent, which sends on.
//! Flows name pods and processes and do not leave the host in the clear.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::http::uri::Authority;
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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::client::innermost;

/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read.
const ANSWER: usize = 64 << 10;

/// A collector, and how it is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Collector {
    form: Form,
    /// Host and port.
    address: String,
    /// `None`: in the clear, on this host.
    tls: Option<TlsFiles>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Grpc,
    Http,
}

/// What a collector elsewhere is known by, and we by it; files in PEM, read for each
/// connection, so that they can be renewed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsFiles {
    /// Roots of its certificate.
    pub roots: Vec<PathBuf>,
    /// Our certificate and its key, if it asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why a collector is refused.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// Neither form.
    #[error(
        "`{0}` is none of grpc://ADDRESS:PORT, http://ADDRESS:PORT, grpcs://HOST:PORT and https://HOST:PORT"
    )]
    Form(String),
    /// Flows would leave the host in the clear.
    #[error(
        "`{0}` is not an address of the loopback interface: flows leave a host only encrypted, so give grpcs:// or https://, or a collector on this host"
    )]
    NotLoopback(SocketAddr),
    /// Nobody says whom to trust.
    #[error("a collector by TLS needs --export-otlp-ca-files: the roots of its certificate")]
    NoRoots,
    /// A file cannot be read.
    #[error("cannot read `{}`: {reason}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
}

impl FromStr for Collector {
    type Err = CollectorError;

    fn from_str(text: &str) -> Result<Self, CollectorError> {
        let wrong = || CollectorError::Form(text.to_owned());
        let (scheme, address) = text.split_once("://").ok_or_else(wrong)?;
        let address = address.trim_end_matches('/');
        let (form, encrypted) = match scheme {
            "grpc" => (Form::Grpc, false),
            "http" => (Form::Http, false),
            "grpcs" => (Form::Grpc, true),
            "https" => (Form::Http, true),
            _ => return Err(wrong()),
        };
        let authority: Authority = address.parse().map_err(|_| wrong())?;
        if authority.port_u16().is_none() || address.contains('@') {
            return Err(wrong());
        }
        if !encrypted {
            let address: SocketAddr = address.parse().map_err(|_| wrong())?;
            if !address.ip().is_loopback() {
                return Err(CollectorError::NotLoopback(address));
            }
        }
        let tls = encrypted.then(TlsFiles::default);
        Ok(Self { form, address: address.to_owned(), tls })
    }
}

/// Why a collector did not take something.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It cannot be reached, or not in time.
    #[error("the collector at {address} does not answer: {reason}")]
    Away {
        /// Where.
        address: String,
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
    /// With the files by which one elsewhere is known.
    pub fn with_files(self, files: TlsFiles) -> Self {
        Self { tls: self.tls.map(|_| files), ..self }
    }

    /// Whether there is what it needs.
    pub fn check(&self) -> Result<(), CollectorError> {
        match &self.tls {
            Some(files) if files.roots.is_empty() => Err(CollectorError::NoRoots),
            Some(files) => files.read().map(|_| ()),
            None => Ok(()),
        }
    }

    fn away(&self, reason: impl ToString) -> SendError {
        SendError::Away { address: self.address.clone(), reason: reason.to_string() }
    }

    /// Hands over flows.
    pub async fn send_logs(&self, request: ExportLogsServiceRequest) -> Result<(), SendError> {
        let answer: ExportLogsServiceResponse = match self.form {
            Form::Grpc => {
                let mut client = LogsServiceClient::new(self.channel().await?);
                client.export(request).await.map_err(|status| refused(&status))?.into_inner()
            }
            Form::Http => self.post("/v1/logs", &request).await?,
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
        let answer: ExportMetricsServiceResponse = match self.form {
            Form::Grpc => {
                let mut client = MetricsServiceClient::new(self.channel().await?);
                client.export(request).await.map_err(|status| refused(&status))?.into_inner()
            }
            Form::Http => self.post("/v1/metrics", &request).await?,
        };
        match answer.partial_success {
            Some(partial) if partial.rejected_data_points > 0 => Err(SendError::Partial {
                rejected: partial.rejected_data_points,
                reason: partial.error_message,
            }),
            _ => Ok(()),
        }
    }

    async fn channel(&self) -> Result<Channel, SendError> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .map_err(|error| self.away(error))?
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE);
        if let Some(files) = &self.tls {
            let (roots, identity) = files.read().map_err(|error| self.away(error))?;
            let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots));
            if let Some((certificate, key)) = identity {
                config = config.identity(Identity::from_pem(certificate, key));
            }
            endpoint = endpoint.tls_config(config).map_err(|error| self.away(innermost(&error)))?;
        }
        endpoint.connect().await.map_err(|error| self.away(innermost(&error)))
    }

    /// One request on a connection of its own: a batch is large and rare.
    async fn post<A: Message + Default>(
        &self,
        path: &str,
        message: &impl Message,
    ) -> Result<A, SendError> {
        let exchange = self.exchange(path, message.encode_to_vec());
        let (status, body) = match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(answer) => answer.map_err(|error| self.away(innermost(&*error)))?,
            Err(_) => return Err(self.away(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        if status.is_success() {
            return A::decode(body).map_err(|error| self.away(error));
        }
        let temporary = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        Err(SendError::Refused { reason: status.to_string(), temporary })
    }

    async fn exchange(&self, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), Cause> {
        let stream = TcpStream::connect(self.address.as_str()).await?;
        let request = Request::post(path)
            .header(HOST, &self.address)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(Bytes::from(body)))?;
        match &self.tls {
            None => answered(stream, request).await,
            Some(files) => {
                let authority: Authority = self.address.parse()?;
                let host = authority.host().trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(host)?;
                let connector = TlsConnector::from(Arc::new(files.client()?));
                answered(connector.connect(name, stream).await?, request).await
            }
        }
    }
}

/// OTLP names the codes after which to try again; a connection that broke is none of
/// the collector's answers.
fn refused(status: &tonic::Status) -> SendError {
    let broken = std::error::Error::source(status).is_some();
    let temporary = broken
        || matches!(
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

impl TlsFiles {
    /// The roots, and the certificate with its key.
    #[expect(clippy::type_complexity, reason = "two files that go together, if at all")]
    fn read(&self) -> Result<(Vec<u8>, Option<(Vec<u8>, Vec<u8>)>), CollectorError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|reason| CollectorError::File { path: path.clone(), reason })
        };
        let roots: Result<Vec<Vec<u8>>, CollectorError> = self.roots.iter().map(read).collect();
        let identity = match &self.identity {
            Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
            None => None,
        };
        Ok((roots?.concat(), identity))
    }

    fn client(&self) -> Result<ClientConfig, Cause> {
        let (roots, identity) = self.read()?;
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&roots) {
            store.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store);
        Ok(match identity {
            Some((certificate, key)) => {
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_slice_iter(&certificate).collect();
                config.with_client_auth_cert(chain?, PrivateKeyDer::from_pem_slice(&key)?)?
            }
            None => config.with_no_client_auth(),
        })
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

async fn answered(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Cause> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
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
    fn a_collector_is_on_this_host_or_met_by_tls() {
        let collector = |text: &str| text.parse::<Collector>();
        for text in ["grpc://127.0.0.1:4317", "http://[::1]:4318/"] {
            let collector = collector(text).unwrap();
            assert!(collector.check().is_ok() && collector.tls.is_none(), "{text}");
        }
        for text in ["grpcs://otel.example:4317", "https://10.0.0.1:4318", "https://[fd00::1]:1"] {
            let collector = collector(text).unwrap();
            assert!(matches!(collector.check(), Err(CollectorError::NoRoots)), "{text}");
            let files = TlsFiles { roots: vec!["/nonexistent".into()], identity: None };
            let error = collector.with_files(files).check().unwrap_err();
            assert!(matches!(error, CollectorError::File { .. }), "{text}");
        }
        let far = collector("grpc://10.0.0.1:4317");
        assert!(matches!(far, Err(CollectorError::NotLoopback(_))));
        for text in [
            "",
            "127.0.0.1:4317",
            "ftp://127.0.0.1:4318",
            "grpc://localhost:4317",
            "https://host",
            "https://a@host:1",
        ] {
            assert!(matches!(collector(text), Err(CollectorError::Form(_))), "{text}");
        }
    }
}
