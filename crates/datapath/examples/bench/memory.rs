//! Memory of the kernel, as the kernel itself accounts for each map.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use datapath::{Datapath, Limits, TestRun};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use crate::Outcome;
use crate::site::{self, Cluster, Pins, Rules};

const REMOTE: u32 = 100_000;
const RULES: u32 = 10_000;

pub fn measure() -> Outcome<()> {
    println!("memory: bytes of the kernel's maps");
    let pins = Pins::new()?;
    let node = pins.node("memory");
    let mut datapath = site::open(node.clone(), Limits::default())?;
    let empty = bytes(&node)?;
    let pod = filled(&mut datapath, &node, &Cluster::new(0), 0)?;
    let some = filled(&mut datapath, &node, &Cluster::new(1_000), 0)?;
    let rules = filled(&mut datapath, &node, &Cluster::new(1_000), RULES)?;
    let many = filled(&mut datapath, &node, &Cluster::new(REMOTE), RULES)?;
    row("a node without pods", empty, 1);
    row("each pod, without rules", pod.saturating_sub(empty), 1);
    row("each rule (one entry)", rules.saturating_sub(some), RULES);
    row("each remote identity (one address)", many.saturating_sub(rules), REMOTE - 1_000);
    connections(&node)
}

fn row(what: &str, bytes: u64, count: u32) {
    println!("  {what:<35} {:>12}", bytes / u64::from(count));
}

fn filled(datapath: &mut Datapath, node: &Path, cluster: &Cluster, rules: u32) -> Outcome<u64> {
    let table = cluster.table(Rules::new(rules))?;
    datapath.apply(&cluster.desired(TestRun::ifindex(), table)?)?;
    bytes(node)
}

/// What the kernel accounts for all maps of a node, policy tables included.
fn bytes(node: &Path) -> Outcome<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(node.join("maps"))? {
        let map = MapHandle::from_pinned_path(entry?.path())?;
        sum += locked(map.as_fd())?;
        if map.map_type() != MapType::HashOfMaps {
            continue;
        }
        for key in map.keys() {
            let Some(id) = map.lookup(&key, MapFlags::ANY)? else { continue };
            let id = u32::from_ne_bytes(id.as_slice().try_into()?);
            sum += locked(MapHandle::from_map_id(id)?.as_fd())?;
        }
    }
    Ok(sum)
}

/// `memlock` of a map (Documentation/bpf; since Linux 6.4 what it really uses).
fn locked(map: BorrowedFd<'_>) -> Outcome<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(bytes.ok_or("the kernel does not say what a map takes")?.trim().parse()?)
}

/// Entries made from here: the kernel's own would leave after ten seconds.
fn connections(node: &Path) -> Outcome<()> {
    const CONNECTIONS: u32 = 100_000;
    let conntrack = MapHandle::from_pinned_path(node.join("maps/conntrack"))?;
    let before = locked(conntrack.as_fd())?;
    let size = usize::try_from(conntrack.key_size())?;
    let value = vec![0; usize::try_from(conntrack.value_size())?];
    for number in 0..CONNECTIONS {
        let mut key = vec![0; size];
        key[..4].copy_from_slice(&number.to_ne_bytes());
        conntrack.update(&key, &value, MapFlags::NO_EXIST)?;
    }
    row("each connection", locked(conntrack.as_fd())?.saturating_sub(before), CONNECTIONS);
    Ok(())
}
