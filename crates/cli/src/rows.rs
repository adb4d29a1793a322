//! What the commands that list things share: their flags, and how an answer is
//! shown to people or to programs.

use std::io::{self, Write};

use api::proto::signet::v1::UnavailableNode;
use api::proto::signet::v1::signet_client::SignetClient;
use prost::{Message, Name};

use crate::error::Error;
use crate::observe::text::escape;
use crate::server::{self, Connection, ServerArgs};

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people
    #[default]
    Table,
    /// One object for programs
    Json,
}

/// Flags of every list.
#[derive(Clone, Debug, clap::Args)]
pub struct RowsArgs {
    #[command(flatten)]
    pub server: ServerArgs,

    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
}

impl RowsArgs {
    /// A client of the server of the flags.
    pub async fn client(&self) -> Result<SignetClient<Connection>, Error> {
        Ok(SignetClient::new(server::connect(&self.server).await?))
    }

    /// Prints the answer as JSON, or as the text that `table` makes of it; then
    /// names the nodes that it does not cover. Those make the command fail: a list
    /// that lacks a node is not the list that was asked for.
    pub fn show<M: Message + Name>(
        &self,
        answer: &M,
        unavailable: &[UnavailableNode],
        table: impl FnOnce(&M) -> String,
    ) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        match self.output {
            Format::Json => writeln!(out, "{}", api::json::to_json(answer)?)?,
            Format::Table => write!(out, "{}", table(answer))?,
        }
        out.flush()?;
        match unavailable {
            [] => Ok(()),
            nodes => Err(Error::Incomplete(missing(nodes))),
        }
    }
}

fn missing(nodes: &[UnavailableNode]) -> String {
    let texts: Vec<String> = nodes
        .iter()
        .map(|node| format!("{} ({})", escape(&node.node), escape(&node.reason)))
        .collect();
    texts.join(", ")
}

/// A text as a cell: safe to print, and visible when there is none.
pub fn cell(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { escape(text).into_owned() }
}

/// Several texts as a cell.
pub fn cells(texts: &[String]) -> String {
    cell(&texts.join(","))
}

/// The first digits of a digest: enough to compare by eye.
pub fn short(digest: &str) -> String {
    cell(digest.get(..12).unwrap_or(digest))
}
