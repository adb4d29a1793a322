//! Reading fields of one document: types checked, unknown fields refused,
//! every refusal with its place.
//!
//! Knows no kinds. `null` is the same as absence, as Kubernetes has it.

use crate::document::{Document, Key, Node, Value};
use crate::outcome::{Note, Refusal};

/// The most refusals that one document gets.
const MAX_REFUSALS: usize = 100;

/// A value and the path of its field.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub node: &'a Node,
    pub path: String,
}

impl<'a> Place<'a> {
    /// The place of a field: its value, or if it is missing, where it should be.
    pub fn field(&self, name: &str) -> Self {
        let path = join(&self.path, name);
        Self { node: self.node.get(name).unwrap_or(self.node), path }
    }
}

fn join(path: &str, name: &str) -> String {
    match (path.is_empty(), name.contains(['.', '/', ':'])) {
        (_, true) => format!("{path}[\"{name}\"]"),
        (true, false) => name.to_owned(),
        (false, false) => format!("{path}.{name}"),
    }
}

/// What is done with a field of a mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    /// It is read.
    Read,
    /// It has no effect on what the object means.
    Inert,
    /// It means something that is not supported: refused with reason and fix.
    Refused(&'static str, &'static str),
    /// There is none of this name here, but there is one nearby: where, and what to do.
    Elsewhere(&'static str, &'static str),
}

/// The fields that a mapping may have.
pub(crate) type Schema = &'static [(&'static str, Field)];

/// The fields that a mapping has, after its schema was applied.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    place: Place<'a>,
}

impl<'a> Fields<'a> {
    /// A field that is there and not null.
    pub fn get(&self, name: &str) -> Option<Place<'a>> {
        let node = self.place.node.get(name).filter(|node| node.value != Value::Null)?;
        Some(Place { node, path: join(&self.place.path, name) })
    }

    /// How many fields are written.
    pub fn len(&self) -> usize {
        self.place.node.entries().len()
    }

    /// Where a missing field should be.
    pub fn missing(&self, name: &str) -> Place<'a> {
        self.place.field(name)
    }
}

/// Reads one document and collects what is to be said about it.
pub(crate) struct Reader<'a> {
    document: &'a Document,
    refusals: Vec<Refusal>,
    notes: Vec<Note>,
}

impl<'a> Reader<'a> {
    pub fn new(document: &'a Document) -> Self {
        Self { document, refusals: Vec::new(), notes: Vec::new() }
    }

    /// The whole document.
    pub fn root(&self) -> Place<'a> {
        Place { node: &self.document.root, path: String::new() }
    }

    /// Everything that was refused, and all remarks, as they come in the file.
    pub fn finish(mut self) -> (Vec<Refusal>, Vec<Note>) {
        self.refusals.sort_by_key(|refusal| refusal.at);
        self.notes.sort_by_key(|note| note.at);
        (self.refusals, self.notes)
    }

    /// The document's `apiVersion`.
    pub fn api_version(&self) -> &'a str {
        &self.document.api_version
    }

    /// Refuses the document because of this field.
    pub fn refuse(&mut self, place: &Place<'_>, reason: String, fix: Option<String>) {
        if self.refusals.len() < MAX_REFUSALS {
            self.refusals.push(Refusal {
                file: self.document.file.clone(),
                at: place.node.at,
                field: self.full(&place.path),
                reason,
                fix,
            });
        }
    }

    /// Remarks on this field.
    pub fn note(&mut self, place: &Place<'_>, text: String) {
        self.remark(place, text, false);
    }

    /// Warns of something that is accepted and probably not meant.
    pub fn warn(&mut self, place: &Place<'_>, text: String) {
        self.remark(place, text, true);
    }

    fn remark(&mut self, place: &Place<'_>, text: String, warning: bool) {
        let field = self.full(&place.path);
        let (file, at) = (self.document.file.clone(), place.node.at);
        self.notes.push(Note { file, at, field, text, warning });
    }

    fn full(&self, path: &str) -> String {
        match (self.document.path.as_str(), path) {
            ("", path) => path.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, path) => format!("{prefix}.{path}"),
        }
    }

    fn wrong_type(&mut self, place: &Place<'_>, wanted: &str, fix: Option<String>) {
        let reason = format!("must be {wanted}, this is {}", place.node.value.kind());
        self.refuse(place, reason, fix);
    }

    /// A mapping with only the fields of the schema.
    pub fn fields<'p>(&mut self, place: &Place<'p>, schema: Schema) -> Option<Fields<'p>> {
        self.fields_or(place, schema, &|_, _| None)
    }

    /// As [`fields`](Self::fields); `meant` knows what to write for a field that is like
    /// none of the schema's.
    pub fn fields_or<'p>(
        &mut self,
        place: &Place<'p>,
        schema: Schema,
        meant: &dyn Fn(&str, &Node) -> Option<String>,
    ) -> Option<Fields<'p>> {
        for (key, node) in self.entries(place)? {
            if self.refusals.len() >= MAX_REFUSALS {
                return None;
            }
            // Messages point at the name, not at the value.
            let named = Node { value: Value::Null, at: key.at };
            let at_key = Place { node: &named, path: join(&place.path, &key.text) };
            match schema.iter().find(|(name, _)| *name == key.text) {
                Some((_, Field::Read | Field::Inert)) => {}
                Some((_, Field::Refused(..))) if node.value == Value::Null => {}
                Some((_, Field::Refused(reason, fix))) => {
                    let fix = (!fix.is_empty()).then(|| (*fix).to_owned());
                    self.refuse(&at_key, (*reason).to_owned(), fix);
                }
                Some((_, Field::Elsewhere(home, fix))) => {
                    let reason = format!("there is no such field here: it belongs to {home}");
                    self.refuse(&at_key, reason, Some((*fix).to_owned()));
                }
                None => {
                    let fix = nearest(&key.text, schema).map(|name| format!("write `{name}`"));
                    let fix = fix.or_else(|| meant(&key.text, node));
                    self.refuse(&at_key, "there is no such field".to_owned(), fix);
                }
            }
        }
        Some(Fields { place: place.clone() })
    }

    /// A mapping with any keys.
    pub fn entries<'p>(&mut self, place: &Place<'p>) -> Option<&'p [(Key, Node)]> {
        match &place.node.value {
            Value::Map(entries) => Some(entries),
            value => {
                let fields = |item: &Node| matches!(item.value, Value::Map(_));
                let split = matches!(value, Value::List(items) if items.iter().any(fields));
                let fix = split.then(|| "leave out the `-` before its fields".to_owned());
                self.wrong_type(place, "a mapping", fix);
                None
            }
        }
    }

    /// A list; null elements are refused, for they are mostly slips.
    pub fn list<'p>(&mut self, place: &Place<'p>) -> Option<Vec<Place<'p>>> {
        let Value::List(items) = &place.node.value else {
            self.wrong_type(place, "a list", None);
            return None;
        };
        let places: Vec<Place<'p>> = items
            .iter()
            .enumerate()
            .map(|(index, node)| Place { node, path: format!("{}[{index}]", place.path) })
            .collect();
        let mut whole = true;
        for place in places.iter().filter(|place| place.node.value == Value::Null) {
            self.refuse(place, "an element of the list is empty".to_owned(), None);
            whole = false;
        }
        whole.then_some(places)
    }

    /// A text. Numbers and booleans are not taken for texts: the API server
    /// would not either.
    pub fn string<'p>(&mut self, place: &Place<'p>) -> Option<&'p str> {
        match &place.node.value {
            Value::String(text) => Some(text),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                self.wrong_type(place, "a string", Some("quote it".to_owned()));
                None
            }
            _ => {
                self.wrong_type(place, "a string", None);
                None
            }
        }
    }

    /// A truth value.
    pub fn boolean(&mut self, place: &Place<'_>) -> Option<bool> {
        match place.node.value {
            Value::Bool(value) => Some(value),
            Value::String(_) => {
                self.wrong_type(place, "a boolean", Some("leave out the quotes".to_owned()));
                None
            }
            _ => {
                self.wrong_type(place, "a boolean", None);
                None
            }
        }
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, place: &Place<'_>, least: i64, most: i64) -> Option<i64> {
        match place.node.value {
            Value::Int(value) if (least..=most).contains(&value) => Some(value),
            Value::Int(value) => {
                self.refuse(place, format!("must be {least} to {most}, this is {value}"), None);
                None
            }
            Value::String(_) => {
                self.wrong_type(place, "an integer", Some("leave out the quotes".to_owned()));
                None
            }
            _ => {
                self.wrong_type(place, "an integer", None);
                None
            }
        }
    }
}

/// The field that was probably meant: the same but for case, or at most two
/// letters away.
fn nearest(written: &str, schema: Schema) -> Option<&'static str> {
    schema
        .iter()
        .map(|(name, _)| (distance(&written.to_lowercase(), &name.to_lowercase()), *name))
        .filter(|(distance, name)| *distance <= 2 && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein distance; long texts are far from everything.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.chars().enumerate() {
            let change = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: Schema = &[("toPorts", Field::Read), ("toCIDR", Field::Read)];

    #[test]
    fn misspelt_fields_have_a_suggestion() {
        assert_eq!(nearest("toports", SCHEMA), Some("toPorts"));
        assert_eq!(nearest("toPort", SCHEMA), Some("toPorts"));
        assert_eq!(nearest("toCidr", SCHEMA), Some("toCIDR"));
        assert_eq!(nearest("http", SCHEMA), None);
    }

    #[test]
    fn keys_with_dots_are_quoted_in_paths() {
        assert_eq!(join("a.matchLabels", "k8s:app"), "a.matchLabels[\"k8s:app\"]");
        assert_eq!(join("", "spec"), "spec");
    }
}
