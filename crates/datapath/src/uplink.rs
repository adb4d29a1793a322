//! Programs on the node's uplinks, which judge packets of the node itself.
//!
//! Called by the agent in the node's network namespace, as often as the node's
//! devices may have changed. They are attached whether or not a policy selects
//! the node: a policy then is a matter of maps alone.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use libbpf_rs::{Link, Object, TC_EGRESS, TC_INGRESS, TcHook};

use crate::attach::{self, AttachKind, Attached, CLSACT_HANDLE, CLSACT_PRIORITY, Hook};
use crate::check::{self, FaultKind, Findings};
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

/// Uplinks that have this version's programs, by index.
#[derive(Debug, Default)]
pub(crate) struct Guarded(BTreeMap<u32, Guard>);

/// The programs of one uplink.
#[derive(Debug)]
struct Guard {
    /// By where they are pinned; filters need none. Held, so that they outlive
    /// their pins.
    links: BTreeMap<PathBuf, Link>,
    /// Why the last look could not put them right.
    missing: Option<String>,
}

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
            let missing = match self.0.get_mut(&ifindex) {
                Some(guard) => guard.missing.clone(),
                None => self.attach(object, pins, ifindex, interface).err().map(reason),
            };
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
        let mut links = BTreeMap::new();
        attach(object, pins, (ifindex, interface), &mut links)?;
        self.0.insert(ifindex, Guard { links, missing: None });
        Ok(())
    }

    /// Compares the programs of every uplink with what was attached, and puts them
    /// right.
    pub(crate) fn check(&mut self, object: &Object, pins: &Pins, found: &mut Findings) {
        for (&ifindex, guard) in &mut self.0 {
            // One that is gone is released when the devices are listed next.
            let Some(name) = check::interface(ifindex) else { continue };
            match attach::attached(object, &HOOKS, ifindex) {
                Attached::First => guard.missing = None,
                Attached::Behind => found.runs_behind(&name),
                Attached::Not => {
                    let healed = attach(object, pins, (ifindex, &name), &mut guard.links);
                    guard.missing = healed.err().map(reason);
                    let detail = format!("a program of `{name}` was detached or replaced");
                    let healed = guard.missing.clone().map_or(Ok(()), Err);
                    found.add(FaultKind::Program, detail, healed);
                }
            }
            for (path, link) in &guard.links {
                found.pin_again(&format!("the link of `{name}`"), link, path);
            }
        }
    }

    /// What cannot be detached now is tried again.
    fn release(&mut self, object: &Object, pins: &Pins, uplinks: &BTreeMap<u32, String>) {
        let pinned = pins.uplinks().unwrap_or_default();
        let former = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            let ifindex: u32 = name.split('_').next()?.parse().ok()?;
            (!uplinks.contains_key(&ifindex)).then_some(())
        };
        for path in pinned.iter().filter(|path| former(path).is_some()) {
            // At once: without its pin a link would go in its own time.
            let _ = Link::open(path).and_then(|link| link.detach());
            if let Err(error) = pins::remove(path) {
                tracing::warn!(path = %path.display(), %error, "a former uplink stays guarded");
            }
        }
        let gone = |ifindex: &u32, _: &mut Guard| !uplinks.contains_key(ifindex);
        for (ifindex, guard) in self.0.extract_if(.., gone) {
            // Those that have lost their pins. The device may be gone, and its
            // filters with it.
            for link in guard.links.values() {
                let _ = link.detach();
            }
            if attach::kind() == AttachKind::Clsact {
                for hook in &HOOKS {
                    let _ = place(object, hook, ifindex).map(|mut place| place.detach());
                }
            }
        }
    }
}

/// Attaches both directions: a link that is there, held or pinned, gets our program
/// at once.
fn attach(
    object: &Object,
    pins: &Pins,
    (ifindex, interface): (u32, &str),
    links: &mut BTreeMap<PathBuf, Link>,
) -> Result<(), AttachError> {
    let kind = attach::kind();
    links.retain(|_, link| attach::tcx_interface(link) == Some(ifindex));
    for hook in &HOOKS {
        let failed = |source| AttachError::Attach {
            hook: hook.name,
            interface: interface.to_owned(),
            source,
        };
        let program = object::program(object, hook.program)
            .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        if kind == AttachKind::Clsact {
            attach::attach_clsact(hook, program.as_fd(), ifindex).map_err(failed)?;
            continue;
        }
        let path = pins.uplink(ifindex, hook.name);
        let open = || Link::open(&path).map_err(|error| failed(io::Error::other(error)));
        let mut link = match links.remove(&path) {
            Some(held) => held,
            None => {
                attach::attach_tcx(&path, hook, program.as_fd(), ifindex)?.map_err(failed)?;
                open()?
            }
        };
        crash::point();
        let replaced = link.update_prog(&program);
        links.insert(path.clone(), link);
        replaced.map_err(|error| failed(io::Error::other(error)))?;
    }
    Ok(())
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
