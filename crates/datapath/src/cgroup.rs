//! Socket hooks on the node's cgroup slice: they name processes, lead services to
//! their backends, and decide nothing about who may talk to whom.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libbpf_rs::query::LinkTypeInfo;
use libbpf_rs::{Iter, Link, Object, Program};

use crate::check::{FaultKind, Findings};
use crate::crash;
use crate::error::{OpenError, chain};
use crate::map::Map;
use crate::object;
use crate::pins::{self, Pins};

const ADOPT: &str = "sockets_adopt";

const HOOKS: [&str; 11] = [
    "socket_create",
    "socket_bind4",
    "socket_bind6",
    "socket_connect4",
    "socket_connect6",
    "socket_sendmsg4",
    "socket_sendmsg6",
    "socket_recvmsg4",
    "socket_recvmsg6",
    "socket_getpeername4",
    "socket_getpeername6",
];

/// One socket hook, tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HookState {
    /// Name of the program.
    pub name: &'static str,
    /// Why it is not in place; `None`: it is.
    pub missing: Option<String>,
}

/// Hooks that are loaded and wait for their turn.
pub(crate) fn loaded() -> Vec<HookState> {
    let names = HOOKS.into_iter().chain([ADOPT]);
    names.map(|name| HookState { name, missing: None }).collect()
}

/// The hooks that are in place. Held, so that they outlive their pins.
#[derive(Debug, Default)]
pub(crate) struct Hooks(BTreeMap<&'static str, Link>);

/// Attaches the hooks to the cgroup and pins their links in place of older ones.
///
/// A hook that the kernel refuses leaves processes unknown and services out of
/// reach (their addresses are dropped on the wire), and is reported; a
/// cgroup that cannot be opened is an error.
pub(crate) fn attach_hooks(
    object: &Object,
    pins: &Pins,
    cgroup: &Path,
) -> Result<(Vec<HookState>, Hooks), OpenError> {
    let folder = File::open(cgroup)
        .map_err(|source| OpenError::Cgroup { path: cgroup.to_owned(), source })?;
    let mut held = Hooks::default();
    let attach = |name: &'static str| {
        let attached = attach_hook(object, pins, &folder, name);
        let missing = attached.map(|link| held.0.insert(name, link)).err();
        HookState { name, missing: missing.map(|error| error.to_string()) }
    };
    let mut hooks: Vec<HookState> = HOOKS.into_iter().map(attach).collect();
    // Once the hooks see every new socket.
    let adopted = adopt(object, pins, &folder);
    hooks.push(HookState { name: ADOPT, missing: adopted.err().map(|error| error.to_string()) });
    Ok((hooks, held))
}

impl Hooks {
    /// Compares every hook that was in place with what is, and puts it right.
    pub(crate) fn check(
        &mut self,
        object: &Object,
        pins: &Pins,
        cgroup: &Path,
        found: &mut Findings,
    ) {
        let folder = match File::open(cgroup) {
            Ok(folder) => folder,
            Err(error) => {
                let detail = format!("the cgroup `{}` cannot be opened", cgroup.display());
                return found.add(FaultKind::Program, detail, Err(error));
            }
        };
        let mut changed = false;
        for (name, link) in &mut self.0 {
            if !is_in_place(object, name, link, &folder) {
                let healed = heal(object, pins, &folder, name, link);
                changed |= healed.is_ok();
                let detail = format!("socket hook `{name}` was detached or replaced");
                found.add(FaultKind::Program, detail, healed);
            }
            found.pin_again(&format!("socket hook `{name}`"), link, &pins.hook(name));
        }
        if !found.has_no_bpffs() {
            check_slice(pins, &folder, found);
        }
        // Sockets that nobody saw meanwhile.
        if changed && let Err(error) = adopt(object, pins, &folder) {
            let detail = "sockets that were made without hooks have no owner".to_owned();
            found.add(FaultKind::Program, detail, Err(error));
        }
    }
}

/// Under which cgroup the node's processes are looked for.
fn check_slice(pins: &Pins, cgroup: &File, found: &mut Findings) {
    let Ok(folder) = cgroup.metadata() else { return };
    let slice = Map::<u32, u64>::open("node_slice", &pins.map("node_slice"));
    let said = slice.as_ref().map(|slice| slice.get(&0));
    if matches!(said, Ok(Ok(Some(said))) if said == folder.ino()) {
        return;
    }
    let healed = slice.and_then(|slice| slice.set(&0, &folder.ino()));
    let detail = "an element of map `node_slice` was changed by somebody else".to_owned();
    found.add(FaultKind::Content, detail, healed.map_err(|error| chain(&error)));
}

/// What is still on the cgroup gets our program, even if its pin is gone.
fn heal(
    object: &Object,
    pins: &Pins,
    cgroup: &File,
    name: &str,
    link: &mut Link,
) -> io::Result<()> {
    if is_on(link, cgroup.metadata()?.ino()) {
        return run_ours(object, name, link);
    }
    *link = attach_hook(object, pins, cgroup, name)?;
    Ok(())
}

/// Whether a link is on the cgroup and runs our program.
fn is_in_place(object: &Object, name: &str, link: &Link, cgroup: &File) -> bool {
    let own = object::program(object, name);
    let own = own.and_then(|program| Program::id_from_fd(program.as_fd()).ok());
    let runs = link.info().is_ok_and(|info| Some(info.prog_id) == own);
    runs && cgroup.metadata().is_ok_and(|folder| is_on(link, folder.ino()))
}

/// Names the owners of the sockets that are older than the hooks.
fn adopt(object: &Object, pins: &Pins, cgroup: &File) -> io::Result<()> {
    let slice: Map<u32, u64> =
        Map::open("node_slice", &pins.map("node_slice")).map_err(io::Error::other)?;
    slice.set(&0, &cgroup.metadata()?.ino()).map_err(io::Error::other)?;
    let program =
        object::program(object, ADOPT).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let link = program.attach().map_err(io::Error::other)?;
    let mut walk = Iter::new(&link).map_err(io::Error::other)?;
    io::copy(&mut walk, &mut io::sink()).map(|_| ())
}

/// A link that is there gets the new program at once: neither none of the two
/// runs for a socket, nor both, where the second would take the first one's
/// backend for what the program asked for.
fn attach_hook(object: &Object, pins: &Pins, cgroup: &File, name: &str) -> io::Result<Link> {
    let path = pins.hook(name);
    let folder = cgroup.metadata()?.ino();
    if let Some(mut link) = Link::open(&path).ok().filter(|link| is_on(link, folder)) {
        run_ours(object, name, &mut link)?;
        return Ok(link);
    }
    let program = object::program(object, name).ok_or(io::ErrorKind::NotFound)?;
    crash::point();
    let mut link = program.attach_cgroup(cgroup.as_raw_fd()).map_err(io::Error::other)?;
    let fresh = pins::beside(&path);
    pins::remove(&fresh)?;
    crash::point();
    link.pin(&fresh).map_err(io::Error::other)?;
    pins::replace(&fresh, &path)?;
    Ok(link)
}

/// Puts this version's program behind a link.
fn run_ours(object: &Object, name: &str, link: &mut Link) -> io::Result<()> {
    let program = object::program(object, name).ok_or(io::ErrorKind::NotFound)?;
    crash::point();
    link.update_prog(&program).map_err(io::Error::other)
}

/// Whether a link is on this cgroup: their numbers are those of folders.
fn is_on(link: &Link, cgroup: u64) -> bool {
    let info = link.info().map(|info| info.info);
    matches!(info, Ok(LinkTypeInfo::Cgroup(on)) if on.cgroup_id == cgroup)
}
