//! Messages as JSON, the way Hubble's command line prints them: field names as in
//! the `.proto` files, enums by name, 64-bit numbers as text, unset fields left out.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions,
};
use serde_json::{Map, Value};

use crate::proto::DESCRIPTORS;

/// Why a message cannot be written as JSON, or read from it.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The program was built without this message's description.
    #[error("message `{0}` has no descriptor")]
    Unknown(String),
    /// Most often an extension of a type that this program does not know.
    #[error("cannot write `{message}` as JSON: {reason}")]
    Write {
        /// Full name of the message.
        message: String,
        /// What the encoder said.
        reason: String,
    },
    /// Not JSON, or not of this message.
    #[error("not a `{message}`: {reason}")]
    Read {
        /// Full name of the message.
        message: String,
        /// What the decoder said, with line and column.
        reason: String,
    },
}

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| {
    // The global pool holds the well-known types, Struct among them.
    let mut pool = DescriptorPool::global();
    pool.decode_file_descriptor_set(DESCRIPTORS).ok().map(|()| pool)
});

/// The description of a message of this crate.
pub(crate) fn descriptor<M: Name>() -> Result<MessageDescriptor, JsonError> {
    let name = M::full_name();
    POOL.as_ref().and_then(|pool| pool.get_message_by_name(&name)).ok_or(JsonError::Unknown(name))
}

/// One line of JSON.
pub fn to_json<M: Message + Name>(message: &M) -> Result<String, JsonError> {
    let failed = |reason: String| JsonError::Write { message: M::full_name(), reason };
    let descriptor = descriptor::<M>()?;
    let mut dynamic = DynamicMessage::new(descriptor.clone());
    dynamic.transcode_from(message).map_err(|error| failed(error.to_string()))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let value = dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| failed(error.to_string()))?;
    Ok(in_order(value, Some(&descriptor)).to_string())
}

/// Puts fields in the order of the `.proto` file, as Hubble prints them; the
/// encoder sorts them by number. What has no such file is sorted by name.
fn in_order(value: Value, descriptor: Option<&MessageDescriptor>) -> Value {
    match value {
        Value::Object(fields) => Value::Object(match descriptor {
            Some(descriptor) if descriptor.package_name() != "google.protobuf" => {
                fields_in_order(fields, descriptor)
            }
            _ => by_name(fields),
        }),
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| in_order(item, descriptor)).collect())
        }
        Value::Number(number) => Value::Number(match number.as_f64() {
            // The numbers of a Struct are floating; whole ones print as such.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                (float as i64).into()
            }
            _ => number,
        }),
        other => other,
    }
}

fn fields_in_order(
    mut fields: Map<String, Value>,
    descriptor: &MessageDescriptor,
) -> Map<String, Value> {
    let mut ordered = Map::new();
    for field in &descriptor.descriptor_proto().field {
        let Some((name, value)) = fields.remove_entry(field.name()) else {
            continue;
        };
        let kind = descriptor.get_field_by_name(&name).map(|field| field.kind());
        let inner = match &kind {
            Some(Kind::Message(inner)) => Some(inner),
            _ => None,
        };
        ordered.insert(name, in_order(value, inner));
    }
    ordered
}

fn by_name(fields: Map<String, Value>) -> Map<String, Value> {
    let mut fields: Vec<(String, Value)> =
        fields.into_iter().map(|(name, value)| (name, in_order(value, None))).collect();
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    fields.into_iter().collect()
}

/// Reads one message; fields that a newer writer added are skipped.
pub fn from_json<M: Message + Name + Default>(text: &str) -> Result<M, JsonError> {
    read(text, &DeserializeOptions::new().deny_unknown_fields(false))
}

/// Reads what a person wrote: a field that there is not is a mistake. A filter without
/// it would match every flow.
pub fn from_json_strictly<M: Message + Name + Default>(text: &str) -> Result<M, JsonError> {
    read(text, &DeserializeOptions::new().deny_unknown_fields(true))
}

fn read<M: Message + Name + Default>(
    text: &str,
    options: &DeserializeOptions,
) -> Result<M, JsonError> {
    let failed = |reason: String| JsonError::Read { message: M::full_name(), reason };
    let mut reader = serde_json::Deserializer::from_str(text);
    let dynamic =
        DynamicMessage::deserialize_with_options(descriptor::<M>()?, &mut reader, options)
            .map_err(|error| failed(error.to_string()))?;
    reader.end().map_err(|error| failed(error.to_string()))?;
    dynamic.transcode_to().map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::observer::{GetFlowsResponse, ServerStatusResponse};

    /// Lines that Hubble's command line printed, from flows of every kind.
    const HUBBLE: &str = include_str!("../tests/data/hubble.jsonl");

    #[test]
    fn lines_printed_by_hubble_are_read_and_written_byte_for_byte() {
        for line in HUBBLE.lines() {
            let answer: GetFlowsResponse = from_json(line).unwrap();
            assert_eq!(to_json(&answer).unwrap(), line);
        }
        assert_eq!(HUBBLE.lines().count(), 7);
    }

    #[test]
    fn a_status_prints_as_hubble_prints_it() {
        let status = ServerStatusResponse {
            num_flows: 4095,
            max_flows: 4095,
            seen_flows: 123_456,
            uptime_ns: 5_400_000_000_000,
            num_connected_nodes: Some(2),
            num_unavailable_nodes: Some(1),
            unavailable_nodes: vec!["c1/node-c".into()],
            version: "fake v1.19.0".into(),
            flows_rate: 12.5,
        };
        assert_eq!(
            to_json(&status).unwrap(),
            r#"{"num_flows":"4095","max_flows":"4095","seen_flows":"123456","uptime_ns":"5400000000000","num_connected_nodes":2,"num_unavailable_nodes":1,"unavailable_nodes":["c1/node-c"],"version":"fake v1.19.0","flows_rate":12.5}"#
        );
    }

    #[test]
    fn a_field_of_a_newer_writer_is_skipped() {
        let answer: GetFlowsResponse = from_json(r#"{"node_name":"n","later":[1]}"#).unwrap();
        assert_eq!(answer.node_name, "n");
    }

    #[test]
    fn a_field_that_there_is_not_is_refused_of_who_wrote_it() {
        use crate::proto::flow::FlowFilter;
        let filter: FlowFilter = from_json_strictly(r#"{"source_pod":["a/"]}"#).unwrap();
        assert_eq!(filter.source_pod, ["a/"]);
        let error = from_json_strictly::<FlowFilter>(r#"{"souce_pod":["a/"]}"#).unwrap_err();
        assert!(error.to_string().contains("souce_pod"), "{error}");
    }

    #[track_caller]
    fn check_refused(text: &str) {
        let error = from_json::<GetFlowsResponse>(text).unwrap_err();
        assert!(matches!(error, JsonError::Read { .. }), "{error}");
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        check_refused("");
        check_refused("[]");
        check_refused(r#"{"node_name":7}"#);
        check_refused(r#"{"node_name":"n"} {"#);
        check_refused(&"[".repeat(100_000));
    }

    #[test]
    fn an_extension_of_an_unknown_type_is_an_error_that_names_it() {
        let any = prost_types::Any { type_url: "type.googleapis.com/x.Y".into(), value: vec![] };
        let flow = crate::proto::flow::Flow { extensions: Some(any), ..Default::default() };
        let error = to_json(&flow).unwrap_err().to_string();
        assert!(error.contains("x.Y"), "{error}");
    }
}
