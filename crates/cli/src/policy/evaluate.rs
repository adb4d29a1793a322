//! `signet policy evaluate`: what policies mean for a question, from manifests
//! alone.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;

use policy::question::{Answer, Ask, Asked, ProbeError, Verdict, differences};
use serde_json::{Map, Value, json};

use super::input::{self, Choices};
use super::shadow::{Answered, Beside, Candidate, NoCandidate};

/// What to ask, and of which manifests.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ends: pod:NS/NAME, pods:NS/K=V,K=V, svc:NS/NAME, node:NAME, ip:ADDRESS, fqdn:NAME,
entity:world|host|remote-node|kube-apiserver|health|ingress|init|unmanaged;
cluster:NAME/ before any of them for another cluster.

Examples:
  signet policy evaluate --manifests bank/ --from pod:web/fe --to pod:payment/pay --port 8080
  signet policy evaluate --manifests bank/ --from pod:web/fe --to pod:payment/pay --port 8080 \\
      --http 'GET /balance' --explain
  signet policy evaluate --manifests bank/ --probes probes.jsonl -o jsonl
  signet policy evaluate --manifests bank/ --shadow candidate.yaml --probes probes.jsonl

Exit status: 0 answered (and as expected, where probes expect), 1 not, 2 usage, 3 internal")]
pub struct EvaluateArgs {
    /// Files or folders with the cluster's objects and policies
    #[arg(long, required = true, value_name = "DIR")]
    manifests: Vec<PathBuf>,
    /// Files or folders to answer for as well, as if they were applied on top of
    /// `--manifests`: what they would change, together with policies in shadow mode, is
    /// answered under `shadow`
    #[arg(long, value_name = "DIR")]
    shadow: Vec<PathBuf>,
    /// Who sends
    #[arg(long, value_name = "END", required_unless_present = "probes")]
    from: Option<String>,
    /// Who receives
    #[arg(long, value_name = "END", required_unless_present = "probes")]
    to: Option<String>,
    /// Destination port, by number or name
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// TCP, UDP, SCTP, ICMP or ICMPv6
    #[arg(long, value_name = "NAME", default_value = "TCP")]
    protocol: String,
    /// Address family, 4 or 6
    #[arg(long, value_name = "4|6")]
    family: Option<u8>,
    /// An HTTP request, as `GET /path`
    #[arg(long, value_name = "REQUEST")]
    http: Option<String>,
    /// A name that is asked for
    #[arg(long, value_name = "NAME")]
    dns: Option<String>,
    /// A TLS server name
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// Show which rules were considered, and what would allow what is denied
    #[arg(long)]
    explain: bool,
    /// A file of probes, one JSON object a line; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to", "port"])]
    probes: Option<PathBuf>,
    /// How to print
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Format,
    #[command(flatten)]
    choices: Choices,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Jsonl,
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INTERNAL: u8 = 3;

/// Answers; the exit status.
pub fn run(args: &EvaluateArgs) -> u8 {
    let input = match input::read(&args.manifests) {
        Ok(input) => input,
        Err(error) => {
            eprintln!("signet: {error}");
            return USAGE;
        }
    };
    input.tell_left_out();
    let outcome = manifest::policies(&input.documents);
    let (cluster, refusals) = manifest::cluster(&input.documents);
    let refused = input.refusals.iter().chain(&outcome.refusals).chain(&refusals);
    for refusal in refused {
        eprintln!("refused, and so not part of the answer: {refusal}");
    }
    for note in outcome.notes.iter().filter(|note| !is_of_cluster(&note.text)) {
        eprintln!("note: {note}");
    }
    let candidate = match (!args.shadow.is_empty())
        .then(|| Candidate::read(&args.shadow, &input.documents))
        .transpose()
    {
        Ok(candidate) => candidate.or_else(|| Candidate::of_modes(&cluster, &outcome.policies)),
        Err(NoCandidate::Input(error)) => {
            eprintln!("signet: {error}");
            return USAGE;
        }
        Err(NoCandidate::Refused(refusals)) => {
            for refusal in refusals {
                eprintln!("refused: {refusal}");
            }
            eprintln!("signet: what `--shadow` names would not be applied: nothing is answered");
            return FAILED;
        }
    };
    let options = args.choices.options();
    let live = Asked::new(&cluster, &outcome.policies, &options);
    let asked = Beside::new(live, candidate.as_ref(), &options);
    for conflict in asked.live.conflicts() {
        eprintln!("conflict: {conflict}");
    }
    for conflict in asked.shadow.iter().flat_map(Asked::conflicts) {
        eprintln!("conflict in the shadow: {conflict}");
    }
    let done = match &args.probes {
        Some(path) => probes(args, &asked, path),
        None => one(args, &asked),
    };
    match done {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            eprintln!("signet: {error}");
            INTERNAL
        }
    }
}

/// Kinds that are no policies are still read here, as the cluster.
fn is_of_cluster(note: &str) -> bool {
    const READ: [&str; 13] = [
        "`Namespace`",
        "`Node`",
        "`Pod`",
        "`Service`",
        "`Endpoints`",
        "`EndpointSlice`",
        "`Lab`",
        "`Deployment`",
        "`DaemonSet`",
        "`StatefulSet`",
        "`ReplicaSet`",
        "`Job`",
        "`CronJob`",
    ];
    READ.iter().any(|kind| note.starts_with(kind))
}

/// The question of the command line.
fn one(args: &EvaluateArgs, asked: &Beside<'_>) -> io::Result<u8> {
    let mut probe = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            probe.insert(key.to_owned(), value);
        }
    };
    put("from", args.from.clone().map(Value::from));
    put("to", args.to.clone().map(Value::from));
    put(
        "port",
        args.port.as_ref().map(|port| match port.parse::<u64>() {
            Ok(number) => number.into(),
            Err(_) => port.clone().into(),
        }),
    );
    put("protocol", Some(args.protocol.clone().into()));
    put("family", args.family.map(Value::from));
    put(
        "http",
        args.http.as_ref().map(|request| {
            let (method, path) = request.split_once(' ').unwrap_or((request, "/"));
            json!({"method": method, "path": path})
        }),
    );
    put("dns", args.dns.as_ref().map(|name| json!({"name": name})));
    put("sni", args.sni.clone().map(Value::from));

    let (answer, shadow) = match Ask::from_json(&probe).and_then(|ask| asked.answer(&ask)) {
        Ok(answered) => answered,
        Err(error) => {
            eprintln!("signet: {error}");
            return Ok(USAGE);
        }
    };
    let mut out = io::stdout().lock();
    if args.output == Format::Text {
        write!(out, "{}", shown(&answer, args.explain))?;
        if let Some(shadow) = &shadow {
            write!(out, "{}", shown_shadow(shadow, args.explain))?;
        }
    } else {
        let answered = (answer, shadow);
        writeln!(out, "{}", answer_json(&answered, &probe, args.explain))?;
    }
    Ok(0)
}

/// A file of questions; a bad one is answered `error`, and the rest goes on.
fn probes(args: &EvaluateArgs, asked: &Beside<'_>, path: &PathBuf) -> io::Result<u8> {
    let reader: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        match std::fs::File::open(path) {
            Ok(file) => Box::new(file),
            Err(error) => {
                eprintln!("signet: cannot read `{}`: {error}", path.display());
                return Ok(USAGE);
            }
        }
    };
    let mut out = io::stdout().lock();
    let (mut expected, mut met) = (0_usize, 0_usize);
    let (mut answered, mut changed) = (0_usize, 0_usize);
    for (number, line) in (1_usize..).zip(BufReader::new(reader).split(b'\n')) {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        let (probe, answer) = answer_line(asked, text.trim(), number, args.explain);
        let name = probe
            .get("id")
            .and_then(Value::as_str)
            .map_or_else(|| format!("line {number}"), str::to_owned);
        if let Some(expect) = probe.get("expect") {
            expected += 1;
            let found = differences(expect, &answer);
            met += usize::from(found.is_empty());
            for difference in found {
                eprintln!("{name}: {difference}");
            }
        }
        let said = |answer: &Value| {
            let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
            (text("verdict").to_owned(), text("reason").to_owned())
        };
        let (verdict, reason) = said(&answer);
        let shadow = answer.get("shadow").map(said).filter(|(would, _)| *would != verdict);
        let shadow = shadow.filter(|(would, _)| !would.is_empty());
        answered += 1;
        changed += usize::from(shadow.is_some());
        if args.output == Format::Text {
            write!(out, "{verdict:<8} {name}: {reason}")?;
            match shadow {
                Some((would, why)) => writeln!(out, "; shadow: {would}: {why}")?,
                None => writeln!(out)?,
            }
        } else {
            writeln!(out, "{answer}")?;
        }
    }
    if asked.shadow.is_some() {
        let summary = format!("{changed} of {answered} have another verdict in the shadow");
        match args.output {
            Format::Text => writeln!(out, "{summary}")?,
            Format::Json | Format::Jsonl => eprintln!("{summary}"),
        }
    }
    if expected > 0 {
        let summary = format!("{met} of {expected} as expected");
        match args.output {
            Format::Text => writeln!(out, "{summary}")?,
            Format::Json | Format::Jsonl => eprintln!("{summary}"),
        }
    }
    Ok(if met == expected { 0 } else { FAILED })
}

fn answer_line(
    asked: &Beside<'_>,
    line: &str,
    number: usize,
    explain: bool,
) -> (Map<String, Value>, Value) {
    let (probe, answer) = match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(probe)) => {
            let answer = Ask::from_json(&probe).and_then(|ask| asked.answer(&ask));
            (probe, answer.map_err(|error| error.to_string()))
        }
        Ok(_) => (Map::new(), Err("a probe is a JSON object".to_owned())),
        Err(error) => (Map::new(), Err(format!("not JSON: {error}"))),
    };
    let value = match answer {
        Ok(answer) => answer_json(&answer, &probe, explain),
        Err(error) => {
            let mut object = probe.clone();
            if object.is_empty() {
                object.insert("line".to_owned(), number.into());
            }
            object.insert("verdict".to_owned(), "error".into());
            object.insert("error".to_owned(), error.clone().into());
            object.insert("reason".to_owned(), error.into());
            for key in ["rule", "egress", "ingress", "l7", "shadow"] {
                object.insert(key.to_owned(), Value::Null);
            }
            Value::Object(object)
        }
    };
    (probe, value)
}

fn answer_json(answered: &Answered, probe: &Map<String, Value>, explain: bool) -> Value {
    let (answer, shadow) = answered;
    let mut value = answer.beside(probe, shadow.as_ref());
    if let (true, Value::Object(object)) = (explain, &mut value) {
        let ends: Vec<Value> = answer
            .explanation
            .ends
            .iter()
            .map(|end| {
                let rules: Vec<Value> = end
                    .rules
                    .iter()
                    .map(|rule| {
                        json!({
                            "rule": rule.rule.to_string(),
                            "matches": rule.not.is_none(),
                            "decides": rule.decides,
                            "because": rule.not,
                        })
                    })
                    .collect();
                json!({
                    "direction": end.direction.as_str(), "rules": rules,
                    "outcome": end.outcome, "fix": end.fix,
                })
            })
            .collect();
        object.insert("explain".to_owned(), ends.into());
    }
    value
}

/// The candidate's answer for a reader.
fn shown_shadow(shadow: &Result<Answer, ProbeError>, explain: bool) -> String {
    match shadow {
        Ok(answer) => format!("shadow: {}", shown(answer, explain)),
        Err(error) => format!("shadow: {error}\n"),
    }
}

/// The answer for a reader.
fn shown(answer: &Answer, explain: bool) -> String {
    let mut text = match answer.verdict {
        Verdict::Allowed => "allowed\n".to_owned(),
        Verdict::Denied => "denied\n".to_owned(),
    };
    for remark in &answer.explanation.remarks {
        text += &format!("  {remark}\n");
    }
    for end in &answer.explanation.ends {
        text += &format!("  {:<8} {}\n", end.direction.as_str(), end.outcome);
        if !explain {
            continue;
        }
        for rule in &end.rules {
            let mark = if rule.decides { "=>" } else { "  " };
            let why = match &rule.not {
                None => "matches".to_owned(),
                Some(not) => format!("does not match: {not}"),
            };
            text += &format!("        {mark} {} {why}\n", rule.rule);
        }
        for (policy, why) in &end.elsewhere {
            text += &format!("           {policy} is not about this end: {why}\n");
        }
        if let Some(fix) = &end.fix {
            text += "        to allow it:\n";
            for line in fix.lines() {
                text += &format!("          {line}\n");
            }
        }
    }
    match &answer.inside {
        Some((Verdict::Allowed, rule)) => {
            let rule = rule.as_ref().map(|rule| format!(" by `{rule}`")).unwrap_or_default();
            text += &format!("  request  allowed{rule}\n");
        }
        Some((Verdict::Denied, _)) => {
            text += "  request  denied: no rule about requests matches it\n"
        }
        None => {}
    }
    text
}

#[cfg(test)]
mod tests;
