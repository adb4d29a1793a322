//! Events of the YAML parser to trees, within limits and without recursion.

use std::borrow::Cow;
use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use crate::document::{Key, Node, Position, Value};
use crate::outcome::Refusal;
use crate::read::{refusal, scalar};

/// The deepest nesting of lists and mappings.
const MAX_DEPTH: usize = 64;
/// The most values in one file.
const MAX_NODES: usize = 250_000;
/// The longest text.
const MAX_SCALAR: usize = 1 << 20;
/// The most mistakes that one file is told about.
const MAX_REFUSALS: usize = 100;

/// The root of every YAML document of the text. Reading stops at the first
/// thing after which the rest cannot be trusted.
pub(super) fn roots(file: &str, text: &str, refusals: &mut Vec<Refusal>) -> Vec<Node> {
    let mut builder = Builder { file, refusals, stack: Vec::new(), roots: Vec::new(), nodes: 0 };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => builder.take(event, position(&span.start)),
            Err(error) => builder.stop_at_error(&error, text),
        };
        if step.is_none() {
            break;
        }
    }
    builder.roots
}

fn position(mark: &Marker) -> Position {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Position { line: number(mark.line()).max(1), column: number(mark.col() + 1) }
}

/// The line of an error, or the one before it, if it holds nothing but words: where a
/// comment lost its mark or a value its place, the parser stops there or just behind.
fn loose_words(text: &str, line: u32) -> Option<u32> {
    let words = |number: u32| {
        let line = text.lines().nth(usize::try_from(number.checked_sub(1)?).ok()?)?.trim();
        let begins = line.starts_with(|first: char| first.is_alphanumeric());
        (begins && !line.contains(':')).then_some(number)
    };
    words(line).or_else(|| words(line.checked_sub(1)?))
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
}

/// A list or mapping that is not complete yet.
enum Open {
    List {
        at: Position,
        items: Vec<Node>,
    },
    Map {
        at: Position,
        entries: Vec<(Key, Node)>,
        key: Option<Key>,
        seen: BTreeMap<String, Position>,
    },
}

struct Builder<'a> {
    file: &'a str,
    refusals: &'a mut Vec<Refusal>,
    stack: Vec<Open>,
    roots: Vec<Node>,
    nodes: usize,
}

impl Builder<'_> {
    /// Takes one event; `None` ends the reading.
    fn take(&mut self, event: Event<'_>, at: Position) -> Option<()> {
        match event {
            Event::Alias(_) => self.stop(
                at,
                "aliases are not read: what they stand for is written elsewhere".to_owned(),
                Some("write the value out"),
            ),
            Event::Scalar(text, style, _, tag) => {
                if text.len() > MAX_SCALAR {
                    let reason =
                        format!("a text of {} bytes, at most {MAX_SCALAR} are read", text.len());
                    return self.stop(at, reason, None);
                }
                let value = self.scalar(text, style, tag.as_deref(), at)?;
                self.add(value, at)
            }
            Event::SequenceStart(_, tag) => {
                self.collection_tag(tag, "seq", at)?;
                self.open(Open::List { at, items: Vec::new() }, at)
            }
            Event::MappingStart(_, tag) => {
                self.collection_tag(tag, "map", at)?;
                let map = Open::Map { at, entries: Vec::new(), key: None, seen: BTreeMap::new() };
                self.open(map, at)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop()? {
                Open::List { at, items } => self.add(Value::List(items), at),
                Open::Map { at, entries, .. } => self.add(Value::Map(entries), at),
            },
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Some(()),
        }
    }

    fn open(&mut self, collection: Open, at: Position) -> Option<()> {
        if let Some(Open::Map { key: None, .. }) = self.stack.last() {
            return self.stop(
                at,
                "a key of a mapping is a text, not a list or a mapping".to_owned(),
                Some("if this is a template, render it first; else quote the key"),
            );
        }
        if self.stack.len() >= MAX_DEPTH {
            return self.stop(at, too_deep(), None);
        }
        self.stack.push(collection);
        Some(())
    }

    /// Puts a complete value where it belongs.
    fn add(&mut self, value: Value, at: Position) -> Option<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return self.stop(at, format!("more than {MAX_NODES} values"), Some("split the file"));
        }
        match self.stack.last_mut() {
            None => self.roots.push(Node { value, at }),
            Some(Open::List { items, .. }) => items.push(Node { value, at }),
            Some(Open::Map { entries, key, seen, .. }) => {
                let Some(complete) = key.take() else {
                    return self.key(value, at);
                };
                let first = *seen.entry(complete.text.clone()).or_insert(complete.at);
                if first == complete.at {
                    entries.push((complete, Node { value, at }));
                } else {
                    let reason =
                        format!("`{}` is already set in line {}", complete.text, first.line);
                    let fix = Some("keep one of them");
                    return self.report(complete.at, reason, fix);
                }
            }
        }
        Some(())
    }

    /// Takes a key; ones that are no texts become what Kubernetes makes of them.
    fn key(&mut self, value: Value, at: Position) -> Option<()> {
        let text = match value {
            Value::String(text) => text,
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            other => {
                let reason = format!("a key of a mapping is a text, this is {}", other.kind());
                return self.stop(at, reason, Some("quote it"));
            }
        };
        if text == "<<" {
            let reason = "merge keys are not read: what they merge is written elsewhere".to_owned();
            return self.stop(at, reason, Some("write the fields out"));
        }
        if let Some(Open::Map { key, .. }) = self.stack.last_mut() {
            *key = Some(Key { text, at });
        }
        Some(())
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        at: Position,
    ) -> Option<Value> {
        let plain = || match style {
            ScalarStyle::Plain => scalar::resolve(&text),
            _ => Value::String(text.clone().into_owned()),
        };
        match tag {
            None => Some(plain()),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
                Some(Value::String(text.into_owned()))
            }
            Some(tag) => {
                let value = plain();
                let agrees = match &value {
                    Value::Null => "null",
                    Value::Bool(_) => "bool",
                    Value::Int(_) => "int",
                    Value::Float(_) => "float",
                    Value::String(_) | Value::List(_) | Value::Map(_) => "",
                };
                if tag.is_yaml_core_schema() && tag.suffix == agrees {
                    return Some(value);
                }
                self.stop(at, format!("the tag `{tag}` is not read"), Some("leave the tag out"))?;
                None
            }
        }
    }

    fn collection_tag(&mut self, tag: Option<Cow<'_, Tag>>, own: &str, at: Position) -> Option<()> {
        match tag {
            Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == own) => {
                self.stop(at, format!("the tag `{tag}` is not read"), Some("leave the tag out"))
            }
            _ => Some(()),
        }
    }

    fn stop_at_error(&mut self, error: &ScanError, text: &str) -> Option<()> {
        let at = position(error.marker());
        // The parser has a limit of its own, which it meets while looking ahead.
        if error.info() == "recursion limit exceeded" {
            return self.stop(at, too_deep(), None);
        }
        let fix = if text.contains("{{") {
            "this looks like a template: render it first".to_owned()
        } else if let Some(line) = loose_words(text, at.line) {
            format!(
                "line {line} is no field: begin it with `#` if it is a comment, indent it below \
                 its field if it is a value"
            )
        } else {
            "look at the indentation of this line and of the one before".to_owned()
        };
        self.stop(at, format!("not YAML: {}", error.info()), Some(&fix))
    }

    /// Refuses and ends the reading.
    fn stop(&mut self, at: Position, reason: String, fix: Option<&str>) -> Option<()> {
        self.refusals.push(refusal(self.file, at, reason, fix));
        None
    }

    /// Refuses and reads on, unless there was too much already.
    fn report(&mut self, at: Position, reason: String, fix: Option<&str>) -> Option<()> {
        self.refusals.push(refusal(self.file, at, reason, fix));
        (self.refusals.len() < MAX_REFUSALS).then_some(())
    }
}
