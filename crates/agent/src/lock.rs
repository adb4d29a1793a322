//! One agent a node: whoever holds the lock may write the kernel's maps.
//!
//! The lock is the kernel's and ends with the process, however it ends. The file says
//! who holds it, until he lets go: what is there then is of one that was killed.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cgroup::MemoryCgroup;

/// An agent that was killed still holds the lock while the kernel takes its maps,
/// programs and memory back: more than half a second on a busy machine. And the CNI
/// plugin looks whether an agent runs by taking it for a moment, shared. Neither may
/// keep the next agent from starting.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent has it.
    #[error("another agent runs on this node: {holder} holds `{}`; stop it first", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// `process PID`, as the holder wrote it.
        holder: String,
    },
    /// The file could not be opened, locked or written.
    #[error("cannot lock `{}`", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Holding one is being the agent of this node.
#[derive(Debug)]
pub struct Lock {
    /// The kernel lets go when this is closed.
    file: File,
    killed: Option<Killed>,
}

/// An agent that ended without letting go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Killed {
    /// Its process.
    pub pid: u32,
    /// Processes of its memory cgroup that the kernel killed meanwhile, as far as it is
    /// this agent's, too.
    pub out_of_memory: u64,
    /// Bytes that the cgroup might have when it started.
    pub limit: Option<u64>,
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, out_of_memory, limit } = self;
        write!(f, "the agent before this one (process {pid}) was killed")?;
        match (out_of_memory, limit) {
            (0, _) => {}
            (_, Some(bytes)) => {
                write!(f, ": it reached the limit of its memory cgroup, {bytes} bytes (raise it)")?;
            }
            (_, None) => f.write_str(
                ": there was no memory left for it (its memory cgroup has no limit of its own: \
                 look at those above it, and at the host)",
            )?,
        }
        f.write_str("; the kernel went on with what was in force")
    }
}

impl Lock {
    /// Takes the lock of a state folder, or waits some seconds for whoever holds it
    /// to end.
    pub fn take(state_dir: &Path) -> Result<Self, LockError> {
        Self::take_within(PATIENCE, state_dir)
    }

    fn take_within(patience: Duration, state_dir: &Path) -> Result<Self, LockError> {
        let path = state_dir.join("agent.lock");
        let io = |source| LockError::Io { path: path.clone(), source };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        let end = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(io(source)),
                Err(TryLockError::WouldBlock) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held { holder: holder(&mut file), path });
                }
            }
        }
        let MemoryCgroup { kills, limit } = MemoryCgroup::own();
        let killed = content(&mut file).map(|Content { pid, kills: before, limit }| Killed {
            pid,
            // Of another cgroup, where fewer were killed, nothing is known.
            out_of_memory: kills.saturating_sub(before),
            limit,
        });
        // In place, not by a rename: the lock is on this very file.
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| {
                let limit = limit.map(|bytes| format!(" {bytes}")).unwrap_or_default();
                writeln!(file, "{} {kills}{limit}", std::process::id())
            })
            .map_err(io)?;
        Ok(Self { file, killed })
    }

    /// The agent that had the lock last, if it was killed.
    pub fn killed(&self) -> Option<Killed> {
        self.killed
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // What is left there by a full disk only makes the next agent say too much.
        let _ = self.file.set_len(0);
    }
}

/// What a holder writes: its process, how many of its cgroup had been killed before, and
/// the limit of that.
struct Content {
    pid: u32,
    kills: u64,
    limit: Option<u64>,
}

/// Holders of other versions wrote less, or more behind it.
fn content(file: &mut File) -> Option<Content> {
    let mut text = String::new();
    file.take(64).read_to_string(&mut text).ok()?;
    let mut words = text.split_whitespace();
    let pid = words.next()?.parse().ok()?;
    let mut numbers = words.map_while(|word| word.parse().ok());
    Some(Content { pid, kills: numbers.next().unwrap_or_default(), limit: numbers.next() })
}

fn holder(file: &mut File) -> String {
    match content(file) {
        Some(Content { pid, .. }) => format!("process {pid}"),
        None => "a process that has not written its pid yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_with_the_pid_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Lock::take(folder.path()).unwrap();
        let refusal = Lock::take_within(Duration::from_millis(30), folder.path());
        let refusal = refusal.unwrap_err().to_string();
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
    }

    #[test]
    fn the_lock_ends_with_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        drop(Lock::take(folder.path()).unwrap());
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_glance_at_the_lock_does_not_stop_an_agent() {
        let folder = tempfile::tempdir().unwrap();
        let glance = File::create(folder.path().join("agent.lock")).unwrap();
        glance.lock_shared().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                drop(glance);
            });
            Lock::take(folder.path()).unwrap();
        });
    }

    #[test]
    fn a_missing_folder_is_an_error_of_its_own() {
        let error = Lock::take(Path::new("/nonexistent/signet")).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }));
    }

    #[test]
    fn an_agent_that_was_killed_is_told_from_one_that_ended() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        assert_eq!(lock.killed(), None, "there was none before");
        drop(lock);
        assert_eq!(Lock::take(folder.path()).unwrap().killed(), None, "it let go");
        std::fs::write(folder.path().join("agent.lock"), "77\n").unwrap();
        let killed = Lock::take(folder.path()).unwrap().killed().unwrap();
        assert_eq!((killed.pid, killed.limit), (77, None));
        std::fs::write(folder.path().join("agent.lock"), "77 0 4096\n").unwrap();
        let killed = Lock::take(folder.path()).unwrap().killed().unwrap();
        assert_eq!((killed.pid, killed.limit), (77, Some(4096)));
        let told = |out_of_memory, limit| Killed { pid: 77, out_of_memory, limit }.to_string();
        let text = told(1, Some(4096));
        assert!(
            text.contains("process 77") && text.contains("memory cgroup, 4096 bytes"),
            "{text}"
        );
        assert!(told(1, None).contains("no limit of its own"));
        assert!(!told(0, Some(4096)).contains("memory"), "killed by somebody");
    }
}
