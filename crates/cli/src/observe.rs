//! `signet observe`: asks an observer and prints what it answers.
//!
//! `args` and `filter` turn flags into a request, `print` turns answers into text
//! with one module a form, `saved` reads files, `why` explains one flow and
//! `events` shows what agents did.

pub mod args;
mod brief;
mod compact;
mod dict;
mod events;
mod filter;
mod flow;
mod print;
mod saved;
#[cfg(test)]
mod tests;
pub mod text;
pub mod time;
mod why;

use std::io::{self, BufWriter, IsTerminal, Write};

use api::proto::observer::GetFlowsRequest;
use api::proto::observer::observer_client::ObserverClient;
use futures::FutureExt;

use crate::error::Error;
use crate::server;
use args::{Color, FlowArgs, ObserveArgs, Other};
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
    color: bool,
    /// Without what concerns nodes.
    silent: bool,
    /// With nodes that are there, and that go.
    debug: bool,
}

/// Runs the command.
pub async fn run(args: ObserveArgs) -> Result<(), Error> {
    match args.other {
        Some(Other::AgentEvents(args)) => events::agent_events(&args).await,
        Some(Other::DebugEvents(args)) => events::debug_events(&args).await,
        Some(Other::Flows(args)) => flows(&args).await,
        None => flows(&args.flows).await,
    }
}

async fn flows(args: &FlowArgs) -> Result<(), Error> {
    let terminal = io::stdout().is_terminal();
    let format = args.format(terminal);
    let request = args.request(api::time::now_ns(), format).map_err(Error::Usage)?;
    args.server.check()?;
    if args.print_raw_filters {
        print!("{}", filter::print_raw(&args.filters)?);
        return Ok(());
    }
    let style = Style {
        time: args.time_format,
        node: args.print_node_name,
        numeric: args.numeric || !args.ip_translation,
        policy_names: args.print_policy_names,
        color: args.color == Color::Always || args.color == Color::Auto && terminal,
        silent: args.silent_errors,
        debug: args.server.debug,
    };
    if let Some(uuid) = &args.why {
        return why::run(&args.server, uuid, &style).await;
    }
    let out = BufWriter::new(io::stdout().lock());
    let mut printer = Printer::new(format, style, out, io::stderr().lock());
    let inputs = args.inputs();
    if inputs.is_empty() {
        return served(args, request, &mut printer).await;
    }
    let read = saved::read(&inputs, &request, |answer| printer.print(answer));
    // What came before a line that cannot be read is shown all the same.
    printer.finish()?;
    read
}

/// A request for people; a mask's fields as they are written, not as JSON has them.
fn asked(request: &GetFlowsRequest) -> Result<String, Error> {
    let whole = GetFlowsRequest { field_mask: None, ..request.clone() };
    let text = api::json::to_json(&whole)?;
    Ok(match &request.field_mask {
        Some(mask) => format!("{text}, of each {}", mask.paths.join(",")),
        None => text,
    })
}

/// Prints what a server answers.
async fn served<Out: Write, Err: Write>(
    args: &FlowArgs,
    request: GetFlowsRequest,
    printer: &mut Printer<Out, Err>,
) -> Result<(), Error> {
    let follow = request.follow;
    let mut client = ObserverClient::new(server::connect(&args.server).await?);
    args.server.say(format_args!("asking for flows: {}", asked(&request)?));
    let response = client.get_flows(request).await?;
    server::warn_of_newer(response.metadata());
    let mut answers = response.into_inner();
    loop {
        // What was printed is shown when nothing more is there yet: one by one while
        // little happens, many at once in a flood.
        let next = match answers.message().now_or_never() {
            Some(next) => next,
            None => {
                if follow {
                    printer.flush()?;
                }
                answers.message().await
            }
        };
        match next {
            Ok(Some(answer)) => printer.print(&answer)?,
            Ok(None) => return Ok(printer.finish()?),
            Err(status) => {
                // What came before the failure is shown all the same.
                printer.finish()?;
                return Err(status.into());
            }
        }
    }
}
