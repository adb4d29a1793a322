//! The last flows of a node, in memory.
//!
//! An ordered set of encoded events, bounded twice: by their number and by their
//! bytes. What goes when there is no room is the oldest of whoever has the most in
//! it ([`lanes`]): a flood displaces itself, not its neighbours' drops.
//!
//! One writer appends; any number of readers follow at their own pace, each holding
//! nothing but numbers. No reader ever makes the writer wait: the set is lock-free.
//! A reader that is too slow finds its event gone and is told how many it missed.
//!
//! Reads no clock: "lately" is measured on the flows' own times.

mod lanes;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;
use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::Notify;

use crate::access;
use crate::proto::flow::Flow;
use crate::proto::observer::GetFlowsResponse;
use crate::proto::observer::get_flows_response::ResponseTypes;
use crate::time::nanoseconds;
use lanes::{Lane, Lanes};

/// How much a store may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Number of events.
    pub events: usize,
    /// Sum of their encoded sizes. On top come less than [`OVERHEAD`] an event.
    pub bytes: usize,
}

/// Most bytes that an event takes beside its encoded form: its place in the set,
/// in the order of its source, and in the allocator. `tests/memory.rs` measures it.
pub const OVERHEAD: usize = 320;

impl Default for Limits {
    /// Hubble's number of events; a flow takes about a kilobyte.
    fn default() -> Self {
        Self { events: 4095, bytes: 8 << 20 }
    }
}

/// An event as the store keeps it.
#[derive(Clone, Debug)]
pub struct Stored {
    encoded: Bytes,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Whether it is a flow; what was lost passes every filter.
    pub is_flow: bool,
    /// How many flows of the same owners came before it, if they are counted.
    pub(crate) ordinal: Option<u64>,
}

impl Stored {
    /// The event.
    pub fn decode(&self) -> GetFlowsResponse {
        // The store encoded it itself, so it decodes.
        GetFlowsResponse::decode(self.encoded.clone()).unwrap_or_default()
    }
}

/// Seconds over which the rate of flows is measured.
const RATE_WINDOW: u64 = 60;
/// More buckets than seconds, so that the writer never reuses one that counts.
const BUCKETS: usize = 64;
/// How long a namespace counts as seen.
const NAMESPACE_AGE_NS: u64 = 3600 * 1_000_000_000;
/// Namespaces remembered; a cluster has fewer, and a flow cannot invent any.
const NAMESPACES: usize = 10_000;

/// Namespaces with the time of their last flow, by cluster.
type Namespaces = BTreeMap<String, BTreeMap<String, u64>>;

/// The last flows of a node.
pub struct FlowStore {
    events: SkipMap<u64, Stored>,
    limits: Limits,
    /// Number the next event will get.
    next: AtomicU64,
    /// Time of the last event that did not lie behind.
    latest_ns: AtomicU64,
    /// Number of the last event before which the clock had been set back; 0: none.
    turned: AtomicU64,
    held: AtomicU64,
    bytes: AtomicUsize,
    seen: AtomicU64,
    /// Events that readers were too slow for, each as often as one missed it.
    missed: AtomicU64,
    /// Second in the upper half, flows of that second in the lower.
    rate: [AtomicU64; BUCKETS],
    namespaces: Mutex<Namespaces>,
    /// Serialises writers; no reader ever takes it.
    writer: Mutex<Writer>,
    node_labels: Mutex<Arc<[String]>>,
    written: Notify,
}

/// How far a flow may lie behind others that were written before it: repetitions
/// are told a while after they happened. What lies further behind was written after
/// the clock had been set back.
pub const DISORDER_NS: u64 = 2_000_000_000;

/// What writers know.
#[derive(Debug, Default)]
struct Writer {
    lanes: Lanes,
    /// Flows so far by their owners.
    ordinals: BTreeMap<String, u64>,
}

impl Writer {
    /// How many flows of its owners were before this one. Namespaces are as few as
    /// [`NAMESPACES`]; should there be more pairs of them, the rest is not counted.
    fn ordinal(&mut self, flow: &Flow) -> Option<u64> {
        let owners = owners_in_one(flow)?;
        if let Some(next) = self.ordinals.get_mut(&*owners) {
            *next += 1;
            return Some(*next - 1);
        }
        if self.ordinals.len() >= NAMESPACES {
            return None;
        }
        self.ordinals.insert(owners.into_owned(), 1);
        Some(0)
    }
}

/// The owners of a flow as one name; a namespace has no slash in its own.
pub(crate) fn owners_in_one(flow: &Flow) -> Option<Cow<'_, str>> {
    match access::owners(flow) {
        [None, None] => None,
        [Some(one), None] | [None, Some(one)] => Some(Cow::Borrowed(one)),
        [Some(one), Some(other)] if one == other => Some(Cow::Borrowed(one)),
        [Some(one), Some(other)] => {
            Some(Cow::Owned(format!("{}/{}", one.min(other), one.max(other))))
        }
    }
}

/// What a store holds now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Occupancy {
    /// Events in the store.
    pub events: u64,
    /// Their encoded size.
    pub bytes: usize,
    /// Flows ever written, each as often as it happened.
    pub seen: u64,
}

/// A poisoned lock means that a thread died between two assignments of plain
/// values, each of which is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FlowStore {
    /// An empty store; a limit of zero events counts as one.
    pub fn new(limits: Limits) -> Self {
        Self {
            events: SkipMap::new(),
            limits: Limits { events: limits.events.max(1), ..limits },
            next: AtomicU64::new(0),
            latest_ns: AtomicU64::new(0),
            turned: AtomicU64::new(0),
            held: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            seen: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            rate: std::array::from_fn(|_| AtomicU64::new(0)),
            namespaces: Mutex::default(),
            writer: Mutex::default(),
            node_labels: Mutex::default(),
            written: Notify::new(),
        }
    }

    /// Most events it may hold.
    pub fn capacity(&self) -> u64 {
        self.limits.events as u64
    }

    /// Appends an event. False: it alone is larger than the whole store may be,
    /// and was not kept.
    pub fn push(&self, event: &GetFlowsResponse) -> bool {
        self.push_times(event, 1)
    }

    /// Appends an event that stands for `times` of its kind.
    pub fn push_times(&self, event: &GetFlowsResponse, times: u64) -> bool {
        let kept = self.append(event, times);
        self.written.notify_waiters();
        kept
    }

    fn append(&self, event: &GetFlowsResponse, times: u64) -> bool {
        let encoded = Bytes::from(event.encode_to_vec());
        let time_ns = event.time.as_ref().map_or(0, nanoseconds);
        let flow = match &event.response_types {
            Some(ResponseTypes::Flow(flow)) => Some(flow),
            _ => None,
        };
        let length = encoded.len();
        let mut writer = lock(&self.writer);
        if let Some(flow) = flow {
            self.count(flow, time_ns, times);
        }
        let ordinal = flow.and_then(|flow| writer.ordinal(flow));
        let stored = Stored { encoded, time_ns, is_flow: flow.is_some(), ordinal };
        if length > self.limits.bytes {
            return false;
        }
        self.make_room(&mut writer.lanes, length);
        let number = self.next.load(Ordering::Relaxed);
        self.note_order(number, time_ns);
        writer.lanes.push(Lane::of(flow), number, length);
        self.events.insert(number, stored);
        self.held.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(length, Ordering::Relaxed);
        self.next.store(number + 1, Ordering::Release);
        true
    }

    /// For the writer only.
    fn note_order(&self, number: u64, time_ns: u64) {
        let latest_ns = self.latest_ns.load(Ordering::Relaxed);
        let turned = time_ns.saturating_add(DISORDER_NS) < latest_ns;
        if turned {
            self.turned.store(number, Ordering::Release);
        }
        if turned || time_ns > latest_ns {
            self.latest_ns.store(time_ns, Ordering::Relaxed);
        }
    }

    /// Whether all that it holds lies in the order in which it was written, but for
    /// [`DISORDER_NS`].
    pub fn is_in_order(&self) -> bool {
        let turned = self.turned.load(Ordering::Acquire);
        turned == 0 || self.events.front().is_none_or(|oldest| *oldest.key() >= turned)
    }

    /// Drops the oldest events of the largest lane until one more of this length
    /// fits.
    fn make_room(&self, lanes: &mut Lanes, length: usize) {
        let is_full = || {
            self.held.load(Ordering::Relaxed) >= self.capacity()
                || self.bytes.load(Ordering::Relaxed) + length > self.limits.bytes
        };
        while is_full() {
            let Some((number, freed)) = lanes.pop_largest() else { return };
            self.events.remove(&number);
            self.held.fetch_sub(1, Ordering::Relaxed);
            self.bytes.fetch_sub(freed, Ordering::Relaxed);
        }
    }

    /// The event of this number, if it is still there.
    pub fn get(&self, number: u64) -> Option<Stored> {
        Some(self.events.get(&number)?.value().clone())
    }

    /// The oldest event from this number on that is there.
    pub fn at_or_after(&self, number: u64) -> Option<(u64, Stored)> {
        found(self.events.lower_bound(Bound::Included(&number)))
    }

    /// The newest event below this number that is there.
    pub fn before(&self, number: u64) -> Option<(u64, Stored)> {
        found(self.events.upper_bound(Bound::Excluded(&number)))
    }

    /// Number the next event will get.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Waits until the event of this number is written.
    pub async fn wait(&self, number: u64) {
        loop {
            let written = self.written.notified();
            tokio::pin!(written);
            // Registered before the look: what is written after it wakes us.
            written.as_mut().enable();
            if number < self.next() {
                return;
            }
            written.await;
        }
    }

    /// What it holds.
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            events: self.held.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            seen: self.seen.load(Ordering::Relaxed),
        }
    }

    /// What the node's flows carry from now on as its labels: `key=value`, sorted. They are
    /// the same for all of them, so none is kept with them.
    pub fn set_node_labels(&self, labels: &Arc<[String]>) {
        let mut known = lock(&self.node_labels);
        if !Arc::ptr_eq(&known, labels) {
            *known = Arc::clone(labels);
        }
    }

    /// The event with what is the same for all.
    pub(crate) fn whole(&self, event: &Stored) -> GetFlowsResponse {
        let mut event = event.decode();
        if let Some(ResponseTypes::Flow(flow)) = &mut event.response_types
            && flow.node_labels.is_empty()
        {
            flow.node_labels = lock(&self.node_labels).to_vec();
        }
        event
    }

    /// A reader missed so many events.
    pub(crate) fn miss(&self, events: u64) {
        self.missed.fetch_add(events, Ordering::Relaxed);
    }

    /// Events that readers were too slow for, each as often as one missed it.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Flows a second over the minute before `now_ns`.
    pub fn rate(&self, now_ns: u64) -> f64 {
        let now = now_ns / 1_000_000_000;
        let recent =
            self.rate.iter().map(|bucket| bucket.load(Ordering::Relaxed)).filter(|bucket| {
                let second = bucket >> 32;
                second <= now && now - second < RATE_WINDOW
            });
        let flows: u64 = recent.map(|bucket| bucket & u64::from(u32::MAX)).sum();
        flows as f64 / RATE_WINDOW as f64
    }

    /// Cluster and name of the namespaces seen in the hour before `now_ns`, sorted.
    pub fn namespaces(&self, now_ns: u64) -> Vec<(String, String)> {
        let clusters = lock(&self.namespaces).clone();
        let recent = clusters.into_iter().flat_map(|(cluster, names)| {
            let recent = names
                .into_iter()
                .filter(|(_, seen)| now_ns.saturating_sub(*seen) <= NAMESPACE_AGE_NS);
            recent.map(move |(name, _)| (cluster.clone(), name)).collect::<Vec<_>>()
        });
        recent.collect()
    }

    fn count(&self, flow: &Flow, time_ns: u64, times: u64) {
        self.seen.fetch_add(times, Ordering::Relaxed);
        let second = time_ns / 1_000_000_000;
        let bucket = &self.rate[(second % BUCKETS as u64) as usize];
        let value = bucket.load(Ordering::Relaxed);
        let counted = if value >> 32 == second { value & u64::from(u32::MAX) } else { 0 };
        let counted = counted.saturating_add(times).min(u32::MAX.into());
        bucket.store(second << 32 | counted, Ordering::Relaxed);
        // A reader that copies the list must not hold up the writer; the next
        // flow of the namespace will be noted.
        let Ok(mut namespaces) = self.namespaces.try_lock() else {
            return;
        };
        for end in [&flow.source, &flow.destination].into_iter().flatten() {
            if !end.namespace.is_empty() {
                note(&mut namespaces, &end.cluster_name, &end.namespace, time_ns);
            }
        }
    }
}

fn found(entry: Option<Entry<'_, u64, Stored>>) -> Option<(u64, Stored)> {
    let entry = entry?;
    Some((*entry.key(), entry.value().clone()))
}

fn note(namespaces: &mut Namespaces, cluster: &str, name: &str, time_ns: u64) {
    if let Some(seen) = namespaces.get_mut(cluster).and_then(|names| names.get_mut(name)) {
        *seen = time_ns;
        return;
    }
    if namespaces.values().map(BTreeMap::len).sum::<usize>() >= NAMESPACES {
        namespaces.values_mut().for_each(|names| {
            names.retain(|_, seen| time_ns.saturating_sub(*seen) <= NAMESPACE_AGE_NS);
        });
    }
    namespaces.entry(cluster.to_owned()).or_default().insert(name.to_owned(), time_ns);
}
