//! Filters from the command line, as Hubble's flags give them.
//!
//! A flag about "either side" makes two filters, one for each side; the others
//! go into both. `--not` sends the next flag's value to the blacklist. Where
//! both `--namespace` and `--pod` are given they name one pod together.

mod apply;
mod flag;

use std::collections::BTreeSet;
use std::fmt::Display;

use api::json::JsonError;
use api::proto::flow::FlowFilter;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use flag::{Effect, Ends, FLAGS, Flag, Part, Strings};

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
        let command = FLAGS.iter().fold(command, |command, flag| {
            let mut arg = Arg::new(flag.name)
                .long(flag.name)
                .value_name(flag.value)
                .help(flag.help)
                .action(ArgAction::Append)
                .help_heading("Filters (repeated: any of them)");
            if let Some(short) = flag.short {
                arg = arg.short(short);
            }
            if flag.is_switch() {
                arg = arg.num_args(0).default_missing_value("");
            }
            command.arg(arg)
        });
        command.args([
            raw("allowlist", "A flow must match one of these filters, as JSON"),
            raw("denylist", "A flow must match none of these filters, as JSON"),
        ])
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for FilterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let refused =
            |message: String| clap::Error::raw(ErrorKind::ValueValidation, message + "\n");
        let mut lists = given(matches).and_then(lower).map_err(refused)?;
        lists.whitelist.extend(raw_filters(matches, "allowlist").map_err(refused)?);
        lists.blacklist.extend(raw_filters(matches, "denylist").map_err(refused)?);
        Ok(lists)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A flag whose values are whole filters.
fn raw(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("JSON")
        .help(help)
        .action(ArgAction::Append)
        .help_heading("Filters (repeated: any of them)")
}

/// Its values; several objects may follow each other in one.
fn raw_filters(matches: &ArgMatches, name: &str) -> Result<Vec<FlowFilter>, String> {
    let values = matches.get_many::<String>(name).into_iter().flatten();
    let mut filters = Vec::new();
    for value in values {
        let refused = |error: &dyn Display| format!("--{name} `{value}`: {error}");
        if value.trim().is_empty() {
            return Err(refused(&"give a filter as JSON"));
        }
        let objects = serde_json::Deserializer::from_str(value).into_iter::<serde_json::Value>();
        for object in objects {
            let object = object.map_err(|error| refused(&error))?.to_string();
            filters.push(api::json::from_json_strictly(&object).map_err(|error| refused(&error))?);
        }
    }
    Ok(filters)
}

/// Both lists as an exporter's settings have them.
pub fn print_raw(lists: &FilterArgs) -> Result<String, JsonError> {
    let mut text = String::new();
    for (name, filters) in [("allowlist", &lists.whitelist), ("denylist", &lists.blacklist)] {
        if filters.is_empty() {
            continue;
        }
        text.push_str(&format!("{name}:\n"));
        for filter in filters {
            // A quote inside YAML's single quotes is written twice.
            let json = api::json::to_json(filter)?.replace('\'', "''");
            text.push_str(&format!("- '{json}'\n"));
        }
    }
    Ok(text)
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
    let is_given = |name: &str| given.iter().any(|given| given.flag.name == name);
    if is_given(flag::EXPRESSION) && is_given(flag::SHADOW) {
        return Err("--shadow beside --cel-expression: write it into the expression, as \
                    `_flow.extensions.shadow.verdict == 'denied'`"
            .to_owned());
    }
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
            Effect::Object(..) => {}
        }
    }
    for ends in [Ends::Either, Ends::From, Ends::To] {
        let part = |part: Part| -> Vec<&str> {
            let of = |given: &&Given| given.flag.effect.is_object(part, ends);
            given.iter().filter(of).map(|given| given.value.as_str()).collect()
        };
        let (namespaces, services) = (part(Part::Namespace), part(Part::Service));
        if !services.is_empty() {
            pair.add(ends, &Pair::SERVICES, &objects("service", &namespaces, &services)?);
        }
        let names = part(Part::Name);
        if services.is_empty() || !names.is_empty() {
            pair.add(ends, &Pair::PODS, &objects("pod", &namespaces, &names)?);
        }
    }
    let Pair { left, right } = pair;
    Ok(match left == right {
        true if left == FlowFilter::default() => vec![],
        true => vec![left],
        false => vec![left, right],
    })
}

/// The fields of a filter that name the same thing at both ends.
struct Fields {
    source: Strings,
    destination: Strings,
}

impl Pair {
    const PODS: Fields = Fields {
        source: |filter| &mut filter.source_pod,
        destination: |filter| &mut filter.destination_pod,
    };
    const SERVICES: Fields = Fields {
        source: |filter| &mut filter.source_service,
        destination: |filter| &mut filter.destination_service,
    };

    fn add(&mut self, ends: Ends, fields: &Fields, values: &[String]) {
        let Fields { source, destination } = fields;
        let (left, right) = match ends {
            Ends::Either => (source, destination),
            Ends::From => (source, source),
            Ends::To => (destination, destination),
        };
        left(&mut self.left).extend_from_slice(values);
        right(&mut self.right).extend_from_slice(values);
    }
}

/// `namespace/prefix` of every combination.
fn objects(kind: &str, namespaces: &[&str], names: &[&str]) -> Result<Vec<String>, String> {
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
                    "{kind} `{name}` is in namespace `{namespace}`, but the namespace given is `{given}`"
                ));
            }
        }
    }
    Ok(pods)
}
