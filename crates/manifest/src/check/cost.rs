//! How many table entries policies cost.

use std::collections::BTreeMap;
use std::fmt;

use model::{IdentityBook, Label, Labels, PolicyName};
use policy::question::{Asked, Cluster};
use policy::{Capabilities, Compiler, Mode, Options, Peer, Peers, Policy};

use crate::check::selectors;

/// How many table entries a policy costs a subject.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cost {
    /// The policy.
    pub policy: PolicyName,
    /// Whether it decides.
    pub mode: Mode,
    /// Entries of the subject that has most of them, beyond its defaults;
    /// with the subjects that the documents hold, or else one that is made up.
    pub entries: usize,
    /// Whether more than a table holds.
    pub too_many: bool,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, mode, entries, too_many } = self;
        match too_many {
            true => write!(f, "{policy}: more entries than a table holds")?,
            false => write!(f, "{policy}: {entries} table entries for each subject")?,
        }
        match mode {
            Mode::Enforce => Ok(()),
            Mode::Shadow => f.write_str("; in shadow mode: it decides nothing"),
            Mode::Retire => f.write_str("; to be retired: it decides still"),
        }
    }
}

/// Named container ports.
type Ports = BTreeMap<String, (u8, u16)>;
/// A subject: its labels and its named ports.
type Member = (Labels, Ports);

/// What each policy costs alone, among everybody that all of them tell apart.
pub(super) fn costs(cluster: &Cluster, policies: &[Policy], options: &Options) -> Vec<Cost> {
    // Costs are those of identities that say all that rules ask of them.
    let capabilities = Capabilities { labels: true, ..options.capabilities };
    let options = &Options { capabilities, ..options.clone() };
    let asked = Asked::new(cluster, policies, options);
    let members: Vec<Member> = cluster
        .pods
        .iter()
        .filter(|pod| !pod.host_network)
        .map(|pod| (asked.pod_labels(pod, &options.cluster), pod.ports.clone()))
        .collect();
    let mut sets = asked.identities();
    sets.extend(strangers(asked.policies(), cluster, options));
    let book = IdentityBook::new(sets);
    let compiler = Compiler::new(asked.policies(), &book, options);
    asked.policies().iter().map(|policy| cost(&compiler, policy, &members)).collect()
}

fn cost(compiler: &Compiler<'_>, policy: &Policy, members: &[Member]) -> Cost {
    // Members that the same rules are about, with the same ports, cost the same.
    let mut subjects: BTreeMap<(Vec<bool>, &Ports), &Labels> = BTreeMap::new();
    for (labels, ports) in members {
        let selected: Vec<bool> = policy.rules.iter().map(|rule| rule.selects(labels)).collect();
        if selected.contains(&true) {
            subjects.entry((selected, ports)).or_insert(labels);
        }
    }
    let none = BTreeMap::new();
    let made_up = policy.rules.first().map(|rule| selectors::sample(rule.subject.selector()));
    if let (true, Some(labels)) = (subjects.is_empty(), &made_up) {
        subjects.insert((Vec::new(), &none), labels);
    }
    let mut cost =
        Cost { policy: policy.name.clone(), mode: policy.mode, entries: 0, too_many: false };
    // What it costs once it is in force: until then its shadow costs as much.
    let policy = &Policy { mode: Mode::Enforce, ..policy.clone() };
    for ((_, ports), labels) in subjects {
        match compiler.table_of(std::slice::from_ref(policy), labels, ports) {
            // Its two defaults a subject has anyhow.
            Ok(table) => cost.entries = cost.entries.max(table.len().saturating_sub(2)),
            Err(_) => cost.too_many = true,
        }
    }
    cost
}

/// Where no pods are known, one end for every selector of peers stands for
/// those to come.
fn strangers(policies: &[Policy], cluster: &Cluster, options: &Options) -> Vec<Labels> {
    const CLUSTER: &str = "io.cilium.k8s.policy.cluster";
    if !cluster.pods.is_empty() {
        return Vec::new();
    }
    let peers =
        policies.iter().flat_map(|policy| &policy.rules).flat_map(|rule| match &rule.peers {
            Peers::Any => &[][..],
            Peers::OneOf(peers) => peers,
        });
    peers
        .filter_map(|peer| match peer {
            Peer::Endpoints(selector) | Peer::LocalEndpoints(selector) => {
                let mut end = selectors::sample(selector);
                if end.get(CLUSTER).is_none() {
                    end.insert(Label::k8s(CLUSTER, &options.cluster));
                }
                Some(end)
            }
            _ => None,
        })
        .collect()
}
