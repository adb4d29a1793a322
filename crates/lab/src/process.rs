//! Processes by number and start, so that a number that was given again is not
//! mistaken for the process it once meant.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process that was there when it was written down.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started: clock ticks since boot.
    pub start: u64,
}

impl Process {
    /// The process with this number, if there is one.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start: stat(pid)?.start })
    }

    /// Whether it still runs; one that only waits to be reaped does not.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start == self.start && stat.state != 'Z')
    }

    /// Whether nothing of it is left, except what this process itself would have
    /// to collect.
    pub fn is_gone(&self) -> bool {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        stat(self.pid).is_none_or(|stat| {
            stat.start != self.start || (stat.state == 'Z' && stat.parent == own)
        })
    }

    /// Ends it at once, if it still runs.
    pub fn kill(&self) {
        if self.is_alive() {
            // It may have ended since: that is what was wanted.
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}

/// All processes whose network namespace is one of these, by inode.
pub fn in_network_namespaces(inodes: &[u64]) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let namespace = fs::metadata(format!("/proc/{pid}/ns/net"));
            namespace.is_ok_and(|metadata| inodes.contains(&metadata.ino()))
        })
        .filter_map(Process::of)
        .collect()
}

/// What the kernel says of a process (proc(5), fields 3, 4 and 22 of `stat`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stat {
    state: char,
    parent: i32,
    start: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(stat: &str) -> Option<Stat> {
    // The name in parentheses may itself hold spaces and parentheses.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_cannot_confuse_the_reading() {
        let stat = "7 (a) Z) (b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse(stat), Some(Stat { state: 'S', parent: 1, start: 4242 }));
    }

    #[test]
    fn a_number_given_again_is_another_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let this = Process::of(pid).unwrap();
        assert!(this.is_alive());
        assert!(!Process { start: this.start + 1, ..this }.is_alive());
    }
}
