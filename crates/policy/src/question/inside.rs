//! What deciding rules say about the inside of a connection, and about proof of
//! who its ends are (facts: `policy.md` sections 1.5 and 1.8).

use std::collections::BTreeMap;

use model::RuleId;

use crate::layer7::{Layer7, Request};
use crate::rule::{Authentication, Peers, Rule};

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
    pub ports: &'a BTreeMap<String, (u8, u16)>,
    pub protocol: u8,
    pub port: u16,
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
        let exact = rule.ports.narrowness(route.ports, route.protocol, route.port) == 3;
        rule.layer7.is_none() && (!dns || exact)
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

/// Which proof the deciding rules demand: that of the narrowest that says
/// anything, else the strictest.
pub(super) fn authentication(deciding: &[&Rule], route: &Route<'_>) -> Option<Authentication> {
    let width = |rule: &Rule| {
        let ports = rule.ports.narrowness(route.ports, route.protocol, route.port);
        (ports, rule.peers != Peers::Any)
    };
    let narrowest = deciding.iter().map(|rule| width(rule)).max()?;
    let explicit = deciding.iter().filter(|rule| width(rule) == narrowest);
    let own = explicit.filter_map(|rule| rule.authentication).max();
    own.or_else(|| deciding.iter().filter_map(|rule| rule.authentication).max())
}
