//! What the datapath holds for one subject: entries by peer, protocol and port.
//!
//! [`Table::find`] does what the kernel program does, step by step: two
//! longest-prefix look-ups, one for the peer's identity and one for any, and a
//! choice between their results. It knows nothing about rules.
//!
//! A place holds what decides and, where policies in shadow mode concern the
//! subject, what would decide. One look-up finds both, so each is at every place
//! of the other: what it would find there by itself.

use std::collections::{BTreeMap, BTreeSet};

use model::{Direction, IdentityId, MatchType, Reason, RuleSet, RuleSetId};
use sha2::{Digest, Sha256};

use crate::compile::CompileError;
use crate::mode::World;

/// The part of a packet that an entry covers.
///
/// Legal keys have `port_bits` at most 16, no port bits below the mask set, and
/// port bits 0 when the protocol is 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// Direction, seen from the subject.
    pub direction: Direction,
    /// The other end; `None`: anybody.
    pub peer: Option<IdentityId>,
    /// IANA protocol number; 0: every protocol.
    pub protocol: u8,
    /// Destination port, of which `port_bits` count.
    pub port: u16,
    /// How many leading bits of the port count.
    pub port_bits: u8,
}

impl Key {
    /// Everything in one direction: where the default lives.
    pub fn everything(direction: Direction) -> Self {
        Self { direction, peer: None, protocol: 0, port: 0, port_bits: 0 }
    }

    /// Bits of protocol and port that count, 0 to 24.
    pub fn prefix_len(&self) -> u8 {
        if self.protocol == 0 { 0 } else { 8 + self.port_bits }
    }

    /// How specific the key is, as Hubble reports it.
    pub fn match_type(&self) -> MatchType {
        match (self.peer.is_some(), self.prefix_len()) {
            (true, 0) => MatchType::L3Only,
            (true, 1..=8) => MatchType::L3Proto,
            (true, _) => MatchType::L3L4,
            (false, 0) => MatchType::All,
            (false, 1..=8) => MatchType::ProtoOnly,
            (false, _) => MatchType::L4Only,
        }
    }

    /// Whoever covers this key and more, the longest first.
    fn covering(self) -> impl Iterator<Item = Self> {
        let ports = (0..self.port_bits).rev().map(move |port_bits| Self {
            port: masked(self.port, port_bits),
            port_bits,
            ..self
        });
        let everything = Self { peer: self.peer, ..Self::everything(self.direction) };
        ports.chain((self.protocol != 0).then_some(everything))
    }
}

/// Why an entry decides as it does. The numbers are those the kernel reports.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Why {
    /// No policy switched default deny on, and no rule matches.
    Unenforced = 1,
    /// An allow rule matches.
    Rule = 2,
    /// Default deny is on, and no rule matches.
    DefaultDeny = 3,
    /// A deny rule matches.
    DenyRule = 4,
    /// The own node, which is let in although no rule says so.
    LocalHost = 5,
    /// A rule would allow it under a condition that cannot be enforced yet.
    Unsupported = 6,
}

/// A number that is no [`Why`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} is no reason of a policy decision: they are 1 to 6")]
pub struct NotAWhy(pub u8);

impl TryFrom<u8> for Why {
    type Error = NotAWhy;

    fn try_from(number: u8) -> Result<Self, NotAWhy> {
        match number {
            1 => Ok(Self::Unenforced),
            2 => Ok(Self::Rule),
            3 => Ok(Self::DefaultDeny),
            4 => Ok(Self::DenyRule),
            5 => Ok(Self::LocalHost),
            6 => Ok(Self::Unsupported),
            other => Err(NotAWhy(other)),
        }
    }
}

impl From<Why> for Reason {
    /// The own node's admission is a rule of the installation, not of a policy.
    fn from(why: Why) -> Self {
        match why {
            Why::Unenforced => Self::Unenforced,
            Why::Rule | Why::LocalHost => Self::Rule,
            Why::DefaultDeny => Self::DefaultDeny,
            Why::DenyRule => Self::DenyRule,
            Why::Unsupported => Self::Unsupported,
        }
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Entry {
    /// Whether the packet may go on.
    pub allow: bool,
    /// Why.
    pub why: Why,
    /// The higher of two results of a look-up wins.
    pub precedence: u32,
    /// Who decided; [`Table::rule_set`] names them.
    pub rules: RuleSetId,
    /// Bits of protocol and port that count in what it was made for: those of its
    /// key, or fewer where the other world has a key of its own.
    pub specificity: u8,
}

/// What a place says in each world; `None`: nothing about this peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// What decides.
    pub live: Option<Entry>,
    /// What would decide; `None` everywhere: nobody in shadow mode is concerned.
    pub shadow: Option<Entry>,
}

impl Held {
    fn of(self, world: World) -> Option<Entry> {
        match world {
            World::Live => self.live,
            World::Shadow => self.shadow,
        }
    }
}

/// A decision about one packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// Whether the packet may go on.
    pub allow: bool,
    /// Why.
    pub why: Why,
    /// All rules that decide at the winning precedence; for a default deny, the
    /// policies that switched it on.
    pub rules: RuleSet,
}

/// The entries that a look-up found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    /// Where the entry that decides is.
    pub key: Key,
    /// The entry that decides.
    pub entry: Entry,
    /// Rules of the other result, if it has the same precedence.
    pub also: Option<RuleSetId>,
}

/// All entries of one subject.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Table {
    entries: BTreeMap<Key, Entry>,
    /// Empty where nobody in shadow mode is concerned.
    shadow: BTreeMap<Key, Entry>,
    rule_sets: BTreeMap<RuleSetId, RuleSet>,
    /// Why there is no shadow although somebody in shadow mode is concerned.
    refused: Option<CompileError>,
}

impl Table {
    /// A table of these entries; `rule_sets` must hold what they refer to.
    pub(crate) fn new(
        entries: BTreeMap<Key, Entry>,
        rule_sets: BTreeMap<RuleSetId, RuleSet>,
    ) -> Self {
        Self { entries, rule_sets, ..Self::default() }
    }

    /// The table that has these places, as one that was put in force has them. Of its
    /// sets of rules it names those that `names` still knows.
    pub fn of_places(
        places: impl IntoIterator<Item = (Key, Held)>,
        names: impl Fn(RuleSetId) -> Option<RuleSet>,
    ) -> Self {
        let mut table = Self::default();
        for (key, Held { live, shadow }) in places {
            for entry in [live, shadow].into_iter().flatten() {
                if let Some(set) = names(entry.rules) {
                    table.rule_sets.entry(entry.rules).or_insert(set);
                }
            }
            table.entries.extend(live.map(|entry| (key, entry)));
            table.shadow.extend(shadow.map(|entry| (key, entry)));
        }
        table
    }

    /// The same with what would decide, so that one look-up finds both.
    pub(crate) fn with_shadow(mut self, shadow: BTreeMap<Key, Entry>) -> Self {
        self.shadow = shadow;
        if !self.shadow.is_empty() {
            let inherited = missing(&self.entries, self.shadow.keys());
            let other = missing(&self.shadow, self.entries.keys());
            self.entries.extend(inherited);
            self.shadow.extend(other);
        }
        self
    }

    /// The same without it, and why there is none.
    pub fn without_shadow(mut self, why: CompileError) -> Self {
        self.shadow.clear();
        self.entries.retain(|key, entry| key.prefix_len() == entry.specificity);
        let used: BTreeSet<RuleSetId> = self.entries.values().map(|entry| entry.rules).collect();
        self.rule_sets.retain(|id, _| used.contains(id));
        self.refused = Some(why);
        self
    }

    /// Whether somebody in shadow mode is concerned, and what would decide is known.
    pub fn has_shadow(&self) -> bool {
        !self.shadow.is_empty()
    }

    /// Why it is not known.
    pub fn shadow_refused(&self) -> Option<&CompileError> {
        self.refused.as_ref()
    }

    /// All places that say something in this world, sorted by key.
    pub fn entries(&self) -> impl Iterator<Item = (Key, Entry)> {
        self.entries.iter().map(|(key, entry)| (*key, *entry))
    }

    /// All places, those about one world alone last.
    pub fn places(&self) -> impl Iterator<Item = (Key, Held)> {
        let live = self.entries.iter().map(|(key, entry)| {
            (*key, Held { live: Some(*entry), shadow: self.shadow.get(key).copied() })
        });
        let rest = self.shadow.iter().filter(|(key, _)| !self.entries.contains_key(*key));
        live.chain(rest.map(|(key, entry)| (*key, Held { live: None, shadow: Some(*entry) })))
    }

    /// All sets of rules that entries refer to, sorted by number.
    pub fn rule_sets(&self) -> impl Iterator<Item = (RuleSetId, &RuleSet)> {
        self.rule_sets.iter().map(|(id, set)| (*id, set))
    }

    /// What a number stands for in this table; `None` for number 0 as well.
    pub fn rule_set(&self, id: RuleSetId) -> Option<&RuleSet> {
        self.rule_sets.get(&id)
    }

    /// How many places.
    pub fn len(&self) -> usize {
        let alone = self.shadow.keys().filter(|key| !self.entries.contains_key(*key));
        self.entries.len() + alone.count()
    }

    /// Whether there are none; a compiled table has at least its two defaults.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the kernel program finds for a packet; `None` denies.
    pub fn find(
        &self,
        direction: Direction,
        peer: IdentityId,
        protocol: u8,
        port: u16,
    ) -> Option<Found> {
        self.find_in(
            World::Live,
            Key { direction, peer: Some(peer), protocol, port, port_bits: 16 },
        )
    }

    fn find_in(&self, world: World, packet: Key) -> Option<Found> {
        let specific = self.longest(world, packet);
        let any = self.longest(world, Key { peer: None, ..packet });
        let (winner, loser) = match (specific, any) {
            (Some(specific), Some(any)) => {
                let rank = |(_, entry): (Key, Entry)| (entry.precedence, entry.specificity);
                if rank(specific) >= rank(any) {
                    (specific, Some(any))
                } else {
                    (any, Some(specific))
                }
            }
            (one, other) => (one.or(other)?, None),
        };
        let (key, entry) = winner;
        let also = loser
            .filter(|(_, other)| other.precedence == entry.precedence && entry.precedence > 0)
            .map(|(_, other)| other.rules);
        Some(Found { key, entry, also })
    }

    /// The decision about a packet, with the names of who decided.
    pub fn lookup(
        &self,
        direction: Direction,
        peer: IdentityId,
        protocol: u8,
        port: u16,
    ) -> Decision {
        match self.find(direction, peer, protocol, port) {
            Some(found) => self.named(found),
            None => Decision { allow: false, why: Why::DefaultDeny, rules: RuleSet::default() },
        }
    }

    /// What would be decided if policies in shadow mode were in force; `None`: none
    /// concerns the subject, or it is not known.
    pub fn shadow(
        &self,
        direction: Direction,
        peer: IdentityId,
        protocol: u8,
        port: u16,
    ) -> Option<Decision> {
        let packet = Key { direction, peer: Some(peer), protocol, port, port_bits: 16 };
        self.find_in(World::Shadow, packet).map(|found| self.named(found))
    }

    fn named(&self, found: Found) -> Decision {
        let mut rules = self.rule_set(found.entry.rules).cloned().unwrap_or_default();
        if let Some(also) = found.also.and_then(|id| self.rule_set(id)) {
            rules.rules.extend(also.rules.iter().cloned());
            rules.rules.sort();
            rules.rules.dedup();
        }
        Decision { allow: found.entry.allow, why: found.entry.why, rules }
    }

    /// What the place with the longest prefix that covers the packet says, for one
    /// peer. The place is found first, as a trie does, whatever it says.
    fn longest(&self, world: World, packet: Key) -> Option<(Key, Entry)> {
        let places = std::iter::once(packet).chain(packet.covering());
        let held = |key: Key| {
            let (live, shadow) = (self.entries.get(&key), self.shadow.get(&key));
            let held = Held { live: live.copied(), shadow: shadow.copied() };
            (live.is_some() || shadow.is_some()).then_some((key, held))
        };
        let (key, held) = places.into_iter().find_map(held)?;
        held.of(world).map(|entry| (key, entry))
    }

    /// SHA-256 over the entries and the names of the rules they refer to: equal
    /// exactly for equal tables.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update((self.entries.len() as u64).to_be_bytes());
        for (key, entry) in &self.entries {
            hash_entry(&mut hasher, key, entry);
        }
        // Nothing of this where nobody is in shadow mode.
        for (key, entry) in &self.shadow {
            hash_entry(&mut hasher, key, entry);
            let live = self.entries.get(key).map_or(0, |live| live.specificity);
            hasher.update([live, entry.specificity]);
        }
        if let Some(why) = self.refused.as_ref().map(ToString::to_string) {
            hasher.update((why.len() as u64).to_be_bytes());
            hasher.update(why);
        }
        for (id, set) in &self.rule_sets {
            hasher.update(id.0.to_be_bytes());
            for names in [
                set.rules.iter().map(ToString::to_string).collect::<Vec<_>>(),
                set.because.iter().map(ToString::to_string).collect(),
            ] {
                hasher.update((names.len() as u64).to_be_bytes());
                for name in names {
                    hasher.update((name.len() as u64).to_be_bytes());
                    hasher.update(name.as_bytes());
                }
            }
        }
        hasher.finalize().into()
    }
}

fn hash_entry(hasher: &mut Sha256, key: &Key, entry: &Entry) {
    hasher.update([match key.direction {
        Direction::Ingress => 0,
        Direction::Egress => 1,
    }]);
    hasher.update(key.peer.map_or(0, u32::from).to_be_bytes());
    hasher.update([key.protocol]);
    hasher.update(key.port.to_be_bytes());
    hasher.update([key.port_bits, u8::from(entry.allow), entry.why as u8]);
    hasher.update(entry.precedence.to_be_bytes());
    hasher.update(entry.rules.0.to_be_bytes());
}

/// What a world says at places that only the other has: what it finds there.
fn missing<'k>(
    entries: &BTreeMap<Key, Entry>,
    places: impl Iterator<Item = &'k Key>,
) -> Vec<(Key, Entry)> {
    let missing = places.filter(|key| !entries.contains_key(*key));
    let inherited = missing.filter_map(|key| {
        let entry = key.covering().find_map(|shorter| entries.get(&shorter))?;
        Some((*key, *entry))
    });
    inherited.collect()
}

/// The port with only its first `bits` bits.
pub(crate) fn masked(port: u16, bits: u8) -> u16 {
    let ignored = 16 - u32::from(bits.min(16));
    u16::MAX.checked_shl(ignored).map_or(0, |mask| port & mask)
}

#[cfg(test)]
mod tests;
