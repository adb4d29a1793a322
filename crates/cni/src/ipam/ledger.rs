//! Which attachment has which addresses, and which come next.
//!
//! Pure: bytes in, bytes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::IpamError;
use crate::attachment::Attachment;

/// Version of the file's format.
const FORMAT: u32 = 1;

/// The addresses of one attachment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Lease {
    /// Network of the attachment: GC of one network leaves others alone.
    pub network: String,
    /// The runtime's id of the container.
    pub container_id: String,
    /// Interface inside the pod.
    pub interface: String,
    /// One address of each subnet.
    pub addresses: Vec<IpAddr>,
}

/// All leases, and the last address that was given from each subnet.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    version: u32,
    leases: Vec<Lease>,
    /// Addresses are given in a round, so that one that was just let go is not
    /// at once somebody else's: others may still know it by its old owner.
    last: BTreeMap<IpNet, IpAddr>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { version: FORMAT, leases: Vec::new(), last: BTreeMap::new() }
    }
}

impl Lease {
    fn is_of(&self, attachment: &Attachment) -> bool {
        self.container_id == attachment.container_id() && self.interface == attachment.interface()
    }
}

impl Ledger {
    /// Reads a ledger; says what is wrong with one that contradicts itself.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let ledger: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if ledger.version != FORMAT {
            return Err(format!("version {}, not {FORMAT}", ledger.version));
        }
        let mut owners: BTreeMap<IpAddr, &Lease> = BTreeMap::new();
        for lease in &ledger.leases {
            for address in &lease.addresses {
                if let Some(other) = owners.insert(*address, lease) {
                    return Err(format!(
                        "{address} belongs to both `{}` and `{}`",
                        other.container_id, lease.container_id
                    ));
                }
            }
        }
        Ok(ledger)
    }

    /// The ledger as it is kept.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and addresses only: there is nothing that could fail.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// All leases.
    pub fn leases(&self) -> &[Lease] {
        &self.leases
    }

    /// The addresses of an attachment; empty when it has none.
    pub fn addresses(&self, attachment: &Attachment) -> Vec<IpAddr> {
        let lease = self.leases.iter().find(|lease| lease.is_of(attachment));
        lease.map(|lease| lease.addresses.clone()).unwrap_or_default()
    }

    /// One address of each subnet: the ones the attachment has, or the next free
    /// ones. Changes nothing when a subnet has none.
    pub fn allocate(
        &mut self,
        network: &str,
        attachment: &Attachment,
        subnets: &[IpNet],
    ) -> Result<Vec<IpAddr>, IpamError> {
        let held = self.addresses(attachment);
        let mut addresses = Vec::new();
        for subnet in subnets {
            let address = held.iter().find(|held| subnet.contains(*held)).copied();
            addresses.push(match address {
                Some(address) => address,
                None => self.next_free(subnet)?,
            });
        }
        if addresses == held {
            return Ok(addresses);
        }
        for (subnet, address) in subnets.iter().zip(&addresses) {
            self.last.insert(*subnet, *address);
        }
        self.release(attachment);
        self.leases.push(Lease {
            network: network.to_owned(),
            container_id: attachment.container_id().to_owned(),
            interface: attachment.interface().to_owned(),
            addresses: addresses.clone(),
        });
        Ok(addresses)
    }

    /// Forgets the attachment's lease; says whether there was one.
    pub fn release(&mut self, attachment: &Attachment) -> bool {
        let before = self.leases.len();
        self.leases.retain(|lease| !lease.is_of(attachment));
        self.leases.len() != before
    }

    /// The first free address after the last that was given, in a round.
    fn next_free(&self, subnet: &IpNet) -> Result<IpAddr, IpamError> {
        let pool = pool(subnet);
        let taken: BTreeSet<u128> = self
            .leases
            .iter()
            .flat_map(|lease| &lease.addresses)
            .filter(|address| subnet.contains(*address))
            .map(|address| number(*address))
            .collect();
        let last = self.last.get(subnet).map(|address| number(*address));
        let start = match last {
            Some(last) if pool.contains(&last) && last != *pool.end() => last + 1,
            _ => *pool.start(),
        };
        // Both halves of the round end after at most one more step than there are
        // leases, however large the subnet.
        (start..=*pool.end())
            .chain(*pool.start()..=start)
            .find(|candidate| !taken.contains(candidate))
            .map(|free| address(free, subnet))
            .ok_or(IpamError::Exhausted { subnet: *subnet, taken: taken.len() })
    }
}

/// The numbers of the addresses for pods: not the network (for IPv6 the routers'
/// anycast, RFC 4291 section 2.6.1), not the first, by custom the gateway's, and
/// for IPv4 not the broadcast.
fn pool(subnet: &IpNet) -> RangeInclusive<u128> {
    let first = number(subnet.network()) + 2;
    let last = number(subnet.broadcast());
    first..=if subnet.addr().is_ipv4() { last - 1 } else { last }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The inverse of [`number`], in the family of `subnet`.
fn address(number: u128, subnet: &IpNet) -> IpAddr {
    match (subnet, u32::try_from(number)) {
        (IpNet::V4(_), Ok(bits)) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

#[cfg(test)]
mod tests;
