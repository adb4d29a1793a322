//! Counts, at the destination itself, the packets of a probe that arrive there.
//!
//! Independent of everything that judges: a raw socket in the destination's
//! network namespace. What a pod receives has passed the programs on the host's
//! side of its link. On a node, a packet of one of its own pods is seen before
//! those programs judge it; there the node's answer is counted instead, which it
//! gives only to what came through.

use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::error::Error;
use crate::netns::Netns;
use crate::probe::frame::Tuple;

/// Values of `sll_pkttype` (packet(7)).
const PACKET_HOST: u8 = 0;
const PACKET_OUTGOING: u8 = 4;

/// What is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Watch {
    /// Packets that come in.
    Arrivals(Tuple),
    /// Answers that go out.
    Answers(Tuple),
}

impl Watch {
    fn counts(&self, from: &LinkAddr, packet: &[u8]) -> bool {
        let ethertype = u16::from_be(from.protocol());
        match self {
            Self::Arrivals(tuple) => {
                from.pkttype() == PACKET_HOST && tuple.matches(ethertype, packet)
            }
            Self::Answers(tuple) => {
                from.pkttype() == PACKET_OUTGOING && tuple.reversed().matches(ethertype, packet)
            }
        }
    }
}

/// Watches until it is asked what it saw, or dropped.
#[derive(Debug)]
pub struct Observer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<u64, Error>>>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

impl Observer {
    /// Starts to watch; when this returns, no packet is missed any more.
    pub fn start(netns: &Netns, watch: Watch) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (ready, wait) = mpsc::channel();
        let netns = netns.clone();
        let thread = thread::spawn(move || {
            netns.inside(|| {
                let socket = open(&netns)?;
                // The receiver waits for this, so it is there.
                let _ = ready.send(());
                count(&socket, &watch, &stopped, &netns)
            })?
        });
        match wait.recv() {
            Ok(()) => Ok(Self { stop, thread: Some(thread) }),
            Err(_) => match join(thread) {
                Err(error) => Err(error),
                Ok(_) => Err(Error::Unknown("an observer ended before it began".into())),
            },
        }
    }

    /// How many packets there were, those in the queue included.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.stop.store(true, Ordering::Release);
        self.thread.take().map_or(Ok(0), join)
    }
}

fn join(thread: JoinHandle<Result<u64, Error>>) -> Result<u64, Error> {
    thread.join().unwrap_or_else(|_| Err(Error::Unknown("an observer panicked".into())))
}

fn open(netns: &Netns) -> Result<OwnedFd, Error> {
    let failed = || Error::call("watch the packets of", netns.path());
    let socket = socket(
        AddressFamily::Packet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )
    .map_err(failed())?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(20)).map_err(failed())?;
    Ok(socket)
}

/// Counts until it is told to stop and then finds the queue empty.
fn count(socket: &OwnedFd, watch: &Watch, stop: &AtomicBool, netns: &Netns) -> Result<u64, Error> {
    let mut seen = 0;
    let mut packet = [0; 128];
    loop {
        let stopping = stop.load(Ordering::Acquire);
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut packet) {
            Ok((length, Some(from))) => {
                let counts = watch.counts(&from, packet.get(..length).unwrap_or(&packet));
                seen += u64::from(counts);
            }
            Ok((_, None)) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if stopping => return Ok(seen),
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(Error::call("watch the packets of", netns.path())(errno)),
        }
    }
}
