//! What programs of the lab have printed: pods, hosts, agents, the relay.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::error::Error;
use crate::lab::Lab;

/// Copies the log of what a name means to standard output.
pub fn print(lab: &Lab, what: &str, container: Option<&str>) -> Result<(), Error> {
    let path = file(lab, what, container)?;
    let mut log = File::open(&path).map_err(Error::file("open", &path))?;
    match io::copy(&mut log, &mut io::stdout()) {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::file("print", &path)(error))
        }
        _ => Ok(()),
    }
}

fn file(lab: &Lab, what: &str, container: Option<&str>) -> Result<PathBuf, Error> {
    let daemon = lab.journal.daemons.iter().find(|daemon| match &daemon.node {
        Some(node) => node == what,
        None => what == "relay",
    });
    if let Some(daemon) = daemon {
        return Ok(daemon.log.clone());
    }
    if lab.journal.external.iter().any(|host| host.name == what) {
        return Ok(lab.places.logs().join(format!("{what}.log")));
    }
    let pod = lab.pod(what)?;
    let container = pod.container(container)?;
    Ok(lab.places.pod_log(&pod.full_name(), &container.name))
}
