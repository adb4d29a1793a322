//! Signet's own service: what is in force on this node, read from the state.

use std::sync::Arc;

use api::access::Scope;
use api::proto::signet::v1::signet_server::Signet;
use api::proto::signet::v1::{
    ConfirmPoliciesRequest, ConfirmPoliciesResponse, ConfirmedPolicy, DropCounter, Fault, Feature,
    Limit, ListEndpointsRequest, ListEndpointsResponse, ListIdentitiesRequest,
    ListIdentitiesResponse, ListPoliciesRequest, ListPoliciesResponse, ListServicesRequest,
    ListServicesResponse, NodeStatus, RingCounters, ServiceCounters, StatusRequest, StatusResponse,
};
use api::time::timestamp;
use model::PolicyName;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::control::LOOK_EVERY;
use crate::health::Noted;
use crate::ledger::Totals;
use crate::numbers::hexadecimal;
use crate::planner::Setback;
use crate::state::{Confirmation, NodeState};

#[cfg(test)]
pub(crate) use policies::list as policy_rows;

mod endpoints;
mod identities;
mod policies;
mod services;

/// The service of one node.
#[derive(Clone, Debug)]
pub struct NodeSignet(Arc<NodeState>);

impl NodeSignet {
    /// Serves this state.
    pub fn new(state: Arc<NodeState>) -> Self {
        Self(state)
    }

    fn status_now(&self) -> NodeStatus {
        let state = &self.0;
        let facts = &state.facts;
        let control = state.control();
        let records = state.records();
        let health = state.health();
        let endpoints = control.newest.as_ref().map_or(&[][..], |plan| &plan.endpoints);
        let installed = |id| control.enforced.has_endpoint(id);
        let not_ready = endpoints.iter().filter(|endpoint| !installed(endpoint.id)).count();
        let (last_error, last_error_time) = control.last_error.clone().unzip();
        NodeStatus {
            node: facts.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel_release: facts.kernel_release.clone(),
            attach_kind: facts.features.attach.as_str().to_owned(),
            features: features(&facts.features).chain(uplinks(&control.uplinks)).collect(),
            policy_revision: control.enforced.revision(),
            endpoints: saturated(endpoints.len()),
            endpoints_not_ready: saturated(not_ready),
            rings: vec![ring("traces", records.traces), ring("drops", records.drops)],
            flows_seen: records.flows,
            uptime: prost_types::Duration::try_from(facts.started.elapsed()).ok(),
            last_error: last_error.unwrap_or_default(),
            last_error_time: last_error_time.map(timestamp),
            drops: state
                .drops()
                .into_iter()
                .map(|(code, packets)| DropCounter { code: code.into(), packets })
                .collect(),
            services: Some(attempts(state.services())),
            faults: health
                .open
                .iter()
                .chain(&health.healed)
                .map(fault)
                .chain(control.setbacks.iter().map(setback))
                .collect(),
            limits: health.fill.iter().map(limit).collect(),
            source_age: health.source_age().and_then(|age| age.try_into().ok()),
            source_age_bound: LOOK_EVERY.try_into().ok(),
            kernel_memory_bytes: health.kernel_bytes,
            considered_ns: state.considered_ns(),
        }
    }
}

fn features(features: &datapath::Features) -> impl Iterator<Item = Feature> {
    let datapath::Features { attach: _, hooks, taken_over } = features;
    let mut list: Vec<Feature> = hooks
        .iter()
        .map(|hook| Feature {
            name: hook.name.to_owned(),
            available: hook.missing.is_none(),
            detail: hook.missing.clone().unwrap_or_else(|| "attached".to_owned()),
        })
        .collect();
    let detail = if *taken_over { "taken over from an earlier agent" } else { "made new" };
    list.push(Feature { name: "pinned state".into(), available: true, detail: detail.into() });
    list.into_iter()
}

/// Devices on which the node itself is judged.
fn uplinks(uplinks: &[datapath::UplinkState]) -> impl Iterator<Item = Feature> {
    uplinks.iter().map(|uplink| Feature {
        name: format!("uplink {}", uplink.interface),
        available: uplink.missing.is_none(),
        detail: uplink.missing.clone().unwrap_or_else(|| "guarded".to_owned()),
    })
}

fn fault(noted: &Noted) -> Fault {
    let datapath::Fault { kind, detail, left } = noted.fault.clone();
    Fault {
        kind: kind.as_str().to_owned(),
        detail,
        left: left.unwrap_or_default(),
        since: Some(timestamp(noted.since_ns)),
    }
}

/// Policies that are not in force, as something amiss.
fn setback((setback, since_ns): &(Setback, u64)) -> Fault {
    Fault {
        kind: "policy".to_owned(),
        detail: setback.what(),
        left: setback.outcome.as_str().to_owned(),
        since: Some(timestamp(*since_ns)),
    }
}

fn limit(fill: &datapath::Fill) -> Limit {
    let datapath::Fill { what, used, limit } = *fill;
    Limit { what: what.to_owned(), used, limit }
}

fn ring(name: &str, totals: Totals) -> RingCounters {
    let Totals { attempted, delivered, lost } = totals;
    RingCounters { name: name.to_owned(), attempted, delivered, lost }
}

fn attempts(counters: datapath::ServiceCounters) -> ServiceCounters {
    let datapath::ServiceCounters { translated, no_backend, no_room } = counters;
    ServiceCounters { translated, no_backend, no_room }
}

/// A count in a field of 32 bits.
fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[tonic::async_trait]
impl Signet for NodeSignet {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let nodes = vec![self.status_now()];
        Ok(Response::new(StatusResponse { nodes, unavailable: vec![] }))
    }

    async fn list_endpoints(
        &self,
        _: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsResponse>, Status> {
        let endpoints = endpoints::list(&self.0.facts.node, &self.0.control());
        Ok(Response::new(ListEndpointsResponse { endpoints, unavailable: vec![] }))
    }

    async fn list_identities(
        &self,
        _: Request<ListIdentitiesRequest>,
    ) -> Result<Response<ListIdentitiesResponse>, Status> {
        let identities = identities::list(&self.0.facts.node, &self.0.control());
        Ok(Response::new(ListIdentitiesResponse { identities, unavailable: vec![] }))
    }

    async fn list_policies(
        &self,
        _: Request<ListPoliciesRequest>,
    ) -> Result<Response<ListPoliciesResponse>, Status> {
        let policies = policies::list(&self.0.facts.node, &self.0.control());
        Ok(Response::new(ListPoliciesResponse { policies, unavailable: vec![] }))
    }

    async fn list_services(
        &self,
        _: Request<ListServicesRequest>,
    ) -> Result<Response<ListServicesResponse>, Status> {
        let services = services::list(&self.0.facts.node, &self.0.control());
        Ok(Response::new(ListServicesResponse { services, unavailable: vec![] }))
    }

    async fn confirm_policies(
        &self,
        request: Request<ConfirmPoliciesRequest>,
    ) -> Result<Response<ConfirmPoliciesResponse>, Status> {
        Scope::on_the_node(&request)?;
        let (reply, answer) = oneshot::channel();
        self.0.confirm(Confirmation { names: request.into_inner().names, reply });
        let gone = |_| Status::unavailable("the agent stops");
        let confirmed = match answer.await.map_err(gone)? {
            Ok(confirmed) => confirmed,
            Err(reason) => return Err(Status::failed_precondition(reason)),
        };
        let row = |PolicyName { kind, name, .. }: PolicyName| ConfirmedPolicy {
            node: self.0.facts.node.clone(),
            kind: kind.as_str().to_owned(),
            name,
        };
        let policies = confirmed.into_iter().map(row).collect();
        Ok(Response::new(ConfirmPoliciesResponse { policies, unavailable: vec![] }))
    }
}

#[cfg(test)]
mod tests;
