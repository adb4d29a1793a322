//! Runs a command under a stock Debian kernel, on this machine's own files.
//!
//! The guest sees the host's root read-only with a throw-away layer on top, so
//! test binaries built on the host run there as they are. One directory, the
//! *share*, is writable from both sides: it carries the command in and results
//! out. What the scripts under `vm/` do is not repeated here.

mod kernel;
mod qemu;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io};

use tempfile::TempDir;

use crate::{process, repository};

/// What to boot and for how long.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel series: `6.1` or `6.12`.
    pub series: String,
    /// Virtual processors.
    pub cpus: u32,
    /// The guest is killed when this is over.
    pub timeout: Duration,
    /// What each line of its output begins with; none: the output comes byte for byte.
    pub prefix: Option<String>,
}

/// Why a command did not run to its end in the guest. A command that ran and
/// failed is no error: see the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel or an initramfs cannot be made.
    #[error("cannot prepare kernel {series}")]
    Prepare {
        /// Which kernel.
        series: String,
        /// Why not.
        #[source]
        source: process::Error,
    },
    /// A file that the guest needs, or left, cannot be used.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// QEMU is not there.
    #[error("cannot start QEMU; `.ci/bootstrap test` installs it")]
    Start(#[source] io::Error),
    /// The command did not end in time.
    #[error("kernel {series}: nothing came back in {seconds} s, the guest was killed{console}")]
    Timeout {
        /// Which kernel.
        series: String,
        /// The limit.
        seconds: u64,
        /// The end of the kernel's log.
        console: String,
    },
    /// The guest went away without an answer: it did not boot, or it crashed.
    #[error("kernel {series}: the guest ended without an exit code{console}")]
    Lost {
        /// Which kernel.
        series: String,
        /// The end of the kernel's log.
        console: String,
    },
}

/// The directory that host and guest share during one run; gone when dropped.
pub struct Share(TempDir);

impl Share {
    /// A new, empty directory under the target directory.
    pub fn create() -> Result<Self, Error> {
        let parent = repository::target().join("vm");
        let at = |source| Error::File { path: parent.clone(), source };
        fs::create_dir_all(&parent).map_err(at)?;
        tempfile::Builder::new().prefix("run-").tempdir_in(&parent).map(Self).map_err(at)
    }

    /// Where it lies, on the host and in the guest.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// What `name` in it holds; empty when there is no such file.
    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.path().join(name);
        fs::write(&path, text).map_err(|source| Error::File { path, source })
    }
}

/// Runs `command` in the repository's directory in the guest, as root, and
/// returns its exit code. Its output goes to our standard output as it comes.
pub fn run(machine: &Machine, share: &Share, command: &[OsString]) -> Result<u8, Error> {
    let kernel = kernel::prepare(&machine.series)
        .map_err(|source| Error::Prepare { series: machine.series.clone(), source })?;
    let scripts = repository::root().join("vm");
    share.write("path", &share.path().to_string_lossy())?;
    share.write("modules", &kernel.modules.to_string_lossy())?;
    share.write("guest", &scripts.join("guest").to_string_lossy())?;
    share.write("command", &script(command))?;

    let ended = qemu::boot(machine, &kernel, share.path()).map_err(Error::Start)?;
    // The guest writes the code before it switches off, so a late switch-off is no loss.
    if let Ok(code) = share.read("exit").trim().parse() {
        return Ok(code);
    }
    let series = machine.series.clone();
    let console = last_lines(&share.read("console"));
    Err(match ended {
        qemu::Ended::Itself => Error::Lost { series, console },
        qemu::Ended::Killed => {
            Error::Timeout { series, seconds: machine.timeout.as_secs(), console }
        }
    })
}

/// Variables that steer tools and tests; the guest starts with no others but its own.
fn is_passed_on(name: &str) -> bool {
    const NAMES: &[&str] = &["CARGO_HOME", "CI", "HOME", "LANG", "RUSTUP_HOME", "USER"];
    const PREFIXES: &[&str] = &["NEXTEST_", "PROPTEST_", "RUST_", "SIGNET_"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The command as a shell script that sets the scene first.
fn script(command: &[OsString]) -> String {
    let mut script = format!("cd {} || exit 125\n", quote(&repository::root().to_string_lossy()));
    script += &format!("export PATH={}\n", quote(&process::path().to_string_lossy()));
    for (name, value) in env::vars_os() {
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
            && is_passed_on(name)
        {
            script += &format!("export {name}={}\n", quote(value));
        }
    }
    let words: Vec<_> = command.iter().map(|word| quote(&word.to_string_lossy())).collect();
    script + "exec " + &words.join(" ") + "\n"
}

/// One word for the shell, whatever is in it.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn last_lines(log: &str) -> String {
    const SHOWN: usize = 30;
    let lines: Vec<_> = log.lines().collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN)..];
    if shown.is_empty() {
        return "; its kernel said nothing".to_owned();
    }
    format!("; its kernel said last:\n  {}", shown.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_quotes_reaches_the_shell_whole() {
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
    }

    #[test]
    fn the_script_runs_the_command_in_the_repository() {
        let script = script(&["echo".into(), "a b".into()]);
        assert!(script.starts_with("cd '/"), "{script}");
        assert!(script.ends_with("exec 'echo' 'a b'\n"), "{script}");
    }

    #[test]
    fn only_the_end_of_a_long_kernel_log_is_shown() {
        let log: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let shown = last_lines(&log);
        assert!(shown.contains("line 99") && !shown.contains("line 69"), "{shown}");
    }
}
