//! Saved flows: the lines that `-o json` and exporters write, read again and
//! chosen from as a server would.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use api::filter::Filters;
use api::mask::Mask;
use api::proto::observer::get_flows_response::ResponseTypes;
use api::proto::observer::{GetFlowsRequest, GetFlowsResponse};
use api::time::nanoseconds;

use crate::error::Error;

/// Longest line that is read: a flow takes about two kilobytes.
const LINE: u64 = 1 << 20;

/// Hands to `show` what the request asks for.
pub fn read(
    inputs: &[&str],
    request: &GetFlowsRequest,
    mut show: impl FnMut(&GetFlowsResponse) -> io::Result<()>,
) -> Result<(), Error> {
    let mut choice = Choice::new(request)?;
    for input in inputs {
        let reader: Box<dyn BufRead> = match *input {
            "-" => Box::new(io::stdin().lock()),
            file => Box::new(BufReader::new(
                File::open(file)
                    .map_err(|error| Error::Input(format!("cannot read `{file}`: {error}")))?,
            )),
        };
        lines(input, reader, |answer| match choice.take(answer) {
            Some(answer) => show(&answer).map(|()| !choice.is_complete()),
            None => Ok(!choice.is_complete()),
        })?;
    }
    for answer in choice.newest {
        show(&answer)?;
    }
    Ok(())
}

/// Reads lines until `take` has enough.
fn lines(
    name: &str,
    mut reader: Box<dyn BufRead>,
    mut take: impl FnMut(GetFlowsResponse) -> io::Result<bool>,
) -> Result<(), Error> {
    let mut number = 0;
    loop {
        let mut line = String::new();
        number += 1;
        let bad = |reason: String| Error::Input(format!("{name}:{number}: {reason}"));
        let mut limited = io::Read::take(&mut reader, LINE);
        limited.read_line(&mut line).map_err(|error| bad(error.to_string()))?;
        if line.is_empty() {
            return Ok(());
        }
        if !line.ends_with('\n') && line.len() as u64 >= LINE {
            return Err(bad("the line is too long for a flow".to_owned()));
        }
        if line.trim().is_empty() {
            continue;
        }
        let answer = api::json::from_json(&line).map_err(|error| bad(error.to_string()))?;
        if !take(answer)? {
            return Ok(());
        }
    }
}

/// What is wanted of a list that comes one by one.
struct Choice {
    filters: Filters,
    mask: Option<Mask>,
    since_ns: u64,
    until_ns: u64,
    /// The first so many.
    first: Option<u64>,
    /// The newest so many, kept until the end.
    last: Option<usize>,
    newest: VecDeque<GetFlowsResponse>,
}

impl Choice {
    fn new(request: &GetFlowsRequest) -> Result<Self, Error> {
        let usage = |error: String| Error::Usage(error);
        let filters = Filters::new(&request.whitelist, &request.blacklist);
        let paths = request.field_mask.as_ref().map_or(&[][..], |mask| &mask.paths);
        let number = (request.number > 0 && request.number < u64::MAX).then_some(request.number);
        Ok(Self {
            filters: filters.map_err(|error| usage(error.to_string()))?,
            mask: Mask::new(paths).map_err(|error| usage(error.to_string()))?,
            since_ns: request.since.as_ref().map_or(0, nanoseconds),
            until_ns: request.until.as_ref().map_or(u64::MAX, nanoseconds),
            first: number.filter(|_| request.first),
            last: number
                .filter(|_| !request.first)
                .map(|number| usize::try_from(number).unwrap_or(usize::MAX)),
            newest: VecDeque::new(),
        })
    }

    fn is_complete(&self) -> bool {
        self.first == Some(0)
    }

    /// The answer, if it is to be shown at once.
    fn take(&mut self, mut answer: GetFlowsResponse) -> Option<GetFlowsResponse> {
        let Some(ResponseTypes::Flow(flow)) = answer.response_types.take_if(is_flow) else {
            // What was lost, and what nodes did, passes every filter.
            return Some(answer);
        };
        let time_ns = flow.time.as_ref().map_or(0, nanoseconds);
        if !(self.since_ns..=self.until_ns).contains(&time_ns) || !self.filters.matches(&flow) {
            return None;
        }
        let flow = match &self.mask {
            Some(mask) => mask.apply(flow),
            None => flow,
        };
        answer.response_types = Some(ResponseTypes::Flow(flow));
        if let Some(first) = &mut self.first {
            *first -= 1;
        }
        let Some(last) = self.last else {
            return Some(answer);
        };
        self.newest.push_back(answer);
        if self.newest.len() > last {
            self.newest.pop_front();
        }
        None
    }
}

fn is_flow(answer: &mut ResponseTypes) -> bool {
    matches!(answer, ResponseTypes::Flow(_))
}
