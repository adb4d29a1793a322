//! A directory of manifests, read again at little cost.
//!
//! Only files whose inode, size or times changed are parsed. Knows nothing about
//! waiting (see [`Changes`](crate::Changes)) or about what the objects mean.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::contents::{Contents, unreadable};
use crate::snapshot::Snapshot;

/// Extensions of manifests.
const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// The largest file that is read at all.
pub const FILE_MAX: u64 = 16 << 20;

/// A file written this recently may be written again within the same tick of the
/// file system's clock, and look the same: it is read once more next time.
const UNSETTLED: Duration = Duration::from_millis(50);

/// Why the directory could not be read. What was known before still holds.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the cluster directory `{}`", path.display())]
pub struct ScanError {
    /// The directory.
    pub path: PathBuf,
    /// The step that failed.
    #[source]
    pub source: io::Error,
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[derive(Debug)]
struct Cached {
    /// `None`: read it again, whatever it looks like.
    stamp: Option<Stamp>,
    contents: Contents,
}

/// What was accepted of one file, to be remembered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accepted {
    /// The file.
    pub file: String,
    /// Its policies, and what gives them their meaning, each as one line of JSON.
    pub documents: Vec<Arc<str>>,
}

/// A directory of manifests and what was read of it last.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    files: BTreeMap<String, Cached>,
    last: Option<Arc<Snapshot>>,
}

impl Directory {
    /// Nothing is read before the first [`scan`](Self::scan).
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), files: BTreeMap::new(), last: None }
    }

    /// Remembers what an earlier reader had accepted, for documents that are
    /// refused now; whether all of it is still understood.
    pub fn remember(&mut self, accepted: &[Accepted]) -> bool {
        let mut understood = true;
        for Accepted { file, documents } in accepted {
            let mut contents = Contents::default();
            for text in documents {
                let Contents { objects, refused, .. } = Contents::of(file, text);
                understood &= refused.is_empty();
                contents.objects.extend(objects);
            }
            self.files.insert(file.clone(), Cached { stamp: None, contents });
        }
        understood
    }

    /// What is to be remembered: everything that counts now.
    pub fn accepted(&self) -> Vec<Accepted> {
        let files = self.files.iter().map(|(file, cached)| Accepted {
            file: file.clone(),
            documents: cached.contents.objects.iter().filter_map(|one| one.text.clone()).collect(),
        });
        files.filter(|accepted| !accepted.documents.is_empty()).collect()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the directory; `Some` when it says something else than last time.
    ///
    /// A directory that cannot be listed is an error, not an empty cluster. A file
    /// that was removed is gone; one that is there but cannot be read or
    /// understood keeps what it said last, and is reported.
    pub fn scan(&mut self) -> Result<Option<Arc<Snapshot>>, ScanError> {
        let now = SystemTime::now();
        let present =
            list(&self.path).map_err(|source| ScanError { path: self.path.clone(), source })?;
        let mut changed = self.last.is_none();
        let mut pods_changed = changed;
        let mut gone = Contents::default();
        self.files.retain(|name, cached| {
            let stays = present.contains_key(name);
            if !stays {
                changed = true;
                pods_changed |= !cached.contents.pods.is_empty();
                gone.objects.append(&mut cached.contents.objects);
                gone.pods.append(&mut cached.contents.pods);
            }
            stays
        });
        for (name, stamp) in present {
            let cached = self.files.get(&name);
            if stamp.is_some() && cached.is_some_and(|cached| cached.stamp == stamp) {
                continue;
            }
            // A file that vanished since the listing is gone at the next scan.
            let (mut contents, metadata) = read_file(&self.path.join(&name), &name);
            if let Some(cached) = cached {
                contents.keep_last_good(&cached.contents);
            }
            contents.keep_moved(&gone);
            changed |= cached.is_none_or(|cached| cached.contents != contents);
            pods_changed |= match cached {
                Some(cached) => cached.contents.pods != contents.pods,
                None => !contents.pods.is_empty(),
            };
            let stamp = metadata.filter(|metadata| settled(metadata, now));
            let stamp = stamp.as_ref().map(Stamp::from);
            self.files.insert(name, Cached { stamp, contents });
        }
        if !changed {
            return Ok(None);
        }
        let files = self.files.iter().map(|(name, cached)| (name.as_str(), &cached.contents));
        let pods = self.last.as_ref().filter(|_| !pods_changed);
        let pods = pods.map(|last| (last.pods.clone(), last.replaced_pods.clone()));
        let snapshot = Arc::new(Snapshot::join(&files.collect::<Vec<_>>(), pods));
        self.last = Some(Arc::clone(&snapshot));
        Ok(Some(snapshot))
    }
}

/// Manifests of a directory with the stamps of those that can be looked at.
/// Hidden files are a writer's unfinished ones.
fn list(path: &Path) -> io::Result<BTreeMap<String, Option<Stamp>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Not UTF-8: no name that Kubernetes or a refusal could print.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let manifest = Path::new(&name)
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| EXTENSIONS.contains(&extension));
        if name.starts_with('.') || !manifest {
            continue;
        }
        // Links are followed: mounted configuration consists of them.
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(metadata) => {
                files.insert(name, Some(Stamp::from(&metadata)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => {
                files.insert(name, None);
            }
        }
    }
    Ok(files)
}

/// Reads a file, with the metadata of the very file that was read.
fn read_file(path: &Path, name: &str) -> (Contents, Option<Metadata>) {
    match read_text(path) {
        Ok((Ok(text), metadata)) => (Contents::of(name, &text), Some(metadata)),
        Ok((Err(reason), metadata)) => (unreadable(name, reason), Some(metadata)),
        Err(error) => (unreadable(name, format!("cannot be read: {error}")), None),
    }
}

fn read_text(path: &Path) -> io::Result<(Result<String, String>, Metadata)> {
    // A FIFO in the directory must not stop the agent: it opens, and is refused.
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok((Err("not a regular file".to_owned()), metadata));
    }
    if metadata.len() > FILE_MAX {
        let reason = format!("larger than {} MiB", FILE_MAX >> 20);
        return Ok((Err(reason), metadata));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok((String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned()), metadata))
}

/// A time in the future counts as settled: a wrong clock must not cost a
/// re-reading for ever, and the change time still tells versions apart.
fn settled(metadata: &Metadata, now: SystemTime) -> bool {
    let changed = SystemTime::UNIX_EPOCH
        + Duration::new(
            u64::try_from(metadata.ctime()).unwrap_or(0),
            u32::try_from(metadata.ctime_nsec()).unwrap_or(0),
        );
    match now.duration_since(changed) {
        Ok(age) => age > UNSETTLED,
        Err(ahead) => ahead.duration() > UNSETTLED,
    }
}

#[cfg(test)]
mod tests;
