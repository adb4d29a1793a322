//! Socket hooks on the node's cgroup slice: they name processes, lead services to
//! their backends, and decide nothing about who may talk to whom.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libbpf_rs::query::{LinkInfo, LinkTypeInfo};
use libbpf_rs::{Iter, Link, Object};

use crate::crash;
use crate::error::OpenError;
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

/// Attaches the hooks to the cgroup and pins their links in place of older ones.
///
/// A hook that the kernel refuses leaves processes unknown and services out of
/// reach (their addresses are dropped on the wire), and is reported; a
/// cgroup that cannot be opened is an error.
pub(crate) fn attach_hooks(
    object: &Object,
    pins: &Pins,
    cgroup: &Path,
) -> Result<Vec<HookState>, OpenError> {
    let folder = File::open(cgroup)
        .map_err(|source| OpenError::Cgroup { path: cgroup.to_owned(), source })?;
    let attach = |name: &'static str| HookState {
        name,
        missing: attach_hook(object, pins, &folder, name).err().map(|error| error.to_string()),
    };
    let mut hooks: Vec<HookState> = HOOKS.into_iter().map(attach).collect();
    // Once the hooks see every new socket.
    let adopted = adopt(object, pins, &folder);
    hooks.push(HookState { name: ADOPT, missing: adopted.err().map(|error| error.to_string()) });
    Ok(hooks)
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
fn attach_hook(object: &Object, pins: &Pins, cgroup: &File, name: &str) -> io::Result<()> {
    let program =
        object::program(object, name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let path = pins.hook(name);
    if let Some(mut link) = link_on(&path, cgroup.metadata()?.ino()) {
        crash::point();
        return link.update_prog(&program).map_err(io::Error::other);
    }
    crash::point();
    let mut link = program.attach_cgroup(cgroup.as_raw_fd()).map_err(io::Error::other)?;
    let fresh = pins::beside(&path);
    pins::remove(&fresh)?;
    crash::point();
    link.pin(&fresh).map_err(io::Error::other)?;
    pins::replace(&fresh, &path)
}

/// The pinned link, if it is on this cgroup: their numbers are those of folders.
fn link_on(path: &Path, cgroup: u64) -> Option<Link> {
    let link = Link::open(path).ok()?;
    let info: LinkInfo = link.info().ok()?;
    match info.info {
        LinkTypeInfo::Cgroup(on) if on.cgroup_id == cgroup => Some(link),
        _ => None,
    }
}
