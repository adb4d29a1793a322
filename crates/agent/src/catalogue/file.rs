//! `rules.json`: the catalogue on disk, replaced whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{PolicyKind, PolicyName, RuleId, RuleSet, RuleSetId};
use serde::{Deserialize, Serialize};

use super::Catalogue;

/// Version of the format.
const FORMAT: u32 = 1;

/// Kinds that a name can have.
const KINDS: [PolicyKind; 6] = [
    PolicyKind::AdminNetworkPolicy,
    PolicyKind::BaselineAdminNetworkPolicy,
    PolicyKind::CiliumClusterwideNetworkPolicy,
    PolicyKind::CiliumNetworkPolicy,
    PolicyKind::ClusterNetworkPolicy,
    PolicyKind::NetworkPolicy,
];

/// Why the catalogue was not read or written. Enforcement does not depend on it:
/// records of before the restart then show no rule names.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
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
    /// The file is not what this agent writes.
    #[error("`{}` is not a rule catalogue: {reason}", path.display())]
    Junk {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    version: u32,
    change: u64,
    sets: Vec<SetEntry>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SetEntry {
    id: u32,
    change: u64,
    rules: Vec<RuleEntry>,
    because: Vec<PolicyEntry>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PolicyEntry {
    kind: String,
    namespace: Option<String>,
    name: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    policy: PolicyEntry,
    path: String,
}

impl From<&PolicyName> for PolicyEntry {
    fn from(PolicyName { kind, namespace, name }: &PolicyName) -> Self {
        Self { kind: kind.as_str().to_owned(), namespace: namespace.clone(), name: name.clone() }
    }
}

impl TryFrom<PolicyEntry> for PolicyName {
    type Error = String;

    fn try_from(PolicyEntry { kind, namespace, name }: PolicyEntry) -> Result<Self, String> {
        let kind = KINDS
            .into_iter()
            .find(|known| known.as_str() == kind)
            .ok_or_else(|| format!("`{kind}` is no kind of policy"))?;
        Ok(Self { kind, namespace, name })
    }
}

impl TryFrom<RuleEntry> for RuleId {
    type Error = String;

    fn try_from(RuleEntry { policy, path }: RuleEntry) -> Result<Self, String> {
        Ok(Self { policy: policy.try_into()?, path })
    }
}

/// Reads the catalogue; a missing file is an empty one.
pub fn load(path: &Path) -> Result<Catalogue, CatalogueError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Catalogue::default()),
        Err(source) => {
            return Err(CatalogueError::Io { step: "read", path: path.to_owned(), source });
        }
    };
    parse(&bytes).map_err(|reason| CatalogueError::Junk { path: path.to_owned(), reason })
}

fn parse(bytes: &[u8]) -> Result<Catalogue, String> {
    let CatalogueFile { version, change, sets } =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if version != FORMAT {
        return Err(format!("version {version}, not {FORMAT}"));
    }
    let mut catalogue = Catalogue { change, ..Catalogue::default() };
    for SetEntry { id, change, rules, because } in sets {
        let set = RuleSet {
            rules: rules.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            because: because.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        };
        catalogue.sets.insert(RuleSetId(id), (Arc::new(set), change));
    }
    Ok(catalogue)
}

/// Replaces the file: whoever reads it sees the old one or the new one.
pub fn save(path: &Path, catalogue: &Catalogue) -> Result<(), CatalogueError> {
    let sets = catalogue.sets.iter().map(|(id, (set, change))| SetEntry {
        id: id.0,
        change: *change,
        rules: set
            .rules
            .iter()
            .map(|rule| RuleEntry { policy: (&rule.policy).into(), path: rule.path.clone() })
            .collect(),
        because: set.because.iter().map(Into::into).collect(),
    });
    let file = CatalogueFile { version: FORMAT, change: catalogue.change, sets: sets.collect() };
    let json = serde_json::to_vec(&file).map_err(io::Error::from);
    json.and_then(|json| replace(path, &json)).map_err(|source| CatalogueError::Io {
        step: "write",
        path: path.to_owned(),
        source,
    })
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("json.tmp");
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> RuleSet {
        let policy = PolicyName {
            kind: PolicyKind::CiliumNetworkPolicy,
            namespace: Some("payment".into()),
            name: "api".into(),
        };
        let clusterwide = PolicyName {
            kind: PolicyKind::CiliumClusterwideNetworkPolicy,
            namespace: None,
            name: "base".into(),
        };
        RuleSet {
            rules: vec![RuleId { policy, path: "spec.ingress[0]".into() }],
            because: vec![clusterwide],
        }
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.json");
        let mut catalogue = Catalogue::default();
        catalogue.update([(RuleSetId(7), &set())]);
        save(&path, &catalogue).unwrap();
        assert_eq!(load(&path).unwrap(), catalogue);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_first_start_has_an_empty_catalogue() {
        assert!(load(Path::new("/nonexistent/rules.json")).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_cut_or_of_another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.json");
        for (text, reason) in [
            ("{\"version\":1,", "EOF"),
            ("{\"version\":2,\"change\":1,\"sets\":[]}", "version 2, not 1"),
            (
                "{\"version\":1,\"change\":1,\"sets\":[{\"id\":1,\"change\":1,\"rules\":[],\
                 \"because\":[{\"kind\":\"Pod\",\"namespace\":null,\"name\":\"a\"}]}]}",
                "`Pod` is no kind of policy",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_catalogue() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.json");
        save(&path, &Catalogue::default()).unwrap();
        // The draft cannot be created: its name is taken by a folder.
        fs::create_dir(folder.path().join("rules.json.tmp")).unwrap();
        let mut catalogue = Catalogue::default();
        catalogue.update([(RuleSetId(7), &set())]);
        save(&path, &catalogue).unwrap_err();
        assert!(load(&path).unwrap().is_empty());
    }
}
