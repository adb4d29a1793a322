//! `accepted/`: what a restart must not forget, so that it never weakens policy.
//!
//! One file for each manifest file, with the documents that count, and
//! `endpoints.json`, which endpoints were in force under them. Each is replaced
//! whole. Knows nothing about what the documents say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use source::{Accepted, Directory};

use crate::numbers::{digest, hexadecimal};

/// Version of the format.
const FORMAT: u32 = 1;

/// All documents together: ten times what a large cluster's policies take.
const BYTES_MAX: u64 = 256 << 20;

/// Up to so many files reach the disk one by one; more would take minutes.
const FLUSHED_EACH: usize = 64;

/// The endpoints in force.
const ENDPOINTS: &str = "endpoints.json";

/// Why something is not remembered.
#[derive(Debug, thiserror::Error)]
pub enum AcceptedError {
    /// Reading or writing failed.
    #[error("cannot {step} `{}`, where accepted policies are remembered", path.display())]
    Io {
        /// `list`, `read`, `write`, `remove`.
        step: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what this agent writes.
    #[error("`{}` does not remember accepted policies: {reason}", path.display())]
    Junk {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The cluster's policies are larger than what is remembered.
    #[error("accepted policies have {0} bytes, {BYTES_MAX} are remembered (split the cluster)")]
    TooMuch(u64),
    /// Another version of this program had accepted it.
    #[error("an earlier agent had accepted policies that this one refuses (correct them)")]
    NotUnderstood,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct DocumentsFile {
    version: u32,
    file: String,
    documents: Vec<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EndpointsFile {
    version: u32,
    endpoints: BTreeSet<[u8; 32]>,
}

/// What is remembered, in memory and on disk.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
    /// Files of documents on disk, with the digest of their bytes; `None`: not
    /// ours, or not whole.
    documents: BTreeMap<String, Option<[u8; 32]>>,
    /// What was written last, by file.
    written: BTreeMap<String, Accepted>,
    /// Whether the documents on disk are those that count.
    current: bool,
    installed: BTreeSet<[u8; 32]>,
    /// Whether the endpoints on disk are `installed`.
    noted: bool,
}

impl Memory {
    /// Recalls what an earlier agent left and tells the directory. Where anything
    /// of it is lost, no endpoint counts as in force before: a document that was
    /// forgotten may be the one that is refused now.
    pub fn recall(folder: PathBuf, directory: &mut Directory) -> (Self, Vec<AcceptedError>) {
        let mut memory = Self {
            folder,
            documents: BTreeMap::new(),
            written: BTreeMap::new(),
            current: false,
            installed: BTreeSet::new(),
            noted: false,
        };
        let mut errors = Vec::new();
        let accepted = memory.read_documents(&mut errors);
        if !directory.remember(&accepted) {
            errors.push(AcceptedError::NotUnderstood);
        }
        match memory.read_endpoints() {
            Ok(installed) if errors.is_empty() => memory.installed = installed,
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
        (memory, errors)
    }

    /// The endpoints that were in force last.
    pub fn installed(&self) -> &BTreeSet<[u8; 32]> {
        &self.installed
    }

    /// Whether the last documents are not on disk yet.
    pub fn is_behind(&self) -> bool {
        !self.current
    }

    /// Writes down what counts now, before it is enforced.
    pub fn keep(&mut self, accepted: &[Accepted]) -> Result<(), AcceptedError> {
        self.current = false;
        let kept = self.write_documents(accepted);
        if kept.is_ok() {
            self.current = true;
            return self.note_installed(self.installed.clone());
        }
        // Endpoints in force under documents that may be forgotten.
        self.noted = false;
        let path = self.folder.join(ENDPOINTS);
        remove(&path).and(kept)
    }

    /// Writes down which endpoints are in force.
    pub fn note_installed(&mut self, installed: BTreeSet<[u8; 32]>) -> Result<(), AcceptedError> {
        self.noted &= self.installed == installed;
        self.installed = installed;
        if self.noted || !self.current {
            return Ok(());
        }
        let endpoints = self.installed.clone();
        self.write(ENDPOINTS, &self.json(&EndpointsFile { version: FORMAT, endpoints })?)?;
        self.noted = true;
        Ok(())
    }

    fn read_documents(&mut self, errors: &mut Vec<AcceptedError>) -> Vec<Accepted> {
        let names = match list(&self.folder) {
            Ok(names) => names,
            Err(error) => {
                errors.push(error);
                return vec![];
            }
        };
        let mut room = BYTES_MAX;
        let mut accepted = Vec::new();
        for name in names {
            let path = self.folder.join(&name);
            // A draft of an agent that died is no loss: the file is still there.
            if !name.ends_with(".json") {
                self.documents.insert(name, None);
                continue;
            }
            let read = read(&path, room).and_then(|bytes| {
                room = room.saturating_sub(bytes.len() as u64);
                let DocumentsFile { version, file, documents } = parse(&path, &bytes)?;
                check_version(&path, version)?;
                let documents = documents.into_iter().map(Into::into).collect();
                Ok((digest([bytes.as_slice()]), Accepted { file, documents }))
            });
            match read {
                Ok((digest, one)) => {
                    self.documents.insert(name, Some(digest));
                    accepted.push(one);
                }
                Err(error) => {
                    self.documents.insert(name, None);
                    errors.push(error);
                }
            }
        }
        accepted
    }

    fn read_endpoints(&self) -> Result<BTreeSet<[u8; 32]>, AcceptedError> {
        let path = self.folder.join(ENDPOINTS);
        if !path.exists() {
            return Ok(BTreeSet::new());
        }
        let EndpointsFile { version, endpoints } = parse(&path, &read(&path, BYTES_MAX)?)?;
        check_version(&path, version)?;
        Ok(endpoints)
    }

    fn write_documents(&mut self, accepted: &[Accepted]) -> Result<(), AcceptedError> {
        let sizes = accepted.iter().flat_map(|one| &one.documents).map(|text| text.len() as u64);
        let bytes = sizes.sum();
        // Quotes and line ends are escaped once more on disk.
        if bytes > BYTES_MAX / 2 {
            return Err(AcceptedError::TooMuch(bytes));
        }
        let mut create = DirBuilder::new();
        let made = create.recursive(true).mode(0o700).create(&self.folder);
        made.map_err(failed("write", &self.folder))?;
        let mut wanted = BTreeSet::new();
        let mut changed = Vec::new();
        for one in accepted {
            let Accepted { file, documents } = one;
            let name = format!("{}.json", hexadecimal(&digest([file.as_bytes()])));
            wanted.insert(name.clone());
            // The same texts make the same bytes.
            if self.written.get(&name) == Some(one) {
                continue;
            }
            let documents = documents.iter().map(|text| text.to_string()).collect();
            let document = DocumentsFile { version: FORMAT, file: file.clone(), documents };
            let bytes = self.json(&document)?;
            let digest = Some(digest([bytes.as_slice()]));
            self.written.remove(&name);
            if self.documents.get(&name) != Some(&digest) {
                self.draft(&name, &bytes)?;
                changed.push((name, digest, one));
            } else {
                self.written.insert(name, one.clone());
            }
        }
        self.flush(changed.iter().map(|(name, ..)| name.as_str()))?;
        for (name, digest, one) in changed {
            self.publish(&name)?;
            self.written.insert(name.clone(), one.clone());
            self.documents.insert(name, digest);
        }
        let unwanted: Vec<String> =
            self.documents.keys().filter(|name| !wanted.contains(*name)).cloned().collect();
        for name in unwanted {
            remove(&self.folder.join(&name))?;
            self.documents.remove(&name);
            self.written.remove(&name);
        }
        Ok(())
    }

    /// Replaces a file: whoever reads it sees the old one or the new one.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), AcceptedError> {
        self.draft(name, bytes)?;
        self.flush([name].into_iter())?;
        self.publish(name)
    }

    fn draft_path(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension("tmp")
    }

    fn draft(&self, name: &str, bytes: &[u8]) -> Result<(), AcceptedError> {
        let path = self.draft_path(name);
        let mut options = File::options();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        opened.and_then(|mut file| file.write_all(bytes)).map_err(failed("write", &path))
    }

    /// Brings drafts to the disk; many, as at a first start, at once.
    fn flush<'a>(
        &self,
        names: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<(), AcceptedError> {
        if names.len() > FLUSHED_EACH {
            let folder = File::open(&self.folder).map_err(failed("write", &self.folder))?;
            let flushed = nix::unistd::syncfs(&folder).map_err(io::Error::from);
            return flushed.map_err(failed("write", &self.folder));
        }
        for name in names {
            let path = self.draft_path(name);
            let flushed = File::open(&path).and_then(|file| file.sync_all());
            flushed.map_err(failed("write", &path))?;
        }
        Ok(())
    }

    fn publish(&self, name: &str) -> Result<(), AcceptedError> {
        let path = self.folder.join(name);
        fs::rename(self.draft_path(name), &path).map_err(failed("write", &path))
    }

    fn json(&self, value: &impl Serialize) -> Result<Vec<u8>, AcceptedError> {
        let json = serde_json::to_vec(value).map_err(io::Error::from);
        json.map_err(failed("write", &self.folder))
    }
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AcceptedError {
    let path = path.to_owned();
    move |source| AcceptedError::Io { step, path, source }
}

/// What an earlier agent left, but for the endpoints; nothing before the first.
fn list(folder: &Path) -> Result<Vec<String>, AcceptedError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(failed("list", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed("list", folder))?.file_name();
        // What is not UTF-8 is none of ours.
        names.extend(name.into_string().ok().filter(|name| name != ENDPOINTS));
    }
    names.sort_unstable();
    Ok(names)
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, AcceptedError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    read.map_err(failed("read", path))?;
    if bytes.len() as u64 > most {
        return Err(AcceptedError::TooMuch(most + 1));
    }
    Ok(bytes)
}

fn remove(path: &Path) -> Result<(), AcceptedError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(failed("remove", path)),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, AcceptedError> {
    let junk = |error: serde_json::Error| AcceptedError::Junk {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    serde_json::from_slice(bytes).map_err(junk)
}

fn check_version(path: &Path, version: u32) -> Result<(), AcceptedError> {
    if version == FORMAT {
        return Ok(());
    }
    let reason = format!("version {version}, not {FORMAT}");
    Err(AcceptedError::Junk { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests;
