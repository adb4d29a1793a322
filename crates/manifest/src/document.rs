//! Manifests as values that remember where they were written.

use serde_json::Number;

/// A place in a file; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl Position {
    /// The beginning of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// A value and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it starts.
    pub at: Position,
}

/// What a manifest can hold, as Kubernetes reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A truth value; `yes`, `no`, `on`, `off`, `y` and `n` are some too.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order it is written; no key twice.
    Map(Vec<(Key, Node)>),
}

impl Value {
    /// What kind of value it is, with an article, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// A key of a mapping and where it is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    /// The key.
    pub text: String,
    /// Where it starts.
    pub at: Position,
}

impl Node {
    /// The value under a key; `None` if this is no mapping or has no such key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(present, _)| present.text == key).map(|(_, node)| node)
    }

    /// The value at the end of a chain of keys.
    pub fn path(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The elements; none if it is no list.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The entries; none if it is no mapping.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value as JSON, for readers that need no positions. Numbers that JSON
    /// does not know become null.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => serde_json::Value::Bool(*value),
            Value::Int(value) => serde_json::Value::Number((*value).into()),
            Value::Float(value) => {
                Number::from_f64(*value).map_or(serde_json::Value::Null, serde_json::Value::Number)
            }
            Value::String(text) => serde_json::Value::String(text.clone()),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect()
            }
        }
    }
}

/// One object of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The file, as its reader named it.
    pub file: String,
    /// Where in the file's document the object is: empty, or `items[3]` in a list.
    pub path: String,
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// The whole object.
    pub root: Node,
}

impl Document {
    /// `metadata.name`; empty if there is none.
    pub fn name(&self) -> &str {
        self.root.path(&["metadata", "name"]).and_then(Node::as_str).unwrap_or_default()
    }

    /// `metadata.namespace`; empty if there is none.
    pub fn namespace(&self) -> &str {
        self.root.path(&["metadata", "namespace"]).and_then(Node::as_str).unwrap_or_default()
    }

    /// The API group: what stands before the slash of `apiVersion`.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}
