//! Policies of administrators: `ClusterNetworkPolicy` of `v1alpha2`, and
//! `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy` of `v1alpha1` of
//! `policy.networking.k8s.io` (facts: `policy.md` section 4.2).
//!
//! Neither switches default deny on: they say what holds before and after the
//! policies of namespaces. Rules decide in the order they are written.

mod peers;
mod ports;

use model::{Direction, PolicyKind, PolicyName, RuleId};
use policy::{
    Action, Layer7, NamePattern, Operator, Peer, Peers, Policy, Port, PortMatch, Ports, Requests,
    Requirement, Selector, SelectorKey, Subject, Tier, Transport,
};

use crate::envelope;
use crate::fields::{Field, Fields, Place, Reader, Schema};

const OBJECT: Schema = &[
    ("apiVersion", Field::Inert),
    ("kind", Field::Inert),
    ("metadata", Field::Read),
    ("spec", Field::Read),
    ("status", Field::Inert),
];
const CLUSTER: Schema = &[
    ("tier", Field::Read),
    ("priority", Field::Read),
    ("subject", Field::Read),
    ("ingress", Field::Read),
    ("egress", Field::Read),
];
const ADMIN: Schema = &[
    ("priority", Field::Read),
    ("subject", Field::Read),
    ("ingress", Field::Read),
    ("egress", Field::Read),
];
const BASELINE: Schema =
    &[("subject", Field::Read), ("ingress", Field::Read), ("egress", Field::Read)];

const CLUSTER_INGRESS: Schema = &[
    ("name", Field::Read),
    ("action", Field::Read),
    ("from", Field::Read),
    ("protocols", Field::Read),
];
const CLUSTER_EGRESS: Schema = &[
    ("name", Field::Read),
    ("action", Field::Read),
    ("to", Field::Read),
    ("protocols", Field::Read),
];
const ADMIN_INGRESS: Schema = &[
    ("name", Field::Read),
    ("action", Field::Read),
    ("from", Field::Read),
    ("ports", Field::Read),
];
const ADMIN_EGRESS: Schema =
    &[("name", Field::Read), ("action", Field::Read), ("to", Field::Read), ("ports", Field::Read)];

/// The largest priority a policy may have.
const MAX_PRIORITY: i64 = 1000;
/// Room for the rules of one policy between its priority and the next.
const RULES_PER_PRIORITY: u32 = 128;
/// The longest name of a rule.
const LONGEST_NAME: usize = 100;

/// Which of the three kinds is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    /// `ClusterNetworkPolicy`, v1alpha2.
    Cluster,
    /// `AdminNetworkPolicy`, v1alpha1.
    Admin,
    /// `BaselineAdminNetworkPolicy`, v1alpha1.
    Baseline,
}

impl Version {
    fn kind(self) -> PolicyKind {
        match self {
            Self::Cluster => PolicyKind::ClusterNetworkPolicy,
            Self::Admin => PolicyKind::AdminNetworkPolicy,
            Self::Baseline => PolicyKind::BaselineAdminNetworkPolicy,
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::Cluster => "policy.networking.k8s.io/v1alpha2",
            Self::Admin | Self::Baseline => "policy.networking.k8s.io/v1alpha1",
        }
    }

    fn schema(self) -> Schema {
        match self {
            Self::Cluster => CLUSTER,
            Self::Admin => ADMIN,
            Self::Baseline => BASELINE,
        }
    }

    fn rule_schema(self, direction: Direction) -> Schema {
        match (self, direction) {
            (Self::Cluster, Direction::Ingress) => CLUSTER_INGRESS,
            (Self::Cluster, Direction::Egress) => CLUSTER_EGRESS,
            (_, Direction::Ingress) => ADMIN_INGRESS,
            (_, Direction::Egress) => ADMIN_EGRESS,
        }
    }

    /// The most rules in one direction, and elements in a list of one rule.
    fn most(self) -> usize {
        match self {
            Self::Cluster => 25,
            Self::Admin | Self::Baseline => 100,
        }
    }

    fn actions(self) -> &'static [(&'static str, Action)] {
        match self {
            Self::Cluster => {
                &[("Accept", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass)]
            }
            Self::Admin => {
                &[("Allow", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass)]
            }
            Self::Baseline => &[("Allow", Action::Allow), ("Deny", Action::Deny)],
        }
    }
}

/// Reads a `ClusterNetworkPolicy`.
pub(crate) fn cluster_policy(reader: &mut Reader<'_>) -> Option<Policy> {
    policy(reader, Version::Cluster)
}

/// Reads an `AdminNetworkPolicy`.
pub(crate) fn admin_policy(reader: &mut Reader<'_>) -> Option<Policy> {
    policy(reader, Version::Admin)
}

/// Reads a `BaselineAdminNetworkPolicy`, of which there is one.
pub(crate) fn baseline_policy(reader: &mut Reader<'_>) -> Option<Policy> {
    policy(reader, Version::Baseline)
}

fn policy(reader: &mut Reader<'_>, version: Version) -> Option<Policy> {
    let root = reader.root();
    if reader.api_version() != version.api_version() {
        let reason = format!("`{}` is not read", reader.api_version());
        let fix = format!("apiVersion: {}", version.api_version());
        reader.refuse(&root.field("apiVersion"), reason, Some(fix));
    }
    let name = envelope::cluster_scoped(reader, version.kind());
    if let (Version::Baseline, Some(name)) = (version, &name)
        && name.name != "default"
    {
        let reason = "there is one of this kind, named `default`".to_owned();
        let place = root.field("metadata").field("name");
        reader.refuse(&place, reason, Some("name: default".to_owned()));
    }
    let fields = reader.fields(&root, OBJECT)?;
    let Some(spec) = fields.get("spec") else {
        reader.refuse(&fields.missing("spec"), "a policy needs a `spec`".to_owned(), None);
        return None;
    };
    let fields = reader.fields(&spec, version.schema())?;
    let mode = envelope::mode(reader);
    let tier = tier(reader, &fields, version);
    let priority = priority(reader, &fields, version);
    let subject = subject(reader, &fields);
    // Mistakes in rules are found even where what they have in common is refused.
    let lowering = Lowering {
        version,
        name: name.clone().unwrap_or(PolicyName {
            kind: version.kind(),
            namespace: None,
            name: String::new(),
        }),
        tier: tier.unwrap_or(Tier::Admin),
        priority: priority.unwrap_or_default(),
        subject: subject.clone().unwrap_or_default(),
    };
    let ingress = lowering.direction(reader, &fields, Direction::Ingress);
    let egress = lowering.direction(reader, &fields, Direction::Egress);
    let rules = [ingress?, egress?].concat();
    tier?;
    priority?;
    subject?;
    if rules.is_empty() {
        reader.warn(&spec, "has no rules: it decides nothing".to_owned());
    }
    Some(Policy { name: name?, mode: mode?, rules: rules.into() })
}

fn tier(reader: &mut Reader<'_>, fields: &Fields<'_>, version: Version) -> Option<Tier> {
    match version {
        Version::Admin => return Some(Tier::Admin),
        Version::Baseline => return Some(Tier::Baseline),
        Version::Cluster => {}
    }
    let Some(place) = fields.get("tier") else {
        let fix = "tier: Admin".to_owned();
        reader.refuse(&fields.missing("tier"), "a policy needs a tier".to_owned(), Some(fix));
        return None;
    };
    match reader.string(&place)? {
        "Admin" => Some(Tier::Admin),
        "Baseline" => Some(Tier::Baseline),
        _ => {
            let fix = "write Admin or Baseline".to_owned();
            reader.refuse(&place, "there is no such tier".to_owned(), Some(fix));
            None
        }
    }
}

fn priority(reader: &mut Reader<'_>, fields: &Fields<'_>, version: Version) -> Option<u32> {
    if version == Version::Baseline {
        return Some(0);
    }
    let Some(place) = fields.get("priority") else {
        let reason = "a policy needs a priority".to_owned();
        reader.refuse(&fields.missing("priority"), reason, None);
        return None;
    };
    u32::try_from(reader.integer(&place, 0, MAX_PRIORITY)?).ok()
}

fn subject(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Selector> {
    let Some(place) = fields.get("subject") else {
        let reason = "a policy needs a `subject`".to_owned();
        let fix = "`subject: {namespaces: {}}` is every pod".to_owned();
        reader.refuse(&fields.missing("subject"), reason, Some(fix));
        return None;
    };
    peers::pods(reader, &place)
}

/// What the rules of a policy have in common.
struct Lowering {
    version: Version,
    name: PolicyName,
    tier: Tier,
    priority: u32,
    subject: Selector,
}

impl Lowering {
    fn direction(
        &self,
        reader: &mut Reader<'_>,
        fields: &Fields<'_>,
        direction: Direction,
    ) -> Option<Vec<policy::Rule>> {
        let Some(place) = fields.get(direction.as_str()) else { return Some(Vec::new()) };
        let items = reader.list(&place)?;
        let most = self.version.most();
        if items.len() > most {
            let reason = format!("has {} rules, at most {most} are allowed", items.len());
            reader.refuse(&place, reason, Some("use a second policy".to_owned()));
            return None;
        }
        let read: Vec<Option<Vec<policy::Rule>>> = (0_u32..)
            .zip(&items)
            .map(|(index, item)| self.rule(reader, item, direction, index))
            .collect();
        read.into_iter().collect::<Option<Vec<_>>>().map(|rules| rules.concat())
    }

    fn rule(
        &self,
        reader: &mut Reader<'_>,
        place: &Place<'_>,
        direction: Direction,
        index: u32,
    ) -> Option<Vec<policy::Rule>> {
        let fields = reader.fields(place, self.version.rule_schema(direction))?;
        if let Some(name) = fields.get("name")
            && reader.string(&name)?.len() > LONGEST_NAME
        {
            reader.refuse(&name, format!("is longer than {LONGEST_NAME} bytes"), None);
            return None;
        }
        let action = self.action(reader, &fields);
        let list = if direction == Direction::Ingress { "from" } else { "to" };
        let peers = match fields.get(list) {
            Some(place) => peers::read(reader, &place, self.version, direction, action),
            None => {
                let reason = "a rule needs peers".to_owned();
                let fix = format!("`{list}: [{{namespaces: {{}}}}]` is every pod");
                reader.refuse(&fields.missing(list), reason, Some(fix));
                None
            }
        };
        let ports = ports::read(reader, &fields, self.version);
        let (action, peers, ports) = (action?, peers?, ports?);
        ports::check_names(reader, place, &ports, &peers)?;
        let names: Vec<NamePattern> = peers
            .iter()
            .filter_map(|peer| match peer {
                Peer::Name(pattern) => Some(pattern.clone()),
                _ => None,
            })
            .collect();
        let lowered = |peers: Peers, ports: Ports, layer7: Option<Layer7>| policy::Rule {
            id: RuleId { policy: self.name.clone(), path: place.path.clone() },
            tier: self.tier,
            priority: self.priority * RULES_PER_PRIORITY + index,
            subject: Subject::Endpoints(self.subject.clone()),
            direction,
            action,
            peers,
            ports,
            default_deny: false,
            layer7,
            authentication: None,
            log: None,
        };
        let mut rules = vec![lowered(Peers::OneOf(peers), ports, None)];
        if !names.is_empty() {
            // Names are learnt where they are asked for.
            let (peers, ports) = name_servers();
            let requests = Layer7::requests(Requests::Dns(names));
            rules.push(lowered(peers, ports, Some(requests)));
        }
        Some(rules)
    }

    fn action(&self, reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Action> {
        let actions = self.version.actions();
        let words: Vec<&str> = actions.iter().map(|(word, _)| *word).collect();
        let fix = format!("write {}", words.join(" or "));
        let Some(place) = fields.get("action") else {
            let reason = "a rule needs an action".to_owned();
            reader.refuse(&fields.missing("action"), reason, Some(fix));
            return None;
        };
        let text = reader.string(&place)?;
        let found = actions.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            reader.refuse(&place, "there is no such action".to_owned(), Some(fix));
        }
        found.map(|(_, action)| *action)
    }
}

/// The cluster's name servers and the ports they answer at.
fn name_servers() -> (Peers, Ports) {
    let selector: Selector = [
        Requirement::equals(SelectorKey::k8s("k8s-app"), "kube-dns"),
        Requirement {
            key: SelectorKey::k8s("io.kubernetes.pod.namespace"),
            operator: Operator::Exists,
        },
    ]
    .into_iter()
    .collect();
    let port = |transport, name: &str| PortMatch { transport, port: Port::Named(name.to_owned()) };
    let ports = vec![port(Transport::Udp, "dns"), port(Transport::Tcp, "dns-tcp")];
    (Peers::OneOf(vec![Peer::LocalEndpoints(selector)]), Ports::OneOf(ports))
}
