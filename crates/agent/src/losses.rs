//! `losses.json`: which losses have been reported, for the next agent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use datapath::Ring;
use serde::{Deserialize, Serialize};

use crate::ledger::Reported;

/// Version of the format.
const FORMAT: u32 = 1;

/// Why the note was not read or written. Losses are then reported twice, never
/// kept quiet.
#[derive(Debug, thiserror::Error)]
pub enum LossesError {
    /// Reading or writing failed.
    #[error("cannot {step} `{}`", path.display())]
    Io {
        /// `read`, `write`.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LossesFile {
    version: u32,
    /// By CPU.
    traces: Vec<u64>,
    /// By CPU.
    drops: Vec<u64>,
}

/// Reads the note; a missing one says that nothing was reported.
pub fn load(path: &Path) -> Result<Reported, LossesError> {
    let failed = |source| LossesError::Io { step: "read", path: path.to_owned(), source };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Reported::new()),
        Err(error) => return Err(failed(error)),
    };
    let LossesFile { version, traces, drops } =
        serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
    if version != FORMAT {
        return Err(failed(io::Error::other(format!("version {version}, not {FORMAT}"))));
    }
    let rows = |ring, counts: Vec<u64>| {
        (0u32..).zip(counts).map(move |(cpu, count)| ((ring, cpu), count)).collect::<Vec<_>>()
    };
    Ok(rows(Ring::Traces, traces).into_iter().chain(rows(Ring::Drops, drops)).collect())
}

/// Replaces the note, if it says something else.
pub fn save(path: &Path, reported: &Reported) -> Result<(), LossesError> {
    let failed = |source| LossesError::Io { step: "write", path: path.to_owned(), source };
    let column = |ring| {
        reported.iter().filter(|((of, _), _)| *of == ring).map(|(_, count)| *count).collect()
    };
    let file =
        LossesFile { version: FORMAT, traces: column(Ring::Traces), drops: column(Ring::Drops) };
    let json = serde_json::to_vec(&file).map_err(|error| failed(error.into()))?;
    if fs::read(path).is_ok_and(|present| present == json) {
        return Ok(());
    }
    let draft = path.with_extension("json.tmp");
    fs::write(&draft, json).and_then(|()| fs::rename(&draft, path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.json");
        assert_eq!(load(&path).unwrap(), Reported::new());
        let reported = Reported::from([
            ((Ring::Traces, 0), 1),
            ((Ring::Traces, 1), 2),
            ((Ring::Drops, 0), 3),
            ((Ring::Drops, 1), 4),
        ]);
        save(&path, &reported).unwrap();
        assert_eq!(load(&path).unwrap(), reported);
    }

    #[test]
    fn a_note_that_is_cut_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.json");
        fs::write(&path, "{").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("losses.json"));
    }
}
