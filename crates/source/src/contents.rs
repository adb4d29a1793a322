//! What one file says: objects of the cluster, policies, and what was refused.
//!
//! Pure: text in, values out. One bad document refuses that document only.

use manifest::{Document, Note, Outcome, Position, Refusal};

use crate::object::{self, Object, ObjectName};

/// A document, or a whole file, that was not accepted, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The file.
    pub file: String,
    /// The object, when the document says which; `None`: the whole file.
    pub object: Option<ObjectName>,
    /// Every reason.
    pub refusals: Vec<Refusal>,
    /// Whether the version from before the change stays in force.
    pub last_good_kept: bool,
}

/// One file, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Contents {
    pub objects: Vec<(ObjectName, Object)>,
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
        let refused =
            Refused { file: file.to_owned(), object: None, refusals, last_good_kept: false };
        Self { refused: vec![refused], ..Self::default() }
    }

    fn add(&mut self, document: &Document) {
        let name = object::name_of(document);
        let read = match object::read(document) {
            Some(read) => read.map_err(|refusal| vec![refusal]),
            None => {
                let Outcome { policies, refusals, notes } =
                    manifest::policies(std::slice::from_ref(document));
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
            (Ok(object), Some(name)) => self.objects.push((name, object)),
            (Ok(_), None) => self.refuse(document, None, vec![nameless(document)]),
            (Err(refusals), name) => self.refuse(document, name, refusals),
        }
    }

    fn refuse(&mut self, document: &Document, object: Option<ObjectName>, refusals: Vec<Refusal>) {
        let file = document.file.clone();
        self.refused.push(Refused { file, object, refusals, last_good_kept: false });
    }

    /// Keeps what an earlier reading of the same file had for each document that
    /// is refused now: a slip of the pen must not take a policy out of force.
    ///
    /// An object that is gone from the file, rather than refused, is gone.
    pub fn keep_last_good(&mut self, before: &Self) {
        for refused in &mut self.refused {
            let kept: Vec<(ObjectName, Object)> = before
                .objects
                .iter()
                .filter(|(name, _)| refused.object.as_ref().is_none_or(|object| object == name))
                .filter(|(name, _)| !self.objects.iter().any(|(present, _)| present == name))
                .cloned()
                .collect();
            refused.last_good_kept = !kept.is_empty();
            self.objects.extend(kept);
        }
    }
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
