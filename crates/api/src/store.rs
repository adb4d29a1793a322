//! The last flows of a node, in memory.
//!
//! A ring of encoded events, bounded twice: by their number and by their bytes.
//! The oldest go first. One writer appends; any number of readers follow at
//! their own pace, each holding nothing but the number of the event it wants
//! next. A reader holds a slot's lock only while it copies a pointer, so it
//! cannot keep the writer waiting; one that is too slow finds its event gone and
//! is told how many it missed.
//!
//! Reads no clock: "lately" is measured on the flows' own times.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::Notify;

use crate::proto::flow::Flow;
use crate::proto::observer::GetFlowsResponse;
use crate::proto::observer::get_flows_response::ResponseTypes;
use crate::time::nanoseconds;

/// How much a store may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Number of events.
    pub events: usize,
    /// Sum of their encoded sizes. On top come less than 200 bytes an event.
    pub bytes: usize,
}

impl Default for Limits {
    /// Hubble's number of events; a flow takes about a kilobyte.
    fn default() -> Self {
        Self { events: 4095, bytes: 8 << 20 }
    }
}

/// An event as the ring keeps it.
#[derive(Clone, Debug)]
pub struct Stored {
    encoded: Bytes,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Whether it is a flow; what was lost passes every filter.
    pub is_flow: bool,
}

impl Stored {
    /// The event.
    pub fn decode(&self) -> GetFlowsResponse {
        // The ring encoded it itself, so it decodes.
        GetFlowsResponse::decode(self.encoded.clone()).unwrap_or_default()
    }
}

/// What a reader finds at a number.
#[derive(Debug)]
pub enum Read {
    /// The event.
    Event(Stored),
    /// Overwritten; the oldest that is left has this number.
    Gone {
        /// Where to go on.
        oldest: u64,
    },
    /// Not written yet.
    NotYet,
}

#[derive(Default)]
struct Slot {
    number: u64,
    event: Option<Stored>,
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
    slots: Box<[Mutex<Slot>]>,
    limits: Limits,
    /// Number of the oldest event that is left.
    oldest: AtomicU64,
    /// Number the next event will get.
    next: AtomicU64,
    bytes: AtomicUsize,
    seen: AtomicU64,
    /// Second in the upper half, flows of that second in the lower.
    rate: [AtomicU64; BUCKETS],
    namespaces: Mutex<Namespaces>,
    /// Serialises writers; no reader ever takes it.
    writer: Mutex<()>,
    written: Notify,
}

/// What a store holds now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Occupancy {
    /// Events in the ring.
    pub events: u64,
    /// Their encoded size.
    pub bytes: usize,
    /// Flows ever written.
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
        let limits = Limits { events: limits.events.max(1), ..limits };
        Self {
            slots: (0..limits.events).map(|_| Mutex::default()).collect(),
            limits,
            oldest: AtomicU64::new(0),
            next: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            seen: AtomicU64::new(0),
            rate: std::array::from_fn(|_| AtomicU64::new(0)),
            namespaces: Mutex::default(),
            writer: Mutex::default(),
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
        let encoded = Bytes::from(event.encode_to_vec());
        let time_ns = event.time.as_ref().map_or(0, nanoseconds);
        let flow = match &event.response_types {
            Some(ResponseTypes::Flow(flow)) => Some(flow),
            _ => None,
        };
        let length = encoded.len();
        let stored = Stored { encoded, time_ns, is_flow: flow.is_some() };
        let writing = lock(&self.writer);
        if let Some(flow) = flow {
            self.count(flow, time_ns);
        }
        if length > self.limits.bytes {
            return false;
        }
        self.make_room(length);
        let number = self.next.load(Ordering::Relaxed);
        *lock(self.slot(number)) = Slot { number, event: Some(stored) };
        self.bytes.fetch_add(length, Ordering::Relaxed);
        self.next.store(number + 1, Ordering::Release);
        drop(writing);
        self.written.notify_waiters();
        true
    }

    /// Drops the oldest events until one more of this length fits.
    fn make_room(&self, length: usize) {
        loop {
            let oldest = self.oldest.load(Ordering::Relaxed);
            let held = self.next.load(Ordering::Relaxed) - oldest;
            let fits = self.bytes.load(Ordering::Relaxed) + length <= self.limits.bytes;
            if held == 0 || (held < self.capacity() && fits) {
                return;
            }
            self.oldest.store(oldest + 1, Ordering::Release);
            let gone = lock(self.slot(oldest)).event.take();
            let freed = gone.map_or(0, |event| event.encoded.len());
            self.bytes.fetch_sub(freed, Ordering::Relaxed);
        }
    }

    fn slot(&self, number: u64) -> &Mutex<Slot> {
        &self.slots[(number % self.capacity()) as usize]
    }

    /// The event of this number.
    pub fn read(&self, number: u64) -> Read {
        if number >= self.next.load(Ordering::Acquire) {
            return Read::NotYet;
        }
        let found = {
            let slot = lock(self.slot(number));
            (slot.number == number).then(|| slot.event.clone()).flatten()
        };
        match found {
            Some(event) => Read::Event(event),
            None => Read::Gone { oldest: self.oldest.load(Ordering::Acquire).max(number + 1) },
        }
    }

    /// Number of the oldest event that is left.
    pub fn oldest(&self) -> u64 {
        self.oldest.load(Ordering::Acquire)
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
            events: self.next().saturating_sub(self.oldest()),
            bytes: self.bytes.load(Ordering::Relaxed),
            seen: self.seen.load(Ordering::Relaxed),
        }
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

    fn count(&self, flow: &Flow, time_ns: u64) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        let second = time_ns / 1_000_000_000;
        let bucket = &self.rate[(second % BUCKETS as u64) as usize];
        let value = bucket.load(Ordering::Relaxed);
        let value = if value >> 32 == second { value } else { second << 32 };
        bucket.store(value.saturating_add(1), Ordering::Relaxed);
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
