//! Programs on pod interfaces: tcx where the kernel has it, clsact otherwise.
//!
//! Called by the CNI plugin in the node's network namespace, before the
//! interface is up, and needs no agent: it uses what is pinned.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libbpf_rs::query::{LinkInfo, LinkTypeInfo};
use libbpf_rs::{Link, Object, Program, TC_EGRESS, TC_INGRESS, TcHook, TcHookBuilder};

use crate::account::Accounts;
use crate::crash;
use crate::error::AttachError;
use crate::map::Map;
use crate::object;
use crate::pins::{self, Pins};

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttachKind {
    /// A link on the interface (Linux 6.6), pinned.
    Tcx,
    /// A filter of the clsact queueing discipline.
    Clsact,
}

impl AttachKind {
    /// `tcx` or `clsact`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// One direction of a pod's interface. What the pod sends comes in at the
/// host's side, and the other way round.
pub(crate) struct Hook {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    pub(crate) tcx: libbpf_sys::bpf_attach_type,
    pub(crate) clsact: libbpf_rs::TcAttachPoint,
}

pub(crate) static HOOKS: [Hook; 2] = [
    Hook {
        name: "ingress",
        program: "pod_egress",
        tcx: libbpf_sys::BPF_TCX_INGRESS,
        clsact: TC_INGRESS,
    },
    Hook {
        name: "egress",
        program: "pod_ingress",
        tcx: libbpf_sys::BPF_TCX_EGRESS,
        clsact: TC_EGRESS,
    },
];

/// Place of the filter among others on a clsact interface, and its handle: a
/// filter of ours is found again by them.
pub(crate) const CLSACT_PRIORITY: u32 = 1;
pub(crate) const CLSACT_HANDLE: u32 = 0x5137;

/// What this kernel has, by asking for the programs on the loopback interface.
pub(crate) fn kind() -> AttachKind {
    const LOOPBACK: i32 = 1;
    let mut options = libbpf_sys::bpf_prog_query_opts {
        sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    // SAFETY: `options` is initialised, carries its own size and outlives the
    // call; it holds no array, so the kernel only fills in the count.
    let result = unsafe {
        libbpf_sys::bpf_prog_query_opts(LOOPBACK, libbpf_sys::BPF_TCX_INGRESS, &mut options)
    };
    if result == 0 { AttachKind::Tcx } else { AttachKind::Clsact }
}

/// Attaches both directions to a pod's host-side interface.
///
/// Call it in the node's network namespace before the interface is up. What is
/// attached already is replaced, so a repeated call is safe.
pub fn attach_pod(pins: &Path, interface: &str, ifindex: u32) -> Result<(), AttachError> {
    let pins = Pins::new(pins);
    let kind = kind();
    for hook in &HOOKS {
        let program = Program::fd_from_pinned_path(pins.program(hook.program))
            .map_err(|_| AttachError::NotInstalled { pins: pins.root().to_owned() })?;
        let attached = match kind {
            AttachKind::Tcx => {
                attach_tcx(&pins.link(ifindex, hook.name), hook, program.as_fd(), ifindex)?
            }
            AttachKind::Clsact => attach_clsact(hook, program.as_fd(), ifindex),
        };
        attached.map_err(|source| AttachError::Attach {
            hook: hook.name,
            interface: interface.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// The outer error is the pin's, the inner one the link's.
pub(crate) fn attach_tcx(
    path: &Path,
    hook: &Hook,
    program: BorrowedFd<'_>,
    ifindex: u32,
) -> Result<io::Result<()>, AttachError> {
    let pin_error = |step: &'static str| {
        let path = path.to_owned();
        move |source| AttachError::Pin { step, path, source }
    };
    if link_interface(path) == Some(ifindex) {
        return Ok(Ok(()));
    }
    // An interface of this number that is gone.
    pins::remove(path).map_err(pin_error("remove"))?;
    let options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        // First: a program before ours could end the chain with its own verdict.
        flags: libbpf_sys::BPF_F_BEFORE,
        ..Default::default()
    };
    crash::point();
    // SAFETY: both descriptors are valid for the call, `options` is initialised,
    // carries its own size and outlives it.
    let fd = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex as RawFd, hook.tcx, &options)
    };
    if fd < 0 {
        return Ok(Err(io::Error::from_raw_os_error(-fd)));
    }
    // SAFETY: a descriptor that the kernel has just made and nobody else owns.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    pin_fd(link.as_raw_fd(), path).map_err(pin_error("pin"))?;
    Ok(Ok(()))
}

pub(crate) fn attach_clsact(hook: &Hook, program: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    let mut builder = TcHookBuilder::new(program);
    builder.ifindex(ifindex as i32).replace(true).handle(CLSACT_HANDLE).priority(CLSACT_PRIORITY);
    let mut place = builder.hook(hook.clsact);
    crash::point();
    match place.create() {
        Err(error) if error.kind() != libbpf_rs::ErrorKind::AlreadyExists => {
            return Err(io::Error::other(error));
        }
        _ => {}
    }
    crash::point();
    place.attach().map(|_| ()).map_err(io::Error::other)
}

/// Pins any BPF descriptor.
pub(crate) fn pin_fd(fd: RawFd, path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    crash::point();
    // SAFETY: `name` is a NUL-terminated string that outlives the call, `fd` is
    // the caller's and only read.
    let result = unsafe { libbpf_sys::bpf_obj_pin(fd, name.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-result)) }
}

/// The interface a pinned link is attached to; `None`: none, or no link.
pub(crate) fn link_interface(path: &Path) -> Option<u32> {
    tcx_interface(&Link::open(path).ok()?)
}

/// The interface a link is attached to.
pub(crate) fn tcx_interface(link: &Link) -> Option<u32> {
    let info: LinkInfo = link.info().ok()?;
    match info.info {
        LinkTypeInfo::Tcx(tcx) if tcx.ifindex != 0 => Some(tcx.ifindex),
        _ => None,
    }
}

/// Where the links of an interface are pinned.
pub(crate) fn link_paths(pins: &Pins, ifindex: u32) -> [PathBuf; 2] {
    HOOKS.each_ref().map(|hook| pins.link(ifindex, hook.name))
}

/// How the programs of an interface stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Attached {
    /// Both directions, before all others.
    First,
    /// Both directions, one of them behind somebody else's.
    Behind,
    /// Not both directions, or not this version's.
    Not,
}

/// Looks at both directions of an interface.
pub(crate) fn attached(object: &Object, hooks: &[Hook; 2], ifindex: u32) -> Attached {
    let mut worst = Attached::First;
    for hook in hooks {
        let program = object::program(object, hook.program);
        let id = program.as_ref().and_then(|program| Program::id_from_fd(program.as_fd()).ok());
        let (Some(program), Some(id)) = (program, id) else { return Attached::Not };
        let Some(found) = programs_at(hook, program.as_fd(), ifindex) else {
            return Attached::Not;
        };
        match found.iter().position(|other| *other == id) {
            Some(0) => {}
            Some(_) => worst = Attached::Behind,
            None => return Attached::Not,
        }
    }
    worst
}

/// Numbers of the programs of one direction, in their order; of clsact only ours.
fn programs_at(hook: &Hook, program: BorrowedFd<'_>, ifindex: u32) -> Option<Vec<u32>> {
    if kind() == AttachKind::Clsact {
        let mut place = TcHook::new(program);
        place
            .ifindex(ifindex as i32)
            .attach_point(hook.clsact)
            .handle(CLSACT_HANDLE)
            .priority(CLSACT_PRIORITY);
        return place.query().ok().map(|id| vec![id]);
    }
    // As many as the kernel lets on one interface (BPF_MPROG_MAX).
    let mut ids = [0u32; 64];
    let mut options = libbpf_sys::bpf_prog_query_opts {
        sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as libbpf_sys::size_t,
        prog_ids: ids.as_mut_ptr(),
        __bindgen_anon_1: libbpf_sys::bpf_prog_query_opts__bindgen_ty_1 { count: 64 },
        ..Default::default()
    };
    // SAFETY: `options` carries its own size, names an array of as many elements
    // as it says, and both outlive the call.
    let result =
        unsafe { libbpf_sys::bpf_prog_query_opts(ifindex as RawFd, hook.tcx, &mut options) };
    // SAFETY: both members of the union are the same number.
    let count = unsafe { options.__bindgen_anon_1.count } as usize;
    (result == 0).then(|| ids.into_iter().take(count).collect())
}

/// As [`attach_pod`], where links that are there may run somebody else's program:
/// ours takes its place at once.
pub(crate) fn attach_anew(
    object: &Object,
    pins: &Pins,
    interface: &str,
    ifindex: u32,
) -> Result<(), AttachError> {
    for hook in &HOOKS {
        let Some(program) = object::program(object, hook.program) else { continue };
        let Ok(mut link) = Link::open(pins.link(ifindex, hook.name)) else { continue };
        if tcx_interface(&link) == Some(ifindex) {
            crash::point();
            link.update_prog(&program).map_err(|error| AttachError::Attach {
                hook: hook.name,
                interface: interface.to_owned(),
                source: io::Error::other(error),
            })?;
        }
    }
    attach_pod(pins.root(), interface, ifindex)
}

/// Whether the interface of a pinned link is gone. When nobody can say, it is not.
pub(crate) fn link_is_detached(path: &Path) -> bool {
    let Ok(info) = Link::open(path).and_then(|link| link.info()) else { return false };
    matches!(info.info, LinkTypeInfo::Tcx(tcx) if tcx.ifindex == 0)
}

/// Removes the pins and the endpoint of an interface. What is not there is as
/// good: it may be called any number of times, before or after the interface goes.
pub fn detach_pod(pins: &Path, ifindex: u32) -> Result<(), AttachError> {
    let pins = Pins::new(pins);
    let endpoints = pins.map("endpoints");
    if endpoints.exists() {
        let map: Map<u32, abi::Endpoint> = Map::open("endpoints", &endpoints)?;
        // In another version's layout it has its number elsewhere: that one's agent
        // ends its account.
        let ours = object::raw_version(&pins).is_ok_and(|it| it == abi::abi::VERSION);
        let endpoint = if ours { map.get(&ifindex)? } else { None };
        map.remove(&ifindex)?;
        if let Some(endpoint) = endpoint {
            Accounts::of(&pins)?.close(endpoint.id)?;
        }
    }
    for hook in &HOOKS {
        let path = pins.link(ifindex, hook.name);
        // Else the kernel takes it off some time after its last holder, and an
        // interface that stays cannot be given another meanwhile.
        let _ = Link::open(&path).and_then(|link| link.detach());
        pins::remove(&path).map_err(|source| AttachError::Pin { step: "remove", path, source })?;
    }
    Ok(())
}

/// Whether both directions of an interface have their program.
pub fn is_attached(pins: &Path, ifindex: u32) -> Result<bool, AttachError> {
    let pins = Pins::new(pins);
    if kind() == AttachKind::Tcx {
        let attached =
            |hook: &Hook| link_interface(&pins.link(ifindex, hook.name)) == Some(ifindex);
        return Ok(HOOKS.iter().all(attached));
    }
    for hook in &HOOKS {
        let program = Program::fd_from_pinned_path(pins.program(hook.program))
            .map_err(|_| AttachError::NotInstalled { pins: pins.root().to_owned() })?;
        let mut place = TcHook::new(program.as_fd());
        place
            .ifindex(ifindex as i32)
            .attach_point(hook.clsact)
            .handle(CLSACT_HANDLE)
            .priority(CLSACT_PRIORITY);
        if place.query().is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the agent has installed the endpoint of an interface; until then
/// everything on it is dropped.
pub fn is_enforced(pins: &Path, ifindex: u32) -> Result<bool, AttachError> {
    let pins = Pins::new(pins);
    let path = pins.map("endpoints");
    if !fs::exists(&path).unwrap_or(false) {
        return Err(AttachError::NotInstalled { pins: pins.root().to_owned() });
    }
    // Whatever the layout of the agent's version.
    let map: Map<u32, abi::Endpoint> = Map::open("endpoints", &path)?;
    Ok(map.contains(&ifindex)?)
}
