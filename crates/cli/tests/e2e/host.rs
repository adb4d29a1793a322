//! What the host has of a lab, by the kernel's own lists: knows nothing of the
//! lab's code, so that both cannot be wrong in the same way.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Everything of the lab of that name that the host has, sorted.
pub fn remains(name: &str) -> BTreeSet<String> {
    let folders = [Path::new("/run/signet"), Path::new("/sys/fs/bpf/signet")];
    let mut found: BTreeSet<String> = folders
        .iter()
        .map(|folder| folder.join(name))
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    found.extend(namespaces(name));
    found.extend(mounts(name));
    found.extend(cgroups(name));
    found.extend(processes(name));
    found
}

/// Names of the interfaces in this network namespace.
pub fn links() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

fn namespaces(name: &str) -> Vec<String> {
    let prefix = format!("signet.{name}.");
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|entry| entry.starts_with(&prefix)).collect()
}

fn mounts(name: &str) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let marks = [format!("/run/signet/{name}/"), format!("/signet.{name}.")];
    let ours = |line: &&str| marks.iter().any(|mark| line.contains(mark));
    table.lines().filter(ours).map(|line| format!("mount {line}")).collect()
}

/// In every hierarchy: alone, or one folder for each.
fn cgroups(name: &str) -> Vec<String> {
    let root = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let hierarchies: Vec<PathBuf> = below.chain([root.to_owned()]).collect();
    let folders = hierarchies.iter().map(|root| root.join("signet").join(name));
    folders.filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
}

/// Processes in one of its cgroups, or with one of its paths on their command line.
fn processes(name: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let (group, path) = (format!("/signet/{name}/"), format!("/run/signet/{name}/"));
    pids.filter_map(|pid| {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        // Without a command line it is dead, and waits for its parent only.
        let ours = !command.is_empty() && (cgroup.contains(&group) || command.contains(&path));
        ours.then(|| format!("process {pid}: {command}"))
    })
    .collect()
}
