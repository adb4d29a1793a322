//! Which fields of a flow a client asked for.
//!
//! The mask is a minimum: Hubble's own command line (up to 1.19) leaves fields
//! out of its mask that it then prints, so those are kept whatever it asks.

use std::collections::BTreeMap;

use prost::Name;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};

use crate::json;
use crate::proto::flow::Flow;
use crate::proto::observer::GetFlowsResponse;
use crate::proto::observer::get_flows_response::ResponseTypes;

/// Top-level fields that every answer has.
const ALWAYS: [&str; 11] = [
    "traffic_direction",
    "policy_match_type",
    "source_names",
    "destination_names",
    "auth_type",
    "sock_xlate_point",
    "debug_capture_point",
    "egress_allowed_by",
    "ingress_allowed_by",
    "egress_denied_by",
    "ingress_denied_by",
];

/// Why a mask is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid fieldmask: `{0}` is no path in a flow")]
pub struct MaskError(pub String);

/// The fields to keep; an empty tree keeps all of what it stands for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Tree(BTreeMap<String, Tree>);

/// A checked mask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mask(Tree);

impl Mask {
    /// Checks every path; `None` when there are none, which keeps everything.
    pub fn new(paths: &[String]) -> Result<Option<Self>, MaskError> {
        if paths.is_empty() {
            return Ok(None);
        }
        let descriptor = json::descriptor::<Flow>().map_err(|_| MaskError(Flow::full_name()))?;
        let mut tree = Tree::default();
        for path in paths.iter().map(String::as_str).chain(ALWAYS) {
            tree.insert(&descriptor, path).ok_or_else(|| MaskError(path.to_owned()))?;
        }
        Ok(Some(Self(tree)))
    }

    /// As [`Self::new`], and nothing that was not asked for.
    pub fn exact(paths: &[String]) -> Result<Option<Self>, MaskError> {
        if paths.is_empty() {
            return Ok(None);
        }
        let descriptor = json::descriptor::<Flow>().map_err(|_| MaskError(Flow::full_name()))?;
        let mut tree = Tree::default();
        for path in paths {
            tree.insert(&descriptor, path).ok_or_else(|| MaskError(path.clone()))?;
        }
        Ok(Some(Self(tree)))
    }

    /// An answer whose flow, if it is one, has only what was asked for.
    pub(crate) fn answer(&self, mut answer: GetFlowsResponse) -> GetFlowsResponse {
        answer.response_types = answer.response_types.map(|kind| match kind {
            ResponseTypes::Flow(flow) => ResponseTypes::Flow(self.apply(flow)),
            other => other,
        });
        answer
    }

    /// The flow with what was not asked for left out.
    pub fn apply(&self, flow: Flow) -> Flow {
        let Ok(descriptor) = json::descriptor::<Flow>() else {
            return flow;
        };
        let mut message = DynamicMessage::new(descriptor);
        if message.transcode_from(&flow).is_err() {
            return flow;
        }
        self.0.prune(&mut message);
        message.transcode_to().unwrap_or(flow)
    }
}

impl Tree {
    /// Adds a path; `None` when the message has no such field.
    fn insert(&mut self, descriptor: &MessageDescriptor, path: &str) -> Option<()> {
        let (name, rest) = match path.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (path, None),
        };
        let field = descriptor.get_field_by_name(name)?;
        let known = self.0.get(name).is_some_and(|tree| tree.0.is_empty());
        let Some(rest) = rest else {
            self.0.insert(name.to_owned(), Self::default());
            return Some(());
        };
        let Kind::Message(inner) = field.kind() else {
            return None;
        };
        if field.is_list() || field.is_map() {
            return None;
        }
        let mut subtree = self.0.get(name).cloned().unwrap_or_default();
        subtree.insert(&inner, rest)?;
        if !known {
            self.0.insert(name.to_owned(), subtree);
        }
        Some(())
    }

    fn prune(&self, message: &mut DynamicMessage) {
        let set: Vec<_> = message.fields().map(|(field, _)| field).collect();
        for field in set {
            match self.0.get(field.name()) {
                None => message.clear_field(&field),
                Some(subtree) if subtree.0.is_empty() => {}
                Some(subtree) => {
                    if let Value::Message(inner) = message.get_field_mut(&field) {
                        subtree.prune(inner);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::flow::{Endpoint, Policy};

    fn flow() -> Flow {
        Flow {
            uuid: "u".into(),
            summary: "UDP".into(),
            source: Some(Endpoint { identity: 7, pod_name: "a".into(), ..Endpoint::default() }),
            egress_denied_by: vec![Policy { name: "p".into(), ..Policy::default() }],
            is_reply: Some(false),
            ..Flow::default()
        }
    }

    fn mask(paths: &[&str]) -> Result<Option<Mask>, MaskError> {
        Mask::new(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn no_paths_keep_everything() {
        assert_eq!(mask(&[]), Ok(None));
    }

    #[test]
    fn what_is_not_asked_for_is_left_out_but_for_what_clients_print_anyway() {
        let kept = mask(&["is_reply", "source.identity"]).unwrap().unwrap().apply(flow());
        assert_eq!(
            kept,
            Flow {
                source: Some(Endpoint { identity: 7, ..Endpoint::default() }),
                egress_denied_by: flow().egress_denied_by,
                is_reply: Some(false),
                ..Flow::default()
            }
        );
    }

    #[test]
    fn what_hubbles_client_prints_unasked_is_always_there() {
        let printed = r#"{"source_names":["a"],"destination_names":["b"],
            "traffic_direction":"EGRESS","policy_match_type":2,"debug_capture_point":"DBG_CAPTURE_DELIVERY",
            "sock_xlate_point":"SOCK_XLATE_POINT_PRE_DIRECTION_FWD","auth_type":"SPIRE",
            "egress_allowed_by":[{"name":"p"}],"ingress_allowed_by":[{"name":"q"}],
            "egress_denied_by":[{"name":"r"}],"ingress_denied_by":[{"name":"s"}]}"#;
        let printed: Flow = json::from_json(printed).unwrap();
        let asked = Flow { uuid: "u".into(), ..printed };
        let more = Flow { summary: "UDP".into(), node_name: "n".into(), ..asked.clone() };
        assert_eq!(mask(&["uuid"]).unwrap().unwrap().apply(more.clone()), asked);
        // An exact mask is for what leaves the node.
        let exact = Mask::exact(&["uuid".to_owned()]).unwrap().unwrap();
        assert_eq!(exact.apply(more), Flow { uuid: "u".into(), ..Flow::default() });
    }

    #[test]
    fn a_whole_message_wins_over_one_of_its_fields() {
        for paths in [["source", "source.identity"], ["source.identity", "source"]] {
            let kept = mask(&paths).unwrap().unwrap().apply(flow());
            assert_eq!(kept.source, flow().source);
        }
    }

    #[test]
    fn a_path_that_is_not_there_is_refused() {
        assert_eq!(mask(&["sauce"]), Err(MaskError("sauce".into())));
        assert_eq!(mask(&["source.sauce"]), Err(MaskError("source.sauce".into())));
        assert_eq!(mask(&["uuid.x"]), Err(MaskError("uuid.x".into())));
    }
}
