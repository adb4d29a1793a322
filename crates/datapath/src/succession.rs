//! From the pinned state of another version to ours, and back: nothing is judged by
//! less than one whole policy, and no connection is forgotten.
//!
//! Our maps are filled beside those in force, which stay as they are. Then our
//! programs take the others' places, one by one, and our maps theirs, at once.
//! Maps that hold what happened, not what is desired, are the same ones for both
//! where their types are; connections of another layout are carried over, once
//! before our programs see packets and once after. Dying anywhere leaves each
//! interface to one version or the other, and either version goes on from there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::mem::offset_of;
use std::path::{Path, PathBuf};

use abi::{Connection, ConnectionKey, Inherited};
use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, ProgramInput};

use crate::cgroup;
use crate::check::{Fault, FaultKind};
use crate::control::REVISIONS;
use crate::crash;
use crate::error::{ApplyError, OpenError, chain};
use crate::layout::{Conversion, Layout, Types};
use crate::object::{self, Datapath};
use crate::pins::{self, Pins};
use crate::swap;

const INHERIT: &str = "inherit_connection";
const CONNTRACK: &str = "conntrack";

/// Maps that stay the same ones, all of a line or none, if these types of theirs do.
const KEPT: [(&[&str], &[&str]); 8] = [
    (&[CONNTRACK, "usage"], &["sg_connection_key", "sg_connection", "sg_usage"]),
    (&["sweeps"], &["sg_sweeps"]),
    (&["sweeper"], &["sweeper"]),
    (&["fragments"], &["fragment_memory"]),
    (&["traces", "drops", "ring_counters"], &["sg_record", "sg_end_record", "sg_ring_counters"]),
    (&["sockets"], &["socket_owner"]),
    (
        &["socket_services", "affinities"],
        &["socket_services", "service_client", "service_affinity"],
    ),
    (&["drop_counters", "origin_counters", "service_counters"], &[]),
];

/// Fields without which a connection means nothing.
const NEEDED: [&str; 3] = ["expires_ns", "direction", "flags"];

/// Another version whose programs are in force.
#[derive(Debug)]
pub(crate) struct Predecessor {
    /// The revision that it judges by.
    pub(crate) revision: u32,
    /// Maps of it that are ours, too.
    kept: BTreeSet<&'static str>,
}

/// Connections of another layout.
struct Estate {
    conntrack: MapHandle,
    keys: Conversion,
    values: Conversion,
}

impl Predecessor {
    /// Reads what is in force at `pins`. Refuses what could not be taken over whole.
    pub(crate) fn read(pins: &Pins, found: u32) -> Result<Self, OpenError> {
        let refuse = |reason: String| OpenError::Version {
            path: pins.root().to_owned(),
            found,
            known: abi::abi::VERSION,
            reason,
        };
        let ours = own_types().map_err(&refuse)?;
        let control = open(&pins.map("control")).map_err(&refuse)?;
        let theirs = types_of(&control).map_err(&refuse)?;
        let word = control.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).ok().flatten();
        let revision = theirs
            .layout("sg_control")
            .zip(word)
            .and_then(|(layout, word)| layout.number("revision", &word))
            .ok_or_else(|| refuse("its control word has no revision".to_owned()))?;
        // One that was written by hand says nothing.
        let revision = if revision < REVISIONS { revision } else { 1 };
        let same = |name: &&str| {
            let (one, other) = (theirs.layout(name), ours.layout(name));
            one.is_some() && one == other
        };
        let pinned = |name: &&str| pins.map(name).exists();
        let kept =
            KEPT.iter().filter(|(maps, types)| maps.iter().all(pinned) && types.iter().all(same));
        let kept: BTreeSet<&str> = kept.flat_map(|(maps, _)| maps.iter().copied()).collect();
        if !kept.contains(CONNTRACK) && pins.map(CONNTRACK).exists() {
            conversions(&theirs, &ours).map_err(&refuse)?;
        }
        Ok(Self { revision, kept })
    }

    /// Where a map of it is pinned that is ours, too.
    pub(crate) fn map(&self, pins: &Pins, name: &str) -> Option<PathBuf> {
        self.kept.contains(name).then(|| Pins::new(pins.root()).map(name))
    }
}

impl Datapath {
    /// Puts this version in force, which has all that is desired by now.
    pub(crate) fn succeed(&mut self) -> Result<(), ApplyError> {
        if self.predecessor.is_none() {
            return Ok(());
        }
        let refuse =
            |step: &'static str| move |reason: String| ApplyError::Succession { step, reason };
        inherit_all(&self.object, &self.pins).map_err(refuse("take over connections"))?;
        if let Some(cgroup) = &self.cgroup {
            let (hooks, held) = cgroup::attach_hooks(&self.object, &self.pins, cgroup)
                .map_err(|error| refuse("replace socket hooks")(chain(&error)))?;
            self.watch.hooks = held;
            self.reports.extend(hooks.iter().filter_map(|hook| {
                let detail = format!("socket hook `{}` could not be replaced", hook.name);
                let left = Some(hook.missing.clone()?);
                Some(Fault { kind: FaultKind::Program, detail, left })
            }));
        }
        // Pods that come from here on get ours.
        object::pin_programs(&self.object, &self.pins)
            .map_err(|error| refuse("pin programs")(chain(&error)))?;
        swap::programs(&self.object, &self.pins).map_err(refuse("replace programs"))?;
        // One that the plugin attached meanwhile, having opened the old pin before.
        swap::programs(&self.object, &self.pins).map_err(refuse("replace programs"))?;
        self.pins.enter_force().map_err(|error| refuse("exchange maps")(error.to_string()))?;
        self.predecessor = None;
        self.retire();
        object::arm_sweeper(&self.object)?;
        Ok(self.installed.close_unowned()?)
    }

    /// Ends every other set of maps; no program refers to one any more.
    pub(crate) fn retire(&mut self) {
        for folder in self.pins.others() {
            let done = inherit(&self.object, &self.pins, &folder).and_then(|()| {
                // First: what was carried over once must not come back later.
                pins::remove(&folder.join(CONNTRACK)).map_err(|error| error.to_string())?;
                crash::point();
                fs::remove_dir_all(&folder).map_err(|error| error.to_string())
            });
            if let Err(reason) = done {
                let detail = format!("maps of another version stay at `{}`", folder.display());
                tracing::warn!(detail, reason, "another version was not cleared away");
                self.reports.push(Fault { kind: FaultKind::Pin, detail, left: Some(reason) });
            }
        }
    }
}

/// Every connection of every other set of maps.
fn inherit_all(object: &Object, pins: &Pins) -> Result<(), String> {
    pins.others().iter().try_for_each(|folder| inherit(object, pins, folder))
}

/// Takes over the connections of a set of maps, where they are not ours already.
fn inherit(object: &Object, pins: &Pins, folder: &Path) -> Result<(), String> {
    let Some(estate) = Estate::open(folder, &pins.map(CONNTRACK))? else { return Ok(()) };
    let program =
        object::program(object, INHERIT).ok_or_else(|| format!("no program `{INHERIT}`"))?;
    let (mut taken, mut left) = (0u64, 0u64);
    for key in estate.conntrack.keys() {
        let Ok(Some(value)) = estate.conntrack.lookup(&key, MapFlags::ANY) else { continue };
        let Some(mut inherited) = estate.convert(&key, &value) else {
            left += 1;
            continue;
        };
        crash::point();
        let input = ProgramInput { context_in: Some(&mut inherited), ..Default::default() };
        let output = program.test_run(input).map_err(|error| chain(&error))?;
        match output.return_value {
            abi::reason::NONE => taken += 1,
            _ => left += 1,
        }
    }
    tracing::info!(taken, left, folder = %folder.display(), "connections of another version");
    Ok(())
}

impl Estate {
    /// `None`: there are none, or they are ours.
    fn open(folder: &Path, own: &Path) -> Result<Option<Self>, String> {
        let path = folder.join(CONNTRACK);
        if !path.exists() {
            return Ok(None);
        }
        let (conntrack, own) = (open(&path)?, open(own)?);
        if id(&conntrack)? == id(&own)? {
            return Ok(None);
        }
        let (keys, values) = conversions(&types_of(&conntrack)?, &own_types()?)?;
        Ok(Some(Self { conntrack, keys, values }))
    }

    /// What [`INHERIT`] is told; `None`: ours has no place for it.
    fn convert(&self, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        if self.keys.loses(key) {
            return None;
        }
        let (key, value) = (self.keys.apply(key)?, self.values.apply(value)?);
        let mut bytes = vec![0; size_of::<Inherited>()];
        let mut put = |at: usize, part: &[u8]| {
            bytes.get_mut(at..at + part.len()).map(|room| room.copy_from_slice(part))
        };
        put(offset_of!(Inherited, key), &key)?;
        put(offset_of!(Inherited, connection), &value)?;
        Some(bytes)
    }
}

/// For keys and for values.
fn conversions(theirs: &Types, ours: &Types) -> Result<(Conversion, Conversion), String> {
    let between = |name: &str| -> Result<Conversion, String> {
        let find = |types: &Types| -> Result<Layout, String> {
            types.layout(name).ok_or_else(|| format!("type `{name}` is not to be read"))
        };
        Ok(Conversion::between(&find(theirs)?, &find(ours)?))
    };
    let (keys, values) = (between("sg_connection_key")?, between("sg_connection")?);
    if let Some(field) = keys.missing().first() {
        return Err(format!("its connections do not say `{field}`"));
    }
    if let Some(field) = NEEDED.iter().find(|field| !values.has(field)) {
        return Err(format!("its connections do not say `{field}`"));
    }
    debug_assert!(size_of::<ConnectionKey>() + size_of::<Connection>() <= size_of::<Inherited>());
    Ok((keys, values))
}

fn own_types() -> Result<Types, String> {
    let found = Types::of_object(object::object_bytes()).map_err(|error| chain(&error))?;
    found.ok_or_else(|| "these programs were built without BTF".to_owned())
}

fn types_of(map: &MapHandle) -> Result<Types, String> {
    let info = map.info().map_err(|error| chain(&error))?;
    Types::of_kernel(info.info.btf_id).map_err(|error| format!("its types: {}", chain(&error)))
}

fn open(path: &Path) -> Result<MapHandle, String> {
    let failed = |error| format!("`{}`: {}", path.display(), chain(&error));
    MapHandle::from_pinned_path(path).map_err(failed)
}

fn id(map: &MapHandle) -> Result<u32, String> {
    map.info().map(|info| info.info.id).map_err(|error| chain(&error))
}

/// The folder that our maps are made in while another version's are in force.
pub(crate) fn prepare_stage(pins: &Pins) -> Result<(), OpenError> {
    let folder = pins.maps().to_owned();
    let failed = |step: &'static str| {
        let path = folder.clone();
        move |source: io::Error| OpenError::Pin { step, path, source }
    };
    // What is there and has no version of ours nobody has ever been judged by.
    if object::raw_version(pins)? != abi::abi::VERSION {
        crash::point();
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove")(error));
            }
            _ => {}
        }
    }
    crash::point();
    fs::create_dir_all(&folder).map_err(failed("create"))
}

/// Where the maps of this version are at a node's folder.
pub(crate) fn own_maps(root: &Path) -> Pins {
    let in_force = Pins::new(root);
    let staged = in_force.staged(abi::abi::VERSION);
    let ours = |pins: &Pins| object::raw_version(pins).is_ok_and(|it| it == abi::abi::VERSION);
    if !ours(&in_force) && ours(&staged) { staged } else { in_force }
}
