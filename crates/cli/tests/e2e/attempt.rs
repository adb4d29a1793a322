//! Attempts to connect, with ordinary sockets from where a pod, a node or a host
//! outside sits. Knows no policy: says what happened.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::scene::Scene;

/// A dropped connection is given up after this long: a second SYN falls within.
const PATIENCE: Duration = Duration::from_secs(3);

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Somebody answered and accepted.
    Connected,
    /// Somebody answered that nobody listens: the way there is open.
    Refused,
    /// Silence.
    Silence,
}

/// One attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// From where: a member of the lab.
    pub from: &'static str,
    /// To where.
    pub to: &'static str,
    /// TCP port.
    pub port: u16,
    /// 4 or 6.
    pub family: u8,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}:{} over IPv{}", self.from, self.to, self.port, self.family)
    }
}

impl Attempt {
    /// Does it.
    pub fn outcome(&self, scene: &Scene) -> Outcome {
        let target = SocketAddr::new(scene.address(self.to, self.family), self.port);
        let result = scene.inside(self.from, || TcpStream::connect_timeout(&target, PATIENCE));
        match result.map_err(|error| error.kind()) {
            Ok(_) => Outcome::Connected,
            Err(ErrorKind::ConnectionRefused) => Outcome::Refused,
            Err(ErrorKind::TimedOut) => Outcome::Silence,
            Err(other) => panic!("{self}: {other}"),
        }
    }
}

/// Does all of them at once.
pub fn all(scene: &Scene, attempts: &[Attempt]) -> Vec<Outcome> {
    thread::scope(|scope| {
        let threads: Vec<_> =
            attempts.iter().map(|attempt| scope.spawn(|| attempt.outcome(scene))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A connection that stays open, and both of its ends.
pub struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    /// Opens it; the server listens for this one connection only.
    pub fn open(scene: &Scene, from: &str, to: &str, port: u16, family: u8) -> Self {
        let target = SocketAddr::new(scene.address(to, family), port);
        let listener = scene.inside(to, || TcpListener::bind(target).unwrap());
        let connect = || TcpStream::connect_timeout(&target, PATIENCE).unwrap();
        let client = scene.inside(from, connect);
        let (server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
            end.set_nodelay(true).unwrap();
        }
        Self { client, server }
    }

    /// Whether what the client sends arrives.
    pub fn answers(&mut self) -> bool {
        self.client.write_all(b"x").unwrap();
        self.server.read_exact(&mut [0]).is_ok()
    }

    /// Sends something both ways and waits until it is there.
    pub fn carries(&mut self) {
        for round in 0..8u8 {
            let text = [round; 4096];
            transfer(&mut self.client, &mut self.server, &text);
            transfer(&mut self.server, &mut self.client, &text);
        }
    }
}

fn transfer(from: &mut TcpStream, to: &mut TcpStream, text: &[u8]) {
    from.write_all(text).unwrap();
    let mut got = vec![0; text.len()];
    to.read_exact(&mut got).unwrap();
    assert_eq!(got, text);
}

/// Sends datagrams that nobody answers.
pub fn datagrams(scene: &Scene, from: &str, to: IpAddr, ports: impl Iterator<Item = u16> + Send) {
    scene.inside(from, || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        for port in ports {
            // An answer that nobody listens there is reported here, and is no failure.
            let _ = socket.send_to(b"x", SocketAddr::new(to, port));
        }
    });
}
