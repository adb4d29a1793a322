//! Who may see which namespaces. Decided here, on the server.
//!
//! A flow belongs to the namespace of the end at which it was judged. A reader who
//! is limited to namespaces sees the flows of those and nothing of the others: the
//! far end of such a flow loses its names, and what counts or numbers the whole
//! node is left out, losses of the kernel's rings among it. Filters are asked about what is left, so that none can probe
//! for what is not shown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tonic::{Request, Status};

use crate::flow::EVENT_TRACE;
use crate::flow::detail::{Actor, Detail};
use crate::proto::flow::{Endpoint, Flow, Policy, TrafficDirection};
use crate::proto::observer::GetFlowsResponse;
use crate::proto::observer::get_flows_response::ResponseTypes;

/// Answers to limited readers take a multiple of this: how long the store was
/// searched would tell how much others have in it.
pub(crate) const QUANTUM: Duration = Duration::from_millis(250);

/// Scheme and name of a token in the `authorization` header.
const BEARER: &str = "Bearer ";

/// Everything, or some namespaces.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Scope {
    /// Of the node, whatever it is.
    #[default]
    Everything,
    /// These namespaces only.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// Of who asks: everything, unless the listener said otherwise.
    pub fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Refuses what only who is on the node itself may do: readers read.
    pub fn on_the_node<T>(request: &Request<T>) -> Result<(), Status> {
        match request.extensions().get::<Self>() {
            None => Ok(()),
            Some(_) => Err(Status::permission_denied("this is done on the node's own socket")),
        }
    }

    /// Whether nothing is withheld.
    pub fn is_everything(&self) -> bool {
        *self == Self::Everything
    }

    /// Whether a namespace may be seen.
    pub fn has(&self, namespace: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }

    /// Refuses what is about the whole node.
    pub fn whole_node<T>(request: &Request<T>) -> Result<(), Status> {
        match Self::of(request) {
            Self::Everything => Ok(()),
            Self::Namespaces(_) => {
                Err(Status::permission_denied("this is about the whole node, not a namespace"))
            }
        }
    }

    /// The answer as it may be shown, if it may.
    pub fn shown(&self, mut answer: GetFlowsResponse) -> Option<GetFlowsResponse> {
        if self.is_everything() {
            return Some(answer);
        }
        match &mut answer.response_types {
            Some(ResponseTypes::Flow(flow)) if self.sees(flow) => self.redact(flow),
            // What the kernel's rings lost, and when, tells how busy others are.
            Some(
                ResponseTypes::Flow(_)
                | ResponseTypes::LostEvents(_)
                | ResponseTypes::NodeStatus(_),
            )
            | None => return None,
        }
        Some(answer)
    }

    /// Whether every owner of a flow is in scope.
    fn sees(&self, flow: &Flow) -> bool {
        let owners = owners(flow);
        owners != [None, None] && owners.into_iter().flatten().all(|owner| self.has(owner))
    }

    fn redact(&self, flow: &mut Flow) {
        let hidden = |end: &Option<Endpoint>| {
            end.as_ref().is_some_and(|end| !end.namespace.is_empty() && !self.has(&end.namespace))
        };
        let (source, destination) = (hidden(&flow.source), hidden(&flow.destination));
        if source {
            flow.source = Some(Endpoint::default());
            flow.source_names.clear();
            flow.source_service = None;
        }
        if destination {
            flow.destination = Some(Endpoint::default());
            flow.destination_names.clear();
            flow.destination_service = None;
        }
        for service in [&mut flow.source_service, &mut flow.destination_service] {
            if service.as_ref().is_some_and(|service| !self.has(&service.namespace)) {
                *service = None;
            }
        }
        for list in [
            &mut flow.egress_allowed_by,
            &mut flow.ingress_allowed_by,
            &mut flow.egress_denied_by,
            &mut flow.ingress_denied_by,
        ] {
            self.redact_policies(list);
        }
        let detail = flow.extensions.as_ref().and_then(Detail::from_any);
        flow.extensions = detail.map(|mut detail| {
            let not_shown = || Actor::Unknown("not-shown".to_owned());
            if source {
                detail.source = not_shown();
            }
            if destination {
                detail.destination = not_shown();
            }
            // Both number what happens on the whole node.
            (detail.revision, detail.record) = (0, String::new());
            detail.to_any()
        });
    }

    fn redact_policies(&self, list: &mut Vec<Policy>) {
        list.retain(|policy| policy.namespace.is_empty() || self.has(&policy.namespace));
        list.iter_mut().for_each(|policy| policy.revision = 0);
    }
}

/// The namespaces whose flow it is: that of the end which was judged. Of another answer,
/// or with no direction, it is not certain which end was, and it is both's.
pub(crate) fn owners(flow: &Flow) -> [Option<&str>; 2] {
    fn named(end: Option<&Endpoint>) -> Option<&str> {
        end.map(|end| end.namespace.as_str()).filter(|name| !name.is_empty())
    }
    let (source, destination) = (named(flow.source.as_ref()), named(flow.destination.as_ref()));
    match (flow.traffic_direction(), flow.is_reply) {
        (TrafficDirection::Egress, Some(false) | None) => [source, None],
        (TrafficDirection::Ingress, Some(false) | None) => [destination, None],
        // Of an answer that was let through its direction is the connection's.
        (TrafficDirection::Egress, Some(true)) if is_trace(flow) => [destination, None],
        (TrafficDirection::Ingress, Some(true)) if is_trace(flow) => [source, None],
        _ => [source, destination],
    }
}

/// Exactly what an operator may write.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessFile {
    readers: Vec<ReaderFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ReaderFile {
    name: String,
    #[serde(default)]
    certificate_sha256: Option<String>,
    #[serde(default)]
    token_sha256: Option<String>,
    namespaces: Vec<String>,
}

/// Why a list of readers is refused.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Not of the form.
    #[error("the list of readers is not of the form")]
    Form(#[source] serde_json::Error),
    /// One of them cannot be.
    #[error("reader `{name}`: {reason}")]
    Reader {
        /// Which one.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
}

type Digests = BTreeMap<[u8; 32], Scope>;

/// Who may read, by the digest of what they show. Who is not listed may not.
#[derive(Clone, Debug, Default)]
pub struct Access {
    certificates: Digests,
    tokens: Digests,
}

impl Access {
    /// Reads `{"readers": [{"name", "certificateSha256" or "tokenSha256",
    /// "namespaces": ["a"] or ["*"]}]}`.
    pub fn read(text: &str) -> Result<Self, AccessError> {
        let AccessFile { readers } = serde_json::from_str(text).map_err(AccessError::Form)?;
        let mut access = Self::default();
        for ReaderFile { name, certificate_sha256, token_sha256, namespaces } in readers {
            let refused = |reason| AccessError::Reader { name: name.clone(), reason };
            let (list, text) = match (certificate_sha256, token_sha256) {
                (Some(digest), None) => (&mut access.certificates, digest),
                (None, Some(digest)) => (&mut access.tokens, digest),
                _ => return Err(refused("give certificateSha256 or tokenSha256, not both")),
            };
            let digest =
                digest(&text).ok_or_else(|| refused("a SHA-256 is 64 hexadecimal digits"))?;
            let scope = scope(namespaces)
                .ok_or_else(|| refused("namespaces are names, or `*` alone for everything"))?;
            if list.insert(digest, scope).is_some() {
                return Err(refused("its digest is another reader's too"));
            }
        }
        Ok(access)
    }

    /// What the owner of this certificate and token may see. A token that is shown
    /// must be known: a mistaken one does not fall back to the certificate.
    pub fn decide(&self, certificate: &[u8], token: Option<&str>) -> Result<Scope, Status> {
        let found = match token {
            Some(token) => self
                .tokens
                .get(&sha256(token.as_bytes()))
                .ok_or_else(|| Status::unauthenticated("unknown token")),
            None => self
                .certificates
                .get(&sha256(certificate))
                .ok_or_else(|| Status::permission_denied("this reader is not on the list")),
        };
        found.cloned()
    }

    /// Puts the scope of whoever asks into the request.
    pub fn admit(&self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let certificates = request.peer_certs();
        let certificate = certificates
            .as_ref()
            .and_then(|chain| chain.first())
            .ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let token = match request.metadata().get("authorization") {
            Some(value) => {
                let token = value.to_str().ok().and_then(|text| text.strip_prefix(BEARER));
                Some(token.ok_or_else(|| Status::unauthenticated("unknown token"))?.to_owned())
            }
            None => None,
        };
        let scope = self.decide(certificate, token.as_deref())?;
        request.extensions_mut().insert(scope);
        Ok(request)
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(digest)
}

fn scope(namespaces: Vec<String>) -> Option<Scope> {
    if namespaces == ["*"] {
        return Some(Scope::Everything);
    }
    let name = |name: &String| {
        !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    let sound = !namespaces.is_empty() && namespaces.iter().all(name);
    sound.then(|| Scope::Namespaces(namespaces.into_iter().collect()))
}

fn is_trace(flow: &Flow) -> bool {
    flow.event_type.as_ref().is_some_and(|event| event.r#type == EVENT_TRACE)
}

/// Waits until an answer has taken a whole number of quanta.
pub(crate) async fn pad(started: tokio::time::Instant) {
    let quanta = started.elapsed().as_nanos() / QUANTUM.as_nanos() + 1;
    let quanta = u32::try_from(quanta).unwrap_or(u32::MAX);
    tokio::time::sleep_until(started + QUANTUM * quanta).await;
}

#[cfg(test)]
mod tests;
