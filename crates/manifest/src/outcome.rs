//! What came of documents: policies, refusals and remarks.

use std::collections::BTreeMap;
use std::fmt;

use model::PolicyName;
use policy::Policy;

use crate::document::{Document, Position};
use crate::fields::Reader;
use crate::{cilium, group, kind, kubernetes, tiered};

/// Why a document, or a file, is not taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The file.
    pub file: String,
    /// Where the reason is written.
    pub at: Position,
    /// Path of the field, as `spec.ingress[0].toPorts`; empty for a whole file.
    pub field: String,
    /// What is wrong.
    pub reason: String,
    /// What to write instead.
    pub fix: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.at.line, self.at.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)?;
        match &self.fix {
            Some(fix) => write!(f, " (fix: {fix})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

/// Something worth saying about a document that is taken, or left alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// The file.
    pub file: String,
    /// Where it is about.
    pub at: Position,
    /// Path of the field; empty for a whole document.
    pub field: String,
    /// What there is to say.
    pub text: String,
    /// Whether the policy probably does not do what its writer meant.
    pub warning: bool,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.at.line, self.at.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.text)
    }
}

/// What came of a number of documents.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// Policies of the documents that are taken, in order.
    pub policies: Vec<Policy>,
    /// Reasons for those that are not.
    pub refusals: Vec<Refusal>,
    /// Remarks.
    pub notes: Vec<Note>,
}

/// Turns documents into policies, one by one: a refused document does not hide
/// the others. Kinds that are no policies are left alone, with a note.
///
/// Of two objects with the same name the later one counts, as when they are
/// applied one after the other.
pub fn policies(documents: &[Document]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut seen: BTreeMap<PolicyName, usize> = BTreeMap::new();
    for document in documents {
        let mut reader = Reader::new(document);
        let policy = policy(document, &mut reader);
        let (refusals, mut notes) = reader.finish();
        if let (Some(policy), true) = (policy, refusals.is_empty()) {
            if let Some(earlier) = seen.get(&policy.name).copied() {
                notes.push(Note {
                    file: document.file.clone(),
                    at: document.root.at,
                    field: "metadata.name".to_owned(),
                    text: format!("takes the place of an earlier `{}`", policy.name),
                    warning: true,
                });
                outcome.policies[earlier] = policy;
            } else {
                seen.insert(policy.name.clone(), outcome.policies.len());
                outcome.policies.push(policy);
            }
        }
        outcome.refusals.extend(refusals);
        outcome.notes.extend(notes);
    }
    outcome
}

fn policy(document: &Document, reader: &mut Reader<'_>) -> Option<Policy> {
    let root = reader.root();
    match (document.group(), document.kind.as_str()) {
        ("cilium.io", "CiliumNetworkPolicy") => cilium::network_policy(reader),
        ("cilium.io", "CiliumClusterwideNetworkPolicy") => cilium::clusterwide_policy(reader),
        ("cilium.io", "CiliumCIDRGroup") => {
            group::read(reader);
            None
        }
        ("networking.k8s.io", "NetworkPolicy") => kubernetes::network_policy(reader),
        ("policy.networking.k8s.io", "ClusterNetworkPolicy") => tiered::cluster_policy(reader),
        ("policy.networking.k8s.io", "AdminNetworkPolicy") => tiered::admin_policy(reader),
        ("policy.networking.k8s.io", "BaselineAdminNetworkPolicy") => {
            tiered::baseline_policy(reader)
        }
        // Of a group that is not ours, but by its name meant to be enforced.
        (_, kind) if kind::version_of(kind).is_some() => {
            let read = kind::version_of(kind).unwrap_or_default();
            let reason =
                format!("this kind is read as `{read}`, not as `{}`", reader.api_version());
            reader.refuse(&root.field("apiVersion"), reason, None);
            None
        }
        (group, kind) => {
            other_kind(reader, group, kind);
            None
        }
    }
}

/// A kind that is none of those that are read. One that is probably meant to be,
/// or is in the group of nothing else, would silently not be enforced.
fn other_kind(reader: &mut Reader<'_>, group: &str, kind: &str) {
    let place = reader.root().field("kind");
    let shown = kind.escape_debug();
    match kind::meant(group, kind) {
        Some(meant) => {
            let reason = format!("there is no kind `{shown}`: it would not be enforced");
            reader.refuse(&place, reason, Some(format!("kind: {meant}")));
        }
        None if group == "policy.networking.k8s.io" => {
            reader.refuse(&place, format!("there is no kind `{shown}` in this group"), None);
        }
        None => reader.note(&place, format!("`{shown}` is not read as a policy: left alone")),
    }
}
