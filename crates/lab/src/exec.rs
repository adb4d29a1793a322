//! Runs a command in a pod, as if typed there.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::container;
use crate::error::Error;
use crate::lab::Lab;

/// What to run, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exec {
    /// `namespace/name`.
    pub pod: String,
    /// Container; the first when not given.
    pub container: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
}

/// Becomes the command: input, output, signals and exit status are its own.
/// Returns only if that fails.
///
/// The runtime puts the process into the container's cgroups before it starts,
/// so flows of it are attributed like those of the container's own processes.
pub fn exec(lab: &Lab, exec: &Exec) -> Result<std::convert::Infallible, Error> {
    let pod = lab.pod(&exec.pod)?;
    let container = pod.container(exec.container.as_deref())?;
    if !container.process.is_some_and(|process| process.is_alive()) {
        return Err(Error::Unknown(format!(
            "container `{}` of pod `{}` does not run; see its log in `{}`",
            container.name,
            exec.pod,
            lab.places.logs().display()
        )));
    }
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let command = container::exec(&lab.places, &container.id, terminal, &exec.command);
    let mut words = command.iter();
    let program = words.next().map_or(container::RUNTIME, String::as_str);
    Err(Error::file("run", program)(Command::new(program).args(words).exec()))
}
