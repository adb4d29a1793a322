//! Starts pods, or a node's agent, anew while the lab is up.

use crate::apply::Change;
use crate::error::Error;
use crate::journal::Pod;
use crate::lab::Lab;
use crate::listening;
use crate::up::Options;

/// Restarts what a name means: a pod, each pod of a workload in turn, or the agent
/// of a node. With `node`, pods go there.
pub fn run(
    lab: &mut Lab,
    what: &str,
    node: Option<&str>,
    options: &Options,
    say: &mut dyn FnMut(Change),
) -> Result<(), Error> {
    if lab.journal.nodes.iter().any(|it| it.name == what) {
        if node.is_some() {
            return Err(Error::Unknown(format!("`{what}` is a node: it cannot move")));
        }
        lab.restart_agent(what, options)?;
        say(Change::new(format!("Node/-/{what}"), "agent restarted"));
        return lab.settle(options);
    }
    for pod in pods_called(lab, what)? {
        let to = node.unwrap_or(&pod.node);
        if pod.host_network && to != pod.node {
            return Err(Error::Unknown(format!("`{}` belongs to its node", pod.full_name())));
        }
        lab.move_pod(&pod.full_name(), to, options)?;
        // The next one only goes when this one serves.
        listening::wait(&lab.places, &lab.journal)?;
        let outcome = match to == pod.node {
            true => "restarted".to_owned(),
            false => format!("moved from {} to {to}", pod.node),
        };
        say(Change::new(pod.object_name(), outcome));
    }
    lab.settle(options)
}

fn pods_called(lab: &Lab, what: &str) -> Result<Vec<Pod>, Error> {
    let all = &lab.journal.pods;
    let found: Vec<_> = all.iter().filter(|pod| pod.full_name() == what).cloned().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let found: Vec<_> =
        all.iter().filter(|pod| pod.workload().as_deref() == Some(what)).cloned().collect();
    if found.is_empty() { Err(lab.unknown_pod(what)) } else { Ok(found) }
}
