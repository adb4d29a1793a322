//! Changes the labels of a pod that runs, as `kubectl label` does, and tells when
//! the new identity is enforced everywhere.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use api::proto::signet::v1 as signet;
use model::LabelFilter;
use serde_json::json;

use crate::error::Error;
use crate::journal::Pod;
use crate::lab::Lab;
use crate::objects;
use crate::relay;

const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// One change of a label.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Label {
    /// Its key.
    pub key: String,
    /// Its new value; `None`: it goes.
    pub value: Option<String>,
}

impl std::str::FromStr for Label {
    type Err = String;

    /// `KEY=VALUE`, or `KEY-` to take it away.
    fn from_str(text: &str) -> Result<Self, String> {
        let label = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => Self { key: key.into(), value: Some(value.into()) },
            (None, Some(key)) => Self { key: key.into(), value: None },
            (None, None) => return Err(format!("`{text}` is neither KEY=VALUE nor KEY-")),
        };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        let value = label.value.as_deref().unwrap_or_default();
        if label.key.is_empty() || !label.key.bytes().chain(value.bytes()).all(legal) {
            return Err(format!("`{text}` is not a label that Kubernetes would accept"));
        }
        Ok(label)
    }
}

impl Lab {
    /// Changes labels of a pod; returns how long it took until its own node judged
    /// it by them and every node knew its new identity.
    pub fn label(&self, name: &str, labels: &[Label]) -> Result<Duration, Error> {
        let pod = self.pod(name)?;
        let folder = self.places.objects(pod.cluster.as_deref());
        let place = objects::pod(
            &json!({"kind": "Pod", "metadata": {"name": pod.name}, "spec": {}}),
            &pod.namespace,
            &pod.node,
            &[],
        );
        let mut object = objects::written(&folder, &place).ok_or_else(|| {
            Error::Unknown(format!("the cluster has no object for pod `{}`", pod.full_name()))
        })?;
        let present = &mut object["metadata"]["labels"];
        if !present.is_object() {
            *present = json!({});
        }
        for label in labels {
            match (&label.value, present.as_object_mut()) {
                (Some(value), Some(all)) => {
                    all.insert(label.key.clone(), json!(value));
                }
                (None, Some(all)) => {
                    all.shift_remove(&label.key);
                }
                (_, None) => {}
            }
        }
        let start = Instant::now();
        objects::write(&folder, &object)?;
        self.wait_for_labels(pod, labels)?;
        Ok(start.elapsed())
    }

    fn wait_for_labels(&self, pod: &Pod, labels: &[Label]) -> Result<(), Error> {
        // The others change no identity, so nobody will ever see them.
        let filter = LabelFilter::default();
        let labels: Vec<&Label> =
            labels.iter().filter(|label| filter.keeps_of_pod(&label.key)).collect();
        relay::ask(&self.places.relay_socket(), |channel| async move {
            let mut client = relay::signet(channel);
            let deadline = Instant::now() + LIMIT;
            loop {
                let endpoints = client.list_endpoints(signet::ListEndpointsRequest {}).await;
                let endpoints =
                    endpoints.map_err(relay::refused("ListEndpoints"))?.into_inner().endpoints;
                let identities = client.list_identities(signet::ListIdentitiesRequest {}).await;
                let identities =
                    identities.map_err(relay::refused("ListIdentities"))?.into_inner().identities;
                let own = endpoints
                    .iter()
                    .find(|it| crate::ready::is_of(it, pod))
                    .filter(|it| it.ready && labels.iter().all(|label| carries(&it.labels, label)));
                let known = own.and_then(|own| identities.iter().find(|it| it.id == own.identity));
                if known.is_some_and(|known| self.all_nodes_know(known, pod)) {
                    return Ok(());
                }
                if Instant::now() > deadline {
                    let what = format!("the new identity of pod `{}`", pod.full_name());
                    let log = self.places.run();
                    return Err(Error::NotReady { what, seconds: LIMIT.as_secs(), log });
                }
                tokio::time::sleep(PAUSE).await;
            }
        })
    }

    /// All nodes of the pod's cluster: the others do not know it.
    fn all_nodes_know(&self, identity: &signet::Identity, pod: &Pod) -> bool {
        let known: BTreeSet<_> =
            identity.nodes.iter().map(|node| crate::ready::bare(node)).collect();
        let mut nodes = self.journal.nodes_of(pod.cluster.as_deref());
        nodes.all(|node| known.contains(node.name.as_str()))
    }
}

/// Whether labels as identities have them (`k8s:app=web`) hold the change.
fn carries(labels: &[String], change: &Label) -> bool {
    let prefix = format!("k8s:{}=", change.key);
    let found = labels.iter().find_map(|label| label.strip_prefix(&prefix));
    found == change.value.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_value_or_a_removal() {
        let change = |text: &str| text.parse::<Label>().map(|it| (it.key, it.value));
        assert_eq!(change("env=prod"), Ok(("env".into(), Some("prod".into()))));
        assert_eq!(change("scope-"), Ok(("scope".into(), None)));
        assert!(change("scope").is_err());
        assert!(change("=x").is_err());
        assert!(change("a=b c").is_err());
    }

    #[test]
    fn a_removed_label_must_be_gone() {
        let labels = ["k8s:app=web".to_owned()];
        assert!(carries(&labels, &Label { key: "app".into(), value: Some("web".into()) }));
        assert!(!carries(&labels, &Label { key: "app".into(), value: None }));
        assert!(carries(&labels, &Label { key: "env".into(), value: None }));
    }
}
