//! Takes a lab away, from whatever state it is in.
//!
//! Goes by the names that everything of a lab has, not by what `up` says it did:
//! so it works after a crash at any point, and twice in a row.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::cgroup::Hierarchies;
use crate::error::Error;
use crate::journal::Journal;
use crate::mounts;
use crate::netns;
use crate::places::{FOLDER, Places, RUN};
use crate::process::{self, Process};

/// A killed process is gone in milliseconds, unless the machine is very busy.
const DEATH_LIMIT: Duration = Duration::from_secs(10);

/// For the parents of killed processes to collect them.
const COLLECT_LIMIT: Duration = Duration::from_secs(3);

/// Removes everything of the lab. No error when there is nothing.
pub fn remove(places: &Places) -> Result<(), Error> {
    let hierarchies = Hierarchies::find()?;
    let ended = end_processes(places, hierarchies.as_ref())?;
    if let Some(hierarchies) = &hierarchies {
        remove_groups(places, hierarchies)?;
    }
    // Nothing of the lab runs or can start any more: nothing below comes back.
    mounts::unmount_below(&places.run())?;
    for namespace in netns::named(&places.netns_prefix()) {
        namespace.remove()?;
    }
    remove_folder(&places.all_pins())?;
    remove_folder(&places.run())?;
    wait_until_collected(&ended);
    Ok(())
}

/// Whoever has to collect the dead may be slow; they harm nobody meanwhile, so
/// this gives up without an error.
fn wait_until_collected(ended: &[Process]) {
    let deadline = Instant::now() + COLLECT_LIMIT;
    while !ended.iter().all(Process::is_gone) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Removes what labs share, when this was the last one. The caller holds the
/// lock that `up` takes before it makes any of this.
pub fn remove_shared() -> Result<(), Error> {
    let labs = fs::read_dir(RUN).map(|entries| {
        entries.flatten().filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir())).count()
    });
    if labs.is_ok_and(|count| count > 0) {
        return Ok(());
    }
    mounts::unmount_bpffs()?;
    if let Some(hierarchies) = Hierarchies::find()? {
        // What is still in use is another lab's.
        hierarchies.remove_if_empty(FOLDER);
    }
    // Fails, rightly, while it holds something.
    let _ = fs::remove_dir(RUN);
    Ok(())
}

/// Ends every process of the lab, and returns them.
fn end_processes(
    places: &Places,
    hierarchies: Option<&Hierarchies>,
) -> Result<Vec<Process>, Error> {
    let journal = Journal::read(&places.journal()).ok().flatten();
    let mut known: Vec<Process> = journal.iter().flat_map(processes_of).collect();
    let deadline = Instant::now() + DEATH_LIMIT;
    loop {
        let found = present(places, hierarchies);
        known.extend(found.into_iter().filter(|it| !known.contains(it)).collect::<Vec<_>>());
        let alive: Vec<_> = known.iter().filter(|process| process.is_alive()).collect();
        if alive.is_empty() {
            return Ok(known);
        }
        if Instant::now() > deadline {
            let left = alive.iter().map(|process| format!("process {}", process.pid)).collect();
            return Err(Error::Left { name: places.name().to_string(), left });
        }
        if let Some(hierarchies) = hierarchies {
            hierarchies.kill(&places.cgroup())?;
        }
        alive.into_iter().for_each(Process::kill);
        thread::sleep(Duration::from_millis(5));
    }
}

/// Processes in the lab's cgroups, and those in its network namespaces.
fn present(places: &Places, hierarchies: Option<&Hierarchies>) -> Vec<Process> {
    let namespaces = netns::named(&places.netns_prefix());
    let inodes: Vec<_> = namespaces.iter().filter_map(netns::Netns::inode).collect();
    let mut found = process::in_network_namespaces(&inodes);
    if let Some(hierarchies) = hierarchies {
        let members = hierarchies.processes(&places.cgroup());
        found.extend(members.into_iter().filter_map(Process::of));
    }
    found
}

fn processes_of(journal: &Journal) -> Vec<Process> {
    let containers = journal.pods.iter().flat_map(|pod| &pod.containers);
    let containers = containers.chain(journal.external.iter().map(|host| &host.container));
    let daemons = journal.daemons.iter().map(|daemon| daemon.process);
    daemons.chain(containers.filter_map(|container| container.process)).collect()
}

/// A cgroup stays busy for a moment after its last process was reaped; and a
/// child of a killed `up` may still have been on its way into one.
fn remove_groups(places: &Places, hierarchies: &Hierarchies) -> Result<(), Error> {
    let deadline = Instant::now() + DEATH_LIMIT;
    loop {
        let left = hierarchies.remove(&places.cgroup());
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let left = left.iter().map(|path| format!("`{}`", path.display())).collect();
            return Err(Error::Left { name: places.name().to_string(), left });
        }
        hierarchies.kill(&places.cgroup())?;
        thread::sleep(Duration::from_millis(5));
    }
}

fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}
