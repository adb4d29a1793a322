//! What every node enforces, in one answer.

use std::collections::BTreeMap;

use tonic::{Request, Response, Status};

use super::{Member, Relay};
use crate::access::Scope;
use crate::proto::signet::v1::signet_client::SignetClient;
use crate::proto::signet::v1::signet_server::Signet;
use crate::proto::signet::v1::{
    ConfirmPoliciesRequest, ConfirmPoliciesResponse, Identity, ListEndpointsRequest,
    ListEndpointsResponse, ListIdentitiesRequest, ListIdentitiesResponse, ListPoliciesRequest,
    ListPoliciesResponse, ListServicesRequest, ListServicesResponse, StatusRequest, StatusResponse,
    UnavailableNode,
};

/// Hands every answer to `merge`, and names those that gave none.
fn merged<T>(
    answers: Vec<(Member, Result<T, String>)>,
    mut merge: impl FnMut(T) -> Vec<UnavailableNode>,
) -> Vec<UnavailableNode> {
    let mut unavailable = Vec::new();
    for (node, answer) in answers {
        match answer {
            Ok(answer) => unavailable.append(&mut merge(answer)),
            Err(reason) => unavailable.push(UnavailableNode { node: node.name, reason }),
        }
    }
    unavailable
}

#[tonic::async_trait]
impl Signet for Relay {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let answers = self
            .ask(|channel| async move { SignetClient::new(channel).status(StatusRequest {}).await })
            .await;
        let mut nodes = Vec::new();
        let unavailable = merged(answers, |mut answer: StatusResponse| {
            nodes.append(&mut answer.nodes);
            answer.unavailable
        });
        Ok(Response::new(StatusResponse { nodes, unavailable }))
    }

    async fn list_endpoints(
        &self,
        _: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsResponse>, Status> {
        let answers = self
            .ask(|channel| async move {
                SignetClient::new(channel).list_endpoints(ListEndpointsRequest {}).await
            })
            .await;
        let mut endpoints = Vec::new();
        let unavailable = merged(answers, |mut answer: ListEndpointsResponse| {
            endpoints.append(&mut answer.endpoints);
            answer.unavailable
        });
        Ok(Response::new(ListEndpointsResponse { endpoints, unavailable }))
    }

    async fn list_identities(
        &self,
        _: Request<ListIdentitiesRequest>,
    ) -> Result<Response<ListIdentitiesResponse>, Status> {
        let answers = self
            .ask(|channel| async move {
                SignetClient::new(channel).list_identities(ListIdentitiesRequest {}).await
            })
            .await;
        // Nodes that give one number to different labels show as two rows.
        let mut nodes: BTreeMap<(u32, Vec<String>), Vec<String>> = BTreeMap::new();
        let unavailable = merged(answers, |answer: ListIdentitiesResponse| {
            for mut identity in answer.identities {
                let known = nodes.entry((identity.id, identity.labels)).or_default();
                known.append(&mut identity.nodes);
            }
            answer.unavailable
        });
        let identities =
            nodes.into_iter().map(|((id, labels), nodes)| Identity { id, labels, nodes });
        Ok(Response::new(ListIdentitiesResponse { identities: identities.collect(), unavailable }))
    }

    async fn list_policies(
        &self,
        _: Request<ListPoliciesRequest>,
    ) -> Result<Response<ListPoliciesResponse>, Status> {
        let answers = self
            .ask(|channel| async move {
                SignetClient::new(channel).list_policies(ListPoliciesRequest {}).await
            })
            .await;
        let mut policies = Vec::new();
        let unavailable = merged(answers, |mut answer: ListPoliciesResponse| {
            policies.append(&mut answer.policies);
            answer.unavailable
        });
        Ok(Response::new(ListPoliciesResponse { policies, unavailable }))
    }
    async fn list_services(
        &self,
        _: Request<ListServicesRequest>,
    ) -> Result<Response<ListServicesResponse>, Status> {
        let answers = self
            .ask(|channel| async move {
                SignetClient::new(channel).list_services(ListServicesRequest {}).await
            })
            .await;
        let mut services = Vec::new();
        let unavailable = merged(answers, |mut answer: ListServicesResponse| {
            services.append(&mut answer.services);
            answer.unavailable
        });
        Ok(Response::new(ListServicesResponse { services, unavailable }))
    }

    async fn confirm_policies(
        &self,
        request: Request<ConfirmPoliciesRequest>,
    ) -> Result<Response<ConfirmPoliciesResponse>, Status> {
        Scope::on_the_node(&request)?;
        let request = request.into_inner();
        let answers = self
            .ask(|channel| {
                let request = request.clone();
                async move { SignetClient::new(channel).confirm_policies(request).await }
            })
            .await;
        let mut policies = Vec::new();
        let unavailable = merged(answers, |mut answer: ConfirmPoliciesResponse| {
            policies.append(&mut answer.policies);
            answer.unavailable
        });
        Ok(Response::new(ConfirmPoliciesResponse { policies, unavailable }))
    }
}
