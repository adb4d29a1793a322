//! Puts this version's programs in the places of others of the same name, each at
//! once: behind pinned links where there is tcx, in place of filters otherwise.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::{Link, Object, Program, TcHook};
use nix::net::if_::if_nameindex;

use crate::attach::{self, AttachKind, CLSACT_HANDLE, CLSACT_PRIORITY, Hook};
use crate::crash;
use crate::error::chain;
use crate::object;
use crate::pins::Pins;
use crate::uplink;

/// Replaces every program of ours on an interface; an error names what stays.
pub(crate) fn programs(object: &Object, pins: &Pins) -> Result<(), String> {
    let mut stay = behind_links(object, pins);
    if attach::kind() == AttachKind::Clsact {
        stay.extend(filters(object));
    }
    if stay.is_empty() { Ok(()) } else { Err(stay.join("; ")) }
}

fn behind_links(object: &Object, pins: &Pins) -> Vec<String> {
    let places = [(pins.links(), &attach::HOOKS), (pins.uplinks(), &uplink::HOOKS)];
    let mut stay = Vec::new();
    for (paths, hooks) in places {
        for path in paths.unwrap_or_default() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let hook = hooks.iter().find(|hook| name.ends_with(&format!("_{}", hook.name)));
            let program = hook.and_then(|hook| object::program(object, hook.program));
            let Some(program) = program else { continue };
            if attach::link_is_detached(&path) {
                continue;
            }
            crash::point();
            let replaced = Link::open(&path).and_then(|mut link| link.update_prog(&program));
            if let Err(error) = replaced {
                stay.push(format!("`{}`: {}", path.display(), chain(&error)));
            }
        }
    }
    stay
}

fn filters(object: &Object) -> Vec<String> {
    let (names, mut stay) = (program_names(), Vec::new());
    for (ifindex, hook, id) in filters_in_place(&names) {
        let Some(program) = object::program(object, hook.program) else { continue };
        if Program::id_from_fd(program.as_fd()).is_ok_and(|own| own == id) {
            continue;
        }
        if let Err(error) = attach::attach_clsact(hook, program.as_fd(), ifindex) {
            stay.push(format!("{} of interface {ifindex}: {error}", hook.program));
        }
    }
    stay
}

/// Filters of this program, whatever its version, on the interfaces of this network
/// namespace: by interface, with the number of the program.
pub(crate) fn filters_in_place(names: &BTreeMap<u32, String>) -> Vec<(u32, &'static Hook, u32)> {
    let interfaces =
        if_nameindex().map(|list| list.iter().map(|it| it.index()).collect::<Vec<_>>());
    let mut found = Vec::new();
    for ifindex in interfaces.unwrap_or_default() {
        for hook in attach::HOOKS.iter().chain(&uplink::HOOKS) {
            // A query looks at no program, and needs none.
            let Ok(nothing) = std::fs::File::open("/dev/null") else { continue };
            let mut place = TcHook::new(nothing.as_fd());
            place
                .ifindex(ifindex as i32)
                .attach_point(hook.clsact)
                .handle(CLSACT_HANDLE)
                .priority(CLSACT_PRIORITY);
            let Ok(id) = place.query() else { continue };
            if names.get(&id).is_some_and(|name| name == hook.program) {
                found.push((ifindex, hook, id));
            }
        }
    }
    found
}

/// Names of all programs of the kernel, by number.
pub(crate) fn program_names() -> BTreeMap<u32, String> {
    let programs = ProgInfoIter::default();
    programs.map(|info| (info.id, info.name.to_string_lossy().into_owned())).collect()
}
