//! Where a node's kernel state is pinned, and nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::crash;
use crate::error::OpenError;

/// The folder of one node on bpffs.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    root: PathBuf,
}

impl Pins {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.root.join("programs").join(name)
    }

    pub(crate) fn hook(&self, name: &str) -> PathBuf {
        self.root.join("hooks").join(name)
    }

    /// Link of one direction of one interface.
    pub(crate) fn link(&self, ifindex: u32, hook: &str) -> PathBuf {
        self.root.join("links").join(format!("{ifindex}_{hook}"))
    }

    /// Link of one direction of one of the node's uplinks.
    pub(crate) fn uplink(&self, ifindex: u32, hook: &str) -> PathBuf {
        self.root.join("uplinks").join(format!("{ifindex}_{hook}"))
    }

    pub(crate) fn uplinks(&self) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(self.root.join("uplinks"))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    }

    pub(crate) fn links(&self) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(self.root.join("links"))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    }

    /// Makes the folders. The root may lie below folders that do not exist yet,
    /// but all of it must be on bpffs.
    pub(crate) fn create(&self) -> Result<(), OpenError> {
        let mut existing = self.root.as_path();
        while !existing.exists() {
            existing = existing.parent().unwrap_or(Path::new("/"));
        }
        let on_bpffs = statfs(existing).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
        if !on_bpffs {
            return Err(OpenError::NotBpffs { path: self.root.clone() });
        }
        for folder in ["maps", "programs", "hooks", "links", "uplinks"] {
            let path = self.root.join(folder);
            crash::point();
            fs::create_dir_all(&path).map_err(|source| OpenError::Pin {
                step: "create",
                path,
                source,
            })?;
        }
        Ok(())
    }

    /// Removes what a start that did not finish left behind. Programs are pinned
    /// last and interfaces need pinned programs, so nothing can depend on it.
    pub(crate) fn clear(&self) -> Result<(), OpenError> {
        for folder in ["programs", "hooks", "links", "uplinks", "maps"] {
            let path = self.root.join(folder);
            crash::point();
            match fs::remove_dir_all(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(OpenError::Pin { step: "remove", path, source }),
            }
        }
        Ok(())
    }
}

/// Removes a file; one that is not there is as good.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    crash::point();
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Puts a pin in the place of another, at once.
pub(crate) fn replace(fresh: &Path, path: &Path) -> io::Result<()> {
    crash::point();
    fs::rename(fresh, path)
}

/// A name beside a pin, for the one that will take its place. bpffs refuses dots.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("_new");
    name.into()
}
