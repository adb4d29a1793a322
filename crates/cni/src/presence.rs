//! Whether an agent runs on this node, and whether it ever did.
//!
//! Knows the lock and the folder of pins, not the agent.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Why the presence of an agent could not be told.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell from `{}` whether an agent runs", path.display())]
pub(crate) struct PresenceError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Whether an agent holds the lock of this state folder.
///
/// The lock is tried in shared mode: two plugins at once must not take each
/// other for an agent.
pub(crate) fn agent_runs(state_dir: &Path) -> Result<bool, PresenceError> {
    let path = state_dir.join("agent.lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(PresenceError { path, source }),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(PresenceError { path, source }),
    }
}

/// Whether an agent has left programs to attach. They outlive it.
pub(crate) fn has_pins(pins: &Path) -> bool {
    fs::read_dir(pins).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_runs_while_somebody_holds_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!agent_runs(folder.path()).unwrap(), "no lock file");
        let lock = File::create(folder.path().join("agent.lock")).unwrap();
        assert!(!agent_runs(folder.path()).unwrap(), "nobody holds it");
        lock.lock().unwrap();
        assert!(agent_runs(folder.path()).unwrap());
        drop(lock);
        assert!(!agent_runs(folder.path()).unwrap(), "let go");
    }

    #[test]
    fn a_plugin_that_looks_is_not_taken_for_an_agent() {
        let folder = tempfile::tempdir().unwrap();
        let other = File::create(folder.path().join("agent.lock")).unwrap();
        other.lock_shared().unwrap();
        assert!(!agent_runs(folder.path()).unwrap());
    }

    #[test]
    fn an_empty_folder_of_pins_is_no_pins() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!has_pins(&folder.path().join("missing")));
        assert!(!has_pins(folder.path()));
        File::create(folder.path().join("pod_egress")).unwrap();
        assert!(has_pins(folder.path()));
    }
}
