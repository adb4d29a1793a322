//! The one form into which every kind of policy object is lowered.
//!
//! A [`Rule`] is flat: one subject, one direction, one action. Nothing here
//! remembers which kind it came from but its name.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use model::{Direction, Labels, PolicyName, RuleId};

use crate::layer7::Layer7;
use crate::mode::Mode;
use crate::options::Options;
use crate::peer::Peer;
use crate::ports::Ports;
use crate::precedence::Tier;
use crate::selector::Selector;

/// One policy object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// Whether it decides.
    pub mode: Mode,
    /// Its rules, in the order they are written.
    pub rules: Rules,
}

/// Rules that all copies share: a cluster has thousands of them, and few change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rules(Arc<Vec<Rule>>);

impl Deref for Rules {
    type Target = Vec<Rule>;

    fn deref(&self) -> &Vec<Rule> {
        &self.0
    }
}

impl DerefMut for Rules {
    /// What is changed is this copy's own from then on.
    fn deref_mut(&mut self) -> &mut Vec<Rule> {
        Arc::make_mut(&mut self.0)
    }
}

impl From<Vec<Rule>> for Rules {
    fn from(rules: Vec<Rule>) -> Self {
        Self(rules.into())
    }
}

impl FromIterator<Rule> for Rules {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        Self::from(rules.into_iter().collect::<Vec<_>>())
    }
}

impl<'a> IntoIterator for &'a Rules {
    type Item = &'a Rule;
    type IntoIter = std::slice::Iter<'a, Rule>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a mut Rules {
    type Item = &'a mut Rule;
    type IntoIter = std::slice::IterMut<'a, Rule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Wins over an allowing rule of the same tier and priority.
    Deny,
    /// Lets through.
    Allow,
    /// Leaves what it matches to the next tier.
    Pass,
}

/// Whom a rule is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// Endpoints, by their identity labels; never a node itself.
    Endpoints(Selector),
    /// Nodes, by their labels; never an endpoint.
    Nodes(Selector),
}

impl Subject {
    /// Whether an end with these labels is meant.
    pub fn matches(&self, labels: &Labels) -> bool {
        let node = labels.has_reserved("host");
        match self {
            Self::Endpoints(selector) => !node && selector.matches(labels),
            Self::Nodes(selector) => node && selector.matches(labels),
        }
    }

    /// The selector.
    pub fn selector(&self) -> &Selector {
        match self {
            Self::Endpoints(selector) | Self::Nodes(selector) => selector,
        }
    }
}

impl From<Selector> for Subject {
    fn from(selector: Selector) -> Self {
        Self::Endpoints(selector)
    }
}

/// Whether both ends must have proved who they are.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Authentication {
    /// They need not.
    Disabled,
    /// They must.
    Required,
    /// It never succeeds.
    AlwaysFails,
}

/// One rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Its name; the policy in it is the one that holds the rule.
    pub id: RuleId,
    /// Which group of policies it belongs to.
    pub tier: Tier,
    /// Smaller is asked first within the tier.
    pub priority: u32,
    /// Whom it is about, already scoped to the policy's namespace.
    pub subject: Subject,
    /// Direction, seen from the subject.
    pub direction: Direction,
    /// What it does with what it matches.
    pub action: Action,
    /// Other ends it matches.
    pub peers: Peers,
    /// Protocols and ports it matches.
    pub ports: Ports,
    /// Whether its presence alone denies its subjects what nothing allows, in
    /// its direction.
    pub default_deny: bool,
    /// What must hold inside the connections that it lets through.
    pub layer7: Option<Layer7>,
    /// What it says about authentication, if anything.
    pub authentication: Option<Authentication>,
    /// A text that flows it decides carry.
    pub log: Option<String>,
}

impl Rule {
    /// Whether the rule is about this endpoint or node.
    pub fn selects(&self, subject: &Labels) -> bool {
        self.subject.matches(subject)
    }
}

/// The other ends of a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Peers {
    /// Everybody, inside and outside the cluster.
    Any,
    /// Whoever one of these matches; nobody, if the list is empty.
    OneOf(Vec<Peer>),
}

impl Peers {
    /// Whether an end with these labels is one of them.
    pub fn matches(&self, labels: &Labels, options: &Options) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(list) => list.iter().any(|peer| peer.matches(labels, options)),
        }
    }
}
