//! What a connection carried, as it is told at its end.

use model::{Trace, Traffic};
use prost_types::Struct;

use super::wire::Fields;
use super::{as_count, member};

/// The end of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connection {
    /// `None`: nobody has counted from its beginning.
    pub carried: Option<Carried>,
}

/// Packets and bytes of each end, and how long it lived.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Carried {
    /// From the first packet to the one that ended it, in milliseconds.
    pub duration_ms: u64,
    /// Of who opened it, as the interface handed them over.
    pub initiator: Traffic,
    /// Of the other end.
    pub responder: Traffic,
}

impl From<&model::Carried> for Carried {
    fn from(carried: &model::Carried) -> Self {
        Self {
            duration_ms: u64::try_from(carried.lived.as_millis()).unwrap_or(u64::MAX),
            initiator: carried.initiator,
            responder: carried.responder,
        }
    }
}

impl Carried {
    /// `initiator 412 bytes, responder 8123 bytes, 12 ms`.
    pub fn in_words(&self) -> String {
        let Self { duration_ms, initiator, responder } = self;
        let (sent, answered) = (initiator.bytes, responder.bytes);
        format!("initiator {sent} bytes, responder {answered} bytes, {duration_ms} ms")
    }
}

impl Connection {
    pub(super) fn of(flow: &model::Flow) -> Option<Self> {
        match &flow.trace {
            Some(Trace::End(carried)) => {
                Some(Self { carried: carried.as_ref().map(Carried::from) })
            }
            Some(Trace::Answer) | None => None,
        }
    }

    pub(super) fn fields(&self) -> Fields {
        let mut fields = Fields::with_capacity(128);
        let Some(carried) = &self.carried else {
            fields.boolean("counted", false);
            return fields;
        };
        fields.boolean("counted", true);
        // Exact up to 2^53: 8 PiB.
        fields.number("duration_ms", carried.duration_ms as f64);
        fields.fields("initiator", &traffic(carried.initiator));
        fields.fields("responder", &traffic(carried.responder));
        fields
    }

    pub(super) fn read(message: &Struct) -> Self {
        let read = |end: &Struct| Traffic {
            packets: as_count(end, "packets"),
            bytes: as_count(end, "bytes"),
        };
        let ends = member(message, "initiator").zip(member(message, "responder"));
        let carried = ends.map(|(initiator, responder)| Carried {
            duration_ms: as_count(message, "duration_ms"),
            initiator: read(initiator),
            responder: read(responder),
        });
        Self { carried }
    }
}

fn traffic(traffic: Traffic) -> Fields {
    let mut fields = Fields::with_capacity(64);
    fields.number("packets", traffic.packets as f64);
    fields.number("bytes", traffic.bytes as f64);
    fields
}
