//! Network namespaces with names, and work inside them.
//!
//! A thread that enters a namespace never leaves it again: it ends. So nothing
//! of the caller's own namespace can be changed by mistake.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::Error;
use crate::places::NETNS;

/// A named network namespace.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Netns {
    path: PathBuf,
}

impl Netns {
    /// Makes a new one, with `lo` down and nothing else in it.
    pub fn create(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(NETNS).map_err(Error::file("create", NETNS))?;
        File::create_new(path).map_err(Error::file("create", path))?;
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(Error::call("unshare a network namespace for", path))?;
            mount(
                Some("/proc/thread-self/ns/net"),
                path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .map_err(Error::call("mount a network namespace on", path))
        })??;
        Ok(Self { path: path.to_owned() })
    }

    /// One that exists.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its handle, to pass to the kernel.
    pub fn open(&self) -> Result<File, Error> {
        File::open(&self.path).map_err(Error::file("open", &self.path))
    }

    /// Does `work` in the namespace, on a thread of its own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let handle = self.open()?;
        on_own_thread(|| {
            setns(&handle, CloneFlags::CLONE_NEWNET)
                .map_err(Error::call("enter the network namespace", &self.path))?;
            Ok(work())
        })?
    }

    /// Sets kernel parameters of the namespace: pairs of path below
    /// `/proc/sys/net` and value.
    pub fn set_parameters(&self, parameters: &[(&str, &str)]) -> Result<(), Error> {
        self.inside(|| {
            for (name, value) in parameters {
                let path = Path::new("/proc/sys/net").join(name);
                fs::write(&path, value).map_err(Error::file("write", &path))?;
            }
            Ok(())
        })?
    }

    /// The number by which the kernel tells it from others.
    pub fn inode(&self) -> Option<u64> {
        fs::metadata(&self.path).ok().map(|metadata| metadata.ino())
    }

    /// Takes its name away; it ends with its last process. No error when it has none.
    pub fn remove(&self) -> Result<(), Error> {
        // A bind mount may lie on the file more than once after a crash.
        while umount2(&self.path, MntFlags::MNT_DETACH).is_ok() {}
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::file("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// All named namespaces whose name starts with `prefix`.
pub fn named(prefix: &str) -> Vec<Netns> {
    let Ok(entries) = fs::read_dir(NETNS) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| Netns::at(entry.path()))
        .collect();
    found.sort_by(|left, right| left.path.cmp(&right.path));
    found
}

/// Runs `work` on a thread that ends with it.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)
            .map_err(Error::file("start a thread for", "a network namespace"))?;
        thread.join().map_err(|_| Error::Malformed {
            what: "work in a network namespace".into(),
            detail: "its thread panicked".into(),
        })
    })
}
