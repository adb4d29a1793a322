//! What the container runtime is told: an OCI runtime configuration.
//!
//! Pure. The container sees the host's programs and libraries read-only, has its
//! own processes, mounts and host name, and shares only its pod's network.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::container::capability;
use crate::definition::pod::Container;

/// Where programs are looked for in a container.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Writable and empty: places where programs leave files, and where the host
/// keeps what is nobody's business in a pod.
const SCRATCH: [&str; 7] = ["/tmp", "/run", "/root", "/home", "/var/tmp", "/var/log", "/mnt"];

const MASKED: [&str; 8] = [
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/ssh",
    "/proc/kcore",
    "/proc/keys",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a container sees of the lab beside its root, read-only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum View {
    /// A file or folder, in a place where the root has none.
    Bind {
        /// Where it is.
        source: PathBuf,
        /// Where the container sees it.
        target: &'static str,
    },
    /// Files before those of a folder of the root. What is mounted on a file of the
    /// host falls off when the host replaces the file; this stays.
    Over {
        /// The folder with these files.
        source: PathBuf,
        /// The folder of the root, from `/` on.
        target: &'static str,
    },
}

/// One container and where it goes.
#[derive(Clone, Debug)]
pub struct Placement<'a> {
    /// What runs.
    pub container: &'a Container,
    /// Host name: the pod's name.
    pub hostname: &'a str,
    /// Its root file system.
    pub rootfs: &'a Path,
    /// Its pod's network namespace.
    pub netns: &'a Path,
    /// Its cgroup, from the root of the hierarchies.
    pub cgroup: PathBuf,
    /// What it sees beside its root.
    pub views: &'a [View],
}

/// The configuration of the container.
pub fn configuration(placement: &Placement<'_>) -> Value {
    let Placement { container, hostname, rootfs, netns, cgroup, views } = placement;
    json!({
        "ociVersion": "1.0.2",
        "hostname": hostname,
        "process": process(container, hostname),
        "root": {"path": rootfs, "readonly": true},
        "mounts": mounts(rootfs, views),
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                {"type": "pid"},
                {"type": "mount"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "cgroup"},
                {"type": "network", "path": netns},
            ],
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "rootfsPropagation": "private",
        },
    })
}

fn process(container: &Container, hostname: &str) -> Value {
    let security = &container.security;
    let capabilities = capability::effective(&security.add, &security.drop);
    let mut environment = vec![
        format!("PATH={SEARCH_PATH}"),
        format!("HOSTNAME={hostname}"),
        "TERM=xterm".to_owned(),
    ];
    environment.extend(container.environment.iter().map(|(name, value)| format!("{name}={value}")));
    json!({
        "terminal": false,
        "user": {"uid": security.user, "gid": security.group},
        "args": container.command,
        "env": environment,
        "cwd": container.directory,
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
        },
        "noNewPrivileges": false,
    })
}

fn mounts(rootfs: &Path, views: &[View]) -> Vec<Value> {
    let mount = |at: &str, kind: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=64k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        ),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=16m"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    mounts.extend(
        SCRATCH.iter().map(|at| mount(at, "tmpfs", &["nosuid", "nodev", "mode=1777", "size=64m"])),
    );
    // Last: some of them lie in what was just mounted.
    mounts.extend(views.iter().map(|view| match view {
        View::Bind { source, target } => {
            let options = ["bind", "ro", "nosuid", "nodev"];
            json!({"destination": target, "type": "bind", "source": source, "options": options})
        }
        View::Over { source, target } => {
            let below = rootfs.join(target.trim_start_matches('/'));
            let layers = format!("lowerdir={}:{}", source.display(), below.display());
            let options = ["ro", "nosuid", "nodev", layers.as_str()];
            json!({"destination": target, "type": "overlay", "source": "overlay", "options": options})
        }
    }));
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::pod::Security;

    fn configuration_of(security: Security) -> Value {
        let container = Container {
            name: "main".into(),
            command: vec!["sleep".into(), "1".into()],
            environment: vec![("A".into(), "b".into())],
            directory: "/".into(),
            security,
            ready_port: None,
        };
        configuration(&Placement {
            container: &container,
            hostname: "pay-svc",
            rootfs: Path::new("/run/signet/tiny/rootfs"),
            netns: Path::new("/run/netns/signet.tiny.payment.pay-svc"),
            cgroup: "/signet/tiny/node-1/abc".into(),
            views: &[],
        })
    }

    #[test]
    fn a_container_cannot_write_to_the_host() {
        let root = &configuration_of(Security::default())["root"];
        assert_eq!(root["readonly"], true);
        assert_eq!(root["path"], "/run/signet/tiny/rootfs");
    }

    #[test]
    fn a_container_shares_nothing_but_its_pods_network() {
        let configuration = configuration_of(Security::default());
        let kinds: Vec<_> = configuration["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|namespace| namespace["type"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds, ["pid", "mount", "ipc", "uts", "cgroup", "network"]);
    }

    #[test]
    fn a_container_runs_as_the_user_that_its_manifest_says() {
        let security = Security { user: 1000, group: 1000, ..Security::default() };
        let process = &configuration_of(security)["process"];
        assert_eq!(process["user"], json!({"uid": 1000, "gid": 1000}));
        assert_eq!(process["env"][3], "A=b");
    }
}
