//! Linux capabilities by name, and the set a container starts with.

/// All of Linux 6.x, without `CAP_`.
const ALL: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// What Kubernetes' runtimes give a container that asks for nothing. `NET_RAW` is
/// among them, so spoofing is possible in every pod and has to be stopped outside.
const USUAL: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Every capability at once, where manifests name capabilities.
const EVERY: &str = "ALL";

/// Whether a manifest may name it.
pub fn is_known(name: &str) -> bool {
    name == EVERY || ALL.contains(&name)
}

/// The set that remains of the usual one, as the runtime writes it: with `CAP_`,
/// sorted. What is added wins over what is dropped.
pub fn effective(add: &[String], drop: &[String]) -> Vec<String> {
    let named = |list: &[String], name: &str| list.iter().any(|it| it == EVERY || it == name);
    ALL.iter()
        .filter(|name| named(add, name) || (USUAL.contains(name) && !named(drop, name)))
        .map(|name| format!("CAP_{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(add: &[&str], drop: &[&str], has: &[&str], lacks: &[&str]) {
        let own = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let set = effective(&own(add), &own(drop));
        for name in has {
            assert!(set.contains(&format!("CAP_{name}")), "lacks {name}");
        }
        for name in lacks {
            assert!(!set.contains(&format!("CAP_{name}")), "has {name}");
        }
    }

    #[test]
    fn raw_sockets_are_there_unless_dropped() {
        check(&[], &[], &["NET_RAW"], &["NET_ADMIN", "SYS_ADMIN"]);
        check(&[], &["NET_RAW"], &["CHOWN"], &["NET_RAW"]);
    }

    #[test]
    fn one_capability_can_be_kept_when_all_are_dropped() {
        check(&["NET_BIND_SERVICE"], &["ALL"], &["NET_BIND_SERVICE"], &["NET_RAW", "CHOWN"]);
    }
}
