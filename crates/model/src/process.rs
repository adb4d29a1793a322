//! Which process sent or received: known exactly, or unknown with the reason.

use std::fmt;

/// A process as the kernel saw it when it last connected, sent or bound.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Process {
    /// Thread group id in the initial PID namespace.
    pub pid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// Start of the task, nanoseconds of CLOCK_BOOTTIME: with `pid` it names one process.
    pub start_ns: u64,
    /// Thread name, at most 15 bytes.
    pub comm: String,
    /// Path of the executable as its mount namespace sees it; `…` in front when cut.
    pub binary: String,
    /// Cgroup v2 id.
    pub cgroup_id: u64,
    /// OCI container id; empty when the cgroup is no container's.
    pub container: String,
}

/// Why a process is not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnknownProcess {
    /// The packet carried no socket: AF_PACKET, or forwarded by the pod.
    NoSocket,
    /// The socket is the kernel's own: TCP resets, ICMP replies.
    Kernel,
    /// The socket is older than the hooks that would have named it.
    OlderThanAgent,
    /// Nothing listens at the destination.
    NoListener,
    /// The process has let go of the connection's socket.
    Closed,
    /// The other end is on another node, whose own flow names it.
    OtherNode,
    /// The record that names it has not been seen or was lost.
    NotSeen,
    /// The end is no workload of this cluster.
    NotLocal,
    /// From a datapath newer than this agent.
    Other(u8),
}

impl UnknownProcess {
    /// A short, stable word for metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSocket => "no-socket",
            Self::Kernel => "kernel",
            Self::OlderThanAgent => "older-than-agent",
            Self::NoListener => "no-listener",
            Self::Closed => "closed",
            Self::OtherNode => "other-node",
            Self::NotSeen => "not-seen",
            Self::NotLocal => "not-local",
            Self::Other(_) => "unknown",
        }
    }
}

impl fmt::Display for UnknownProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A process, or why there is none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Attribution {
    /// It is this one.
    Known(Process),
    /// Nobody can say, and why.
    Unknown(UnknownProcess),
}

impl Attribution {
    /// The process, when known.
    pub fn known(&self) -> Option<&Process> {
        match self {
            Self::Known(process) => Some(process),
            Self::Unknown(_) => None,
        }
    }
}
