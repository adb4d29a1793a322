//! Everything that reaches a member, as its interface gets it: behind all that judges.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::scene::Scene;

/// Value of `sll_pkttype` (packet(7)).
const PACKET_OUTGOING: u8 = 4;

/// Captures until it is dropped.
pub struct Capture {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts; when this returns, no frame is missed any more.
    pub fn of(scene: &Scene, member: &str) -> Self {
        let frames = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, wait) = mpsc::channel();
        let (netns, kept, until) = (scene.netns(member), Arc::clone(&frames), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let socket = netns.inside(open).unwrap();
            ready.send(()).unwrap();
            keep(&socket, &kept, &until);
        });
        wait.recv().unwrap();
        Self { frames, stop, thread: Some(thread) }
    }

    /// Whether these bytes have come so far, wherever in a frame.
    pub fn has(&self, text: &[u8]) -> bool {
        let frames = self.frames.lock().unwrap();
        frames.iter().any(|frame| frame.windows(text.len()).any(|window| window == text))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open() -> OwnedFd {
    let kind = (AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC);
    let socket = socket(kind.0, kind.1, kind.2, SockProtocol::EthAll).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(20)).unwrap();
    socket
}

fn keep(socket: &OwnedFd, kept: &Mutex<Vec<Vec<u8>>>, stop: &AtomicBool) {
    let mut frame = [0; 2048];
    while !stop.load(Ordering::Acquire) {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) {
            Ok((_, Some(from))) if from.pkttype() == PACKET_OUTGOING => {}
            Ok((length, _)) => kept.lock().unwrap().push(frame[..length].to_vec()),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
