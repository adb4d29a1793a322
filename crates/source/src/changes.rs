//! Says when a directory may have changed; it does not know what is in it.
//!
//! A hint, not the truth: whoever waits here looks for himself, and looks again
//! every few seconds whatever was said. So a lost event, a full queue or a host
//! without inotify costs seconds, never correctness.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What makes the content of a watched directory another one.
const CONTENT: WatchMask = WatchMask::CLOSE_WRITE
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MODIFY)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::ONLYDIR);

/// What puts another directory, or another link to one, at the watched path.
const PLACE: WatchMask = WatchMask::CREATE
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::MASK_ADD)
    .union(WatchMask::ONLYDIR);

/// A burst of writes is over after this long without one.
pub const QUIET: Duration = Duration::from_millis(20);

/// However long a burst goes on, it is reported after this long.
pub const AT_MOST: Duration = Duration::from_millis(100);

/// How often the holder looks by itself where the kernel does not tell.
const WITHOUT_EVENTS: Duration = Duration::from_millis(500);

/// One directory and the watches that cover it.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    content: Option<WatchDescriptor>,
    place: Option<WatchDescriptor>,
}

/// Waits until one of some directories may have changed.
///
/// A directory may be absent, appear, vanish or be replaced at any time.
pub struct Changes {
    inotify: Option<Inotify>,
    directories: Vec<Watched>,
}

impl Changes {
    /// Watches these directories.
    ///
    /// Never fails: without inotify (all instances in use) it looks twice a second.
    pub fn of<P: AsRef<Path>>(directories: &[P]) -> Self {
        let inotify = Inotify::init()
            .inspect_err(|error| tracing::warn!(%error, "no inotify, directories are polled"))
            .ok();
        let directories = directories
            .iter()
            .map(|path| Watched { path: path.as_ref().to_owned(), content: None, place: None })
            .collect();
        let mut changes = Self { inotify, directories };
        changes.cover();
        changes
    }

    /// Returns `true` when something may have changed, as soon as it has been
    /// quiet for [`QUIET`] but not later than [`AT_MOST`] after the first sign;
    /// `false` when `timeout` passed without a sign.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        if self.inotify.is_none() {
            std::thread::sleep(timeout.min(WITHOUT_EVENTS));
            return Ok(true);
        }
        // A directory that was replaced since the last call is seen here, because
        // the kernel gives another descriptor for another inode.
        let mut sign = self.cover();
        let end = Instant::now() + timeout;
        while !sign {
            let left = end.saturating_duration_since(Instant::now());
            if !self.readable(left)? {
                return Ok(false);
            }
            sign = self.drain()?;
        }
        let end = Instant::now() + AT_MOST;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.readable(left.min(QUIET))? {
                return Ok(true);
            }
            self.drain()?;
        }
    }

    /// Puts the watches where they belong; whether any had to move.
    fn cover(&mut self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mut moved = false;
        for directory in &mut self.directories {
            let content = inotify.watches().add(&directory.path, CONTENT).ok();
            // `MASK_ADD`, because the parent may be a watched directory itself.
            let parent = directory.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            directory.place = inotify.watches().add(parent.unwrap_or(Path::new(".")), PLACE).ok();
            if content != directory.content {
                moved = true;
                directory.content = content;
            }
        }
        moved
    }

    /// Whether events are there within `timeout`.
    fn readable(&self, timeout: Duration) -> io::Result<bool> {
        let Some(inotify) = &self.inotify else { return Ok(false) };
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        // Rounded up, or the last fraction of a millisecond would spin.
        let millis = timeout.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes what is queued; whether any of it concerns a watched directory.
    fn drain(&mut self) -> io::Result<bool> {
        let Some(inotify) = &mut self.inotify else { return Ok(true) };
        let mut sign = false;
        let mut buffer = [0; 16 * 1024];
        loop {
            let events = match inotify.read_events(&mut buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(sign),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for event in events {
                sign |= event.mask.contains(EventMask::Q_OVERFLOW);
                for watched in &self.directories {
                    let inside = watched.content.as_ref() == Some(&event.wd);
                    let at_its_place = watched.place.as_ref() == Some(&event.wd)
                        && watched.path.file_name() == event.name;
                    sign |= inside || at_its_place;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
