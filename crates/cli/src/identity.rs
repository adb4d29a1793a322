//! `signet identity`: the numbers workloads are known by.

use api::proto::signet::v1::{ListIdentitiesRequest, ListIdentitiesResponse};

use crate::error::Error;
use crate::rows::{RowsArgs, cells};
use crate::table::Table;

/// What to do with identities.
#[derive(Debug, clap::Subcommand)]
pub enum IdentityCommand {
    /// List identities with the labels they stand for
    #[command(after_help = "Example:\n  signet identity list")]
    List(RowsArgs),
}

/// Runs the command.
pub async fn run(command: IdentityCommand) -> Result<(), Error> {
    let IdentityCommand::List(args) = command;
    let answer = args.client().await?.list_identities(ListIdentitiesRequest {}).await?.into_inner();
    args.show(&answer, &answer.unavailable, table)
}

fn table(answer: &ListIdentitiesResponse) -> String {
    let mut table = Table::new(["ID", "NODES", "LABELS"]);
    for identity in &answer.identities {
        table.row([identity.id.to_string(), cells(&identity.nodes), cells(&identity.labels)]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use api::proto::signet::v1::Identity;

    use super::*;

    #[test]
    fn an_identity_shows_its_labels_and_who_knows_it() {
        let identity = Identity {
            id: 2,
            labels: vec!["reserved:world".into()],
            nodes: vec!["a".into(), "b".into()],
        };
        let answer = ListIdentitiesResponse { identities: vec![identity], unavailable: vec![] };
        assert_eq!(table(&answer), "ID   NODES   LABELS\n2    a,b     reserved:world\n");
    }
}
