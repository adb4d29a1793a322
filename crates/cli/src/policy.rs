//! `signet policy`: what is in force or refused, asked of agents; and what
//! manifests mean, asked of nobody.

pub mod check;
pub mod evaluate;
mod input;
mod shadow;

use api::proto::signet::v1::{
    ConfirmPoliciesRequest, ConfirmPoliciesResponse, ListPoliciesRequest, ListPoliciesResponse,
    Policy, Trial,
};

use crate::error::Error;
use crate::observe::time::TimeFormat;
use crate::rows::{RowsArgs, cell, cells, short};
use crate::table::Table;

/// What to do with policies.
#[derive(Debug, clap::Subcommand)]
pub enum PolicyCommand {
    /// Accept manifests, or refuse them with the line, before anything is applied
    Check(check::CheckArgs),
    /// Say what manifests allow, and by which rule
    Evaluate(Box<evaluate::EvaluateArgs>),
    #[command(flatten)]
    Served(Box<ServedCommand>),
}

/// What agents are asked about policies.
#[derive(Debug, clap::Subcommand)]
pub enum ServedCommand {
    /// List policies: in force since when, or refused and why
    #[command(after_help = "Example:\n  signet policy list")]
    List(RowsArgs),
    /// Show all about the policies of a name
    #[command(after_help = "\
Examples:
  signet policy get payment/pay-svc
  signet policy get CiliumNetworkPolicy/payment/pay-svc -o json")]
    Get {
        /// NAME, NAMESPACE/NAME or KIND/NAMESPACE/NAME (`-` for no namespace)
        name: String,
        #[command(flatten)]
        rows: RowsArgs,
    },
    /// Make policies about nodes permanent, which otherwise are undone by themselves
    #[command(after_help = "\
Examples:
  signet policy confirm                    # all that are on trial
  signet policy confirm edge-nodes         # also one that was undone")]
    Confirm {
        /// NAME or KIND/-/NAME; none: all that are on trial
        names: Vec<String>,
        #[command(flatten)]
        rows: RowsArgs,
    },
}

/// Runs the command.
pub async fn run(command: ServedCommand) -> Result<(), Error> {
    match command {
        ServedCommand::List(args) => {
            let answer = ask(&args).await?;
            args.show(&answer, &answer.unavailable, table)
        }
        ServedCommand::Get { name, rows } => {
            let mut answer = ask(&rows).await?;
            answer.policies.retain(|policy| is_named(policy, &name));
            if answer.policies.is_empty() && answer.unavailable.is_empty() {
                return Err(Error::NotFound(format!(
                    "no policy `{name}`: `signet policy list` shows those there are"
                )));
            }
            rows.show(&answer, &answer.unavailable, blocks)
        }
        ServedCommand::Confirm { names, rows } => {
            let request = ConfirmPoliciesRequest { names: names.clone() };
            let answer = rows.client().await?.confirm_policies(request).await?.into_inner();
            rows.show(&answer, &answer.unavailable, confirmed)?;
            let has = |name: &String| {
                let of = |policy: &&str| name.rsplit('/').next() == Some(*policy);
                answer.policies.iter().map(|policy| policy.name.as_str()).any(|it| of(&it))
            };
            match names.iter().find(|name| !has(name)) {
                None => Ok(()),
                Some(name) => Err(Error::NotFound(format!(
                    "no policy `{name}` is on trial or was reverted: see `signet policy list`"
                ))),
            }
        }
    }
}

fn confirmed(answer: &ConfirmPoliciesResponse) -> String {
    if answer.policies.is_empty() {
        return "nothing is on trial\n".to_owned();
    }
    let line = |policy: &api::proto::signet::v1::ConfirmedPolicy| {
        let name = cell(&format!("{}/-/{}", policy.kind, policy.name));
        format!("{name} is permanent on {}\n", cell(&policy.node))
    };
    answer.policies.iter().map(line).collect()
}

async fn ask(args: &RowsArgs) -> Result<ListPoliciesResponse, Error> {
    Ok(args.client().await?.list_policies(ListPoliciesRequest {}).await?.into_inner())
}

/// Whether `text` is the policy's name, as much of it as it says.
fn is_named(policy: &Policy, text: &str) -> bool {
    let namespace = if policy.namespace.is_empty() { "-" } else { &policy.namespace };
    let full = [policy.kind.as_str(), namespace, policy.name.as_str()];
    let parts: Vec<&str> = text.split('/').collect();
    parts.len() <= full.len() && full.ends_with(&parts)
}

fn name(policy: &Policy) -> String {
    let namespace = if policy.namespace.is_empty() { "-" } else { &policy.namespace };
    cell(&format!("{}/{namespace}/{}", policy.kind, policy.name))
}

fn state(policy: &Policy) -> String {
    match policy.trial() {
        Trial::Running => {
            let left = policy.trial_ends_in.as_ref().map_or(0, |left| left.seconds);
            return match not_in_force(policy) {
                None => format!("on trial: undone in {left} s unless confirmed"),
                Some(why) => format!("on trial for {left} s, {why}"),
            };
        }
        Trial::Reverted => return format!("reverted: {}", cell(&policy.reason)),
        Trial::None | Trial::Confirmed => {}
    }
    if let Some(why) = not_in_force(policy) {
        return why;
    }
    let stands = if policy.mode == "shadow" { "in the shadow" } else { "in force" };
    match (policy.accepted, policy.reason.as_str()) {
        (true, "") => stands.to_owned(),
        (true, note) => format!("{stands}: {}", cell(note)),
        (false, "") => "refused".to_owned(),
        (false, reason) => format!("refused: {}", cell(reason)),
    }
}

/// Why an accepted policy has come into force by no revision.
fn not_in_force(policy: &Policy) -> Option<String> {
    let why = policy.reason.as_str();
    let waits = policy.accepted && policy.since.is_none() && !why.is_empty();
    waits.then(|| match why.strip_prefix("not in force") {
        Some(_) => cell(why),
        None => format!("not in force: {}", cell(why)),
    })
}

/// `-` for what is refused, and from an agent that does not say.
fn mode(policy: &Policy) -> String {
    if policy.mode.is_empty() { "-".to_owned() } else { cell(&policy.mode) }
}

fn since(policy: &Policy) -> String {
    match &policy.since {
        Some(since) => TimeFormat::Rfc3339.format(Some(since)),
        None => "-".to_owned(),
    }
}

fn table(answer: &ListPoliciesResponse) -> String {
    let mut table =
        Table::new(["POLICY", "NODE", "MODE", "REVISION", "SINCE", "SUBJECTS", "DIGEST", "STATE"]);
    let mut policies: Vec<&Policy> = answer.policies.iter().collect();
    policies.sort_by_key(|policy| (name(policy), policy.node.as_str()));
    for policy in policies {
        table.row([
            name(policy),
            cell(&policy.node),
            mode(policy),
            policy.revision.to_string(),
            since(policy),
            policy.subjects.len().to_string(),
            short(&policy.digest),
            state(policy),
        ]);
    }
    table.to_string()
}

/// One block a policy and node.
fn blocks(answer: &ListPoliciesResponse) -> String {
    let block = |policy: &Policy| {
        let list = |texts: &[String]| match texts {
            [] => "-".to_owned(),
            texts => texts.iter().map(|text| cell(text)).collect::<Vec<_>>().join("\n           "),
        };
        format!(
            "{}\n  node     {}\n  mode     {}\n  state    {}\n  revision {}\n  since    {}\n  digest   {}\n  source   {}\n  subjects {}\n  rules    {}\n",
            name(policy),
            cell(&policy.node),
            mode(policy),
            state(policy),
            policy.revision,
            since(policy),
            cell(&policy.digest),
            cell(&policy.source),
            cells(&policy.subjects),
            list(&policy.rules),
        )
    };
    answer.policies.iter().map(block).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            node: "node-a".into(),
            kind: "CiliumNetworkPolicy".into(),
            namespace: "payment".into(),
            name: "pay-svc".into(),
            accepted: true,
            mode: "shadow".into(),
            revision: 3,
            since: Some(prost_types::Timestamp { seconds: 1_767_323_045, nanos: 0 }),
            digest: "0123456789abcdef".into(),
            rules: vec!["spec.egress[0]".into(), "spec.egress[1]".into()],
            subjects: vec!["payment/pay-svc".into()],
            source: "policy.yaml".into(),
            ..Policy::default()
        }
    }

    #[test]
    fn a_refused_policy_says_why() {
        let refused = Policy {
            accepted: false,
            reason: "spec.foo: unknown field".into(),
            ..Policy {
                mode: String::new(),
                revision: 0,
                since: None,
                digest: String::new(),
                ..policy()
            }
        };
        let answer =
            ListPoliciesResponse { policies: vec![refused, policy()], unavailable: vec![] };
        assert_eq!(
            table(&answer),
            "\
POLICY                                NODE     MODE     REVISION   SINCE                  SUBJECTS   DIGEST         STATE
CiliumNetworkPolicy/payment/pay-svc   node-a   -        0          -                      1          -              refused: spec.foo: unknown field
CiliumNetworkPolicy/payment/pay-svc   node-a   shadow   3          2026-01-02T03:04:05Z   1          0123456789ab   in the shadow
"
        );
    }

    #[test]
    fn what_is_accepted_and_not_in_force_is_said_so() {
        let waits = |reason: &str| Policy {
            reason: reason.into(),
            revision: 0,
            since: None,
            mode: "enforce".into(),
            ..policy()
        };
        let stays = "the policy of the node cannot be enforced: no room; the last good one stays";
        assert_eq!(state(&waits(stays)), format!("not in force: {stays}"));
        assert_eq!(state(&waits("not in force yet: full")), "not in force yet: full");
        let left = prost_types::Duration { seconds: 97, nanos: 0 };
        let on_trial = |policy: Policy| Policy {
            trial: Trial::Running.into(),
            trial_ends_in: Some(left),
            ..policy
        };
        let want = format!("on trial for 97 s, not in force: {stays}");
        assert_eq!(state(&on_trial(waits(stays))), want);
        let in_force = Policy { mode: "enforce".into(), ..policy() };
        assert_eq!(state(&on_trial(in_force)), "on trial: undone in 97 s unless confirmed");
        let noted = Policy { reason: "note".into(), mode: "enforce".into(), ..policy() };
        assert_eq!(state(&noted), "in force: note");
    }

    #[test]
    fn all_about_a_policy_is_a_block() {
        let answer = ListPoliciesResponse { policies: vec![policy()], unavailable: vec![] };
        assert_eq!(
            blocks(&answer),
            "\
CiliumNetworkPolicy/payment/pay-svc
  node     node-a
  mode     shadow
  state    in the shadow
  revision 3
  since    2026-01-02T03:04:05Z
  digest   0123456789abcdef
  source   policy.yaml
  subjects payment/pay-svc
  rules    spec.egress[0]
           spec.egress[1]
"
        );
    }

    #[track_caller]
    fn check_named(text: &str, want: bool) {
        assert_eq!(is_named(&policy(), text), want, "{text}");
    }

    #[test]
    fn a_name_may_be_given_with_or_without_what_stands_before_it() {
        check_named("pay-svc", true);
        check_named("payment/pay-svc", true);
        check_named("CiliumNetworkPolicy/payment/pay-svc", true);
        check_named("other/pay-svc", false);
        check_named("NetworkPolicy/payment/pay-svc", false);
        check_named("payment", false);
        check_named("x/CiliumNetworkPolicy/payment/pay-svc", false);
    }
}
