//! Which fields of a flow a client asked for.
//!
//! The mask is a minimum: Hubble's own command line (up to 1.19) leaves fields
//! out of its mask that it then prints, so those are kept whatever it asks.

use std::collections::BTreeMap;

use prost::{Message, Name, decode_length_delimiter, encode_length_delimiter};
use prost_reflect::{Kind, MessageDescriptor};

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

/// The fields to keep by their numbers; an empty tree keeps all of what it stands for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Tree(BTreeMap<u32, Tree>);

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
        let encoded = flow.encode_to_vec();
        let mut kept = Vec::with_capacity(encoded.len());
        // It was encoded here, so that it can be read; if not, nothing is told.
        let pruned = self.0.prune(&encoded, &mut kept);
        pruned.and_then(|()| Flow::decode(kept.as_slice()).ok()).unwrap_or_default()
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
        let number = field.number();
        let known = self.0.get(&number).is_some_and(|tree| tree.0.is_empty());
        let Some(rest) = rest else {
            self.0.insert(number, Self::default());
            return Some(());
        };
        let Kind::Message(inner) = field.kind() else {
            return None;
        };
        if field.is_list() || field.is_map() {
            return None;
        }
        let mut subtree = self.0.get(&number).cloned().unwrap_or_default();
        subtree.insert(&inner, rest)?;
        if !known {
            self.0.insert(number, subtree);
        }
        Some(())
    }

    /// Copies the fields to keep of an encoded message; `None`: it is none. A
    /// follower of many flows has each of them pruned, so that nothing is looked up by
    /// name here.
    fn prune(&self, mut message: &[u8], kept: &mut Vec<u8>) -> Option<()> {
        while !message.is_empty() {
            let Field { number, key, whole, inner } = Field::take(&mut message)?;
            match (self.0.get(&number), inner) {
                (None, _) => {}
                (Some(subtree), Some(inner)) if !subtree.0.is_empty() => {
                    let mut pruned = Vec::with_capacity(inner.len());
                    subtree.prune(inner, &mut pruned)?;
                    kept.extend_from_slice(key);
                    encode_length_delimiter(pruned.len(), kept).ok()?;
                    kept.extend_from_slice(&pruned);
                }
                (Some(_), _) => kept.extend_from_slice(whole),
            }
        }
        Some(())
    }
}

/// A field of an encoded message.
struct Field<'a> {
    number: u32,
    /// Number and kind as they are encoded.
    key: &'a [u8],
    /// Key and value.
    whole: &'a [u8],
    /// The value, where its length is written before it.
    inner: Option<&'a [u8]>,
}

impl<'a> Field<'a> {
    /// The first field; `bytes` begins after it then.
    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let start = *bytes;
        // Lengths, keys and numbers are all written in the same way.
        let key = decode_length_delimiter(&mut *bytes).ok()?;
        let key_length = start.len() - bytes.len();
        let (delimited, length) = match key & 7 {
            0 => {
                decode_length_delimiter(&mut *bytes).ok()?;
                (false, 0)
            }
            1 => (false, 8),
            2 => (true, decode_length_delimiter(&mut *bytes).ok()?),
            5 => (false, 4),
            _ => return None,
        };
        let (value, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        let inner = delimited.then_some(value);
        let whole = &start[..start.len() - bytes.len()];
        let number = u32::try_from(key >> 3).ok()?;
        Some(Self { number, key: &start[..key_length], whole, inner })
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

    /// Every kind of field that is encoded in a way of its own.
    #[test]
    fn numbers_texts_lists_and_messages_are_kept_whole_or_not_at_all() {
        let all = r#"{"time":"2026-01-02T03:04:05.001Z","uuid":"u","verdict":"DROPPED",
            "drop_reason":133,"l4":{"TCP":{"source_port":40000,"destination_port":80,"flags":{"SYN":true}}},
            "source":{"ID":4294967295,"identity":7,"labels":["a","b"],"workloads":[{"name":"w"}]},
            "node_labels":["x","y"],"is_reply":true,"event_type":{"type":1,"sub_type":133},
            "socket_cookie":"18446744073709551615","Summary":"s"}"#;
        let all: Flow = json::from_json(all).unwrap();
        for (paths, want) in [
            (&["socket_cookie"][..], r#"{"socket_cookie":"18446744073709551615"}"#),
            (
                &["l4.TCP.flags", "Summary"],
                r#"{"l4":{"TCP":{"flags":{"SYN":true}}},"Summary":"s"}"#,
            ),
            (
                &["source.labels", "node_labels"],
                r#"{"source":{"labels":["a","b"]},"node_labels":["x","y"]}"#,
            ),
            (
                &["source.workloads", "source.ID"],
                r#"{"source":{"ID":4294967295,"workloads":[{"name":"w"}]}}"#,
            ),
            (&["event_type.type", "is_reply"], r#"{"event_type":{"type":1},"is_reply":true}"#),
            // Asked for in a message that is there, though it has no such field.
            (&["source.pod_name", "destination"], r#"{"source":{}}"#),
        ] {
            let exact =
                Mask::exact(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
            let kept = exact.unwrap().unwrap().apply(all.clone());
            assert_eq!(json::to_json(&kept).unwrap(), want);
        }
    }

    #[test]
    fn a_path_that_is_not_there_is_refused() {
        assert_eq!(mask(&["sauce"]), Err(MaskError("sauce".into())));
        assert_eq!(mask(&["source.sauce"]), Err(MaskError("source.sauce".into())));
        assert_eq!(mask(&["uuid.x"]), Err(MaskError("uuid.x".into())));
    }
}
