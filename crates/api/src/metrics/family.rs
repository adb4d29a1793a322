//! Metrics with their series, and the forms they are shown in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Label names with values.
pub type Labels = Vec<(&'static str, String)>;

/// The metrics there are.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Family {
    DnsQueries,
    DnsResponseTypes,
    DnsResponses,
    Drop,
    FlowsProcessed,
    FlowsToWorld,
    HttpRequestDuration,
    HttpRequests,
    Icmp,
    LostEvents,
    PolicyVerdicts,
    PortDistribution,
    ShadowDiffers,
    TcpFlags,
}

impl Family {
    pub(super) const ALL: [Self; 14] = [
        Self::DnsQueries,
        Self::DnsResponseTypes,
        Self::DnsResponses,
        Self::Drop,
        Self::FlowsProcessed,
        Self::FlowsToWorld,
        Self::HttpRequestDuration,
        Self::HttpRequests,
        Self::Icmp,
        Self::LostEvents,
        Self::PolicyVerdicts,
        Self::PortDistribution,
        Self::ShadowDiffers,
        Self::TcpFlags,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DnsQueries => "hubble_dns_queries_total",
            Self::DnsResponseTypes => "hubble_dns_response_types_total",
            Self::DnsResponses => "hubble_dns_responses_total",
            Self::Drop => "hubble_drop_total",
            Self::FlowsProcessed => "hubble_flows_processed_total",
            Self::FlowsToWorld => "hubble_flows_to_world_total",
            Self::HttpRequestDuration => "hubble_http_request_duration_seconds",
            Self::HttpRequests => "hubble_http_requests_total",
            Self::Icmp => "hubble_icmp_total",
            Self::LostEvents => "hubble_lost_events_total",
            Self::PolicyVerdicts => "hubble_policy_verdicts_total",
            Self::PortDistribution => "hubble_port_distribution_total",
            Self::ShadowDiffers => "signet_shadow_differs_total",
            Self::TcpFlags => "hubble_tcp_flags_total",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::DnsQueries => "DNS questions asked.",
            Self::DnsResponseTypes => "Records in DNS answers by type.",
            Self::DnsResponses => "DNS answers.",
            Self::Drop => "Flows dropped, by reason.",
            Self::FlowsProcessed => "Flows seen.",
            Self::FlowsToWorld => "Flows to addresses outside the cluster.",
            Self::HttpRequestDuration => "Seconds from HTTP request to answer.",
            Self::HttpRequests => "HTTP requests that were answered.",
            Self::Icmp => "ICMP messages by type.",
            Self::LostEvents => "Events that were lost before they could be counted elsewhere.",
            Self::PolicyVerdicts => "Decisions of policies.",
            Self::PortDistribution => "Flows by destination port.",
            Self::ShadowDiffers => {
                "Decisions that would be others if policies in shadow mode were in force."
            }
            Self::TcpFlags => "TCP segments with these flags.",
        }
    }
}

/// Upper bounds of the duration histogram, in seconds: Prometheus' own.
pub(crate) const BOUNDS: [f64; 11] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, Debug, Default)]
struct Histogram {
    /// Not cumulative; the last is beyond every bound.
    buckets: [u64; BOUNDS.len() + 1],
    sum: f64,
}

/// `namespace/name` of a pod.
pub(super) type PodName = (String, String);

/// One series, and the pods that its labels are about.
#[derive(Debug, Default)]
struct Series<T> {
    value: T,
    pods: Vec<PodName>,
}

/// All series of a metric.
type SeriesOf<T> = BTreeMap<Labels, Series<T>>;

/// All metrics with all their series.
#[derive(Debug)]
pub(super) struct Families {
    most: usize,
    counters: BTreeMap<Family, SeriesOf<u64>>,
    histograms: BTreeMap<Family, SeriesOf<Histogram>>,
    /// Pods that series are about and that are not there, with the time since when.
    departed: BTreeMap<PodName, Instant>,
    /// Flows counted under `other`.
    overflown: BTreeMap<Family, u64>,
}

/// The series to count in: this one, or `other` when there are too many.
fn bounded<'a, T: Default>(
    series: &'a mut SeriesOf<T>,
    labels: Labels,
    about: &[PodName],
    most: usize,
) -> (&'a mut T, bool) {
    let fits = series.len() < most || series.contains_key(&labels);
    let (labels, about) = match fits {
        true => (labels, about),
        false => {
            (labels.into_iter().map(|(name, _)| (name, "other".to_owned())).collect(), &[][..])
        }
    };
    let series = series
        .entry(labels)
        .or_insert_with(|| Series { value: T::default(), pods: about.to_vec() });
    (&mut series.value, !fits)
}

/// How long series outlive the pods that they are about, as Hubble's do.
const AFTERLIFE: Duration = Duration::from_secs(60);

impl Families {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            counters: BTreeMap::new(),
            histograms: BTreeMap::new(),
            departed: BTreeMap::new(),
            overflown: BTreeMap::new(),
        }
    }

    /// Takes away series of pods that are gone for long enough.
    pub(super) fn sweep(&mut self, now: Instant, is_there: impl Fn(&PodName) -> bool) {
        let counters = self.counters.values().flat_map(|all| all.values().map(|one| &one.pods));
        let histograms = self.histograms.values().flat_map(|all| all.values().map(|one| &one.pods));
        let about: BTreeSet<&PodName> = counters.chain(histograms).flatten().collect();
        let mut departed = BTreeMap::new();
        for pod in about.into_iter().filter(|pod| !is_there(pod)) {
            let since = self.departed.get(pod).copied().unwrap_or(now);
            departed.insert(pod.clone(), since);
        }
        let over = |since: &Instant| now.duration_since(*since) >= AFTERLIFE;
        let stays = |pods: &[PodName]| !pods.iter().any(|pod| departed.get(pod).is_some_and(over));
        self.counters.values_mut().for_each(|all| all.retain(|_, one| stays(&one.pods)));
        self.histograms.values_mut().for_each(|all| all.retain(|_, one| stays(&one.pods)));
        departed.retain(|_, since| !over(since));
        self.departed = departed;
    }

    /// Sets a counter that somebody else counts.
    pub(super) fn set(&mut self, family: Family, labels: Labels, value: u64) {
        let series = self.counters.entry(family).or_default();
        *bounded(series, labels, &[], self.most).0 = value;
    }

    /// Adds to a counter.
    pub(super) fn add(&mut self, family: Family, labels: Labels, about: &[PodName], amount: u64) {
        let series = self.counters.entry(family).or_default();
        let (value, overflown) = bounded(series, labels, about, self.most);
        *value = value.saturating_add(amount);
        if overflown {
            *self.overflown.entry(family).or_default() += 1;
        }
    }

    /// Adds to a histogram.
    pub(super) fn observe(
        &mut self,
        family: Family,
        labels: Labels,
        about: &[PodName],
        seconds: f64,
    ) {
        let series = self.histograms.entry(family).or_default();
        let (histogram, overflown) = bounded(series, labels, about, self.most);
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        histogram.buckets[bucket] += 1;
        histogram.sum += seconds;
        if overflown {
            *self.overflown.entry(family).or_default() += 1;
        }
    }

    pub(super) fn render(&self, text: &mut Text) {
        for (family, series) in &self.counters {
            text.counter(family.name(), family.help());
            for (labels, Series { value, .. }) in series {
                text.sample(labels, *value as f64);
            }
        }
        for (family, series) in &self.histograms {
            text.head(family.name(), family.help(), Shape::Histogram);
            for (labels, Series { value: histogram, .. }) in series {
                text.add(Sample {
                    labels: labels.clone(),
                    value: histogram.sum,
                    buckets: histogram.buckets.to_vec(),
                });
            }
        }
        text.counter(
            "signet_metrics_overflow_total",
            "Flows counted under `other` because a metric has too many series.",
        );
        for (family, flows) in &self.overflown {
            text.sample(&[("metric", family.name().to_owned())], *flows as f64);
        }
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Numbers of observations below bounds.
    Histogram,
}

/// One series of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Names and values of its labels.
    pub labels: Labels,
    /// What it stands at; of a histogram the sum.
    pub value: f64,
    /// Of a histogram: observations in each bucket, the last beyond every bound.
    pub buckets: Vec<u64>,
}

/// A metric with its series.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// As it is asked for.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// What it is.
    pub shape: Shape,
    /// Its series.
    pub samples: Vec<Sample>,
}

/// Metrics, ready to be shown in one form or another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text(Vec<Metric>);

impl Text {
    /// Begins a counter.
    pub fn counter(&mut self, name: &'static str, help: &'static str) {
        self.head(name, help, Shape::Counter);
    }

    /// Begins a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) {
        self.head(name, help, Shape::Gauge);
    }

    fn head(&mut self, name: &'static str, help: &'static str, shape: Shape) {
        self.0.push(Metric { name, help, shape, samples: vec![] });
    }

    /// One series of what was begun last.
    pub fn sample(&mut self, labels: &[(&'static str, String)], value: f64) {
        self.add(Sample { labels: labels.to_vec(), value, buckets: vec![] });
    }

    fn add(&mut self, sample: Sample) {
        if let Some(metric) = self.0.last_mut() {
            metric.samples.push(sample);
        }
    }

    /// The metrics.
    pub fn metrics(&self) -> &[Metric] {
        &self.0
    }

    /// In Prometheus' exposition form (version 0.0.4).
    pub fn into_string(self) -> String {
        let mut text = String::new();
        for Metric { name, help, shape, samples } in &self.0 {
            let kind = match shape {
                Shape::Counter => "counter",
                Shape::Gauge => "gauge",
                Shape::Histogram => "histogram",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for sample in samples {
                write_sample(&mut text, name, *shape, sample);
            }
        }
        text
    }
}

fn write_sample(text: &mut String, name: &str, shape: Shape, sample: &Sample) {
    let Sample { labels, value, buckets } = sample;
    let own = braces(labels, None);
    if shape != Shape::Histogram {
        let _ = writeln!(text, "{name}{own} {value}");
        return;
    }
    let mut total = 0;
    for (at, number) in buckets.iter().enumerate() {
        total += number;
        let bound = BOUNDS.get(at).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
        let _ = writeln!(text, "{name}_bucket{} {total}", braces(labels, Some(("le", bound))));
    }
    let _ = writeln!(text, "{name}_sum{own} {value}\n{name}_count{own} {total}");
}

fn braces(labels: &[(&'static str, String)], more: Option<(&str, String)>) -> String {
    let labels = labels.iter().map(|(name, value)| (*name, value)).collect::<Vec<_>>();
    let more = more.as_ref().map(|(name, value)| (*name, value));
    let all: Vec<String> = labels
        .into_iter()
        .chain(more)
        .map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}
