//! Text to documents: YAML or JSON, one or many, lists unpacked.
//!
//! Reads as Kubernetes' tools do (YAML 1.1 scalars) and refuses what they take
//! silently or what a reader could misread: duplicate keys, aliases, merges,
//! tags of one's own. Every size is bounded before it is allocated. Knows no
//! kinds.

mod build;
mod scalar;
#[cfg(test)]
mod tests;

use crate::document::{Document, Node, Position, Value};
use crate::outcome::Refusal;

/// The largest file that is read: more than the API server takes in one request.
const MAX_BYTES: usize = 4 << 20;

/// Reads a file's text. A file with anything wrong in it is refused whole, with
/// all that could be found.
pub fn read(file: &str, text: &str) -> Result<Vec<Document>, Vec<Refusal>> {
    if text.len() > MAX_BYTES {
        let reason = format!("the file has {} bytes, at most {MAX_BYTES} are read", text.len());
        return Err(vec![refusal(file, Position::START, reason, Some("split it"))]);
    }
    if let Some((at, found)) = forbidden(text) {
        let reason = format!("the character {} cannot stand in a manifest", found.escape_unicode());
        return Err(vec![refusal(file, at, reason, None)]);
    }
    let mut refusals = Vec::new();
    let roots = build::roots(file, text, &mut refusals);
    let documents = roots.into_iter().flat_map(|root| unpack(file, root, &mut refusals)).collect();
    if refusals.is_empty() { Ok(documents) } else { Err(refusals) }
}

/// Reads a file's bytes, which must be UTF-8.
pub fn read_bytes(file: &str, bytes: &[u8]) -> Result<Vec<Document>, Vec<Refusal>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => read(file, text),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let at = end_of(&String::from_utf8_lossy(good));
            let reason = "the bytes here are not UTF-8".to_owned();
            Err(vec![refusal(file, at, reason, Some("save the file as UTF-8"))])
        }
    }
}

fn refusal(file: &str, at: Position, reason: String, fix: Option<&str>) -> Refusal {
    let fix = fix.map(str::to_owned);
    Refusal { file: file.to_owned(), at, field: String::new(), reason, fix }
}

/// The first character that YAML does not allow. The parser would take some of
/// them, NUL above all, for the end of the file and leave out the rest.
fn forbidden(text: &str) -> Option<(Position, char)> {
    let legal = |found: char| matches!(found, '\t' | '\n' | '\r' | '\u{85}') || !found.is_control();
    let (offset, found) = text.char_indices().find(|(_, found)| !legal(*found))?;
    Some((end_of(text.get(..offset).unwrap_or_default()), found))
}

/// The position just behind a text.
fn end_of(text: &str) -> Position {
    let count = |number: usize| u32::try_from(number + 1).unwrap_or(u32::MAX);
    let last_line = text.rsplit('\n').next().unwrap_or_default();
    Position { line: count(text.matches('\n').count()), column: count(last_line.chars().count()) }
}

/// The objects of one YAML document: itself, its items if it is a list, none if
/// it is empty.
fn unpack(file: &str, root: Node, refusals: &mut Vec<Refusal>) -> Vec<Document> {
    match root.value {
        Value::Null => return Vec::new(),
        Value::Map(_) => {}
        other => {
            let reason = format!("a manifest is a mapping, this is {}", other.kind());
            refusals.push(refusal(file, root.at, reason, None));
            return Vec::new();
        }
    }
    let Some((api_version, kind)) = type_of(file, &root, None, "", refusals) else {
        return Vec::new();
    };
    let item_kind = kind.strip_suffix("List").map(str::to_owned);
    let (Some(item_kind), Some(_)) = (item_kind, root.get("items")) else {
        return vec![Document {
            file: file.to_owned(),
            path: String::new(),
            api_version,
            kind,
            root,
        }];
    };
    // Items of `List` say what they are, those of `PodList` need not.
    let inherited = (!item_kind.is_empty()).then_some((api_version, item_kind));
    let Value::Map(entries) = root.value else { return Vec::new() };
    let items =
        entries.into_iter().find(|(key, _)| key.text == "items").map(|(_, node)| node.value);
    let Some(Value::List(items)) = items else {
        refusals.push(refusal(file, root.at, "`items` of a list is a list".to_owned(), None));
        return Vec::new();
    };
    let mut documents = Vec::with_capacity(items.len());
    for (index, root) in items.into_iter().enumerate() {
        let path = format!("items[{index}]");
        if let Some((api_version, kind)) = type_of(file, &root, inherited.as_ref(), &path, refusals)
        {
            documents.push(Document { file: file.to_owned(), path, api_version, kind, root });
        }
    }
    documents
}

/// `apiVersion` and `kind`; an object without them could be anything, and
/// anything could be meant to be enforced.
fn type_of(
    file: &str,
    root: &Node,
    inherited: Option<&(String, String)>,
    path: &str,
    refusals: &mut Vec<Refusal>,
) -> Option<(String, String)> {
    let mut field = |name: &str, inherited: Option<&String>| {
        let reason = match (root.get(name).map(|node| &node.value), inherited) {
            (Some(Value::String(text)), _) if !text.is_empty() => return Some(text.clone()),
            (None, Some(inherited)) => return Some(inherited.clone()),
            (None | Some(Value::Null), _) => format!("no `{name}`: nobody can say what this is"),
            (Some(Value::String(_)), _) => format!("`{name}` is empty"),
            (Some(other), _) => format!("`{name}` is a string, this is {}", other.kind()),
        };
        let at = root.get(name).map_or(root.at, |node| node.at);
        let fix = Some("if this is a template or a fragment, render it first");
        refusals.push(Refusal { field: path.to_owned(), ..refusal(file, at, reason, fix) });
        None
    };
    let api_version = field("apiVersion", inherited.map(|(api_version, _)| api_version));
    let kind = field("kind", inherited.map(|(_, kind)| kind));
    Some((api_version?, kind?))
}
