//! Moves the kernel from what it holds to what it should hold.
//!
//! The order is the point, and each step is safe to die after:
//! 1. check that everything fits; nothing is written before;
//! 2. take away endpoints that are gone, and addresses from those that lose them,
//!    so that none can speak with one that is about to mean somebody else;
//! 3. write, invisibly, what the next revision will find: tables, subjects, then
//!    who is behind each address and range;
//! 4. move the one revision word;
//! 5. publish new endpoints, then lead services to backends, which are all known;
//! 6. wait until no packet is judged by the old revision, and clean up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use abi::{Address, Holder, Peer, PolicyEntry, PolicyKey, PrefixKey, Range, Subject};
use zerocopy::IntoBytes;

use crate::book::{self, Key, Prefix, mapped, mapped_prefix};
use crate::control::ControlWord;
use crate::desired::{Applied, Desired, Limits};
use crate::endpoint::{as_installed, host_endpoint, pod_endpoint, sharers};
use crate::error::{ApplyError, MapError};
use crate::installed::{HOST_INTERFACE, Installed};
use crate::pins::{self, Pins};
use crate::trie::{self, Change, Content};

/// What a change of the address book writes and later removes.
struct BookChange {
    addresses: book::Change<Key, Peer>,
    ranges: book::Change<Prefix, Range>,
}

/// One move from what is installed to what is desired.
pub(crate) struct Apply<'a> {
    pub(crate) installed: &'a mut Installed,
    pub(crate) control: &'a ControlWord,
    /// The word as it was moved last, whatever somebody wrote there since.
    pub(crate) revision: &'a mut u32,
    pub(crate) pins: &'a Pins,
    pub(crate) limits: Limits,
    pub(crate) desired: &'a Desired,
    /// Another version's revision, that ours must not stay behind.
    pub(crate) above: u32,
    /// Frees connections whose endpoint is gone.
    pub(crate) sweep: &'a dyn Fn() -> Result<u32, MapError>,
}

impl Apply<'_> {
    pub(crate) fn run(mut self) -> Result<Applied, ApplyError> {
        let revision = *self.revision;
        // Not above what elements say: whatever was written for a revision that never
        // came is written again before this one does.
        let next = revision.max(self.above) + 1;
        let changes = self.plan_tables(revision, next);
        let mut book = self.plan_book(revision, next);
        self.check_fit(&changes)?;

        if self.desired.host.subject.is_none() {
            self.control.set_host(false);
        }
        // What is gone makes room for what is new.
        let mut written =
            self.bury(&mut book)? + self.remove_endpoints()? + self.withdraw_addresses()?;
        written += self.create_tables()?;
        let mut hidden = 0;
        for (number, change) in &changes {
            hidden += self.write_table(*number, change)?;
        }
        hidden += self.write_subjects(revision, next)?;
        hidden += self.write_book(&book)?;
        if hidden > 0 {
            self.control.set_revision(next);
            *self.revision = next;
        }
        written += hidden + self.publish_endpoints()?;

        self.control.set_host(self.desired.host.subject.is_some());
        written += self.write_services()?;

        let tables = changes.values().any(|change| !change.obsolete.is_empty());
        if tables || !book.addresses.obsolete.is_empty() || !book.ranges.obsolete.is_empty() {
            self.wait_for_packets_in_flight()?;
            written += self.clean_up(&changes)?;
            written += self.remove_addresses(&book.addresses.obsolete)?;
            written += self.remove_ranges(&book.ranges.obsolete)?;
        }
        written += self.remove_tables()?;
        for (number, table) in &self.desired.tables {
            if let Some(installed) = self.installed.tables.get_mut(number) {
                installed.holds = Some(Arc::clone(table));
            }
        }
        Ok(Applied { revision: *self.revision, written })
    }

    fn plan_tables(&self, revision: u32, next: u32) -> BTreeMap<u32, Change> {
        let existing = self.desired.tables.iter().filter_map(|(number, table)| {
            let installed = self.installed.tables.get(number).filter(|known| !known.is(table))?;
            let content = trie::content(table);
            Some((*number, trie::change(&installed.image, &content, revision, next)))
        });
        existing.collect()
    }

    fn plan_book(&self, revision: u32, next: u32) -> BookChange {
        let installed = &*self.installed;
        let wanted = self.desired.prefixes.iter();
        let ranges = wanted.map(|(net, identity)| (mapped_prefix(*net), u32::from(*identity)));
        BookChange {
            addresses: book::addresses(
                &installed.addresses,
                &self.wanted_addresses(),
                revision,
                next,
            ),
            ranges: book::ranges(&installed.prefixes, &ranges.collect(), revision, next),
        }
    }

    fn check_fit(&self, changes: &BTreeMap<u32, Change>) -> Result<(), ApplyError> {
        let desired = self.desired;
        let fits = |what: &str, needed: usize, limit: u32, field: &'static str| {
            if needed <= limit as usize {
                return Ok(());
            }
            Err(ApplyError::TooMany { what: what.to_owned(), needed, limit, field })
        };
        fits("endpoints", desired.endpoints.len(), self.limits.endpoints, "endpoints")?;
        // Tables of old and new endpoints stand side by side for a while.
        let old = self.installed.tables.keys();
        let tables: BTreeSet<&u32> = old.chain(desired.tables.keys()).collect();
        fits("policy tables", tables.len(), self.limits.tables(), "endpoints")?;
        fits("addresses", desired.addresses.len(), self.limits.addresses, "addresses")?;
        fits("address ranges", desired.prefixes.len(), self.limits.addresses, "addresses")?;
        let services = &desired.services;
        fits("addresses and ports of services", services.keys(), self.limits.services, "services")?;
        fits("backends of services", services.backends(), self.limits.backends, "backends")?;
        for (number, table) in &desired.tables {
            let entries = match self.installed.tables.get(number) {
                None => table.len(),
                Some(installed) => {
                    let writes = changes.get(number).map_or(&[][..], |change| &change.writes);
                    let new = writes
                        .iter()
                        .filter(|(node, _)| !installed.image.contains_key(node))
                        .count();
                    installed.image.len() + new
                }
            };
            let what = format!("entries of policy table {number}");
            // A table that exists keeps the size it was made with.
            let made = self.installed.tables.get(number).map(|table| table.map.max_entries());
            let limit = self.limits.table_entries.min(made.unwrap_or(u32::MAX));
            fits(&what, entries, limit, "table_entries")?;
        }
        self.check_endpoints()
    }

    fn check_endpoints(&self) -> Result<(), ApplyError> {
        let mut ids = BTreeSet::new();
        for (&ifindex, endpoint) in &self.desired.endpoints {
            let pod = endpoint.id >= abi::endpoint_id::FIRST_POD && ifindex != HOST_INTERFACE;
            if !pod || !ids.insert(endpoint.id) {
                return Err(ApplyError::EndpointId { ifindex, id: endpoint.id });
            }
        }
        for (ifindex, endpoint) in self.wanted_endpoints() {
            let Subject { table, fallback, confirm_by, .. } = endpoint.after;
            let mut needed = [Some(table), (confirm_by != 0).then_some(fallback)].into_iter();
            let missing = needed
                .find(|table| table.is_some_and(|table| !self.desired.tables.contains_key(&table)));
            if let Some(Some(table)) = missing {
                return Err(ApplyError::NoTable { ifindex, table });
            }
        }
        Ok(())
    }

    /// Every endpoint as the kernel is told, if it were new.
    fn wanted_endpoints(&self) -> BTreeMap<u32, abi::Endpoint> {
        let pods = self.desired.endpoints.iter();
        let pods = pods.map(|(ifindex, endpoint)| (*ifindex, pod_endpoint(endpoint)));
        let host = self.desired.host.subject.as_ref();
        pods.chain(host.map(|subject| (HOST_INTERFACE, host_endpoint(subject)))).collect()
    }

    /// Tables that no endpoint can know yet, complete before they can be found.
    fn create_tables(&mut self) -> Result<usize, ApplyError> {
        let mut written = 0;
        for (number, table) in &self.desired.tables {
            if self.installed.tables.contains_key(number) {
                continue;
            }
            let content: Content = trie::content(table);
            let entry = |after| PolicyEntry { from_revision: 0, before: trie::NONE, after };
            let image: trie::Image =
                content.into_iter().map(|(node, after)| (node, entry(after))).collect();
            written += image.len() + 1;
            self.installed.create_table(*number, self.limits.table_entries, image)?;
        }
        Ok(written)
    }

    fn write_table(&mut self, number: u32, change: &Change) -> Result<usize, ApplyError> {
        let Some(table) = self.installed.tables.get_mut(&number) else { return Ok(0) };
        table.holds = None;
        for (node, entry) in &change.writes {
            table.map.set(&PolicyKey::from(*node), entry)?;
            table.image.insert(*node, *entry);
        }
        Ok(change.writes.len())
    }

    /// Endpoints that stay but become somebody else or get another table.
    fn write_subjects(&mut self, revision: u32, next: u32) -> Result<usize, ApplyError> {
        let mut moved = 0;
        for (ifindex, endpoint) in self.wanted_endpoints() {
            let Some(installed) = self.installed.endpoints.get(&ifindex) else { continue };
            if installed.id != endpoint.id {
                continue;
            }
            let uncommitted = installed.from_revision > revision;
            let before = if uncommitted { installed.before } else { installed.after };
            let after = endpoint.after;
            if !uncommitted && before.as_bytes() == after.as_bytes() {
                continue;
            }
            let value = abi::Endpoint { from_revision: next, before, after, ..*installed };
            self.installed.endpoint_map.set(&ifindex, &value)?;
            self.installed.endpoints.insert(ifindex, value);
            moved += 1;
        }
        Ok(moved)
    }

    /// Endpoints that are new, or whose addresses changed.
    fn publish_endpoints(&mut self) -> Result<usize, ApplyError> {
        let mut written = 0;
        let known = |id: u32| self.installed.endpoints.values().any(|known| known.id == id);
        let wanted = self.wanted_endpoints();
        if wanted.values().any(|endpoint| !known(endpoint.id)) {
            // One that comes back must not find its old connections uncounted.
            (self.sweep)()?;
        }
        for (ifindex, endpoint) in wanted {
            let installed = self.installed.endpoints.get(&ifindex);
            let same = installed.filter(|installed| installed.id == endpoint.id);
            let value = as_installed(endpoint, same);
            if same.is_some_and(|same| same.as_bytes() == value.as_bytes()) {
                continue;
            }
            if same.is_none() {
                for id in sharers(endpoint.id) {
                    let accounts = &self.installed.accounts;
                    if self.pins.is_staged() { accounts.keep(id) } else { accounts.open(id) }?;
                }
            }
            self.installed.endpoint_map.set(&ifindex, &value)?;
            self.installed.endpoints.insert(ifindex, value);
            written += 1;
        }
        Ok(written)
    }

    /// Every address, its identity, and its endpoint if that is here.
    fn wanted_addresses(&self) -> BTreeMap<Key, Holder> {
        let host = self.desired.host.addresses.iter();
        let host = host.map(|address| (mapped(*address), abi::endpoint_id::HOST));
        let local: BTreeMap<[u8; 16], u32> = self
            .desired
            .endpoints
            .values()
            .flat_map(|endpoint| {
                let v4 = endpoint.ipv4.map(|v4| mapped(v4.into()));
                let v6 = endpoint.ipv6.map(|v6| mapped(v6.into()));
                v4.into_iter().chain(v6).map(|address| (address, endpoint.id))
            })
            .chain(host)
            .collect();
        let addresses = self.desired.addresses.iter().map(|(address, identity)| {
            let key = mapped(*address);
            let endpoint = local.get(&key).copied().unwrap_or(0);
            (key, Holder { identity: u32::from(*identity), endpoint })
        });
        addresses.collect()
    }

    /// Who is behind each address, from the next revision on.
    fn write_book(&mut self, change: &BookChange) -> Result<usize, ApplyError> {
        for (key, peer) in &change.addresses.writes {
            self.installed.address_map.set(&Address { bytes: *key }, peer)?;
            self.installed.addresses.insert(*key, *peer);
        }
        for (prefix, range) in &change.ranges.writes {
            self.installed.prefix_map.set(&prefix_key(*prefix), range)?;
            self.installed.prefixes.insert(*prefix, *range);
        }
        Ok(change.addresses.writes.len() + change.ranges.writes.len())
    }

    /// What an update left that died: it would take the room of what is wanted.
    fn bury(&mut self, book: &mut BookChange) -> Result<usize, ApplyError> {
        let BookChange { addresses, ranges } = book;
        if addresses.dead.is_empty() && ranges.dead.is_empty() {
            return Ok(0);
        }
        self.wait_for_packets_in_flight()?;
        let dead: BTreeSet<Key> = addresses.dead.iter().copied().collect();
        addresses.writes.retain(|(key, _)| !dead.contains(key));
        let dead: BTreeSet<Prefix> = ranges.dead.iter().copied().collect();
        ranges.writes.retain(|(prefix, _)| !dead.contains(prefix));
        Ok(self.remove_addresses(&addresses.dead)? + self.remove_ranges(&ranges.dead)?)
    }

    fn remove_addresses(&mut self, keys: &[Key]) -> Result<usize, ApplyError> {
        for key in keys {
            self.installed.address_map.remove(&Address { bytes: *key })?;
            self.installed.addresses.remove(key);
        }
        Ok(keys.len())
    }

    fn remove_ranges(&mut self, prefixes: &[Prefix]) -> Result<usize, ApplyError> {
        for prefix in prefixes {
            self.installed.prefix_map.remove(&prefix_key(*prefix))?;
            self.installed.prefixes.remove(prefix);
        }
        Ok(prefixes.len())
    }

    /// Endpoints that stay and have an address no longer.
    fn withdraw_addresses(&mut self) -> Result<usize, ApplyError> {
        let mut written = 0;
        for (ifindex, wanted) in &self.wanted_endpoints() {
            let Some(installed) = self.installed.endpoints.get(ifindex) else { continue };
            let both = |had: Address, has: Address| {
                if had == has { had } else { Address { bytes: [0; 16] } }
            };
            let (ipv4, ipv6) =
                (both(installed.ipv4, wanted.ipv4), both(installed.ipv6, wanted.ipv6));
            if (ipv4, ipv6) != (installed.ipv4, installed.ipv6) {
                let value = abi::Endpoint { ipv4, ipv6, ..*installed };
                self.installed.endpoint_map.set(ifindex, &value)?;
                self.installed.endpoints.insert(*ifindex, value);
                written += 1;
            }
        }
        Ok(written)
    }

    /// What an earlier try left half written goes first: it takes room.
    fn write_services(&mut self) -> Result<usize, ApplyError> {
        let mut written = self.remove_unnamed_sets()?;
        written += self.installed.services.write(&self.desired.services)?;
        written += self.remove_unnamed_sets()?;
        Ok(written)
    }

    fn remove_unnamed_sets(&mut self) -> Result<usize, ApplyError> {
        let sets = self.installed.services.unnamed();
        if sets.is_empty() {
            return Ok(0);
        }
        // Socket hooks run inside RCU read sections, as programs on interfaces do.
        self.wait_for_packets_in_flight()?;
        Ok(self.installed.services.remove_sets(&sets)?)
    }

    /// Endpoints that are gone, or another one on the same interface. Their
    /// connections are freed by the next sweep,
    /// which finds no counter for them; until then nobody can reach them.
    fn remove_endpoints(&mut self) -> Result<usize, ApplyError> {
        let wanted = self.wanted_endpoints();
        let gone: Vec<(u32, u32)> = self
            .installed
            .endpoints
            .iter()
            .filter(|(ifindex, endpoint)| {
                let wanted = wanted.get(*ifindex);
                wanted.is_none_or(|wanted| wanted.id != endpoint.id)
            })
            .map(|(ifindex, endpoint)| (*ifindex, endpoint.id))
            .collect();
        for (ifindex, id) in &gone {
            self.installed.endpoint_map.remove(ifindex)?;
            for id in sharers(*id) {
                self.installed.accounts.close(id)?;
            }
            self.installed.endpoints.remove(ifindex);
        }
        Ok(gone.len())
    }

    fn clean_up(&mut self, changes: &BTreeMap<u32, Change>) -> Result<usize, ApplyError> {
        let mut removed = 0;
        for (number, change) in changes {
            let Some(table) = self.installed.tables.get_mut(number) else { continue };
            for node in &change.obsolete {
                table.map.remove(&PolicyKey::from(*node))?;
                table.image.remove(node);
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Tables that neither the old nor the new revision of an endpoint names.
    fn remove_tables(&mut self) -> Result<usize, ApplyError> {
        let gone: Vec<u32> = self
            .installed
            .tables
            .keys()
            .filter(|number| !self.desired.tables.contains_key(*number))
            .copied()
            .collect();
        if gone.is_empty() {
            return Ok(0);
        }
        self.wait_for_packets_in_flight()?;
        for number in &gone {
            self.installed.remove_table(*number)?;
        }
        self.remove_stale_links();
        Ok(gone.len())
    }

    /// Returns when every program that ran before the call has ended: they run
    /// inside RCU read sections, and this command waits for a grace period
    /// (membarrier(2)). Kernels with isolated CPUs do not have it.
    fn wait_for_packets_in_flight(&self) -> Result<(), ApplyError> {
        // SAFETY: a system call with three integers; it touches no memory of ours.
        let result =
            unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
        if result == 0 {
            return Ok(());
        }
        Ok(self.installed.wait_by_update()?)
    }

    /// Pins of interfaces that are gone. What cannot be removed now is tried again.
    fn remove_stale_links(&self) {
        for path in self.pins.links().unwrap_or_default() {
            let detached = crate::attach::link_is_detached(&path);
            if detached && let Err(error) = pins::remove(&path) {
                tracing::warn!(path = %path.display(), %error, "stale link stays pinned");
            }
        }
    }
}

fn prefix_key((prefix_bits, bytes): Prefix) -> PrefixKey {
    PrefixKey { prefix_bits, address: Address { bytes } }
}
