//! The network configuration on stdin: what an operator may write, checked.
//!
//! Knows the text, not the node: nothing here looks at files or interfaces.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::attachment::{Attachment, is_container_id};
use crate::failure::{Code, Failure};
use crate::result::{Dns, Previous};
use crate::version::Version;

/// Fields that the specification allows in every configuration.
const SPEC_FIELDS: &[&str] =
    &["args", "capabilities", "cniVersion", "dns", "name", "prevResult", "runtimeConfig", "type"];

/// Prefix of the fields that the specification reserves for runtimes.
const RUNTIME_PREFIX: &str = "cni.dev/";

/// What a runtime says is still in use, for GC.
const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";

/// Fields of this plugin.
const OWN_FIELDS: &[&str] =
    &["chained", "enforceTimeoutMs", "mtu", "node", "pins", "stateDir", "subnets"];

/// How long ADD waits for the agent when the configuration does not say.
const DEFAULT_ENFORCE_TIMEOUT_MS: u64 = 10_000;

/// Longest wait that may be asked for: runtimes give up long before.
const LONGEST_ENFORCE_TIMEOUT_MS: u64 = 600_000;

/// Exactly what an operator may write, with the JSON types it must have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NetworkFile {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    node: String,
    #[serde(default)]
    pins: PathBuf,
    #[serde(default)]
    state_dir: PathBuf,
    #[serde(default)]
    chained: bool,
    #[serde(default)]
    subnets: Vec<String>,
    mtu: Option<u32>,
    enforce_timeout_ms: Option<u64>,
    #[serde(default)]
    dns: Dns,
    prev_result: Option<Previous>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<AttachmentFile>>,
}

/// An attachment as runtimes list it for GC.
#[derive(Deserialize)]
struct AttachmentFile {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

/// What the plugin runs on: every value legal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetworkConfig {
    /// The version to answer in.
    pub version: Version,
    /// Name of the network.
    pub name: String,
    /// Name of the node.
    pub node: String,
    /// Folder of the pinned programs.
    pub pins: PathBuf,
    /// Folder of the node's state.
    pub state_dir: PathBuf,
    /// Whether another plugin made the interface, and this one only guards it.
    pub chained: bool,
    /// Where addresses come from: at most one subnet of each family; chained, none.
    pub subnets: Vec<IpNet>,
    /// MTU of pods' interfaces; `None`: the kernel's choice.
    pub mtu: Option<u32>,
    /// How long ADD waits for a running agent.
    pub enforce_timeout: Duration,
    /// Carried through to the result.
    pub dns: Dns,
    /// What ADD answered: required by CHECK, and by a chained ADD; any other ADD
    /// refuses it.
    pub previous: Option<Previous>,
    /// The same as it was given.
    pub given: Option<Value>,
    /// What is still in use; required by GC.
    pub valid_attachments: Option<Vec<Attachment>>,
}

/// Reads the version alone: VERSION comes with nothing else, and a failure is
/// answered in the caller's version even when the rest is wrong.
pub fn version(text: &str) -> Option<Version> {
    let object: Map<String, Value> = serde_json::from_str(text).ok()?;
    Version::from_name(object.get("cniVersion")?.as_str()?)
}

impl NetworkConfig {
    /// The folder of endpoint records.
    pub fn endpoints(&self) -> PathBuf {
        self.state_dir.join("endpoints")
    }

    /// Reads and checks a configuration.
    pub fn read(text: &str) -> Result<Self, Failure> {
        let object: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| decode(&format!("network configuration: {error}")))?;
        let version = spoken(&object)?;
        refuse_unknown(&object)?;
        let given = object.get("prevResult").cloned();
        let file: NetworkFile = serde_json::from_value(Value::Object(object))
            .map_err(|error| decode(&format!("network configuration: {error}")))?;
        let config = check(version, file).map_err(|problems| {
            Failure::new(
                Code::InvalidConfig,
                format!("network configuration: {}", problems.join("; ")),
            )
        })?;
        Ok(Self { given, ..config })
    }
}

fn decode(message: &str) -> Failure {
    Failure::new(Code::Decode, message)
}

/// CNI specification, "Version considerations".
fn spoken(object: &Map<String, Value>) -> Result<Version, Failure> {
    let written = object.get("cniVersion").and_then(Value::as_str).unwrap_or_default();
    Version::from_name(written).ok_or_else(|| {
        let spoken = Version::ALL.map(Version::as_str).join(", ");
        Failure::new(
            Code::IncompatibleVersion,
            format!("cniVersion `{written}` is not spoken here: use one of {spoken}"),
        )
    })
}

/// A field that nobody reads is a setting that does not hold: refused by name
/// and value, as the specification wants it.
fn refuse_unknown(object: &Map<String, Value>) -> Result<(), Failure> {
    let known = |key: &str| {
        SPEC_FIELDS.contains(&key) || OWN_FIELDS.contains(&key) || key.starts_with(RUNTIME_PREFIX)
    };
    let unknown: Vec<String> = object
        .iter()
        .filter(|(key, _)| !known(key))
        .map(|(key, value)| format!("`{key}` with value {value}"))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::UnsupportedField, format!("unsupported field {}", unknown.join(", "))))
}

fn check(version: Version, file: NetworkFile) -> Result<NetworkConfig, Vec<String>> {
    // No `..`: a new field does not compile until it is handled here.
    let NetworkFile {
        name,
        kind,
        node,
        pins,
        state_dir,
        chained,
        subnets,
        mtu,
        enforce_timeout_ms,
        dns,
        prev_result: previous,
        valid_attachments,
    } = file;
    let mut problems = Vec::new();
    let mut demand = |holds: bool, problem: String| {
        if !holds {
            problems.push(problem);
        }
    };
    // The rule for network names is the one for container ids.
    demand(is_container_id(&name), format!("name `{name}` is not a name of a network"));
    demand(kind == "signet", format!("type is `{kind}`, this plugin is `signet`"));
    demand(!node.is_empty(), "node is missing: the name of this node".into());
    demand(is_plain(&pins), format!("pins `{}` is not a plain absolute path", pins.display()));
    demand(
        is_plain(&state_dir),
        format!("stateDir `{}` is not a plain absolute path", state_dir.display()),
    );
    // 1280: the least that IPv6 works with (RFC 8200 section 5).
    demand(
        mtu.is_none_or(|mtu| (1280..=65535).contains(&mtu)),
        format!("mtu {} is not between 1280 and 65535", mtu.unwrap_or_default()),
    );
    let timeout_ms = enforce_timeout_ms.unwrap_or(DEFAULT_ENFORCE_TIMEOUT_MS);
    demand(
        (1..=LONGEST_ENFORCE_TIMEOUT_MS).contains(&timeout_ms),
        format!("enforceTimeoutMs {timeout_ms} is not between 1 and {LONGEST_ENFORCE_TIMEOUT_MS}"),
    );
    demand(
        !chained || subnets.is_empty() && mtu.is_none(),
        "chained, the plugin before gives addresses and the MTU: leave out subnets and mtu".into(),
    );
    let subnets = match chained {
        true => vec![],
        false => check_subnets(&subnets, &mut problems),
    };
    let valid_attachments = check_attachments(valid_attachments, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(NetworkConfig {
        version,
        name,
        node,
        pins,
        state_dir,
        chained,
        subnets,
        mtu,
        enforce_timeout: Duration::from_millis(timeout_ms),
        dns,
        previous,
        given: None,
        valid_attachments,
    })
}

/// Absolute, and without `..` that would lead elsewhere than it reads.
fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

fn check_subnets(texts: &[String], problems: &mut Vec<String>) -> Vec<IpNet> {
    let mut subnets: Vec<IpNet> = Vec::new();
    for text in texts {
        match check_subnet(text) {
            Err(problem) => problems.push(format!("subnet `{text}` {problem}")),
            Ok(subnet) => {
                let same_family =
                    subnets.iter().any(|other| other.addr().is_ipv4() == subnet.addr().is_ipv4());
                if same_family {
                    problems.push(format!("subnet `{text}` is a second one of its family"));
                }
                subnets.push(subnet);
            }
        }
    }
    if texts.is_empty() {
        problems.push("subnets is missing: an IPv4 subnet, an IPv6 subnet or both".into());
    }
    subnets
}

fn check_subnet(text: &str) -> Result<IpNet, &'static str> {
    let subnet: IpNet = text.parse().map_err(|_| "is not ADDRESS/LENGTH")?;
    if subnet != subnet.trunc() {
        return Err("has bits set beyond its length");
    }
    // Network, gateway and broadcast are never given: something must remain.
    if subnet.prefix_len() > subnet.max_prefix_len() - 2 {
        return Err("is too small: /30 or /126 at most");
    }
    let unusable = match subnet.network() {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_unspecified()
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_multicast()
                || address.is_unspecified()
        }
    };
    if unusable {
        return Err("is not a range of unicast addresses that can be routed");
    }
    Ok(subnet)
}

fn check_attachments(
    files: Option<Vec<AttachmentFile>>,
    problems: &mut Vec<String>,
) -> Option<Vec<Attachment>> {
    let mut attachments = Vec::new();
    for AttachmentFile { container_id, ifname } in files? {
        match Attachment::new(&container_id, &ifname) {
            Ok(attachment) => attachments.push(attachment),
            Err(error) => problems.push(format!("{VALID_ATTACHMENTS}: {error}")),
        }
    }
    Some(attachments)
}

#[cfg(test)]
mod tests;
