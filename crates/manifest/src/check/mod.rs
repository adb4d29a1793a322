//! Everything there is to say about manifests before they are applied: what is
//! refused, what is probably not meant, and what it costs.

mod conflicts;
mod cost;
mod selectors;
mod shadow;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use model::{Direction, LabelFilter, Labels, PolicyKind, PolicyName, RuleId};
use policy::question::{Asked, Cluster};
use policy::{
    Action, Feature, Mode, NamePattern, Options, Peer, Peers, Policy, Ports, Requests, Rule,
    Subject, unsupported,
};

pub use cost::Cost;

use crate::cluster::cluster;
use crate::document::{Document, Node, Position, Value};
use crate::outcome::{Note, Outcome, policies};

/// What came of checking documents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Policies, refusals and remarks, warnings among them.
    pub outcome: Outcome,
    /// What each policy costs.
    pub costs: Vec<Cost>,
}

/// Checks documents together: what one of them says may depend on the others.
pub fn check(documents: &[Document], options: &Options) -> Report {
    let mut outcome = policies(documents);
    let (cluster, refusals) = cluster(documents);
    // A group's mistakes were found among the policies already.
    for refusal in refusals {
        if !outcome.refusals.contains(&refusal) {
            outcome.refusals.push(refusal);
        }
    }
    let context = Context::new(documents, &cluster, &outcome.policies, options);
    let mut notes = Vec::new();
    for policy in &outcome.policies {
        context.policy(policy, &mut notes);
    }
    let contradictions = conflicts::refusals(&context);
    // A rule that was lowered to several says the same of each.
    let mut said = BTreeSet::new();
    notes.retain(|note| said.insert((note.file.clone(), note.field.clone(), note.text.clone())));
    outcome.notes.extend(notes);
    outcome.refusals.extend(contradictions);
    let costs = cost::costs(&cluster, &outcome.policies, options);
    Report { outcome, costs }
}

/// What advice depends on besides the policy itself.
struct Context<'a> {
    documents: BTreeMap<PolicyName, &'a Document>,
    cluster: &'a Cluster,
    policies: &'a [Policy],
    options: &'a Options,
    filter: LabelFilter,
    /// Rules that decide before some other rule could.
    first: Vec<&'a Rule>,
    /// Identity labels of the pods.
    pods: BTreeSet<Labels>,
    /// Who may ask for which names.
    asking: Vec<(&'a Subject, &'a [NamePattern])>,
    /// How many names were compared.
    compared: Cell<usize>,
}

/// How many names are compared with each other at most.
const MOST_NAMES: usize = 300_000;

impl<'a> Context<'a> {
    fn new(
        documents: &'a [Document],
        cluster: &'a Cluster,
        policies: &'a [Policy],
        options: &'a Options,
    ) -> Self {
        let mut named = BTreeMap::new();
        let mut by_text: BTreeMap<(&str, &str, &str), &Document> = BTreeMap::new();
        for document in documents {
            by_text.insert((&document.kind, document.namespace(), document.name()), document);
        }
        for policy in policies {
            let PolicyName { kind, namespace, name } = &policy.name;
            let place = namespace.as_deref().unwrap_or_default();
            let written =
                [place, ""].iter().find_map(|place| by_text.get(&(kind.as_str(), *place, name)));
            if let Some(document) = written {
                named.insert(policy.name.clone(), *document);
            }
        }
        let filter = LabelFilter::default();
        let rules = || policies.iter().flat_map(|policy| &policy.rules);
        let last = rules().map(shadow::rank).max();
        // What is in force in one world only hides nothing in the other.
        let enforced = policies.iter().filter(|policy| policy.mode == Mode::Enforce);
        let first = enforced.flat_map(|policy| &policy.rules);
        let first = first.filter(|rule| Some(shadow::rank(rule)) < last).collect();
        let asked = Asked::new(cluster, policies, options);
        let pods = cluster.pods.iter().filter(|pod| !pod.host_network);
        let pods = pods.map(|pod| asked.pod_labels(pod, &options.cluster)).collect();
        let asking = rules().filter_map(|rule| match &rule.layer7.as_ref()?.requests {
            Requests::Dns(names) => Some((&rule.subject, names.as_slice())),
            _ => None,
        });
        let asking = asking.collect();
        let compared = Cell::new(0);
        let documents = named;
        Self { documents, cluster, policies, options, filter, first, pods, asking, compared }
    }

    fn warn(&self, rule: &RuleId, field: &str, text: String, notes: &mut Vec<Note>) {
        let Some(document) = self.documents.get(&rule.policy) else { return };
        let path = if field.is_empty() { rule.path.clone() } else { field.to_owned() };
        let at = locate(&document.root, &path).unwrap_or(document.root.at);
        let prefix =
            if document.path.is_empty() { String::new() } else { format!("{}.", document.path) };
        let note =
            Note { file: document.file.clone(), at, field: prefix + &path, text, warning: true };
        notes.push(note);
    }

    /// A remark on a rule that is as its writer meant it.
    fn note(&self, rule: &RuleId, text: String, notes: &mut Vec<Note>) {
        let before = notes.len();
        self.warn(rule, "", text, notes);
        notes.iter_mut().skip(before).for_each(|note| note.warning = false);
    }

    fn policy(&self, policy: &Policy, notes: &mut Vec<Note>) {
        let mut subjects: Vec<&Subject> = Vec::new();
        for rule in &policy.rules {
            if !subjects.contains(&&rule.subject) {
                subjects.push(&rule.subject);
                self.subject(rule, notes);
            }
            self.rule(rule, notes);
        }
        self.denials_alone(policy, notes);
        for unsupported in unsupported(std::slice::from_ref(policy), self.options) {
            let text = format!("is not in force with this version: {}", unsupported.feature);
            // What it refers to is warned of below, with what it takes.
            if unsupported.feature != Feature::References {
                // The policy is right; it is this version that is not there yet.
                self.note(&unsupported.rule, text, notes);
            }
        }
    }

    fn subject(&self, rule: &Rule, notes: &mut Vec<Note>) {
        let spec = rule.id.path.split('.').next().unwrap_or_default();
        let field = match (&rule.subject, rule.id.policy.kind) {
            (_, PolicyKind::NetworkPolicy) => format!("{spec}.podSelector"),
            (Subject::Nodes(_), _) => format!("{spec}.nodeSelector"),
            (Subject::Endpoints(_), PolicyKind::CiliumNetworkPolicy)
            | (Subject::Endpoints(_), PolicyKind::CiliumClusterwideNetworkPolicy) => {
                format!("{spec}.endpointSelector")
            }
            _ => format!("{spec}.subject"),
        };
        for text in self.selector(rule.subject.selector(), None) {
            self.warn(&rule.id, &field, text, notes);
        }
        let everywhere = rule.subject.selector().requirements().next().is_none();
        let clusterwide = PolicyKind::CiliumClusterwideNetworkPolicy;
        if everywhere && rule.id.policy.kind == clusterwide && rule.default_deny {
            let text = match rule.subject {
                Subject::Endpoints(_) => {
                    "selects the endpoints of every namespace, the system's own included, and \
                     switches default deny on for them"
                }
                Subject::Nodes(_) => {
                    "selects every node and switches default deny on for it: what is not allowed, \
                     the kubelet and the API server included, is cut off"
                }
            };
            self.warn(&rule.id, &field, text.to_owned(), notes);
        }
    }

    fn rule(&self, rule: &Rule, notes: &mut Vec<Note>) {
        let no_port = matches!(&rule.ports, Ports::OneOf(ports) if ports.is_empty());
        if no_port && rule.action == Action::Allow {
            let text =
                "names no port: nothing is allowed by it; leave `toPorts` out for every port";
            self.warn(&rule.id, "", text.to_owned(), notes);
        }
        match &rule.peers {
            Peers::Any if no_port => {}
            Peers::Any if rule.action == Action::Allow && self.names_nobody(rule) => {
                let whom = match rule.direction {
                    Direction::Ingress => "lets everybody in, the world outside the cluster",
                    Direction::Egress => "lets out to everybody, the world outside the cluster",
                };
                let split = self.split_from(rule).unwrap_or_default();
                self.warn(&rule.id, "", format!("{whom} included{split}"), notes);
            }
            Peers::Any => {}
            Peers::OneOf(peers) => {
                if peers.is_empty() && rule.action == Action::Allow && self.is_empty_rule(rule) {
                    let text = "is an empty rule, which allows nothing here and only denies the \
                                rest by default; in a NetworkPolicy the same text allows everything";
                    self.note(&rule.id, text.to_owned(), notes);
                }
                for peer in peers {
                    self.peer(rule, peer, notes);
                }
            }
        }
        if let Some(by) = self.first.iter().find(|other| shadow::hides(other, rule)) {
            let text = format!("never decides: `{}` matches all of it first", by.id);
            self.warn(&rule.id, "", text, notes);
        }
    }

    /// Whether a rule of a namespace is for everybody only because it names
    /// nobody; one that says so means it.
    fn names_nobody(&self, rule: &Rule) -> bool {
        let document = self.documents.get(&rule.id.policy);
        let node = document.and_then(|document| find(&document.root, &rule.id.path));
        let says =
            |node: &Node| ["fromEntities", "toEntities"].iter().any(|m| node.get(m).is_some());
        rule.id.policy.kind == PolicyKind::CiliumNetworkPolicy && !node.is_some_and(says)
    }

    /// A rule of ports only behind one of peers only is mostly one rule that was cut in
    /// two by a `-`: then both let in more than was meant.
    fn split_from(&self, rule: &Rule) -> Option<String> {
        let (list, index) = rule.id.path.strip_suffix(']')?.rsplit_once('[')?;
        let before = format!("{list}[{}]", index.parse::<usize>().ok()?.checked_sub(1)?);
        let node = find(&self.documents.get(&rule.id.policy)?.root, &before)?;
        let whole = ["toPorts", "icmps"].iter().any(|member| node.get(member).is_some());
        (!whole).then(|| {
            format!("; if its ports are meant for `{before}`, leave out the `-` before `toPorts`")
        })
    }

    /// Whether the text of the rule is `{}`.
    fn is_empty_rule(&self, rule: &Rule) -> bool {
        let document = self.documents.get(&rule.id.policy);
        let node = document.and_then(|document| find(&document.root, &rule.id.path));
        node.is_some_and(|node| matches!(&node.value, Value::Map(entries) if entries.is_empty()))
    }

    fn peer(&self, rule: &Rule, peer: &Peer, notes: &mut Vec<Note>) {
        match peer {
            Peer::Endpoints(selector) | Peer::LocalEndpoints(selector) => {
                let home = rule.id.policy.namespace.as_deref();
                for text in self.selector(selector, home) {
                    self.warn(&rule.id, "", text, notes);
                }
            }
            Peer::Name(pattern) if !self.asked_for(rule, peer) => {
                let text = format!(
                    "`{pattern}` is never learnt: no rule lets these pods ask for it; add an \
                     egress rule to the DNS server with `rules: {{dns: [...]}}`"
                );
                self.warn(&rule.id, "", text, notes);
            }
            Peer::Group(_) if !self.cluster.catalogue.knows(peer) => {
                let text = "names a group of ranges that is not here: it means nobody until there \
                            is one";
                self.warn(&rule.id, "", text.to_owned(), notes);
            }
            Peer::Service(_) if !self.cluster.catalogue.knows(peer) => {
                let text = "names a service that is not here: it means nobody until there is one";
                self.warn(&rule.id, "", text.to_owned(), notes);
            }
            _ => {}
        }
    }

    /// Whether a dns rule about the same pods lets them ask for what a name
    /// pattern means.
    fn asked_for(&self, rule: &Rule, peer: &Peer) -> bool {
        let Peer::Name(wanted) = peer else { return true };
        let sample = wanted.as_str().replace('*', "x");
        let matches = |name: &NamePattern| {
            // A remark is not worth more time; what is not compared is not warned of.
            let compared = self.compared.get();
            self.compared.set(compared + 1);
            name == wanted || compared >= MOST_NAMES || name.matches(&sample)
        };
        self.asking.iter().any(|(subject, names)| {
            shadow::covers_subject(subject, &rule.subject) && names.iter().any(matches)
        })
    }

    /// A policy that only denies in a direction denies all the rest there too.
    fn denials_alone(&self, policy: &Policy, notes: &mut Vec<Note>) {
        for direction in [Direction::Ingress, Direction::Egress] {
            let mut rules =
                policy.rules.iter().filter(|rule| rule.direction == direction).peekable();
            let Some(first) = rules.peek().map(|rule| (*rule).clone()) else { continue };
            if !first.default_deny || !rules.all(|rule| rule.action == Action::Deny) {
                continue;
            }
            // No surprise where another policy denies the same pods by default.
            let already = self.policies.iter().flat_map(|policy| &policy.rules).any(|rule| {
                rule.id.policy != policy.name
                    && rule.default_deny
                    && (rule.direction, rule.action) == (direction, Action::Allow)
                    && shadow::covers_subject(&rule.subject, &first.subject)
            });
            if !already {
                let text = format!(
                    "has deny rules only, which also deny all other {direction} by default; to deny \
                     no more than is written, add `enableDefaultDeny: {{{direction}: false}}`"
                );
                self.warn(&first.id, "", text, notes);
            }
        }
    }
}

/// Where the value of a path such as `spec.ingress[0]` starts.
fn locate(root: &Node, path: &str) -> Option<Position> {
    find(root, path).map(|node| node.at)
}

fn find<'n>(root: &'n Node, path: &str) -> Option<&'n Node> {
    let mut node = root;
    for segment in path.split('.') {
        let (key, indexes) = segment.split_once('[').unwrap_or((segment, ""));
        node = node.get(key)?;
        for index in indexes.split('[').filter(|index| !index.is_empty()) {
            node = node.items().get(index.trim_end_matches(']').parse::<usize>().ok()?)?;
        }
    }
    Some(node)
}
