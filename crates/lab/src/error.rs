//! Why a lab could not do what it was asked: one variant per kind of obstacle.

use std::io;
use std::path::{Path, PathBuf};

use manifest::Refusal;

use crate::places::NotALabName;

/// Why a lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifests are refused; nothing was touched.
    #[error("{}", list(.0))]
    Refused(Vec<Refusal>),

    /// The machine lacks something; nothing was touched.
    #[error("this machine cannot run a lab:\n{}", list(.0))]
    Unmet(Vec<String>),

    /// The name is illegal.
    #[error(transparent)]
    Name(#[from] NotALabName),

    /// There is one of that name.
    #[error("a lab `{name}` exists already (`{}`); end it with `signet lab down {name}` or give this one another `metadata.name`", path.display())]
    Exists {
        /// Its name.
        name: String,
        /// Its state.
        path: PathBuf,
    },

    /// There is none of that name.
    #[error("there is no lab `{0}`; `signet lab status` lists those that run")]
    NoSuchLab(String),

    /// There is none at all.
    #[error("no lab runs; start one with `signet lab up DIR`")]
    NoLab,

    /// A lab must be named.
    #[error("several labs run: {}; say which one", .0.join(", "))]
    Several(Vec<String>),

    /// Somebody else works on it.
    #[error(
        "lab `{name}` is being changed by another process; wait for it, or end it and try again"
    )]
    Busy {
        /// Its name.
        name: String,
    },

    /// A file system operation failed.
    #[error("cannot {what} `{}`", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },

    /// A kernel request about links, addresses or routes failed.
    #[error("cannot {what}")]
    Network {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: rtnetlink::Error,
    },

    /// A program that the lab needs failed.
    #[error("{program} failed while the lab tried to {what}: {detail}")]
    Program {
        /// Which program.
        program: String,
        /// For what.
        what: String,
        /// Its exit status and last words.
        detail: String,
    },

    /// Something did not become ready.
    #[error("{what} did not become ready within {seconds} s; see `{}`", log.display())]
    NotReady {
        /// What.
        what: String,
        /// How long was waited.
        seconds: u64,
        /// Where its messages are.
        log: PathBuf,
    },

    /// What another component wrote is not what was agreed.
    #[error("{what} is not understood: {detail}")]
    Malformed {
        /// Whose words.
        what: String,
        /// What is wrong with them.
        detail: String,
    },

    /// The name given does not stand for anything in the lab.
    #[error("{0}")]
    Unknown(String),

    /// SIGINT or SIGTERM.
    #[error("interrupted; what existed of the lab was taken down")]
    Interrupted,

    /// `up` failed, and so did undoing it.
    #[error("{failure}\nand undoing it failed too: {cleanup}")]
    NotUndone {
        /// Why `up` failed.
        failure: String,
        /// Why that could not be undone.
        cleanup: String,
    },

    /// Something of a lab could not be removed.
    #[error("lab `{name}` is not wholly gone:\n{}", list(left))]
    Left {
        /// Its name.
        name: String,
        /// What is still there.
        left: Vec<String>,
    },
}

impl Error {
    /// For `map_err`: says what was tried on which path.
    pub(crate) fn file(
        what: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { what, path, source }
    }

    /// As [`Self::file`], for system calls that answer with an errno.
    pub(crate) fn call(
        what: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(nix::errno::Errno) -> Self {
        let path = path.as_ref().to_owned();
        move |errno| Self::File { what, path, source: errno.into() }
    }

    /// For `map_err`: says what was tried with the network.
    pub(crate) fn network(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        move |source| Self::Network { what, source }
    }

    /// There is no cgroup v2 hierarchy.
    pub(crate) fn no_cgroups() -> Self {
        Self::Unmet(vec!["no cgroup v2 hierarchy is mounted".into()])
    }

    /// The message with those of its causes.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        text
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(|item| item.to_string()).collect::<Vec<_>>().join("\n")
}
