//! The lab's name server: `cluster.local` as the cluster's objects say, and the
//! names of external hosts.
//!
//! [`zone`] says what a name stands for and knows no messages; [`server`] knows
//! messages and sockets. It runs as a pod of the lab and reads what the agents
//! read.

mod server;
pub mod zone;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

pub use server::{Hosts, serve};

use crate::error::Error;
use crate::netns::Netns;
use crate::progress::check_interrupt;

/// The domain of every cluster.
pub const ZONE: &str = "cluster.local";

/// Where the name server's container sees its program.
pub const PROGRAM: &str = "/run/signet/signet";
/// Where it sees the cluster's objects.
pub const CLUSTER: &str = "/run/signet/cluster";

/// Where names are asked for.
const PORT: u16 = 53;

/// To load a program and bind two sockets.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// `resolv.conf` of a pod, as the kubelet writes it.
pub fn resolver(server: IpAddr, namespace: &str) -> String {
    format!(
        "search {namespace}.svc.{ZONE} svc.{ZONE} {ZONE}\nnameserver {server}\noptions ndots:5\n"
    )
}

/// Waits until the name server of a pod takes questions.
pub fn wait(netns: &Netns, log: &Path) -> Result<(), Error> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let deadline = Instant::now() + READY_LIMIT;
    while netns.inside(|| TcpStream::connect(at).is_err())? {
        check_interrupt()?;
        if Instant::now() > deadline {
            return Err(Error::NotReady {
                what: "the lab's name server".into(),
                seconds: READY_LIMIT.as_secs(),
                log: log.to_owned(),
            });
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_finds_names_of_its_own_namespace_first() {
        assert_eq!(
            resolver("10.96.0.10".parse().unwrap(), "shop"),
            "search shop.svc.cluster.local svc.cluster.local cluster.local\n\
             nameserver 10.96.0.10\noptions ndots:5\n"
        );
    }
}
