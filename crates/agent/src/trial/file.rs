//! `node-policies.json`: what was confirmed and what was reverted, replaced whole.
//!
//! Versions are kept as the documents they were read from, so that another
//! version of this program understands them in its own way.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::PolicyName;
use serde::{Deserialize, Serialize};

use super::{Trial, Trials, Version};

/// Version of the format.
const FORMAT: u32 = 1;

/// Why it is not known what was confirmed.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// Reading or writing failed.
    #[error("cannot {step} `{}`, where confirmed node policies are remembered", path.display())]
    Io {
        /// `read`, `write`.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what this agent writes.
    #[error("`{}` does not remember node policies: {reason}", path.display())]
    Junk {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct TrialsFile {
    version: u32,
    /// The boot whose clock `until` is of.
    boot: String,
    confirmed: Vec<String>,
    reverted: Vec<String>,
    trials: Vec<TrialEntry>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct TrialEntry {
    until: u32,
    document: String,
}

/// Reads what an earlier agent left; nothing before the first. A trial of before
/// the last boot was not confirmed in its time.
pub fn load(path: &Path, boot: &str) -> Result<Trials, TrialError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Trials::default()),
        Err(source) => return Err(TrialError::Io { step: "read", path: path.to_owned(), source }),
    };
    parse(&bytes, boot).map_err(|reason| TrialError::Junk { path: path.to_owned(), reason })
}

fn parse(bytes: &[u8], boot: &str) -> Result<Trials, String> {
    let TrialsFile { version, boot: of_boot, confirmed, reverted, trials } =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if version != FORMAT {
        return Err(format!("version {version}, not {FORMAT}"));
    }
    let versions = |documents: Vec<String>| -> Result<BTreeMap<PolicyName, Version>, String> {
        documents.into_iter().map(read).collect()
    };
    let mut read_back = Trials {
        confirmed: versions(confirmed)?,
        reverted: versions(reverted)?,
        ..Trials::default()
    };
    for TrialEntry { until, document } in trials {
        let (name, version) = read(document)?;
        let until = if of_boot == boot { until } else { 0 };
        read_back.trials.insert(name, Trial { version, until });
    }
    Ok(read_back)
}

fn read(document: String) -> Result<(PolicyName, Version), String> {
    let snapshot = source::read("node-policies.json", &document);
    let Some(policy) = snapshot.policies.into_iter().next() else {
        return Err("a policy in it is not understood any more".to_owned());
    };
    Ok((policy.name.clone(), Version { text: document.into(), policy }))
}

/// Writes it down: whoever reads it sees the old one or the new one.
pub fn save(path: &Path, trials: &Trials, boot: &str) -> Result<(), TrialError> {
    let texts = |versions: &BTreeMap<PolicyName, Version>| -> Vec<String> {
        versions.values().map(|version| text(&version.text)).collect()
    };
    let entry =
        |trial: &Trial| TrialEntry { until: trial.until, document: text(&trial.version.text) };
    let content = TrialsFile {
        version: FORMAT,
        boot: boot.to_owned(),
        confirmed: texts(&trials.confirmed),
        reverted: texts(&trials.reverted),
        trials: trials.trials.values().map(entry).collect(),
    };
    let failed = |source| TrialError::Io { step: "write", path: path.to_owned(), source };
    let bytes = serde_json::to_vec(&content).map_err(|error| failed(error.into()))?;
    let draft = path.with_extension("tmp");
    let mut options = File::options();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&draft);
    let written = opened.and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    });
    written.map_err(failed)
}

fn text(text: &Arc<str>) -> String {
    text.to_string()
}
