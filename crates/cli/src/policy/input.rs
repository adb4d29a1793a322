//! Manifests from files, folders and standard input, and the choices of an
//! installation from flags.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use manifest::{Document, Node, Refusal, Value};
use policy::{AllowLocalhost, CidrMatch, Enforcement, Options};

/// How the installation that is meant answers what policies leave open.
#[derive(Debug, clap::Args)]
pub struct Choices {
    /// Whom policy binds: endpoints that a policy selects, everybody, or nobody
    #[arg(long, value_name = "MODE", default_value = "default")]
    enforcement: EnforcementArg,
    /// Whether a pod's own node may always reach it
    #[arg(long, value_name = "WHEN", default_value = "always")]
    allow_localhost: AllowLocalhostArg,
    /// Whom in the cluster ranges of addresses match: `nodes`, `pods`, both, or
    /// `none`; without it each kind's own standard
    #[arg(long, value_name = "WHOM", value_delimiter = ',')]
    cidr_match_mode: Option<Vec<CidrMatchArg>>,
    /// Name of the cluster
    #[arg(long, value_name = "NAME", default_value = "default")]
    cluster: String,
    /// Whether peers that name no cluster are in this one only
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    default_local_cluster: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum EnforcementArg {
    Default,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum AllowLocalhostArg {
    Always,
    Policy,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum CidrMatchArg {
    Nodes,
    Pods,
    None,
}

impl Choices {
    /// The choices as the policy crate takes them.
    pub fn options(&self) -> Options {
        Options {
            enforcement: match self.enforcement {
                EnforcementArg::Default => Enforcement::Default,
                EnforcementArg::Always => Enforcement::Always,
                EnforcementArg::Never => Enforcement::Never,
            },
            allow_localhost: match self.allow_localhost {
                AllowLocalhostArg::Always => AllowLocalhost::Always,
                AllowLocalhostArg::Policy => AllowLocalhost::Policy,
            },
            cidr_match: self.cidr_match_mode.as_ref().map(|modes| CidrMatch {
                nodes: modes.contains(&CidrMatchArg::Nodes),
                pods: modes.contains(&CidrMatchArg::Pods),
            }),
            cluster: self.cluster.clone(),
            default_local_cluster: self.default_local_cluster,
            ..Options::default()
        }
    }
}

/// A path that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`: {source}", path.display())]
pub struct InputError {
    path: PathBuf,
    source: io::Error,
}

/// Everything that was read.
#[derive(Default)]
pub struct Input {
    /// Objects, in the order of the paths, each folder's files by name.
    pub documents: Vec<Document>,
    /// Files that could not be taken apart, and why.
    pub refusals: Vec<Refusal>,
    /// How many files there were.
    pub files: usize,
    /// Folders of other clusters of a lab: what is in them is no part of this one.
    pub left_out: BTreeSet<PathBuf>,
}

/// Reads files, folders with all they hold, and standard input for `-`.
pub fn read(paths: &[PathBuf]) -> Result<Input, InputError> {
    let mut input = Input::default();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|source| InputError { path: path.clone(), source })?;
            input.add("<stdin>", &bytes);
            continue;
        }
        for file in files(path)? {
            let bytes =
                std::fs::read(&file).map_err(|source| InputError { path: file.clone(), source })?;
            input.add(&file.display().to_string(), &bytes);
        }
    }
    input.leave_out_other_clusters();
    Ok(input)
}

impl Input {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        self.files += 1;
        match manifest::read_bytes(name, bytes) {
            Ok(documents) => self.documents.extend(documents),
            Err(refusals) => self.refusals.extend(refusals),
        }
    }

    /// A Lab says which folders hold the manifests of its other clusters. Who reads a
    /// folder asks about one cluster: the one whose manifests are beside the Lab.
    fn leave_out_other_clusters(&mut self) {
        let labs =
            self.documents.iter().filter(|it| it.kind == "Lab" && it.group() == "signet.dev");
        let folders: BTreeSet<PathBuf> = labs.flat_map(other_clusters).collect();
        let is_in = |document: &Document, folder: &PathBuf| {
            std::fs::canonicalize(&document.file).is_ok_and(|file| file.starts_with(folder))
        };
        self.documents.retain(|document| {
            let folder = folders.iter().find(|folder| is_in(document, folder));
            self.left_out.extend(folder.cloned());
            folder.is_none()
        });
    }

    /// Says what was left out.
    pub fn tell_left_out(&self) {
        for folder in &self.left_out {
            eprintln!("note: `{}` is another cluster of the lab: left out", folder.display());
        }
    }
}

/// The folders of the clusters that a Lab has beside its first.
fn other_clusters(lab: &Document) -> Vec<PathBuf> {
    let Some(Value::List(clusters)) = lab.root.path(&["spec", "clusters"]).map(|it| &it.value)
    else {
        return vec![];
    };
    let folder = Path::new(&lab.file).parent().unwrap_or(Path::new("."));
    let text = |cluster: &Node, key: &str| cluster.get(key)?.as_str().map(str::to_owned);
    let manifests = |cluster: &Node| {
        let standard = || Some(format!("clusters/{}", text(cluster, "name")?));
        text(cluster, "manifests").or_else(standard)
    };
    let folders = clusters.iter().filter_map(manifests);
    folders.filter_map(|path| std::fs::canonicalize(folder.join(path)).ok()).collect()
}

/// The file itself, or the manifests of a folder and those below it.
fn files(path: &Path) -> Result<Vec<PathBuf>, InputError> {
    let failed = |source| InputError { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        let manifest = entry.extension().is_some_and(|extension| {
            ["yaml", "yml", "json"].iter().any(|known| extension == *known)
        });
        // A link is not followed into a folder: it could lead back here.
        let is_folder = std::fs::symlink_metadata(&entry).is_ok_and(|about| about.is_dir());
        if is_folder {
            found.extend(files(&entry)?);
        } else if manifest {
            found.push(entry);
        }
    }
    Ok(found)
}
