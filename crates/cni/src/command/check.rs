//! CHECK: whether everything that ADD answered still holds, and if not, what.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::{Done, Node};
use crate::attachment::Attachment;
use crate::failure::{Code, Failure, causes};
use crate::ipam::Ipam;
use crate::record;
use crate::result::{Previous, PreviousInterface, mac_text};
use crate::wiring::{self, Namespace, Netlink, Plan};

/// Compares the previous result with the node, and names every difference.
pub(super) fn check(
    node: &Node<'_>,
    attachment: &Attachment,
    netns: &Path,
) -> Result<Done, Failure> {
    let Some(previous) = &node.config.previous else {
        return Err(Failure::new(Code::InvalidConfig, "CHECK needs prevResult: what ADD answered"));
    };
    let namespace = Namespace::open(netns)?;
    let netlink = Netlink::open()?;
    let (plan, mut differences) = told(previous, attachment, netns);
    differences.extend(wiring::differences(&netlink, &namespace, &plan)?);
    differences.extend(ledger_differences(node, &plan)?);
    differences.extend(guard_differences(node, &netlink, &namespace, &plan)?);
    if differences.is_empty() {
        return Ok(Done::default());
    }
    let count = differences.len();
    Err(Failure {
        code: Code::Differs,
        message: format!("not as ADD left it ({count}): {}", differences.join("; ")),
        details: String::new(),
    })
}

/// What the previous result tells of this attachment, and where it contradicts
/// what follows from the names alone.
fn told(previous: &Previous, attachment: &Attachment, netns: &Path) -> (Plan, Vec<String>) {
    let sandbox = netns.display().to_string();
    let find = |name: &str, sandbox: &str| {
        previous.interfaces.iter().position(|i| i.name == name && i.sandbox == sandbox)
    };
    let host = find(&attachment.host_interface(), "");
    let pod = find(attachment.interface(), &sandbox);
    let mut differences = Vec::new();
    let mut compare = |index: Option<usize>, name: &str, mac: [u8; 6]| {
        let told: Option<&PreviousInterface> = index.and_then(|i| previous.interfaces.get(i));
        match told {
            None => differences.push(format!("prevResult does not tell of `{name}`")),
            Some(told) => {
                let mac = mac_text(mac);
                if !told.mac.is_empty() && !told.mac.eq_ignore_ascii_case(&mac) {
                    differences
                        .push(format!("prevResult tells MAC {} of `{name}`, not {mac}", told.mac));
                }
            }
        }
        told.and_then(|told| told.mtu)
    };
    compare(host, &attachment.host_interface(), attachment.host_mac());
    let mtu = compare(pod, attachment.interface(), attachment.pod_mac());
    let addresses: Vec<IpAddr> = previous
        .ips
        .iter()
        .filter(|ip| pod.is_some() && ip.interface == pod)
        .map(|ip| ip.address.addr())
        .collect();
    if addresses.is_empty() {
        differences.push(format!("prevResult tells no address of `{}`", attachment.interface()));
    }
    (Plan { attachment: attachment.clone(), addresses, mtu }, differences)
}

fn ledger_differences(node: &Node<'_>, plan: &Plan) -> Result<Option<String>, Failure> {
    let leased = Ipam::lock(&node.config.state_dir)?.ledger().addresses(&plan.attachment);
    let set = |addresses: &[IpAddr]| addresses.iter().copied().collect::<BTreeSet<_>>();
    Ok((set(&leased) != set(&plan.addresses))
        .then(|| format!("the ledger gives it {}, not {}", list(&leased), list(&plan.addresses))))
}

/// Programs and record: what the pod's right depends on.
fn guard_differences(
    node: &Node<'_>,
    netlink: &Netlink,
    namespace: &Namespace,
    plan: &Plan,
) -> Result<Vec<String>, Failure> {
    let name = plan.attachment.host_interface();
    let Some(link) = netlink.link(&name)? else {
        // Told already; without a link there is nothing to guard.
        return Ok(Vec::new());
    };
    let mut differences = Vec::new();
    match node.programs.is_attached(&node.config.pins, link.index) {
        Ok(true) => {}
        Ok(false) => differences.push(format!("no programs are attached to `{name}`")),
        Err(error) => differences.push(format!(
            "cannot tell whether programs are attached to `{name}`: {error} {}",
            causes(&error)
        )),
    }
    let path = record::path(&node.config.endpoints(), &name);
    match record::find(&node.config.endpoints(), &name) {
        Err(error) => differences.push(format!("{error} {}", causes(&error))),
        Ok(None) => differences.push(format!("no endpoint record `{}`", path.display())),
        Ok(Some(record)) => {
            let mut compare = |what: &str, is: String, should: String| {
                if is != should {
                    differences
                        .push(format!("`{}` says {what} {is}, not {should}", path.display()));
                }
            };
            let attachment = &plan.attachment;
            compare("container", record.container_id, attachment.container_id().to_owned());
            compare("interface", record.pod_interface, attachment.interface().to_owned());
            compare("ifindex", record.ifindex.to_string(), link.index.to_string());
            compare("MAC", mac_text(record.mac), mac_text(attachment.pod_mac()));
            compare("addresses", list(&record.addresses), list(&plan.addresses));
            let netns_id = netlink.namespace_id(namespace)?;
            compare("netnsId", record.netns_id.to_string(), netns_id.to_string());
        }
    }
    Ok(differences)
}

fn list(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "nothing".into();
    }
    let mut texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.sort();
    texts.join(", ")
}
