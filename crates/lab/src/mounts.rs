//! Mounts of the host that a lab makes, and the table of those that exist.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::Error;
use crate::places::{BPFFS, BPFFS_MARKER, FOLDER};

/// What the kernel itself puts into a new BPF file system.
const PRELOADED: [&str; 2] = ["maps.debug", "progs.debug"];

/// One line of the mount table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Type of the file system.
    pub kind: String,
}

/// All mounts, in the order in which they were made.
pub fn all() -> Result<Vec<Mount>, Error> {
    let path = "/proc/self/mountinfo";
    Ok(parse(&fs::read_to_string(path).map_err(Error::file("read", path))?))
}

/// Reads a mount table (proc(5), `mountinfo`); lines of another form are skipped.
pub(crate) fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let point = left.split(' ').nth(4)?;
    let kind = right.split(' ').next()?;
    Some(Mount { point: unescape(point).into(), kind: kind.to_owned() })
}

/// Spaces, tabs, line ends and backslashes come as octal.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Shows the host's root file system at `target`, without what is mounted below
/// it, read-only. Set-uid bits keep their meaning: `ping` needs them in a pod.
pub fn bind_root_read_only(target: &Path) -> Result<(), Error> {
    fs::create_dir_all(target).map_err(Error::file("create", target))?;
    let step = |source: Option<&str>, flags: MsFlags| {
        mount(source, target, None::<&str>, flags, None::<&str>)
            .map_err(Error::call("mount the host's root on", target))
    };
    step(Some("/"), MsFlags::MS_BIND)?;
    step(None, MsFlags::MS_PRIVATE)?;
    step(None, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY)
}

/// Mounts the BPF file system if nobody has, and remembers that it was us.
pub fn mount_bpffs() -> Result<(), Error> {
    if all()?.iter().any(|mount| mount.kind == "bpf" && mount.point == Path::new(BPFFS)) {
        return Ok(());
    }
    // First the marker: a crash in between leaves a marker without a mount, which harms nobody.
    fs::write(BPFFS_MARKER, "").map_err(Error::file("write", BPFFS_MARKER))?;
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)
        .map_err(Error::call("mount the BPF file system on", BPFFS))
}

/// Unmounts the BPF file system if a lab mounted it and nothing is left in it.
pub fn unmount_bpffs() -> Result<(), Error> {
    // Gone unless another lab has pins there.
    let _ = fs::remove_dir(Path::new(BPFFS).join(FOLDER));
    let in_use = fs::read_dir(BPFFS).is_ok_and(|entries| {
        entries.flatten().any(|entry| !PRELOADED.iter().any(|name| entry.file_name() == *name))
    });
    if !Path::new(BPFFS_MARKER).exists() || in_use {
        return Ok(());
    }
    if all()?.iter().any(|mount| mount.kind == "bpf" && mount.point == Path::new(BPFFS)) {
        umount2(BPFFS, MntFlags::MNT_DETACH).map_err(Error::call("unmount", BPFFS))?;
    }
    fs::remove_file(BPFFS_MARKER).map_err(Error::file("remove", BPFFS_MARKER))
}

/// Unmounts everything at or below `folder`, last mounted first.
pub fn unmount_below(folder: &Path) -> Result<(), Error> {
    for mount in all()?.iter().rev().filter(|mount| mount.point.starts_with(folder)) {
        umount2(&mount.point, MntFlags::MNT_DETACH)
            .map_err(Error::call("unmount", &mount.point))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_in_mount_points_are_understood() {
        let table = parse("41 31 0:38 / /a\\040b rw shared:1 - bpf bpf rw\nnonsense\n");
        assert_eq!(table, [Mount { point: "/a b".into(), kind: "bpf".into() }]);
    }
}
