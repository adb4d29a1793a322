//! One agent a node: whoever holds the lock may write the kernel's maps.
//!
//! The lock is the kernel's and ends with the process, however it ends; the pid
//! in the file is for people.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
    _file: File,
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
        // In place, not by a rename: the lock is on this very file.
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(io)?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok())
    {
        Some(pid) => format!("process {pid}"),
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
}
