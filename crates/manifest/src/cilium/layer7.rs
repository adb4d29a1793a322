//! `rules` of an element of `toPorts`: what must hold inside connections
//! (facts: `policy.md` section 1.5).

use model::Direction;
use policy::{HeaderMatch, HttpRule, Mismatch, NamePattern, Pattern, Requests};

use crate::cilium::kafka::kafka;
use crate::document::Value;
use crate::fields::{Field, Fields, Place, Reader, Schema};

const GONE: &str = "is gone from the language: no proxy speaks it";
const GONE_FIX: &str = "write `http`, `dns` or `kafka` rules, or none to allow the whole port";

const RULES: Schema = &[
    ("http", Field::Read),
    ("dns", Field::Read),
    ("kafka", Field::Read),
    ("l7proto", Field::Refused(GONE, GONE_FIX)),
    ("l7", Field::Refused(GONE, GONE_FIX)),
];
const HTTP: Schema = &[
    ("path", Field::Read),
    ("method", Field::Read),
    ("host", Field::Read),
    ("headers", Field::Read),
    ("headerMatches", Field::Read),
];
const HEADER: Schema = &[
    ("name", Field::Read),
    ("value", Field::Read),
    ("secret", Field::Read),
    ("mismatch", Field::Read),
];
const SECRET: Schema = &[("namespace", Field::Read), ("name", Field::Read)];
const NAME: Schema = &[("matchName", Field::Read), ("matchPattern", Field::Read)];

/// Reads `rules`; without any, nothing is demanded.
pub(super) fn read(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    direction: Direction,
) -> Option<Option<Requests>> {
    let fields = reader.fields(place, RULES)?;
    if fields.get("l7proto").is_some() || fields.get("l7").is_some() {
        return None;
    }
    let written: Vec<(&str, Place<'_>)> = ["http", "dns", "kafka"]
        .into_iter()
        .filter_map(|name| Some((name, fields.get(name)?)))
        .collect();
    let (name, list) = match written.as_slice() {
        [] => return Some(None),
        [one] => one,
        [_, (name, place), ..] => {
            let reason = format!("`{name}` rules cannot stand beside others in one element");
            reader.refuse(place, reason, Some("use a second element of `toPorts`".to_owned()));
            return None;
        }
    };
    let items = reader.list(list)?;
    if items.is_empty() {
        reader.warn(list, "is an empty list: no request passes".to_owned());
    }
    Some(Some(match *name {
        "http" => Requests::Http(each(reader, &items, http)?),
        "dns" if direction == Direction::Ingress => {
            let reason = "stands in egress rules only: queries are seen where they are sent";
            reader.refuse(list, reason.to_owned(), Some("move it to `egress`".to_owned()));
            return None;
        }
        "dns" => Requests::Dns(each(reader, &items, name_pattern)?),
        _ => Requests::Kafka(each(reader, &items, kafka)?),
    }))
}

fn each<T>(
    reader: &mut Reader<'_>,
    items: &[Place<'_>],
    read: impl Fn(&mut Reader<'_>, &Place<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let read: Vec<Option<T>> = items.iter().map(|item| read(reader, item)).collect();
    read.into_iter().collect()
}

fn http(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<HttpRule> {
    let fields = reader.fields(place, HTTP)?;
    let (path, method, host) = (
        pattern(reader, &fields, "path"),
        pattern(reader, &fields, "method"),
        pattern(reader, &fields, "host"),
    );
    let mut headers = Vec::new();
    if let Some(list) = fields.get("headers") {
        for item in reader.list(&list)? {
            headers.push(header_text(reader.string(&item)?));
        }
    }
    if let Some(list) = fields.get("headerMatches") {
        for item in reader.list(&list)? {
            headers.push(header(reader, &item)?);
        }
    }
    Some(HttpRule { path: path?, method: method?, host: host?, headers })
}

/// An expression, `None` inside if it is absent or empty.
fn pattern(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str) -> Option<Option<Pattern>> {
    let Some(place) = fields.get(name) else { return Some(None) };
    let text = reader.string(&place)?;
    if text.is_empty() {
        return Some(None);
    }
    match Pattern::new(text) {
        Ok(pattern) => Some(Some(pattern)),
        Err(error) => {
            reader.refuse(&place, error.to_string(), None);
            None
        }
    }
}

/// `Name: value`, or a name that must be there.
fn header_text(text: &str) -> HeaderMatch {
    let (name, value) = match text.split_once(' ') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let name = name.trim_end_matches(':').to_owned();
    HeaderMatch { name, value, secret: false, mismatch: Mismatch::Fail }
}

fn header(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<HeaderMatch> {
    let fields = reader.fields(place, HEADER)?;
    let Some(name) = fields.get("name") else {
        reader.refuse(&fields.missing("name"), "a header needs a name".to_owned(), None);
        return None;
    };
    let name = reader.string(&name)?.to_owned();
    let value = match fields.get("value") {
        Some(place) => Some(reader.string(&place)?).filter(|text| !text.is_empty()),
        None => None,
    };
    if let Some(secret) = fields.get("secret") {
        let fields = reader.fields(&secret, SECRET)?;
        if fields.get("name").is_none() {
            let reason = "a secret needs a name".to_owned();
            reader.refuse(&fields.missing("name"), reason, None);
            return None;
        }
    }
    let mismatch = match fields.get("mismatch") {
        None => Mismatch::Fail,
        Some(place) => match reader.string(&place)? {
            "" => Mismatch::Fail,
            "LOG" => Mismatch::Log,
            "ADD" => Mismatch::Add,
            "DELETE" => Mismatch::Delete,
            "REPLACE" => Mismatch::Replace,
            _ => {
                let fix = "write LOG, ADD, DELETE or REPLACE".to_owned();
                reader.refuse(&place, "there is no such action".to_owned(), Some(fix));
                return None;
            }
        },
    };
    let secret = fields.get("secret").is_some();
    Some(HeaderMatch { name, value: value.map(str::to_owned), secret, mismatch })
}

/// A name or a pattern, exactly one of them.
pub(super) fn name_pattern(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<NamePattern> {
    if place.node.as_str().is_some() {
        let fix = "write `- matchName: NAME` or `- matchPattern: PATTERN`".to_owned();
        reader.refuse(place, "a name is a mapping, this is a string".to_owned(), Some(fix));
        return None;
    }
    let fields = reader.fields(place, NAME)?;
    let written = |name: &str| {
        fields.get(name).filter(|place| place.node.value != Value::String(String::new()))
    };
    let (place, plain) = match (written("matchName"), written("matchPattern")) {
        (Some(place), None) => (place, true),
        (None, Some(place)) => (place, false),
        (both, _) => {
            let reason = match both {
                Some(_) => "`matchName` and `matchPattern` exclude each other",
                None => "needs `matchName` or `matchPattern`",
            };
            reader.refuse(place, reason.to_owned(), None);
            return None;
        }
    };
    let text = reader.string(&place)?;
    match if plain { NamePattern::name(text) } else { NamePattern::pattern(text) } {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let fix = (error == policy::NameError::Star).then(|| "write `matchPattern`".to_owned());
            reader.refuse(&place, error.to_string(), fix);
            None
        }
    }
}
