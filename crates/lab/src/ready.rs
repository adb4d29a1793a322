//! Whether a lab is what its manifests say: every pod enforced on its node, and
//! every pod, and who serves each service, known on every node.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use api::proto::signet::v1 as signet;
use nix::time::{ClockId, clock_gettime};

use crate::error::Error;
use crate::journal::{Journal, Pod};
use crate::progress::check_interrupt;
use crate::relay;
use crate::site::Site;

const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(30);

/// Waits until every node has considered what is written by now, and nothing is
/// missing.
pub fn wait(site: &Site, journal: &Journal) -> Result<(), Error> {
    let socket = site.places.relay_socket();
    relay::ask(&socket, |channel| async move {
        let mut client = relay::signet(channel);
        let (written, deadline) = (monotonic_ns(), Instant::now() + LIMIT);
        loop {
            check_interrupt()?;
            // An agent or a relay that is busy may refuse once what it answers later.
            let found = look(&mut client, site, journal, written).await;
            let missing = found.unwrap_or_else(|error| vec![error.chain()]);
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::NotReady {
                    what: format!("the lab ({})", missing.join("; ")),
                    seconds: LIMIT.as_secs(),
                    log: site.places.run(),
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// Makes the policies about nodes permanent that the lab was made with.
pub fn confirm(site: &Site) -> Result<(), Error> {
    relay::ask(&site.places.relay_socket(), |channel| async move {
        let request = signet::ConfirmPoliciesRequest { names: vec![] };
        let answer = relay::signet(channel).confirm_policies(request).await;
        answer.map(|_| ()).map_err(relay::refused("ConfirmPolicies"))
    })
}

/// Waits until every node of a cluster knows these policies, or until none does.
pub fn wait_for_policies(
    site: &Site,
    journal: &Journal,
    cluster: Option<&str>,
    names: &BTreeSet<String>,
    known: bool,
) -> Result<(), Error> {
    relay::ask(&site.places.relay_socket(), |channel| async move {
        let mut client = relay::signet(channel);
        let deadline = Instant::now() + LIMIT;
        loop {
            check_interrupt()?;
            let rows = client.list_policies(signet::ListPoliciesRequest {}).await;
            let rows = rows.map_err(relay::refused("ListPolicies"))?.into_inner().policies;
            let late = journal.nodes_of(cluster).find(|node| {
                let of_node = rows.iter().filter(|row| bare(&row.node) == node.name);
                let listed: BTreeSet<_> = of_node.map(policy_name).collect();
                names.iter().any(|name| listed.contains(name) != known)
            });
            let Some(node) = late else { return Ok(()) };
            if Instant::now() > deadline {
                let what = format!("node `{}` (it has not noticed changed policies)", node.name);
                let log = site.places.state(&node.name);
                return Err(Error::NotReady { what, seconds: LIMIT.as_secs(), log });
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// As the cluster's objects are named.
fn policy_name(row: &signet::Policy) -> String {
    let namespace = if row.namespace.is_empty() { "-" } else { &row.namespace };
    format!("{}/{namespace}/{}", row.kind, row.name)
}

type Client = signet::signet_client::SignetClient<tonic::transport::Channel>;

/// `CLOCK_MONOTONIC`, by which agents say how far they are.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// What is still missing; nothing when all is there that was written by then.
async fn look(
    client: &mut Client,
    site: &Site,
    journal: &Journal,
    written: u64,
) -> Result<Vec<String>, Error> {
    let status = client.status(signet::StatusRequest {}).await;
    let status = status.map_err(relay::refused("Status"))?.into_inner();
    let endpoints = client.list_endpoints(signet::ListEndpointsRequest {}).await;
    let endpoints = endpoints.map_err(relay::refused("ListEndpoints"))?.into_inner().endpoints;
    let identities = client.list_identities(signet::ListIdentitiesRequest {}).await;
    let identities = identities.map_err(relay::refused("ListIdentities"))?.into_inner().identities;
    let services = client.list_services(signet::ListServicesRequest {}).await;
    let services = services.map_err(relay::refused("ListServices"))?.into_inner().services;
    let behind = status.nodes.iter().filter(|node| node.considered_ns < written);
    let mut found: Vec<String> =
        behind.map(|node| format!("`{}` has not looked again yet", bare(&node.node))).collect();
    let answered: BTreeSet<&str> = status.nodes.iter().map(|node| bare(&node.node)).collect();
    let silent = journal.nodes.iter().filter(|node| !answered.contains(node.name.as_str()));
    found.extend(silent.map(|node| format!("`{}` does not answer", node.name)));
    found.extend(missing(journal, &endpoints, &identities));
    for cluster in journal.all_clusters() {
        let expected = expected(&site.places.objects(cluster))?;
        found.extend(unserved(journal, cluster, &expected, &services));
    }
    Ok(found)
}

/// Whether an endpoint is a pod's: clusters may have pods of one name.
pub fn is_of(endpoint: &signet::Endpoint, pod: &Pod) -> bool {
    endpoint.namespace == pod.namespace
        && endpoint.pod == pod.name
        && bare(&endpoint.node) == pod.node
}

/// Names of pods are enough: what a pod is called does not change while it is up.
fn missing(
    journal: &Journal,
    endpoints: &[signet::Endpoint],
    identities: &[signet::Identity],
) -> Vec<String> {
    let mut missing = Vec::new();
    // Pods on their node's network are no endpoints.
    for pod in journal.pods.iter().filter(|pod| !pod.host_network) {
        let name = pod.full_name();
        let found = endpoints.iter().find(|it| is_of(it, pod));
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
        let mut nodes = journal.nodes_of(pod.cluster.as_deref());
        let ignorant = nodes.find(|node| !known.contains(node.name.as_str()));
        missing.extend(ignorant.map(|node| format!("`{}` does not know {name}", node.name)));
    }
    missing
}

/// A service's name, address, port, and who serves it there.
type Served = (String, String, BTreeSet<String>);

/// Who serves each service, as the cluster's objects say.
fn expected(cluster: &Path) -> Result<Vec<Served>, Error> {
    let failed = |error: source::ScanError| Error::file("read", &error.path)(error.source);
    let snapshot = source::Directory::new(cluster).scan().map_err(failed)?.unwrap_or_default();
    let mut expected = Vec::new();
    for service in snapshot.services.values() {
        for (port, address) in
            service.ports.iter().flat_map(|port| service.addresses.iter().map(move |it| (port, it)))
        {
            let ends = snapshot.serving(service, port, address.is_ipv4());
            let ends = ends.iter().map(ToString::to_string).collect();
            let at = format!("{address} {}/{}", port.port, protocol(port.protocol));
            expected.push((service.name.to_string(), at, ends));
        }
    }
    Ok(expected)
}

fn protocol(number: u8) -> &'static str {
    match number {
        17 => "UDP",
        132 => "SCTP",
        _ => "TCP",
    }
}

fn unserved(
    journal: &Journal,
    cluster: Option<&str>,
    expected: &[Served],
    found: &[signet::Service],
) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, at, ends) in expected {
        let is_known = |node: &str| {
            found.iter().any(|row| {
                bare(&row.node) == node
                    && format!("{}/{}", row.namespace, row.name) == *name
                    && format!("{} {}/{}", row.address, row.port, row.protocol) == *at
                    && row.backends.iter().cloned().collect::<BTreeSet<_>>() == *ends
            })
        };
        let ignorant = journal.nodes_of(cluster).find(|node| !is_known(&node.name));
        missing.extend(
            ignorant.map(|node| format!("`{}` does not know who serves {name}", node.name)),
        );
    }
    missing
}

/// A node's name without its cluster's.
pub fn bare(node: &str) -> &str {
    node.rsplit_once('/').map_or(node, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Node, VERSION};

    fn journal() -> Journal {
        let node = |name: &str| Node {
            name: name.into(),
            cluster: None,
            addresses: vec![],
            pod_cidrs: vec![],
        };
        Journal {
            version: VERSION,
            name: "tiny".into(),
            directory: "/".into(),
            cluster: "default".into(),
            clusters: vec![],
            cni: None,
            agent: vec![],
            ready: false,
            nodes: vec![node("node-1"), node("node-2")],
            external: vec![],
            links: 0,
            pods: vec![Pod {
                cluster: None,
                namespace: "web".into(),
                name: "a".into(),
                node: "node-1".into(),
                sandbox: "s".into(),
                addresses: vec![],
                host_network: false,
                containers: vec![],
                owner: None,
            }],
            daemons: vec![],
        }
    }

    #[track_caller]
    fn check(ready: bool, known_to: &[&str], want: &[&str]) {
        let endpoint = signet::Endpoint {
            namespace: "web".into(),
            pod: "a".into(),
            node: "bank/node-1".into(),
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
    fn a_lab_is_not_ready_before_every_node_knows_who_serves_what() {
        let row = |node: &str, backends: &[&str]| signet::Service {
            node: node.into(),
            namespace: "web".into(),
            name: "api".into(),
            address: "10.96.0.11".into(),
            port: 80,
            protocol: "TCP".into(),
            backends: backends.iter().map(|it| (*it).to_owned()).collect(),
            ..signet::Service::default()
        };
        let ends: BTreeSet<String> = ["10.244.1.2:8080".to_owned()].into();
        let expected = [("web/api".to_owned(), "10.96.0.11 80/TCP".to_owned(), ends)];
        let ready = [row("node-1", &["10.244.1.2:8080"]), row("bank/node-2", &["10.244.1.2:8080"])];
        assert_eq!(unserved(&journal(), None, &expected, &ready), Vec::<String>::new());
        let behind = [row("node-1", &["10.244.1.2:8080"]), row("node-2", &[])];
        let want = ["`node-2` does not know who serves web/api"];
        assert_eq!(unserved(&journal(), None, &expected, &behind), want);
    }

    #[test]
    fn a_lab_is_not_ready_before_every_pod_is_enforced() {
        check(false, &["node-1", "node-2"], &["web/a is not enforced: no table"]);
    }
}
