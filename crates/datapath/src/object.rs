//! Loads the kernel programs, or takes over what another agent pinned.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use abi::Control;
use libbpf_rs::{MapCore, Object, ObjectBuilder, OpenObject, Program, ProgramMut};
use model::Reserved;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::account;
use crate::apply::Apply;
use crate::attach::{self, AttachKind};
use crate::cgroup::{self, HookState};
use crate::check::{self, Fault, Watch};
use crate::control::ControlWord;
use crate::counters::{self, Counters};
use crate::desired::{Applied, Config, Desired, Limits, OF_THE_HOST};
use crate::error::{ApplyError, MapError, OpenError};
use crate::fill::{self, Fill};
use crate::in_force::{self, InForce};
use crate::installed::{self, Installed};
use crate::map::Map;
use crate::pins::{self, Pins};
use crate::recover;
use crate::succession::{self, Predecessor};
use crate::swap;
use crate::uplink::{Guarded, UplinkState};

/// The compiled programs, aligned as an ELF file must be in memory.
#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);
static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/signet.bpf.o")));

/// Programs for interfaces: pinned, so that the CNI plugin can attach them.
pub(crate) const INTERFACE_PROGRAMS: [&str; 2] = ["pod_egress", "pod_ingress"];
const SWEEP: &str = "sweep_connections";
const ARM_SWEEPER: &str = "sweeper_arm";

/// What this kernel lets the datapath do; each was tried.
#[derive(Clone, Debug)]
pub struct Features {
    /// How programs are attached to interfaces.
    pub attach: AttachKind,
    /// Each socket hook, and why it is missing if it is.
    pub hooks: Vec<HookState>,
    /// Whether state of an earlier agent was taken over.
    pub taken_over: bool,
}

/// The kernel side of a node, open for changes. One at a time: who opens it
/// holds the node's lock.
#[derive(Debug)]
pub struct Datapath {
    pub(crate) object: Object,
    pub(crate) pins: Pins,
    pub(crate) control: ControlWord,
    pub(crate) installed: Installed,
    pub(crate) watch: Watch,
    /// Another version that is in force until the first desired state is complete.
    pub(crate) predecessor: Option<Predecessor>,
    /// Where socket hooks belong.
    pub(crate) cgroup: Option<PathBuf>,
    /// What the next check tells besides.
    pub(crate) reports: Vec<Fault>,
    limits: Limits,
    features: Features,
    pub(crate) guarded: Guarded,
    /// The word as it was moved last.
    pub(crate) revision: u32,
}

impl Datapath {
    /// Loads and pins the programs, or takes over what is pinned and puts this
    /// version's programs in place of the old ones, link by link. What another
    /// version pinned stays in force until the first desired state is complete.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        check_limits(&config.limits)?;
        libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Warn, log_libbpf)));
        let mut pins = Pins::new(&config.pins);
        let reports = recover::pins(&pins)?;
        // Interfaces need pinned programs, and those are pinned after the version
        // is written: without a version nothing can depend on what is there.
        let found = raw_version(&pins)?;
        if found == 0 {
            pins.clear()?;
        }
        pins.create()?;
        let mut predecessor = None;
        if found != 0 && found != abi::abi::VERSION {
            predecessor = Some(Predecessor::read(&pins, found)?);
            pins = pins.staged(abi::abi::VERSION);
            succession::prepare_stage(&pins)?;
        }
        let object = load(&pins, &config.limits, predecessor.as_ref())?;
        let control = open_control(&pins)?;
        if control.version() == 0 {
            control.initialise(&first_control(&config.limits, predecessor.as_ref()));
        }
        let installed = Installed::read(&pins)?;
        let limits = actual_limits(&installed, &pins, &config.limits)?;
        let (cgroup, taken_over) = (config.cgroup.clone(), found != 0);
        let features = Features { attach: attach::kind(), hooks: cgroup::loaded(), taken_over };
        let (guarded, watch) = (Guarded::default(), Watch::default());
        let revision = control.revision();
        let mut datapath = Self {
            object,
            pins,
            control,
            installed,
            watch,
            predecessor,
            cgroup,
            reports,
            limits,
            features,
            guarded,
            revision,
        };
        datapath.control.set_quotas(limits.connections_per_endpoint, limits.drop_records);
        datapath.control.set_trace(limits.traces.number());
        if datapath.predecessor.is_some() {
            // Theirs, until ours know what to do.
            datapath.reports.extend(recover::interfaces(&Pins::new(&config.pins)));
            datapath.installed.accounts.keep(account::NOBODY)?;
        } else {
            datapath.begin()?;
        }
        Ok(datapath)
    }

    /// Programs of this version, on maps of its layout.
    fn begin(&mut self) -> Result<(), OpenError> {
        self.bound_revision();
        (self.features.hooks, self.watch.hooks) = match &self.cgroup {
            Some(cgroup) => cgroup::attach_hooks(&self.object, &self.pins, cgroup)?,
            None => Default::default(),
        };
        pin_programs(&self.object, &self.pins)?;
        self.reports.extend(recover::interfaces(&self.pins));
        self.installed.accounts.open_nobody_s()?;
        arm_sweeper(&self.object)?;
        if !self.features.taken_over {
            return Ok(());
        }
        // Connections are judged again, whatever the earlier agent died in.
        self.control.next_epoch();
        if let Err(stay) = swap::programs(&self.object, &self.pins) {
            // They go on with the old program on the same maps.
            tracing::warn!(stay, "programs of the earlier agent stay");
        }
        self.retire();
        Ok(())
    }

    /// Moves the kernel to what is desired, whole or not at all.
    ///
    /// # Errors
    ///
    /// When it does not fit or contradicts itself, nothing is written. When a
    /// write fails, packets are still judged by complete revisions, and the next
    /// call goes on from what the kernel really holds.
    pub fn apply(&mut self, desired: &Desired) -> Result<Applied, ApplyError> {
        // Whatever somebody wrote there: the next one is counted from ours.
        if self.control.revision() != self.revision {
            self.control.set_revision(self.revision);
        }
        let object = &self.object;
        let apply = Apply {
            installed: &mut self.installed,
            control: &self.control,
            revision: &mut self.revision,
            pins: &self.pins,
            limits: self.limits,
            desired,
            above: self.predecessor.as_ref().map_or(0, |predecessor| predecessor.revision),
            sweep: &|| sweep(object),
        };
        let result = apply.run();
        if result.is_err() {
            // What was done before the failure counts for connections, too.
            self.control.next_epoch();
            self.installed = Installed::read(&self.pins)?;
        }
        let applied = result?;
        self.succeed()?;
        // Before anybody could take their pins away.
        self.watch.hold(&self.pins, &desired.endpoints.keys().copied().collect());
        Ok(applied)
    }

    /// Judges packets of the node itself on these devices, by index and with their
    /// names, and on no others. Says which could not be guarded.
    pub fn guard_uplinks(&mut self, uplinks: &BTreeMap<u32, String>) -> Vec<UplinkState> {
        if self.predecessor.is_some() {
            let state = |(ifindex, interface): (&u32, &String)| UplinkState {
                interface: interface.clone(),
                ifindex: *ifindex,
                missing: Some("left to another version until the first policy is complete".into()),
            };
            return uplinks.iter().map(state).collect();
        }
        self.guarded.guard(&self.object, &self.pins, uplinks)
    }

    /// Frees connections that have ended; returns how many.
    pub fn expire_connections(&self) -> Result<u32, MapError> {
        sweep(&self.object)
    }

    /// What the kernel counted, summed over CPUs.
    pub fn counters(&self) -> Result<Counters, MapError> {
        counters::read(&self.pins)
    }

    /// Instructions that the kernel's verifier went through for each program: what
    /// a change costs on kernels whose verifier gives up at a million.
    pub fn verified_instructions(&self) -> Result<BTreeMap<String, u32>, MapError> {
        let count = |program: Program<'_>| {
            let name = program.name().to_string_lossy().into_owned();
            let mut info = libbpf_sys::bpf_prog_info::default();
            let mut size = size_of::<libbpf_sys::bpf_prog_info>() as u32;
            // SAFETY: the descriptor is the program's, open for the call; `info` is
            // plain memory of the size that is told, without pointers into ours.
            let result = unsafe {
                libbpf_sys::bpf_prog_get_info_by_fd(
                    program.as_fd().as_raw_fd(),
                    &mut info,
                    &mut size,
                )
            };
            if result == 0 {
                return Ok((name, info.verified_insns));
            }
            let source = std::io::Error::from_raw_os_error(-result).into();
            Err(MapError { step: "ask about", map: name, source })
        };
        self.object.progs().map(count).collect()
    }

    /// What the control words should be.
    pub(crate) fn expected_control(&self) -> Control {
        let limits = &self.limits;
        let host = self.installed.endpoints.contains_key(&installed::HOST_INTERFACE);
        Control { revision: self.revision, host: host.into(), ..first_control(limits, None) }
    }

    /// Bytes of the kernel that the maps of this node take.
    pub fn memory(&self) -> u64 {
        check::memory(&self.object) + self.installed.tables_memory()
    }

    /// How full the maps are.
    pub fn fill(&self) -> Result<Vec<Fill>, MapError> {
        fill::read(&self.installed, &self.pins, &self.limits)
    }

    /// What is in force, for an agent that did not put it there.
    pub fn in_force(&self) -> InForce {
        in_force::read(&self.installed, self.revision(), self.predecessor.is_some())
    }

    /// The revision that judges packets now.
    pub fn revision(&self) -> u32 {
        self.control.revision()
    }

    /// What this kernel lets the datapath do.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// The sizes in force: those of the pinned maps, whatever was asked for.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The folder of this node's pins.
    pub fn pins(&self) -> &Path {
        self.pins.root()
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }
}

fn sweep(object: &Object) -> Result<u32, MapError> {
    let program = program(object, SWEEP).ok_or_else(|| missing(SWEEP))?;
    program
        .test_run(libbpf_rs::ProgramInput::default())
        .map(|output| output.return_value)
        .map_err(|source| MapError { step: "sweep", map: "conntrack".into(), source })
}

/// From here on the kernel frees what has ended when no agent does.
pub(crate) fn arm_sweeper(object: &Object) -> Result<(), MapError> {
    let failed = |source| MapError { step: "arm", map: "sweeper".into(), source };
    let program = program(object, ARM_SWEEPER).ok_or_else(|| missing(ARM_SWEEPER))?;
    let output = program.test_run(libbpf_rs::ProgramInput::default()).map_err(failed)?;
    match output.return_value as i32 {
        0 => Ok(()),
        code => Err(failed(std::io::Error::from_raw_os_error(-code).into())),
    }
}

fn missing(name: &str) -> MapError {
    let source = std::io::Error::new(std::io::ErrorKind::NotFound, format!("no program `{name}`"));
    MapError { step: "find", map: name.to_owned(), source: source.into() }
}

pub(crate) fn program<'object>(object: &'object Object, name: &str) -> Option<ProgramMut<'object>> {
    object.progs_mut().find(|program| program.name() == name)
}

fn log_libbpf(_: libbpf_rs::PrintLevel, message: String) {
    tracing::debug!(message = message.trim_end(), "libbpf");
}

fn check_limits(limits: &Limits) -> Result<(), OpenError> {
    let positive = [
        ("endpoints", limits.endpoints),
        ("connections_per_endpoint", limits.connections_per_endpoint),
        ("addresses", limits.addresses),
        ("table_entries", limits.table_entries),
        ("services", limits.services),
        ("backends", limits.backends),
    ];
    for (limit, value) in positive {
        if value == 0 {
            return Err(OpenError::Limit { limit, value: 0, must: "at least 1" });
        }
    }
    let sharers = u64::from(limits.endpoints) + u64::from(OF_THE_HOST);
    let connections = sharers * u64::from(limits.connections_per_endpoint);
    if connections > u64::from(u32::MAX) {
        return Err(OpenError::Limit {
            limit: "endpoints x connections_per_endpoint",
            value: connections,
            must: "below 4294967296",
        });
    }
    if !limits.ring_bytes.is_power_of_two() || limits.ring_bytes < 4096 {
        return Err(OpenError::Limit {
            limit: "ring_bytes",
            value: limits.ring_bytes.into(),
            must: "a power of two, at least 4096",
        });
    }
    Ok(())
}

fn prepare(step: &'static str) -> impl Fn(libbpf_rs::Error) -> OpenError {
    move |source| OpenError::Prepare { step, source }
}

/// Loads the object on the pinned maps, or on new ones that it pins.
fn load(
    pins: &Pins,
    limits: &Limits,
    predecessor: Option<&Predecessor>,
) -> Result<Object, OpenError> {
    let mut open =
        ObjectBuilder::default().open_memory(&OBJECT.0).map_err(prepare("open the object"))?;
    size_maps(&mut open, limits)?;
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if !is_pinned(&name) {
            continue;
        }
        let kept = predecessor.and_then(|predecessor| predecessor.map(pins, &name));
        // A map that earlier versions did not have is made, and empty.
        let known = [Some(pins.map(&name)), kept].into_iter().flatten().find(|path| path.exists());
        if let Some(path) = known {
            map.reuse_pinned_map(path).map_err(prepare("reuse a pinned map"))?;
        }
    }
    let mut object = open.load().map_err(|source| OpenError::Load { source })?;
    for map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let path = pins.map(&name);
        if is_pinned(&name) && !path.exists() {
            // By its descriptor: one that another version pinned may have two names.
            attach::pin_fd(map.as_fd().as_raw_fd(), &path).map_err(|source| OpenError::Pin {
                step: "pin",
                path,
                source,
            })?;
        }
    }
    Ok(object)
}

/// Maps that the compiler makes for constants are not state.
pub(crate) fn is_pinned(map: &str) -> bool {
    !map.contains('.')
}

/// Names of the maps that are pinned.
pub(crate) fn map_names() -> Result<Vec<String>, OpenError> {
    let open =
        ObjectBuilder::default().open_memory(&OBJECT.0).map_err(prepare("open the object"))?;
    let names = open.maps().map(|map| map.name().to_string_lossy().into_owned());
    Ok(names.filter(|name| is_pinned(name)).collect())
}

fn size_maps(open: &mut OpenObject, limits: &Limits) -> Result<(), OpenError> {
    let sharers = limits.endpoints.saturating_add(OF_THE_HOST);
    let connections = sharers.saturating_mul(limits.connections_per_endpoint);
    // One more: frames of interfaces without an endpoint have a counter, too.
    let usage = sharers.saturating_add(1);
    // And the node itself is one.
    let endpoints = limits.endpoints.saturating_add(1);
    for mut map in open.maps_mut() {
        let entries = match map.name().to_str() {
            Some("endpoints") => endpoints,
            Some("fragments") => sharers,
            Some("usage") => usage,
            Some("tables") => limits.tables(),
            // Those before and after a change that replaces every one of them.
            Some("addresses" | "prefixes") => limits.addresses.saturating_mul(2),
            Some("conntrack") => connections,
            Some("services") => limits.services,
            Some("backends" | "members") => limits.backend_slots(),
            Some("traces" | "drops") => limits.ring_bytes,
            _ => continue,
        };
        map.set_max_entries(entries).map_err(prepare("size a map"))?;
    }
    Ok(())
}

/// `predecessor`: its connections may be ours, and must not look as if we had
/// judged them; nor does a revision ever go back.
fn first_control(limits: &Limits, predecessor: Option<&Predecessor>) -> Control {
    let (revision, epoch) = match predecessor {
        Some(predecessor) => {
            (predecessor.revision, RandomState::new().build_hasher().finish() as u32)
        }
        None => (1, 1),
    };
    Control {
        abi_version: abi::abi::VERSION,
        revision,
        epoch,
        world_ipv4: Reserved::WorldIpv4.id().into(),
        world_ipv6: Reserved::WorldIpv6.id().into(),
        connections: limits.connections_per_endpoint,
        drop_records: limits.drop_records,
        trace: limits.traces.number(),
        host: 0,
    }
}

fn open_control(pins: &Pins) -> Result<ControlWord, OpenError> {
    let map: Map<u32, Control> = Map::open("control", &pins.map("control"))?;
    ControlWord::map(map.handle().as_fd()).map_err(OpenError::Control)
}

/// Version of what is pinned; 0: nothing, or a start that was not finished.
pub(crate) fn raw_version(pins: &Pins) -> Result<u32, OpenError> {
    if pins.map("control").exists() { Ok(open_control(pins)?.version()) } else { Ok(0) }
}

/// The compiled programs.
pub(crate) fn object_bytes() -> &'static [u8] {
    &OBJECT.0
}

pub(crate) fn pin_programs(object: &Object, pins: &Pins) -> Result<(), OpenError> {
    for name in INTERFACE_PROGRAMS {
        let Some(program) = program(object, name) else { continue };
        pin_in_place(&program, &pins.program(name))?;
    }
    Ok(())
}

/// Pins beside the old pin and renames over it: there is always one.
fn pin_in_place(program: &Program<'_>, path: &Path) -> Result<(), OpenError> {
    let failed = |step: &'static str, path: &Path, source: std::io::Error| OpenError::Pin {
        step,
        path: path.to_owned(),
        source,
    };
    let fresh = pins::beside(path);
    pins::remove(&fresh).map_err(|source| failed("remove", &fresh, source))?;
    let fd = program.as_fd().as_raw_fd();
    attach::pin_fd(fd, &fresh).map_err(|source| failed("pin", &fresh, source))?;
    pins::replace(&fresh, path).map_err(|source| failed("pin", path, source))
}

/// Sizes of pinned maps cannot be changed: what they are is what counts.
fn actual_limits(installed: &Installed, pins: &Pins, asked: &Limits) -> Result<Limits, MapError> {
    // One account for each, for the host's, and for nobody's: the map may be another
    // version's.
    let accounts = installed.accounts.room().saturating_sub(1 + OF_THE_HOST);
    let endpoints = installed.endpoint_map.max_entries().saturating_sub(1).min(accounts);
    let conntrack: Map<abi::ConnectionKey, abi::Connection> = typed(pins, "conntrack")?;
    let room = conntrack.max_entries() / endpoints.saturating_add(OF_THE_HOST);
    let actual = Limits {
        endpoints,
        addresses: installed.address_map.max_entries() / 2,
        services: installed.services.service_map.max_entries(),
        backends: installed.services.backend_map.max_entries() / 2,
        connections_per_endpoint: asked.connections_per_endpoint.min(room),
        ..*asked
    };
    if actual != *asked {
        tracing::warn!(?asked, ?actual, "limits of the pinned maps stay in force");
    }
    Ok(actual)
}

/// A handle to a map of this object by name, typed.
pub(crate) fn typed<K, V>(pins: &Pins, name: &str) -> Result<Map<K, V>, MapError>
where
    K: FromBytes + IntoBytes + Immutable,
    V: FromBytes + IntoBytes + Immutable,
{
    Map::open(name, &pins.map(name))
}
