//! What manifests mean for a probe, to be compared with what really happened.
//!
//! The answer comes from the same place as that of `signet policy evaluate`: from
//! objects alone, without this lab.

use std::path::PathBuf;

use manifest::{Document, Refusal};
use policy::Options;
use policy::question::{Answer, Ask, Asked, Cluster, SideAnswer};
use serde_json::{Map, Value};

use crate::definition;
use crate::error::Error;
use crate::probe::flows::{Decision, Decisions};

/// A cluster and its policies, as some directories describe them.
#[derive(Debug)]
pub struct Meaning {
    cluster: Cluster,
    policies: Vec<policy::Policy>,
    options: Options,
}

impl Meaning {
    /// Of the manifests directly in these directories, for a cluster of that name.
    pub fn of(directories: &[PathBuf], cluster: &str) -> Result<Self, Error> {
        let mut documents: Vec<Document> = Vec::new();
        let mut refusals: Vec<Refusal> = Vec::new();
        for directory in directories {
            definition::documents(directory, &mut documents, &mut refusals)?;
        }
        let outcome = manifest::policies(&documents);
        let options = Options { cluster: cluster.to_owned(), ..Options::default() };
        let (cluster, unsound) = manifest::cluster(&documents);
        refusals.extend(outcome.refusals.into_iter().chain(unsound));
        if refusals.is_empty() {
            Ok(Self { cluster, policies: outcome.policies, options })
        } else {
            Err(Error::Refused(refusals))
        }
    }

    /// For each of these probes.
    pub fn answers<'a>(
        &self,
        probes: impl Iterator<Item = &'a Map<String, Value>>,
    ) -> Vec<Result<Answer, String>> {
        let asked = Asked::new(&self.cluster, &self.policies, &self.options);
        let answer = |probe| Ask::from_json(probe).and_then(|ask| asked.answer(&ask));
        probes.map(|probe| answer(probe).map_err(|error| error.to_string())).collect()
    }
}

/// How what happened and was reported differs from what manifests mean.
pub fn differences(verdict: &str, decisions: &Decisions, meant: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if verdict != meant.verdict.as_str() {
        found.push(format!("verdict: {verdict}, manifests mean {}", meant.verdict.as_str()));
    }
    for (side, decision, meant) in [
        ("egress", &decisions.egress, &meant.egress),
        ("ingress", &decisions.ingress, &meant.ingress),
    ] {
        match (decision, meant) {
            (Some(decision), Some(meant)) => found.extend(compare(side, decision, meant)),
            (Some(_), None) => found.push(format!("{side}: judged, manifests mean that nobody is")),
            // What never came so far was not judged; what had to be is asked elsewhere.
            (None, _) => {}
        }
    }
    found
}

fn compare(side: &str, decision: &Decision, meant: &SideAnswer) -> Vec<String> {
    let texts = |list: Vec<String>| {
        let mut list = list;
        list.sort();
        if list.is_empty() { "none".to_owned() } else { list.join(", ") }
    };
    let verdict = if decision.allowed { "allowed" } else { "denied" };
    let rules = meant.rules.iter().map(ToString::to_string).collect();
    let because = meant.because.iter().map(ToString::to_string).collect();
    [
        ("verdict", verdict.to_owned(), meant.verdict.as_str().to_owned()),
        ("reason", decision.reason.clone(), meant.reason.to_owned()),
        ("rules", texts(decision.rules.clone()), texts(rules)),
        ("because", texts(decision.because.clone()), texts(because)),
    ]
    .into_iter()
    .filter(|(_, found, meant)| found != meant)
    .map(|(what, found, meant)| format!("{side} {what}: {found}, manifests mean {meant}"))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MANIFESTS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: x}
spec:
  endpointSelector: {matchLabels: {app: b}}
  ingress: [{fromEndpoints: [{matchLabels: {app: a}}], toPorts: [{ports: [{port: \"80\"}]}]}]
";

    fn meant(port: u16) -> Answer {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.yaml"), MANIFESTS).unwrap();
        let meaning = Meaning::of(&[directory.path().to_owned()], "default").unwrap();
        let probe = json!({"from": "pod:x/a", "to": "pod:x/b", "port": port});
        meaning.answers(probe.as_object().into_iter()).remove(0).unwrap()
    }

    fn decision(allowed: bool, reason: &str, rules: &[&str]) -> Option<Decision> {
        Some(Decision {
            allowed,
            code: 0,
            reason: reason.into(),
            rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
            because: vec![],
            program: Ok("nc".into()),
            sender: Ok("nc".into()),
        })
    }

    #[test]
    fn what_manifests_mean_is_no_difference() {
        let decisions = Decisions {
            egress: decision(true, "unenforced", &[]),
            ingress: decision(true, "rule", &["CiliumNetworkPolicy/x/p#spec.ingress[0]"]),
        };
        assert_eq!(differences("allowed", &decisions, &meant(80)), Vec::<String>::new());
    }

    #[test]
    fn every_difference_names_its_end() {
        let decisions = Decisions {
            egress: decision(true, "unenforced", &[]),
            ingress: decision(true, "unenforced", &[]),
        };
        let found = differences("allowed", &decisions, &meant(81));
        assert_eq!(
            found,
            [
                "verdict: allowed, manifests mean denied",
                "ingress verdict: allowed, manifests mean denied",
                "ingress reason: unenforced, manifests mean default-deny",
                "ingress because: none, manifests mean CiliumNetworkPolicy/x/p",
            ]
        );
    }
}
