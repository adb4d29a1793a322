//! The pod's link: what it consists of, and the kernel calls that make it so.
//!
//! Both ends are described by one value, [`End`], which is built from a
//! [`Plan`], laid down by [`raise`] and compared with reality by `inspect`: what
//! CHECK looks for is what ADD did. Knows nothing of programs, records or agents;
//! the order among those is the command's.
//!
//! The pod sees a router on a link of its own: one address with a full-length
//! prefix, default routes through a link-local gateway, and that gateway's MAC
//! as a permanent neighbour. The node has the mirror image. So neither end ever
//! asks by ARP or ND, and there is no link-layer neighbour to impersonate.

mod inspect;
mod namespace;
mod netlink;
mod sysctl;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::IpNet;

use crate::attachment::Attachment;
use crate::failure::{Code, Failure};
use crate::result::default_route;

pub(crate) use inspect::differences;
pub(crate) use namespace::Namespace;
pub(crate) use netlink::{Link, Netlink};

/// The pod's gateway for IPv4: no host has it, every pod may use it.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The pod's gateway for IPv6.
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Why a step of the wiring failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WiringError {
    /// The pod's network namespace cannot be used.
    #[error("cannot {action} network namespace `{}`", path.display())]
    Namespace {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The kernel refused a change of links, addresses, neighbours or routes.
    #[error("cannot {action}")]
    Netlink {
        action: String,
        #[source]
        source: io::Error,
    },
    /// A kernel setting could not be read or written.
    #[error("cannot set `{}` to {value}", path.display())]
    Sysctl {
        path: PathBuf,
        value: &'static str,
        #[source]
        source: io::Error,
    },
}

impl From<WiringError> for Failure {
    fn from(error: WiringError) -> Self {
        let code = match &error {
            WiringError::Namespace { .. } => Code::InvalidEnvironment,
            WiringError::Netlink { .. } | WiringError::Sysctl { .. } => Code::Wiring,
        };
        Self::caused_by(code, &error)
    }
}

/// What is to be wired.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Names and MACs follow from it.
    pub(crate) attachment: Attachment,
    /// The pod's addresses, at most one of each family.
    pub(crate) addresses: Vec<IpAddr>,
    /// `None`: the kernel's choice.
    pub(crate) mtu: Option<u32>,
}

/// One end of the link, as it is when all is well.
#[derive(Clone, Debug)]
struct End {
    name: String,
    mac: [u8; 6],
    mtu: Option<u32>,
    addresses: Vec<IpAddr>,
    neighbours: Vec<Neighbour>,
    routes: Vec<Route>,
}

/// An address whose MAC is known for good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Neighbour {
    address: IpAddr,
    mac: [u8; 6],
}

/// A route over one end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Route {
    destination: IpNet,
    /// `None`: the destination is on the link.
    gateway: Option<IpAddr>,
}

impl Plan {
    fn host_end(&self) -> End {
        let neighbour =
            |address: &IpAddr| Neighbour { address: *address, mac: self.attachment.pod_mac() };
        let route = |address: &IpAddr| Route { destination: IpNet::from(*address), gateway: None };
        End {
            name: self.attachment.host_interface(),
            mac: self.attachment.host_mac(),
            mtu: self.mtu,
            addresses: Vec::new(),
            neighbours: self.addresses.iter().map(neighbour).collect(),
            routes: self.addresses.iter().map(route).collect(),
        }
    }

    fn pod_end(&self) -> End {
        let gateways = || self.addresses.iter().map(|address| gateway(*address));
        let neighbour = |address: IpAddr| Neighbour { address, mac: self.attachment.host_mac() };
        let route =
            |gateway: IpAddr| Route { destination: default_route(gateway), gateway: Some(gateway) };
        End {
            name: self.attachment.interface().to_owned(),
            mac: self.attachment.pod_mac(),
            mtu: self.mtu,
            addresses: self.addresses.clone(),
            neighbours: gateways().map(neighbour).collect(),
            routes: gateways().map(route).collect(),
        }
    }

    fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }
}

/// The gateway of a pod with this address.
pub(crate) fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => GATEWAY_V4.into(),
        IpAddr::V6(_) => GATEWAY_V6.into(),
    }
}

/// Creates both ends, down and quiet, the pod's in its namespace at once: it is
/// never seen on the node. Returns the node's end.
pub(crate) fn create(
    netlink: &Netlink,
    namespace: &Namespace,
    plan: &Plan,
) -> Result<Link, WiringError> {
    let (host, pod) = (plan.host_end(), plan.pod_end());
    netlink.add_veth(&host, &pod, namespace.as_fd())?;
    sysctl::quieten(&host.name, plan.has_ipv6())?;
    sysctl::loosen_rp_filter(&host.name)?;
    sysctl::forward(plan.addresses.iter().any(IpAddr::is_ipv4), plan.has_ipv6())?;
    namespace.run(|| sysctl::quieten(&pod.name, plan.has_ipv6()))?;
    netlink.link(&host.name)?.ok_or_else(|| WiringError::Netlink {
        action: format!("find `{}`, just created", host.name),
        source: io::ErrorKind::NotFound.into(),
    })
}

/// Raises the pod's end, and its loopback.
pub(crate) fn raise_pod(namespace: &Namespace, plan: &Plan) -> Result<(), WiringError> {
    namespace.run(|| {
        let netlink = Netlink::open()?;
        if let Some(loopback) = netlink.link("lo")? {
            netlink.set_up(&loopback)?;
        }
        raise(&netlink, &plan.pod_end())
    })
}

/// Raises the node's end: from here on packets flow, as far as the programs let them.
pub(crate) fn raise_host(netlink: &Netlink, plan: &Plan) -> Result<(), WiringError> {
    raise(netlink, &plan.host_end())
}

/// The pod's end as it is.
pub(crate) fn pod_link(namespace: &Namespace, name: &str) -> Result<Option<Link>, WiringError> {
    namespace.run(|| Netlink::open()?.link(name))
}

/// Lays down what `end` says. Routes need the link up, and want the neighbours
/// first: then nothing is ever asked on the link.
fn raise(netlink: &Netlink, end: &End) -> Result<(), WiringError> {
    let link = netlink.link(&end.name)?.ok_or_else(|| WiringError::Netlink {
        action: format!("raise `{}`", end.name),
        source: io::ErrorKind::NotFound.into(),
    })?;
    for address in &end.addresses {
        netlink.add_address(&link, *address)?;
    }
    netlink.set_up(&link)?;
    for neighbour in &end.neighbours {
        netlink.add_neighbour(&link, *neighbour)?;
    }
    for route in &end.routes {
        netlink.add_route(&link, *route)?;
    }
    Ok(())
}
