//! Containers: written down as OCI bundles, run by `runc`.
//!
//! Knows nothing about pods' networks beyond the path of a namespace.

pub mod bundle;
pub mod capability;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::container::bundle::Placement;
use crate::error::Error;
use crate::launch::Launch;
use crate::places::Places;

/// The container runtime.
pub const RUNTIME: &str = "runc";

const START_LIMIT: Duration = Duration::from_secs(30);

/// A new container id: 64 hexadecimal digits, as container runtimes make them.
pub fn new_id() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/uuid";
    let draw = || fs::read_to_string(path).map_err(Error::file("read", path));
    Ok((draw()? + &draw()?).chars().filter(char::is_ascii_hexdigit).collect())
}

/// Starts a container and returns the process id of its first process.
pub fn start(
    places: &Places,
    id: &str,
    placement: &Placement<'_>,
    cgroup: &Path,
    log: &Path,
) -> Result<i32, Error> {
    let bundle = places.bundles().join(id);
    fs::create_dir_all(&bundle).map_err(Error::file("create", &bundle))?;
    let config = bundle.join("config.json");
    let text = bundle::configuration(placement).to_string();
    fs::write(&config, text).map_err(Error::file("write", &config))?;
    let pid_file = bundle.join("pid");
    let mut command = runtime(places);
    command.extend(["run", "--detach", "--bundle"].map(str::to_owned));
    command.extend([text_of(&bundle), "--pid-file".into(), text_of(&pid_file), id.to_owned()]);
    Launch { what: "start a container", cgroup, netns: None, command }
        .run_logged(log, START_LIMIT)?;
    let text = fs::read_to_string(&pid_file).map_err(Error::file("read", &pid_file))?;
    text.trim().parse().map_err(|_| Error::Malformed {
        what: format!("`{}`", pid_file.display()),
        detail: format!("`{text}` is no process id"),
    })
}

/// Removes what the runtime still knows of a container that was ended.
pub fn delete(places: &Places, id: &str, cgroup: &Path) -> Result<(), Error> {
    let mut command = runtime(places);
    command.extend(["delete", "--force", id].map(str::to_owned));
    let launch = Launch { what: "remove a container", cgroup, netns: None, command };
    launch.run(&[], b"", START_LIMIT).map(|_| ())
}

/// The command that runs `arguments` in a running container.
pub fn exec(places: &Places, id: &str, terminal: bool, arguments: &[String]) -> Vec<String> {
    let mut command = runtime(places);
    command.push("exec".into());
    if terminal {
        command.push("--tty".into());
    }
    command.push(id.to_owned());
    command.extend_from_slice(arguments);
    command
}

fn runtime(places: &Places) -> Vec<String> {
    vec![RUNTIME.into(), "--root".into(), text_of(&places.runtime())]
}

fn text_of(path: &Path) -> String {
    PathBuf::from(path).to_string_lossy().into_owned()
}
