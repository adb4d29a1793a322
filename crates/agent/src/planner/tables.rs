//! One table for each distinct subject of this node.
//!
//! A subject is an identity with its named ports: pods that agree in both share
//! a table. A subject whose policy cannot be compiled, or does not fit, keeps its last
//! good table, also that of an earlier agent.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{IdentityBook, Labels};
use policy::{CompileError, Compiler, Key, Table};
use source::Snapshot;

use super::endpoints::{EndpointView, LeftOut};
use super::last_good::{GoodTable, LastGood};
use super::setback::{Outcome, Setback};
use super::{Plan, PlanOptions, kept};
use crate::numbers::{Numbers, digest};

/// Whom a table judges.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Subject {
    /// Identity labels.
    pub labels: Labels,
    /// Named ports: name to protocol number and port.
    pub ports: BTreeMap<String, (u8, u16)>,
}

impl Subject {
    fn digest(&self) -> [u8; 32] {
        let mut parts: Vec<Vec<u8>> =
            self.labels.to_strings().into_iter().map(String::into_bytes).collect();
        // Between two parts of the same kind no text can imitate the boundary,
        // because every part is framed; this one separates labels from ports.
        parts.push(Vec::new());
        for (name, (protocol, port)) in &self.ports {
            parts.push(name.clone().into_bytes());
            parts.push([&[*protocol][..], &port.to_be_bytes()].concat());
        }
        digest(parts.iter().map(Vec::as_slice))
    }
}

/// A table and whom it judges.
#[derive(Clone, Debug)]
pub struct PlannedTable {
    /// Whom.
    pub subject: Subject,
    /// How.
    pub table: Arc<Table>,
    /// Why it is an earlier one and not what the policies say now.
    pub setback: Option<Setback>,
}

/// What tables are compiled from.
pub(super) struct Task<'a> {
    pub snapshot: &'a Snapshot,
    /// Those of the snapshot, with what they refer to written out.
    pub policies: &'a [policy::Policy],
    pub identities: &'a IdentityBook,
    pub options: &'a PlanOptions,
    pub before: Option<&'a Plan>,
    pub last_good: &'a LastGood,
    /// Tables that would come out as they did then.
    pub kept: kept::Tables<'a>,
}

/// Tables by number.
pub(super) struct Tables {
    pub planned: BTreeMap<u32, PlannedTable>,
    pub numbers: Numbers,
    /// Of whom the policies are not in force.
    pub setbacks: Vec<Setback>,
}

impl Tables {
    /// Those that an installed endpoint needs.
    pub fn used(&self, endpoints: &[EndpointView]) -> BTreeMap<u32, Arc<Table>> {
        endpoints
            .iter()
            .filter(|endpoint| endpoint.left_out.is_none())
            .filter_map(|endpoint| endpoint.table.clone())
            .collect()
    }
}

/// Compiles a table for each subject and hands it to its endpoints.
pub(super) fn compile(
    task: &Task<'_>,
    endpoints: &mut [EndpointView],
    problems: &mut Vec<String>,
) -> Tables {
    let mut subjects: BTreeMap<Subject, Vec<&mut EndpointView>> = BTreeMap::new();
    for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.left_out.is_none()) {
        let ports = task.snapshot.pods.get(&endpoint.record.pod).map(|pod| pod.ports);
        if let Some((_, labels)) = &endpoint.identity {
            let subject = Subject { labels: labels.clone(), ports: ports.unwrap_or_default() };
            subjects.entry(subject).or_default().push(endpoint);
        }
    }
    let nothing = Numbers::default();
    let numbers = Numbers::assign(
        task.before.map_or(&nothing, |before| &before.table_numbers),
        subjects.keys().map(Subject::digest),
    );
    // Knowing all peers is dear, and often no table needs it.
    let compiler =
        LazyCell::new(|| Compiler::new(task.policies, task.identities, &task.options.policy));
    let (mut planned, mut setbacks) = (BTreeMap::new(), Vec::new());
    for (subject, endpoints) in subjects {
        let number = numbers.get(&subject.digest()).unwrap_or_default();
        let ids: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        match compile_one(task, &compiler, number, &subject, &ids) {
            Ok((table, setback)) => {
                if let Some(why) = table.shadow_refused() {
                    problems.push(format!(
                        "what policies in shadow mode would decide about {} is not known: {why}",
                        subject.labels.to_strings().join(",")
                    ));
                }
                for endpoint in endpoints {
                    endpoint.table = Some((number, Arc::clone(&table)));
                }
                setbacks.extend(setback.clone());
                planned.insert(number, PlannedTable { subject, table, setback });
            }
            Err(setback) => {
                for endpoint in endpoints {
                    endpoint.left_out = Some(LeftOut::Policy(setback.reason.clone()));
                }
                setbacks.push(setback);
            }
        }
    }
    Tables { planned, numbers, setbacks }
}

/// The table of a subject; with a setback it is the last good one. Without one its
/// endpoints cannot be installed.
fn compile_one<'a, F: FnOnce() -> Compiler<'a>>(
    task: &Task<'_>,
    compiler: &LazyCell<Compiler<'a>, F>,
    number: u32,
    subject: &Subject,
    endpoints: &[u32],
) -> Result<(Arc<Table>, Option<Setback>), Setback> {
    let earlier = |plan: &'_ Plan| {
        let planned = plan.tables.get(&number).filter(|planned| planned.subject == *subject)?;
        Some((Arc::clone(&planned.table), planned.setback.clone()))
    };
    if let Some(kept) = task.kept.of_subject(&subject.labels).and_then(earlier) {
        return Ok(kept);
    }
    let compiled = compiler.table(&subject.labels, &subject.ports);
    let beside = task.last_good.table(number);
    let fitted = compiled
        .map_err(|error| error.to_string())
        .and_then(|table| fitting(beside, table, task.options.limits.table_entries));
    let good = task.last_good.of_subject(number, subject, endpoints.iter().copied());
    let good = good.map(|good| Arc::clone(&good.table));
    let setback = |outcome, reason| Setback {
        subject: subject.labels.clone(),
        of_the_node: false,
        outcome,
        reason,
    };
    match (fitted, good) {
        (Ok(table), Some(last)) if *last == table => Ok((last, None)),
        (Ok(table), _) => Ok((Arc::new(table), None)),
        (Err(reason), Some(last)) => Ok((last, Some(setback(Outcome::LastGoodStays, reason)))),
        (Err(reason), None) => Err(setback(Outcome::DropsEverything, reason)),
    }
}

/// The table, if there is room for it beside the one in force with its number; else what
/// decides alone: a shadow must not keep it from changing.
pub(super) fn fitting(
    beside: Option<&GoodTable>,
    table: Table,
    limit: u32,
) -> Result<Table, String> {
    let none = Table::default();
    // A table that exists keeps the size it was made with.
    let (last, limit) = beside.map_or((&none, limit), |good| (&*good.table, good.room.min(limit)));
    match room(last, &table, limit) {
        Ok(()) => Ok(table),
        Err(reason) if !table.has_shadow() => Err(reason),
        Err(_) => {
            let limit_of_one = usize::try_from(limit).unwrap_or(usize::MAX);
            let why = CompileError::TooManyEntries { limit: limit_of_one };
            let table = table.without_shadow(why);
            room(last, &table, limit).map(|()| table)
        }
    }
}

/// While a table changes it holds the old entries and the new ones. One that
/// does not fit must not keep the others from changing.
fn room(last: &Table, table: &Table, limit: u32) -> Result<(), String> {
    let keys: BTreeSet<Key> = last.places().chain(table.places()).map(|(key, _)| key).collect();
    if keys.len() <= usize::try_from(limit).unwrap_or(usize::MAX) {
        return Ok(());
    }
    Err(match last.len() {
        0 => format!("it has {} entries, {limit} is the limit", keys.len()),
        _ => format!("old and new entries are {} together, {limit} is the limit", keys.len()),
    })
}
