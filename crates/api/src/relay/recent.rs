//! What was passed on of a node lately: when it is met again, it gives some of that
//! again.

use std::collections::{HashSet, VecDeque};

use prost::Message;
use sha2::{Digest, Sha256};

use super::window::latest;
use crate::proto::observer::GetFlowsResponse;
use crate::proto::observer::get_flows_response::ResponseTypes;
use crate::store::DISORDER_NS;
use crate::time::nanoseconds;

/// Most answers remembered. Of a node that tells more in the time after which it may
/// repeat itself, some may come twice when it returns: twice is better than never.
const MOST: usize = 65_536;

/// Half of a digest is enough: nobody gains by two that are equal.
type Key = u128;

/// The last answers.
#[derive(Debug, Default)]
pub(super) struct Recent {
    keys: HashSet<Key>,
    /// As they came, with their times.
    order: VecDeque<(u64, Key)>,
    newest_ns: u64,
}

impl Recent {
    /// Whether it was not passed on before; from now on it was. What is too old to be told
    /// late is forgotten.
    pub(super) fn is_new(&mut self, answer: &GetFlowsResponse) -> bool {
        let key = key(answer);
        if !self.keys.insert(key) {
            return false;
        }
        let time_ns = answer.time.as_ref().map_or(0, nanoseconds);
        self.order.push_back((time_ns, key));
        self.newest_ns = latest(self.newest_ns, time_ns);
        let horizon = self.newest_ns.saturating_sub(DISORDER_NS);
        while let Some((time_ns, key)) = self.order.front()
            && (*time_ns < horizon || self.order.len() > MOST)
        {
            self.keys.remove(key);
            self.order.pop_front();
        }
        true
    }
}

/// A flow is told from others by its UUID, a loss by all that is said of it.
fn key(answer: &GetFlowsResponse) -> Key {
    let digest = match &answer.response_types {
        Some(ResponseTypes::Flow(flow)) if !flow.uuid.is_empty() => {
            Sha256::digest(flow.uuid.as_bytes())
        }
        _ => Sha256::digest(answer.encode_to_vec()),
    };
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(half)
}
