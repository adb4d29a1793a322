//! A steady load: the probes of a file again and again, by real programs in the
//! pods where they start, each compared with what the file expects.
//!
//! One shell in each place where probes start, so that a connection costs one
//! small program, not a whole runtime.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::container;
use crate::error::Error;
use crate::lab::Lab;
use crate::launch::Launch;
use crate::netns::Netns;
use crate::probe::end::End;
use crate::probe::file::{self, Probe, Protocol};
use crate::probe::{self, entity, service};

/// How often the load says how it goes.
const TELL: Duration = Duration::from_secs(5);

/// For how long, and how much.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Load {
    /// Seconds.
    pub seconds: u64,
    /// Connections a second, of all together.
    pub rate: u32,
    /// Whether to try also what should be denied.
    pub denied: bool,
}

/// How it went.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Attempts.
    pub tried: u64,
    /// Of those, allowed and denied.
    pub allowed: u64,
    /// Attempts that came out otherwise than expected, by probe.
    pub different: BTreeMap<String, u64>,
}

impl Report {
    /// Whether everything was as expected, and there was something.
    pub fn is_as_expected(&self) -> bool {
        self.different.is_empty() && self.tried > 0
    }

    /// For people.
    pub fn text(&self) -> String {
        let denied = self.tried - self.allowed;
        let mut text = String::new();
        for (id, count) in &self.different {
            text.push_str(&format!("{id}: {count} not as expected\n"));
        }
        let good = self.tried - self.different.values().sum::<u64>();
        text.push_str(&format!(
            "{} connections: {} allowed, {denied} denied; {good} of {} as expected\n",
            self.tried, self.allowed, self.tried
        ));
        text
    }
}

/// One attempt that has come to its end.
struct Attempt {
    id: String,
    success: bool,
}

/// Where probes start, and what is tried from there.
struct Client {
    member: String,
    container: Option<String>,
    script: String,
}

/// Runs the load; `say` hears how it goes.
pub fn run(lab: &Lab, path: &Path, load: Load, say: &mut dyn FnMut(&str)) -> Result<Report, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    let probes = chosen(lab, &text, load);
    let expected: BTreeMap<_, _> =
        probes.iter().map(|probe| (probe.id.clone(), is_allowed(probe))).collect();
    let clients = clients(lab, &probes, load)?;
    if clients.is_empty() {
        let detail = "it holds no TCP probe that is expected to be allowed".into();
        return Err(Error::Malformed { what: format!("`{}`", path.display()), detail });
    }
    let (sender, attempts) = mpsc::channel();
    thread::scope(|scope| {
        let workers: Vec<_> = clients
            .iter()
            .map(|client| {
                let sender = sender.clone();
                scope.spawn(move || attempt(lab, client, load, &sender))
            })
            .collect();
        drop(sender);
        let report = gather(&attempts, &expected, say);
        let ended = workers.into_iter().map(|worker| {
            worker.join().unwrap_or_else(|_| Err(Error::Unknown("a client panicked".into())))
        });
        ended.collect::<Result<(), _>>().map(|()| report)
    })
}

/// Probes that a shell can repeat: TCP, with a verdict.
fn chosen(lab: &Lab, text: &str, load: Load) -> Vec<Probe> {
    let mut lines = file::read(text);
    probe::choose_pods(lab, &mut lines);
    let probes = lines.into_iter().filter_map(|line| line.probe.ok());
    let probes = probes.filter(|probe| probe.protocol == Protocol::Tcp && probe.expected.is_some());
    let probes = probes.filter(|probe| !probe.to.starts_with(service::PREFIX));
    probes.filter(|probe| load.denied || is_allowed(probe)).collect()
}

fn is_allowed(probe: &Probe) -> bool {
    probe.expected.as_ref().is_some_and(|expected| expected.verdict == "allowed")
}

/// One client for each place where probes start, with a share of the rate.
fn clients(lab: &Lab, probes: &[Probe], load: Load) -> Result<Vec<Client>, Error> {
    let mut steps: BTreeMap<String, (Option<String>, Vec<String>)> = BTreeMap::new();
    for probe in probes {
        let failed =
            |detail: String| Error::Malformed { what: format!("probe `{}`", probe.id), detail };
        let named = |end: &str, other: &str| entity::named(end, other, probe.family, lab);
        let from = named(&probe.from, &probe.to).map_err(failed)?;
        let to_text = named(&probe.to, &probe.from).map_err(failed)?;
        let from = End::of(&from, &lab.journal).map_err(failed)?;
        let to = End::of(&to_text, &lab.journal).map_err(failed)?;
        let address = to.address(&to_text, probe.family).map_err(failed)?;
        let Some(port) = &probe.port else { continue };
        let port = to.port(port, &lab.places).map_err(failed)?;
        let container = match &from {
            End::Pod(pod) => Some(pod.container(None)?.id.clone()),
            End::External(host) => Some(host.container.id.clone()),
            End::Node(_) => None,
        };
        // Ids come from a file: what is not plain is left out of the shell's words.
        let id: String =
            probe.id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let step = format!("nc -nzw 1 {address} {port} 2>/dev/null && echo + {id} || echo - {id}");
        steps.entry(from.member()).or_insert((container, vec![])).1.push(step);
    }
    let count = u32::try_from(steps.len()).unwrap_or(u32::MAX).max(1);
    let pause = f64::from(count) / f64::from(load.rate.max(1));
    let client = |(member, (container, steps)): (String, (Option<String>, Vec<String>))| {
        let steps: Vec<_> = steps.iter().map(|step| format!("{step}; sleep {pause:.3}")).collect();
        Client { member, container, script: format!("while :; do {}; done", steps.join("; ")) }
    };
    Ok(steps.into_iter().map(client).collect())
}

/// Lets one client work for as long as the load lasts.
fn attempt(lab: &Lab, client: &Client, load: Load, to: &Sender<Attempt>) -> Result<(), Error> {
    let seconds = load.seconds.to_string();
    let own = ["timeout", &seconds, "sh", "-c", &client.script].map(str::to_owned);
    let netns = Netns::at(lab.places.netns(&client.member));
    let group = lab.groups()?.probes();
    let launch = match &client.container {
        Some(id) => Launch {
            what: "send traffic from a pod",
            cgroup: &group,
            netns: None,
            command: container::exec(&lab.places, id, false, &own),
        },
        None => Launch {
            what: "send traffic from a node",
            cgroup: &group,
            netns: Some(&netns),
            command: own.to_vec(),
        },
    };
    let mut child = launch.lines(Stdio::null())?;
    let Some(output) = child.stdout.take() else { return Ok(()) };
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let Some((sign, id)) = line.split_once(' ') else { continue };
        // Nobody listens any more only when the run is over.
        let _ = to.send(Attempt { id: id.to_owned(), success: sign == "+" });
    }
    child.wait().map(|_| ()).map_err(Error::file("wait for", "a client"))
}

fn gather(
    attempts: &Receiver<Attempt>,
    expected: &BTreeMap<String, bool>,
    say: &mut dyn FnMut(&str),
) -> Report {
    let mut report = Report::default();
    let start = Instant::now();
    let mut next = TELL;
    loop {
        match attempts.recv_timeout(TELL) {
            Ok(Attempt { id, success }) => {
                report.tried += 1;
                report.allowed += u64::from(success);
                if expected.get(&id) != Some(&success) {
                    *report.different.entry(id).or_default() += 1;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return report,
        }
        if start.elapsed() >= next {
            let different: u64 = report.different.values().sum();
            let seconds = next.as_secs();
            say(&format!("{seconds:4} s  {} tried, {different} not as expected", report.tried));
            next += TELL;
        }
    }
}
