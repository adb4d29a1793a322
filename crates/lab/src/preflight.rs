//! Whether this machine can run a lab: asked before anything is touched, and
//! answered with everything that is missing at once.

use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use crate::cgroup::Hierarchies;
use crate::container::bundle::SEARCH_PATH;
use crate::definition::Definition;
use crate::definition::lab_object::External;
use crate::definition::pod::{Pod, Role};
use crate::error::Error;
use crate::netns;
use crate::places::{BPFFS, Places};
use crate::plugin::PLUGINS;

/// Programs that `up` itself runs, and the Debian package of each.
const PROGRAMS: [(&str, &str); 2] = [("runc", "runc"), ("setsid", "util-linux")];

/// Kernel features: a file that exists only with it, and its name.
const FEATURES: [(&str, &str); 4] = [
    ("/proc/self/ns/net", "network namespaces (CONFIG_NET_NS)"),
    ("/proc/sys/net/ipv6", "IPv6 (CONFIG_IPV6)"),
    ("/sys/kernel/btf/vmlinux", "BTF of the kernel (CONFIG_DEBUG_INFO_BTF)"),
    (BPFFS, "the BPF file system (CONFIG_BPF_SYSCALL)"),
];

/// Checks the machine, and that the lab's names are free.
pub fn check(
    definition: &Definition,
    places: &Places,
    signet: &Path,
) -> Result<Hierarchies, Error> {
    let mut missing = Vec::new();
    if !Uid::effective().is_root() {
        missing.push("not run by root: namespaces and BPF need it (try `sudo`)".to_owned());
    }
    for (path, feature) in FEATURES {
        if !Path::new(path).exists() {
            missing.push(format!("the kernel lacks {feature}: `{path}` does not exist"));
        }
    }
    for (program, package) in PROGRAMS {
        if find_program(program).is_none() {
            missing
                .push(format!("`{program}` is not installed (Debian: apt-get install {package})"));
        }
    }
    for plugin in definition.cni.iter().map(String::as_str).chain(["host-local"]) {
        let path = Path::new(PLUGINS).join(plugin);
        if definition.cni.is_some() && !path.is_file() {
            let package = "apt-get install containernetworking-plugins";
            missing.push(format!("`{}` is not installed (Debian: {package})", path.display()));
        }
    }
    if !signet.is_file() {
        missing.push(format!("`{}` is not a program", signet.display()));
    }
    missing.extend(unknown_commands(&definition.pods, &definition.external));
    let has_names = definition.pods.iter().any(|pod| pod.role == Role::Client);
    if has_names && !has_overlay() {
        missing.push("the kernel lacks overlayfs, by which pods get a name server".to_owned());
    }
    let hierarchies = Hierarchies::find()?;
    if hierarchies.is_none() {
        missing.push("no cgroup v2 hierarchy is mounted".to_owned());
    }
    match hierarchies {
        Some(hierarchies) if missing.is_empty() => {
            names_are_free(places, &hierarchies)?;
            Ok(hierarchies)
        }
        _ => Err(Error::Unmet(missing)),
    }
}

/// Whether the kernel has overlayfs, or would load it when it is asked for.
fn has_overlay() -> bool {
    let listed = |text: String| text.split_whitespace().any(|word| word == "overlay");
    let release = nix::sys::utsname::uname();
    let module = release.map(|name| {
        let folder = Path::new("/lib/modules").join(name.release());
        folder.join("kernel/fs/overlayfs").exists()
    });
    std::fs::read_to_string("/proc/filesystems").is_ok_and(listed) || module.unwrap_or(false)
}

/// A container's program is the host's, so whether it exists is known beforehand.
pub fn unknown_commands(pods: &[Pod], external: &[External]) -> Vec<String> {
    // The name server's program is brought along.
    let written = pods.iter().filter(|pod| pod.role != Role::NameServer);
    let of_pods = written.flat_map(|pod| {
        pod.containers
            .iter()
            .map(|it| (format!("pod `{}/{}`", pod.namespace, pod.name), &it.command))
    });
    let of_hosts = external.iter().map(|host| (format!("host `{}`", host.name), &host.command));
    of_pods
        .chain(of_hosts)
        .filter_map(|(who, command)| {
            let program = command.first()?;
            let exists = find_program(program).is_some();
            (!exists)
                .then(|| format!("{who} runs `{program}`, which is not installed on this host"))
        })
        .collect()
}

/// Looks where containers look: the search path of whoever calls does not count.
fn find_program(name: &str) -> Option<PathBuf> {
    let folders = SEARCH_PATH.split(':').map(Path::new);
    let candidates = folders.map(|folder| folder.join(name));
    let mut candidates = candidates.take(if name.contains('/') { 0 } else { usize::MAX });
    candidates.find(|path| path.is_file()).or_else(|| {
        let path = PathBuf::from(name);
        (path.is_absolute() && path.is_file()).then_some(path)
    })
}

fn names_are_free(places: &Places, hierarchies: &Hierarchies) -> Result<(), Error> {
    let group = hierarchies.unified().join(places.cgroup());
    let taken = [places.run(), places.all_pins(), group].into_iter().find(|path| path.exists());
    let namespace = netns::named(&places.netns_prefix());
    let taken = taken.or_else(|| namespace.first().map(|it| it.path().to_owned()));
    match taken {
        Some(path) => Err(Error::Exists { name: places.name().to_string(), path }),
        None => Ok(()),
    }
}
