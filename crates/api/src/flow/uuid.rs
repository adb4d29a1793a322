//! The number of a flow, which names one record and tells nothing of it.
//!
//! It follows from the record, so that a record keeps its number, and from a key
//! that only the agent holds. Without the key anybody who sees one could try
//! which record it is of, and learn how many others the node has made since.

use ring::hmac;
use ring::rand::SystemRandom;

/// What the numbers of one agent's flows are made with.
#[derive(Clone, Debug)]
pub struct UuidKey(hmac::Key);

/// The kernel gives no random bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the kernel gives no random bytes")]
pub struct NoRandomness;

impl UuidKey {
    /// A key that nobody else has.
    pub fn generate() -> Result<Self, NoRandomness> {
        let random = SystemRandom::new();
        hmac::Key::generate(hmac::HMAC_SHA256, &random).map(Self).map_err(|_| NoRandomness)
    }

    /// This one.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Node, CPU and number are unique since the node's boot, the time makes them
    /// unique across boots. Written as a random UUID (version 4, RFC 9562), which to
    /// whoever lacks the key it is.
    pub(super) fn uuid(&self, flow: &model::Flow) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&(flow.node.len() as u64).to_be_bytes());
        context.update(flow.node.as_bytes());
        context.update(&flow.record.0.to_be_bytes());
        context.update(&flow.record.1.to_be_bytes());
        context.update(&flow.time_ns.to_be_bytes());
        let tag = context.sign();
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(tag.as_ref()).for_each(|(byte, of_tag)| *byte = *of_tag);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex = format!("{:032x}", u128::from_be_bytes(bytes));
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}
