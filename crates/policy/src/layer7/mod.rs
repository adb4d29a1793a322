//! What a rule demands inside a connection: requests, names, server names
//! (facts: `policy.md` section 1.5).

mod http;
mod kafka;

use crate::name::NamePattern;

pub use http::{HeaderMatch, HttpRequest, HttpRule, Mismatch, Pattern, PatternError};
pub use kafka::{API_KEYS, KafkaRequest, KafkaRole, KafkaRule};

/// What must hold inside the connections of a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layer7 {
    /// Which requests pass.
    pub requests: Requests,
    /// Which TLS server names pass; empty: any, and none.
    pub server_names: Vec<NamePattern>,
    /// With what TLS is ended here, so that requests in it can be seen.
    pub terminating_tls: Option<TlsContext>,
    /// With what TLS is begun again behind.
    pub originating_tls: Option<TlsContext>,
    /// The listener that connections are handed to.
    pub listener: Option<Listener>,
}

/// Which requests pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Requests {
    /// All of them.
    Any,
    /// HTTP requests that match one of these.
    Http(Vec<HttpRule>),
    /// DNS queries for names that match one of these.
    Dns(Vec<NamePattern>),
    /// Kafka requests that match one of these.
    Kafka(Vec<KafkaRule>),
}

/// Where the secrets of one end of TLS are, as it is written.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct TlsContext {
    /// Namespace of the secret; empty if none is named.
    pub namespace: String,
    /// Name of the secret.
    pub name: String,
    /// Its entries for authorities, certificate and private key.
    pub entries: [String; 3],
}

/// A listener of another proxy.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Listener {
    /// Kind of the object that configures it.
    pub config_kind: String,
    /// Name of the object.
    pub config_name: String,
    /// Name of the listener.
    pub name: String,
    /// 1 to 100, smaller first.
    pub priority: Option<u8>,
}

/// What is seen inside a connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// An HTTP request.
    pub http: Option<HttpRequest>,
    /// The name a DNS query asks for.
    pub dns: Option<String>,
    /// A Kafka request.
    pub kafka: Option<KafkaRequest>,
    /// The server name of a TLS handshake.
    pub server_name: Option<String>,
}

impl Request {
    /// Whether nothing is known about the inside.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Layer7 {
    /// Requests of one kind, and nothing else.
    pub fn requests(requests: Requests) -> Self {
        Self {
            requests,
            server_names: Vec::new(),
            terminating_tls: None,
            originating_tls: None,
            listener: None,
        }
    }

    /// Whether it is about DNS.
    pub fn is_dns(&self) -> bool {
        matches!(self.requests, Requests::Dns(_))
    }

    /// Whether what is seen passes. A demand about something that is not seen
    /// fails.
    pub fn admits(&self, request: &Request) -> bool {
        let named = self.server_names.is_empty()
            || request
                .server_name
                .as_ref()
                .is_some_and(|name| self.server_names.iter().any(|pattern| pattern.matches(name)));
        named
            && match &self.requests {
                Requests::Any => true,
                Requests::Http(rules) => request
                    .http
                    .as_ref()
                    .is_some_and(|request| rules.iter().any(|rule| rule.admits(request))),
                Requests::Dns(names) => request
                    .dns
                    .as_ref()
                    .is_some_and(|name| names.iter().any(|pattern| pattern.matches(name))),
                Requests::Kafka(rules) => {
                    request.kafka.as_ref().is_some_and(|request| kafka::admits(rules, request))
                }
            }
    }
}
