//! What every object has around its `spec`: names, labels, and what the API
//! server adds.

use model::{PolicyKind, PolicyName};

use crate::fields::{Field, Place, Reader, Schema};

const METADATA: Schema = &[
    ("name", Field::Read),
    ("namespace", Field::Read),
    ("labels", Field::Inert),
    ("annotations", Field::Inert),
    ("creationTimestamp", Field::Inert),
    ("deletionGracePeriodSeconds", Field::Inert),
    ("deletionTimestamp", Field::Inert),
    ("finalizers", Field::Inert),
    ("generateName", Field::Inert),
    ("generation", Field::Inert),
    ("managedFields", Field::Inert),
    ("ownerReferences", Field::Inert),
    ("resourceVersion", Field::Inert),
    ("selfLink", Field::Inert),
    ("uid", Field::Inert),
];

/// The namespace of a namespaced object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// Reads `metadata` of a namespaced kind.
pub(crate) fn namespaced(reader: &mut Reader<'_>, kind: PolicyKind) -> Option<PolicyName> {
    let (name, namespace) = metadata(reader)?;
    let namespace = match namespace {
        Some(place) => dns_name(reader, &place, 63, false)?.to_owned(),
        None => {
            let text = format!("names no namespace: `{DEFAULT_NAMESPACE}` is meant");
            reader.note(&reader.root().field("metadata"), text);
            DEFAULT_NAMESPACE.to_owned()
        }
    };
    Some(PolicyName { kind, namespace: Some(namespace), name })
}

/// Reads `metadata` of a kind that is in no namespace.
pub(crate) fn cluster_scoped(reader: &mut Reader<'_>, kind: PolicyKind) -> Option<PolicyName> {
    let name = unscoped(reader, kind.as_str())?;
    Some(PolicyName { kind, namespace: None, name })
}

/// Reads the name of an object that is in no namespace.
pub(crate) fn unscoped(reader: &mut Reader<'_>, kind: &str) -> Option<String> {
    let (name, namespace) = metadata(reader)?;
    if let Some(place) = namespace {
        let reason = format!("a `{kind}` is in no namespace");
        reader.refuse(&place, reason, Some("leave the namespace out".to_owned()));
        return None;
    }
    Some(name)
}

fn metadata<'a>(reader: &mut Reader<'a>) -> Option<(String, Option<Place<'a>>)> {
    let root = reader.root();
    let place = root.field("metadata");
    if root.node.get("metadata").is_none() {
        reader.refuse(&place, "every policy needs `metadata`".to_owned(), None);
        return None;
    }
    let fields = reader.fields(&place, METADATA)?;
    let Some(name) = fields.get("name") else {
        reader.refuse(&fields.missing("name"), "every policy needs a name".to_owned(), None);
        return None;
    };
    let name = dns_name(reader, &name, 253, true)?.to_owned();
    Some((name, fields.get("namespace")))
}

/// A name as RFC 1123 has it; with dots a subdomain, without a label.
fn dns_name<'a>(
    reader: &mut Reader<'_>,
    place: &Place<'a>,
    longest: usize,
    dots: bool,
) -> Option<&'a str> {
    let text = reader.string(place)?;
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        label.bytes().all(|byte| inner(byte) || byte == b'-')
            && label.bytes().next().is_some_and(inner)
            && label.bytes().next_back().is_some_and(inner)
    };
    let legal = if dots { text.split('.').all(label) } else { label(text) };
    if legal && text.len() <= longest {
        return Some(text);
    }
    let reason = format!(
        "is no name: at most {longest} of a-z, 0-9 and `-`{}, letters or digits at both ends",
        if dots { ", in parts divided by `.`" } else { "" }
    );
    reader.refuse(place, reason, None);
    None
}
