//! What the lab runs of a Pod: its containers, as the runtime needs them.
//!
//! The rest of the manifest is kept as it is for those who read it (labels,
//! ports, service account). The image is the host's own root file system.

use manifest::{Document, Refusal, Value};

use serde_json::json;

use crate::definition::fields::Field;
use crate::definition::workload::Owner;

/// Runs when a container says nothing else.
const PAUSE: [&str; 2] = ["sleep", "infinity"];

/// Who a container runs as, and what it may do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Security {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
    /// Capabilities beyond the usual set, without `CAP_`; `ALL` for all.
    pub add: Vec<String>,
    /// Capabilities taken from the usual set.
    pub drop: Vec<String>,
}

/// One container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Container {
    /// Name within the pod.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment, in the order written.
    pub environment: Vec<(String, String)>,
    /// Working directory.
    pub directory: String,
    /// Who it runs as.
    pub security: Security,
    /// The TCP port that it listens on once it is ready.
    pub ready_port: Option<u16>,
}

impl Container {
    /// One that only waits.
    pub fn pause(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            command: PAUSE.map(str::to_owned).into(),
            environment: vec![],
            directory: "/".into(),
            security: Security::default(),
            ready_port: None,
        }
    }
}

/// What a pod has to do with names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// Nothing: the lab has no name server.
    #[default]
    Nameless,
    /// It asks the lab's name server.
    Client,
    /// It is the lab's name server.
    NameServer,
}

/// What the lab calls something of a cluster: what that cluster calls it, with the
/// cluster's name before it where that is not the lab's first.
pub fn qualified(cluster: Option<&str>, name: &str) -> String {
    cluster.map_or_else(|| name.to_owned(), |cluster| format!("{cluster}/{name}"))
}

/// One pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its cluster; `None`: the lab's first.
    pub cluster: Option<String>,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its node, when the manifest or the lab has placed it.
    pub node: Option<String>,
    /// Whether it is on its node's network.
    pub host_network: bool,
    /// Its containers, at least one.
    pub containers: Vec<Container>,
    /// Who made it; `None`: it was written as it is.
    pub owner: Option<Owner>,
    /// The manifest.
    pub object: serde_json::Value,
    /// What it has to do with names.
    pub role: Role,
}

impl Pod {
    /// `namespace/name`, with the cluster before it where that is not the first.
    pub fn full_name(&self) -> String {
        qualified(self.cluster.as_deref(), &format!("{}/{}", self.namespace, self.name))
    }

    /// The pod that a workload makes of its template under this name.
    pub fn named(&self, name: String, node: Option<String>, owner: &Owner) -> Self {
        let mut pod = self.clone();
        pod.object["metadata"]["name"] = json!(name);
        pod.name = name;
        pod.node = node.or(pod.node);
        pod.owner = Some(owner.clone());
        pod
    }
}

/// Reads a Pod; `None` when it is too wrong to go on with.
pub fn read(document: &Document, nodes: &[String], refusals: &mut Vec<Refusal>) -> Option<Pod> {
    let root = Field::root(document);
    let Some(metadata) = root.get("metadata") else {
        refusals.push(root.refuse("`metadata` is missing", None));
        return None;
    };
    let name = metadata.name_at("name", refusals)?;
    let namespace = match metadata.get("namespace") {
        Some(_) => metadata.name_at("namespace", refusals)?,
        None => "default".into(),
    };
    let Some(spec) = root.get("spec") else {
        refusals.push(root.refuse("`spec` is missing", None));
        return None;
    };
    of_spec(namespace, name, &spec, document.root.to_json(), nodes, refusals)
}

/// Reads what a pod's `spec` asks the lab to run.
pub fn of_spec(
    namespace: String,
    name: String,
    spec: &Field<'_>,
    object: serde_json::Value,
    nodes: &[String],
    refusals: &mut Vec<Refusal>,
) -> Option<Pod> {
    let host_network = spec.get("hostNetwork").is_some_and(|field| {
        let value = field.node().to_json();
        if !value.is_boolean() {
            refusals.push(field.refuse("must be true or false", None));
        }
        value == serde_json::Value::Bool(true)
    });
    let node = spec.text_at("nodeName", refusals);
    if let (Some(field), Some(node)) = (spec.get("nodeName"), &node)
        && !nodes.contains(node)
    {
        let reason = format!("there is no node `{node}`; the lab has {}", nodes.join(", "));
        refusals.push(field.refuse(reason, None));
    }
    let pod_security = security(spec, &Security::default(), refusals);
    let containers: Vec<_> = spec
        .items("containers", refusals)
        .iter()
        .filter_map(|field| container(field, &pod_security, refusals))
        .collect();
    if containers.is_empty() {
        refusals.push(spec.refuse("a pod needs at least one container", None));
    }
    let role = Role::default();
    let cluster = None;
    Some(Pod {
        cluster,
        namespace,
        name,
        node,
        host_network,
        containers,
        owner: None,
        object,
        role,
    })
}

fn container(field: &Field<'_>, pod: &Security, refusals: &mut Vec<Refusal>) -> Option<Container> {
    let name = field.name_at("name", refusals)?;
    let paused = Container::pause(&name);
    let mut command = field.texts("command", refusals);
    command.extend(field.texts("args", refusals));
    let mut environment = Vec::new();
    for variable in field.items("env", refusals) {
        if let Some(source) = variable.get("valueFrom") {
            refusals.push(
                source.refuse("the lab has nothing to take values from", Some("write `value`")),
            );
        }
        if let Some(name) = variable.text_at("name", refusals) {
            environment.push((name, variable.text_at("value", refusals).unwrap_or_default()));
        }
    }
    Some(Container {
        command: if command.is_empty() { paused.command } else { command },
        environment,
        directory: field.text_at("workingDir", refusals).unwrap_or(paused.directory),
        security: security(field, pod, refusals),
        ready_port: ready_port(field, refusals),
        name,
    })
}

/// The port of a readiness probe that asks for one. The lab looks whether
/// somebody listens there; it sends nothing.
fn ready_port(container: &Field<'_>, refusals: &mut Vec<Refusal>) -> Option<u16> {
    let probe = container.get("readinessProbe")?;
    let port = ["tcpSocket", "httpGet"].iter().find_map(|kind| probe.get(kind)?.get("port"))?;
    let number = match &port.node().value {
        Value::String(name) => {
            let ports = container.items("ports", refusals);
            let named = ports.iter().find(
                |it| matches!(it.get("name"), Some(field) if field.node().as_str() == Some(name)),
            );
            named.and_then(|it| it.get("containerPort")).and_then(|it| it.number(refusals))
        }
        _ => port.number(refusals),
    };
    let number = number.and_then(|number| u16::try_from(number).ok());
    if number.is_none() {
        refusals.push(port.refuse("is no port of this container", None));
    }
    number
}

fn security(field: &Field<'_>, inherited: &Security, refusals: &mut Vec<Refusal>) -> Security {
    let mut security = inherited.clone();
    let Some(context) = field.get("securityContext") else { return security };
    if let Some(user) = context.get("runAsUser").and_then(|user| user.number(refusals)) {
        security.user = user;
    }
    if let Some(group) = context.get("runAsGroup").and_then(|group| group.number(refusals)) {
        security.group = group;
    }
    if let Some(capabilities) = context.get("capabilities") {
        security.add = capabilities.texts("add", refusals);
        security.drop = capabilities.texts("drop", refusals);
        for name in security.add.iter().chain(&security.drop) {
            if !crate::container::capability::is_known(name) {
                let reason = format!("there is no capability `{name}`");
                refusals.push(capabilities.refuse(reason, Some("write it as `NET_ADMIN`")));
            }
        }
    }
    security
}
