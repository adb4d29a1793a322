//! Folding where rules pass: what a packet skips depends on all rules that
//! match it, so the best of shorter prefixes is not enough.
//!
//! Every entry is made from all rules that cover its prefix, those for anybody
//! included, and is the whole answer for its peer; so the caller gives entries
//! of a peer one precedence, above that of entries for anybody.

use std::collections::BTreeMap;

use crate::fold::{Prefix, Ruling};

/// What one rule says about a prefix, and the tier it says it in.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    /// Tiers in order; the installation's own come last.
    pub tier: u8,
    /// Whether it passes, instead of what its ruling says.
    pub passes: bool,
    pub ruling: Ruling,
}

/// Folds voices to rulings of one precedence; `default` is said where all that
/// match pass.
pub(crate) fn fold(
    voices: Vec<(Prefix, Voice)>,
    default: &Ruling,
    precedence: u32,
) -> BTreeMap<Prefix, Ruling> {
    let mut own: BTreeMap<(u8, Prefix), Vec<Voice>> = BTreeMap::new();
    for (prefix, voice) in voices {
        own.entry((prefix.len(), prefix)).or_default().push(voice);
    }
    let mut heard: BTreeMap<Prefix, (Vec<Voice>, Ruling)> = BTreeMap::new();
    let mut folded = BTreeMap::new();
    for ((_, prefix), mut voices) in own {
        let covering = prefix.covering().find_map(|shorter| heard.get(&shorter));
        if let Some((more, _)) = covering {
            voices.extend(more.iter().cloned());
        }
        // At one level, what decides comes before what passes.
        voices.sort_by_key(|voice| (std::cmp::Reverse(voice.ruling.precedence), voice.passes));
        let ruling = Ruling { precedence, ..decide(&voices, default) };
        if covering.map(|(_, said)| said) != Some(&ruling) {
            folded.insert(prefix, ruling.clone());
        }
        heard.insert(prefix, (voices, ruling));
    }
    folded
}

/// What voices say together, those that decide first in front.
fn decide(voices: &[Voice], default: &Ruling) -> Ruling {
    let mut skipped = None;
    let mut decided: Option<Ruling> = None;
    for voice in voices {
        if skipped == Some(voice.tier) {
            continue;
        }
        match &mut decided {
            Some(ruling) if ruling.precedence == voice.ruling.precedence && !voice.passes => {
                *ruling = ruling.clone().join(&voice.ruling);
            }
            Some(_) => break,
            None if voice.passes => skipped = Some(voice.tier),
            None => decided = Some(voice.ruling.clone()),
        }
    }
    decided.unwrap_or_else(|| default.clone())
}
