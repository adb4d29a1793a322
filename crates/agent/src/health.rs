//! What is amiss on this node, and how much is used of what is limited.
//!
//! Pure: told what a check found and when, it says what is news. Knows nothing of
//! how anything is compared or put right.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datapath::{Fault, FaultKind, Fill};

/// The agent's promise: this, and so much for each remote identity.
const MEMORY_BASE: u64 = 64 << 20;
const MEMORY_EACH: u64 = 100;

/// Faults that were put right and are still shown.
const SHOWN: usize = 8;

/// A fault, and since when it has been there (nanoseconds since the epoch).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Noted {
    /// What.
    pub fault: Fault,
    /// Since when.
    pub since_ns: u64,
}

/// What is known of a node's health.
#[derive(Clone, Debug, Default)]
pub struct HealthView {
    /// Faults that could not be put right, as of the last check.
    pub open: Vec<Noted>,
    /// The last that were, the newest first.
    pub healed: Vec<Noted>,
    /// How many were found, by kind.
    pub found: BTreeMap<FaultKind, u64>,
    /// Plans that were refused.
    pub refusals: u64,
    /// Everything else that went wrong.
    pub errors: u64,
    /// How often the wall clock was set.
    pub clock_steps: u64,
    /// How full everything is.
    pub fill: Vec<Fill>,
    /// Bytes of the kernel's maps.
    pub kernel_bytes: u64,
    /// When the source was read last.
    pub source_read: Option<Instant>,
}

impl HealthView {
    /// Takes the faults of one check; returns those that are news.
    pub fn note_faults(&mut self, faults: Vec<Fault>, now_ns: u64) -> Vec<Fault> {
        let before = std::mem::take(&mut self.open);
        let mut news = Vec::new();
        for fault in faults {
            let known = before.iter().find(|noted| noted.fault == fault);
            let noted = Noted {
                since_ns: known.map_or(now_ns, |noted| noted.since_ns),
                fault: fault.clone(),
            };
            if known.is_none() {
                *self.found.entry(fault.kind).or_default() += 1;
                news.push(fault);
            }
            match noted.fault.left {
                Some(_) => self.open.push(noted),
                None => self.healed.insert(0, noted),
            }
        }
        self.healed.truncate(SHOWN);
        news
    }

    /// Takes how full everything is; returns what has become nine tenths full.
    pub fn note_fill(&mut self, fill: Vec<Fill>) -> Vec<Fill> {
        let before = std::mem::replace(&mut self.fill, fill);
        let was_full = |what| before.iter().any(|one| one.what == what && is_nearly_full(one));
        let full = self.fill.iter().filter(|one| is_nearly_full(one));
        full.filter(|one| !was_full(one.what)).copied().collect()
    }

    /// Since the source was read last.
    pub fn source_age(&self) -> Option<Duration> {
        self.source_read.map(|read| read.elapsed())
    }
}

fn is_nearly_full(fill: &Fill) -> bool {
    u128::from(fill.used) * 10 >= u128::from(fill.limit) * 9
}

/// The agent's own memory against its promise.
pub fn memory(resident: u64, identities: usize) -> Fill {
    let limit = MEMORY_BASE + MEMORY_EACH * identities as u64;
    Fill { what: "bytes of the agent's memory", used: resident, limit }
}

/// What this process holds in memory for itself: resident, without the pages of its
/// program, which all agents share and the kernel can drop; 0 when nobody says.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut numbers = statm.split(' ').skip(1).map_while(|text| text.parse::<u64>().ok());
    let pages = numbers.next().zip(numbers.next()).map(|(all, shared)| all.saturating_sub(shared));
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    pages.unwrap_or(0) * u64::try_from(page.unwrap_or(4096)).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(detail: &str, left: Option<&str>) -> Fault {
        let left = left.map(str::to_owned);
        Fault { kind: FaultKind::Program, detail: detail.into(), left }
    }

    #[test]
    fn what_stays_wrong_is_news_once_and_keeps_its_time() {
        let mut view = HealthView::default();
        let stays = fault("a", Some("not ours"));
        assert_eq!(view.note_faults(vec![stays.clone()], 7).len(), 1);
        assert!(view.note_faults(vec![stays.clone()], 8).is_empty());
        assert_eq!(view.open, [Noted { fault: stays, since_ns: 7 }]);
        assert!(view.note_faults(vec![], 9).is_empty());
        assert!(view.open.is_empty() && view.healed.is_empty());
        assert_eq!(view.found[&FaultKind::Program], 1);
    }

    #[test]
    fn what_was_put_right_is_shown_for_a_while_and_news_each_time() {
        let mut view = HealthView::default();
        for time in 0..10 {
            assert_eq!(view.note_faults(vec![fault("a", None)], time).len(), 1);
        }
        assert_eq!((view.healed.len(), view.healed[0].since_ns), (8, 9));
        assert_eq!(view.found[&FaultKind::Program], 10);
    }

    #[test]
    fn what_becomes_nearly_full_is_told_once() {
        let fill = |used| Fill { what: "addresses", used, limit: 10 };
        let mut view = HealthView::default();
        assert!(view.note_fill(vec![fill(8)]).is_empty());
        assert_eq!(view.note_fill(vec![fill(9)]), [fill(9)]);
        assert!(view.note_fill(vec![fill(10)]).is_empty());
        assert!(view.note_fill(vec![fill(1)]).is_empty());
        assert_eq!(view.note_fill(vec![fill(9)]).len(), 1);
    }

    #[test]
    fn the_promise_about_memory_grows_with_the_cluster() {
        let fill = memory(1 << 20, 100_000);
        assert_eq!((fill.used, fill.limit), (1 << 20, (64 << 20) + 10_000_000));
        assert!(resident_bytes() > 1 << 20);
    }
}
