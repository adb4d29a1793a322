//! Policy tables as the kernel holds them, and the smallest set of writes that
//! moves one from its present content to another at a revision.
//!
//! Pure: no maps. A node that exists hides its shorter prefixes, also when it
//! holds no decision any more; so what a node held `before` and holds `after`
//! is always the decision in force at its place, inherited or its own.

use std::collections::{BTreeMap, BTreeSet};

use abi::{Decision, Decisions, PolicyEntry, PolicyKey};
use model::{Direction, IdentityId, RuleSetId};
use zerocopy::IntoBytes;

/// Bits of a key that always count: direction and identity.
const FIXED_BITS: u32 = 40;
/// Bits of the protocol.
const PROTOCOL_BITS: u8 = 8;

/// No decision, in either world.
pub(crate) const NONE: Decisions = Decisions { live: NO_DECISION, shadow: NO_DECISION };
const NO_DECISION: Decision =
    Decision { precedence: 0, rule_set: 0, verdict: 0, why: 0, specificity: 0, pad: 0 };

/// One place in a policy trie.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Node {
    direction: u8,
    identity: u32,
    protocol: u8,
    port: u16,
    /// Bits of protocol and port that count: 0, 8, or 9 to 24.
    specificity: u8,
}

impl From<&policy::Key> for Node {
    fn from(key: &policy::Key) -> Self {
        let direction = match key.direction {
            Direction::Ingress => abi::direction::INGRESS,
            Direction::Egress => abi::direction::EGRESS,
        };
        Self {
            direction: direction as u8,
            identity: key.peer.map_or(0, u32::from),
            protocol: key.protocol,
            port: key.port,
            specificity: key.prefix_len(),
        }
    }
}

impl From<&PolicyKey> for Node {
    fn from(key: &PolicyKey) -> Self {
        Self {
            direction: key.direction,
            identity: u32::from_be_bytes(key.identity),
            protocol: key.protocol,
            port: u16::from_be_bytes(key.port),
            specificity: key.prefix_bits.saturating_sub(FIXED_BITS).min(24) as u8,
        }
    }
}

impl From<Node> for PolicyKey {
    fn from(node: Node) -> Self {
        Self {
            prefix_bits: FIXED_BITS + u32::from(node.specificity),
            direction: node.direction,
            identity: node.identity.to_be_bytes(),
            protocol: node.protocol,
            port: node.port.to_be_bytes(),
        }
    }
}

impl Node {
    /// The places that cover this one, the longest first; not itself.
    fn parents(self) -> impl Iterator<Item = Self> {
        let ports = (1..=16u8).rev().map(|bits| PROTOCOL_BITS + bits).chain([PROTOCOL_BITS, 0]);
        ports.filter(move |bits| *bits < self.specificity).map(move |bits| self.cut(bits))
    }

    fn cut(self, specificity: u8) -> Self {
        let port_bits = u32::from(specificity.saturating_sub(PROTOCOL_BITS));
        let mask = u16::MAX.checked_shl(16 - port_bits).unwrap_or(0);
        Self {
            protocol: if specificity == 0 { 0 } else { self.protocol },
            port: self.port & mask,
            specificity,
            ..self
        }
    }
}

/// What a table should hold.
pub(crate) type Content = BTreeMap<Node, Decisions>;
/// What a table's map holds.
pub(crate) type Image = BTreeMap<Node, PolicyEntry>;

/// The content of a compiled table.
pub(crate) fn content(table: &policy::Table) -> Content {
    table
        .places()
        .map(|(key, held)| {
            let decisions = Decisions { live: decision(held.live), shadow: decision(held.shadow) };
            (Node::from(&key), decisions)
        })
        .collect()
}

fn decision(entry: Option<policy::Entry>) -> Decision {
    entry.map_or(NO_DECISION, |entry| Decision {
        precedence: entry.precedence,
        rule_set: entry.rules.0,
        verdict: if entry.allow { abi::verdict::ALLOW } else { abi::verdict::DENY } as u8,
        why: entry.why as u8,
        specificity: entry.specificity,
        pad: 0,
    })
}

/// What is in force at `revision` in a table's map; `None`: it holds what no table
/// can hold, so somebody else wrote it.
pub(crate) fn places(image: &Image, revision: u32) -> Option<Vec<(policy::Key, policy::Held)>> {
    let place = |(node, entry): (&Node, &PolicyEntry)| {
        let Decisions { live, shadow } = at(entry, revision);
        let held = policy::Held { live: entry_of(&live)?, shadow: entry_of(&shadow)? };
        Some((key(*node)?, held))
    };
    let places = image.iter().map(place).collect::<Option<Vec<_>>>()?;
    Some(places.into_iter().filter(|(_, held)| held.live.or(held.shadow).is_some()).collect())
}

fn key(node: Node) -> Option<policy::Key> {
    let Node { direction, identity, protocol, port, specificity } = node;
    let direction = match u32::from(direction) {
        abi::direction::INGRESS => Direction::Ingress,
        abi::direction::EGRESS => Direction::Egress,
        _ => return None,
    };
    let port_bits = match specificity {
        0 => 0,
        bits => bits.checked_sub(PROTOCOL_BITS)?,
    };
    let key = policy::Key {
        direction,
        peer: IdentityId::try_from(identity).ok(),
        protocol,
        port,
        port_bits,
    };
    (Node::from(&key) == node).then_some(key)
}

/// `None`: no entry says this. The inner one: nothing is decided.
fn entry_of(decision: &Decision) -> Option<Option<policy::Entry>> {
    if decision.as_bytes() == NO_DECISION.as_bytes() {
        return Some(None);
    }
    let verdict = u32::from(decision.verdict);
    Some(Some(policy::Entry {
        allow: verdict == abi::verdict::ALLOW,
        why: policy::Why::try_from(decision.why).ok()?,
        precedence: decision.precedence,
        rules: RuleSetId(decision.rule_set),
        specificity: decision.specificity,
    }))
    .filter(|_| verdict == abi::verdict::ALLOW || verdict == abi::verdict::DENY)
}

/// The writes that move a table, and the nodes that may go once no packet is
/// judged by the old revision any more.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) writes: Vec<(Node, PolicyEntry)>,
    pub(crate) obsolete: Vec<Node>,
}

/// What `image` decides at `revision` for a packet exactly at `node`.
fn decision_at(image: &Image, node: Node, revision: u32) -> Decisions {
    std::iter::once(node)
        .chain(node.parents())
        .find_map(|place| image.get(&place))
        .map_or(NONE, |entry| at(entry, revision))
}

fn at(entry: &PolicyEntry, revision: u32) -> Decisions {
    if revision >= entry.from_revision { entry.after } else { entry.before }
}

/// What `content` decides for a packet exactly at `node`.
fn decision_of(content: &Content, node: Node) -> Decisions {
    std::iter::once(node)
        .chain(node.parents())
        .find_map(|place| content.get(&place))
        .copied()
        .unwrap_or(NONE)
}

/// Moves a table from what it holds at `revision` to `content` at `next`.
///
/// Entries that an update which never became visible left behind (from a
/// revision above `revision`) are overwritten: they must not come to life.
pub(crate) fn change(image: &Image, content: &Content, revision: u32, next: u32) -> Change {
    let places: BTreeSet<Node> = image.keys().chain(content.keys()).copied().collect();
    let mut change = Change::default();
    for node in places {
        let before = decision_at(image, node, revision);
        let after = decision_of(content, node);
        let stale = image.get(&node).is_some_and(|entry| entry.from_revision > revision);
        let missing = !image.contains_key(&node);
        if missing || stale || before.as_bytes() != after.as_bytes() {
            change.writes.push((node, PolicyEntry { from_revision: next, before, after }));
        }
        if !content.contains_key(&node) {
            change.obsolete.push(node);
        }
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(identity: u32, protocol: u8, port: u16, specificity: u8) -> Node {
        Node { direction: 0, identity, protocol, port, specificity }
    }

    fn decision(rule_set: u32) -> Decisions {
        let decision = Decision { rule_set, verdict: 1, ..NO_DECISION };
        Decisions { live: decision, shadow: Decision { rule_set: rule_set ^ 1, ..decision } }
    }

    fn settled(content: &Content) -> Image {
        let entry = |after| PolicyEntry { from_revision: 0, before: NONE, after };
        content.iter().map(|(node, decision)| (*node, entry(*decision))).collect()
    }

    /// Applies `change` and checks that every place of a small universe decides
    /// by the old content below `next` and by the new one from `next` on.
    #[track_caller]
    fn check(old: &Content, new: &Content) {
        let mut image = settled(old);
        let change = change(&image, new, 1, 2);
        image.extend(change.writes);
        let compare = |image: &Image, when: &str, revision: u32, want: &Content| {
            for place in universe() {
                assert_eq!(
                    decision_at(image, place, revision).as_bytes(),
                    decision_of(want, place).as_bytes(),
                    "{when}: {place:?}"
                );
            }
        };
        compare(&image, "before the flip", 1, old);
        compare(&image, "after the flip", 2, new);
        for obsolete in change.obsolete {
            image.remove(&obsolete);
        }
        compare(&image, "after the clean-up", 2, new);
        assert!(image.keys().eq(new.keys()), "nothing is left over");
    }

    fn universe() -> impl Iterator<Item = Node> {
        (0..3).flat_map(|identity| {
            [0u16, 80, 81, 8080, 443]
                .into_iter()
                .flat_map(move |port| [6, 17].map(|protocol| node(identity, protocol, port, 24)))
        })
    }

    #[test]
    fn a_new_place_inherits_what_was_in_force_there() {
        let wide: Content = [(node(1, 0, 0, 0), decision(1))].into();
        let mut narrow = wide.clone();
        narrow.insert(node(1, 6, 80, 24), decision(2));
        check(&wide, &narrow);
    }

    #[test]
    fn a_place_that_goes_gives_back_what_covers_it() {
        let wide: Content = [(node(1, 0, 0, 0), decision(1))].into();
        let mut narrow = wide.clone();
        narrow.insert(node(1, 6, 80, 24), decision(2));
        narrow.insert(node(1, 6, 80, 23), decision(3));
        check(&narrow, &wide);
        check(&narrow, &Content::new());
    }

    #[test]
    fn equal_content_needs_no_write() {
        let content: Content = [(node(1, 6, 80, 24), decision(2))].into();
        let change = change(&settled(&content), &content, 1, 2);
        assert!(change.writes.is_empty() && change.obsolete.is_empty());
    }

    #[test]
    fn an_update_that_never_became_visible_does_not_come_to_life() {
        let old: Content = [(node(1, 6, 80, 24), decision(1))].into();
        let mut image = settled(&old);
        let lost = change(&image, &[(node(1, 6, 80, 24), decision(9))].into(), 1, 2);
        image.extend(lost.writes);
        let again = change(&image, &old, 1, 2);
        image.extend(again.writes);
        assert_eq!(decision_at(&image, node(1, 6, 80, 24), 2).as_bytes(), decision(1).as_bytes());
    }

    #[test]
    fn random_contents_move_without_a_wrong_verdict() {
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        let mut contents = Vec::new();
        for _ in 0..60 {
            let mut content = Content::new();
            for _ in 0..random(9) {
                let specificity = [0u8, 8, 17, 20, 23, 24][random(6) as usize];
                let port = [80u16, 81, 8080, 443][random(4) as usize];
                let place = node(random(3) as u32, [6, 17][random(2) as usize], port, 24);
                content.insert(place.cut(specificity), decision(1 + random(5) as u32));
            }
            contents.push(content);
        }
        for pair in contents.windows(2) {
            check(&pair[0], &pair[1]);
        }
    }

    /// Of an update that died, what it hid from packets is not what is in force.
    #[test]
    fn what_is_in_force_can_be_read_back() {
        let key = |port_bits| policy::Key {
            direction: Direction::Egress,
            peer: IdentityId::try_from(300).ok(),
            protocol: 6,
            port: 80,
            port_bits,
        };
        let entry = |allow| policy::Entry {
            allow,
            why: policy::Why::Rule,
            precedence: 7,
            rules: RuleSetId(9),
            specificity: 24,
        };
        let held = |allow| policy::Held { live: Some(entry(allow)), shadow: None };
        let table = |allow| policy::Table::of_places([(key(16), held(allow))], |_| None);
        let mut image = settled(&content(&table(true)));
        assert_eq!(places(&image, 1), Some(vec![(key(16), held(true))]));
        let lost = change(&image, &content(&table(false)), 1, 2);
        image.extend(lost.writes);
        assert_eq!(places(&image, 1), Some(vec![(key(16), held(true))]));
        assert_eq!(places(&image, 2), Some(vec![(key(16), held(false))]));
    }

    #[test]
    fn what_no_table_holds_is_not_read_back() {
        let good: Content = [(node(1, 6, 80, 24), decision(1))].into();
        let foreign = |node: Node, why: u8, verdict: u8| {
            let live = Decision { rule_set: 1, why, verdict, ..NO_DECISION };
            settled(&[(node, Decisions { live, shadow: NO_DECISION })].into())
        };
        assert_eq!(
            places(&foreign(node(1, 6, 80, 24), 2, 1), 1).map(|places| places.len()),
            Some(1)
        );
        assert_eq!(places(&foreign(node(1, 6, 80, 24), 77, 1), 1), None, "why");
        assert_eq!(places(&foreign(node(1, 6, 80, 24), 2, 9), 1), None, "verdict");
        assert_eq!(places(&foreign(node(1, 6, 80, 5), 2, 1), 1), None, "prefix");
        assert_eq!(places(&settled(&good), 1), None, "decisions without a why");
    }

    #[test]
    fn keys_survive_the_way_into_the_kernel_and_back() {
        let place = node(0x0a0b0c0d, 6, 0x1f90, 22);
        assert_eq!(Node::from(&PolicyKey::from(place)), place);
    }
}
