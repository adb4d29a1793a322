//! The node's numbers for Prometheus: Hubble's counters of flows, and ours of the
//! kernel, the rings, the memory of flows and the policy in force.
//!
//! Reads what the loops publish; keeps nothing of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::metrics::{FlowMetrics, Text};
use api::store::FlowStore;
use datapath::{FaultKind, Fill, ServiceCounters};
use model::{DropReason, PodName};

use crate::control::LOOK_EVERY;
use crate::ledger::Totals;
use crate::state::NodeState;

/// How often series of pods that are gone are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// What is told of one node.
#[derive(Clone)]
pub struct NodeMetrics {
    /// Where the loops publish.
    pub state: Arc<NodeState>,
    /// The memory of flows.
    pub store: Arc<FlowStore>,
    /// Counters of flows.
    pub flows: Arc<FlowMetrics>,
}

impl NodeMetrics {
    /// All of it, ready to be shown.
    pub fn text(&self) -> Text {
        let mut text = Text::default();
        self.flows.missed(self.store.missed());
        self.flows.render(&mut text);
        self.kernel(&mut text);
        self.memory(&mut text);
        self.policy(&mut text);
        self.health(&mut text);
        text
    }

    /// Takes away what is about pods that are gone, for as long as it is polled.
    pub async fn sweep(self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let control = self.state.control();
            let Some(plan) = &control.newest else { continue };
            let is_there = |namespace: &str, name: &str| {
                let pod = PodName { namespace: namespace.into(), name: name.into() };
                plan.snapshot.pods.get(&pod).is_some()
                    || plan.endpoints.iter().any(|endpoint| endpoint.record.pod == pod)
            };
            self.flows.sweep(Instant::now(), is_there);
        }
    }

    /// All of it, as Prometheus reads it.
    pub fn render(&self) -> String {
        self.text().into_string()
    }

    /// What the kernel counted, whether or not anybody heard of it.
    fn kernel(&self, text: &mut Text) {
        let records = self.state.records();
        let name = "signet_kernel_records_total";
        text.counter(name, "Records the kernel made of its decisions, by what became of them.");
        for (ring, totals) in [("traces", records.traces), ("drops", records.drops)] {
            let Totals { attempted: _, delivered, lost } = totals;
            for (outcome, value) in [("delivered", delivered), ("lost", lost)] {
                let labels = [("ring", ring.to_owned()), ("outcome", outcome.to_owned())];
                text.sample(&labels, value as f64);
            }
        }
        let name = "signet_dropped_packets_total";
        text.counter(name, "Packets the kernel dropped, by reason.");
        for (code, packets) in self.state.drops() {
            let labels = [("reason", DropReason(code).text())];
            text.sample(&labels, packets as f64);
        }
        let sweeps = self.state.sweeps();
        let name = "signet_kernel_sweeps_total";
        text.counter(name, "Sweeps of connections by the kernel itself, while no agent did it.");
        text.sample(&[], sweeps.runs as f64);
        let name = "signet_kernel_sweeps_freed_total";
        text.counter(name, "Connections that they freed.");
        text.sample(&[], sweeps.freed as f64);
        let name = "signet_kernel_records_by_process_total";
        text.counter(name, "Records by what is known of their process: `known`, or why not.");
        for (unknown, records) in self.state.attributed() {
            let labels = [("process", unknown.unwrap_or("known").to_owned())];
            text.sample(&labels, records as f64);
        }
        let name = "signet_service_attempts_total";
        text.counter(name, "Attempts to reach services, by what became of them.");
        let ServiceCounters { translated, no_backend, no_room } = self.state.services();
        let outcomes =
            [("translated", translated), ("no_backend", no_backend), ("no_room", no_room)];
        for (outcome, value) in outcomes {
            text.sample(&[("outcome", outcome.to_owned())], value as f64);
        }
        let name = "signet_suppressed_drop_records";
        text.gauge(name, "Drops of pods here of which no record tells: beyond their quota.");
        text.sample(&[], self.state.suppressed() as f64);
        let name = "signet_undecodable_records_total";
        text.counter(name, "Records that this agent could not read.");
        text.sample(&[], records.undecodable as f64);
    }

    /// The flows that can be asked for.
    fn memory(&self, text: &mut Text) {
        let occupancy = self.store.occupancy();
        let numbers = [
            ("signet_flow_buffer_events", "Events in memory.", occupancy.events as f64),
            ("signet_flow_buffer_bytes", "Bytes of the events in memory.", occupancy.bytes as f64),
            (
                "signet_flow_buffer_capacity_events",
                "Most events in memory.",
                self.store.capacity() as f64,
            ),
        ];
        for (name, help, value) in numbers {
            text.gauge(name, help);
            text.sample(&[], value);
        }
        let name = "signet_flows_total";
        text.counter(name, "Flows made from records since the agent started.");
        text.sample(&[], occupancy.seen as f64);
    }

    /// What is in force.
    fn policy(&self, text: &mut Text) {
        let control = self.state.control();
        let name = "signet_policy_revision";
        text.gauge(name, "Revision packets are judged by.");
        text.sample(&[], control.enforced.revision().into());
        let name = "signet_policy_pending";
        text.gauge(name, "1 while the newest policy is not in force.");
        text.sample(&[], f64::from(u8::from(control.pending.is_some())));
        let name = "signet_policy_setbacks";
        text.gauge(name, "Subjects here whose policy cannot be enforced: see signet status.");
        text.sample(&[], control.setbacks.len() as f64);
        let name = "signet_endpoints";
        text.gauge(name, "Endpoints of this node; those that are not ready drop everything.");
        let endpoints = control.newest.as_ref().map_or(&[][..], |plan| &plan.endpoints);
        let is_ready = |id: u32| control.enforced.has_endpoint(id);
        let ready = endpoints.iter().filter(|endpoint| is_ready(endpoint.id)).count();
        for (state, number) in [("ready", ready), ("not-ready", endpoints.len() - ready)] {
            text.sample(&[("state", state.to_owned())], number as f64);
        }
        let name = "signet_uptime_seconds";
        text.gauge(name, "Seconds since the agent started.");
        text.sample(&[], self.state.facts.started.elapsed().as_secs_f64());
    }
}

impl NodeMetrics {
    /// What is amiss, and how much is used of what is limited.
    fn health(&self, text: &mut Text) {
        let health = self.state.health();
        let name = "signet_faults_total";
        text.counter(name, "Things in the kernel that somebody else changed, by kind.");
        for kind in [FaultKind::Pin, FaultKind::Program, FaultKind::Content, FaultKind::Control] {
            let found = health.found.get(&kind).copied().unwrap_or(0);
            text.sample(&[("kind", kind.as_str().to_owned())], found as f64);
        }
        text.gauge("signet_faults_open", "Those of them that could not be put right.");
        text.sample(&[], health.open.len() as f64);
        text.counter(
            "signet_refusals_total",
            "Changes that were refused, whole or for one subject.",
        );
        text.sample(&[], health.refusals as f64);
        text.counter("signet_errors_total", "Everything else that kept enforcement behind.");
        text.sample(&[], health.errors as f64);
        let name = "signet_clock_steps_total";
        text.counter(name, "Times that the wall clock was set, forward or back.");
        text.sample(&[], health.clock_steps as f64);
        text.gauge("signet_limit_used", "How much is used of what is limited.");
        for Fill { what, used, .. } in &health.fill {
            text.sample(&[("what", (*what).to_owned())], *used as f64);
        }
        text.gauge("signet_limit", "The limits.");
        for Fill { what, limit, .. } in &health.fill {
            text.sample(&[("what", (*what).to_owned())], *limit as f64);
        }
        text.gauge("signet_kernel_memory_bytes", "Memory of this node's maps in the kernel.");
        text.sample(&[], health.kernel_bytes as f64);
        let name = "signet_source_age_seconds";
        text.gauge(name, "Since the cluster's state was read last.");
        if let Some(age) = health.source_age() {
            text.sample(&[], age.as_secs_f64());
        }
        let name = "signet_source_age_bound_seconds";
        text.gauge(name, "It is not older than this while it can be read.");
        text.sample(&[], LOOK_EVERY.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use api::metrics::Settings;
    use api::store::Limits;
    use datapath::{AttachKind, Features};

    use super::*;
    use crate::state::Facts;

    /// The dashboard that is delivered beside the program.
    const DASHBOARD: &str = include_str!("../../../deploy/grafana/signet-flows.json");

    fn node() -> NodeMetrics {
        let state = Arc::new(NodeState::new(Facts {
            node: "node-1".into(),
            cluster: "c".into(),
            kernel_release: "6.18".into(),
            features: Features { attach: AttachKind::Tcx, hooks: vec![], taken_over: false },
            started: Instant::now(),
        }));
        let store = Arc::new(FlowStore::new(Limits::default()));
        NodeMetrics { state, store, flows: Arc::new(FlowMetrics::new(Settings::default())) }
    }

    #[test]
    fn a_node_tells_its_numbers_under_our_own_names() {
        let text = node().render();
        for line in [
            r#"signet_kernel_records_total{ring="drops",outcome="lost"} 0"#,
            "signet_flow_buffer_capacity_events 4095",
            "signet_policy_revision 0",
            r#"signet_endpoints{state="not-ready"} 0"#,
            r#"signet_faults_total{kind="content"} 0"#,
            "signet_clock_steps_total 0",
            "signet_source_age_bound_seconds 5",
        ] {
            assert!(text.lines().any(|have| have == line), "{text}");
        }
    }

    /// A panel over a name that nobody serves stays empty for ever.
    #[test]
    fn the_dashboard_shows_only_what_is_served() {
        let text = node().render();
        let ours = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let mut served: BTreeSet<&str> = ours.collect();
        api::metrics::names().for_each(|name| {
            served.insert(name);
        });
        let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            let expression = panel["targets"][0]["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let is_metric =
                |word: &&str| word.starts_with("signet_") || word.starts_with("hubble_");
            let names: Vec<&str> = words.filter(is_metric).collect();
            assert!(!names.is_empty(), "{expression}");
            for name in names {
                let parts = ["_bucket", "_sum", "_count"];
                let whole = parts.iter().find_map(|part| name.strip_suffix(part));
                assert!(served.contains(name) || served.contains(whole.unwrap_or(name)), "{name}");
            }
        }
    }
}
