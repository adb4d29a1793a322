//! Serving on a unix socket that only root may open, or on TCP with mutual TLS to
//! those who are on a list.

mod authority;
mod severable;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net as std_net;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Status};
use tonic_health::ServingStatus;
use tonic_health::server::health_reporter;
use tonic_reflection::server::Builder;

use crate::access::{Access, Scope};
use crate::observer::NodeObserver;
use crate::peer::Peers;
use crate::proto::DESCRIPTORS;
use crate::proto::observer::observer_server::{Observer, ObserverServer};
use crate::proto::peer::peer_server::PeerServer;
use crate::proto::signet::v1::signet_server::{Signet, SignetServer};
use crate::relay::Relay;
use authority::Forgiving;
use futures::FutureExt;
use severable::Severable;

/// The name under which `hubble status` asks for health.
const HUBBLE_HEALTH: &str = "hubble.server.Observer";

/// How long a client may take to show its certificate.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long answers may take to end after the stop.
const GRACE: Duration = Duration::from_millis(500);

/// Why a socket is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process answers there.
    #[error("`{}` is served by another process: stop it first", .0.display())]
    InUse(PathBuf),
    /// One of the steps that make a socket failed.
    #[error("cannot {step} socket `{}`", path.display())]
    Socket {
        /// Which step.
        step: &'static str,
        /// Which socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Address {
        /// Which one.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The descriptions of the services do not fit together.
    #[error("cannot describe the services")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The server stopped with an error.
    #[error("the gRPC server failed")]
    Transport(#[source] tonic::transport::Error),
}

/// Makes the socket at `path`, mode 0600 before anyone can connect, in place of
/// one that a dead process left. Needs a tokio runtime.
pub fn listener(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |step: &'static str| {
        move |source: io::Error| ServeError::Socket { step, path: path.to_owned(), source }
    };
    if std_net::UnixStream::connect(path).is_ok() {
        return Err(ServeError::InUse(path.to_owned()));
    }
    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
    .map_err(|errno| failed("create")(errno.into()))?;
    // Under another name until it listens and its mode is set: then it appears whole.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let address = UnixAddr::new(&temporary).map_err(|errno| failed("name")(errno.into()))?;
    let _ = std::fs::remove_file(&temporary);
    bind(socket.as_raw_fd(), &address).map_err(|errno| failed("bind")(errno.into()))?;
    let published = std::fs::set_permissions(&temporary, PermissionsExt::from_mode(0o600))
        .map_err(failed("set the mode of"))
        .and_then(|()| {
            listen(&socket, Backlog::MAXCONN).map_err(|errno| failed("listen on")(errno.into()))
        })
        .and_then(|()| std::fs::rename(&temporary, path).map_err(failed("publish")));
    if let Err(error) = published {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    UnixListener::from_std(std_net::UnixListener::from(socket)).map_err(failed("register"))
}

/// What is served on one socket, beside health and reflection.
pub struct Services<O, S> {
    /// Flows.
    pub observer: O,
    /// What is in force.
    pub signet: S,
    /// Which nodes there are.
    pub peers: Peers,
}

impl<O: Observer, S: Signet> Services<O, S> {
    /// All of them, ready to answer.
    pub(crate) async fn routes(self) -> Result<Routes, ServeError> {
        let Self { observer, signet, peers } = self;
        let routes = standard()
            .await?
            .add_service(ObserverServer::new(observer))
            .add_service(PeerServer::new(peers))
            .add_service(SignetServer::new(signet));
        Ok(routes)
    }
}

/// Health and reflection, which tell nothing of flows.
async fn standard() -> Result<Routes, ServeError> {
    let (health, health_service) = health_reporter();
    for service in [HUBBLE_HEALTH, "observer.Observer", "peer.Peer"] {
        health.set_service_status(service, ServingStatus::Serving).await;
    }
    let reflection = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(health_service)
        .add_service(reflection().build_v1().map_err(ServeError::Reflection)?)
        .add_service(reflection().build_v1alpha().map_err(ServeError::Reflection)?))
}

/// What a server shows, and whose certificates it takes; all in PEM.
pub struct Tls {
    /// Its certificate, and those up to its root.
    pub certificate: Vec<u8>,
    /// The certificate's key.
    pub key: Vec<u8>,
    /// Roots of the clients' certificates.
    pub clients: Vec<u8>,
}

impl Tls {
    /// Whether a server can show this: the key must be the certificate's.
    pub fn check(&self) -> Result<(), ServeError> {
        Server::builder().tls_config(self.config()).map(drop).map_err(ServeError::Transport)
    }

    fn config(&self) -> ServerTlsConfig {
        let Self { certificate, key, clients } = self;
        ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate, key))
            .client_ca_root(Certificate::from_pem(clients))
            .timeout(HANDSHAKE)
    }
}

/// Serves one node on TCP to those who are on the list, until `stop` is ready.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Tls,
    access: Access,
    services: Services<NodeObserver, impl Signet>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let Services { observer, signet, peers } = services;
    let limited = access.clone();
    let routes = standard()
        .await?
        .add_service(ObserverServer::with_interceptor(observer, move |request| {
            limited.admit(request)
        }))
        // What these two tell is about the whole node.
        .add_service(PeerServer::with_interceptor(peers, whole(access.clone())))
        .add_service(SignetServer::with_interceptor(signet, whole(access)));
    encrypted(listener, tls, routes, stop).await
}

/// Serves several nodes on TCP, to those on the list who may see everything: only a
/// node's own observer limits what it answers by who asks.
pub async fn serve_relay_tls(
    listener: TcpListener,
    tls: Tls,
    access: Access,
    services: Services<Relay, impl Signet>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let Services { observer, signet, peers } = services;
    let routes = standard()
        .await?
        .add_service(ObserverServer::with_interceptor(observer, whole(access.clone())))
        .add_service(PeerServer::with_interceptor(peers, whole(access.clone())))
        .add_service(SignetServer::with_interceptor(signet, whole(access)));
    encrypted(listener, tls, routes, stop).await
}

/// Admits who is on the list and limited to nothing.
fn whole(
    access: Access,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |request| {
        let request = access.admit(request)?;
        Scope::whole_node(&request)?;
        Ok(request)
    }
}

async fn encrypted(
    listener: TcpListener,
    tls: Tls,
    routes: Routes,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let mut server = Server::builder().tls_config(tls.config()).map_err(ServeError::Transport)?;
    // Dropped on whichever way out, it ends what is left of every connection.
    let (_sever, severed) = oneshot::channel::<()>();
    let severed = severed.map(drop).boxed().shared();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let incoming = incoming
        .map(move |accepted| accepted.map(|stream| Severable::new(stream, severed.clone())));
    let (stopping, stopped) = oneshot::channel::<()>();
    let serving = server.add_routes(routes).serve_with_incoming_shutdown(incoming, async {
        let _ = stopped.await;
    });
    until(serving, stop, stopping).await
}

/// Serves both services without a list of peers: see [`serve_all`].
pub async fn serve(
    listener: UnixListener,
    observer: impl Observer,
    signet: impl Signet,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    serve_all(listener, Services { observer, signet, peers: Peers::default() }, stop).await
}

/// Serves all services, health and reflection, until `stop` is ready. Answers that are on
/// their way then get a moment to end; those that follow do not end by themselves
/// and are cut.
pub async fn serve_all(
    listener: UnixListener,
    services: Services<impl Observer, impl Signet>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let routes = services.routes().await?;
    let (stopping, stopped) = oneshot::channel::<()>();
    let serving = Server::builder().add_routes(routes).serve_with_incoming_shutdown(
        UnixListenerStream::new(listener).map(|accepted| accepted.map(Forgiving::from)),
        async {
            // Sent or dropped, it means the same.
            let _ = stopped.await;
        },
    );
    until(serving, stop, stopping).await
}

/// Serves until told to stop; what is on its way then gets a moment.
async fn until(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    stop: impl Future<Output = ()>,
    stopping: oneshot::Sender<()>,
) -> Result<(), ServeError> {
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended.map_err(ServeError::Transport),
        () = stop => drop(stopping),
    }
    match tokio::time::timeout(GRACE, serving).await {
        Ok(ended) => ended.map_err(ServeError::Transport),
        Err(_) => Ok(()),
    }
}
