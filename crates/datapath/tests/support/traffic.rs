//! Real sockets of pods that talk without a pause: `A` to `B`, which is allowed, and
//! `C` to `B`, which is not. Answers reach `A` only as answers: nobody but `C` may
//! open anything to it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::wires::{Who, Wires};

const TCP: u16 = 8001;
const UDP: u16 = 8002;
/// Connections that last as long as the traffic.
const STANDING: usize = 8;
/// An answer that takes longer was lost: nothing else on a veth takes seconds.
const LOST: Duration = Duration::from_secs(4);

#[derive(Debug, Default)]
struct Counts {
    /// Who asks.
    stop: AtomicBool,
    /// Who answers, when nobody asks any more.
    quiet: AtomicBool,
    /// Rounds of each kind that ended well.
    opened: AtomicU64,
    kept: AtomicU64,
    asked: AtomicU64,
    asked_anew: AtomicU64,
    denied: AtomicU64,
    /// What must not be.
    broken: AtomicU64,
    unanswered: AtomicU64,
    lost_segments: AtomicU64,
    slipped: AtomicU64,
}

impl Counts {
    fn add(&self, counter: fn(&Self) -> &AtomicU64) {
        counter(self).fetch_add(1, Ordering::Relaxed);
    }

    fn runs(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

pub struct Traffic {
    counts: Arc<Counts>,
    clients: Vec<JoinHandle<()>>,
    servers: Vec<JoinHandle<()>>,
}

/// What has become of it all.
pub struct Ended(Arc<Counts>);

impl Traffic {
    pub fn start(wires: &Wires) -> Self {
        let counts = Arc::new(Counts::default());
        let mut traffic = Self { counts, clients: Vec::new(), servers: Vec::new() };
        let target = |port| SocketAddr::from((Who::B.address(), port));
        let listener = wires.inside(Who::B, || TcpListener::bind(target(TCP)).unwrap());
        let answering = wires.inside(Who::B, || UdpSocket::bind(target(UDP)).unwrap());
        traffic.server(wires, move |counts| accept(&listener, &counts));
        traffic.server(wires, move |counts| answer(&answering, &counts));
        traffic.client(wires, Who::A, move |counts| open_and_close(target(TCP), &counts));
        traffic.client(wires, Who::A, move |counts| keep(target(TCP), &counts));
        traffic.client(wires, Who::A, move |counts| ask(target(UDP), &counts));
        traffic.client(wires, Who::A, move |counts| ask_anew(target(UDP), &counts));
        traffic.client(wires, Who::C, move |counts| be_denied(target(TCP), target(UDP), &counts));
        traffic
    }

    fn client(&mut self, wires: &Wires, who: Who, body: impl FnOnce(Arc<Counts>) + Send + 'static) {
        let thread = self.spawn(wires, who, body);
        self.clients.push(thread);
    }

    fn server(&mut self, wires: &Wires, body: impl FnOnce(Arc<Counts>) + Send + 'static) {
        let thread = self.spawn(wires, Who::B, body);
        self.servers.push(thread);
    }

    fn spawn(
        &self,
        wires: &Wires,
        who: Who,
        body: impl FnOnce(Arc<Counts>) + Send + 'static,
    ) -> JoinHandle<()> {
        let (place, counts) = (wires.place(who), Arc::clone(&self.counts));
        thread::spawn(move || {
            super::wires::enter(&place);
            body(counts);
        })
    }

    /// Returns when everybody has done something more.
    #[track_caller]
    pub fn go_on(&self) {
        let counts = &self.counts;
        let all = || {
            let done = [&counts.opened, &counts.kept, &counts.asked, &counts.asked_anew];
            let mut done = done.map(|counter| counter.load(Ordering::Relaxed) / 10).to_vec();
            done.push(counts.denied.load(Ordering::Relaxed));
            done
        };
        let (before, start) = (all(), Instant::now());
        while all().iter().zip(&before).any(|(now, before)| now <= before) {
            assert!(start.elapsed() < Duration::from_secs(30), "{counts:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn end(mut self) -> Ended {
        self.stop();
        Ended(Arc::clone(&self.counts))
    }

    fn stop(&mut self) {
        for (word, threads) in
            [(&self.counts.stop, &mut self.clients), (&self.counts.quiet, &mut self.servers)]
        {
            word.store(true, Ordering::Relaxed);
            for thread in threads.drain(..) {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Ended {
    /// Not a packet.
    #[track_caller]
    pub fn check_nothing_lost(&self) {
        self.check_no_connection_lost();
        let counts = &self.0;
        let lost = [&counts.unanswered, &counts.lost_segments];
        assert_eq!(lost.map(|counter| counter.load(Ordering::Relaxed)), [0, 0], "{counts:?}");
    }

    /// No connection, and nothing that was denied got through. A datagram may be lost
    /// whose answer met the other version's map.
    #[track_caller]
    pub fn check_no_connection_lost(&self) {
        let counts = &self.0;
        println!("{counts:?}");
        assert_eq!(counts.slipped.load(Ordering::Relaxed), 0, "{counts:?}");
        assert_eq!(counts.broken.load(Ordering::Relaxed), 0, "{counts:?}");
        assert!(counts.denied.load(Ordering::Relaxed) > 0, "nothing was denied: {counts:?}");
    }
}

fn accept(listener: &TcpListener, counts: &Arc<Counts>) {
    listener.set_nonblocking(true).unwrap();
    while !counts.quiet.load(Ordering::Relaxed) {
        let Ok((mut stream, peer)) = listener.accept() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        if peer.ip() != Who::A.address() {
            counts.add(|counts| &counts.slipped);
        }
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        thread::spawn(move || {
            let mut text = [0; 8];
            while stream.read_exact(&mut text).is_ok() && stream.write_all(&text).is_ok() {}
        });
    }
}

fn answer(socket: &UdpSocket, counts: &Counts) {
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut text = [0; 8];
    while !counts.quiet.load(Ordering::Relaxed) {
        let Ok((_, peer)) = socket.recv_from(&mut text) else { continue };
        if peer.ip() != Who::A.address() {
            counts.add(|counts| &counts.slipped);
        }
        socket.send_to(&text, peer).unwrap();
    }
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, 3 * LOST)?;
    stream.set_read_timeout(Some(3 * LOST))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn echo(stream: &mut TcpStream, number: u64) -> io::Result<()> {
    let mut text = [0; 8];
    stream.write_all(&number.to_be_bytes())?;
    stream.read_exact(&mut text)?;
    assert_eq!(u64::from_be_bytes(text), number);
    Ok(())
}

/// Segments that were sent again because they were lost: of one that was only late,
/// as on a machine that is busy or emulated, the other end says that it came twice.
fn lost_segments(stream: &TcpStream) -> u64 {
    let start = Instant::now();
    loop {
        let (again, twice) = sent_again(stream);
        let lost = again.saturating_sub(twice);
        if lost == 0 || start.elapsed() > LOST {
            return lost.into();
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// How many were sent again, and how many came twice.
fn sent_again(stream: &TcpStream) -> (u32, u32) {
    // SAFETY: plain numbers; zero is one of each.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` has the size that is told and outlives the call.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &mut size,
        )
    };
    assert_eq!(result, 0);
    (info.tcpi_total_retrans, info.tcpi_dsack_dups)
}

fn open_and_close(target: SocketAddr, counts: &Counts) {
    for number in 0.. {
        if !counts.runs() {
            return;
        }
        let tried = connect(target).and_then(|mut stream| {
            echo(&mut stream, number)?;
            counts.lost_segments.fetch_add(lost_segments(&stream), Ordering::Relaxed);
            stream.shutdown(Shutdown::Both)
        });
        counts.add(if tried.is_ok() { |it| &it.opened } else { |it| &it.broken });
        thread::sleep(Duration::from_millis(4));
    }
}

fn keep(target: SocketAddr, counts: &Counts) {
    let mut streams: Vec<TcpStream> = (0..STANDING).map(|_| connect(target).unwrap()).collect();
    for number in 0.. {
        if !counts.runs() {
            break;
        }
        for stream in &mut streams {
            let tried = echo(stream, number);
            counts.add(if tried.is_ok() { |it| &it.kept } else { |it| &it.broken });
        }
        thread::sleep(Duration::from_millis(4));
    }
    let again: u64 = streams.iter().map(lost_segments).sum();
    counts.lost_segments.fetch_add(again, Ordering::Relaxed);
}

/// One datagram and its answer; those of earlier rounds are let go.
fn request(socket: &UdpSocket, target: SocketAddr, number: u64) -> bool {
    let start = Instant::now();
    socket.send_to(&number.to_be_bytes(), target).unwrap();
    let mut text = [0; 8];
    while start.elapsed() < LOST {
        match socket.recv_from(&mut text) {
            Ok(_) if u64::from_be_bytes(text) == number => return true,
            _ => {}
        }
    }
    false
}

fn client() -> UdpSocket {
    let socket = UdpSocket::bind((Who::A.address(), 0)).unwrap();
    socket.set_read_timeout(Some(LOST)).unwrap();
    socket
}

fn ask(target: SocketAddr, counts: &Counts) {
    let socket = client();
    for number in 0.. {
        if !counts.runs() {
            return;
        }
        let answered = request(&socket, target, number);
        counts.add(if answered { |it| &it.asked } else { |it| &it.unanswered });
        thread::sleep(Duration::from_millis(2));
    }
}

fn ask_anew(target: SocketAddr, counts: &Counts) {
    for number in 0.. {
        if !counts.runs() {
            return;
        }
        let answered = request(&client(), target, number);
        counts.add(if answered { |it| &it.asked_anew } else { |it| &it.unanswered });
        thread::sleep(Duration::from_millis(2));
    }
}

fn be_denied(tcp: SocketAddr, udp: SocketAddr, counts: &Counts) {
    let socket = UdpSocket::bind((Who::C.address(), 0)).unwrap();
    while counts.runs() {
        for _ in 0..20 {
            socket.send_to(b"by error", udp).unwrap();
        }
        let opened = TcpStream::connect_timeout(&tcp, Duration::from_millis(40)).is_ok();
        counts.add(if opened { |it| &it.slipped } else { |it| &it.denied });
    }
}

/// One connection from `A` to `B`, older than what happens to it. Answers reach `A`
/// by it alone.
pub struct Kept {
    near: TcpStream,
    far: TcpStream,
}

impl Kept {
    pub fn open(wires: &Wires) -> Self {
        let target = SocketAddr::from((Who::B.address(), TCP));
        let listener = wires.inside(Who::B, || TcpListener::bind(target).unwrap());
        let near = wires.inside(Who::A, || connect(target).unwrap());
        let (far, _) = listener.accept().unwrap();
        far.set_read_timeout(Some(3 * LOST)).unwrap();
        Self { near, far }
    }

    /// There and back.
    #[track_caller]
    pub fn check(&mut self, when: &str) {
        let mut text = [0; 4];
        let mut pass = || {
            self.near.write_all(b"ping")?;
            self.far.read_exact(&mut text)?;
            self.far.write_all(b"pong")?;
            self.near.read_exact(&mut text)
        };
        pass().unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_eq!(&text, b"pong", "{when}");
    }
}
