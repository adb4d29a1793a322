//! What deciding rules say about the inside of a connection, and about proof of
//! who its ends are (facts: `policy.md` sections 1.5 and 1.8).

use std::collections::BTreeMap;

use model::RuleId;

use crate::conflict::{self, Proxy};
use crate::evaluate::Probe;
use crate::fold::prefixes;
use crate::layer7::{Layer7, Request};
use crate::options::Options;
use crate::rule::{Authentication, Rule};

/// What rules say about a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Inside {
    /// Nobody looks inside.
    NotLooked,
    /// These let it through.
    Admitted(Vec<RuleId>),
    /// None of these does.
    Refused(Vec<RuleId>),
}

/// The packet, and its destination's names of ports.
pub(super) struct Route<'a> {
    pub probe: &'a Probe<'a>,
    pub ports: &'a BTreeMap<String, (u8, u16)>,
    pub options: &'a Options,
}

/// What the rules that allow a connection say about a request in it.
pub(super) fn look(
    deciding: &[&Rule],
    request: &Request,
    default_deny: bool,
    route: &Route<'_>,
) -> Inside {
    let demanding: Vec<(&Rule, &Layer7)> =
        deciding.iter().filter_map(|rule| Some((*rule, rule.layer7.as_ref()?))).collect();
    if !default_deny || demanding.is_empty() || request.is_empty() {
        return Inside::NotLooked;
    }
    // A rule without demands lifts those of others; for names only if it is
    // about exactly this port.
    let dns = demanding.iter().any(|(_, layer7)| layer7.is_dns());
    let lifts = |rule: &&&Rule| {
        let Probe { protocol, port, .. } = *route.probe;
        rule.layer7.is_none() && (!dns || rule.ports.names_exactly(route.ports, protocol, port))
    };
    let lifting: Vec<RuleId> = deciding.iter().filter(lifts).map(|rule| rule.id.clone()).collect();
    if !lifting.is_empty() {
        return Inside::Admitted(sorted(lifting));
    }
    let admitting = demanding.iter().filter(|(_, layer7)| layer7.admits(request));
    let admitted: Vec<RuleId> = admitting.map(|(rule, _)| rule.id.clone()).collect();
    if admitted.is_empty() {
        return Inside::Refused(sorted(
            demanding.iter().map(|(rule, _)| rule.id.clone()).collect(),
        ));
    }
    Inside::Admitted(sorted(admitted))
}

fn sorted(mut rules: Vec<RuleId>) -> Vec<RuleId> {
    rules.sort();
    rules.dedup();
    rules
}

/// What decides between entries: who reads the connection, then how long the
/// prefix of protocol and port is, then whether it is of one peer.
type Rank = (u8, u8, bool);

/// Which proof the deciding rules demand.
///
/// Rules with the same peer and ports, as they are written, are one. Of those
/// that are left the first by [`Rank`] are the entry that decides: what they say
/// themselves counts, the strictest of several; if they say nothing, the
/// strictest of the others that rank as high among proxies.
pub(super) fn authentication(deciding: &[&Rule], route: &Route<'_>) -> Option<Authentication> {
    let said = entries(deciding, route);
    let decides = said.iter().map(|(rank, _)| *rank).max()?;
    let of = |ranked: &dyn Fn(Rank) -> bool| {
        said.iter().filter(|(rank, _)| ranked(*rank)).filter_map(|(_, mode)| *mode).max()
    };
    of(&|rank| rank == decides).or_else(|| of(&|rank: Rank| rank.0 == decides.0))
}

/// What is said for each peer and route that match the packet.
fn entries(deciding: &[&Rule], route: &Route<'_>) -> Vec<(Rank, Option<Authentication>)> {
    let Route { probe, ports, options } = route;
    let mut merged: BTreeMap<_, (Rank, Option<Authentication>)> = BTreeMap::new();
    for rule in deciding {
        let routes = conflict::routes(rule).into_iter().filter_map(|written| {
            let shared = conflict::ports_of(written);
            let matching = prefixes(&shared, ports, true).into_iter().filter(|prefix| {
                prefix.protocol == 0
                    || prefix.protocol == probe.protocol
                        && prefix.port == crate::table::masked(probe.port, prefix.bits)
            });
            Some((written, matching.map(|prefix| prefix.len()).max()?))
        });
        let peers = || {
            let met = |peer: &Option<_>| {
                peer.is_none_or(|peer: &crate::peer::Peer| peer.matches(probe.peer, options))
            };
            conflict::peers(rule).into_iter().filter(met)
        };
        for (written, length) in routes {
            for peer in peers() {
                let rank = (reads(rule), length, peer.is_some());
                let entry = merged.entry((written, peer)).or_insert((rank, None));
                entry.0 = entry.0.max(rank);
                entry.1 = entry.1.max(rule.authentication);
            }
        }
    }
    merged.into_values().collect()
}

/// The rank of what reads the connections of a rule: the smaller a listener's
/// priority, the higher.
fn reads(rule: &Rule) -> u8 {
    const HIGHEST: u8 = 255;
    let listener = rule.layer7.as_ref().and_then(|layer7| layer7.listener.as_ref());
    let priority = match conflict::proxy(rule) {
        None => return 1,
        Some(Proxy::Http) => 101,
        Some(Proxy::Kafka) => 106,
        Some(Proxy::Tls) => 116,
        Some(Proxy::Dns) => 121,
        Some(Proxy::Listener) => listener.and_then(|one| one.priority).unwrap_or(126),
    };
    HIGHEST - priority
}
