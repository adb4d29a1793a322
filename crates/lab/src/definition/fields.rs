//! Reads values out of a manifest and says exactly where one is wrong.
//!
//! A reader never stops at the first mistake: every refusal is collected, so
//! that a file is corrected in one go.

use std::str::FromStr;

use manifest::{Document, Node, Position, Refusal, Value};

/// Where in a manifest one is: a value and the path to it.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    file: &'a str,
    path: String,
    node: &'a Node,
}

impl<'a> Field<'a> {
    /// The whole document.
    pub fn root(document: &'a Document) -> Self {
        Self { file: &document.file, path: String::new(), node: &document.root }
    }

    /// The value itself.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// The field `key` of a map; `None` when there is none, or it is null.
    pub fn get(&self, key: &str) -> Option<Field<'a>> {
        let node = self.node.get(key)?;
        let path = if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) };
        (!matches!(node.value, Value::Null)).then_some(Field { file: self.file, path, node })
    }

    /// The refusal of this value.
    pub fn refuse(&self, reason: impl Into<String>, fix: Option<&str>) -> Refusal {
        self.refuse_at(self.node.at, &self.path, reason.into(), fix)
    }

    fn refuse_at(&self, at: Position, field: &str, reason: String, fix: Option<&str>) -> Refusal {
        Refusal {
            file: self.file.to_owned(),
            at,
            field: field.to_owned(),
            reason,
            fix: fix.map(str::to_owned),
        }
    }

    /// Refuses keys that nobody here reads.
    pub fn only(&self, known: &[&str], refusals: &mut Vec<Refusal>) {
        let Value::Map(entries) = &self.node.value else {
            refusals.push(self.refuse("must be a map", None));
            return;
        };
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            let path = format!("{}.{}", self.path, key.text);
            let reason = format!("unknown field; known here: {}", known.join(", "));
            refusals.push(self.refuse_at(key.at, path.trim_start_matches('.'), reason, None));
        }
    }

    /// The value as text.
    pub fn text(&self, refusals: &mut Vec<Refusal>) -> Option<String> {
        match &self.node.value {
            Value::String(text) => Some(text.clone()),
            _ => {
                refusals.push(self.refuse("must be a string", Some("quote it")));
                None
            }
        }
    }

    /// The value as text of a form of its own: an address, a range.
    pub fn parsed<T: FromStr>(&self, what: &str, refusals: &mut Vec<Refusal>) -> Option<T> {
        let text = self.text(refusals)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(_) => {
                refusals.push(self.refuse(format!("`{text}` is not {what}"), None));
                None
            }
        }
    }

    /// The value as a whole number.
    pub fn number(&self, refusals: &mut Vec<Refusal>) -> Option<u32> {
        match self.node.value {
            Value::Int(number) if u32::try_from(number).is_ok() => u32::try_from(number).ok(),
            _ => {
                refusals.push(self.refuse("must be a whole number of at least 0", None));
                None
            }
        }
    }

    /// The items of the list `key`; none when there is no such field.
    pub fn items(&self, key: &str, refusals: &mut Vec<Refusal>) -> Vec<Field<'a>> {
        let Some(field) = self.get(key) else { return Vec::new() };
        match &field.node.value {
            Value::List(nodes) => nodes
                .iter()
                .enumerate()
                .map(|(index, node)| Field {
                    file: self.file,
                    path: format!("{}[{index}]", field.path),
                    node,
                })
                .collect(),
            _ => {
                refusals.push(field.refuse("must be a list", None));
                Vec::new()
            }
        }
    }

    /// The texts in the list `key`.
    pub fn texts(&self, key: &str, refusals: &mut Vec<Refusal>) -> Vec<String> {
        let items = self.items(key, refusals);
        items.iter().filter_map(|item| item.text(refusals)).collect()
    }

    /// The text at `key`, if there is one.
    pub fn text_at(&self, key: &str, refusals: &mut Vec<Refusal>) -> Option<String> {
        self.get(key).and_then(|field| field.text(refusals))
    }

    /// A required text that is a DNS label; the field is refused without it.
    pub fn name_at(&self, key: &str, refusals: &mut Vec<Refusal>) -> Option<String> {
        let Some(field) = self.get(key) else {
            refusals.push(self.refuse(format!("`{key}` is missing"), None));
            return None;
        };
        let name = field.text(refusals)?;
        if crate::places::is_dns_label(&name) {
            return Some(name);
        }
        let reason = format!("`{name}` is not a name of at most 63 of a-z, 0-9 and `-`");
        refusals.push(field.refuse(reason, None));
        None
    }
}
