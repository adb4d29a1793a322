//! Kafka rules of `toPorts`.

use policy::{API_KEYS, KafkaRole, KafkaRule};

use crate::fields::{Field, Fields, Place, Reader, Schema};

const KAFKA: Schema = &[
    ("role", Field::Read),
    ("apiKey", Field::Read),
    ("apiVersion", Field::Read),
    ("clientID", Field::Read),
    ("topic", Field::Read),
];

/// The longest Kafka topic and client.
const LONGEST_TOPIC: usize = 255;

/// Reads one rule.
pub(super) fn kafka(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<KafkaRule> {
    let fields = reader.fields(place, KAFKA)?;
    let keys = keys(reader, &fields)?;
    let version = match text(reader, &fields, "apiVersion")? {
        None => None,
        Some((place, version)) => match version.parse::<i16>() {
            Ok(version) => Some(version),
            Err(_) => {
                reader.refuse(&place, "a version is a number in quotes".to_owned(), None);
                return None;
            }
        },
    };
    let client = text(reader, &fields, "clientID")?.map(|(_, text)| text);
    let topic = text(reader, &fields, "topic")?;
    if let Some((place, topic)) = &topic {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if topic.len() > LONGEST_TOPIC || !topic.bytes().all(legal) {
            let reason = "is no topic: at most 255 letters, digits, `.`, `_` and `-`".to_owned();
            reader.refuse(place, reason, None);
            return None;
        }
    }
    Some(KafkaRule { keys, version, client, topic: topic.map(|(_, text)| text) })
}

/// A text that is there and not empty, and its place; `None` inside if not.
type Written<'p> = Option<(Place<'p>, String)>;

fn text<'p>(reader: &mut Reader<'_>, fields: &Fields<'p>, name: &str) -> Option<Written<'p>> {
    let Some(place) = fields.get(name) else { return Some(None) };
    let text = reader.string(&place)?.to_owned();
    Some((!text.is_empty()).then_some((place, text)))
}

/// The request types that a rule means; empty: all.
fn keys(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Vec<i16>> {
    let (role, key) = (text(reader, fields, "role")?, text(reader, fields, "apiKey")?);
    match (role, key) {
        (Some((place, _)), Some(_)) => {
            reader.refuse(&place, "`role` and `apiKey` exclude each other".to_owned(), None);
            None
        }
        (Some((place, role)), None) => match role.to_lowercase().as_str() {
            "produce" => Some(KafkaRole::Produce.keys().to_vec()),
            "consume" => Some(KafkaRole::Consume.keys().to_vec()),
            _ => {
                let fix = "write produce or consume".to_owned();
                reader.refuse(&place, "there is no such role".to_owned(), Some(fix));
                None
            }
        },
        (None, Some((place, name))) => {
            let number = API_KEYS.iter().position(|known| *known == name.to_lowercase());
            let number = number.and_then(|number| i16::try_from(number).ok());
            if number.is_none() {
                reader.refuse(&place, "there is no such request type".to_owned(), None);
            }
            number.map(|number| vec![number])
        }
        (None, None) => Some(Vec::new()),
    }
}
