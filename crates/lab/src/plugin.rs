//! The CNI plugin, called as a container runtime would call it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::error::Error;
use crate::journal::Pod;
use crate::launch::{Launch, Output};
use crate::netns::Netns;
use crate::site::Site;

/// Version of the CNI specification that is spoken.
const CNI_VERSION: &str = "1.1.0";
/// The interface inside a pod.
const INTERFACE: &str = "eth0";
const LIMIT: Duration = Duration::from_secs(45);
/// How long the plugin waits for the agent: many pods come at once, and an emulated
/// machine is ten times slower.
const ENFORCE_TIMEOUT_MS: u32 = 30_000;

/// Gives a pod its interface; the plugin answers with addresses.
pub fn add(site: &Site, pod: &Pod) -> Result<Vec<IpAddr>, Error> {
    let output = call(site, pod, "ADD", &format!("connect the pod `{}`", pod.full_name()))?;
    addresses(&output.stdout).map_err(|detail| Error::Malformed {
        what: format!("the answer of `signet cni` for `{}`", pod.full_name()),
        detail,
    })
}

/// Takes a pod's interface away.
pub fn delete(site: &Site, pod: &Pod) -> Result<(), Error> {
    call(site, pod, "DEL", &format!("disconnect the pod `{}`", pod.full_name())).map(|_| ())
}

fn call(site: &Site, pod: &Pod, command: &str, what: &str) -> Result<Output, Error> {
    let node = site.node(&pod.node)?;
    let netns = site.places.netns(&pod.member());
    let configuration = json!({
        "cniVersion": CNI_VERSION,
        "name": "signet",
        "type": "signet",
        "node": node.name,
        "pins": site.places.pins(&node.name),
        "stateDir": site.places.state(&node.name),
        "subnets": node.pod_cidrs,
        "enforceTimeoutMs": ENFORCE_TIMEOUT_MS,
    });
    let launch = Launch {
        what,
        cgroup: &site.groups.setup(),
        netns: Some(&Netns::at(site.places.netns(&node.name))),
        command: vec![site.signet.to_string_lossy().into_owned(), "cni".into()],
    };
    let arguments = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
        pod.namespace, pod.name, pod.sandbox
    );
    let environment = [
        ("CNI_COMMAND", command.to_owned()),
        ("CNI_CONTAINERID", pod.sandbox.clone()),
        ("CNI_NETNS", netns.to_string_lossy().into_owned()),
        ("CNI_IFNAME", INTERFACE.to_owned()),
        ("CNI_PATH", "/opt/cni/bin".to_owned()),
        ("CNI_ARGS", arguments),
    ];
    launch.run(&environment, configuration.to_string().as_bytes(), LIMIT)
}

/// The addresses in a CNI result.
fn addresses(result: &[u8]) -> Result<Vec<IpAddr>, String> {
    let result: Value = serde_json::from_slice(result).map_err(|error| error.to_string())?;
    let ips = result["ips"].as_array().ok_or("it has no `ips`")?;
    let parse = |ip: &Value| -> Result<IpAddr, String> {
        let text = ip["address"].as_str().ok_or("an address is missing")?;
        text.parse::<IpNet>().map(|net| net.addr()).map_err(|_| format!("`{text}` is no address"))
    };
    let found: Vec<_> = ips.iter().map(parse).collect::<Result<_, _>>()?;
    if found.is_empty() { Err("it has no addresses".into()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(result: &str, want: Result<&[&str], &str>) {
        let found = addresses(result.as_bytes());
        let want = want
            .map(|texts| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>())
            .map_err(str::to_owned);
        assert_eq!(found, want);
    }

    #[test]
    fn addresses_come_from_the_plugins_answer() {
        check(
            r#"{"ips": [{"address": "10.244.1.2/32"}, {"address": "fd00:10:244:1::2/128"}]}"#,
            Ok(&["10.244.1.2", "fd00:10:244:1::2"]),
        );
    }

    #[test]
    fn an_answer_without_addresses_is_not_taken_for_success() {
        check(r#"{"ips": []}"#, Err("it has no addresses"));
        check(r#"{}"#, Err("it has no `ips`"));
        check(r#"{"ips": [{"address": "ten"}]}"#, Err("`ten` is no address"));
    }
}
