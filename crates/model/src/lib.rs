//! The nouns of Signet: labels, identities, endpoints, verdicts, flows.
//!
//! Values only: no I/O, no clock, no kernel bytes, no Kubernetes or protobuf types.
//! Whoever reads one of those turns it into these values at its own edge.
//!
//! Start at [`Identity`] for who a workload is and at [`Flow`] for what was decided.
#![forbid(unsafe_code)]

mod flow;
mod identity;
mod label;
mod process;
mod reason;
mod rule;
mod workload;

pub use flow::{
    Carried, End, Flow, IcmpMessage, Layer4, MatchType, PolicyMatch, Shadow, TcpFlags, Trace,
    Traffic, Verdict,
};
pub use identity::{Identity, IdentityBook, IdentityId, NotAnIdentity, Reserved};
pub use label::{Label, LabelError, LabelPool, Labels, Source};
pub use process::{Attribution, Process, UnknownProcess};
pub use reason::{DropReason, Reason};
pub use rule::{Direction, PolicyKind, PolicyName, RuleId, RuleSet, RuleSetId};
pub use workload::{EndpointRecord, LabelFilter, Namespace, Node, Pod, PodName, identity_labels};
