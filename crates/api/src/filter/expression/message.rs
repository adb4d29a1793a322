//! A flow as a value of the expression language: fields are read when they are
//! asked for. What is not set has its standard value, as the language has it for
//! protobuf; `has()` tells the difference.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use cel::ExecutionError;
use cel::common::traits::Indexer;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
    Type,
};
use cel::common::value::{CowVal, StaticVal, Val};
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage};
use prost_types::Struct;

use super::check::PRESENCE;
use crate::flow::detail::STRUCT_URL;
use crate::json;
use crate::proto::flow::Flow;

type Boxed = Box<dyn Val>;

static MESSAGE: Type = Type::new_unspecified_type("message");

/// A message, or a part of one.
#[derive(Clone, Debug)]
pub(super) struct Message(Arc<DynamicMessage>);

impl Message {
    pub(super) fn of(flow: &Flow) -> Option<Self> {
        let mut message = DynamicMessage::new(json::descriptor::<Flow>().ok()?);
        message.transcode_from(flow).ok()?;
        Some(Self(Arc::new(message)))
    }

    fn field(&self, field: &FieldDescriptor) -> Boxed {
        let message = &self.0;
        if field.is_list() {
            let values = message.get_field(field);
            let items = values.as_list().unwrap_or_default().iter();
            let items: Vec<Boxed> = items.map(|item| value(field, item)).collect();
            return Box::new(CelList::from(items));
        }
        if is_wrapper(&field.kind()) && !message.has_field(field) {
            return Box::new(CelNull);
        }
        value(field, &message.get_field(field))
    }
}

/// Messages around one value, which mean `null` when they are not there.
pub(super) fn is_wrapper(kind: &Kind) -> bool {
    matches!(kind, Kind::Message(message)
        if message.full_name().starts_with("google.protobuf.")
            && message.full_name().ends_with("Value"))
}

fn value(field: &FieldDescriptor, value: &prost_reflect::Value) -> Boxed {
    use prost_reflect::Value::{
        Bool, Bytes, EnumNumber, F32, F64, I32, I64, List, Map, Message as Part, String, U32, U64,
    };
    match value {
        Bool(value) => Box::new(CelBool::from(*value)),
        I32(value) | EnumNumber(value) => Box::new(CelInt::from(i64::from(*value))),
        I64(value) => Box::new(CelInt::from(*value)),
        U32(value) => Box::new(CelUInt::from(u64::from(*value))),
        U64(value) => Box::new(CelUInt::from(*value)),
        F32(value) => Box::new(CelDouble::from(f64::from(*value))),
        F64(value) => Box::new(CelDouble::from(*value)),
        String(value) => Box::new(CelString::from(value.clone())),
        Bytes(value) => Box::new(CelBytes::from(value.to_vec())),
        Part(part) => message(field, part),
        // A flow has no maps, and lists in lists there are none.
        List(_) | Map(_) => Box::new(CelNull),
    }
}

fn message(field: &FieldDescriptor, part: &DynamicMessage) -> Boxed {
    if is_wrapper(&field.kind()) {
        let inner = part.descriptor().get_field_by_name("value");
        return inner.map_or_else(
            || Box::new(CelNull) as Boxed,
            |inner| value(&inner, &part.get_field(&inner)),
        );
    }
    if part.descriptor().full_name() == "google.protobuf.Any" {
        return extension(part).unwrap_or_else(|| Box::new(CelMap::from(HashMap::new())));
    }
    Box::new(Message(Arc::new(part.clone())))
}

/// What Signet knows beyond Hubble's fields, as a map.
fn extension(any: &DynamicMessage) -> Option<Boxed> {
    let any: prost_types::Any = any.transcode_to().ok()?;
    let content = (any.type_url == STRUCT_URL).then(|| Struct::decode(any.value.as_slice()));
    Some(map(&content?.ok()?))
}

fn map(content: &Struct) -> Boxed {
    let entries = content.fields.iter().map(|(key, value)| {
        let key = CelMapKey::from(key.clone());
        (key, json_value(value.kind.as_ref()))
    });
    Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
}

fn json_value(kind: Option<&prost_types::value::Kind>) -> Boxed {
    use prost_types::value::Kind::{
        BoolValue, ListValue, NullValue, NumberValue, StringValue, StructValue,
    };
    match kind {
        Some(NumberValue(number)) => Box::new(CelDouble::from(*number)),
        Some(StringValue(text)) => Box::new(CelString::from(text.clone())),
        Some(BoolValue(value)) => Box::new(CelBool::from(*value)),
        Some(StructValue(content)) => map(content),
        Some(ListValue(list)) => {
            let items = list.values.iter().map(|item| json_value(item.kind.as_ref()));
            Box::new(CelList::from(items.collect::<Vec<Boxed>>()))
        }
        Some(NullValue(_)) | None => Box::new(CelNull),
    }
}

impl Val for Message {
    fn get_type(&self) -> &Type {
        &MESSAGE
    }

    fn cel_type() -> &'static Type {
        &MESSAGE
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>().is_some_and(|other| self.0 == other.0)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Message {}

impl Indexer for Message {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let missing = |name: &str| ExecutionError::NoSuchKey(Arc::new(name.to_owned()));
        let name = index.downcast_ref::<CelString>().ok_or_else(|| missing("?"))?;
        let (name, is_question) = match name.inner().strip_prefix(PRESENCE) {
            Some(name) => (name, true),
            None => (name.inner(), false),
        };
        let field = self.0.descriptor().get_field_by_name(name).ok_or_else(|| missing(name))?;
        if is_question && !self.0.has_field(&field) {
            return Err(missing(name));
        }
        Ok(CowVal::Owned(self.field(&field)))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}
