//! Starts programs where they belong: in a cgroup, in a network namespace, and
//! for daemons in a session of their own.
//!
//! A child joins its cgroup before it becomes the program, so there is no moment
//! in which a killed `up` leaves a process that `down` does not find.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::netns::Netns;

/// Joins the cgroup `$0`, then becomes the arguments.
const JOIN: &str = "echo 0 > \"$0/cgroup.procs\" && exec \"$@\"";

/// A program to start.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What it is for, to name in errors: `connect the pod`.
    pub what: &'a str,
    /// Its cgroup, in the version 2 hierarchy.
    pub cgroup: &'a Path,
    /// Its network namespace; `None`: the caller's.
    pub netns: Option<&'a Netns>,
    /// Path or name, and arguments.
    pub command: Vec<String>,
}

/// What a program left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Launch<'_> {
    fn command(&self, session: bool) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", JOIN]).arg(self.cgroup);
        if session {
            command.arg("setsid");
        }
        command.args(&self.command);
        command
    }

    fn spawn(&self, mut command: Command) -> Result<Child, Error> {
        let program = self.program();
        let spawn = move || command.spawn().map_err(Error::file("start", PathBuf::from(program)));
        match self.netns {
            Some(netns) => netns.inside(spawn)?,
            None => spawn(),
        }
    }

    fn program(&self) -> String {
        self.command.first().cloned().unwrap_or_default()
    }

    /// Starts a daemon that outlives us; its output is appended to `log`.
    pub fn daemon(&self, log: &Path) -> Result<Child, Error> {
        let output = append(log)?;
        let errors = output.try_clone().map_err(Error::file("open", log))?;
        let mut command = self.command(true);
        command.stdin(Stdio::null()).stdout(output).stderr(errors).current_dir("/");
        self.spawn(command)
    }

    /// Starts it so that its output can be read while it runs.
    pub fn lines(&self, errors: Stdio) -> Result<Child, Error> {
        let mut command = self.command(false);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        self.spawn(command)
    }

    /// Runs it to its end, at most `limit`, whatever its exit status.
    pub fn output(
        &self,
        environment: &[(&str, String)],
        input: &[u8],
        limit: Duration,
    ) -> Result<Output, Error> {
        let mut command = self.command(false);
        command
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.spawn(command)?;
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read its input may close it early.
            let _ = stdin.write_all(input);
        }
        let status = self.wait(&mut child, limit)?;
        let gather = |reader: thread::JoinHandle<Vec<u8>>| reader.join().unwrap_or_default();
        let stderr = String::from_utf8_lossy(&gather(stderr)).into_owned();
        Ok(Output { status, stdout: gather(stdout), stderr })
    }

    /// As [`Self::output`], and an exit status other than 0 is an error.
    pub fn run(
        &self,
        environment: &[(&str, String)],
        input: &[u8],
        limit: Duration,
    ) -> Result<Output, Error> {
        let output = self.output(environment, input, limit)?;
        if output.status.success() {
            return Ok(output);
        }
        let words = format!("{}\n{}", output.stderr, String::from_utf8_lossy(&output.stdout));
        Err(self.failed(format!("{}: {}", output.status, words.trim())))
    }

    /// Runs it to its end with its output appended to `log`: for programs that
    /// leave children behind, which would keep a pipe open.
    pub fn run_logged(&self, log: &Path, limit: Duration) -> Result<(), Error> {
        let output = append(log)?;
        let errors = output.try_clone().map_err(Error::file("open", log))?;
        let mut command = self.command(false);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let mut child = self.spawn(command)?;
        let status = self.wait(&mut child, limit)?;
        if status.success() {
            return Ok(());
        }
        let words = std::fs::read_to_string(log).unwrap_or_default();
        let last: Vec<_> = words.lines().rev().take(3).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        Err(self.failed(format!("{status}: {} (`{}`)", last.join("; "), log.display())))
    }

    fn wait(&self, child: &mut Child, limit: Duration) -> Result<ExitStatus, Error> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        loop {
            let ended = child.try_wait().map_err(Error::file("wait for", self.program()))?;
            if let Some(status) = ended {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                return Err(self.failed(format!("no answer within {} s", limit.as_secs())));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    fn failed(&self, detail: String) -> Error {
        Error::Program {
            program: format!("`{}`", self.program()),
            what: self.what.to_owned(),
            detail,
        }
    }
}

fn append(log: &Path) -> Result<File, Error> {
    OpenOptions::new().create(true).append(true).open(log).map_err(Error::file("open", log))
}

fn drain(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stream) = stream {
            // What was read before a failure is still worth showing.
            let _ = stream.read_to_end(&mut text);
        }
        text
    })
}
