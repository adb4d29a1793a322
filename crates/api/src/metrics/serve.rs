//! Serves a text at `/metrics`, on loopback or on a unix socket that only root
//! may open: metrics name pods and namespaces, and are nobody else's business.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::server::{ServeError, listener};

/// Readers at a time; one more waits.
const READERS: usize = 16;
/// How long a reader may take to say what it wants, and to take it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The text form and its version.
const FORM: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Where metrics are served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// A port of the loopback interface.
    Loopback(SocketAddr),
    /// A unix socket, mode 0600.
    Socket(PathBuf),
}

/// Why a place is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlaceError {
    /// Neither form.
    #[error("`{0}` is neither ADDRESS:PORT nor unix://PATH")]
    Form(String),
    /// Others could read there.
    #[error("`{0}` is not an address of the loopback interface: pods could read there")]
    NotLoopback(SocketAddr),
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if let Some(path) = text.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            return Ok(Self::Socket(path.into()));
        }
        let address: SocketAddr = text.parse().map_err(|_| PlaceError::Form(text.to_owned()))?;
        if address.ip().is_loopback() {
            Ok(Self::Loopback(address))
        } else {
            Err(PlaceError::NotLoopback(address))
        }
    }
}

/// A place that is listened on.
pub enum Listening {
    /// TCP.
    Loopback(TcpListener),
    /// Unix.
    Socket(UnixListener),
}

/// Listens; the error says what failed.
pub async fn listen(place: &Place) -> Result<Listening, ServeError> {
    match place {
        Place::Socket(path) => listener(path).map(Listening::Socket),
        Place::Loopback(address) => match TcpListener::bind(address).await {
            Ok(listener) => Ok(Listening::Loopback(listener)),
            Err(source) => Err(ServeError::Address { address: *address, source }),
        },
    }
}

/// Serves what `text` gives, for as long as it is polled.
pub async fn serve(listening: Listening, text: impl Fn() -> String + Send + Sync + 'static) {
    let text = Arc::new(text);
    let readers = Arc::new(Semaphore::new(READERS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&readers).acquire_owned().await else { return };
        let text = Arc::clone(&text);
        match &listening {
            Listening::Loopback(listener) => match listener.accept().await {
                Ok((stream, _)) => tokio::spawn(answer(stream, text, permit)),
                Err(_) => continue,
            },
            Listening::Socket(listener) => match listener.accept().await {
                Ok((stream, _)) => tokio::spawn(answer(stream, text, permit)),
                Err(_) => continue,
            },
        };
    }
}

/// One reader, one request.
async fn answer<F: Fn() -> String + Send + Sync + 'static>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    text: Arc<F>,
    _permit: tokio::sync::OwnedSemaphorePermit,
) {
    let service = service_fn(|request| {
        let response = respond(&request, &*text);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    // A reader that goes away in the middle is its own affair.
    let _ = tokio::time::timeout(PATIENCE, builder.serve_connection(TokioIo::new(stream), service))
        .await;
}

fn respond(request: &Request<Incoming>, text: &dyn Fn() -> String) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, text()),
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
        _ => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, FORM);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_served_to_this_host_only() {
        let place = |text: &str| text.parse::<Place>();
        assert!(place("127.0.0.1:9965").is_ok());
        assert!(place("[::1]:9965").is_ok());
        assert_eq!(place("unix:///run/m.sock"), Ok(Place::Socket("/run/m.sock".into())));
        for text in ["0.0.0.0:9965", "[::]:9965", "10.0.0.1:9965"] {
            assert!(matches!(place(text), Err(PlaceError::NotLoopback(_))), "{text}");
        }
        for text in ["", "9965", "localhost:9965", "unix://relative"] {
            assert!(matches!(place(text), Err(PlaceError::Form(_))), "{text}");
        }
    }
}
