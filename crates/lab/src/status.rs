//! What runs: a table for people, JSON for programs.

use std::fmt::Write;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::health::Health;
use crate::journal::{Container, Journal, Pod};
use crate::lab::Lab;

/// The state of one lab.
#[derive(Clone, Debug)]
pub struct Status<'a> {
    lab: &'a Lab,
    relay_answers: bool,
    /// `None`: nobody could be asked.
    health: Option<Health>,
}

impl<'a> Status<'a> {
    /// Looks at processes, and asks the relay what the nodes enforce.
    pub fn of(lab: &'a Lab) -> Self {
        let relay_answers = UnixStream::connect(lab.places.relay_socket()).is_ok();
        let health = relay_answers.then(|| Health::of(lab).ok()).flatten();
        Self { lab, relay_answers, health }
    }

    fn journal(&self) -> &'a Journal {
        &self.lab.journal
    }

    fn agent(&self, node: &str) -> &'static str {
        let daemons = &self.journal().daemons;
        let agent = daemons.iter().find(|daemon| daemon.node.as_deref() == Some(node));
        match agent {
            Some(agent) if agent.process.is_alive() => "alive",
            Some(_) => "dead",
            None => "not started",
        }
    }

    fn relay(&self) -> &'static str {
        if self.relay_answers { "answers" } else { "does not answer" }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let journal = self.journal();
        let container = |it: &Container| json!({"name": it.name, "id": it.id, "pid": it.process.map(|it| it.pid), "running": is_running(it)});
        let node = |name: &str| {
            let state = self.lab.places.state(name);
            let pins = self.lab.places.pins(name);
            json!({"stateDir": state, "pins": pins, "netns": self.lab.places.netns(name), "agent": self.agent(name)})
        };
        let nodes = journal.nodes.iter().map(|it| {
            let mut object = node(&it.name);
            object["name"] = json!(it.name);
            object["cluster"] = json!(it.cluster.as_ref().unwrap_or(&journal.cluster));
            object["addresses"] = json!(it.addresses);
            object["podCIDRs"] = json!(it.pod_cidrs);
            let agent =
                journal.daemons.iter().find(|daemon| daemon.node.as_ref() == Some(&it.name));
            object["agentPid"] = json!(agent.map(|daemon| daemon.process.pid));
            object
        });
        let pods = journal.pods.iter().map(|it| {
            json!({
                "cluster": it.cluster.as_ref().unwrap_or(&journal.cluster),
                "namespace": it.namespace,
                "name": it.name,
                "node": it.node,
                "addresses": it.addresses,
                "netns": self.lab.places.netns(&it.member()),
                "containers": it.containers.iter().map(container).collect::<Vec<_>>(),
            })
        });
        let external = journal.external.iter().map(|it| {
            json!({"name": it.name, "addresses": it.addresses, "container": container(&it.container)})
        });
        json!({
            "name": journal.name,
            "cluster": journal.cluster,
            "directory": journal.directory,
            "ready": journal.ready,
            "health": self.health.as_ref().map(Health::json),
            "relay": {"socket": self.lab.places.relay_socket(), "answers": self.relay_answers},
            "nodes": nodes.collect::<Vec<_>>(),
            "pods": pods.collect::<Vec<_>>(),
            "external": external.collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub fn table(&self) -> String {
        let journal = self.journal();
        let names = journal.all_clusters().map(|name| name.unwrap_or(&journal.cluster));
        let names: Vec<_> = names.collect();
        let clusters = if names.len() == 1 { "cluster" } else { "clusters" };
        let mut text = format!("Lab {} ({clusters} {})", journal.name, names.join(", "));
        match (&self.health, journal.ready) {
            (_, false) => text.push_str(": not whole; end it with `signet lab down`"),
            (None, true) => text.push_str(": its health is not known, the relay does not answer"),
            (Some(health), true) => text.push_str(&health.sentence()),
        }
        text.push_str("\n\n");
        let mut rows =
            vec![["NODE", "ADDRESSES", "POD RANGES", "PODS", "AGENT"].map(str::to_owned)];
        rows.extend(journal.nodes.iter().map(|node| {
            [
                node.name.clone(),
                joined(&node.addresses),
                joined(&node.pod_cidrs),
                journal.pods.iter().filter(|pod| pod.node == node.name).count().to_string(),
                self.agent(&node.name).to_owned(),
            ]
        }));
        aligned(&mut text, &rows);
        let mut rows = vec![["POD", "NODE", "ADDRESSES", "STATE"].map(str::to_owned)];
        rows.extend(
            journal
                .pods
                .iter()
                .map(|pod| [pod.full_name(), pod.node.clone(), joined(&pod.addresses), state(pod)]),
        );
        aligned(&mut text, &rows);
        let mut rows = vec![["OUTSIDE", "", "ADDRESSES", "STATE"].map(str::to_owned)];
        rows.extend(journal.external.iter().map(|host| {
            let state = if is_running(&host.container) { "running" } else { "stopped" };
            [host.name.clone(), String::new(), joined(&host.addresses), state.to_owned()]
        }));
        aligned(&mut text, &rows);
        if let Some(health) = self.health.as_ref().filter(|health| !health.policies.is_empty()) {
            let mut rows = vec![["POLICY", "PODS", "STATE"].map(str::to_owned)];
            rows.extend(health.policies.iter().map(|policy| {
                [policy.name.clone(), policy.pods.to_string(), policy.state.clone()]
            }));
            aligned(&mut text, &rows);
        }
        let socket = self.lab.places.relay_socket();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "Relay  unix:{} ({})", socket.display(), self.relay());
        text
    }
}

fn is_running(container: &Container) -> bool {
    container.process.is_some_and(|process| process.is_alive())
}

fn state(pod: &Pod) -> String {
    let running = pod.containers.iter().filter(|container| is_running(container)).count();
    match (running, pod.containers.len()) {
        (running, all) if running == all => "running".into(),
        (0, _) => "stopped".into(),
        (running, all) => format!("{running} of {all} containers run"),
    }
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// Writes rows under each other with columns as wide as their widest cell, and
/// an empty line after them.
pub fn aligned<R: AsRef<[String]>>(text: &mut String, rows: &[R]) {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        let row = row.as_ref();
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.as_ref().iter().zip(&widths) {
            let gap = if *width == 0 { 0 } else { width + 2 };
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:gap$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut text = String::new();
        aligned(&mut text, &[["a", "b"].map(str::to_owned), ["ccc", "d"].map(str::to_owned)]);
        assert_eq!(text, "a    b\nccc  d\n\n");
    }
}
