//! What one file says: objects of the cluster, policies, and what was refused.
//!
//! Pure: text in, values out. One bad document refuses that document only.

use std::collections::BTreeSet;
use std::sync::Arc;

use manifest::{Document, Note, Outcome, Position, Refusal};
use model::PodName;

use crate::object::{self, Object, ObjectName};
use crate::pods::PackedPod;

/// Whose policy may be missing because a document was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scope {
    /// The document is no policy.
    Nobody,
    /// The pods of one namespace.
    Namespace(String),
    /// Anybody: a policy of the whole cluster, or nobody knows what it was.
    Everybody,
}

/// A document, or a whole file, that was not accepted, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The file.
    pub file: String,
    /// The object, when the document says which; `None`: the whole file.
    pub object: Option<ObjectName>,
    /// Every reason.
    pub refusals: Vec<Refusal>,
    /// Whose policy it would have been.
    pub scope: Scope,
    /// What stays as it was before the change, because of this refusal.
    pub kept: Vec<ObjectName>,
}

/// An object of the cluster, and the text it was read from where that is worth
/// remembering.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub name: ObjectName,
    pub object: Object,
    /// JSON; `None` for what is of no use once it is gone.
    pub text: Option<Arc<str>>,
}

/// One file, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Contents {
    /// All but pods.
    pub objects: Vec<Entry>,
    pub pods: Vec<PackedPod>,
    pub refused: Vec<Refused>,
    /// Remarks on what was accepted.
    pub notes: Vec<Note>,
    /// Kinds that are none of Signet's business.
    pub ignored: Vec<String>,
}

impl Contents {
    /// Reads a file's text.
    pub fn of(file: &str, text: &str) -> Self {
        let documents = match manifest::read(file, text) {
            Ok(documents) => documents,
            Err(refusals) => return Self::refused(file, refusals),
        };
        let mut contents = Self::default();
        for document in documents {
            contents.add(&document);
        }
        contents
    }

    /// A file of which nothing could be used.
    pub fn refused(file: &str, refusals: Vec<Refusal>) -> Self {
        let refused = Refused {
            file: file.to_owned(),
            object: None,
            refusals,
            scope: Scope::Everybody,
            kept: vec![],
        };
        Self { refused: vec![refused], ..Self::default() }
    }

    fn add(&mut self, document: &Document) {
        let name = object::name_of(document);
        // A group of ranges may be what somebody's deny rule is about.
        let mut scope =
            if document.kind == "CiliumCIDRGroup" { Scope::Everybody } else { Scope::Nobody };
        let read = match object::read(document) {
            Some(read) => read.map_err(|refusal| vec![refusal]),
            None => {
                let Outcome { policies, refusals, notes } =
                    manifest::policies(std::slice::from_ref(document));
                scope = object::scope_of(document);
                if !refusals.is_empty() {
                    Err(refusals)
                } else if let Some(policy) = policies.into_iter().next() {
                    self.notes.extend(notes);
                    Ok(Object::Policy(policy))
                } else {
                    self.ignored.push(document.kind.clone());
                    return;
                }
            }
        };
        match (read, name) {
            (Ok(Object::Pod(pod)), Some(_)) => self.pods.push(PackedPod::new(&pod)),
            (Ok(object), Some(name)) => {
                let text = object.is_remembered().then(|| text(document));
                self.objects.push(Entry { name, object, text });
            }
            (Ok(_), None) => self.refuse(document, None, vec![nameless(document)], scope),
            (Err(refusals), name) => self.refuse(document, name, refusals, scope),
        }
    }

    fn refuse(
        &mut self,
        document: &Document,
        object: Option<ObjectName>,
        refusals: Vec<Refusal>,
        scope: Scope,
    ) {
        let file = document.file.clone();
        self.refused.push(Refused { file, object, refusals, scope, kept: vec![] });
    }

    /// Keeps what an earlier reading of the same file had and this one lacks: each
    /// document that is refused now, and every policy, because the refused
    /// document may be that policy under another name. A slip of the pen must not
    /// take a policy out of force.
    ///
    /// Without a refusal, what is gone from the file is gone.
    pub fn keep_last_good(&mut self, before: &Self) {
        self.keep(before, |refused, name, is_policy| {
            refused.object.is_none() || refused.object.as_ref() == Some(name) || is_policy
        });
    }

    /// Keeps what a file that is gone had for each document that is refused now:
    /// it may have been moved here.
    pub fn keep_moved(&mut self, gone: &Self) {
        self.keep(gone, |refused, name, _| refused.object.as_ref() == Some(name));
    }

    /// `is_kept` is asked about a refusal, an earlier object, and whether that is a
    /// policy.
    fn keep(&mut self, before: &Self, is_kept: impl Fn(&Refused, &ObjectName, bool) -> bool) {
        if self.refused.is_empty() {
            return;
        }
        let mut keepers = |name: &ObjectName, is_policy: bool| {
            let mut kept = false;
            for refused in self.refused.iter_mut().filter(|it| is_kept(it, name, is_policy)) {
                refused.kept.push(name.clone());
                kept = true;
            }
            kept
        };
        let present: BTreeSet<ObjectName> =
            self.objects.iter().map(|entry| entry.name.clone()).collect();
        for entry in before.objects.iter().filter(|entry| !present.contains(&entry.name)) {
            if keepers(&entry.name, matches!(entry.object, Object::Policy(_))) {
                self.objects.push(entry.clone());
            }
        }
        let present: BTreeSet<PodName> = self.pods.iter().map(PackedPod::name).collect();
        for pod in &before.pods {
            let name = pod.name();
            if !present.contains(&name) && keepers(&object::name_of_pod(name), false) {
                self.pods.push(pod.clone());
            }
        }
    }
}

/// The document as one line of JSON that reads as the same document.
fn text(document: &Document) -> Arc<str> {
    let mut text = String::new();
    for character in document.root.to_json().to_string().chars() {
        // Legal in JSON, but not in a manifest.
        if character.is_control() {
            text.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            text.push(character);
        }
    }
    text.into()
}

fn nameless(document: &Document) -> Refusal {
    Refusal {
        file: document.file.clone(),
        at: document.root.at,
        field: "metadata.name".to_owned(),
        reason: "an object needs a name that Kubernetes would accept".to_owned(),
        fix: None,
    }
}

/// A refusal of a file that could not even be read as text.
pub(crate) fn unreadable(file: &str, reason: String) -> Contents {
    let at = Position::START;
    let refusal = Refusal { file: file.to_owned(), at, field: String::new(), reason, fix: None };
    Contents::refused(file, vec![refusal])
}
