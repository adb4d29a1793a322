//! A kernel record becomes a flow: numbers become names.
//!
//! Total: a record that refers to what is gone, or never was, still gives a flow,
//! with less in it. The datapath's identity is believed over what addresses say
//! now, because it is what the packet was judged by.

use std::net::IpAddr;

use datapath::Record;
use model::{
    Attribution, Direction, DropReason, End, Flow, IdentityId, Labels, PolicyMatch, Reason,
    Reserved, RuleSet, RuleSetId, Shadow, UnknownProcess, Verdict,
};
use policy::Why;

mod clock;
mod containers;
mod names;
mod senders;

pub use clock::{Clock, Steps};
pub use containers::Containers;
pub use names::{Names, Place};
pub use senders::Senders;

/// Turns records into flows. Not shared between threads: it learns from each
/// record what the next ones need.
#[derive(Debug)]
pub struct FlowBuilder {
    node: String,
    containers: Containers,
    senders: Senders,
}

/// The two ends of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Source,
    Destination,
}

impl FlowBuilder {
    /// A builder for this node.
    pub fn new(node: impl Into<String>, containers: Containers) -> Self {
        Self { node: node.into(), containers, senders: Senders::default() }
    }

    /// The flow of a record; `offset_ns` is what turns the kernel's clock into
    /// wall time.
    pub fn build(&mut self, record: &Record, names: &Names, offset_ns: i64) -> Flow {
        let local = local_side(record);
        let mut process = self.local_process(record);
        if let Attribution::Known(process) = &mut process {
            process.container = self.containers.name(process.cgroup_id);
            if local == Side::Source && record.cookie != 0 {
                self.senders.learn(record.cookie, process);
            }
        }
        let (source, destination) = match local {
            Side::Source => (
                local_end(record, names, local, process),
                self.remote_end(record, names, Side::Destination),
            ),
            Side::Destination => (
                self.remote_end(record, names, Side::Source),
                local_end(record, names, local, process),
            ),
        };
        Flow {
            time_ns: record.when_ns.saturating_add_signed(offset_ns),
            verdict: record.verdict,
            reason: reason(record),
            direction: record.direction,
            hook: record.hook,
            is_reply: record.is_reply,
            addresses: record.addresses,
            ethernet: (record.source_mac, record.destination_mac),
            ether_type: record.ether_type,
            l4: record.l4,
            length: record.length,
            source,
            destination,
            policy: policy_match(record, names),
            shadow: shadow(record, names),
            trace: record.trace,
            node: self.node.clone(),
            interface: (record.ifindex, names.interface(record.ifindex).to_owned()),
            record: (record.cpu, record.sequence),
        }
    }

    /// A connection outlives what its last packet says of the process: who opened it is
    /// remembered.
    fn local_process(&self, record: &Record) -> Attribution {
        let opened = || self.senders.process(record.cookie).cloned().map(Attribution::Known);
        match &record.process {
            Attribution::Unknown(_) if record.trace.is_some() => {
                opened().unwrap_or_else(|| record.process.clone())
            }
            process => process.clone(),
        }
    }

    /// The end that is not behind the interface of the record.
    fn remote_end(&self, record: &Record, names: &Names, side: Side) -> End {
        let identity = identity(record, side);
        let place = identity
            .zip(address(record, side))
            .and_then(|(identity, address)| names.place_of_address(address, identity));
        let process = self.remote_process(record, names, identity, place.as_ref());
        let service = address(record, side).and_then(|address| names.service(address));
        let service = service.map(|service| (service.namespace.clone(), service.name.clone()));
        End { service, ..end(names, identity, place.as_ref(), process) }
    }

    fn remote_process(
        &self,
        record: &Record,
        names: &Names,
        identity: Option<IdentityId>,
        place: Option<&Place>,
    ) -> Attribution {
        let Some(identity) = identity.filter(|id| Reserved::from_id(*id).is_none()) else {
            return Attribution::Unknown(UnknownProcess::NotLocal);
        };
        let here = match place {
            Some(place) => place.endpoint_id != 0,
            None => names.is_local(identity),
        };
        if !here {
            return Attribution::Unknown(UnknownProcess::OtherNode);
        }
        // The cookie is the initiator's: the other end's, unless this is an answer. What
        // is told later has only the other end's there.
        let answers = record.is_reply == Some(true) && record.trace.is_none();
        let cookie = if answers { 0 } else { record.peer_cookie };
        match self.senders.process(cookie) {
            Some(process) => Attribution::Known(process.clone()),
            None => Attribution::Unknown(UnknownProcess::NotSeen),
        }
    }
}

/// A frame seen on its way out of a pod has its sender behind the interface.
fn local_side(record: &Record) -> Side {
    match record.hook {
        Direction::Egress => Side::Source,
        Direction::Ingress => Side::Destination,
    }
}

fn identity(record: &Record, side: Side) -> Option<IdentityId> {
    let number = match side {
        Side::Source => record.source_identity,
        Side::Destination => record.destination_identity,
    };
    IdentityId::try_from(number).ok()
}

fn address(record: &Record, side: Side) -> Option<IpAddr> {
    let (source, destination) = record.addresses?;
    Some(match side {
        Side::Source => source,
        Side::Destination => destination,
    })
}

/// The end behind the interface of the record: named by the endpoint, or, while
/// nothing is installed there, by the interface.
fn local_end(record: &Record, names: &Names, side: Side, process: Attribution) -> End {
    let place = match record.endpoint_id {
        0 => names.place_of_interface(record.ifindex),
        id => names.place_of_endpoint(id),
    };
    let end = end(names, identity(record, side), place, process);
    End { endpoint_id: record.endpoint_id, ..end }
}

fn end(
    names: &Names,
    identity: Option<IdentityId>,
    place: Option<&Place>,
    process: Attribution,
) -> End {
    let labels = identity.and_then(|id| names.labels(id)).cloned();
    let pod = place.map(|place| &place.pod);
    End {
        identity,
        labels: labels.unwrap_or_else(Labels::new),
        namespace: pod.map(|pod| pod.namespace.clone()).unwrap_or_default(),
        pod: pod.map(|pod| pod.name.clone()).unwrap_or_default(),
        workload: place.and_then(|place| place.workload.clone()),
        service: None,
        endpoint_id: place.map(|place| place.endpoint_id).unwrap_or_default(),
        process,
    }
}

/// Why: the policy's reason when the policy decided, else the packet path's.
fn reason(record: &Record) -> Reason {
    let why = Why::try_from(record.why).ok();
    let code = DropReason(record.reason);
    match (record.verdict, why) {
        (Verdict::Forwarded, Some(why)) => why.into(),
        (Verdict::Forwarded, None) => Reason::Established,
        (Verdict::Dropped, Some(Why::DefaultDeny)) if code == DropReason::POLICY_DENIED => {
            Reason::DefaultDeny
        }
        (Verdict::Dropped, Some(Why::Unsupported)) if code == DropReason::POLICY_DENIED => {
            Reason::Unsupported
        }
        (Verdict::Dropped, Some(Why::DenyRule)) if code == DropReason::POLICY_DENY => {
            Reason::DenyRule
        }
        (Verdict::Dropped, _) => Reason::Datapath(code),
    }
}

/// Which policy decided, if one was asked.
fn policy_match(record: &Record, names: &Names) -> Option<PolicyMatch> {
    Why::try_from(record.why).ok()?;
    let deciders = deciders(record, names, record.rule_sets);
    let subject = identity(record, local_side(record)).and_then(|id| names.labels(id));
    let log = names.log(&deciders, subject, record.direction);
    let RuleSet { rules, because } = deciders;
    let (match_type, revision) = (record.match_type, record.revision);
    Some(PolicyMatch { match_type, rules, because, revision, log })
}

/// What would have been decided, if it is known.
fn shadow(record: &Record, names: &Names) -> Option<Shadow> {
    let shadow = record.shadow?;
    let why = Why::try_from(shadow.why).ok()?;
    let RuleSet { rules, because } = deciders(record, names, shadow.rule_sets);
    Some(Shadow { verdict: shadow.verdict, reason: why.into(), rules, because })
}

/// Two sets as one.
fn deciders(record: &Record, names: &Names, ids: [RuleSetId; 2]) -> RuleSet {
    let mut all = RuleSet::default();
    for id in ids.into_iter().filter(|id| id.0 != 0) {
        if let Some(set) = names.rule_set(record.endpoint_id, id) {
            all.rules.extend(set.rules.iter().cloned());
            all.because.extend(set.because.iter().cloned());
        }
    }
    all.rules.sort();
    all.rules.dedup();
    all.because.sort();
    all.because.dedup();
    all
}

#[cfg(test)]
mod tests;
