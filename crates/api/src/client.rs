//! Connecting to a unix socket, or to TCP with TLS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How long the other side may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that hangs answers no pings: its streams end instead of staying silent.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The path cannot be an address.
    #[error("`{}` cannot be a socket's path", .0.display())]
    Path(PathBuf),
    /// Nobody listens, or not in time.
    #[error("cannot connect to `{}`: {reason}", path.display())]
    Connect {
        /// Which socket.
        path: PathBuf,
        /// The innermost cause.
        reason: String,
    },
}

/// How to meet a server on TCP; all in PEM.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientTls {
    /// Roots of the server's certificate.
    pub roots: Vec<u8>,
    /// The client's own certificate, and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name in the server's certificate, if not that of the address.
    pub server_name: Option<String>,
}

/// Connects to the server at `host:port`, with TLS.
pub async fn connect_tls(address: &str, tls: ClientTls) -> Result<Channel, ConnectError> {
    let ClientTls { roots, identity, server_name } = tls;
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots));
    if let Some((certificate, key)) = identity {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    if let Some(name) = server_name {
        config = config.domain_name(name);
    }
    let failed = |error: tonic::transport::Error| ConnectError::Connect {
        path: address.into(),
        reason: innermost(&error),
    };
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .map_err(|_| ConnectError::Path(address.into()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tls_config(config)
        .map_err(failed)?;
    endpoint.connect().await.map_err(failed)
}

/// Connects to the server at `path`.
pub async fn connect(path: &Path) -> Result<Channel, ConnectError> {
    let text = path.to_str().ok_or_else(|| ConnectError::Path(path.to_owned()))?;
    let endpoint = Endpoint::from_shared(format!("unix:{text}"))
        .map_err(|_| ConnectError::Path(path.to_owned()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    endpoint
        .connect()
        .await
        .map_err(|error| ConnectError::Connect { path: path.to_owned(), reason: innermost(&error) })
}

/// The transport's own errors say only "transport error"; the cause is what helps.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
