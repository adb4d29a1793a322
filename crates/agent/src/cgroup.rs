//! The memory cgroup of this process: how often its limit has killed somebody.

use std::fs;

/// Processes of this process' own memory cgroup that the kernel killed because its limit
/// was reached; 0 where nobody counts them.
pub(crate) fn out_of_memory_kills() -> u64 {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut counts = own.lines().filter_map(path).filter_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        count(&text)
    });
    counts.next().unwrap_or_default()
}

/// The file that counts, for a line of `/proc/self/cgroup`: `ID:CONTROLLERS:PATH`, with
/// no controllers for the second version.
fn path(line: &str) -> Option<String> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    if controllers.is_empty() {
        return Some(format!("/sys/fs/cgroup{path}/memory.events"));
    }
    let memory = controllers.split(',').any(|name| name == "memory");
    memory.then(|| format!("/sys/fs/cgroup/memory{path}/memory.oom_control"))
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_say_where_they_count() {
        let v1 = path("4:memory:/agents/a").unwrap();
        assert_eq!(v1, "/sys/fs/cgroup/memory/agents/a/memory.oom_control");
        assert_eq!(path("0::/a.slice").unwrap(), "/sys/fs/cgroup/a.slice/memory.events");
        assert_eq!(path("2:cpu,cpuacct:/"), None);
    }

    #[test]
    fn kills_are_counted_and_other_events_are_not() {
        assert_eq!(count("low 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(count(""), None);
    }
}
