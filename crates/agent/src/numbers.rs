//! Numbers for things that are named by content: endpoints and policy tables.
//!
//! A number follows from the content's digest, so that a restarted agent gives
//! the same ones; what has a number keeps it, and a collision moves the newcomer.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

/// SHA-256 over parts, each framed by its length.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A digest as text.
pub(crate) fn hexadecimal(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Which number each content has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Numbers(BTreeMap<[u8; 32], u32>);

impl Numbers {
    /// Numbers for these contents. Those of `before` keep theirs, and what has
    /// gone since does not pass its number on at once.
    pub fn assign(before: &Self, contents: impl IntoIterator<Item = [u8; 32]>) -> Self {
        let contents: BTreeSet<[u8; 32]> = contents.into_iter().collect();
        let mut taken: BTreeSet<u32> = before.0.values().copied().collect();
        let numbers = contents.into_iter().map(|content| {
            let number = before.0.get(&content).copied().unwrap_or_else(|| {
                (0..)
                    .map(|attempt| candidate(&content, attempt))
                    .find(|n| !taken.contains(n))
                    .unwrap_or(u32::MAX)
            });
            taken.insert(number);
            (content, number)
        });
        Self(numbers.collect())
    }

    /// The number of a content.
    pub fn get(&self, content: &[u8; 32]) -> Option<u32> {
        self.0.get(content).copied()
    }
}

/// The first number that follows from content: those before it are the node's own.
const FIRST: u32 = 3;

/// Number of the node itself as an endpoint.
pub const HOST_ENDPOINT: u32 = 1;
/// Table of the node itself.
pub const HOST_TABLE: u32 = 1;
/// The one that judges it after a trial.
pub(crate) const HOST_FALLBACK: u32 = 2;

/// Never one of the reserved numbers.
fn candidate(content: &[u8; 32], attempt: u32) -> u32 {
    let digest =
        if attempt == 0 { *content } else { digest([content.as_slice(), &attempt.to_be_bytes()]) };
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]).max(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A content whose first number is `number`.
    fn content(number: u32, rest: u8) -> [u8; 32] {
        let mut content = [rest; 32];
        content[..4].copy_from_slice(&number.to_be_bytes());
        content
    }

    #[test]
    fn a_number_follows_from_the_content_alone() {
        let a = content(7, 1);
        let alone = Numbers::assign(&Numbers::default(), [a]);
        let beside = Numbers::assign(&Numbers::default(), [content(9, 1), a]);
        assert_eq!(alone.get(&a), Some(7));
        assert_eq!(beside.get(&a), Some(7));
    }

    #[test]
    fn the_nodes_own_numbers_and_zero_follow_from_no_content() {
        for number in [0, 1, 2, 3] {
            let low = content(number, 1);
            assert_eq!(Numbers::assign(&Numbers::default(), [low]).get(&low), Some(3));
        }
    }

    #[test]
    fn of_two_alike_the_smaller_digest_has_the_number_in_either_order() {
        let (first, second) = (content(7, 1), content(7, 2));
        let forward = Numbers::assign(&Numbers::default(), [first, second]);
        let backward = Numbers::assign(&Numbers::default(), [second, first]);
        assert_eq!(forward, backward);
        assert_eq!(forward.get(&first), Some(7));
        assert_ne!(forward.get(&second), Some(7));
    }

    #[test]
    fn a_newcomer_does_not_take_the_number_of_what_is_there() {
        let (newcomer, resident) = (content(7, 1), content(7, 2));
        let before = Numbers::assign(&Numbers::default(), [resident]);
        let after = Numbers::assign(&before, [newcomer, resident]);
        assert_eq!(after.get(&resident), Some(7));
        assert_ne!(after.get(&newcomer), Some(7));
    }

    #[test]
    fn a_number_is_not_passed_on_at_once() {
        let (gone, newcomer) = (content(7, 2), content(7, 1));
        let before = Numbers::assign(&Numbers::default(), [gone]);
        assert_ne!(Numbers::assign(&before, [newcomer]).get(&newcomer), Some(7));
    }
}
