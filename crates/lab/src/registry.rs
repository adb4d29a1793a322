//! The labs of this host: which there are, and who may change them.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::cgroup::Hierarchies;
use crate::error::Error;
use crate::journal::Journal;
use crate::netns;
use crate::places::{BPFFS, FOLDER, LabName, Places, RUN};

/// Names of all labs of which anything exists, sorted.
pub fn names() -> Result<Vec<LabName>, Error> {
    let mut folders = vec![Path::new(RUN).to_owned(), Path::new(BPFFS).join(FOLDER)];
    if let Some(hierarchies) = Hierarchies::find()? {
        folders.push(hierarchies.unified().join(FOLDER));
    }
    let mut found: BTreeSet<LabName> = folders.iter().flat_map(|it| folders_in(it)).collect();
    for namespace in netns::named("signet.") {
        let name = namespace.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.extend(name.split('.').nth(1).and_then(|name| name.parse().ok()));
    }
    Ok(found.into_iter().collect())
}

fn folders_in(path: &Path) -> Vec<LabName> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .collect()
}

/// The lab of that name; without a name, the only one.
pub fn find(name: Option<&LabName>) -> Result<LabName, Error> {
    let names = names()?;
    match (name, names.as_slice()) {
        (Some(name), _) if names.contains(name) => Ok(name.clone()),
        (Some(name), _) => Err(Error::NoSuchLab(name.to_string())),
        (None, []) => Err(Error::NoLab),
        (None, [only]) => Ok(only.clone()),
        (None, several) => Err(Error::Several(several.iter().map(LabName::to_string).collect())),
    }
}

/// The lab that a directory's manifests made, by what the journals say.
pub fn of_directory(directory: &Path) -> Result<Option<LabName>, Error> {
    let Ok(directory) = fs::canonicalize(directory) else { return Ok(None) };
    for name in names()? {
        let journal = Journal::read(&Places::new(name.clone()).journal()).ok().flatten();
        if journal.is_some_and(|journal| journal.directory == directory) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// How long a lock may outlive a holder that was killed: a process that he was just
/// starting has it too, until it runs a program of its own.
const RELEASE: Duration = Duration::from_secs(1);

/// The right to change one lab; ends with the value.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

impl Claim {
    /// On a lab whose folder exists. Nobody waits for another: two at once is a
    /// mistake.
    pub fn on(places: &Places) -> Result<Self, Error> {
        let folder = places.run();
        let lock = File::open(&folder).map_err(Error::file("open", &folder))?;
        let deadline = Instant::now() + RELEASE;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { _lock: lock }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Busy { name: places.name().to_string() });
                }
                Err(TryLockError::Error(error)) => return Err(Error::file("lock", &folder)(error)),
            }
        }
    }
}

/// The right to change what labs share; ends with the value.
#[derive(Debug)]
pub struct SharedClaim {
    _lock: File,
}

impl SharedClaim {
    /// Waits for it. Makes the folder of all labs where there is none.
    pub fn take() -> Result<Self, Error> {
        loop {
            make_folder(Path::new(RUN))?;
            let Ok(lock) = File::open(RUN) else { continue };
            lock.lock().map_err(Error::file("lock", RUN))?;
            // Whoever held it before may have removed the folder with the last lab.
            if is_same(&lock, Path::new(RUN)) {
                return Ok(Self { _lock: lock });
            }
        }
    }
}

/// Not by `create_dir_all`, which fails when the last lab goes, and the folder with
/// it, between its two looks.
fn make_folder(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::file("create", path)(error))
        }
        _ => Ok(()),
    }
}

fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(present)) => inode(held) == inode(present),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_folder_that_comes_and_goes_is_no_obstacle() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, is_over) = (parent.path().join("signet"), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = fs::remove_dir(&folder);
                }
            });
            let made = (0..100_000).try_for_each(|_| make_folder(&folder));
            is_over.store(true, Ordering::Relaxed);
            made.unwrap();
        });
        fs::remove_dir_all(parent.path()).unwrap();
        assert!(make_folder(&folder).is_err(), "nothing to make it in");
    }
}
