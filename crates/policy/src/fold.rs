//! Rules of one peer, folded into entries that each decide alone.
//!
//! The kernel takes the longest prefix that covers a packet and looks no
//! further, so every entry must already hold the best of all shorter prefixes
//! that cover it. Knows protocols, ports and precedences; nothing about peers.

use std::collections::{BTreeMap, BTreeSet};

use crate::ports::{ICMP, ICMPV6, Port, Ports};
use crate::table::{Why, masked};

/// A protocol and the leading bits of a port. Protocol 0 covers everything.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Prefix {
    pub protocol: u8,
    pub port: u16,
    pub bits: u8,
}

impl Prefix {
    pub const EVERYTHING: Self = Self { protocol: 0, port: 0, bits: 0 };

    pub fn len(self) -> u8 {
        if self.protocol == 0 { 0 } else { 8 + self.bits }
    }

    /// The shorter prefixes that cover this one, longest first.
    pub fn covering(self) -> impl Iterator<Item = Self> {
        let with_protocol = (0..self.bits).rev().map(move |bits| Self {
            protocol: self.protocol,
            port: masked(self.port, bits),
            bits,
        });
        with_protocol.chain((self.protocol != 0).then_some(Self::EVERYTHING))
    }
}

/// The prefixes that together cover exactly these ports. Without `icmp_types`
/// one type stands for all of them.
pub(crate) fn prefixes(
    ports: &Ports,
    named: &BTreeMap<String, (u8, u16)>,
    icmp_types: bool,
) -> BTreeSet<Prefix> {
    let Ports::OneOf(list) = ports else {
        return [Prefix::EVERYTHING].into();
    };
    let mut prefixes = BTreeSet::new();
    for entry in list {
        for &protocol in entry.transport.numbers() {
            let (first, last) = match &entry.port {
                Port::Any => (0, u16::MAX),
                Port::Range(..) if !icmp_types && matches!(protocol, ICMP | ICMPV6) => {
                    (0, u16::MAX)
                }
                Port::Range(first, last) => (*first, *last),
                Port::Named(name) => match named.get(name) {
                    Some((number, port)) if *number == protocol => (*port, *port),
                    _ => continue,
                },
            };
            prefixes.extend(blocks(first, last).map(|(port, bits)| Prefix {
                protocol,
                port,
                bits,
            }));
        }
    }
    prefixes
}

/// The largest aligned power-of-two blocks that make up a range, in order; none
/// for a range that ends before it starts.
fn blocks(first: u16, last: u16) -> impl Iterator<Item = (u16, u8)> {
    let end = u32::from(last) + 1;
    let mut next = u32::from(first);
    std::iter::from_fn(move || {
        let left = end.checked_sub(next).filter(|left| *left > 0)?;
        // A block starts at a multiple of its size and ends within the range.
        let aligned = next.trailing_zeros().min(16);
        let size_bits = aligned.min(left.ilog2());
        let port = u16::try_from(next).ok()?;
        next += 1 << size_bits;
        Some((port, 16_u8.saturating_sub(u8::try_from(size_bits).ok()?)))
    })
}

/// What one rule, or the installation, says about a prefix; after folding, what
/// all of them say together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ruling {
    pub allow: bool,
    pub why: Why,
    pub precedence: u32,
    /// Positions of the deciding rules, sorted.
    pub rules: Vec<usize>,
}

impl Ruling {
    /// The better of two; of equals, both.
    pub fn join(self, other: &Self) -> Self {
        match self.precedence.cmp(&other.precedence) {
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Less => other.clone(),
            std::cmp::Ordering::Equal => {
                let mut rules = self.rules;
                rules.extend(&other.rules);
                rules.sort_unstable();
                rules.dedup();
                Self { rules, ..self }
            }
        }
    }
}

/// Folds rulings: each prefix gets the best of its own and all that cover it.
/// A prefix that says the same as the next shorter one is left out.
pub(crate) fn fold(rulings: Vec<(Prefix, Ruling)>) -> BTreeMap<Prefix, Ruling> {
    let mut own: BTreeMap<(u8, Prefix), Ruling> = BTreeMap::new();
    for (prefix, ruling) in rulings {
        let joined = match own.remove(&(prefix.len(), prefix)) {
            Some(present) => present.join(&ruling),
            None => ruling,
        };
        own.insert((prefix.len(), prefix), joined);
    }
    // Shortest first, so that whatever covers a prefix is folded before it.
    let mut folded: BTreeMap<Prefix, Ruling> = BTreeMap::new();
    for ((_, prefix), ruling) in own {
        let covering = prefix.covering().find_map(|shorter| folded.get(&shorter));
        let ruling = match covering {
            Some(shorter) => ruling.join(shorter),
            None => ruling,
        };
        if covering != Some(&ruling) {
            folded.insert(prefix, ruling);
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_blocks(first: u16, last: u16, want: &[(u16, u8)]) {
        assert_eq!(blocks(first, last).collect::<Vec<_>>(), want, "{first}-{last}");
    }

    #[test]
    fn a_single_port_is_one_block() {
        check_blocks(80, 80, &[(80, 16)]);
        check_blocks(65535, 65535, &[(65535, 16)]);
    }

    #[test]
    fn all_ports_are_one_block() {
        check_blocks(0, 65535, &[(0, 0)]);
    }

    #[test]
    fn ranges_split_at_powers_of_two() {
        check_blocks(8080, 8081, &[(8080, 15)]);
        check_blocks(8081, 8084, &[(8081, 16), (8082, 15), (8084, 16)]);
        check_blocks(
            1024,
            65535,
            &[(1024, 6), (2048, 5), (4096, 4), (8192, 3), (16384, 2), (32768, 1)],
        );
    }

    #[test]
    fn the_worst_range_needs_thirty_blocks() {
        assert_eq!(blocks(1, 65534).count(), 30);
    }

    #[test]
    fn a_range_that_ends_before_it_starts_is_empty() {
        check_blocks(10, 9, &[]);
    }

    fn ruling(precedence: u32, rule: usize) -> Ruling {
        Ruling { allow: true, why: Why::Rule, precedence, rules: vec![rule] }
    }

    const TCP: Prefix = Prefix { protocol: 6, port: 0, bits: 0 };
    const TCP_80: Prefix = Prefix { protocol: 6, port: 80, bits: 16 };
    const UDP_80: Prefix = Prefix { protocol: 17, port: 80, bits: 16 };

    #[test]
    fn a_longer_prefix_inherits_what_is_stronger() {
        let folded =
            fold(vec![(TCP_80, ruling(1, 0)), (TCP, ruling(2, 1)), (UDP_80, ruling(1, 2))]);
        assert_eq!(folded, [(TCP, ruling(2, 1)), (UDP_80, ruling(1, 2))].into());
    }

    #[test]
    fn equals_decide_together() {
        let folded = fold(vec![
            (TCP_80, ruling(1, 3)),
            (Prefix::EVERYTHING, ruling(1, 1)),
            (TCP_80, ruling(1, 2)),
        ]);
        let together = Ruling { rules: vec![1, 2, 3], ..ruling(1, 0) };
        assert_eq!(folded, [(Prefix::EVERYTHING, ruling(1, 1)), (TCP_80, together)].into());
    }
}
