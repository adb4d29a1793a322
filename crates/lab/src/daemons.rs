//! The lab's daemons: an agent on each node, and the relay that merges them.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::journal::{Daemon, Node, replace};
use crate::launch::Launch;
use crate::netns::Netns;
use crate::process::Process;
use crate::progress::check_interrupt;
use crate::site::Site;

/// An agent loads and verifies its programs before it answers.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// A daemon that was started and has not answered yet.
#[derive(Debug)]
pub struct Starting {
    what: String,
    child: Child,
    socket: PathBuf,
    /// How it goes into the journal.
    pub entry: Daemon,
}

/// A daemon to start.
struct Plan<'a> {
    what: String,
    node: Option<&'a Node>,
    command: Vec<String>,
    log: PathBuf,
    socket: PathBuf,
}

/// Starts the agent of a node, in the node's network namespace.
pub fn start_agent(site: &Site, node: &Node) -> Result<Starting, Error> {
    let name = &node.name;
    let places = &site.places;
    let arguments = [
        ("--node", name.clone()),
        ("--cluster", node.cluster.as_ref().unwrap_or(&site.cluster).clone()),
        ("--pins", text(&places.pins(name))),
        ("--state-dir", text(&places.state(name))),
        ("--cluster-dir", text(&places.objects(node.cluster.as_deref()))),
        ("--cgroup", text(&site.groups.node(name))),
    ];
    let mut command = vec![text(&site.signet), "agent".into()];
    command.extend(arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
    command.extend(site.agent.iter().cloned());
    let plan = Plan {
        what: format!("the agent of `{name}`"),
        node: Some(node),
        command,
        log: places.state(name).join("agent.log"),
        socket: places.agent_socket(name),
    };
    start(site, plan)
}

/// Starts the relay. It needs no network: agents are asked over their sockets.
pub fn start_relay(site: &Site) -> Result<Starting, Error> {
    tell_relay(site)?;
    let (socket, nodes) = (site.places.relay_socket(), site.places.relay_nodes());
    let mut command = vec![text(&site.signet), "relay".into()];
    command.extend(["--listen".to_owned(), text(&socket)]);
    command.extend(["--nodes-file".to_owned(), text(&nodes)]);
    let log = site.places.run().join("relay.log");
    start(site, Plan { what: "the relay".into(), node: None, command, log, socket })
}

/// Tells the relay, which may be running, whom to ask.
pub fn tell_relay(site: &Site) -> Result<(), Error> {
    let line =
        |node: &Node| format!("{}={}\n", node.name, text(&site.places.agent_socket(&node.name)));
    replace(&site.places.relay_nodes(), &site.nodes.iter().map(line).collect::<String>())
}

fn start(site: &Site, plan: Plan<'_>) -> Result<Starting, Error> {
    let Plan { what, node, command, log, socket } = plan;
    // The last one may still be on its way out: whoever accepts is the new one.
    let _ = std::fs::remove_file(&socket);
    let netns = node.map(|node| Netns::at(site.places.netns(&node.name)));
    let cgroup = site.groups.daemons();
    let launch = Launch { what: &what, cgroup: &cgroup, netns: netns.as_ref(), command };
    let child = launch.daemon(&log)?;
    let pid = i32::try_from(child.id()).unwrap_or(0);
    let gone = || Error::Program {
        program: what.clone(),
        what: "start it".into(),
        detail: format!("it ended at once; see `{}`", log.display()),
    };
    let process = Process::of(pid).ok_or_else(gone)?;
    let entry = Daemon { node: node.map(|node| node.name.clone()), process, log };
    Ok(Starting { what, child, socket, entry })
}

impl Starting {
    /// Waits until it accepts connections.
    pub fn wait(mut self) -> Result<(), Error> {
        let deadline = Instant::now() + READY_LIMIT;
        while UnixStream::connect(&self.socket).is_err() {
            check_interrupt()?;
            let ended = self.child.try_wait().map_err(Error::file("wait for", &self.what))?;
            if let Some(status) = ended {
                let words = std::fs::read_to_string(&self.entry.log).unwrap_or_default();
                let last = words.lines().rev().take(5).collect::<Vec<_>>();
                let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(Error::Program {
                    program: self.what,
                    what: "start it".into(),
                    detail: format!("{status}\n{last}\n(`{}`)", self.entry.log.display()),
                });
            }
            if Instant::now() > deadline {
                let seconds = READY_LIMIT.as_secs();
                return Err(Error::NotReady { what: self.what, seconds, log: self.entry.log });
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
