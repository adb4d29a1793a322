//! The memory cgroup of this process: what it may have, and how often that was too
//! little.

use std::fs;
use std::path::PathBuf;

/// What the memory cgroup of a process says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct MemoryCgroup {
    /// Processes of it that the kernel killed to free memory; 0 where nobody counts them.
    pub(crate) kills: u64,
    /// Bytes that it may have; none: it has no limit of its own.
    pub(crate) limit: Option<u64>,
}

/// Beyond what any machine has: how version 1 says that there is no limit.
const UNLIMITED: u64 = 1 << 60;

impl MemoryCgroup {
    /// Of this process; nothing where there is none.
    pub(crate) fn own() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut groups = own.lines().filter_map(Files::of).filter_map(|files| files.read());
        groups.next().unwrap_or_default()
    }
}

/// Where a cgroup counts, and where it says its limit.
#[derive(Debug, Eq, PartialEq)]
struct Files {
    events: PathBuf,
    limit: PathBuf,
}

impl Files {
    /// Of a line of `/proc/self/cgroup`: `ID:CONTROLLERS:PATH`, with no controllers for
    /// the second version.
    fn of(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (folder, events, limit) = if controllers.is_empty() {
            (format!("/sys/fs/cgroup{path}"), "memory.events", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            let folder = format!("/sys/fs/cgroup/memory{path}");
            (folder, "memory.oom_control", "memory.limit_in_bytes")
        } else {
            return None;
        };
        let folder = PathBuf::from(folder);
        Some(Self { events: folder.join(events), limit: folder.join(limit) })
    }

    fn read(&self) -> Option<MemoryCgroup> {
        let kills = count(&fs::read_to_string(&self.events).ok()?)?;
        let limit = fs::read_to_string(&self.limit).unwrap_or_default();
        let limit = limit.trim().parse().ok().filter(|bytes| *bytes < UNLIMITED);
        Some(MemoryCgroup { kills, limit })
    }
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_say_where_they_count() {
        let files = |events: &str, limit: &str| {
            let (events, limit) = (events.into(), limit.into());
            Some(Files { events, limit })
        };
        let v1 = files(
            "/sys/fs/cgroup/memory/agents/a/memory.oom_control",
            "/sys/fs/cgroup/memory/agents/a/memory.limit_in_bytes",
        );
        assert_eq!(Files::of("4:memory:/agents/a"), v1);
        let v2 = files("/sys/fs/cgroup/a.slice/memory.events", "/sys/fs/cgroup/a.slice/memory.max");
        assert_eq!(Files::of("0::/a.slice"), v2);
        assert_eq!(Files::of("2:cpu,cpuacct:/"), None);
    }

    /// What a cgroup says whose files have these texts.
    #[track_caller]
    fn check(events: &str, limit: &str, want: Option<MemoryCgroup>) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { events: folder.path().join("e"), limit: folder.path().join("l") };
        fs::write(&files.events, events).unwrap();
        fs::write(&files.limit, limit).unwrap();
        assert_eq!(files.read(), want);
    }

    #[test]
    fn kills_are_counted_and_other_events_are_not() {
        let v2 = "low 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n";
        check(v2, "67108864\n", Some(MemoryCgroup { kills: 2, limit: Some(64 << 20) }));
        check(v2, "max\n", Some(MemoryCgroup { kills: 2, limit: None }));
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n";
        check(v1, "67108864\n", Some(MemoryCgroup { kills: 7, limit: Some(64 << 20) }));
        check(v1, "9223372036854771712\n", Some(MemoryCgroup { kills: 7, limit: None }));
        check("", "max\n", None);
    }
}
