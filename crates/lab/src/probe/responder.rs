//! Answers probes where nobody else would: a denial is only shown where somebody
//! listens, and an arrival is only an answer where somebody gives one.
//!
//! Sockets are opened in the destination's network namespace, and only on ports
//! that nobody serves; all of them are answered by one thread, for as long as the
//! run takes. What a pod or host serves itself is left to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::error::Error;
use crate::netns::Netns;
use crate::probe::frame::{Mark, Tuple};

/// What any client of a probe takes for an answer.
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
/// How long a client may take to ask once it is connected.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(20);
/// More than any probe sends.
const LONGEST: usize = 2048;

/// A port that must answer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Port {
    /// Of TCP.
    Tcp(SocketAddr),
    /// Of UDP.
    Udp(SocketAddr),
    /// Of SCTP.
    Sctp(SocketAddr),
}

impl Port {
    /// The one that a probe tries; an echo request is answered by the kernel.
    pub fn of(tuple: &Tuple) -> Option<Self> {
        match tuple.mark {
            Mark::Tcp(_, port) => Some(Self::Tcp((tuple.destination, port).into())),
            Mark::Udp(_, port) => Some(Self::Udp((tuple.destination, port).into())),
            Mark::Sctp(_, port) => Some(Self::Sctp((tuple.destination, port).into())),
            Mark::Echo(_) => None,
        }
    }

    /// A socket in the current network namespace; `None` where somebody serves,
    /// or where there is no such address: then a probe that should be allowed fails.
    fn open(self) -> Option<Socket> {
        match self {
            Self::Tcp(address) => TcpListener::bind(address).map(Socket::Stream).ok(),
            Self::Udp(address) => UdpSocket::bind(address).map(Socket::Udp).ok(),
            Self::Sctp(address) => listen_sctp(address).map(Socket::Stream).ok(),
        }
    }
}

/// A socket of the one-to-one style (RFC 6458, section 4) is used as one of TCP is.
fn listen_sctp(address: SocketAddr) -> io::Result<TcpListener> {
    const BACKLOG: i32 = 128;
    let domain = socket2::Domain::for_address(address);
    let protocol = socket2::Protocol::from(nix::libc::IPPROTO_SCTP);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(protocol))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

enum Socket {
    Stream(TcpListener),
    Udp(UdpSocket),
}

/// Answers until it is dropped.
#[derive(Debug)]
pub struct Responder {
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Opens every port that nobody serves, by the path of its network namespace;
    /// when this returns, all of them answer.
    pub fn start(ports: &BTreeMap<Netns, BTreeSet<Port>>) -> Result<Self, Error> {
        let mut sockets = Vec::new();
        for (netns, ports) in ports {
            // A namespace that is not there is told by the probes that need it.
            let opened = netns.inside(|| ports.iter().filter_map(|port| port.open()).collect());
            sockets.extend(opened.unwrap_or_else(|_| Vec::new()));
        }
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::file("start a runtime to", "answer probes"))?;
        let tasks = {
            let _entered = runtime.enter();
            sockets.into_iter().map(serve).collect::<io::Result<Vec<_>>>()
        };
        tasks.map_err(Error::file("listen on", "a port of a probe"))?;
        let thread = thread::spawn(move || runtime.block_on(stopped.notified()));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say; with it go its sockets.
            let _ = thread.join();
        }
    }
}

fn serve(socket: Socket) -> io::Result<tokio::task::JoinHandle<()>> {
    match socket {
        Socket::Stream(listener) => {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            Ok(tokio::spawn(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            tokio::spawn(tokio::time::timeout(PATIENCE, answer(stream)));
                        }
                        // Of one connection, or for want of descriptors: not for long.
                        Err(_) => tokio::time::sleep(PAUSE).await,
                    }
                }
            }))
        }
        Socket::Udp(socket) => {
            socket.set_nonblocking(true)?;
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            Ok(tokio::spawn(async move {
                let mut datagram = [0; LONGEST];
                loop {
                    // Errors are about datagrams sent before, to clients that have gone.
                    if let Ok((length, from)) = socket.recv_from(&mut datagram).await
                        && let Some(question) = datagram.get(..length)
                    {
                        let _ = socket.send_to(question, from).await;
                    }
                }
            }))
        }
    }
}

/// Waits for the question, if there is one, and answers it.
async fn answer(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    let mut question = [0; LONGEST];
    if stream.read(&mut question).await? > 0 {
        stream.write_all(ANSWER).await?;
        stream.shutdown().await?;
        while stream.read(&mut question).await? > 0 {}
    }
    Ok(())
}
