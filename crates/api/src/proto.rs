//! Generated from `proto/`: messages, clients and servers, one module a package.
#![allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated; the .proto files carry the documentation"
)]

/// Flows.
pub mod flow {
    tonic::include_proto!("flow");
}

/// The service flows are read from.
pub mod observer {
    tonic::include_proto!("observer");
}

/// Which nodes serve flows.
pub mod peer {
    tonic::include_proto!("peer");
}

/// State of the nodes behind a relay.
pub mod relay {
    tonic::include_proto!("relay");
}

/// Signet's own services.
pub mod signet {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("signet.v1");
    }
}

/// The descriptors of all of them.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
