//! Flows on their way to where they are kept: a file, or an OpenTelemetry
//! collector.
//!
//! An exporter is a reader of the store like any other: it never holds up the
//! writer, and what it misses because its destination is slow is exported too, as
//! a count of what was lost. Which flows and fields leave is decided here, before
//! anything is encoded.

mod aggregate;
mod file;
mod otlp;
mod send;

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use prost_types::Timestamp;
use tokio::time::Instant;
use tonic::{Request, Status};

pub use aggregate::Aggregator;
pub use file::{FileSink, Rotation};
pub use otlp::{Origin, logs, metrics};
pub use send::{Collector, CollectorError, SendError, TlsFiles};

use crate::filter::Filters;
use crate::mask::{Mask, MaskError};
use crate::metrics::Text;
use crate::observer::{Answers, NodeObserver};
use crate::proto::flow::FlowFilter;
use crate::proto::observer::observer_server::Observer;
use crate::proto::observer::{GetFlowsRequest, GetFlowsResponse};

/// The field that says how many flows one stands for.
const NUMBER: &str = "aggregate";
/// Most answers in one batch.
const BATCH: usize = 512;
/// How long the first of a batch waits for others.
const LINGER: Duration = Duration::from_millis(500);
/// First and longest pause after a destination failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Which flows leave, and what of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// A flow must match one of these, if there are any.
    pub allow: Vec<FlowFilter>,
    /// And none of these.
    pub deny: Vec<FlowFilter>,
    /// Fields that leave; empty: all.
    pub fields: Vec<String>,
    /// Flows equal in these fields leave as one, with their number; empty: no.
    pub aggregate: Vec<String>,
    /// How long such flows are collected.
    pub interval: Duration,
}

impl Selection {
    /// Whether it means anything; if not, why.
    pub fn check(&self) -> Result<(), String> {
        Filters::new(&self.allow, &self.deny).map_err(|error| error.to_string())?;
        self.mask().map_err(|error| error.to_string())?;
        Mask::exact(&self.aggregate).map_err(|error| error.to_string())?;
        match (self.aggregate.is_empty(), self.interval.is_zero()) {
            (false, true) => Err("flows that become one need an interval".to_owned()),
            _ => Ok(()),
        }
    }

    /// The fields that leave, and no others. The number of flows that leave as one is
    /// asked for by asking that they do.
    fn mask(&self) -> Result<Option<Mask>, MaskError> {
        let number = (!self.fields.is_empty() && !self.aggregate.is_empty()).then_some(NUMBER);
        let fields = self.fields.iter().cloned().chain(number.map(str::to_owned));
        Mask::exact(&fields.collect::<Vec<_>>())
    }
}

/// Where flows go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// A file, and how it is rotated.
    pub file: Option<(PathBuf, Rotation)>,
    /// A collector, and how often it gets metrics.
    pub collector: Option<(Collector, Duration)>,
    /// What goes there.
    pub selection: Selection,
}

/// Batches of what a selection lets through: of what the store holds, then of what comes.
pub struct Batches {
    answers: Answers<GetFlowsResponse>,
    aggregator: Option<(Aggregator, Duration)>,
    /// Applied last: what flows are counted by need not be among what leaves.
    mask: Option<Mask>,
}

impl Batches {
    /// Starts to read; an error names what the selection has wrong.
    pub async fn start(observer: &NodeObserver, selection: &Selection) -> Result<Self, Status> {
        let refused = |error: MaskError| Status::unknown(error.to_string());
        let mask = selection.mask().map_err(refused)?;
        let Selection { allow, deny, fields: _, aggregate, interval } = selection.clone();
        let key = Mask::exact(&aggregate).map_err(refused)?;
        let request = GetFlowsRequest {
            follow: true,
            // What is there already, such as what was lost while no agent ran.
            since: Some(Timestamp::default()),
            whitelist: allow,
            blacklist: deny,
            ..GetFlowsRequest::default()
        };
        let answers = observer.get_flows(Request::new(request)).await?.into_inner();
        let aggregator = key.map(|key| (Aggregator::new(key), interval));
        Ok(Self { answers, aggregator, mask })
    }

    /// The next batch, never empty; `None` when there will be no more.
    pub async fn next(&mut self) -> Option<Vec<GetFlowsResponse>> {
        loop {
            let mut batch = vec![self.answers.next().await?.ok()?];
            let linger = self.aggregator.as_ref().map_or(LINGER, |(_, interval)| *interval);
            let deadline = Instant::now() + linger;
            while batch.len() < BATCH {
                match tokio::time::timeout_at(deadline, self.answers.next()).await {
                    Ok(Some(Ok(answer))) => batch.push(answer),
                    Ok(Some(Err(_)) | None) | Err(_) => break,
                }
                if let Some((aggregator, _)) = &mut self.aggregator {
                    // Only what is told one by one stays in the batch.
                    batch = batch.into_iter().filter_map(|answer| aggregator.add(answer)).collect();
                    if aggregator.is_full() {
                        break;
                    }
                }
            }
            if let Some((aggregator, _)) = &mut self.aggregator {
                batch = batch.into_iter().filter_map(|answer| aggregator.add(answer)).collect();
                batch.extend(aggregator.drain());
            }
            if !batch.is_empty() {
                return Some(match &self.mask {
                    Some(mask) => batch.into_iter().map(|answer| mask.answer(answer)).collect(),
                    None => batch,
                });
            }
        }
    }
}

/// Exports as the settings say, for as long as it is polled.
pub async fn run(
    observer: NodeObserver,
    settings: Settings,
    origin: Origin,
    numbers: impl Fn() -> Text + Send + Sync + 'static,
) -> Result<(), Status> {
    let Settings { file, collector, selection } = settings;
    let to_file = async {
        match &file {
            Some((path, rotation)) => {
                let batches = Batches::start(&observer, &selection).await?;
                write(batches, FileSink::new(path.clone(), *rotation)).await;
                Ok(())
            }
            None => Ok(()),
        }
    };
    let to_collector = async {
        match &collector {
            Some((collector, interval)) => {
                let batches = Batches::start(&observer, &selection).await?;

                tokio::join!(
                    send_logs(batches, collector, &origin),
                    send_metrics(collector, &origin, *interval, &numbers),
                );
                Ok(())
            }
            None => Ok(()),
        }
    };
    tokio::try_join!(to_file, to_collector).map(|_| ())
}

/// Writes batches; one that cannot be written is tried again, and what comes
/// meanwhile waits in the store or is counted lost.
async fn write(mut batches: Batches, mut sink: FileSink) {
    while let Some(batch) = batches.next().await {
        let mut pause = RETRY.0;
        while let Err(error) = sink.write(&batch) {
            tracing::warn!(%error, file = %sink.path().display(), "flows are not written");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }
}

async fn send_logs(mut batches: Batches, collector: &Collector, origin: &Origin) {
    while let Some(batch) = batches.next().await {
        let request = logs(&batch, origin);
        let mut pause = RETRY.0;
        while let Err(error) = collector.send_logs(request.clone()).await {
            tracing::warn!(%error, "flows are not taken by the collector");
            if !error.is_temporary() {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }
}

/// Metrics are cumulative: one that does not arrive is in the next.
async fn send_metrics(
    collector: &Collector,
    origin: &Origin,
    interval: Duration,
    numbers: &(impl Fn() -> Text + Sync),
) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        let request = metrics(&numbers(), origin, crate::time::now_ns());
        if let Err(error) = collector.send_metrics(request).await {
            tracing::warn!(%error, "metrics are not taken by the collector");
        }
    }
}
