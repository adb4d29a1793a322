//! The kernel settings that a pod's link needs, of the calling thread's network
//! namespace. Written only where they differ: `/proc/sys` may be read-only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::WiringError;

/// No link-local address of its own (and none asked for by ND), but IPv6 on if
/// the pod has such an address.
pub(super) fn quieten(interface: &str, ipv6: bool) -> Result<(), WiringError> {
    let folder = Path::new("/proc/sys/net/ipv6/conf").join(interface);
    // A kernel without IPv6 is quiet enough, unless an address is to be set.
    if !ipv6 && !folder.exists() {
        return Ok(());
    }
    // 1: IN6_ADDR_GEN_MODE_NONE
    set(folder.join("addr_gen_mode"), "1")?;
    if ipv6 {
        set(folder.join("disable_ipv6"), "0")?;
    }
    Ok(())
}

/// The way back to a source need not be the way it came (RFC 3704 section 2.4):
/// the programs check sources, and strictly. The kernel uses the larger of this
/// and `all`, so 2 wins over a strict node.
pub(super) fn loosen_rp_filter(interface: &str) -> Result<(), WiringError> {
    set(Path::new("/proc/sys/net/ipv4/conf").join(interface).join("rp_filter"), "2")
}

/// Lets the node forward for the families that the pod has.
pub(super) fn forward(ipv4: bool, ipv6: bool) -> Result<(), WiringError> {
    if ipv4 {
        set("/proc/sys/net/ipv4/ip_forward".into(), "1")?;
    }
    if ipv6 {
        set("/proc/sys/net/ipv6/conf/all/forwarding".into(), "1")?;
    }
    Ok(())
}

fn set(path: PathBuf, value: &'static str) -> Result<(), WiringError> {
    let write = || -> io::Result<()> {
        if fs::read_to_string(&path)?.trim() != value {
            fs::write(&path, value)?;
        }
        Ok(())
    };
    write().map_err(|source| WiringError::Sysctl { path: path.clone(), value, source })
}
