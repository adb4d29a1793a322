//! Reads the two rings in an order that joins work with.
//!
//! A connection between two pods of a node leaves a trace at its sender before
//! anything can be said at its receiver. So drops are taken out first but told
//! after all traces that were there by then: whoever told of a drop has been
//! told of its sender.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use libbpf_rs::{MapHandle, RingBuffer, RingBufferBuilder};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::MapError;
use crate::pins::Pins;
use crate::record::{DecodeError, Record};
use crate::succession;

/// Drops handed over at once.
const DROPS_AT_ONCE: usize = 4096;
/// Traces handed over at once: more than a ring of 16 MiB holds, so that none
/// that was there before a drop is left for later.
const TRACES_AT_ONCE: usize = 65_536;

type Decoded = Result<Record, DecodeError>;

struct RingReader {
    // Dropped before `map`, whose descriptor it polls.
    ring: RingBuffer<'static>,
    map: MapHandle,
    pending: Rc<RefCell<Vec<Decoded>>>,
    name: &'static str,
}

impl RingReader {
    fn open(pins: &Pins, name: &'static str) -> Result<Self, MapError> {
        let failed =
            |step: &'static str| move |source| MapError { step, map: name.to_owned(), source };
        let map = MapHandle::from_pinned_path(pins.map(name)).map_err(failed("open"))?;
        let pending = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&pending);
        let mut builder = RingBufferBuilder::new();
        builder
            .add(&map, move |bytes: &[u8]| {
                sink.borrow_mut().push(Record::decode(bytes));
                0
            })
            .map_err(failed("read"))?;
        let ring = builder.build().map_err(failed("read"))?;
        Ok(Self { ring, map, pending, name })
    }

    /// Takes out what is there, in the kernel's order, up to `most`: a flood must
    /// not keep the reader from handing over.
    fn take(&self, most: usize) -> Result<Vec<Decoded>, MapError> {
        let taken = self.ring.consume_raw_n(most);
        if taken < 0 {
            let source = std::io::Error::from_raw_os_error(-taken).into();
            return Err(MapError { step: "read", map: self.name.to_owned(), source });
        }
        Ok(self.pending.take())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

/// The one consumer of a node's records. Lives on the thread that opened it.
pub struct RecordReader {
    traces: RingReader,
    drops: RingReader,
}

impl std::fmt::Debug for RecordReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordReader").finish_non_exhaustive()
    }
}

impl RecordReader {
    /// Opens the rings pinned at a node's folder.
    pub fn open(pins: &Path) -> Result<Self, MapError> {
        let pins = succession::own_maps(pins);
        Ok(Self {
            traces: RingReader::open(&pins, "traces")?,
            drops: RingReader::open(&pins, "drops")?,
        })
    }

    /// Waits up to `timeout` and hands over what there is; returns how many.
    pub fn read(
        &self,
        timeout: Duration,
        each: &mut dyn FnMut(Result<Record, DecodeError>),
    ) -> Result<usize, MapError> {
        self.wait(timeout)?;
        let drops = self.drops.take(DROPS_AT_ONCE)?;
        let traces = self.traces.take(TRACES_AT_ONCE)?;
        let count = drops.len() + traces.len();
        traces.into_iter().chain(drops).for_each(each);
        Ok(count)
    }

    fn wait(&self, timeout: Duration) -> Result<(), MapError> {
        let mut fds = [
            PollFd::new(self.traces.fd(), PollFlags::POLLIN),
            PollFd::new(self.drops.fd(), PollFlags::POLLIN),
        ];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(MapError {
                step: "wait for",
                map: "traces".to_owned(),
                source: std::io::Error::from(errno).into(),
            }),
        }
    }
}
