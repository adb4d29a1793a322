//! Socket hooks on the node's cgroup slice: they name processes and decide nothing.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use libbpf_rs::Object;

use crate::error::OpenError;
use crate::object;
use crate::pins::{self, Pins};

const HOOKS: [&str; 7] = [
    "socket_create",
    "socket_bind4",
    "socket_bind6",
    "socket_connect4",
    "socket_connect6",
    "socket_sendmsg4",
    "socket_sendmsg6",
];

/// One socket hook, tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HookState {
    /// Name of the program.
    pub name: &'static str,
    /// Why it is not in place; `None`: it is.
    pub missing: Option<String>,
}

/// Attaches the hooks to the cgroup and pins their links in place of older ones.
///
/// A hook that the kernel refuses leaves processes unknown and is reported; a
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
    Ok(HOOKS.into_iter().map(attach).collect())
}

/// The new link stands before the old one goes: no socket is missed.
fn attach_hook(object: &Object, pins: &Pins, cgroup: &File, name: &str) -> io::Result<()> {
    let program =
        object::program(object, name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let mut link = program.attach_cgroup(cgroup.as_raw_fd()).map_err(io::Error::other)?;
    let path = pins.hook(name);
    let fresh = pins::beside(&path);
    pins::remove(&fresh)?;
    link.pin(&fresh).map_err(io::Error::other)?;
    fs::rename(&fresh, &path)
}
