//! The node's uplinks: devices by which others reach the node itself.
//!
//! The operator names them, or they are those with an address of the node or with
//! a default route. Links of pods have neither: they are judged as the pods'.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

/// Devices whose frames have an Ethernet header, which is what the programs parse
/// (ARPHRD_ETHER).
const ETHERNET: u16 = 1;

/// One device of the node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Device {
    ifindex: u32,
    loopback: bool,
    ethernet: bool,
    addresses: BTreeSet<IpAddr>,
}

/// The node's devices, and which of them have a default route.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Devices {
    devices: BTreeMap<String, Device>,
    default_routes: BTreeSet<String>,
}

/// What is to be guarded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Uplinks {
    /// By index, with their names.
    pub guarded: BTreeMap<u32, String>,
    /// What should be guarded and cannot be, with the reason.
    pub refused: BTreeMap<String, String>,
}

impl Devices {
    /// Those of this network namespace.
    pub fn list() -> io::Result<Self> {
        let mut found = Self { devices: BTreeMap::new(), default_routes: default_routes()? };
        for interface in getifaddrs()? {
            found.add(&interface);
        }
        Ok(found)
    }

    fn add(&mut self, interface: &InterfaceAddress) {
        let device = self.devices.entry(interface.interface_name.clone()).or_default();
        device.loopback |= interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let Some(address) = &interface.address else { return };
        if let Some(link) = address.as_link_addr() {
            device.ifindex = u32::try_from(link.ifindex()).unwrap_or(0);
            device.ethernet = link.hatype() == ETHERNET;
        }
        let ipv4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let ipv6 = || address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
        device.addresses.extend(ipv4.or_else(ipv6));
    }

    /// Addresses of the node that others can reach: its pods also those of a link, as
    /// where a resolver of the node listens at 169.254.20.10.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let all = self.devices.values().flat_map(|device| &device.addresses);
        all.copied().filter(|address| !address.is_loopback()).collect()
    }

    /// The uplinks among them: those that are named, or without names those that
    /// look like ones. `pods` are the pods' links.
    pub fn uplinks(&self, named: &[String], pods: &BTreeSet<u32>) -> Uplinks {
        let mut uplinks = Uplinks::default();
        let mut take = |name: &String, device: &Device| {
            if device.ethernet && device.ifindex != 0 {
                uplinks.guarded.insert(device.ifindex, name.clone());
            } else {
                let reason = "its frames have no Ethernet header, so nobody judges them";
                uplinks.refused.insert(name.clone(), reason.to_owned());
            }
        };
        if named.is_empty() {
            let is_uplink = |(name, device): &(&String, &Device)| {
                let reached = device.addresses.iter().any(|address| !is_of_the_link(*address))
                    || self.default_routes.contains(*name);
                reached && !device.loopback && !pods.contains(&device.ifindex)
            };
            self.devices.iter().filter(is_uplink).for_each(|(name, device)| take(name, device));
            return uplinks;
        }
        let mut missing = Vec::new();
        for name in named {
            match self.devices.get(name) {
                Some(device) => take(name, device),
                None => missing.push(name.clone()),
            }
        }
        let absent = || "there is no such device".to_owned();
        uplinks.refused.extend(missing.into_iter().map(|name| (name, absent())));
        uplinks
    }
}

fn is_of_the_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    }
}

/// Names of the devices that have a default route, from the kernel's own tables.
fn default_routes() -> io::Result<BTreeSet<String>> {
    let ipv4 = fs::read_to_string("/proc/thread-self/net/route")?;
    // A kernel without IPv6 has no such table.
    let ipv6 = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    Ok(ipv4_defaults(&ipv4).chain(ipv6_defaults(&ipv6)).collect())
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ...`, numbers in hexadecimal.
fn ipv4_defaults(table: &str) -> impl Iterator<Item = String> + '_ {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        is_default.then(|| fields[0].to_owned())
    })
}

/// Destination and its length first, the device last.
fn ipv6_defaults(table: &str) -> impl Iterator<Item = String> + '_ {
    table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let everything = fields.first()?.bytes().all(|digit| digit == b'0');
        // Every namespace has one that refuses, on its loopback device.
        let device = fields.last().filter(|device| **device != "lo")?;
        (everything && fields.get(1) == Some(&"00")).then(|| (*device).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(ifindex: u32, addresses: &[&str]) -> Device {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Device { ifindex, loopback: ifindex == 1, ethernet: true, addresses }
    }

    fn devices() -> Devices {
        let tunnel = Device { ethernet: false, ..device(9, &["10.9.0.1"]) };
        let devices = [
            ("lo", device(1, &["127.0.0.1", "::1", "192.0.2.1"])),
            ("eth0", device(2, &["172.20.0.11", "fe80::1"])),
            ("eth1", device(3, &[])),
            ("eth2", device(4, &["fe80::2"])),
            ("sgpod", device(5, &["fe80::5"])),
            ("odd", device(6, &["10.1.0.1"])),
            ("resolver", device(7, &["169.254.20.10"])),
            ("wg0", tunnel),
        ];
        let devices = devices.map(|(name, device)| (name.to_owned(), device)).into();
        Devices { devices, default_routes: ["eth1".to_owned()].into() }
    }

    #[test]
    fn uplinks_have_an_address_of_the_node_or_the_default_route() {
        let uplinks = devices().uplinks(&[], &[6].into());
        let names: Vec<&str> = uplinks.guarded.values().map(String::as_str).collect();
        assert_eq!(names, ["eth0", "eth1"]);
        assert_eq!(uplinks.refused.keys().collect::<Vec<_>>(), ["wg0"]);
    }

    #[test]
    fn uplinks_that_are_named_are_the_only_ones() {
        let named = ["eth2".to_owned(), "eth7".to_owned()];
        let uplinks = devices().uplinks(&named, &BTreeSet::new());
        assert_eq!(uplinks.guarded, [(4, "eth2".to_owned())].into());
        assert_eq!(uplinks.refused["eth7"], "there is no such device");
    }

    #[test]
    fn addresses_of_links_are_the_node_s_and_those_of_the_loopback_network_are_not() {
        let addresses: Vec<String> =
            devices().addresses().iter().map(ToString::to_string).collect();
        let routed = ["10.1.0.1", "10.9.0.1", "169.254.20.10", "172.20.0.11", "192.0.2.1"];
        assert_eq!(addresses, [&routed[..], &["fe80::1", "fe80::2", "fe80::5"]].concat());
    }

    #[test]
    fn default_routes_are_read_from_the_kernels_tables() {
        let ipv4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                    eth0\t00000000\t0100140A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth1\t0000140A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(ipv4_defaults(ipv4).collect::<Vec<_>>(), ["eth0"]);
        let zero = "0".repeat(32);
        let ipv6 = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 1 0 00000003     eth2\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200       lo\n\
             fd00 40 {zero} 00 {zero} 00000100 1 0 00000001     eth3\n"
        );
        assert_eq!(ipv6_defaults(&ipv6).collect::<Vec<_>>(), ["eth2"]);
    }
}
