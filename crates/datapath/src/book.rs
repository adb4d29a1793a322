//! The address book as the kernel holds it, and the smallest set of writes that
//! moves it from its present content to another at a revision.
//!
//! Pure: no maps. Who is behind an address moves with the same word as what he
//! may do: a packet never meets the old name and the new rights, or the other way
//! round. A range that comes or goes holds on its other side what covers it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use abi::{Holder, Peer, Range};
use ipnet::IpNet;

/// An address as the kernel keys it.
pub(crate) type Key = [u8; 16];
/// Length of a prefix, and the address.
pub(crate) type Prefix = (u32, Key);

const NOBODY: Holder = Holder { identity: 0, endpoint: 0 };

pub(crate) fn mapped(address: IpAddr) -> Key {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

pub(crate) fn mapped_prefix(prefix: IpNet) -> Prefix {
    let bits = u32::from(prefix.prefix_len());
    match prefix {
        IpNet::V4(_) => (96 + bits, mapped(prefix.network())),
        IpNet::V6(_) => (bits, mapped(prefix.network())),
    }
}

/// The writes that move a map, and the keys that may go: at once, because an
/// update that died left them and they mean nothing of their own, or once no packet
/// is judged by the old revision any more.
#[derive(Debug)]
pub(crate) struct Change<K, V> {
    pub(crate) writes: Vec<(K, V)>,
    pub(crate) obsolete: Vec<K>,
    pub(crate) dead: Vec<K>,
}

/// A value before a revision and from it on.
trait Versioned: Copy {
    type Content: Copy + Eq;
    fn since(&self) -> u32;
    fn at(&self, revision: u32) -> Self::Content;
    fn new(from_revision: u32, before: Self::Content, after: Self::Content) -> Self;
}

impl Versioned for Peer {
    type Content = Holder;

    fn since(&self) -> u32 {
        self.from_revision
    }

    fn at(&self, revision: u32) -> Holder {
        if revision >= self.from_revision { self.after } else { self.before }
    }

    fn new(from_revision: u32, before: Holder, after: Holder) -> Self {
        Self { from_revision, before, after }
    }
}

impl Versioned for Range {
    type Content = u32;

    fn since(&self) -> u32 {
        self.from_revision
    }

    fn at(&self, revision: u32) -> u32 {
        if revision >= self.from_revision { self.after } else { self.before }
    }

    fn new(from_revision: u32, before: u32, after: u32) -> Self {
        Self { from_revision, before, after }
    }
}

/// Moves single addresses from what they mean at `revision` to `wanted` at `next`.
pub(crate) fn addresses(
    image: &BTreeMap<Key, Peer>,
    wanted: &BTreeMap<Key, Holder>,
    revision: u32,
    next: u32,
) -> Change<Key, Peer> {
    let before = |_: &Key| NOBODY;
    change(image, wanted, (revision, next), before, before)
}

/// The same for ranges.
pub(crate) fn ranges(
    image: &BTreeMap<Prefix, Range>,
    wanted: &BTreeMap<Prefix, u32>,
    revision: u32,
    next: u32,
) -> Change<Prefix, Range> {
    let installed = Lengths::of(image.keys());
    let desired = Lengths::of(wanted.keys());
    let before = |prefix: &Prefix| {
        let covering = installed.covering(*prefix);
        covering.into_iter().find_map(|key| image.get(&key)).map_or(0, |range| range.at(revision))
    };
    let after = |prefix: &Prefix| {
        let covering = desired.covering(*prefix);
        covering.into_iter().find_map(|key| wanted.get(&key)).copied().unwrap_or(0)
    };
    change(image, wanted, (revision, next), before, after)
}

/// `before` and `after` say what a key means where it is not itself.
fn change<K: Copy + Ord, V: Versioned>(
    image: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V::Content>,
    (revision, next): (u32, u32),
    before: impl Fn(&K) -> V::Content,
    after: impl Fn(&K) -> V::Content,
) -> Change<K, V> {
    let mut writes = Vec::new();
    let (mut obsolete, mut dead) = (Vec::new(), Vec::new());
    for (key, installed) in image {
        let now = installed.at(revision);
        if !wanted.contains_key(key) {
            if now == before(key) { dead.push(*key) } else { obsolete.push(*key) }
        }
        let then = wanted.get(key).copied().unwrap_or_else(|| after(key));
        // An update that never became visible must not come to life.
        if installed.since() > revision || now != then {
            writes.push((*key, V::new(next, now, then)));
        }
    }
    let new = wanted.iter().filter(|(key, _)| !image.contains_key(*key));
    writes.extend(new.map(|(key, then)| (*key, V::new(next, before(key), *then))));
    Change { writes, obsolete, dead }
}

/// The lengths that prefixes of a map have, the longest first.
struct Lengths(Vec<u32>);

impl Lengths {
    fn of<'a>(prefixes: impl Iterator<Item = &'a Prefix>) -> Self {
        let lengths: BTreeSet<u32> = prefixes.map(|(bits, _)| *bits).collect();
        Self(lengths.into_iter().rev().collect())
    }

    /// The prefixes that would cover this one, the longest first; not itself.
    fn covering(&self, (bits, key): Prefix) -> Vec<Prefix> {
        let shorter = self.0.iter().copied().filter(|length| *length < bits);
        shorter.map(|length| (length, cut(key, length))).collect()
    }
}

fn cut(key: Key, bits: u32) -> Key {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    (u128::from_be_bytes(key) & mask).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        mapped_prefix(text.parse().unwrap())
    }

    fn ranges_of(list: &[(&str, u32)]) -> BTreeMap<Prefix, u32> {
        list.iter().map(|(net, identity)| (prefix(net), *identity)).collect()
    }

    /// As the kernel looks an address up: the longest prefix of the map only.
    fn look_up(image: &BTreeMap<Prefix, Range>, address: &str, revision: u32) -> u32 {
        let key = (129, mapped(address.parse().unwrap()));
        let covering = Lengths::of(image.keys()).covering(key);
        covering.iter().find_map(|key| image.get(key)).map_or(0, |range| range.at(revision))
    }

    /// Moves ranges and checks what two addresses mean before, after, and once
    /// what is obsolete has gone.
    #[track_caller]
    fn check(old: &[(&str, u32)], new: &[(&str, u32)], means: [(&str, u32, u32); 2]) {
        let mut image = BTreeMap::new();
        image.extend(ranges(&image, &ranges_of(old), 0, 1).writes);
        let change = ranges(&image, &ranges_of(new), 1, 2);
        image.extend(change.writes);
        for (address, before, after) in means {
            assert_eq!(look_up(&image, address, 1), before, "{address} before");
            assert_eq!(look_up(&image, address, 2), after, "{address} after");
        }
        image.retain(|key, _| !change.obsolete.contains(key));
        for (address, _, after) in means {
            assert_eq!(look_up(&image, address, 2), after, "{address} cleaned up");
        }
        assert!(image.keys().eq(ranges_of(new).keys()), "nothing is left over");
    }

    #[test]
    fn a_range_inside_another_means_the_other_until_it_counts() {
        check(
            &[("10.0.0.0/8", 7)],
            &[("10.0.0.0/8", 7), ("10.1.0.0/16", 8)],
            [("10.1.0.1", 7, 8), ("10.2.0.1", 7, 7)],
        );
    }

    #[test]
    fn a_range_that_goes_gives_back_what_covers_it() {
        check(
            &[("10.0.0.0/8", 7), ("10.1.0.0/16", 8)],
            &[("10.0.0.0/8", 9)],
            [("10.1.0.1", 8, 9), ("10.2.0.1", 7, 9)],
        );
        check(&[("10.1.0.0/16", 8)], &[], [("10.1.0.1", 8, 0), ("10.2.0.1", 0, 0)]);
    }

    #[test]
    fn ranges_of_both_families_do_not_meet() {
        check(
            &[("::/0", 5)],
            &[("::/0", 5), ("0.0.0.0/0", 6)],
            [("fd00::1", 5, 5), ("10.0.0.1", 5, 6)],
        );
    }

    #[test]
    fn an_address_that_never_became_visible_does_not_come_to_life() {
        let key = mapped("10.0.0.1".parse().unwrap());
        let holder = |identity| Holder { identity, endpoint: 0 };
        let mut image = BTreeMap::new();
        image.extend(addresses(&image, &[(key, holder(7))].into(), 1, 2).writes);
        let again = addresses(&image, &BTreeMap::new(), 1, 2);
        image.extend(again.writes);
        assert_eq!(image[&key].at(2), NOBODY);
        assert_eq!((again.obsolete, again.dead), (vec![], vec![key]));
    }

    #[test]
    fn a_range_that_an_update_left_behind_makes_room_at_once() {
        let wide = ranges_of(&[("10.0.0.0/8", 7)]);
        let mut image = BTreeMap::new();
        image.extend(ranges(&image, &wide, 0, 1).writes);
        let narrow = ranges_of(&[("10.0.0.0/8", 7), ("10.1.0.0/16", 8)]);
        image.extend(ranges(&image, &narrow, 1, 2).writes);
        let never_seen = ranges(&image, &wide, 1, 3);
        assert_eq!(never_seen.dead, [prefix("10.1.0.0/16")]);
        let seen = ranges(&image, &wide, 2, 3);
        assert!(seen.dead.is_empty());
        image.extend(seen.writes);
        assert_eq!(ranges(&image, &wide, 3, 4).dead, [prefix("10.1.0.0/16")]);
    }

    #[test]
    fn an_address_that_means_the_same_needs_no_write() {
        let key = mapped("fd00::1".parse().unwrap());
        let wanted = [(key, Holder { identity: 7, endpoint: 3 })].into();
        let mut image = BTreeMap::new();
        image.extend(addresses(&image, &wanted, 1, 2).writes);
        let again = addresses(&image, &wanted, 2, 3);
        assert!(again.writes.is_empty() && again.obsolete.is_empty());
    }
}
