//! Many equal flows as one, with their number.
//!
//! Pure; the caller says when an interval ends. Equal are flows that are the same
//! in the chosen fields; the first of them stands for all.

use std::collections::BTreeMap;

use prost::Message;

use crate::mask::Mask;
use crate::proto::flow::{Aggregate, TrafficDirection};
use crate::proto::observer::GetFlowsResponse;
use crate::proto::observer::get_flows_response::ResponseTypes;

/// Most groups of one interval; a flood of new ones ends the interval early.
const GROUPS: usize = 16_384;

/// Collects flows of one interval.
pub struct Aggregator {
    key: Mask,
    groups: BTreeMap<Vec<u8>, GetFlowsResponse>,
}

impl Aggregator {
    /// Flows equal in the fields of `key` become one.
    pub fn new(key: Mask) -> Self {
        Self { key, groups: BTreeMap::new() }
    }

    /// Takes a flow; gives back what is no flow and has to be told by itself.
    pub fn add(&mut self, mut answer: GetFlowsResponse) -> Option<GetFlowsResponse> {
        let Some(ResponseTypes::Flow(flow)) = &mut answer.response_types else {
            return Some(answer);
        };
        // One that stands for others already brings their number along.
        let times = flow.aggregate.take().map_or(1, |of| number(&of));
        let key = self.key.apply(flow.clone()).encode_to_vec();
        let direction = flow.traffic_direction();
        match self.groups.get_mut(&key).and_then(|group| group.response_types.as_mut()) {
            Some(ResponseTypes::Flow(first)) => {
                count(first.aggregate.get_or_insert_default(), direction, times);
            }
            _ => {
                count(flow.aggregate.get_or_insert_default(), direction, times);
                self.groups.insert(key, answer);
            }
        }
        None
    }

    /// Whether there is room for no other group.
    pub fn is_full(&self) -> bool {
        self.groups.len() >= GROUPS
    }

    /// What was collected, in order of the first flows' times; starts anew.
    pub fn drain(&mut self) -> Vec<GetFlowsResponse> {
        let mut flows: Vec<_> = std::mem::take(&mut self.groups).into_values().collect();
        flows.sort_by_key(|flow| flow.time.as_ref().map_or(0, crate::time::nanoseconds));
        flows
    }
}

fn number(aggregate: &Aggregate) -> u32 {
    let Aggregate { ingress_flow_count, egress_flow_count, unknown_direction_flow_count } =
        *aggregate;
    ingress_flow_count
        .saturating_add(egress_flow_count)
        .saturating_add(unknown_direction_flow_count)
}

fn count(aggregate: &mut Aggregate, direction: TrafficDirection, times: u32) {
    let counter = match direction {
        TrafficDirection::Ingress => &mut aggregate.ingress_flow_count,
        TrafficDirection::Egress => &mut aggregate.egress_flow_count,
        TrafficDirection::Unknown => &mut aggregate.unknown_direction_flow_count,
    };
    *counter = counter.saturating_add(times);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::to_response;
    use crate::proto::flow::{Endpoint, Flow, LostEvent};

    fn flow(pod: &str, direction: TrafficDirection) -> GetFlowsResponse {
        let source = Some(Endpoint { pod_name: pod.into(), ..Endpoint::default() });
        let traffic_direction = direction.into();
        to_response(Flow { source, traffic_direction, ..Flow::default() })
    }

    #[test]
    fn equal_flows_become_one_with_their_number() {
        use TrafficDirection::{Egress, Ingress};
        let key = Mask::exact(&["source.pod_name".to_owned()]).unwrap().unwrap();
        let mut aggregator = Aggregator::new(key);
        for answer in [flow("a", Egress), flow("b", Ingress), flow("a", Egress), flow("a", Ingress)]
        {
            assert_eq!(aggregator.add(answer), None);
        }
        let counts: Vec<(u32, u32)> = aggregator
            .drain()
            .into_iter()
            .map(|answer| {
                let Some(ResponseTypes::Flow(flow)) = answer.response_types else { panic!() };
                let aggregate = flow.aggregate.unwrap();
                (aggregate.ingress_flow_count, aggregate.egress_flow_count)
            })
            .collect();
        assert_eq!(counts, [(1, 2), (1, 0)]);
        assert!(aggregator.drain().is_empty());
    }

    #[test]
    fn one_that_stands_for_others_counts_as_all_of_them() {
        let key = Mask::exact(&["source.pod_name".to_owned()]).unwrap().unwrap();
        let mut aggregator = Aggregator::new(key);
        let mut many = flow("a", TrafficDirection::Egress);
        if let Some(ResponseTypes::Flow(flow)) = &mut many.response_types {
            flow.aggregate = Some(Aggregate { egress_flow_count: 41, ..Aggregate::default() });
        }
        aggregator.add(many);
        aggregator.add(flow("a", TrafficDirection::Egress));
        let answer = aggregator.drain().remove(0);
        let Some(ResponseTypes::Flow(flow)) = answer.response_types else { panic!() };
        assert_eq!(flow.aggregate.unwrap().egress_flow_count, 42);
    }

    #[test]
    fn what_was_lost_is_told_by_itself() {
        let key = Mask::exact(&["uuid".to_owned()]).unwrap().unwrap();
        let lost = GetFlowsResponse {
            response_types: Some(ResponseTypes::LostEvents(LostEvent::default())),
            ..GetFlowsResponse::default()
        };
        assert_eq!(Aggregator::new(key).add(lost.clone()), Some(lost));
    }
}
