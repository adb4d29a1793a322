//! Everybody who can be a peer, prepared for asking many selectors.
//!
//! Answers are kept, so that a thousand rules with a hundred different peers
//! cost a hundred walks; and a selector that wants one value of a label walks
//! only over those that have it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use ipnet::IpNet;
use model::{IdentityBook, IdentityId, Labels};

use crate::cidr::{Place, ranges};
use crate::options::Options;
use crate::peer::Peer;
use crate::selector::{Operator, Selector};

/// Positions of ends, sorted.
pub(crate) type Positions = Rc<[u32]>;

pub(crate) struct Population<'a> {
    ends: Vec<(IdentityId, &'a Labels)>,
    by_value: HashMap<(&'a str, &'a str), Vec<u32>>,
    /// Ranges that ends are labelled with, sorted, so that those inside another
    /// stand together.
    by_range: Vec<(IpNet, u32)>,
    /// Ends outside the cluster that name no range.
    world: Vec<u32>,
    answers: RefCell<BTreeMap<Peer, Positions>>,
}

impl<'a> Population<'a> {
    pub fn new(identities: &'a IdentityBook) -> Self {
        let ends: Vec<(IdentityId, &Labels)> = identities.iter().collect();
        let mut by_value: HashMap<(&str, &str), Vec<u32>> = HashMap::new();
        let (mut by_range, mut world) = (Vec::new(), Vec::new());
        for (at, (_, labels)) in (0_u32..).zip(&ends) {
            for label in labels.iter() {
                by_value.entry((&label.key, &label.value)).or_default().push(at);
            }
            let before = by_range.len();
            by_range.extend(ranges(labels).map(|net| (net, at)));
            if by_range.len() == before && Place::of(labels) == Place::World {
                world.push(at);
            }
        }
        by_range.sort_by_key(|(net, at)| (net.network(), net.prefix_len(), *at));
        Self { ends, by_value, by_range, world, answers: RefCell::default() }
    }

    pub fn ends(&self) -> &[(IdentityId, &'a Labels)] {
        &self.ends
    }

    /// Which ends a description means.
    pub fn matching(&self, peer: &Peer, options: &Options) -> Positions {
        if let Some(known) = self.answers.borrow().get(peer) {
            return Rc::clone(known);
        }
        let is_meant = |at: &u32| {
            let end = usize::try_from(*at).ok().and_then(|at| self.ends.get(at));
            end.is_some_and(|(_, labels)| peer.matches(labels, options))
        };
        let found: Positions = match self.candidates(peer) {
            Some(candidates) => candidates.into_iter().filter(is_meant).collect(),
            None => {
                (0..u32::try_from(self.ends.len()).unwrap_or(u32::MAX)).filter(is_meant).collect()
            }
        };
        self.answers.borrow_mut().insert(peer.clone(), Rc::clone(&found));
        found
    }

    /// Ends outside of which nobody can be meant; `None`: everybody has to be asked.
    fn candidates(&self, peer: &Peer) -> Option<Vec<u32>> {
        match peer {
            Peer::Endpoints(selector) | Peer::LocalEndpoints(selector) => self.narrowest(selector),
            Peer::Cidr(range) => Some(self.inside(range.net)),
            Peer::Name(pattern) => {
                Some(self.by_value.get(&(pattern.as_str(), "")).cloned().unwrap_or_default())
            }
            Peer::Group(_) | Peer::Service(_) => Some(Vec::new()),
            Peer::Entity(_) | Peer::Nodes(_) => None,
        }
    }

    /// Ends that name a range inside this one, and for a whole family those
    /// outside the cluster that name none.
    fn inside(&self, net: IpNet) -> Vec<u32> {
        let first = self.by_range.partition_point(|(known, _)| known.network() < net.network());
        let behind = self.by_range.iter().skip(first);
        let within = behind.take_while(|(known, _)| known.network() <= net.broadcast());
        let mut found: Vec<u32> = within.map(|(_, at)| *at).collect();
        if net.prefix_len() == 0 {
            found.extend(&self.world);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Those with one of the wanted values of the label that fewest have.
    fn narrowest(&self, selector: &Selector) -> Option<Vec<u32>> {
        let wanted = selector.requirements().filter_map(|requirement| {
            let Operator::In(values) = &requirement.operator else { return None };
            let lists: Vec<&Vec<u32>> = values
                .iter()
                .filter_map(|value| self.by_value.get(&(&*requirement.key.key, &**value)))
                .collect();
            Some(lists)
        });
        let narrowest =
            wanted.min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>())?;
        let mut positions: Vec<u32> = narrowest.into_iter().flatten().copied().collect();
        positions.sort_unstable();
        Some(positions)
    }
}
