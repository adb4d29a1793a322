//! `CiliumCIDRGroup`: ranges that rules refer to by name or label.

use policy::CidrGroup;

use crate::address;
use crate::envelope;
use crate::fields::{Field, Place, Reader, Schema};

const OBJECT: Schema = &[
    ("apiVersion", Field::Inert),
    ("kind", Field::Inert),
    ("metadata", Field::Read),
    ("spec", Field::Read),
    ("status", Field::Inert),
];
const SPEC: Schema = &[("externalCIDRs", Field::Read)];

/// Reads a group.
pub(crate) fn read(reader: &mut Reader<'_>) -> Option<CidrGroup> {
    let root = reader.root();
    if !["cilium.io/v2", "cilium.io/v2alpha1"].contains(&reader.api_version()) {
        let reason = format!("`{}` is not read", reader.api_version());
        reader.refuse(&root.field("apiVersion"), reason, Some("apiVersion: cilium.io/v2".into()));
    }
    let name = envelope::unscoped(reader, "CiliumCIDRGroup");
    let fields = reader.fields(&root, OBJECT)?;
    let labels = labels(reader, &root);
    let mut ranges = Vec::new();
    if let Some(spec) = fields.get("spec") {
        let fields = reader.fields(&spec, SPEC)?;
        if let Some(list) = fields.get("externalCIDRs") {
            for item in reader.list(&list)? {
                ranges.push(address::range(reader, &item, true)?);
            }
        }
    }
    Some(CidrGroup { name: name?, labels, ranges })
}

fn labels(reader: &mut Reader<'_>, root: &Place<'_>) -> std::collections::BTreeMap<String, String> {
    let place = root.field("metadata").field("labels");
    if root.node.path(&["metadata", "labels"]).is_none() {
        return Default::default();
    }
    let entries = reader.entries(&place).unwrap_or_default();
    entries
        .iter()
        .filter_map(|(key, node)| Some((key.text.clone(), node.as_str()?.to_owned())))
        .collect()
}
