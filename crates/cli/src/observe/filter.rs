//! Filters from the command line, as Hubble's flags give them.
//!
//! A flag about "either side" makes two filters, one for each side; the others
//! go into both. `--not` sends the next flag's value to the blacklist. Where
//! both `--namespace` and `--pod` are given they name one pod together.

mod flag;

use std::collections::BTreeSet;

use api::proto::flow::FlowFilter;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use flag::{Effect, Ends, FLAGS, Flag, Part};

/// The two filters of an either-side flag.
#[derive(Default)]
struct Pair {
    left: FlowFilter,
    right: FlowFilter,
}

/// One flag as it was given.
struct Given {
    flag: &'static Flag,
    value: String,
    negated: bool,
}

/// What the filter flags of a command line ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterArgs {
    /// A flow must match one of these.
    pub whitelist: Vec<FlowFilter>,
    /// And none of these.
    pub blacklist: Vec<FlowFilter>,
}

const NOT: &str = "not";

impl clap::Args for FilterArgs {
    fn augment_args(command: Command) -> Command {
        let command = command.arg(
            Arg::new(NOT)
                .long(NOT)
                .action(ArgAction::Append)
                .num_args(0)
                .default_missing_value("")
                .help("Reverses the next filter: --not --namespace kube-system"),
        );
        FLAGS.iter().fold(command, |command, flag| {
            let mut arg = Arg::new(flag.name)
                .long(flag.name)
                .value_name(flag.value)
                .help(flag.help)
                .action(ArgAction::Append)
                .help_heading("Filters (repeated: any of them)");
            if let Some(short) = flag.short {
                arg = arg.short(short);
            }
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for FilterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let refused =
            |message: String| clap::Error::raw(ErrorKind::ValueValidation, message + "\n");
        given(matches).and_then(lower).map_err(refused)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flags in the order of the table, each with its values.
fn given(matches: &ArgMatches) -> Result<Vec<Given>, String> {
    // A flag and each of its values are numbered as they come: what `--not` is
    // about has its value two further.
    let mut negated: BTreeSet<usize> = matches.indices_of(NOT).into_iter().flatten().collect();
    let mut given = Vec::new();
    for flag in FLAGS {
        let values = matches.get_many::<String>(flag.name).into_iter().flatten();
        let indices = matches.indices_of(flag.name).into_iter().flatten();
        given.extend(values.zip(indices).map(|(value, index)| Given {
            flag,
            value: value.clone(),
            negated: negated.remove(&index.saturating_sub(2)),
        }));
    }
    if negated.is_empty() {
        Ok(given)
    } else {
        Err("--not reverses the filter that comes right after it, and there is none".to_owned())
    }
}

fn lower(given: Vec<Given>) -> Result<FilterArgs, String> {
    let (deny, allow): (Vec<Given>, Vec<Given>) =
        given.into_iter().partition(|given| given.negated);
    Ok(FilterArgs { whitelist: pair(&allow)?, blacklist: pair(&deny)? })
}

/// No filter, one, or one for each side.
fn pair(given: &[Given]) -> Result<Vec<FlowFilter>, String> {
    let mut pair = Pair::default();
    for Given { flag, value, .. } in given {
        let refused = |reason: String| format!("--{} `{value}`: {reason}", flag.name);
        match flag.effect {
            Effect::Either(source, destination) => {
                source(&mut pair.left, value).map_err(refused)?;
                destination(&mut pair.right, value).map_err(refused)?;
            }
            Effect::Both(apply) => {
                apply(&mut pair.left, value).map_err(refused)?;
                apply(&mut pair.right, value).map_err(refused)?;
            }
            // Joined below, when both parts of the name are there.
            Effect::Pod(..) => {}
        }
    }
    for ends in [Ends::Either, Ends::From, Ends::To] {
        let part = |part: Part| -> Vec<&str> {
            let of = |given: &&Given| given.flag.effect.is_pod(part, ends);
            given.iter().filter(of).map(|given| given.value.as_str()).collect()
        };
        pair.add_pods(ends, &pods(&part(Part::Namespace), &part(Part::Name))?);
    }
    let Pair { left, right } = pair;
    Ok(match left == right {
        true if left == FlowFilter::default() => vec![],
        true => vec![left],
        false => vec![left, right],
    })
}

impl Pair {
    fn add_pods(&mut self, ends: Ends, pods: &[String]) {
        let Self { left, right } = self;
        let (left, right) = match ends {
            Ends::Either => (&mut left.source_pod, &mut right.destination_pod),
            Ends::From => (&mut left.source_pod, &mut right.source_pod),
            Ends::To => (&mut left.destination_pod, &mut right.destination_pod),
        };
        left.extend_from_slice(pods);
        right.extend_from_slice(pods);
    }
}

/// `namespace/prefix` of every combination.
fn pods(namespaces: &[&str], names: &[&str]) -> Result<Vec<String>, String> {
    if names.is_empty() {
        return Ok(namespaces.iter().map(|namespace| format!("{namespace}/")).collect());
    }
    let mut pods = Vec::new();
    for name in names {
        match (name.split_once('/'), namespaces) {
            (_, []) => pods.push((*name).to_owned()),
            (None, namespaces) => {
                pods.extend(namespaces.iter().map(|namespace| format!("{namespace}/{name}")));
            }
            (Some((namespace, _)), namespaces) if namespaces.contains(&namespace) => {
                pods.push((*name).to_owned());
            }
            (Some((namespace, _)), namespaces) => {
                let given = namespaces.join("`, `");
                return Err(format!(
                    "pod `{name}` is in namespace `{namespace}`, but the namespace given is `{given}`"
                ));
            }
        }
    }
    Ok(pods)
}
