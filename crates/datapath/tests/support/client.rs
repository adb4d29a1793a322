//! Processes that are in a cgroup from before they do anything.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe};

/// A process of a cgroup, ended with the test.
pub struct Client {
    pub pid: Pid,
    answer: OwnedFd,
}

impl Client {
    pub fn start(cgroup: &Path, act: impl FnOnce() -> String) -> Self {
        let (answer, told) = pipe().unwrap();
        let procs = cgroup.join("cgroup.procs");
        // SAFETY: the child uses only what it has a copy of, and ends without
        // returning; allocation is safe after a fork by glibc's own handlers.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self { pid: child, answer },
            ForkResult::Child => {
                drop(answer);
                fs::write(procs, "0").unwrap();
                let act = std::panic::AssertUnwindSafe(act);
                let text = std::panic::catch_unwind(act).unwrap_or_else(|_| "panicked".into());
                let _ = fs::File::from(told).write_all(text.as_bytes());
                // SAFETY: ends the process at once, without the parent's handlers.
                unsafe { libc::_exit(0) }
            }
        }
    }

    pub fn answer(self) -> String {
        let mut text = String::new();
        let copy = self.answer.as_fd().try_clone_to_owned().unwrap();
        fs::File::from(copy).read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}
