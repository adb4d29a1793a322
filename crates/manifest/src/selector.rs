//! Kubernetes label selectors: `matchLabels` and `matchExpressions`.
//!
//! What keys mean (with a source, prefixed, scoped) is the kind's own: the
//! caller says how a key becomes a [`SelectorKey`].

use std::collections::BTreeSet;

use policy::{Operator, Requirement, Selector, SelectorKey};

use crate::document::Node;
use crate::fields::{Field, Place, Reader, Schema};

const SELECTOR: Schema = &[("matchLabels", Field::Read), ("matchExpressions", Field::Read)];
const EXPRESSION: Schema =
    &[("key", Field::Read), ("operator", Field::Read), ("values", Field::Read)];

/// Prefix, slash and name of a key, with room for the prefixes that identity
/// labels add.
const LONGEST_KEY: usize = 512;
/// What Kubernetes allows for a value.
const LONGEST_VALUE: usize = 63;

/// Reads a selector; `{}` selects everything that the caller's scope leaves.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    key: &dyn Fn(&str) -> SelectorKey,
) -> Option<Selector> {
    let fields = reader.fields_or(place, SELECTOR, &label)?;
    let mut selector = Selector::default();
    let mut whole = true;
    if let Some(labels) = fields.get("matchLabels") {
        for (name, value) in reader.entries(&labels)? {
            let place = Place { node: value, ..labels.field(&name.text) };
            match (check_key(reader, &place, &name.text), label_value(reader, &place)) {
                (Some(()), Some(value)) => {
                    selector.insert(Requirement::equals(key(&name.text), value));
                }
                _ => whole = false,
            }
        }
    }
    if let Some(expressions) = fields.get("matchExpressions") {
        for place in reader.list(&expressions)? {
            match expression(reader, &place, key) {
                Some(requirement) => selector.insert(requirement),
                None => whole = false,
            }
        }
    }
    whole.then_some(selector)
}

/// What was meant by a label that stands where a selector's fields do.
fn label(name: &str, node: &Node) -> Option<String> {
    let (name, value) = (shortened(name), shortened(node.as_str()?));
    Some(format!("labels stand below `matchLabels`: `matchLabels: {{{name}: {value}}}`"))
}

fn expression(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    key: &dyn Fn(&str) -> SelectorKey,
) -> Option<Requirement> {
    let fields = reader.fields(place, EXPRESSION)?;
    let Some(key_place) = fields.get("key") else {
        reader.refuse(&fields.missing("key"), "an expression needs a key".to_owned(), None);
        return None;
    };
    let name = reader.string(&key_place)?;
    check_key(reader, &key_place, name)?;
    let Some(operator_place) = fields.get("operator") else {
        let reason = "an expression needs an operator".to_owned();
        reader.refuse(&fields.missing("operator"), reason, None);
        return None;
    };
    let operator = reader.string(&operator_place)?;
    let mut values = BTreeSet::new();
    if let Some(list) = fields.get("values") {
        for value in reader.list(&list)? {
            values.insert(label_value(reader, &value)?.to_owned());
        }
    }
    let operator = match (operator, values.is_empty()) {
        ("In", false) => Operator::In(values),
        ("NotIn", false) => Operator::NotIn(values),
        ("Exists", true) => Operator::Exists,
        ("DoesNotExist", true) => Operator::DoesNotExist,
        ("In" | "NotIn", true) => {
            let reason = format!("`{operator}` needs values");
            reader.refuse(&fields.missing("values"), reason, None);
            return None;
        }
        ("Exists" | "DoesNotExist", false) => {
            let reason = format!("`{operator}` takes no values");
            reader.refuse(&fields.missing("values"), reason, None);
            return None;
        }
        (other, _) => {
            let reason = format!("there is no operator `{}`", other.escape_debug());
            let fix = "write In, NotIn, Exists or DoesNotExist".to_owned();
            reader.refuse(&operator_place, reason, Some(fix));
            return None;
        }
    };
    Some(Requirement { key: key(name), operator })
}

/// A key that no label can have would silently match nothing.
fn check_key(reader: &mut Reader<'_>, place: &Place<'_>, text: &str) -> Option<()> {
    let bare = text.strip_prefix('$').unwrap_or(text);
    let bare = bare.split_once(':').map_or(bare, |(_, key)| key);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    if !bare.is_empty() && text.len() <= LONGEST_KEY && bare.bytes().all(legal) {
        return Some(());
    }
    let reason = format!("`{}` is no key of a label", shortened(text));
    reader.refuse(place, reason, Some("letters, digits, `-`, `_`, `.` and `/`".to_owned()));
    None
}

fn label_value<'a>(reader: &mut Reader<'_>, place: &Place<'a>) -> Option<&'a str> {
    let text = reader.string(place)?;
    let alphanumeric = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let shaped = text.bytes().all(legal)
        && alphanumeric(text.bytes().next())
        && alphanumeric(text.bytes().next_back());
    if shaped && text.len() <= LONGEST_VALUE {
        return Some(text);
    }
    let reason = format!("`{}` is no value of a label", shortened(text));
    let fix = "at most 63 letters, digits, `-`, `_` and `.`, letters or digits at both ends";
    reader.refuse(place, reason, Some(fix.to_owned()));
    None
}

/// A text fit for a message: no control characters, no end in sight.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    let shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN { shown + "..." } else { shown }
}
