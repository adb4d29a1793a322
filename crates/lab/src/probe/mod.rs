//! Probes: real programs try real connections, the destination is watched, and
//! what the datapath reported about it is compared with what was expected.

pub mod answer;
pub mod client;
pub mod end;
pub mod file;
pub mod flows;
pub mod frame;
pub mod observer;
pub mod report;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::Error;
use crate::lab::Lab;
use crate::netns::Netns;
use crate::probe::answer::{Answer, Findings};
use crate::probe::end::End;
use crate::probe::file::{Line, Probe, Protocol};
use crate::probe::flows::{Decisions, Wanted};
use crate::probe::frame::{Mark, Tuple};
use crate::probe::observer::{Observer, Watch};
use crate::probe::report::Report;

/// Probes at the same time: a denied one mostly waits for an answer.
const AT_ONCE: usize = 16;
/// Source ports of probes: below those that the kernel gives out itself.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 20_000;

/// Runs all probes of a file.
pub fn run(lab: &Lab, file: &Path) -> Result<Report, Error> {
    run_only(lab, file, None)
}

/// Runs the probes of a file: all, or those that are expected to end like `only`.
pub fn run_only(lab: &Lab, file: &Path, only: Option<&str>) -> Result<Report, Error> {
    run_lines(lab, &fs::read_to_string(file).map_err(Error::file("read", file))?, only)
}

/// As [`run_only`], of the file's text.
pub fn run_lines(lab: &Lab, text: &str, only: Option<&str>) -> Result<Report, Error> {
    let mut lines = file::read(text);
    if only.is_some() {
        let verdict =
            |line: &Line| line.object.get("expect")?.get("verdict")?.as_str().map(str::to_owned);
        lines.retain(|line| verdict(line).as_deref() == only);
    }
    let echoes = Echoes::default();
    let first = first_number()?;
    let next = AtomicUsize::new(0);
    let answers: Vec<Mutex<Option<Answer>>> = lines.iter().map(|_| Mutex::new(None)).collect();
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let (Some(line), Some(slot)) = (lines.get(index), answers.get(index)) else { return };
            let offset = u16::try_from(index % usize::from(PORTS)).unwrap_or(0);
            let number = FIRST_PORT + (first + offset) % PORTS;
            *lock(slot) = Some(answer(lab, line, (index, number), &echoes));
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(lines.len()) {
            scope.spawn(worker);
        }
    });
    let answers = answers.into_iter().filter_map(|slot| lock(&slot).take()).collect();
    Ok(Report::new(answers))
}

fn answer(lab: &Lab, line: &Line, turn: (usize, u16), echoes: &Echoes) -> Answer {
    let found = line.probe.clone().and_then(|probe| try_probe(lab, &probe, turn, echoes));
    let expected = line.probe.as_ref().ok().and_then(|probe| probe.expected.clone());
    Answer { object: line.object.clone(), expected, found }
}

/// Does one probe: `turn` is its place in the file, and a number of its own that is
/// its source port, or its echo identifier.
fn try_probe(
    lab: &Lab,
    probe: &Probe,
    turn: (usize, u16),
    echoes: &Echoes,
) -> Result<Findings, String> {
    let (index, number) = turn;
    let (from, to) = End::both(&probe.from, &probe.to, &lab.journal, index)?;
    let destination = to.address(&probe.to, probe.family)?;
    let mark = match (&probe.port, probe.protocol) {
        (Some(port), Protocol::Tcp) => Mark::Tcp(number, to.port(port, &lab.places)?),
        _ => Mark::Echo(number),
    };
    let tuple = Tuple { source: from.address(&probe.from, probe.family)?, destination, mark };
    let wanted = Wanted { egress: from.pod().is_some(), ingress: to.pod().is_some() };
    let failed = |error: Error| error.chain();

    let pair = echoes.between(&tuple);
    let _alone = pair.as_deref().map(lock);
    // A node's own pods are seen there before they are judged: count answers.
    let watch = if to.is_node_of(&from) { Watch::Answers(tuple) } else { Watch::Arrivals(tuple) };
    let netns = Netns::at(lab.places.netns(&to.member()));
    let observer = Observer::start(&netns, watch).map_err(failed)?;
    let since = api::time::now_ns();
    let command = client::command(probe.client, &tuple);
    let outcome = client::run(lab, &from, command).map_err(failed)?;
    let arrived = observer.finish().map_err(failed)?;
    let (decisions, unreported) = match flows::find(lab, &tuple, since, wanted) {
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
