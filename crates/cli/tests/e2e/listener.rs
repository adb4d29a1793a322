//! Counts the sender's frames where they arrive: behind everything that judges,
//! in the network namespace of the pod that receives.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use lab::netns::Netns;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::frame::{self, Kind};

/// Far more than a sender can fill before this thread runs again.
const QUEUE: usize = 64 << 20;

/// Value of `sll_pkttype` (packet(7)).
const PACKET_OUTGOING: u8 = 4;

/// Frames by kind and source address.
type Seen = BTreeMap<(Kind, IpAddr), u64>;

/// Listens until it is dropped or asked for all it has.
pub struct Listener {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Starts to listen; when this returns, no frame is missed any more.
    pub fn start(netns: Netns) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(Seen::new())), Arc::new(AtomicBool::new(false)));
        let (ready, wait) = mpsc::channel();
        let (count, until) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let socket = netns.inside(open).unwrap();
            ready.send(()).unwrap();
            listen(&socket, &count, &until);
        });
        wait.recv().unwrap();
        Self { seen, stop, thread }
    }

    /// How many of that kind have come from there so far.
    pub fn count(&self, kind: Kind, source: IpAddr) -> u64 {
        self.seen.lock().unwrap().get(&(kind, source)).copied().unwrap_or(0)
    }

    /// All kinds but the allowed one that have come so far.
    pub fn denied(&self) -> Seen {
        let seen = self.seen.lock().unwrap().clone();
        seen.into_iter().filter(|((kind, _), _)| *kind != Kind::Allowed).collect()
    }

    /// All that has come, what waits in the queue included.
    pub fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap();
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn open() -> OwnedFd {
    let kind = (AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC);
    let socket = socket(kind.0, kind.1, kind.2, SockProtocol::EthAll).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &QUEUE).unwrap();
    setsockopt(&socket, sockopt::RxqOvfl, &1).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(20)).unwrap();
    socket
}

fn listen(socket: &OwnedFd, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut frame = [0; 256];
    let mut control = nix::cmsg_space!(u32);
    loop {
        let stopping = stop.load(Ordering::Acquire);
        let mut parts = [IoSliceMut::new(&mut frame)];
        let got = recvmsg::<LinkAddr>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        );
        match got {
            Ok(message) => {
                let overflow = |it: ControlMessageOwned| matches!(it, ControlMessageOwned::RxqOvfl(lost) if lost > 0);
                assert!(!message.cmsgs().unwrap().any(overflow), "the listener was too slow");
                let outgoing =
                    message.address.is_some_and(|from| from.pkttype() == PACKET_OUTGOING);
                let read = message.iovs().next().and_then(frame::read).filter(|_| !outgoing);
                if let Some(key) = read {
                    *seen.lock().unwrap().entry(key).or_default() += 1;
                }
            }
            Err(Errno::EAGAIN) if stopping => return,
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
