//! Whether a lab is what its manifests say: every pod enforced on its node, and
//! every pod known on every node.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use api::proto::signet::v1 as signet;

use crate::error::Error;
use crate::journal::Journal;
use crate::progress::check_interrupt;
use crate::relay;
use crate::site::Site;

const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks that must agree before the nodes count as settled.
const SETTLE: Duration = Duration::from_millis(150);

/// What the nodes say, as far as it matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Look {
    /// What is still missing; nothing when all is there.
    missing: Vec<String>,
    /// Revision of each node.
    revisions: Vec<(String, u32)>,
}

/// Waits until nothing is missing and no node is still changing.
pub fn wait(site: &Site, journal: &Journal) -> Result<(), Error> {
    let socket = site.places.relay_socket();
    relay::ask(&socket, |channel| async move {
        let mut client = relay::signet(channel);
        let deadline = Instant::now() + LIMIT;
        let mut last: Option<Look> = None;
        loop {
            check_interrupt()?;
            let look = look(&mut client, journal).await?;
            if look.missing.is_empty() && last.as_ref() == Some(&look) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::NotReady {
                    what: describe(&look),
                    seconds: LIMIT.as_secs(),
                    log: site.places.run(),
                });
            }
            last = Some(look);
            tokio::time::sleep(SETTLE).await;
        }
    })
}

type Client = signet::signet_client::SignetClient<tonic::transport::Channel>;

async fn look(client: &mut Client, journal: &Journal) -> Result<Look, Error> {
    let status = client.status(signet::StatusRequest {}).await;
    let status = status.map_err(relay::refused("Status"))?.into_inner();
    let endpoints = client.list_endpoints(signet::ListEndpointsRequest {}).await;
    let endpoints = endpoints.map_err(relay::refused("ListEndpoints"))?.into_inner().endpoints;
    let identities = client.list_identities(signet::ListIdentitiesRequest {}).await;
    let identities = identities.map_err(relay::refused("ListIdentities"))?.into_inner().identities;
    let mut revisions: Vec<_> =
        status.nodes.iter().map(|node| (node.node.clone(), node.policy_revision)).collect();
    revisions.sort();
    Ok(Look { missing: missing(journal, &endpoints, &identities), revisions })
}

/// Names of pods are enough: what a pod is called does not change while it is up.
fn missing(
    journal: &Journal,
    endpoints: &[signet::Endpoint],
    identities: &[signet::Identity],
) -> Vec<String> {
    let mut missing = Vec::new();
    for pod in journal.pods.iter().filter(|pod| !pod.host_network) {
        let name = pod.full_name();
        let found = endpoints.iter().find(|it| it.namespace == pod.namespace && it.pod == pod.name);
        let Some(endpoint) = found else {
            missing.push(format!("`{}` has no endpoint for {name}", pod.node));
            continue;
        };
        if !endpoint.ready {
            missing.push(format!("{name} is not enforced: {}", endpoint.reason));
        }
        let identity = identities.iter().find(|identity| identity.id == endpoint.identity);
        let known: BTreeSet<&str> =
            identity.iter().flat_map(|identity| &identity.nodes).map(|node| bare(node)).collect();
        let ignorant = journal.nodes.iter().find(|node| !known.contains(node.name.as_str()));
        missing.extend(ignorant.map(|node| format!("`{}` does not know {name}", node.name)));
    }
    missing
}

/// A node's name without its cluster's.
pub fn bare(node: &str) -> &str {
    node.rsplit_once('/').map_or(node, |(_, name)| name)
}

fn describe(look: &Look) -> String {
    match look.missing.as_slice() {
        [] => "the nodes keep changing what they enforce: the lab".into(),
        missing => format!("the lab ({})", missing.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Node, Pod, VERSION};

    fn journal() -> Journal {
        let node = |name: &str| Node { name: name.into(), addresses: vec![], pod_cidrs: vec![] };
        Journal {
            version: VERSION,
            name: "tiny".into(),
            directory: "/".into(),
            cluster: "default".into(),
            ready: false,
            nodes: vec![node("node-1"), node("node-2")],
            external: vec![],
            links: 0,
            pods: vec![Pod {
                namespace: "web".into(),
                name: "a".into(),
                node: "node-1".into(),
                sandbox: "s".into(),
                addresses: vec![],
                containers: vec![],
                owner: None,
                host_network: false,
            }],
            daemons: vec![],
        }
    }

    #[track_caller]
    fn check(ready: bool, known_to: &[&str], want: &[&str]) {
        let endpoint = signet::Endpoint {
            namespace: "web".into(),
            pod: "a".into(),
            identity: 7,
            ready,
            reason: "no table".into(),
            ..signet::Endpoint::default()
        };
        let nodes = known_to.iter().map(|node| (*node).to_owned()).collect();
        let identity = signet::Identity { id: 7, nodes, ..signet::Identity::default() };
        assert_eq!(missing(&journal(), &[endpoint], &[identity]), want);
    }

    #[test]
    fn a_lab_is_not_ready_before_every_node_knows_every_pod() {
        check(true, &["node-1"], &["`node-2` does not know web/a"]);
        check(true, &["node-1", "bank/node-2"], &[]);
    }

    #[test]
    fn a_lab_is_not_ready_before_every_pod_is_enforced() {
        check(false, &["node-1", "node-2"], &["web/a is not enforced: no table"]);
    }
}
