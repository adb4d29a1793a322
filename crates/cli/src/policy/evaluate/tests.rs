//! What is printed for probes.

use super::*;

const MANIFESTS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: a, labels: {app: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: pay, namespace: a, labels: {app: pay}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: a}
spec:
  endpointSelector: {matchLabels: {app: pay}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]
";

/// What is printed for a line of probes, or for a reader.
fn answered(line: &str, explain: bool) -> (Value, String) {
    let documents = manifest::read("f", MANIFESTS).unwrap_or_default();
    let policies = manifest::policies(&documents).policies;
    let (cluster, _) = manifest::cluster(&documents);
    let options = policy::Options::default();
    let asked = Beside::new(Asked::new(&cluster, &policies, &options), None, &options);
    let (probe, value) = answer_line(&asked, line, 7, explain);
    let answer = Ask::from_json(&probe).and_then(|ask| asked.live.answer(&ask));
    (value, answer.map(|answer| shown(&answer, explain)).unwrap_or_default())
}

#[test]
fn unknown_keys_are_kept_and_bad_lines_are_answered() {
    let (value, _) =
        answered(r#"{"id":"x","from":"pod:a/web","to":"pod:a/pay","port":80,"y":[1]}"#, false);
    assert_eq!(value["verdict"], "allowed");
    assert_eq!(value["y"], json!([1]));
    assert_eq!(value["rule"], "CiliumNetworkPolicy/a/p#spec.ingress[0]");
    assert_eq!(value["egress"]["reason"], "unenforced");
    let (value, _) = answered("nonsense", false);
    assert_eq!((&value["verdict"], &value["line"]), (&json!("error"), &json!(7)));
    let (value, _) = answered(r#"{"id":"x","from":"pod:a/web"}"#, false);
    assert_eq!((&value["verdict"], &value["id"]), (&json!("error"), &json!("x")));
}

#[test]
fn a_denial_is_explained_with_the_rule_that_would_allow_it() {
    let (value, text) = answered(r#"{"from":"pod:a/web","to":"pod:a/pay","port":81}"#, true);
    assert_eq!(value["explain"][1]["rules"][0]["because"], "it is about TCP 80, not TCP 81");
    assert!(text.starts_with("denied\n"), "{text}");
    assert!(text.contains("`CiliumNetworkPolicy/a/p` switched default deny on"), "{text}");
    let suggested: String = text
        .lines()
        .skip_while(|line| !line.contains("apiVersion"))
        .map(|line| format!("{}\n", line.strip_prefix("          ").unwrap_or(line)))
        .collect();
    let documents = manifest::read("f", &suggested).unwrap_or_default();
    assert_eq!(manifest::policies(&documents).policies.len(), 1, "{suggested}");
    assert!(suggested.contains("port: \"81\", protocol: TCP"), "{suggested}");
}
