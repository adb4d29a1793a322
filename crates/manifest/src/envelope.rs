//! What every object has around its `spec`: names, labels, and what the API
//! server adds.

use model::{PolicyKind, PolicyName};
use policy::Mode;

use crate::document::Node;
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

/// Annotations that are meant for us start with this.
const OURS: &str = "signet.dev/";
/// The one that says whether a policy decides.
const MODE: &str = "signet.dev/mode";

/// Reads whether a policy decides. Who writes a mode that there is not is refused:
/// he means it to be something else than enforced, or to be enforced for certain.
pub(crate) fn mode(reader: &mut Reader<'_>) -> Option<Mode> {
    let annotations = reader.root().field("metadata").field("annotations");
    let written =
        reader.root().node.path(&["metadata", "annotations"]).map_or(&[][..], Node::entries);
    for (key, node) in written.iter().filter(|(key, _)| key.text.starts_with(OURS)) {
        if key.text != MODE {
            let place = Place { node, ..annotations.field(&key.text) };
            reader.warn(&place, format!("is not read: the one that is read is `{MODE}`"));
        }
    }
    let place = annotations.field(MODE);
    if !written.iter().any(|(key, _)| key.text == MODE) {
        return Some(Mode::Enforce);
    }
    let text = reader.string(&place)?;
    let mode = Mode::ALL.into_iter().find(|mode| mode.as_str() == text);
    if mode.is_none() {
        let fix = "write enforce, shadow or retire".to_owned();
        reader.refuse(&place, "there is no such mode".to_owned(), Some(fix));
    }
    mode
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
