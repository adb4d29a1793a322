//! `signet lab ...`: what each command does and prints, and its exit status.
//!
//! Knows no flags: the command line is parsed elsewhere.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::apply::Change;
use crate::definition;
use crate::dns;
use crate::error::Error;
use crate::exec::{self, Exec};
use crate::journal::Pod;
use crate::lab::{self, Lab};
use crate::label::Label;
use crate::logs;
use crate::places::LabName;
use crate::probe;
use crate::progress;
use crate::registry;
use crate::restart;
use crate::status::Status;
use crate::traffic::{self, Load};
use crate::up::Options;

/// Which lab `down` is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// The only one.
    Only,
    /// By its directory or its name.
    One(PathBuf),
    /// Every lab of this host.
    All,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one object.
    Json,
}

/// How answers to probes are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProbeFormat {
    /// For people, a line for each probe.
    Table,
    /// For people, a line for each of the cells that the probes belong to.
    Cells,
    /// For programs: one object a line.
    Json,
    /// Only how many did what.
    Summary,
}

/// What `probe` tries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Probes {
    /// Every line of a file.
    File(PathBuf),
    /// This line.
    One(String),
}

/// One command. Where a lab may be named, none means the only one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Make the lab of a directory.
    Up {
        /// The directory.
        directory: PathBuf,
        /// Whether with its policies.
        policies: bool,
    },
    /// Take labs away.
    Down {
        /// Which.
        target: Target,
    },
    /// Show what runs.
    Status {
        /// Name of a lab; without one, all of them.
        lab: Option<String>,
        /// Form of the answer.
        format: Format,
    },
    /// Run a command in a pod.
    Exec {
        /// Name of the lab.
        lab: Option<String>,
        /// What, and where.
        exec: Exec,
    },
    /// Make a lab what manifests say.
    Apply {
        /// Name of the lab.
        lab: Option<String>,
        /// Name of the cluster; without one, the one that the manifests belong to.
        cluster: Option<String>,
        /// File or directory.
        path: PathBuf,
    },
    /// Take what manifests name out of a lab.
    Delete {
        /// Name of the lab.
        lab: Option<String>,
        /// Name of the cluster; without one, the one that the manifests belong to.
        cluster: Option<String>,
        /// File or directory.
        path: PathBuf,
    },
    /// Change labels of a pod.
    Label {
        /// Name of the lab.
        lab: Option<String>,
        /// `namespace/name`, or `cluster/namespace/name`.
        pod: String,
        /// The changes.
        labels: Vec<Label>,
    },
    /// Show what a program of the lab printed.
    Logs {
        /// Name of the lab.
        lab: Option<String>,
        /// A pod, a node, a host, or the relay.
        what: String,
        /// Container of a pod; the first when not given.
        container: Option<String>,
    },
    /// Start pods or an agent anew.
    Restart {
        /// Name of the lab.
        lab: Option<String>,
        /// A pod, a workload, or a node, whose agent is meant.
        what: String,
        /// The node on which a pod is to run from now on.
        node: Option<String>,
    },
    /// Repeat probes for some time as a steady load.
    Traffic {
        /// Name of the lab.
        lab: Option<String>,
        /// The file of probes.
        file: PathBuf,
        /// For how long, and how much.
        load: Load,
    },
    /// Be a lab's name server: what one of its pods runs.
    Dns {
        /// Folder of the cluster's objects.
        cluster: PathBuf,
        /// Names of external hosts.
        hosts: dns::Hosts,
    },
    /// Run probes and compare with what they expect.
    Probe {
        /// Name of the lab.
        lab: Option<String>,
        /// What to try.
        what: Probes,
        /// Which of them, and how.
        run: probe::Run,
        /// Directories of manifests to compare with; without any, nothing is.
        manifests: Vec<PathBuf>,
        /// Form of the answers.
        format: ProbeFormat,
    },
}

/// Everything was as asked.
pub const DONE: u8 = 0;
/// The command ran, and its answer is no.
pub const FAILED: u8 = 1;
/// The command could not be carried out.
pub const ERROR: u8 = 3;

/// Does the command, prints, and returns the exit status.
pub fn run(command: Command) -> u8 {
    match dispatch(command) {
        Ok(status) => status,
        Err(error) => {
            // Nobody may be listening; the exit status says it too.
            let _ = writeln!(std::io::stderr(), "signet lab: {}", error.chain());
            match error {
                Error::Refused(_) | Error::Unmet(_) | Error::Exists { .. } => FAILED,
                _ => ERROR,
            }
        }
    }
}

fn dispatch(command: Command) -> Result<u8, Error> {
    match command {
        Command::Up { directory, policies } => up(&directory, policies),
        Command::Down { target } => down(&target),
        Command::Status { lab, format } => status(lab.as_deref(), format),
        Command::Exec { lab, exec } => match exec::exec(&open(lab.as_deref())?, &exec)? {},
        Command::Apply { lab, cluster, path } => change(lab.as_deref(), |lab, options, say| {
            lab.apply(&path, cluster.as_deref(), options, say)
        }),
        Command::Delete { lab, cluster, path } => change(lab.as_deref(), |lab, options, say| {
            lab.delete(&path, cluster.as_deref(), options, say)
        }),
        Command::Label { lab, pod, labels } => {
            let mut lab = open(lab.as_deref())?;
            let _claim = lab.claim()?;
            let took = lab.label(&pod, &labels)?.as_millis();
            let object = lab.pod(&pod)?.object_name();
            print(&format!("{object} relabelled; every node judges by it after {took} ms\n"));
            Ok(DONE)
        }
        Command::Logs { lab, what, container } => {
            logs::print(&open(lab.as_deref())?, &what, container.as_deref()).map(|()| DONE)
        }
        Command::Restart { lab, what, node } => change(lab.as_deref(), |lab, options, say| {
            restart::run(lab, &what, node.as_deref(), options, say)
        }),
        Command::Traffic { lab, file, load } => {
            let report = traffic::run(&open(lab.as_deref())?, &file, load, &mut note)?;
            print(&report.text());
            Ok(if report.is_as_expected() { DONE } else { FAILED })
        }
        Command::Dns { cluster, hosts } => dns::serve(&cluster, hosts).map(|()| DONE),
        Command::Probe { lab, what, run, manifests, format } => {
            let lab = open(lab.as_deref())?;
            let text = match what {
                Probes::One(line) => line,
                Probes::File(file) => {
                    std::fs::read_to_string(&file).map_err(Error::file("read", &file))?
                }
            };
            let report = probe::run_lines(&lab, &text, &run, &manifests)?;
            match format {
                ProbeFormat::Table => print(&report.table()),
                ProbeFormat::Summary => print(&report.counts()),
                ProbeFormat::Cells => print(&report.cells()),
                ProbeFormat::Json => {
                    print(&report.jsonl());
                    note(&report.summary());
                }
            }
            Ok(if report.is_as_expected() { DONE } else { FAILED })
        }
    }
}

/// Does something to a lab that nobody else changes meanwhile, and prints each
/// change as it is made.
fn change(
    name: Option<&str>,
    act: impl FnOnce(&mut Lab, &Options, &mut dyn FnMut(Change)) -> Result<(), Error>,
) -> Result<u8, Error> {
    progress::catch_interrupts()?;
    let mut lab = open(name)?;
    let _claim = lab.claim()?;
    let start = Instant::now();
    let mut unchanged = 0;
    let mut say = |change: Change| match change.outcome.as_str() {
        "unchanged" => unchanged += 1,
        outcome => print(&format!("{} {outcome}\n", change.object)),
    };
    act(&mut lab, &Options::new()?, &mut say)?;
    if unchanged > 0 {
        print(&format!("{unchanged} objects unchanged\n"));
    }
    note(&format!("enforced everywhere after {:.2} s", start.elapsed().as_secs_f64()));
    Ok(DONE)
}

fn up(directory: &Path, policies: bool) -> Result<u8, Error> {
    progress::catch_interrupts()?;
    let options = Options::new()?;
    let lab = match policies {
        true => Lab::up(directory, &options)?,
        false => Lab::up_without_policies(directory, &options)?,
    };
    print(&Status::of(&lab).table());
    print(&next_steps(&lab));
    Ok(DONE)
}

fn next_steps(lab: &Lab) -> String {
    let name = &lab.journal.name;
    let own = |pod: &&Pod| pod.namespace == definition::names::NAMESPACE;
    let mut pods = lab.journal.pods.iter().filter(|pod| !own(pod));
    let pod = pods.next().map_or("NAMESPACE/POD".to_owned(), Pod::full_name);
    let probes = lab.journal.directory.join("probes.jsonl");
    let mut text = "Try next:\n".to_owned();
    if probes.exists() {
        text.push_str(&format!("  signet lab probe {}\n", probes.display()));
    }
    let socket = lab.places.relay_socket();
    text.push_str(&format!(
        "  signet lab exec {pod} -- sh\n  signet observe --server unix:{} --verdict DROPPED --follow\n  signet lab down {name}\n",
        socket.display()
    ));
    text
}

fn down(target: &Target) -> Result<u8, Error> {
    let names = match target {
        Target::All => registry::names()?,
        Target::Only => vec![registry::find(None)?],
        Target::One(what) => vec![find(what)?],
    };
    for name in &names {
        lab::down(name)?;
        note(&format!("lab `{name}` is gone"));
    }
    if names.is_empty() {
        note("no lab runs");
    }
    Ok(DONE)
}

/// A lab by its directory, or by its name.
fn find(what: &Path) -> Result<LabName, Error> {
    if let Some(name) = registry::of_directory(what)? {
        return Ok(name);
    }
    let names = registry::names()?;
    let text = what.to_string_lossy();
    if let Some(name) = names.iter().find(|name| name.as_str() == text) {
        return Ok(name.clone());
    }
    if !what.is_dir() {
        return Err(Error::NoSuchLab(text.into_owned()));
    }
    // No journal says so: what the manifests say may still be right about remains.
    let name = definition::name_of(what)?;
    if names.contains(&name) { Ok(name) } else { Err(Error::NoSuchLab(name.to_string())) }
}

fn status(lab: Option<&str>, format: Format) -> Result<u8, Error> {
    let names = match lab {
        Some(name) => vec![registry::find(Some(&name.parse()?))?],
        None => registry::names()?,
    };
    let mut labs = Vec::new();
    for name in &names {
        match Lab::open(Some(name)) {
            Ok(lab) => labs.push(lab),
            Err(error) => note(&error.chain()),
        }
    }
    match format {
        Format::Json => {
            let all: Vec<_> = labs.iter().map(|lab| Status::of(lab).json()).collect();
            print(&format!("{:#}\n", serde_json::Value::from(all)));
        }
        Format::Table if names.is_empty() => print("No lab runs.\n"),
        Format::Table => labs.iter().for_each(|lab| print(&Status::of(lab).table())),
    }
    Ok(if labs.len() == names.len() { DONE } else { FAILED })
}

fn open(name: Option<&str>) -> Result<Lab, Error> {
    Lab::open(name.map(str::parse).transpose()?.as_ref())
}

/// A closed pipe ends the output, not the command.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
