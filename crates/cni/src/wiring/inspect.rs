//! Compares a pod's link with what it should be, in the words of an operator.

use super::{End, Namespace, Netlink, Plan, WiringError};
use crate::result::mac_text;

use ipnet::IpNet;

/// Everything about the link of `plan` that is not as it should be; empty: all
/// is well. What is there beyond the plan is not looked at.
pub(crate) fn differences(
    netlink: &Netlink,
    namespace: &Namespace,
    plan: &Plan,
) -> Result<Vec<String>, WiringError> {
    let mut differences = compare(netlink, &plan.host_end(), "node")?;
    let pod = namespace.run(|| compare(&Netlink::open()?, &plan.pod_end(), "pod"))?;
    differences.extend(pod);
    Ok(differences)
}

/// Compares one end, in the calling thread's namespace.
fn compare(netlink: &Netlink, end: &End, place: &str) -> Result<Vec<String>, WiringError> {
    let who = format!("{place}: `{}`", end.name);
    let Some(link) = netlink.link(&end.name)? else {
        return Ok(vec![format!("{who} does not exist")]);
    };
    let mut differences = Vec::new();
    if !link.up {
        differences.push(format!("{who} is down"));
    }
    if link.mac != end.mac {
        differences.push(format!(
            "{who} has MAC {}, not {}",
            mac_text(link.mac),
            mac_text(end.mac)
        ));
    }
    if let Some(mtu) = end.mtu.filter(|mtu| *mtu != link.mtu) {
        differences.push(format!("{who} has MTU {}, not {mtu}", link.mtu));
    }
    let addresses = netlink.addresses(&link)?;
    for address in end.addresses.iter().map(|address| IpNet::from(*address)) {
        if !addresses.contains(&address) {
            differences.push(format!("{who} lacks address {address}"));
        }
    }
    let neighbours = netlink.neighbours(&link)?;
    for neighbour in end.neighbours.iter().filter(|wanted| !neighbours.contains(wanted)) {
        let mac = mac_text(neighbour.mac);
        differences.push(format!("{who} lacks neighbour {} at {mac}", neighbour.address));
    }
    let routes = netlink.routes(&link)?;
    for route in end.routes.iter().filter(|wanted| !routes.contains(wanted)) {
        let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        differences.push(format!("{who} lacks route {}{via}", route.destination));
    }
    Ok(differences)
}
