//! Finds again what is in use and no longer pinned, before an agent starts on it.
//!
//! Programs hold their maps, and interfaces hold programs: by a pinned link where
//! there is tcx, by a filter otherwise. Root may have removed pins while no agent
//! held them. What nothing holds any more is gone, and is made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use libbpf_rs::query::{MapInfoIter, ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{Link, MapCore, MapHandle, Program};

use crate::attach::{self, AttachKind};
use crate::check::{self, Fault, FaultKind};
use crate::error::{OpenError, chain};
use crate::installed::HOST_INTERFACE;
use crate::object::{self, INTERFACE_PROGRAMS};
use crate::pins::Pins;
use crate::swap;

/// No pod is behind it.
const LOOPBACK: u32 = 1;
/// The kernel keeps this much of a name.
const KERNEL_NAME: usize = 15;
const CONTROL: &str = "control";

/// A program that is attached or pinned, and the maps that it holds, by name.
struct Live {
    id: u32,
    name: String,
    maps: BTreeMap<String, u32>,
}

/// Pins again what can be found; says what was not pinned.
pub(crate) fn pins(pins: &Pins) -> Result<Vec<Fault>, OpenError> {
    let maps = object::map_names()?.into_iter();
    let maps: Vec<String> = maps.filter(|name| !pins.map(name).exists()).collect();
    let programs = INTERFACE_PROGRAMS.into_iter();
    let programs: Vec<&str> = programs.filter(|name| !pins.program(name).exists()).collect();
    if maps.is_empty() && programs.is_empty() {
        return Ok(Vec::new());
    }
    let live = in_force(pins, live(pins));
    if live.is_empty() {
        return Ok(Vec::new());
    }
    pins.create()?;
    let mut found = Vec::new();
    for name in &maps {
        let id = live.iter().find_map(|program| program.maps.get(kernel_name(name)));
        let Some(id) = id else { continue };
        let pinned = MapHandle::from_map_id(*id)
            .map_err(|error| chain(&error))
            .and_then(|map| pin(map.as_fd().as_raw_fd(), &pins.map(name)));
        found.push(lost("map", name, pinned));
    }
    for name in programs {
        let Some(program) = live.iter().find(|program| program.name == name) else { continue };
        let pinned = Program::fd_from_id(program.id)
            .map_err(|error| chain(&error))
            .and_then(|fd| pin(fd.as_raw_fd(), &pins.program(name)));
        found.push(lost("program", name, pinned));
    }
    Ok(found)
}

/// Attaches what pinned programs there are to interfaces of endpoints that lost
/// theirs; says which.
pub(crate) fn interfaces(pins: &Pins) -> Vec<Fault> {
    let Ok(endpoints) = MapHandle::from_pinned_path(pins.map("endpoints")) else {
        return Vec::new();
    };
    let keys = endpoints.keys().filter_map(|key| key.try_into().ok()).map(u32::from_ne_bytes);
    let mut found = Vec::new();
    for ifindex in keys.filter(|ifindex| ![HOST_INTERFACE, LOOPBACK].contains(ifindex)) {
        let Some(name) = check::interface(ifindex) else { continue };
        if attach::is_attached(pins.root(), ifindex).unwrap_or(false) {
            continue;
        }
        let attached = attach::attach_pod(pins.root(), &name, ifindex);
        found.push(Fault {
            kind: FaultKind::Program,
            detail: format!("a program of `{name}` was detached while no agent ran"),
            left: attached.err().map(|error| chain(&error)),
        });
    }
    found
}

fn pin(fd: i32, path: &Path) -> Result<(), String> {
    attach::pin_fd(fd, path).map_err(|error| error.to_string())
}

fn lost(what: &str, name: &str, pinned: Result<(), String>) -> Fault {
    let detail = format!("{what} `{name}` was in use and pinned no longer");
    Fault { kind: FaultKind::Pin, detail, left: pinned.err() }
}

/// Those that belong to the maps in force, if there are two sets of them, first.
fn in_force(pins: &Pins, mut live: Vec<Live>) -> Vec<Live> {
    let pinned = MapHandle::from_pinned_path(pins.map(CONTROL)).and_then(|map| map.info());
    let control = match pinned {
        Ok(info) => Some(info.info.id),
        Err(_) => {
            let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
            for id in live.iter().filter_map(|program| program.maps.get(CONTROL)) {
                *votes.entry(*id).or_default() += 1;
            }
            votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(id, _)| id)
        }
    };
    if control.is_none() {
        return Vec::new();
    }
    live.sort_by_key(|program| program.maps.get(CONTROL) != control.as_ref());
    live
}

/// Programs that the node's interfaces, cgroup or pins hold.
fn live(pins: &Pins) -> Vec<Live> {
    let linked = |path: &Path| Link::open(path).and_then(|link| link.info()).ok();
    let pinned = |path: &Path| {
        let fd = Program::fd_from_pinned_path(path).ok()?;
        Program::id_from_fd(fd.as_fd()).ok()
    };
    let files = |folder: &str| {
        let entries = fs::read_dir(pins.root().join(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let links = ["links", "uplinks", "hooks"].into_iter().flat_map(files);
    let links = links.filter_map(|path| linked(&path)).map(|info| info.prog_id);
    let programs = files("programs").into_iter().filter_map(|path| pinned(&path));
    let mut ids: BTreeSet<u32> = links.chain(programs).collect();
    if attach::kind() == AttachKind::Clsact {
        let filters = swap::filters_in_place(&swap::program_names());
        ids.extend(filters.into_iter().map(|(_, _, id)| id));
    }
    if ids.is_empty() {
        return Vec::new();
    }
    let names: BTreeMap<u32, String> = MapInfoIter::default()
        .map(|info| (info.id, info.name.to_string_lossy().into_owned()))
        .collect();
    let options = ProgInfoQueryOptions::default().include_map_ids(true);
    let programs = ProgInfoIter::with_query_opts(options).filter(|info| ids.contains(&info.id));
    programs
        .map(|info| Live {
            id: info.id,
            name: info.name.to_string_lossy().into_owned(),
            maps: info
                .map_ids
                .iter()
                .filter_map(|id| Some((names.get(id)?.clone(), *id)))
                .collect(),
        })
        .collect()
}

fn kernel_name(name: &str) -> &str {
    name.get(..KERNEL_NAME).unwrap_or(name)
}
