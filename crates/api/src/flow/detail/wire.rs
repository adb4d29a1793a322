//! A `google.protobuf.Struct` as bytes, without its values in between: a hundred
//! small allocations a flow less. Field numbers are those of `struct.proto`.

use prost::encoding::{encode_varint, encoded_len_varint};

/// First bytes of fields: their number, and that a length or eight bytes follow.
const FIRST: u8 = 0x0a;
const SECOND: u8 = 0x12;
const NUMBER: u8 = 0x11;
const TEXT: u8 = 0x1a;
const BOOLEAN: u8 = 0x20;
const STRUCT: u8 = 0x2a;
const LIST: u8 = 0x32;

/// The fields of a Struct. Later ones of a name replace earlier ones.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<u8>);

impl Fields {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.key(key, part(text.len()));
        self.part(TEXT, text.as_bytes());
    }

    pub(super) fn number(&mut self, key: &str, number: f64) {
        self.key(key, 1 + size_of::<f64>());
        self.0.push(NUMBER);
        self.0.extend(number.to_le_bytes());
    }

    pub(super) fn boolean(&mut self, key: &str, value: bool) {
        self.key(key, 2);
        self.0.extend([BOOLEAN, u8::from(value)]);
    }

    pub(super) fn texts(&mut self, key: &str, texts: &[String]) {
        let length: usize = texts.iter().map(|text| part(part(text.len()))).sum();
        self.key(key, part(length));
        self.head(LIST, length);
        for text in texts {
            self.head(FIRST, part(text.len()));
            self.part(TEXT, text.as_bytes());
        }
    }

    pub(super) fn fields(&mut self, key: &str, fields: &Self) {
        self.key(key, part(fields.0.len()));
        self.part(STRUCT, &fields.0);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// An entry of the map, up to its value, which has so many bytes.
    fn key(&mut self, key: &str, value: usize) {
        self.head(FIRST, part(key.len()) + part(value));
        self.part(FIRST, key.as_bytes());
        self.head(SECOND, value);
    }

    fn head(&mut self, field: u8, length: usize) {
        self.0.push(field);
        encode_varint(length as u64, &mut self.0);
    }

    fn part(&mut self, field: u8, bytes: &[u8]) {
        self.head(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }
}

/// Bytes of a field whose content has so many.
fn part(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::value::Kind;
    use prost_types::{ListValue, Struct, Value};

    use super::*;

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    #[test]
    fn it_is_what_the_library_reads() {
        for length in [0, 1, 127, 128, 300, 70_000] {
            let long = "x".repeat(length);
            let list = vec![long.clone(), String::new()];
            let mut inner = Fields::default();
            inner.texts("list", &list);
            let mut fields = Fields::with_capacity(64);
            fields.text("text", &long);
            fields.number("number", -1.5);
            fields.boolean("true", true);
            fields.boolean("false", false);
            fields.fields("inner", &inner);
            fields.fields("empty", &Fields::default());
            let texts = list.into_iter().map(|text| value(Kind::StringValue(text))).collect();
            let list = value(Kind::ListValue(ListValue { values: texts }));
            let inner = Struct { fields: [("list".to_owned(), list)].into() };
            let want = Struct {
                fields: [
                    ("text".to_owned(), value(Kind::StringValue(long))),
                    ("number".to_owned(), value(Kind::NumberValue(-1.5))),
                    ("true".to_owned(), value(Kind::BoolValue(true))),
                    ("false".to_owned(), value(Kind::BoolValue(false))),
                    ("inner".to_owned(), value(Kind::StructValue(inner))),
                    ("empty".to_owned(), value(Kind::StructValue(Struct::default()))),
                ]
                .into(),
            };
            assert_eq!(Struct::decode(fields.into_bytes().as_slice()).unwrap(), want);
        }
    }
}
