//! Flows as Prometheus counters, under Hubble's names.
//!
//! What is counted, and with which labels, is configured as for Hubble
//! ([`Plugin`]); nothing is counted by default. The number of series of each
//! metric is bounded: beyond [`Settings::series`] flows are counted under the
//! label value `other`, so that sums stay right and memory stays bounded whoever
//! invents names, addresses or ports. Series about a pod go a minute after the pod.
//!
//! Knows nothing of HTTP: [`FlowMetrics::render`] gives the text, [`serve`] serves
//! any such text.

mod context;
mod count;
mod family;
mod plugin;
pub mod serve;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use model::{Direction, Verdict};

use crate::proto::flow::{Flow, LostEvent, LostEventSource};
pub(crate) use family::BOUNDS;
use family::{Families, Family};
pub use family::{Metric, Sample, Shape, Text};
pub use plugin::{Plugin, PluginError, plugins};

/// Names of all that can be counted of flows, whether it is on or not.
pub fn names() -> impl Iterator<Item = &'static str> {
    Family::ALL.into_iter().map(Family::name)
}

/// What is counted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The metrics that are on.
    pub plugins: Vec<Plugin>,
    /// Most series of one metric.
    pub series: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { plugins: vec![], series: 2000 }
    }
}

/// Counters of a node's flows.
pub struct FlowMetrics {
    plugins: Vec<Plugin>,
    families: Mutex<Families>,
}

impl FlowMetrics {
    /// Counters that stand at zero.
    pub fn new(settings: Settings) -> Self {
        let Settings { plugins, series } = settings;
        Self { plugins, families: Mutex::new(Families::new(series)) }
    }

    fn families(&self) -> MutexGuard<'_, Families> {
        // Whoever died while holding it had added whole numbers only.
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a flow that happened so many times.
    pub fn flow(&self, flow: &Flow, times: u64) {
        if self.plugins.is_empty() {
            return;
        }
        let mut families = self.families();
        for plugin in &self.plugins {
            count::flow(&mut families, plugin, flow, times);
        }
    }

    /// Counts decisions that would be others in the shadow; this is always on.
    pub fn shadow_differs(&self, direction: Direction, verdict: Verdict, times: u64) {
        let verdict = match verdict {
            Verdict::Forwarded => "allowed",
            Verdict::Dropped => "denied",
        };
        let labels = vec![("direction", direction.to_string()), ("verdict", verdict.to_owned())];
        self.families().add(Family::ShadowDiffers, labels, &[], times);
    }

    /// Counts what was lost; this is always on.
    pub fn lost(&self, lost: &LostEvent) {
        let source = lost.source().as_str_name().to_ascii_lowercase();
        let labels = vec![("source", source)];
        self.families().add(Family::LostEvents, labels, &[], lost.num_events_lost);
    }

    /// How many events readers of the flows' memory missed so far; this is always on.
    pub fn missed(&self, events: u64) {
        let source = LostEventSource::HubbleRingBuffer.as_str_name().to_ascii_lowercase();
        self.families().set(Family::LostEvents, vec![("source", source)], events);
    }

    /// Takes away the series of pods that are gone for a minute. `is_there` is asked with
    /// namespace and name.
    pub fn sweep(&self, now: Instant, is_there: impl Fn(&str, &str) -> bool) {
        self.families().sweep(now, |(namespace, name)| is_there(namespace, name));
    }

    /// All of them, ready to be shown.
    pub fn render(&self, text: &mut Text) {
        self.families().render(text);
    }
}
