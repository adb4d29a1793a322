//! The CNI plugin, called as a container runtime would call it.

use std::net::IpAddr;
use std::path::Path;
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
/// Version that Debian's plugins speak, too.
const CHAIN_VERSION: &str = "1.0.0";
/// Where Debian has plugins of others.
pub const PLUGINS: &str = "/usr/lib/cni";
/// The interface inside a pod.
const INTERFACE: &str = "eth0";
const LIMIT: Duration = Duration::from_secs(45);
/// How long the plugin waits for the agent: many pods come at once, and an emulated
/// machine is ten times slower.
const ENFORCE_TIMEOUT_MS: u32 = 30_000;

/// Gives a pod its interface; the last plugin answers with addresses.
pub fn add(site: &Site, pod: &Pod) -> Result<Vec<IpAddr>, Error> {
    let what = format!("connect the pod `{}`", pod.full_name());
    let malformed = |who: &str, detail: String| Error::Malformed {
        what: format!("the answer of `{who}` for `{}`", pod.full_name()),
        detail,
    };
    let mut configuration = own_configuration(site, pod)?;
    if let Some(first) = &site.cni {
        let output = call(site, pod, first_of(site, pod, first)?, "ADD", &what)?;
        let result = serde_json::from_slice(&output.stdout);
        configuration["prevResult"] =
            result.map_err(|error| malformed(first, error.to_string()))?;
    }
    let output = call(site, pod, own(site, configuration), "ADD", &what)?;
    addresses(&output.stdout).map_err(|detail| malformed("signet cni", detail))
}

/// Takes a pod's interface away, in the reverse order.
pub fn delete(site: &Site, pod: &Pod) -> Result<(), Error> {
    let what = format!("disconnect the pod `{}`", pod.full_name());
    call(site, pod, own(site, own_configuration(site, pod)?), "DEL", &what)?;
    if let Some(first) = &site.cni {
        call(site, pod, first_of(site, pod, first)?, "DEL", &what)?;
    }
    Ok(())
}

/// A plugin and what it is told.
struct Plugin {
    command: Vec<String>,
    configuration: Value,
}

fn own(site: &Site, configuration: Value) -> Plugin {
    let command = vec![site.signet.to_string_lossy().into_owned(), "cni".into()];
    Plugin { command, configuration }
}

fn own_configuration(site: &Site, pod: &Pod) -> Result<Value, Error> {
    let node = site.node(&pod.node)?;
    let mut configuration = json!({
        "cniVersion": if site.cni.is_some() { CHAIN_VERSION } else { CNI_VERSION },
        "name": "signet",
        "type": "signet",
        "node": node.name,
        "pins": site.places.pins(&node.name),
        "stateDir": site.places.state(&node.name),
        "enforceTimeoutMs": ENFORCE_TIMEOUT_MS,
    });
    match site.cni {
        Some(_) => configuration["chained"] = json!(true),
        None => configuration["subnets"] = json!(node.pod_cidrs),
    }
    Ok(configuration)
}

/// The plugin that makes the interface, with addresses from the node's ranges.
fn first_of(site: &Site, pod: &Pod, kind: &str) -> Result<Plugin, Error> {
    let node = site.node(&pod.node)?;
    let ranges: Vec<_> = node.pod_cidrs.iter().map(|range| json!([{"subnet": range}])).collect();
    let mut configuration = json!({
        "cniVersion": CHAIN_VERSION,
        "name": "signet",
        "type": kind,
        "ipam": {
            "type": "host-local",
            "dataDir": site.places.state(&node.name).join("host-local"),
            "ranges": ranges,
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    if kind == "bridge" {
        configuration["bridge"] = json!("cni0");
        configuration["isGateway"] = json!(true);
    }
    let program = Path::new(PLUGINS).join(kind);
    Ok(Plugin { command: vec![program.to_string_lossy().into_owned()], configuration })
}

fn call(
    site: &Site,
    pod: &Pod,
    plugin: Plugin,
    command: &str,
    what: &str,
) -> Result<Output, Error> {
    let node = site.node(&pod.node)?;
    let netns = site.places.netns(&pod.member());
    let launch = Launch {
        what,
        cgroup: &site.groups.setup(),
        netns: Some(&Netns::at(site.places.netns(&node.name))),
        command: plugin.command,
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
        ("CNI_PATH", PLUGINS.to_owned()),
        ("CNI_ARGS", arguments),
    ];
    launch.run(&environment, plugin.configuration.to_string().as_bytes(), LIMIT)
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
