//! The lab's folders in the cgroup hierarchies: find them, end what is in them,
//! remove them.
//!
//! Processes are counted in the version 2 hierarchy, which every container and
//! daemon of a lab is in. A host with version 1 controllers beside it gets empty
//! folders there from the container runtime; they are only removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::mounts::{self, Mount};

/// The cgroup hierarchies of this host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hierarchies {
    unified: PathBuf,
    controllers: Vec<PathBuf>,
}

impl Hierarchies {
    /// Those that are mounted; `None` without a version 2 one.
    pub fn find() -> Result<Option<Self>, Error> {
        Ok(Self::among(&mounts::all()?))
    }

    fn among(mounts: &[Mount]) -> Option<Self> {
        let points = |kind: &str| {
            let of_kind = mounts.iter().filter(|mount| mount.kind == kind);
            of_kind.map(|mount| mount.point.clone()).collect::<Vec<_>>()
        };
        let unified = points("cgroup2").into_iter().next()?;
        Some(Self { unified, controllers: points("cgroup") })
    }

    /// Where the version 2 hierarchy is mounted.
    pub fn unified(&self) -> &Path {
        &self.unified
    }

    /// Ends every process in `folder` and below, in the version 2 hierarchy.
    pub fn kill(&self, folder: &Path) -> Result<(), Error> {
        // A frozen task of a version 1 freezer does not die before it is thawed.
        for root in &self.controllers {
            for group in descendants(&root.join(folder)) {
                let state = group.join("freezer.state");
                if state.exists() {
                    fs::write(&state, "THAWED").map_err(Error::file("thaw", &state))?;
                }
            }
        }
        let switch = self.unified.join(folder).join("cgroup.kill");
        match fs::write(&switch, "1") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("end the processes of", &switch)(error))
            }
            _ => Ok(()),
        }
    }

    /// Processes in `folder` and below, in the version 2 hierarchy.
    pub fn processes(&self, folder: &Path) -> Vec<i32> {
        descendants(&self.unified.join(folder))
            .iter()
            .filter_map(|group| fs::read_to_string(group.join("cgroup.procs")).ok())
            .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            .collect()
    }

    /// Removes `folder` from every hierarchy; what is still in use stays and is
    /// returned.
    pub fn remove(&self, folder: &Path) -> Vec<PathBuf> {
        let roots = self.controllers.iter().chain([&self.unified]);
        let mut left = Vec::new();
        for group in roots.flat_map(|root| descendants(&root.join(folder))) {
            if fs::remove_dir(&group).is_err() && group.exists() {
                left.push(group);
            }
        }
        left
    }

    /// Removes the folder itself where nothing is below it.
    pub fn remove_if_empty(&self, folder: &str) {
        for root in self.controllers.iter().chain([&self.unified]) {
            // Fails, rightly, while something is below it, or when there is none.
            let _ = fs::remove_dir(root.join(folder));
        }
    }
}

/// Makes the folder, with those above it.
pub fn create(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::file("create", path))
}

/// The folder and all below it, innermost first; empty when it does not exist.
fn descendants(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(|entry| descendants(&entry.path()))
        .collect();
    found.push(folder.to_owned());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mountinfo: &str, want: Option<&str>) {
        let found = Hierarchies::among(&mounts::parse(mountinfo));
        assert_eq!(found.as_ref().and_then(|found| found.unified().to_str()), want);
    }

    #[test]
    fn version_two_is_found_beside_version_one_controllers() {
        check(
            "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
            Some("/sys/fs/cgroup/unified"),
        );
    }

    #[test]
    fn version_two_is_found_alone() {
        check(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n",
            Some("/sys/fs/cgroup"),
        );
    }

    #[test]
    fn without_version_two_there_is_none() {
        check("32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n", None);
    }
}
