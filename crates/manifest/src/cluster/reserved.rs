//! Addresses on a node that are neither its own nor a pod's, as the annotations of
//! its Node object tell them: its health endpoint's and its ingress proxy's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::Reserved;

use super::{Fault, fault};
use crate::document::Node as Written;

/// Cilium's names of the annotations, each with its former one: what they are about,
/// and whether of IPv4. The present name counts where both are there.
const ANNOTATIONS: [(&str, &str, Reserved, bool); 4] = [
    (
        "network.cilium.io/ipv4-health-ip",
        "io.cilium.network.ipv4-health-ip",
        Reserved::Health,
        true,
    ),
    (
        "network.cilium.io/ipv6-health-ip",
        "io.cilium.network.ipv6-health-ip",
        Reserved::Health,
        false,
    ),
    (
        "network.cilium.io/ipv4-Ingress-ip",
        "io.cilium.network.ipv4-Ingress-ip",
        Reserved::Ingress,
        true,
    ),
    (
        "network.cilium.io/ipv6-Ingress-ip",
        "io.cilium.network.ipv6-Ingress-ip",
        Reserved::Ingress,
        false,
    ),
];

/// An annotation that is there and tells no address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{key}`: {reason}")]
pub struct BadAnnotation {
    /// Its name.
    pub key: &'static str,
    /// Why not.
    pub reason: String,
}

/// The addresses that the annotations of a Node object tell; `annotation` gives the
/// value of one.
pub fn reserved_addresses<'a>(
    annotation: impl Fn(&str) -> Option<&'a str>,
) -> Result<BTreeMap<IpAddr, Reserved>, BadAnnotation> {
    let mut found = BTreeMap::new();
    for (present, former, reserved, is_ipv4) in ANNOTATIONS {
        let written = [present, former].into_iter().find_map(|key| Some((key, annotation(key)?)));
        // Cilium leaves one empty where there is no such endpoint.
        let Some((key, text)) = written.filter(|(_, text)| !text.is_empty()) else { continue };
        let bad = |reason: String| BadAnnotation { key, reason };
        let shown = || text.escape_debug().to_string();
        let Ok(address) = text.parse::<IpAddr>() else {
            return Err(bad(format!("`{}` is not an IP address", shown())));
        };
        let address = address.to_canonical();
        if address.is_ipv4() != is_ipv4 {
            let family = if is_ipv4 { "IPv4" } else { "IPv6" };
            return Err(bad(format!("`{}` is not an {family} address", shown())));
        }
        if !names_one_machine(address) {
            return Err(bad(format!("no endpoint can have `{}`", shown())));
        }
        if found.insert(address, reserved).is_some_and(|other| other != reserved) {
            let reason = format!("`{}` is the health endpoint's, too", shown());
            return Err(bad(reason));
        }
    }
    Ok(found)
}

fn names_one_machine(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(broadcast || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// The same from what is written at `field`.
pub(super) fn of(
    annotations: Option<&Written>,
    field: &str,
) -> Result<BTreeMap<IpAddr, Reserved>, Fault> {
    let Some(written) = annotations else { return Ok(BTreeMap::new()) };
    let named = ANNOTATIONS.iter().flat_map(|(present, former, ..)| [*present, *former]);
    for value in named.filter_map(|key| written.get(key)) {
        if value.as_str().is_none() {
            return Err(fault(value, field, "an annotation is a text"));
        }
    }
    reserved_addresses(|key| written.get(key)?.as_str()).map_err(|bad| {
        let at = written.get(bad.key).unwrap_or(written);
        fault(at, field, bad.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_pairs(pairs: &[(&str, &'static str)]) -> Result<BTreeMap<IpAddr, Reserved>, String> {
        let value =
            |key: &str| pairs.iter().find(|(known, _)| *known == key).map(|(_, text)| *text);
        reserved_addresses(value).map_err(|bad| bad.to_string())
    }

    #[track_caller]
    fn check(pairs: &[(&str, &'static str)], want: &[(&str, Reserved)]) {
        let want = want.iter().map(|(address, reserved)| (address.parse().unwrap(), *reserved));
        assert_eq!(of_pairs(pairs), Ok(want.collect()));
    }

    #[track_caller]
    fn check_refused(pairs: &[(&str, &'static str)], want: &str) {
        assert_eq!(of_pairs(pairs), Err(want.to_owned()));
    }

    #[test]
    fn annotations_tell_health_and_ingress_in_both_families_and_spellings() {
        check(
            &[
                ("network.cilium.io/ipv4-health-ip", "10.244.1.5"),
                ("io.cilium.network.ipv6-health-ip", "fd00:10:244:1::5"),
                ("network.cilium.io/ipv4-Ingress-ip", "10.244.1.6"),
                ("network.cilium.io/ipv6-Ingress-ip", "fd00:10:244:1::6"),
                ("anything.else/ipv4-health-ip", "nonsense"),
            ],
            &[
                ("10.244.1.5", Reserved::Health),
                ("fd00:10:244:1::5", Reserved::Health),
                ("10.244.1.6", Reserved::Ingress),
                ("fd00:10:244:1::6", Reserved::Ingress),
            ],
        );
    }

    #[test]
    fn the_present_name_counts_where_both_are_there() {
        check(
            &[
                ("io.cilium.network.ipv4-health-ip", "10.0.0.1"),
                ("network.cilium.io/ipv4-health-ip", "10.0.0.2"),
            ],
            &[("10.0.0.2", Reserved::Health)],
        );
        check(&[("network.cilium.io/ipv4-health-ip", "")], &[]);
    }

    #[test]
    fn what_is_no_address_of_an_endpoint_is_refused() {
        const V4: &str = "network.cilium.io/ipv4-health-ip";
        check_refused(
            &[(V4, "10.0.0")],
            "`network.cilium.io/ipv4-health-ip`: `10.0.0` is not an IP address",
        );
        check_refused(
            &[(V4, "fd00::1")],
            "`network.cilium.io/ipv4-health-ip`: `fd00::1` is not an IPv4 address",
        );
        check_refused(
            &[("network.cilium.io/ipv6-Ingress-ip", "::ffff:10.0.0.1")],
            "`network.cilium.io/ipv6-Ingress-ip`: `::ffff:10.0.0.1` is not an IPv6 address",
        );
        check_refused(
            &[(V4, "127.0.0.1")],
            "`network.cilium.io/ipv4-health-ip`: no endpoint can have `127.0.0.1`",
        );
        check_refused(
            &[(V4, "10.0.0.1"), ("network.cilium.io/ipv4-Ingress-ip", "10.0.0.1")],
            "`network.cilium.io/ipv4-Ingress-ip`: `10.0.0.1` is the health endpoint's, too",
        );
    }
}
