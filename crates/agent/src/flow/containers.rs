//! Which container a cgroup is: the folder's name under this node's slice.
//!
//! A cgroup's id is the inode of its folder, and the kernel does not use one
//! again, so a name that was found stays right after the container is gone.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// At most this many cgroups are remembered.
const KNOWN_MAX: usize = 8192;

/// Folders below a container's own that are looked at: init systems nest.
const DEPTH_MAX: usize = 8;

/// An unknown cgroup makes the slice be walked, but not more often than this.
const WALK_EVERY: Duration = Duration::from_millis(50);

/// Names of containers by cgroup id.
#[derive(Debug)]
pub struct Containers {
    slice: Option<PathBuf>,
    known: HashMap<u64, String>,
    walked: Option<Instant>,
}

impl Containers {
    /// Containers of this slice; `None`: no cgroup is a container's.
    pub fn of(slice: Option<PathBuf>) -> Self {
        Self { slice, known: HashMap::new(), walked: None }
    }

    /// The container of a cgroup; empty when it is none of the slice's.
    pub fn name(&mut self, cgroup_id: u64) -> String {
        if let Some(name) = self.known.get(&cgroup_id) {
            return name.clone();
        }
        let fresh = self.walked.is_some_and(|walked| walked.elapsed() < WALK_EVERY);
        if !fresh && let Some(slice) = self.slice.clone() {
            self.walk(&slice);
            self.walked = Some(Instant::now());
        }
        self.known.get(&cgroup_id).cloned().unwrap_or_default()
    }

    /// Notes every cgroup of every container. What cannot be read has just ended.
    fn walk(&mut self, slice: &Path) {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        for (path, inode, container) in folders(slice) {
            self.known.insert(inode, container.clone());
            let mut pending = vec![(path, 1)];
            while let Some((path, depth)) = pending.pop() {
                if depth >= DEPTH_MAX || self.known.len() >= KNOWN_MAX {
                    continue;
                }
                for (path, inode, _) in folders(&path) {
                    self.known.insert(inode, container.clone());
                    pending.push((path, depth + 1));
                }
            }
        }
    }
}

/// Path, inode and name of the folders in a folder.
fn folders(path: &Path) -> Vec<(PathBuf, u64, String)> {
    let Ok(entries) = fs::read_dir(path) else { return vec![] };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| {
            Some((entry.path(), entry.ino(), entry.file_name().into_string().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    /// Any file system will do: what counts is that a folder's inode is its number.
    #[test]
    fn a_cgroup_is_named_by_the_folder_under_the_slice_that_holds_it() {
        let slice = tempfile::tempdir().unwrap();
        let nested = slice.path().join("web-1/init.scope/deeper");
        fs::create_dir_all(&nested).unwrap();
        let mut containers = Containers::of(Some(slice.path().to_owned()));
        assert_eq!(containers.name(inode(&slice.path().join("web-1"))), "web-1");
        assert_eq!(containers.name(inode(&nested)), "web-1");
        assert_eq!(containers.name(inode(slice.path())), "", "the slice is no container");
    }

    #[test]
    fn a_container_that_starts_later_is_found_and_one_that_ended_is_remembered() {
        let slice = tempfile::tempdir().unwrap();
        let first = slice.path().join("first");
        fs::create_dir(&first).unwrap();
        let mut containers = Containers::of(Some(slice.path().to_owned()));
        let number = inode(&first);
        assert_eq!(containers.name(number), "first");
        fs::remove_dir(&first).unwrap();
        let second = slice.path().join("second");
        fs::create_dir(&second).unwrap();
        std::thread::sleep(2 * WALK_EVERY);
        // A plain file system may hand the inode on; cgroups never do.
        if inode(&second) != number {
            assert_eq!(containers.name(inode(&second)), "second");
            assert_eq!(containers.name(number), "first");
        }
    }

    #[test]
    fn without_a_slice_nothing_is_a_containers() {
        assert_eq!(Containers::of(None).name(1), "");
    }
}
