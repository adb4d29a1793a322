//! Compares what the kernel holds with what was installed, and puts it right.
//!
//! Root on the node can remove pins, detach programs and edit maps; none of that
//! is told to anybody. What is found here is told, also when it was put right.
//! Connections are not compared, only counted: the kernel alone knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use abi::Control;
use libbpf_rs::{Link, MapCore, MapHandle, Object, Program};
use nix::net::if_::if_indextoname;

use crate::attach::{self, Attached};
use crate::cgroup::Hooks;
use crate::control::REVISIONS;
use crate::desired::Desired;
use crate::endpoint::sharers;
use crate::error::MapError;
use crate::installed::{HOST_INTERFACE, Installed};
use crate::map;
use crate::object::{self, Datapath, INTERFACE_PROGRAMS};
use crate::pins::{self, Pins};
use crate::recount::Recount;

/// What kind of thing is not as it was installed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum FaultKind {
    /// A pin is gone, or another object is pinned in its place.
    Pin,
    /// A program is not attached, not first, or not ours.
    Program,
    /// An element of a map is not what was written.
    Content,
    /// The word that packets are judged by, or a word beside it.
    Control,
}

impl FaultKind {
    /// `pin`, `program`, `content`, `control`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Program => "program",
            Self::Content => "content",
            Self::Control => "control",
        }
    }
}

/// Something that is not as it was installed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// What kind of thing.
    pub kind: FaultKind,
    /// What is wrong with which one.
    pub detail: String,
    /// Why it could not be put right; `None`: it was.
    pub left: Option<String>,
}

/// What a check keeps for the next one.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Socket hooks.
    pub(crate) hooks: Hooks,
    /// Links of pods' interfaces. Held, so that they outlive their pins.
    links: BTreeMap<PathBuf, Link>,
    /// Interfaces whose endpoint was missing the last time: the CNI plugin takes a
    /// pod away step by step.
    suspects: BTreeSet<u32>,
    suspects_before: BTreeSet<u32>,
    accounts: Recount,
}

impl Watch {
    /// Holds the pinned links of interfaces that are installed, and no others: one
    /// that is given back must not be kept from whoever has it next.
    pub(crate) fn hold(&mut self, pins: &Pins, wanted: &BTreeSet<u32>) {
        for path in pins.links().unwrap_or_default() {
            if !self.links.contains_key(&path)
                && let Ok(link) = Link::open(&path)
            {
                self.links.insert(path, link);
            }
        }
        self.links.retain(|_, link| {
            attach::tcx_interface(link).is_some_and(|ifindex| wanted.contains(&ifindex))
        });
    }

    /// Whether the interface was as bad the last time.
    fn confirmed(&mut self, ifindex: u32) -> bool {
        self.suspects.insert(ifindex);
        self.suspects_before.contains(&ifindex)
    }
}

/// Faults of one check.
#[derive(Default)]
pub(crate) struct Findings {
    faults: Vec<Fault>,
    /// Nothing can be pinned, which is a fault of its own.
    no_bpffs: bool,
}

impl Findings {
    pub(crate) fn add<E: ToString>(
        &mut self,
        kind: FaultKind,
        detail: String,
        healed: Result<(), E>,
    ) {
        let left = healed.err().map(|error| error.to_string());
        self.faults.push(Fault { kind, detail, left });
    }

    /// Whether there are no pins to look at.
    pub(crate) fn has_no_bpffs(&self) -> bool {
        self.no_bpffs
    }

    /// Somebody else's program may end the chain before ours.
    pub(crate) fn runs_behind(&mut self, interface: &str) {
        let detail = format!("another program runs before ours on `{interface}`");
        self.add(FaultKind::Program, detail, Err("it is not ours to remove"));
    }

    /// Pins a link that is held and is not what is pinned there.
    pub(crate) fn pin_again(&mut self, what: &str, link: &Link, path: &Path) {
        if self.no_bpffs {
            return;
        }
        let id = |link: &Link| link.info().ok().map(|info| info.id);
        let pinned = Link::open(path).ok().and_then(|link| id(&link));
        if pinned.is_none() || pinned != id(link) {
            let detail = format!("{what} was not pinned at `{}`", path.display());
            self.add(FaultKind::Pin, detail, repin(link.as_fd().as_raw_fd(), path));
        }
    }
}

impl Datapath {
    /// Compares the kernel with `desired`, which was applied last, and puts right
    /// what is not as it was. `None`: nothing was applied yet, so that only pins
    /// and words can be compared.
    pub fn check(&mut self, desired: Option<&Desired>) -> Vec<Fault> {
        let mut found =
            Findings { faults: std::mem::take(&mut self.reports), ..Findings::default() };
        if self.predecessor.is_some() {
            return found.faults;
        }
        self.watch.suspects_before = std::mem::take(&mut self.watch.suspects);
        self.check_control(&mut found);
        let installed = self.installed.endpoints.keys().copied();
        let wanted: BTreeSet<u32> = desired.map_or_else(
            || installed.collect(),
            |desired| desired.endpoints.keys().copied().collect(),
        );
        self.watch.hold(&self.pins, &wanted);
        self.check_pins(&mut found);
        self.check_programs(&wanted, &mut found);
        self.guarded.check(&self.object, &self.pins, &mut found);
        if let Some(cgroup) = &self.cgroup {
            self.watch.hooks.check(&self.object, &self.pins, cgroup, &mut found);
        }
        if let Some(desired) = desired.filter(|_| !found.no_bpffs) {
            self.check_content(desired, &mut found);
            self.check_accounts(&mut found);
        }
        found.faults
    }

    /// Whether the last check saw what only the next can be sure of.
    pub fn is_unsure(&self) -> bool {
        let Watch { suspects, suspects_before, .. } = &self.watch;
        !suspects.is_subset(suspects_before)
    }

    fn check_control(&mut self, found: &mut Findings) {
        let (present, expected) = (self.control.read(), self.expected_control());
        // The kernel moves neither; the epoch only makes connections judged again.
        let differs = Control { epoch: 0, ..present } != Control { epoch: 0, ..expected };
        if differs {
            self.control.initialise(&Control { epoch: present.epoch, ..expected });
            self.control.next_epoch();
            let detail = format!("the control words were {present:?}, not {expected:?}");
            found.add(FaultKind::Control, detail, Ok::<_, String>(()));
        }
    }

    /// A word that no agent has counted to was written while none ran. Which one was
    /// in force is not known; until all is applied again it is the newest there is.
    pub(crate) fn bound_revision(&mut self) {
        if (1..REVISIONS).contains(&self.revision) {
            return;
        }
        let detail = format!("the revision was {}, which no agent counts to", self.revision);
        self.revision = self.installed.highest_revision().max(1);
        self.control.set_revision(self.revision);
        self.control.next_epoch();
        self.reports.push(Fault { kind: FaultKind::Control, detail, left: None });
    }

    /// Maps and programs under their names.
    fn check_pins(&mut self, found: &mut Findings) {
        if let Err(error) = self.pins.create() {
            let detail = format!("the pins at `{}` are gone", self.pins.root().display());
            found.no_bpffs = true;
            return found.add(FaultKind::Pin, detail, Err(crate::error::chain(&error)));
        }
        for map in self.object.maps() {
            let name = map.name().to_string_lossy().into_owned();
            if !object::is_pinned(&name) {
                continue;
            }
            let path = self.pins.map(&name);
            let id = map.info().map(|info| info.info.id).ok();
            let pinned = MapHandle::from_pinned_path(&path).and_then(|map| map.info()).ok();
            if pinned.map(|info| info.info.id) != id {
                let detail = format!("map `{name}` was not pinned at `{}`", path.display());
                found.add(FaultKind::Pin, detail, repin(map.as_fd().as_raw_fd(), &path));
            }
        }
        for name in INTERFACE_PROGRAMS {
            let Some(program) = object::program(&self.object, name) else { continue };
            let path = self.pins.program(name);
            let id = Program::id_from_fd(program.as_fd()).ok();
            let pinned = Program::fd_from_pinned_path(&path).ok();
            if pinned.and_then(|fd| Program::id_from_fd(fd.as_fd()).ok()) != id {
                let detail = format!("program `{name}` was not pinned at `{}`", path.display());
                found.add(FaultKind::Pin, detail, repin(program.as_fd().as_raw_fd(), &path));
            }
        }
    }

    /// Programs of every interface that is installed and exists.
    fn check_programs(&mut self, wanted: &BTreeSet<u32>, found: &mut Findings) {
        for &ifindex in wanted {
            let Some(name) = interface(ifindex) else { continue };
            for path in attach::link_paths(&self.pins, ifindex) {
                if let Some(link) = self.watch.links.get(&path) {
                    found.pin_again(&format!("the link of `{name}`"), link, &path);
                }
            }
            let detail = match attach::attached(&self.object, &attach::HOOKS, ifindex) {
                Attached::First => continue,
                Attached::Behind => {
                    found.runs_behind(&name);
                    continue;
                }
                Attached::Not => format!("a program of `{name}` was detached or replaced"),
            };
            let healed = attach::attach_anew(&self.object, &self.pins, &name, ifindex);
            found.add(
                FaultKind::Program,
                detail,
                healed.map_err(|error| crate::error::chain(&error)),
            );
        }
    }

    /// Every element that has been written.
    fn check_content(&mut self, desired: &Desired, found: &mut Findings) {
        let present = match Installed::read(&self.pins) {
            Ok(present) => present,
            Err(error) => {
                let detail = "the maps cannot be compared".to_owned();
                return found.add(FaultKind::Content, detail, Err(crate::error::chain(&error)));
            }
        };
        // An endpoint that is not there any more may be on its way out.
        let gone = self.installed.endpoints.keys();
        let gone: Vec<u32> =
            gone.copied().filter(|ifindex| !present.endpoints.contains_key(ifindex)).collect();
        let leaving: BTreeSet<u32> = gone
            .into_iter()
            .filter(|ifindex| *ifindex != HOST_INTERFACE)
            .filter(|ifindex| interface(*ifindex).is_none() || !self.watch.confirmed(*ifindex))
            .collect();
        let differences = self.installed.differences(&present, &leaving);
        if differences.is_empty() {
            return;
        }
        self.installed = present;
        self.control.next_epoch();
        let healed = self.open_accounts().map_err(|error| crate::error::chain(&error));
        let healed =
            healed.and_then(|()| self.apply(desired).map_err(|error| crate::error::chain(&error)));
        let left = healed.err();
        for detail in differences {
            found.add(FaultKind::Content, detail, left.clone().map_or(Ok(()), Err));
        }
    }
}

impl Datapath {
    /// What each endpoint is said to have. One that is wrong begins anew: connections
    /// of its endpoint that go on are judged as nobody's.
    fn check_accounts(&mut self, found: &mut Findings) {
        let quota = self.limits().connections_per_endpoint;
        let wrong = self.watch.accounts.wrong(&self.installed.accounts, &self.pins, quota);
        match wrong {
            Ok(wrong) if wrong.is_empty() => {}
            Ok(wrong) => {
                let healed =
                    self.begin_accounts(&wrong).map_err(|error| crate::error::chain(&error));
                let count = wrong.len();
                let detail = format!("{count} elements of map `usage` do not say what there is");
                found.add(FaultKind::Content, detail, healed);
            }
            Err(error) => {
                let detail = "connections cannot be counted".to_owned();
                found.add(FaultKind::Content, detail, Err(crate::error::chain(&error)));
            }
        }
    }

    /// What is not counted is freed while there is no account.
    fn begin_accounts(&self, ids: &BTreeSet<u32>) -> Result<(), MapError> {
        let accounts = &self.installed.accounts;
        ids.iter().try_for_each(|id| accounts.close(*id))?;
        self.expire_connections()?;
        ids.iter().try_for_each(|id| accounts.open(*id))
    }

    /// Endpoints without an account can open nothing. What they had opened is
    /// freed first: it would not be counted.
    fn open_accounts(&self) -> Result<(), MapError> {
        let accounts = &self.installed.accounts;
        let endpoints = self.installed.endpoints.values();
        let closed: Vec<u32> =
            endpoints.map(|endpoint| endpoint.id).filter(|id| !accounts.is_open(*id)).collect();
        if closed.is_empty() {
            return Ok(());
        }
        self.expire_connections()?;
        closed.into_iter().flat_map(sharers).try_for_each(|id| accounts.open(id))
    }
}

/// Name of an interface; `None`: there is none of this number.
pub(crate) fn interface(ifindex: u32) -> Option<String> {
    let name = if_indextoname(ifindex).ok()?.to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

/// Pins what is held, in the place of whatever is there.
fn repin(fd: i32, path: &Path) -> std::io::Result<()> {
    let fresh = pins::beside(path);
    pins::remove(&fresh)?;
    attach::pin_fd(fd, &fresh)?;
    pins::replace(&fresh, path)
}

/// Bytes of the kernel that the maps of an object take, as the kernel accounts.
pub(crate) fn memory(object: &Object) -> u64 {
    object.maps().map(|map| map::memory(map.as_fd())).sum()
}
