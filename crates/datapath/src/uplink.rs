//! Programs on the node's uplinks, which judge packets of the node itself.
//!
//! Called by the agent in the node's network namespace, as often as the node's
//! devices may have changed. They are attached whether or not a policy selects
//! the node: a policy then is a matter of maps alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use libbpf_rs::{Link, Object, TC_EGRESS, TC_INGRESS, TcHook};

use crate::attach::{self, AttachKind, CLSACT_HANDLE, CLSACT_PRIORITY, Hook};
use crate::crash;
use crate::error::AttachError;
use crate::object;
use crate::pins::{self, Pins};

pub(crate) static HOOKS: [Hook; 2] = [
    Hook {
        name: "ingress",
        program: "host_ingress",
        tcx: libbpf_sys::BPF_TCX_INGRESS,
        clsact: TC_INGRESS,
    },
    Hook {
        name: "egress",
        program: "host_egress",
        tcx: libbpf_sys::BPF_TCX_EGRESS,
        clsact: TC_EGRESS,
    },
];

/// One uplink, tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UplinkState {
    /// Its name.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Why it is not guarded; `None`: it is.
    pub missing: Option<String>,
}

/// Uplinks that have this version's programs.
#[derive(Debug, Default)]
pub(crate) struct Guarded(BTreeSet<u32>);

impl Guarded {
    /// Attaches to what is not guarded yet, and detaches from what is no uplink any
    /// more. By index, with names.
    pub(crate) fn guard(
        &mut self,
        object: &Object,
        pins: &Pins,
        uplinks: &BTreeMap<u32, String>,
    ) -> Vec<UplinkState> {
        self.release(object, pins, uplinks);
        let states = uplinks.iter().map(|(&ifindex, interface)| {
            let missing = self.attach(object, pins, ifindex, interface).err().map(reason);
            UplinkState { interface: interface.clone(), ifindex, missing }
        });
        states.collect()
    }

    fn attach(
        &mut self,
        object: &Object,
        pins: &Pins,
        ifindex: u32,
        interface: &str,
    ) -> Result<(), AttachError> {
        let kind = attach::kind();
        if self.0.contains(&ifindex) && is_attached(object, pins, kind, ifindex) {
            return Ok(());
        }
        for hook in &HOOKS {
            let failed = |source| AttachError::Attach {
                hook: hook.name,
                interface: interface.to_owned(),
                source,
            };
            let program = object::program(object, hook.program)
                .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
            let path = pins.uplink(ifindex, hook.name);
            match kind {
                AttachKind::Tcx if attach::link_interface(&path) == Some(ifindex) => {
                    crash::point();
                    let replaced =
                        Link::open(&path).and_then(|mut link| link.update_prog(&program));
                    replaced.map_err(|error| failed(io::Error::other(error)))?;
                }
                AttachKind::Tcx => {
                    attach::attach_tcx(&path, hook, program.as_fd(), ifindex)?.map_err(failed)?;
                }
                AttachKind::Clsact => {
                    attach::attach_clsact(hook, program.as_fd(), ifindex).map_err(failed)?;
                }
            }
        }
        self.0.insert(ifindex);
        Ok(())
    }

    /// What cannot be detached now is tried again.
    fn release(&mut self, object: &Object, pins: &Pins, uplinks: &BTreeMap<u32, String>) {
        let pinned = pins.uplinks().unwrap_or_default();
        let gone = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            let ifindex: u32 = name.split('_').next()?.parse().ok()?;
            let is_uplink = uplinks.contains_key(&ifindex) && !attach::link_is_detached(path);
            (!is_uplink).then_some(ifindex)
        };
        for (path, ifindex) in pinned.iter().filter_map(|path| Some((path, gone(path)?))) {
            // At once: without its pin a link would go in its own time.
            let _ = Link::open(path).and_then(|link| link.detach());
            if let Err(error) = pins::remove(path) {
                tracing::warn!(path = %path.display(), %error, "a former uplink stays guarded");
            }
            self.0.remove(&ifindex);
        }
        if attach::kind() == AttachKind::Clsact {
            for ifindex in self.0.iter().filter(|ifindex| !uplinks.contains_key(*ifindex)) {
                for hook in &HOOKS {
                    // The device may be gone, and its filters with it.
                    let _ = place(object, hook, *ifindex).map(|mut place| place.detach());
                }
            }
        }
        self.0.retain(|ifindex| uplinks.contains_key(ifindex));
    }
}

/// Where the filter of clsact is; `None`: there is no such program.
fn place(object: &Object, hook: &Hook, ifindex: u32) -> Option<TcHook> {
    let program = object::program(object, hook.program)?;
    let mut place = TcHook::new(program.as_fd());
    place
        .ifindex(ifindex as i32)
        .attach_point(hook.clsact)
        .handle(CLSACT_HANDLE)
        .priority(CLSACT_PRIORITY);
    Some(place)
}

/// Somebody may have taken a program away, or an index may be another device's.
fn is_attached(object: &Object, pins: &Pins, kind: AttachKind, ifindex: u32) -> bool {
    HOOKS.iter().all(|hook| match kind {
        AttachKind::Tcx => {
            attach::link_interface(&pins.uplink(ifindex, hook.name)) == Some(ifindex)
        }
        AttachKind::Clsact => {
            place(object, hook, ifindex).is_some_and(|mut place| place.query().is_ok())
        }
    })
}

/// The error with its causes, in one line.
fn reason(error: AttachError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
