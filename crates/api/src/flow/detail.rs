//! What Signet knows about a flow and Hubble has no field for: the reason, the
//! rules, the processes of both ends, what policies in shadow mode would decide, and
//! what a connection carried.
//!
//! It travels in `Flow.extensions` as a `google.protobuf.Struct`, the one type
//! that every client can print: an unknown type there makes Hubble's own command
//! line stop. `start_ns` and `first_ns` are text because a Struct's numbers hold only 53 bits.

use model::{Attribution, Process, Verdict};
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Any, Struct};

use wire::Fields;

pub use connection::{Carried, Connection};

mod connection;
mod wire;

/// The type of [`Detail`] as it travels.
pub(crate) const STRUCT_URL: &str = "type.googleapis.com/google.protobuf.Struct";

/// The process of one end, or why it is not known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Actor {
    /// This one; its cgroup is not sent.
    Known(Process),
    /// A short word that says why nobody knows.
    Unknown(String),
}

impl From<&Attribution> for Actor {
    fn from(attribution: &Attribution) -> Self {
        match attribution {
            Attribution::Known(process) => Self::Known(process.clone()),
            Attribution::Unknown(why) => Self::Unknown(why.to_string()),
        }
    }
}

/// The decision's own words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Detail {
    /// `rule`, `default-deny`, `deny-rule`, `unenforced`, or a drop reason's name.
    pub reason: String,
    /// All rules that decided, sorted.
    pub rules: Vec<String>,
    /// For a default deny: the policies that switched it on.
    pub because: Vec<String>,
    /// Revision the packet was judged by; 0 when no policy was asked.
    pub revision: u32,
    /// Process at the source.
    pub source: Actor,
    /// Process at the destination.
    pub destination: Actor,
    /// CPU and number of the kernel's record.
    pub record: String,
    /// Bytes of the frames that this flow is about, link layer included.
    pub bytes: u64,
    /// How many packets it is about: more than one when the same happened again.
    pub count: u64,
    /// Of several: when the first was, in nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// What would have been decided, if it is known.
    pub shadow: Option<Shadow>,
    /// Of a connection's end: what it carried.
    pub connection: Option<Connection>,
}

/// What would have been decided if policies in shadow mode were in force, in the
/// words of `signet policy evaluate`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shadow {
    /// `allowed` or `denied`.
    pub verdict: String,
    /// Whether that is another verdict than the flow's.
    pub differs: bool,
    /// `rule`, `default-deny`, `deny-rule`, `unenforced`, `unsupported`.
    pub reason: String,
    /// Hubble's drop code, of denials.
    pub code: Option<u8>,
    /// All rules that would have decided, sorted.
    pub rules: Vec<String>,
    /// For a default deny: the policies that would have switched it on.
    pub because: Vec<String>,
}

impl Shadow {
    fn of(shadow: &model::Shadow, verdict: Verdict) -> Self {
        Self {
            verdict: match shadow.verdict {
                Verdict::Forwarded => "allowed".to_owned(),
                Verdict::Dropped => "denied".to_owned(),
            },
            differs: shadow.verdict != verdict,
            reason: shadow.reason.to_string(),
            code: shadow.reason.drop_reason().map(|reason| reason.0),
            rules: shadow.rules.iter().map(ToString::to_string).collect(),
            because: shadow.because.iter().map(ToString::to_string).collect(),
        }
    }

    /// `denied by CiliumNetworkPolicy/a/b#spec.ingress[0]`.
    pub fn in_words(&self) -> String {
        match (self.reason.as_str(), self.rules.as_slice(), self.because.as_slice()) {
            ("default-deny", _, because) if !because.is_empty() => {
                format!("{} by default ({})", self.verdict, because.join(", "))
            }
            ("unsupported", rules, _) if !rules.is_empty() => {
                format!("{} (unsupported: {})", self.verdict, rules.join(", "))
            }
            (_, rules, _) if !rules.is_empty() => {
                format!("{} by {}", self.verdict, rules.join(", "))
            }
            (reason, _, _) => format!("{} ({reason})", self.verdict),
        }
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::with_capacity(256);
        fields.text("verdict", &self.verdict);
        fields.boolean("differs", self.differs);
        fields.text("reason", &self.reason);
        if let Some(code) = self.code {
            fields.number("code", code.into());
        }
        if let Some(first) = self.rules.first() {
            fields.text("rule", first);
        }
        fields.texts("rules", &self.rules);
        fields.texts("because", &self.because);
        fields
    }

    fn read(message: &Struct) -> Option<Self> {
        Some(Self {
            verdict: as_text(message, "verdict")?,
            differs: matches!(kind(message, "differs"), Some(Kind::BoolValue(true))),
            reason: as_text(message, "reason")?,
            code: u8::try_from(as_number(message, "code")).ok().filter(|code| *code > 0),
            rules: as_texts(message, "rules"),
            because: as_texts(message, "because"),
        })
    }
}

/// What a flow that was told already did again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Repeated {
    /// How often.
    pub count: u64,
    /// Bytes of all these frames.
    pub bytes: u64,
    /// When the first of them was, in nanoseconds since the Unix epoch.
    pub first_ns: u64,
}

impl Detail {
    /// The detail of a decision.
    pub fn of(flow: &model::Flow) -> Self {
        let policy = flow.policy.as_ref();
        let texts = |texts: Option<Vec<String>>| texts.unwrap_or_default();
        Self {
            reason: flow.reason.to_string(),
            rules: texts(policy.map(|p| p.rules.iter().map(ToString::to_string).collect())),
            because: texts(policy.map(|p| p.because.iter().map(ToString::to_string).collect())),
            revision: policy.map_or(0, |policy| policy.revision),
            source: Actor::from(&flow.source.process),
            destination: Actor::from(&flow.destination.process),
            record: format!("{}/{}", flow.record.0, flow.record.1),
            bytes: flow.length.into(),
            count: 1,
            first_ns: 0,
            shadow: flow.shadow.as_ref().map(|shadow| Shadow::of(shadow, flow.verdict)),
            connection: Connection::of(flow),
        }
    }

    /// As it travels.
    pub fn to_any(&self) -> Any {
        let mut process = Fields::with_capacity(256);
        process.fields("source", &actor(&self.source));
        process.fields("destination", &actor(&self.destination));
        let mut fields = Fields::with_capacity(768);
        fields.text("reason", &self.reason);
        fields.texts("rules", &self.rules);
        fields.texts("because", &self.because);
        fields.number("revision", self.revision.into());
        // Exact up to 2^53, which no window reaches.
        fields.number("bytes", self.bytes as f64);
        fields.fields("process", &process);
        fields.text("record", &self.record);
        if let Some(first) = self.rules.first() {
            fields.text("rule", first);
        }
        if let Some(shadow) = &self.shadow {
            fields.fields("shadow", &shadow.fields());
        }
        if let Some(connection) = &self.connection {
            fields.fields("connection", &connection.fields());
        }
        if self.count > 1 {
            fields.number("count", self.count as f64);
            fields.text("first_ns", &self.first_ns.to_string());
        }
        Any { type_url: STRUCT_URL.to_owned(), value: fields.into_bytes() }
    }

    /// Reads what [`Detail::to_any`] wrote; `None` for the extensions of others.
    pub fn from_any(any: &Any) -> Option<Self> {
        if any.type_url != STRUCT_URL {
            return None;
        }
        let message = Struct::decode(any.value.as_slice()).ok()?;
        let process = member(&message, "process")?;
        Some(Self {
            reason: as_text(&message, "reason")?,
            rules: as_texts(&message, "rules"),
            because: as_texts(&message, "because"),
            revision: as_number(&message, "revision"),
            source: as_actor(member(process, "source")?),
            destination: as_actor(member(process, "destination")?),
            record: as_text(&message, "record").unwrap_or_default(),
            bytes: as_count(&message, "bytes"),
            count: as_count(&message, "count").max(1),
            first_ns: as_text(&message, "first_ns").unwrap_or_default().parse().unwrap_or(0),
            shadow: member(&message, "shadow").and_then(Shadow::read),
            connection: member(&message, "connection").map(Connection::read),
        })
    }
}

fn actor(actor: &Actor) -> Fields {
    let mut fields = Fields::with_capacity(256);
    match actor {
        Actor::Known(process) => {
            fields.number("pid", process.pid.into());
            fields.number("uid", process.uid.into());
            fields.text("binary", &process.binary);
            fields.text("comm", &process.comm);
            fields.text("container", &process.container);
            fields.text("start_ns", &process.start_ns.to_string());
        }
        Actor::Unknown(why) => fields.text("unknown", why),
    }
    fields
}

fn kind<'a>(message: &'a Struct, key: &str) -> Option<&'a Kind> {
    message.fields.get(key)?.kind.as_ref()
}

fn member<'a>(message: &'a Struct, key: &str) -> Option<&'a Struct> {
    match kind(message, key)? {
        Kind::StructValue(member) => Some(member),
        _ => None,
    }
}

fn as_text(message: &Struct, key: &str) -> Option<String> {
    match kind(message, key)? {
        Kind::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn as_texts(message: &Struct, key: &str) -> Vec<String> {
    let Some(Kind::ListValue(list)) = kind(message, key) else {
        return Vec::new();
    };
    let items = list.values.iter().filter_map(|item| match &item.kind {
        Some(Kind::StringValue(text)) => Some(text.clone()),
        _ => None,
    });
    items.collect()
}

/// What is no number, or none of 32 bits, reads as 0.
fn as_number(message: &Struct, key: &str) -> u32 {
    match kind(message, key) {
        Some(Kind::NumberValue(number)) => *number as u32,
        _ => 0,
    }
}

/// As [`as_number`], for numbers that may be larger.
fn as_count(message: &Struct, key: &str) -> u64 {
    match kind(message, key) {
        Some(Kind::NumberValue(number)) => *number as u64,
        _ => 0,
    }
}

fn as_actor(message: &Struct) -> Actor {
    if let Some(why) = as_text(message, "unknown") {
        return Actor::Unknown(why);
    }
    let text = |key| as_text(message, key).unwrap_or_default();
    Actor::Known(Process {
        pid: as_number(message, "pid"),
        uid: as_number(message, "uid"),
        start_ns: text("start_ns").parse().unwrap_or(0),
        comm: text("comm"),
        binary: text("binary"),
        cgroup_id: 0,
        container: text("container"),
    })
}
