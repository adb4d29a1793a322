//! Where a node's kernel state is pinned, and nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::crash;
use crate::error::OpenError;

/// The folder of one node on bpffs.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    root: PathBuf,
    /// Folder of the maps, below `root`.
    maps: PathBuf,
}

/// The folder of the maps in force. Others, beside it, have a version behind it.
const MAPS: &str = "maps";

impl Pins {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), maps: root.join(MAPS) }
    }

    /// The same node, with maps of its own that are not in force yet.
    pub(crate) fn staged(&self, version: u32) -> Self {
        Self { root: self.root.clone(), maps: self.root.join(format!("{MAPS}_{version}")) }
    }

    pub(crate) fn is_staged(&self) -> bool {
        self.maps != self.root.join(MAPS)
    }

    /// Puts the staged maps in the place of those in force, at once; these are left
    /// where the staged ones were.
    pub(crate) fn enter_force(&mut self) -> io::Result<()> {
        let in_force = self.root.join(MAPS);
        crash::point();
        renameat2(AT_FDCWD, &self.maps, AT_FDCWD, &in_force, RenameFlags::RENAME_EXCHANGE)?;
        self.maps = in_force;
        Ok(())
    }

    /// Folders of maps that are not ours.
    pub(crate) fn others(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let maps = entries.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name == MAPS || name.starts_with(&format!("{MAPS}_"))
        });
        maps.filter(|path| *path != self.maps).collect()
    }

    /// Folder of the maps.
    pub(crate) fn maps(&self) -> &Path {
        &self.maps
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.maps.join(name)
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
        for folder in [MAPS, "programs", "hooks", "links", "uplinks"] {
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
        let folders = ["programs", "hooks", "links", "uplinks", MAPS];
        let folders = folders.map(|folder| self.root.join(folder)).into_iter();
        for path in folders.chain(self.others()) {
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
