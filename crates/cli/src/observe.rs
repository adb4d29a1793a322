//! `signet observe`: asks an observer and prints what it answers.
//!
//! `args` and `filter` turn flags into a request, `print` turns answers into text
//! with one module a form; only this file talks to anybody.

pub mod args;
mod brief;
mod compact;
mod dict;
mod filter;
mod flow;
mod print;
#[cfg(test)]
mod tests;
pub mod text;
pub mod time;

use std::io::{self, BufWriter, IsTerminal};

use api::proto::observer::observer_client::ObserverClient;

use crate::error::Error;
use crate::server;
use args::{Format, ObserveArgs};
pub use flow::drop_text;
use print::Printer;
use time::TimeFormat;

/// What all forms have in common.
#[derive(Clone, Copy, Debug, Default)]
struct Style {
    time: TimeFormat,
    node: bool,
    numeric: bool,
    policy_names: bool,
}

/// Runs the command.
pub async fn run(args: ObserveArgs) -> Result<(), Error> {
    let standard = if io::stdout().is_terminal() { Format::Brief } else { Format::Compact };
    let format = args.output.unwrap_or(standard);
    if format == Format::Table && args.follow {
        return Err(Error::Usage("a table cannot follow: use another --output".to_owned()));
    }
    let request = args.request(api::time::now_ns()).map_err(Error::Usage)?;
    let style = Style {
        time: args.time_format,
        node: args.print_node_name,
        numeric: args.numeric,
        policy_names: args.print_policy_names,
    };
    let follow = request.follow;
    let mut client = ObserverClient::new(server::connect(&args.server).await?);
    let mut answers = client.get_flows(request).await?.into_inner();
    let out = BufWriter::new(io::stdout().lock());
    let mut printer = Printer::new(format, style, out, io::stderr().lock());
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                printer.print(&answer)?;
                if follow {
                    printer.flush()?;
                }
            }
            Ok(None) => return Ok(printer.finish()?),
            Err(status) => {
                // What came before the failure is shown all the same.
                printer.finish()?;
                return Err(status.into());
            }
        }
    }
}
