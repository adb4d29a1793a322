//! What ADD answers, and what CHECK is shown of an earlier answer.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::version::Version;

/// DNS settings that the configuration carries through to the result.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Addresses of name servers, in order of preference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Local domain for short names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Domains to try for short names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// One end of the pod's link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: [u8; 6],
    /// Its MTU.
    pub mtu: u32,
    /// Path of the network namespace; `None` for the node's.
    pub sandbox: Option<String>,
}

/// What ADD did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Success {
    /// The end on the node.
    pub host: Interface,
    /// The end in the pod.
    pub pod: Interface,
    /// The pod's addresses, each with its gateway.
    pub addresses: Vec<(IpAddr, IpAddr)>,
    /// Carried through from the configuration.
    pub dns: Dns,
}

/// Where the pod's end stands in the result's list of interfaces.
const POD_INDEX: usize = 1;

impl Success {
    /// The result object of the CNI specification.
    pub fn to_json(&self, version: Version) -> Value {
        let Self { host, pod, addresses, dns } = self;
        let ips: Vec<Value> = addresses
            .iter()
            .map(|(address, gateway)| {
                let mut ip = json!({
                    "address": IpNet::from(*address).to_string(),
                    "gateway": gateway.to_string(),
                    "interface": POD_INDEX,
                });
                if version == Version::V0_4_0 {
                    ip["version"] = json!(if address.is_ipv4() { "4" } else { "6" });
                }
                ip
            })
            .collect();
        let routes: Vec<Value> = addresses
            .iter()
            .map(|(_, gateway)| {
                json!({ "dst": default_route(*gateway).to_string(), "gw": gateway.to_string() })
            })
            .collect();
        json!({
            "cniVersion": version.as_str(),
            "interfaces": [host.to_json(version), pod.to_json(version)],
            "ips": ips,
            "routes": routes,
            "dns": dns,
        })
    }
}

impl Interface {
    fn to_json(&self, version: Version) -> Value {
        let mut object = json!({ "name": self.name, "mac": mac_text(self.mac) });
        if version >= Version::V1_1_0 {
            object["mtu"] = json!(self.mtu);
        }
        if let Some(sandbox) = &self.sandbox {
            object["sandbox"] = json!(sandbox);
        }
        object
    }
}

/// The destination of a default route of the gateway's family.
pub(crate) fn default_route(gateway: IpAddr) -> IpNet {
    match gateway {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

/// `aa:bb:cc:dd:ee:ff`
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The MAC that [`mac_text`] prints so; either case is read.
pub(crate) fn mac_from_text(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// An earlier result, possibly with what later plugins of the chain added.
/// Fields that nobody here compares are not read.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct Previous {
    /// All interfaces of the result.
    pub interfaces: Vec<PreviousInterface>,
    /// All addresses of the result.
    pub ips: Vec<PreviousAddress>,
}

/// An interface of an earlier result.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct PreviousInterface {
    /// Its name.
    pub name: String,
    /// Its MAC; empty when not told.
    pub mac: String,
    /// Its MTU, if told.
    pub mtu: Option<u32>,
    /// Path of its network namespace; empty for the node's.
    pub sandbox: String,
}

/// An address of an earlier result.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct PreviousAddress {
    /// Address and prefix length.
    pub address: IpNet,
    /// Where its interface stands in the list.
    pub interface: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn success() -> Success {
        Success {
            host: Interface {
                name: "sg0123456789".into(),
                mac: [2, 0, 0, 0, 0, 0xa],
                mtu: 1500,
                sandbox: None,
            },
            pod: Interface {
                name: "eth0".into(),
                mac: [2, 0, 0, 0, 0, 0xb],
                mtu: 1500,
                sandbox: Some("/run/netns/a".into()),
            },
            addresses: vec![
                ("10.1.0.2".parse().unwrap(), "169.254.1.1".parse().unwrap()),
                ("fd00:1::2".parse().unwrap(), "fe80::1".parse().unwrap()),
            ],
            dns: Dns { nameservers: vec!["10.96.0.10".into()], ..Dns::default() },
        }
    }

    #[test]
    fn a_result_is_the_object_of_the_specification() {
        let want = json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                { "name": "sg0123456789", "mac": "02:00:00:00:00:0a", "mtu": 1500 },
                {
                    "name": "eth0", "mac": "02:00:00:00:00:0b", "mtu": 1500,
                    "sandbox": "/run/netns/a"
                },
            ],
            "ips": [
                { "address": "10.1.0.2/32", "gateway": "169.254.1.1", "interface": 1 },
                { "address": "fd00:1::2/128", "gateway": "fe80::1", "interface": 1 },
            ],
            "routes": [
                { "dst": "0.0.0.0/0", "gw": "169.254.1.1" },
                { "dst": "::/0", "gw": "fe80::1" },
            ],
            "dns": { "nameservers": ["10.96.0.10"] },
        });
        assert_eq!(success().to_json(Version::V1_1_0), want);
    }

    #[test]
    fn older_versions_have_no_mtu_and_the_oldest_tells_families() {
        let v1 = success().to_json(Version::V1_0_0);
        assert_eq!(v1["interfaces"][0].get("mtu"), None);
        assert_eq!(v1["ips"][0].get("version"), None);
        let v0 = success().to_json(Version::V0_4_0);
        assert_eq!(v0["ips"][0]["version"], "4");
        assert_eq!(v0["ips"][1]["version"], "6");
    }

    #[test]
    fn a_result_is_read_back_as_the_previous_one() {
        let previous: Previous =
            serde_json::from_value(success().to_json(Version::V1_1_0)).unwrap();
        assert_eq!(previous.interfaces[1].sandbox, "/run/netns/a");
        assert_eq!(previous.interfaces[1].mtu, Some(1500));
        assert_eq!(previous.ips[1].address.to_string(), "fd00:1::2/128");
    }

    #[test]
    fn macs_are_read_as_they_are_printed() {
        assert_eq!(mac_from_text("02:00:00:00:00:0B"), Some([2, 0, 0, 0, 0, 0xb]));
        for junk in ["", "02:00", "02:00:00:00:00:0b:1", "2:0:0:0:0:b", "zz:00:00:00:00:00"] {
            assert_eq!(mac_from_text(junk), None, "{junk}");
        }
    }
}
