//! Why a command failed, and the exit status that says so.

use std::io;

use crate::server::ServerError;

/// A command that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line means nothing.
    #[error("{0}")]
    Usage(String),
    /// Nobody to ask.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The one that was asked refused or failed.
    #[error("{}", .0.message())]
    Answer(#[from] tonic::Status),
    /// The answer cannot be shown.
    #[error(transparent)]
    Json(#[from] api::json::JsonError),
    /// A file of saved flows cannot be read.
    #[error("{0}")]
    Input(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// Some nodes did not answer; what the others said was printed.
    #[error("no answer from {0}")]
    Incomplete(String),
    /// The agent did not start, or failed.
    #[error(transparent)]
    Agent(#[from] agent::AgentError),
    /// The socket to serve on cannot be had.
    #[error(transparent)]
    Serve(#[from] api::server::ServeError),
    /// Output cannot be written, or the runtime not be started.
    #[error("input or output failed")]
    Output(#[from] io::Error),
}

impl Error {
    /// 2 for usage, 1 for the rest; a reader that has seen enough is no failure.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Server(ServerError::NotUnix(_) | ServerError::Refused(_)) => 2,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            _ => 1,
        }
    }
}

/// An error and its causes, outermost first.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
