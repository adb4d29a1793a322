//! A lab for one test: up when the test starts, gone when it ends, whatever its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use lab::netns::Netns;
use lab::{Lab, Options, Process};
use serde_json::Value;

use crate::host;
use crate::signet::{self, Answer, word};

/// The example that people start with.
pub const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tiny");

/// The bank of the documents.
pub const BANK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/bank");

/// Longer than anything here takes, also on a machine that is busy.
const LONG: Duration = Duration::from_secs(60);

/// Waits until something holds; the pauses only keep the machine free.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    eventually_within(LONG, what, &mut holds);
}

/// The same for what takes longer.
#[track_caller]
pub fn eventually_within(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while !holds() {
        assert!(Instant::now() < end, "not within {time:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A name that no other run of the tests uses.
pub fn name(test: &str) -> String {
    format!("e2e-{test}-{}", std::process::id())
}

/// How labs of tests are made.
pub fn options() -> Options {
    Options { signet: signet::PROGRAM.into(), confirm: true, quiet: true }
}

/// Manifests of the example, for a lab of another name.
pub fn tiny(name: &str) -> tempfile::TempDir {
    copy(Path::new(TINY), "tiny", name)
}

/// Manifests of the lab `from`, for a lab of another name.
fn copy(manifests: &Path, from: &str, name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    copy_into(directory.path(), manifests, from, name);
    directory
}

/// Copies a lab's manifests into a folder, and the lab gets another name.
pub fn copy_into(folder: &Path, manifests: &Path, from: &str, name: &str) {
    let paths = fs::read_dir(manifests).unwrap().map(|entry| entry.unwrap().path());
    for path in paths {
        if path.is_dir() {
            let below = folder.join(path.file_name().unwrap());
            fs::create_dir(&below).unwrap();
            copy_into(&below, &path, from, name);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replacen(&format!("\n  name: {from}\n"), &format!("\n  name: {name}\n"), 1);
        fs::write(folder.join(path.file_name().unwrap()), text).unwrap();
    }
}

/// A lab and its manifests.
pub struct Scene {
    /// The manifests.
    pub directory: tempfile::TempDir,
    /// The lab.
    pub lab: Lab,
}

impl Scene {
    /// The example, with these manifests beside it.
    pub fn tiny(test: &str, more: &str) -> Self {
        let directory = tiny(&name(test));
        if !more.is_empty() {
            fs::write(directory.path().join("more.yaml"), more).unwrap();
        }
        Self::up(directory)
    }

    /// The bank.
    pub fn bank(test: &str) -> Self {
        Self::like(Path::new(BANK), "bank", test)
    }

    /// The lab `from` that these manifests describe.
    pub fn like(manifests: &Path, from: &str, test: &str) -> Self {
        Self::up(copy(manifests, from, &name(test)))
    }

    /// These manifests only.
    pub fn of(test: &str, manifests: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let object = "apiVersion: signet.dev/v1alpha1\nkind: Lab\nmetadata:\n  name: ";
        fs::write(directory.path().join("lab.yaml"), format!("{object}{}\n", name(test))).unwrap();
        fs::write(directory.path().join("pods.yaml"), manifests).unwrap();
        Self::up(directory)
    }

    /// These files only, a Lab with a name of the test's own among them.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self::up(directory)
    }

    /// What a folder of manifests describes.
    pub fn up(directory: tempfile::TempDir) -> Self {
        match Lab::up(directory.path(), &options()) {
            Ok(lab) => Self { directory, lab },
            Err(error) => panic!("{}", error.chain()),
        }
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        self.lab.places.name().as_str()
    }

    /// Runs a command that asks the lab's relay.
    pub fn ask(&self, words: &[&str]) -> Answer {
        let relay = self.lab.places.relay_socket();
        signet::run(&[words, &["--server", word(&relay)]].concat())
    }

    /// What `signet observe` with these flags prints as JSON.
    #[track_caller]
    pub fn observe(&self, flags: &[&str]) -> Vec<Value> {
        signet::lines(&self.ask(&[&["observe", "-o", "json"], flags].concat()).good())
    }

    /// All flows there are.
    #[track_caller]
    pub fn flows(&self) -> Vec<Value> {
        let answers = self.observe(&["--all"]);
        answers
            .into_iter()
            .map(|mut answer| answer["flow"].take())
            .filter(Value::is_object)
            .collect()
    }

    /// A list that a command prints as JSON.
    #[track_caller]
    pub fn list(&self, words: &[&str], key: &str) -> Vec<Value> {
        let text = self.ask(&[words, &["-o", "json"]].concat()).good();
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer[key].as_array().unwrap_or_else(|| panic!("no {key} in {text}")).clone()
    }

    /// What `signet status` says of a node, once all answer: on a busy machine one that
    /// has just started may take longer than people are kept waiting.
    #[track_caller]
    pub fn status(&self, node: &str) -> Value {
        let ask = || self.ask(&["status", "-o", "json"]);
        let end = Instant::now() + LONG;
        let mut answer = ask();
        while answer.status != Some(0) && Instant::now() < end {
            answer = ask();
        }
        let answer: Value = serde_json::from_str(&answer.good()).unwrap();
        let mut nodes = answer["nodes"].as_array().unwrap().iter();
        nodes.find(|it| it["node"] == node).unwrap_or_else(|| panic!("no {node}")).clone()
    }

    /// The process of a node's agent.
    pub fn agent(&self, node: &str) -> Process {
        let daemons = &self.lab.journal.daemons;
        daemons.iter().find(|daemon| daemon.node.as_deref() == Some(node)).unwrap().process
    }

    /// Ends every agent as a crash would, and waits until they are dead.
    pub fn kill_agents(&self) {
        let nodes = self.lab.journal.nodes.iter();
        let agents: Vec<_> = nodes.map(|node| self.agent(&node.name)).collect();
        agents.iter().for_each(Process::kill);
        eventually("the agents are dead", || agents.iter().all(|agent| !agent.is_alive()));
    }

    /// Starts the agent of every node.
    pub fn start_agents(&mut self) {
        let nodes = self.lab.journal.nodes.clone();
        for node in nodes {
            let started = self.lab.restart_agent(&node.name, &options());
            started.unwrap_or_else(|error| panic!("{}", error.chain()));
        }
    }

    /// Address of a member: a pod as `namespace.name`, a node, an external host.
    pub fn address(&self, member: &str, family: u8) -> std::net::IpAddr {
        let journal = &self.lab.journal;
        let pods = journal.pods.iter().map(|pod| (pod.member(), &pod.addresses));
        let nodes = journal.nodes.iter().map(|node| (node.name.clone(), &node.addresses));
        let hosts = journal.external.iter().map(|host| (host.name.clone(), &host.addresses));
        let mut all = pods.chain(nodes).chain(hosts);
        let (_, addresses) = all.find(|(name, _)| name == member).unwrap();
        *addresses.iter().find(|address| address.is_ipv4() == (family == 4)).unwrap()
    }

    /// The network namespace of a member.
    pub fn netns(&self, member: &str) -> Netns {
        Netns::at(self.lab.places.netns(member))
    }

    /// Does something in the network namespace of a member.
    pub fn inside<T: Send>(&self, member: &str, act: impl FnOnce() -> T + Send) -> T {
        self.netns(member).inside(act).unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    /// What the agents have printed, for a test that fails.
    fn logs(&self) -> String {
        let log = |path: &Path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(20)..].join("\n")
        };
        let paths: Vec<PathBuf> =
            self.lab.journal.daemons.iter().map(|daemon| daemon.log.clone()).collect();
        paths.iter().map(|path| format!("== {}\n{}\n", path.display(), log(path))).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let failing = thread::panicking();
        if failing {
            eprintln!("{}", self.logs());
        }
        let gone = self.lab.clone().down();
        if !failing {
            gone.unwrap_or_else(|error| panic!("{}", error.chain()));
            assert!(host::remains(self.name()).is_empty(), "{:#?}", host::remains(self.name()));
        }
    }
}
