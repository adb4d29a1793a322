//! The gRPC side of Signet: Hubble's flow service and Signet's own.
//!
//! The pure half turns values into messages and back: [`flow`] and [`json`],
//! with [`filter`] and [`mask`] deciding which flows and which fields a client
//! gets. The other half serves: [`store`] keeps the last flows, [`observer`]
//! answers from it and from the agent's own [`events`], [`relay`] merges several
//! nodes, [`peer`] tells which there are, [`server`] and [`client`] speak over
//! unix sockets, or TCP with mutual TLS, where [`access`] says who may see what. [`metrics`] counts flows for Prometheus,
//! [`export`] hands them to files and OpenTelemetry collectors.
//!
//! Knows nothing of the kernel, of maps or of manifests: flows come in as
//! [`model::Flow`], and what a node enforces is asked from whoever implements
//! [`proto::signet::v1::signet_server::Signet`].
#![forbid(unsafe_code)]

pub mod access;
pub mod client;
pub mod events;
pub mod export;
pub mod filter;
pub mod flow;
pub mod json;
pub mod mask;
pub mod metrics;
pub mod observer;
pub mod peer;
pub mod proto;
pub mod relay;
pub mod server;
pub mod store;
pub mod time;
