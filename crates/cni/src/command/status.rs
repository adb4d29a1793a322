//! STATUS: whether an ADD now would give a pod that can talk.

use super::{Done, Node, needs_1_1};
use crate::failure::{Code, Failure};
use crate::presence;
use crate::programs::ProgramsError;

/// Fails when there are no programs to attach, or nobody to install pods.
pub(super) fn status(node: &Node<'_>) -> Result<Done, Failure> {
    needs_1_1(node.config, "STATUS")?;
    if !presence::has_pins(&node.config.pins) {
        let missing = ProgramsError::NotInstalled { pins: node.config.pins.clone() };
        return Err(Failure::caused_by(Code::Unavailable, &missing));
    }
    let runs = presence::agent_runs(&node.config.state_dir)
        .map_err(|error| Failure::caused_by(Code::Io, &error))?;
    if !runs {
        return Err(Failure::new(
            Code::Unavailable,
            format!(
                "no agent runs on node `{}`: new pods would stay denied; start `signet agent`",
                node.config.node
            ),
        ));
    }
    Ok(Done::default())
}
