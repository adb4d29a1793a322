//! Says when a directory may have changed; it does not know what is in it.
//!
//! A hint, not the truth: whoever waits here looks for himself, and looks again
//! every few seconds whatever was said. So a lost event, a full queue or a host
//! without inotify costs seconds, never correctness.

use std::ffi::OsStr;
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

/// The same where files were only renamed into their places: each is whole.
const QUIET_IF_WHOLE: Duration = Duration::from_millis(3);

/// However long a burst goes on, it is reported after this long.
pub const AT_MOST: Duration = Duration::from_millis(100);

/// How often the holder looks by itself where the kernel does not tell.
const WITHOUT_EVENTS: Duration = Duration::from_millis(500);

/// What a burst of events says so far.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Sign {
    /// Nothing.
    None,
    /// Files were renamed into their places.
    Whole,
    /// Something else, that may not be at its end.
    Unsettled,
}

impl Sign {
    /// What happened to a name in a watched directory. Hidden files are drafts, but what
    /// other names are links to may be hidden, and is replaced by renaming.
    fn of(mask: EventMask, name: Option<&OsStr>) -> Self {
        let hidden = name.is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        match (mask.contains(EventMask::MOVED_TO), hidden) {
            (true, _) => Self::Whole,
            (false, true) => Self::None,
            (false, false) => Self::Unsettled,
        }
    }
}

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
    /// quiet for [`QUIET`] (less where nobody can be in the middle of a file or has
    /// taken one away, perhaps to put another in its place) but not later than [`AT_MOST`] after the first sign;
    /// `false` when `timeout` passed without a sign.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        if self.inotify.is_none() {
            std::thread::sleep(timeout.min(WITHOUT_EVENTS));
            return Ok(true);
        }
        // A directory that was replaced since the last call is seen here, because
        // the kernel gives another descriptor for another inode.
        let mut sign = if self.cover() { Sign::Unsettled } else { Sign::None };
        let end = Instant::now() + timeout;
        while sign == Sign::None {
            let left = end.saturating_duration_since(Instant::now());
            if !self.readable(left)? {
                return Ok(false);
            }
            sign = self.drain()?;
        }
        let end = Instant::now() + AT_MOST;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let quiet = if sign == Sign::Whole { QUIET_IF_WHOLE } else { QUIET };
            if left.is_zero() || !self.readable(left.min(quiet))? {
                return Ok(true);
            }
            sign = sign.max(self.drain()?);
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

    /// Takes what is queued; what of it concerns a watched directory.
    fn drain(&mut self) -> io::Result<Sign> {
        let Some(inotify) = &mut self.inotify else { return Ok(Sign::Unsettled) };
        let mut sign = Sign::None;
        let mut buffer = [0; 16 * 1024];
        loop {
            let events = match inotify.read_events(&mut buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(sign),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for event in events {
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    sign = Sign::Unsettled;
                }
                for watched in &self.directories {
                    let inside = watched.content.as_ref() == Some(&event.wd);
                    let at_its_place = watched.place.as_ref() == Some(&event.wd)
                        && watched.path.file_name() == event.name;
                    if inside {
                        sign = sign.max(Sign::of(event.mask, event.name));
                    } else if at_its_place {
                        sign = Sign::Unsettled;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
