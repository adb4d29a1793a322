//! Probes: real programs try real connections, the destination is watched, and
//! what the datapath reported about it is compared with what was expected.

pub mod answer;
pub mod client;
pub mod end;
pub mod entity;
pub mod file;
pub mod flows;
pub mod frame;
pub mod meaning;
pub mod observer;
pub mod report;
pub mod responder;
pub mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::Error;
use crate::journal::Pod;
use crate::lab::Lab;
use crate::netns::Netns;
use crate::probe::answer::{Answer, Findings};
use crate::probe::client::Attempt;
use crate::probe::end::End;
use crate::probe::file::{Line, Probe, Protocol};
use crate::probe::flows::{Decisions, Wanted};
use crate::probe::frame::{Mark, Tuple};
use crate::probe::meaning::Meaning;
use crate::probe::observer::{Observer, Watch};
use crate::probe::report::Report;
use crate::probe::responder::{Port, Responder};
use crate::probe::service::Question;

/// Source ports of probes: below those that the kernel gives out itself.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 20_000;

/// Which probes of a text run, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    /// Only those that are expected to end like this: `allowed`, or `denied`.
    pub only: Option<String>,
    /// How many at the same time.
    pub at_once: usize,
}

impl Default for Run {
    /// All of them; many at once, because a denied one mostly waits for an answer.
    fn default() -> Self {
        Self { only: None, at_once: 24 }
    }
}

/// Runs all probes of a file; with directories of manifests, compares with what
/// those mean, too.
pub fn run(lab: &Lab, file: &Path, manifests: &[PathBuf]) -> Result<Report, Error> {
    let text = fs::read_to_string(file).map_err(Error::file("read", file))?;
    run_lines(lab, &text, &Run::default(), manifests)
}

/// As [`run`], of a file's text.
pub fn run_lines(lab: &Lab, text: &str, run: &Run, manifests: &[PathBuf]) -> Result<Report, Error> {
    let mut lines = file::read(text);
    if run.only.is_some() {
        lines.retain(|line| expected_verdict(line) == run.only.as_deref());
    }
    choose_pods(lab, &mut lines);
    let meant = meant(lab, &lines, manifests)?;
    let echoes = Echoes::default();
    let first = first_number()?;
    let _responder = Responder::start(&ports(lab, &lines))?;
    let next = AtomicUsize::new(0);
    let answers: Vec<Mutex<Option<Answer>>> = lines.iter().map(|_| Mutex::new(None)).collect();
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let (Some(line), Some(slot)) = (lines.get(index), answers.get(index)) else { return };
            let offset = u16::try_from(index % usize::from(PORTS)).unwrap_or(0);
            let number = FIRST_PORT + (first + offset) % PORTS;
            *lock(slot) = Some(answer(lab, line, number, &echoes));
        }
    };
    thread::scope(|scope| {
        for _ in 0..run.at_once.min(lines.len()) {
            scope.spawn(worker);
        }
    });
    let answers = answers.into_iter().filter_map(|slot| lock(&slot).take());
    let answers = answers.zip(meant).map(|(answer, meant)| Answer { meant, ..answer });
    Ok(Report::new(answers.collect()))
}

fn expected_verdict(line: &Line) -> Option<&str> {
    line.object.get("expect")?.get("verdict")?.as_str()
}

/// Where a probe names a workload, its pods take turns; those of the two ends not in
/// step, so that every pair has its turn.
pub fn choose_pods(lab: &Lab, lines: &mut [Line]) {
    for (turn, line) in lines.iter_mut().enumerate() {
        if let Ok(probe) = &mut line.probe {
            probe.from = end::one_of(&probe.from, turn, &lab.journal);
            probe.to = end::one_of(&probe.to, turn / 2, &lab.journal);
        }
    }
}

type Meant = Option<Result<policy::question::Answer, String>>;

/// What manifests mean for each line; for none, if there are no manifests.
fn meant(lab: &Lab, lines: &[Line], manifests: &[PathBuf]) -> Result<Vec<Meant>, Error> {
    if manifests.is_empty() {
        return Ok(vec![None; lines.len()]);
    }
    let meaning = Meaning::of(manifests, &lab.journal.cluster)?;
    let answers = meaning.answers(lines.iter().map(|line| &line.object));
    Ok(answers.into_iter().map(Some).collect())
}

fn answer(lab: &Lab, line: &Line, number: u16, echoes: &Echoes) -> Answer {
    let found = line.probe.clone().and_then(|probe| try_probe(lab, &probe, number, echoes));
    let expected = line.probe.as_ref().ok().and_then(|probe| probe.expected.clone());
    Answer { object: line.object.clone(), expected, found, meant: None }
}

/// Who may see the packets of a probe, and what they look like there.
struct Target<'a> {
    end: End<'a>,
    tuple: Tuple,
}

/// What a client sends, and to whom it may come.
struct Route<'a> {
    from: End<'a>,
    asked: Tuple,
    /// The name that it asks for instead of an address.
    name: Option<String>,
    /// One, or all that are behind a service.
    targets: Vec<Target<'a>>,
}

impl<'a> Route<'a> {
    /// `number` is the probe's source port, or its echo identifier.
    fn of(lab: &'a Lab, probe: &Probe, number: u16) -> Result<Self, String> {
        let source = entity::named(&probe.from, &probe.to, probe.family, lab)?;
        let from = End::of(&source, &lab.journal)?;
        let source = from.address(&source, probe.family)?;
        let tuple = |destination, port| {
            let mark = match (probe.protocol, port) {
                (Protocol::Tcp, Some(port)) => Mark::Tcp(number, port),
                (Protocol::Udp, Some(port)) => Mark::Udp(number, port),
                (Protocol::Sctp, Some(port)) => Mark::Sctp(number, port),
                _ => Mark::Echo(number),
            };
            Tuple { source, destination, mark }
        };
        if let Some(name) = probe.to.strip_prefix(service::PREFIX) {
            let Probe { protocol, family, ref port, .. } = *probe;
            let question = Question { port: port.as_ref(), protocol, family };
            let way = service::find(name, question, &from, lab)?;
            let asked = tuple(way.asked.ip(), Some(way.asked.port()));
            let target = |backend: &SocketAddr| {
                if backend.ip() == source {
                    let why = "may lead its client to itself, which nobody judges";
                    return Err(format!("svc:{name} {why}"));
                }
                let end = End::of(&format!("ip:{}", backend.ip()), &lab.journal)?;
                Ok(Target { end, tuple: tuple(backend.ip(), Some(backend.port())) })
            };
            let targets = way.backends.iter().map(target).collect::<Result<_, String>>()?;
            return Ok(Self { from, asked, name: way.name, targets });
        }
        let to = entity::named(&probe.to, &probe.from, probe.family, lab)?;
        let end = End::of(&to, &lab.journal)?;
        let port = probe.port.as_ref().map(|port| end.port(port, &lab.places)).transpose()?;
        let asked = tuple(end.address(&to, probe.family)?, port);
        Ok(Self { from, asked, name: None, targets: vec![Target { end, tuple: asked }] })
    }

    /// Which ends must tell what they decided: pods, and nodes of which the probe
    /// expects something.
    fn wanted(&self, probe: &Probe) -> Wanted {
        let said = probe.expected.as_ref();
        let node_judges =
            |end: &End<'_>, side: Option<&file::ExpectedSide>| end.is_on_a_node() && side.is_some();
        let egress = node_judges(&self.from, said.and_then(|said| said.egress.as_ref()));
        let ingress = self
            .targets
            .iter()
            .all(|target| node_judges(&target.end, said.and_then(|said| said.ingress.as_ref())));
        let pods = || self.targets.iter().map(|target| target.end.pod());
        let near = |pod: Option<&Pod>| {
            self.from.pod().zip(pod).is_some_and(|(from, to)| from.node == to.node)
        };
        // Without anybody behind a service nothing is sent, so nothing is reported.
        let has_target = !self.targets.is_empty();
        let is_sent = has_target || probe.is_on_the_wire();
        Wanted {
            egress: is_sent && (egress || self.from.pod().is_some()),
            ingress: has_target && (ingress || pods().all(|pod| pod.is_some())),
            same_node: pods().all(near),
            program: matches!(self.from, End::Pod(_) | End::External(_)),
        }
    }
}

/// The ports that the probes of a file try, by network namespace.
fn ports(lab: &Lab, lines: &[Line]) -> BTreeMap<Netns, BTreeSet<Port>> {
    let mut ports: BTreeMap<Netns, BTreeSet<Port>> = BTreeMap::new();
    for probe in lines.iter().filter_map(|line| line.probe.as_ref().ok()) {
        // What is wrong with a probe is said when it is its turn.
        let Ok(route) = Route::of(lab, probe, 0) else { continue };
        for Target { end, tuple } in &route.targets {
            let netns = Netns::at(lab.places.netns(&end.member()));
            ports.entry(netns).or_default().extend(Port::of(tuple));
        }
    }
    ports
}

/// Does one probe.
fn try_probe(lab: &Lab, probe: &Probe, number: u16, echoes: &Echoes) -> Result<Findings, String> {
    let route = Route::of(lab, probe, number)?;
    let wanted = route.wanted(probe);
    let failed = |error: Error| error.chain();

    let pair = echoes.between(&route.asked);
    let _alone = pair.as_deref().map(lock);
    let watch = |Target { end, tuple }: &Target<'_>| {
        // Packets are seen on a node before they are judged: count answers.
        let on_a_node = end.is_on_a_node();
        let watch = if on_a_node { Watch::Answers(*tuple) } else { Watch::Arrivals(*tuple) };
        Observer::start(&Netns::at(lab.places.netns(&end.member())), watch)
    };
    let attempt =
        Attempt::new(probe.client, &route.asked, route.name.as_deref()).map_err(failed)?;
    let observers = route.targets.iter().map(watch).collect::<Result<Vec<_>, _>>();
    let observers = observers.map_err(failed)?;
    let since = api::time::now_ns();
    let outcome = client::run(lab, &route.from, &attempt).map_err(failed)?;
    let arrived = observers.into_iter().map(Observer::finish).sum::<Result<u64, _>>();
    let arrived = arrived.map_err(failed)?;
    let mut tuples: Vec<_> = route.targets.iter().map(|target| target.tuple).collect();
    // What is on its way to a service without a socket's help stays as it was asked.
    if tuples.is_empty() && probe.is_on_the_wire() {
        tuples.push(route.asked);
    }
    let (decisions, unreported) = match flows::find(lab, &tuples, since, wanted) {
        Ok(decisions) => (decisions, None),
        Err(error) => (Decisions::default(), Some(error.chain())),
    };
    Ok(Findings { client: probe.client, outcome, arrived, decisions, unreported, wanted })
}

/// Flows of echo requests carry no identifier: between two addresses only one
/// probe at a time can be told from others.
#[derive(Debug, Default)]
struct Echoes {
    pairs: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
}

impl Echoes {
    fn between(&self, tuple: &Tuple) -> Option<Arc<Mutex<()>>> {
        let Mark::Echo(_) = tuple.mark else { return None };
        let key = format!("{} {}", tuple.source, tuple.destination);
        Some(Arc::clone(lock(&self.pairs).entry(key).or_default()))
    }
}

/// A worker that panicked leaves nothing half-done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the numbers of a run start: not where those of the last run did.
fn first_number() -> Result<u16, Error> {
    let id = crate::container::new_id()?;
    let random = id.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
    Ok(random.unwrap_or(0) % PORTS)
}
