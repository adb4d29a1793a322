//! `rules.json`: the catalogue on disk, a line for each set. What is new is added at
//! the end; from time to time the file is replaced whole, without what is out of use.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use model::{PolicyKind, PolicyName, RuleId, RuleSet, RuleSetId};
use serde::{Deserialize, Serialize};

use super::Catalogue;

/// Version of the format.
const FORMAT: u32 = 2;

/// So many lines more than sets are left standing.
const SPARE_LINES: usize = 4096;

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

/// The first line. Versions have more or fewer fields.
#[derive(Deserialize, Serialize)]
struct Header {
    version: u32,
    change: u64,
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

impl From<(RuleSetId, &RuleSet, u64)> for SetEntry {
    fn from((id, set, change): (RuleSetId, &RuleSet, u64)) -> Self {
        let rule =
            |rule: &RuleId| RuleEntry { policy: (&rule.policy).into(), path: rule.path.clone() };
        Self {
            id: id.0,
            change,
            rules: set.rules.iter().map(rule).collect(),
            because: set.because.iter().map(Into::into).collect(),
        }
    }
}

/// The file of a catalogue.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Sets in the file, some of them more than once; `None`: it is not whole.
    lines: Option<usize>,
}

impl Journal {
    /// Reads the catalogue; a missing file is an empty one, and of one that is not
    /// understood nothing is known.
    pub fn open(path: PathBuf) -> (Self, Catalogue, Option<CatalogueError>) {
        let mut journal = Self { path, lines: None };
        let text = match fs::read_to_string(&journal.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return (journal, Catalogue::default(), None);
            }
            Err(error) => {
                let error = journal.failed("read")(error);
                return (journal, Catalogue::default(), Some(error));
            }
        };
        match parse(&text) {
            Ok((catalogue, lines)) => {
                journal.lines = lines;
                (journal, catalogue, None)
            }
            Err(reason) => {
                let error = CatalogueError::Junk { path: journal.path.clone(), reason };
                (journal, Catalogue::default(), Some(error))
            }
        }
    }

    /// Brings `new` sets of the catalogue to the disk.
    pub fn save(&mut self, catalogue: &Catalogue, new: &[RuleSetId]) -> Result<(), CatalogueError> {
        let most = catalogue.len() + SPARE_LINES;
        // Until it is written, the file may have a part of a line at its end.
        match self.lines.take().filter(|lines| lines + new.len() <= most) {
            Some(lines) => {
                self.append(catalogue, new).map_err(self.failed("write"))?;
                self.lines = Some(lines + new.len());
            }
            None => {
                self.replace(catalogue).map_err(self.failed("write"))?;
                self.lines = Some(catalogue.len());
            }
        }
        Ok(())
    }

    fn append(&self, catalogue: &Catalogue, new: &[RuleSetId]) -> io::Result<()> {
        let mut lines = Vec::new();
        for id in new {
            let Some((set, change)) = catalogue.sets.get(id) else { continue };
            line(&mut lines, &SetEntry::from((*id, set.as_ref(), *change)))?;
        }
        let mut file = File::options().append(true).open(&self.path)?;
        file.write_all(&lines)?;
        file.sync_data()
    }

    /// Whoever reads it sees the old one or the new one.
    fn replace(&self, catalogue: &Catalogue) -> io::Result<()> {
        let draft = self.path.with_extension("json.tmp");
        let mut file = BufWriter::new(File::create(&draft)?);
        line(&mut file, &Header { version: FORMAT, change: catalogue.change })?;
        for (id, (set, change)) in &catalogue.sets {
            line(&mut file, &SetEntry::from((*id, set.as_ref(), *change)))?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&draft, &self.path)
    }

    fn failed(&self, step: &'static str) -> impl Fn(io::Error) -> CatalogueError {
        let path = self.path.clone();
        move |source| CatalogueError::Io { step, path: path.clone(), source }
    }
}

fn line(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")
}

/// The catalogue, and how many sets the text has if it is whole. Who died while he
/// added something leaves a last line without an end: nothing refers to it yet.
fn parse(text: &str) -> Result<(Catalogue, Option<usize>), String> {
    let mut lines = text.split_inclusive('\n');
    let first = lines.next().unwrap_or_default();
    let json = |error: serde_json::Error| error.to_string();
    let Header { version, change } = serde_json::from_str(first).map_err(json)?;
    if version != FORMAT {
        return Err(format!("version {version}, not {FORMAT}"));
    }
    let mut catalogue = Catalogue { change, ..Catalogue::default() };
    let mut sets = 0;
    for line in lines {
        if !line.ends_with('\n') {
            return Ok((catalogue, None));
        }
        let SetEntry { id, change, rules, because } = serde_json::from_str(line).map_err(json)?;
        let set = RuleSet {
            rules: rules.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            because: because.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        };
        catalogue.change = catalogue.change.max(change);
        catalogue.sets.insert(RuleSetId(id), (Arc::new(set), change));
        sets += 1;
    }
    Ok((catalogue, Some(sets)))
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

    fn open(folder: &tempfile::TempDir) -> (Journal, Catalogue, String) {
        let (journal, catalogue, error) = Journal::open(folder.path().join("rules.json"));
        (journal, catalogue, error.map_or_else(String::new, |error| error.to_string()))
    }

    /// A catalogue of one set, saved.
    fn saved(folder: &tempfile::TempDir) -> (Journal, Catalogue) {
        let (mut journal, mut catalogue, error) = open(folder);
        assert_eq!((catalogue.len(), error.as_str()), (0, ""));
        let new = catalogue.update([(RuleSetId(7), &set())]);
        journal.save(&catalogue, &new).unwrap();
        (journal, catalogue)
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let (_, catalogue) = saved(&folder);
        assert_eq!(open(&folder).1, catalogue);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn what_is_new_is_added_and_the_rest_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, mut catalogue) = saved(&folder);
        let before = fs::read_to_string(folder.path().join("rules.json")).unwrap();
        let other = RuleSet { because: vec![], ..set() };
        let new = catalogue.update([(RuleSetId(7), &set()), (RuleSetId(8), &other)]);
        journal.save(&catalogue, &new).unwrap();
        let after = fs::read_to_string(folder.path().join("rules.json")).unwrap();
        assert!(after.starts_with(&before) && after.lines().count() == 3, "{after}");
        let (_, loaded, error) = open(&folder);
        assert_eq!((loaded.get(RuleSetId(8)), error.as_str()), (Some(&other), ""));
    }

    #[test]
    fn a_file_with_many_lines_about_few_sets_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, catalogue) = saved(&folder);
        journal.lines = Some(SPARE_LINES + 1);
        journal.save(&catalogue, &[RuleSetId(7)]).unwrap();
        assert_eq!(journal.lines, Some(1));
        assert_eq!(open(&folder).1, catalogue);
    }

    #[test]
    fn who_died_while_he_added_a_line_loses_that_line_only() {
        let folder = tempfile::tempdir().unwrap();
        let (_, catalogue) = saved(&folder);
        let path = folder.path().join("rules.json");
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"id\":8,\"chan").unwrap();
        let (mut journal, loaded, error) = open(&folder);
        assert_eq!((&loaded, error.as_str()), (&catalogue, ""));
        journal.save(&loaded, &[]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_first_start_has_an_empty_catalogue() {
        assert!(open(&tempfile::tempdir().unwrap()).1.is_empty());
    }

    #[test]
    fn a_file_that_is_cut_or_of_another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.json");
        for (text, reason) in [
            ("{\"version\":2,", "EOF"),
            ("{\"version\":1,\"change\":1,\"sets\":[]}", "version 1, not 2"),
            (
                "{\"version\":2,\"change\":1}\n{\"id\":1,\"change\":1,\"rules\":[],\
                 \"because\":[{\"kind\":\"Pod\",\"namespace\":null,\"name\":\"a\"}]}\n",
                "`Pod` is no kind of policy",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let (mut journal, catalogue, error) = open(&folder);
            assert!(error.contains(reason) && catalogue.is_empty(), "{error}");
            journal.save(&catalogue, &[]).unwrap();
            assert_eq!(open(&folder).2, "", "the next one replaces it");
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_catalogue() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, catalogue) = saved(&folder);
        // The draft cannot be created: its name is taken by a folder.
        fs::create_dir(folder.path().join("rules.json.tmp")).unwrap();
        journal.lines = None;
        journal.save(&Catalogue::default(), &[]).unwrap_err();
        assert_eq!(open(&folder).1, catalogue);
    }
}
