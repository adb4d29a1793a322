//! `signet agent`: takes the node's lock, opens the kernel side, starts the
//! loops, serves, and ends when told to.
//!
//! Ending leaves everything that is pinned: the kernel goes on enforcing the
//! last policy, and records wait for the next agent.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use api::access::AccessError;
use api::export;
use api::flow::{NoRandomness, UuidKey};
use api::metrics::{self, FlowMetrics};
use api::observer::NodeObserver;
use api::server::{ServeError, Services, listener, serve_all, serve_tls};
use api::store::{self, FlowStore};
use datapath::{Datapath, MapError, OpenError, RecordReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::AgentConfig;
use crate::control::Control;
use crate::events;
use crate::flow::{Containers, FlowBuilder};
use crate::lock::{Lock, LockError};
use crate::metrics::NodeMetrics;
use crate::records::{Books, Records};
use crate::service::NodeSignet;
use crate::state::{Facts, NodeState};
use crate::tcp::Listening;

/// Bytes that one kept flow may take on average.
const FLOW_BYTES: usize = 1024;

/// Why an agent does not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A folder of the agent could not be made.
    #[error("cannot create `{}`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another agent runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The kernel side could not be opened.
    #[error("cannot enforce on this node")]
    Datapath(#[from] OpenError),
    /// The kernel's counters could not be read.
    #[error("cannot account for records")]
    Counters(#[from] MapError),
    /// Flows cannot be numbered without telling more than they should.
    #[error("cannot number flows")]
    Randomness(#[from] NoRandomness),
    /// Threads, signals or the runtime could not be had.
    #[error("cannot start the agent's loops")]
    Start(#[source] io::Error),
    /// The API could not be served.
    #[error("cannot serve the API")]
    Serve(#[from] ServeError),
    /// A file of the TCP listener cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The list of readers is refused.
    #[error("nobody can be let in by `{}`", path.display())]
    Access {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: AccessError,
    },
    /// A loop ended by itself: there is a fault in this program.
    #[error("the {0} loop ended by itself; the kernel goes on enforcing the last policy")]
    Ended(&'static str),
}

/// Runs the agent of a node until SIGTERM or SIGINT.
pub fn run(mut config: AgentConfig) -> Result<(), AgentError> {
    for path in [config.state_dir.clone(), config.endpoints_dir()] {
        create(&path)?;
    }
    let lock = Lock::take(&config.state_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(AgentError::Start)?;
    let datapath = Datapath::open(&config.datapath)?;
    // Maps that an earlier agent made keep their sizes.
    config.fit(*datapath.limits());
    let counters = datapath.counters()?;
    let state = Arc::new(NodeState::new(Facts {
        node: config.node.clone(),
        cluster: config.policy.cluster.clone(),
        kernel_release: kernel_release(),
        features: datapath.features().clone(),
        started: Instant::now(),
    }));
    tracing::info!(
        node = config.node,
        kernel = state.facts.kernel_release,
        taken_over = state.facts.features.taken_over,
        revision = datapath.revision(),
        "agent started"
    );
    state.note(events::started(api::time::now_ns()));
    let store = Arc::new(FlowStore::new(store::Limits {
        events: config.flow_buffer,
        bytes: config.flow_buffer.saturating_mul(FLOW_BYTES),
    }));
    let builder = FlowBuilder::new(&config.node, Containers::of(config.datapath.cgroup.clone()));
    let losses = config.state_dir.join("losses.json");
    let metrics = Arc::new(FlowMetrics::new(config.metrics.clone()));
    let uuids = UuidKey::generate()?;
    let books = Books { losses, metrics: Arc::clone(&metrics), uuids };
    let records = Records::new(Arc::clone(&state), Arc::clone(&store), builder, &counters, books);
    let mut control = Control::new(datapath, &config, Arc::clone(&state));
    // Before the API answers: who waits for the socket waits for enforcement.
    control.start();
    if let Some(killed) = lock.killed() {
        control.tell("restart", killed.to_string());
    }
    let agent = Agent { config, state, store, metrics, records, control };
    let result = runtime.block_on(agent.serve());
    tracing::info!("agent stopped, the kernel goes on enforcing");
    result
}

/// All parts of an agent, ready to run.
struct Agent {
    config: AgentConfig,
    state: Arc<NodeState>,
    store: Arc<FlowStore>,
    metrics: Arc<FlowMetrics>,
    records: Records,
    control: Control<Datapath>,
}

impl Agent {
    /// Serves until a signal, or until a loop ends.
    async fn serve(self) -> Result<(), AgentError> {
        let Self { config, state, store, metrics, mut records, mut control } = self;
        let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Start)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Start)?;
        let listener = listener(&config.listen)?;
        let numbers =
            NodeMetrics { state: Arc::clone(&state), store: Arc::clone(&store), flows: metrics };
        tokio::spawn(numbers.clone().sweep());
        if config.export != export::Settings::default() {
            tokio::spawn(exports(config.export.clone(), numbers.clone()));
        }
        if let Some(place) = &config.metrics_listen {
            let listening = metrics::serve::listen(place).await?;
            tokio::spawn(metrics::serve::serve(listening, move || numbers.render()));
        }
        let mut loops = Loops::default();
        let pins = config.datapath.pins.clone();
        loops.spawn("records", move |stop| records.run(|| RecordReader::open(&pins), stop))?;
        loops.spawn("control", move |stop| control.run(stop))?;

        let node = api::flow::node_name(&state.facts.cluster, &state.facts.node);
        let services = Shared { node, store, state };
        if let Some(settings) = config.tcp.clone() {
            tokio::spawn(tcp(Listening::open(settings).await?, services.clone()));
        }
        let services = services.services();
        let mut ended = None;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                name = loops.ended() => ended = Some(name),
            }
        };
        let served = serve_all(listener, services, stop).await;
        // A socket that nobody answers would look like an agent that hangs.
        let _ = fs::remove_file(&config.listen);
        loops.stop();
        served?;
        ended.map_or(Ok(()), |name| Err(AgentError::Ended(name)))
    }
}

/// What every listener serves.
#[derive(Clone)]
struct Shared {
    node: String,
    store: Arc<FlowStore>,
    state: Arc<NodeState>,
}

impl Shared {
    fn services(&self) -> Services<NodeObserver, NodeSignet> {
        let observer = NodeObserver::new(Arc::clone(&self.store), self.node.clone())
            .with_agent_events(Arc::clone(self.state.agent_events()))
            .with_peers(self.state.peers().clone());
        let signet = NodeSignet::new(Arc::clone(&self.state));
        Services { observer, signet, peers: self.state.peers().clone() }
    }
}

/// Serves on TCP, and tells in the log and in the agent's events what became of it.
async fn tcp(listening: Listening, shared: Shared) {
    let tell = |text: String| {
        tracing::warn!(text, "told");
        shared.state.note(events::other("tcp", text));
    };
    let serve =
        |listener, tls, access, stop| serve_tls(listener, tls, access, shared.services(), stop);
    listening.serve(serve, tell).await;
}

/// Hands flows on; the selection was checked with the other settings.
async fn exports(settings: export::Settings, numbers: NodeMetrics) {
    let facts = &numbers.state.facts;
    let origin = export::Origin {
        node: facts.node.clone(),
        cluster: facts.cluster.clone(),
        started_ns: api::time::now_ns(),
    };
    let node = api::flow::node_name(&facts.cluster, &facts.node);
    let observer = NodeObserver::new(Arc::clone(&numbers.store), node);
    if let Err(status) = export::run(observer, settings, origin, move || numbers.text()).await {
        tracing::error!(reason = status.message(), "flows are not exported");
    }
}

/// Threads that run until they are told to stop.
struct Loops {
    stop: Arc<AtomicBool>,
    ended: (mpsc::Sender<&'static str>, mpsc::Receiver<&'static str>),
    threads: Vec<thread::JoinHandle<()>>,
}

impl Default for Loops {
    fn default() -> Self {
        Self { stop: Arc::default(), ended: mpsc::channel(2), threads: vec![] }
    }
}

/// Tells that a loop ended, also when it ends by a panic.
struct Farewell(&'static str, mpsc::Sender<&'static str>);

impl Drop for Farewell {
    fn drop(&mut self) {
        // Nobody listens any more when all loops were told to stop.
        let _ = self.1.try_send(self.0);
    }
}

impl Loops {
    fn spawn(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> Result<(), AgentError> {
        let stop = Arc::clone(&self.stop);
        let farewell = Farewell(name, self.ended.0.clone());
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _farewell = farewell;
            body(&stop);
        });
        self.threads.push(thread.map_err(AgentError::Start)?);
        Ok(())
    }

    /// The first loop that ends.
    async fn ended(&mut self) -> &'static str {
        // `self` holds a sender, so the channel does not close.
        self.ended.1.recv().await.unwrap_or("unknown")
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // A loop that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

/// Makes a folder that only root may enter; one that is there keeps its mode.
fn create(path: &Path) -> Result<(), AgentError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| AgentError::Folder { path: path.to_owned(), source })
}

fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}
