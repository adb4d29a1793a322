//! Traffic that goes on while agents die: new connections, old ones, datagrams,
//! and somebody who may do nothing. Counted by those who send and those who
//! receive; knows neither policy nor agents.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::netns::Netns;

/// New connections, one after the other.
const SHORT: u16 = 7000;
/// Connections that stay.
const LONG: u16 = 7001;
/// Datagrams with an answer.
const ASK: u16 = 7002;
/// Listened on, and open to nobody.
const CLOSED: u16 = 7009;

/// Who open new connections, to each server.
const CLIENTS: usize = 2;

/// How much of it there is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Connections that stay, to each server.
    pub standing: usize,
    /// New connections in a second, of each of the clients.
    pub rate: u32,
    /// Everybody else rests so long more between two attempts.
    pub rest: Duration,
}

impl Pace {
    /// For a machine with its own processors.
    pub const FULL: Self = Self { standing: 25, rate: 50, rest: Duration::ZERO };
}

/// Longer than any pause of a busy machine; a lost SYN is sent again before.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was tried, what came of it, and everything that went wrong.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Mutex<BTreeMap<&'static str, u64>>,
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    /// How often.
    pub fn get(&self, what: &str) -> u64 {
        self.counts.lock().unwrap().get(what).copied().unwrap_or(0)
    }
}

/// What one of the servers' threads does.
type Part = Box<dyn FnOnce(&Arc<Tally>, &Arc<AtomicBool>) + Send>;

/// Whoever takes part in the traffic.
pub struct Cast {
    pub client: Netns,
    pub stranger: Netns,
    /// Where servers are, and by which address they are asked.
    pub servers: Vec<(Netns, IpAddr)>,
    /// The client's addresses.
    pub known: Vec<IpAddr>,
    pub pace: Pace,
}

/// Traffic that goes on until it is ended.
pub struct Load {
    tally: Arc<Tally>,
    clients: Group,
    /// They end last: who asks until then is answered.
    servers: Group,
}

/// Threads that end together.
#[derive(Default)]
struct Group {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Group {
    fn end(self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

impl Load {
    pub fn start(cast: &Cast) -> Self {
        let (clients, servers) = (Group::default(), Group::default());
        let mut load = Self { tally: Arc::default(), clients, servers };
        let Pace { standing, rate, rest } = cast.pace;
        for (place, address) in &cast.servers {
            let address = *address;
            let sockets = place.inside(|| Server::open(address)).unwrap().unwrap();
            load.serve(sockets, &cast.known);
            for _ in 0..CLIENTS {
                load.spawn(&cast.client, move |tally, stop| {
                    open_and_close(address, rate, tally, stop);
                });
            }
            load.spawn(&cast.client, move |tally, stop| {
                keep_open(address, standing, rest, tally, stop);
            });
            load.spawn(&cast.client, move |tally, stop| ask(address, rest, tally, stop));
            let knock_at = |ports: &'static [u16]| {
                move |tally: &Tally, stop: &AtomicBool| knock(address, ports, rest, tally, stop)
            };
            load.spawn(&cast.client, knock_at(&[CLOSED]));
            load.spawn(&cast.stranger, knock_at(&[SHORT, LONG, ASK, CLOSED]));
        }
        load
    }

    fn spawn(&mut self, place: &Netns, work: impl FnOnce(&Tally, &AtomicBool) + Send + 'static) {
        let (tally, place) = (Arc::clone(&self.tally), place.clone());
        let stop = Arc::clone(&self.clients.stop);
        let thread = thread::spawn(move || place.inside(|| work(&tally, &stop)).unwrap());
        self.clients.threads.push(thread);
    }

    fn serve(&mut self, server: Server, known: &[IpAddr]) {
        let Server { short, long, ask, closed } = server;
        let mut start = |work: Part| {
            let (tally, stop) = (Arc::clone(&self.tally), Arc::clone(&self.servers.stop));
            self.servers.threads.push(thread::spawn(move || work(&tally, &stop)));
        };
        let known: Arc<[IpAddr]> = known.into();
        for listener in [short, long] {
            let known = Arc::clone(&known);
            start(Box::new(move |tally, stop| accept(&listener, &known, tally, stop)));
        }
        let asked = Arc::clone(&known);
        start(Box::new(move |tally, stop| answer(&ask, &asked, tally, stop)));
        start(Box::new(move |tally, stop| hear_nothing(&closed, tally, stop)));
    }

    /// Ends it; panics when anything was lost or slipped through.
    #[track_caller]
    pub fn end(self) -> Arc<Tally> {
        self.clients.end();
        self.servers.end();
        let wrong = self.tally.wrong.lock().unwrap().clone();
        println!("{:?}", self.tally.counts.lock().unwrap());
        assert!(
            wrong.is_empty(),
            "{} wrong, the first: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(20)]
        );
        self.tally
    }
}

struct Server {
    short: TcpListener,
    long: TcpListener,
    ask: UdpSocket,
    closed: (TcpListener, UdpSocket),
}

impl Server {
    fn open(address: IpAddr) -> std::io::Result<Self> {
        let tcp = |port| {
            let listener = TcpListener::bind((address, port))?;
            listener.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(listener)
        };
        let udp = |port| {
            let socket = UdpSocket::bind((address, port))?;
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            Ok::<_, std::io::Error>(socket)
        };
        Ok(Self {
            short: tcp(SHORT)?,
            long: tcp(LONG)?,
            ask: udp(ASK)?,
            closed: (tcp(CLOSED)?, udp(CLOSED)?),
        })
    }
}

fn going(stop: &AtomicBool) -> bool {
    !stop.load(Ordering::Acquire)
}

/// Answers each byte that comes by any connection.
fn accept(listener: &TcpListener, known: &[IpAddr], tally: &Arc<Tally>, stop: &Arc<AtomicBool>) {
    while going(stop) {
        match listener.accept() {
            Ok((mut stream, from)) => {
                if !known.contains(&from.ip()) {
                    tally.wrong(format!("{from} was let in"));
                }
                tally.count("connections accepted");
                stream.set_nonblocking(false).unwrap();
                thread::spawn(move || {
                    let mut byte = [0];
                    while stream
                        .read_exact(&mut byte)
                        .and_then(|()| stream.write_all(&byte))
                        .is_ok()
                    {}
                });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn answer(socket: &UdpSocket, known: &[IpAddr], tally: &Tally, stop: &AtomicBool) {
    let mut text = [0; 16];
    while going(stop) {
        let Ok((length, from)) = socket.recv_from(&mut text) else { continue };
        if !known.contains(&from.ip()) {
            tally.wrong(format!("a datagram of {from} was let in"));
        }
        tally.count("datagrams received");
        socket.send_to(&text[..length], from).unwrap();
    }
}

fn hear_nothing((tcp, udp): &(TcpListener, UdpSocket), tally: &Tally, stop: &AtomicBool) {
    while going(stop) {
        if let Ok((_, from)) = tcp.accept() {
            tally.wrong(format!("{from} was let in at the closed port"));
        }
        if let Ok((_, from)) = udp.recv_from(&mut [0; 16]) {
            tally.wrong(format!("a datagram of {from} was let in at the closed port"));
        }
    }
}

fn connect(target: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream, byte: u8) -> std::io::Result<()> {
    let mut got = [!byte];
    stream.write_all(&[byte])?;
    stream.read_exact(&mut got)?;
    if got == [byte] { Ok(()) } else { Err(std::io::Error::other("another byte came back")) }
}

fn open_and_close(address: IpAddr, rate: u32, tally: &Tally, stop: &AtomicBool) {
    let mut due = Instant::now();
    while going(stop) {
        let done = connect((address, SHORT).into()).and_then(|mut stream| exchange(&mut stream, 7));
        tally.count("connections opened");
        if let Err(error) = done {
            tally.wrong(format!("a new connection to {address}: {error}"));
        }
        due = (due + Duration::from_secs(1) / rate).max(Instant::now() - Duration::from_secs(1));
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn keep_open(address: IpAddr, standing: usize, rest: Duration, tally: &Tally, stop: &AtomicBool) {
    let streams = (0..standing).map(|_| connect((address, LONG).into()));
    let mut streams: Vec<TcpStream> = streams.collect::<Result<_, _>>().unwrap();
    for byte in (0..=255).cycle() {
        if !going(stop) {
            return;
        }
        for stream in &mut streams {
            tally.count("exchanges on old connections");
            if let Err(error) = exchange(stream, byte) {
                return tally.wrong(format!("an old connection to {address}: {error}"));
            }
        }
        thread::sleep(Duration::from_millis(50) + rest);
    }
}

/// From one socket, and from a new one, in turn. Nothing is sent twice.
fn ask(address: IpAddr, rest: Duration, tally: &Tally, stop: &AtomicBool) {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let open = || {
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect((address, ASK)).unwrap();
        socket
    };
    let old = open();
    for number in 0u64.. {
        if !going(stop) {
            return;
        }
        let new = open();
        let socket = if number % 2 == 0 { &old } else { &new };
        tally.count("datagrams sent");
        let mut got = [0; 8];
        let answered = socket.send(&number.to_be_bytes()).and_then(|_| socket.recv(&mut got));
        match answered {
            Ok(8) if got == number.to_be_bytes() => tally.count("datagrams answered"),
            other => tally.wrong(format!("datagram {number} to {address}: {other:?}")),
        }
        thread::sleep(Duration::from_millis(10) + rest);
    }
}

/// Tries what is denied, by both protocols.
fn knock(address: IpAddr, ports: &[u16], rest: Duration, tally: &Tally, stop: &AtomicBool) {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    while going(stop) {
        for port in ports {
            let target = SocketAddr::new(address, *port);
            let socket = UdpSocket::bind(any).unwrap();
            // Receivers say whether it came.
            let _ = socket.send_to(b"denied", target);
            tally.count("denied attempts");
            match TcpStream::connect_timeout(&target, Duration::from_millis(15)) {
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                other => tally.wrong(format!("a denied connection to {target}: {other:?}")),
            }
            thread::sleep(rest);
        }
    }
}
