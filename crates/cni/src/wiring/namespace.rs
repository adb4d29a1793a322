//! A network namespace that the plugin enters: always on a thread of its own, so
//! that no other work ever finds itself in the wrong one.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::WiringError;

/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace; it lives at least as long as this.
#[derive(Debug)]
pub(crate) struct Namespace {
    path: PathBuf,
    file: File,
}

impl Namespace {
    /// Opens the namespace at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, WiringError> {
        let file = File::open(path).map_err(|source| WiringError::Namespace {
            action: "open",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Whether it is the one that the calling thread is in.
    pub(crate) fn is_own(&self) -> Result<bool, WiringError> {
        let compare = || -> io::Result<bool> {
            let (this, own) = (self.file.metadata()?, fs::metadata(OWN)?);
            Ok((this.dev(), this.ino()) == (own.dev(), own.ino()))
        };
        compare().map_err(|source| self.error("identify", source))
    }

    /// Does `work` inside, on a thread that ends with it.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, WiringError> + Send,
    ) -> Result<T, WiringError> {
        thread::scope(|scope| {
            let inside = || {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .map_err(|errno| self.error("enter", errno.into()))?;
                work()
            };
            let thread = thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, inside)
                .map_err(|source| self.error("start a thread for", source))?;
            thread
                .join()
                .unwrap_or_else(|_| Err(self.error("work in", io::Error::other("the thread died"))))
        })
    }

    /// The descriptor, to name the namespace to the kernel.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn error(&self, action: &'static str, source: io::Error) -> WiringError {
        WiringError::Namespace { action, path: self.path.clone(), source }
    }
}
