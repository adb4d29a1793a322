//! What directories of manifests are taken for, and what is refused where.

use super::*;

const LAB: &str = "apiVersion: signet.dev/v1alpha1\nkind: Lab\nmetadata: {name: tiny}\n";

pub(super) fn read_texts(files: &[(&str, &str)]) -> Result<Definition, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("lab-7");
    fs::create_dir(&directory).unwrap();
    for (name, text) in files {
        fs::write(directory.join(name), text).unwrap();
    }
    let prefix = format!("{}/", directory.canonicalize().unwrap().display());
    read(&directory).map_err(|error| {
        error.to_string().lines().map(|line| line.trim_start_matches(&prefix).to_owned()).collect()
    })
}

fn pod(name: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: web}}\n\
         spec:\n  containers: [{{name: main}}]\n{rest}"
    )
}

#[track_caller]
fn check_refused(spec: &str, want: &[&str]) {
    let lab = format!("{LAB}{spec}");
    assert_eq!(read_texts(&[("lab.yaml", &lab)]).unwrap_err(), want);
}

#[test]
fn a_lab_that_says_nothing_has_two_nodes_and_the_internet() {
    let definition = read_texts(&[("lab.yaml", LAB)]).unwrap();
    assert_eq!(definition.name.as_str(), "tiny");
    assert_eq!(definition.cluster, "default");
    let nodes: Vec<_> = definition.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(nodes, ["node-1", "node-2"]);
    let texts =
        |items: &[std::net::IpAddr]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&definition.nodes[1].addresses), ["172.20.0.12", "fd00:172:20::12"]);
    let ranges: Vec<_> = definition.nodes[1].pod_cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.244.2.0/24", "fd00:10:244:2::/64"]);
    assert_eq!(texts(&definition.external[0].addresses), ["198.51.100.7", "2001:db8:ffff::7"]);
}

#[test]
fn without_a_lab_object_the_directory_gives_the_name() {
    let definition = read_texts(&[("pods.yaml", &pod("a", ""))]).unwrap();
    assert_eq!(definition.name.as_str(), "lab-7");
}

#[test]
fn pods_go_to_nodes_in_turn_unless_they_are_placed() {
    let text = pod("c", "") + &pod("b", "  nodeName: node-2\n") + &pod("a", "");
    let definition = read_texts(&[("pods.yaml", &text)]).unwrap();
    let placed: Vec<_> = definition
        .pods
        .iter()
        .map(|pod| format!("{} {}", pod.name, pod.node.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(placed, ["a node-1", "b node-2", "c node-2"]);
}

#[test]
fn namespaces_that_nobody_wrote_exist_all_the_same() {
    let definition = read_texts(&[("pods.yaml", &pod("a", ""))]).unwrap();
    assert_eq!(definition.objects.len(), 1);
    assert_eq!(definition.objects[0]["metadata"]["name"], "web");
}

#[test]
fn unknown_fields_of_a_lab_are_refused_where_they_stand() {
    check_refused(
        "spec:\n  nodes:\n    - name: a\n      adresses: []\n",
        &[
            "lab.yaml:7:7: spec.nodes[0].adresses: unknown field; known here: name, labels, annotations, addresses, podCIDRs",
        ],
    );
}

#[test]
fn every_mistake_is_told_at_once() {
    check_refused(
        "spec:\n  cluster: Big\n  nodes:\n    - name: a\n      addresses: [10.0.0.1]\n",
        &[
            "lab.yaml:5:12: spec.cluster: `Big` is not a name of at most 63 of a-z, 0-9 and `-`",
            "lab.yaml:8:18: spec.nodes[0].addresses: needs IPv4 and IPv6 (fix: write both, or neither)",
        ],
    );
}

#[test]
fn addresses_that_two_would_share_are_refused() {
    check_refused(
        "spec:\n  external:\n    - name: a\n      addresses: [172.20.0.11, \"2001:db8::1\"]\n",
        &[
            "lab.yaml:5:3: spec: `172.20.0.11/32` and `172.20.0.11/32` overlap; give each node and host its own",
        ],
    );
}

#[test]
fn names_that_two_would_share_are_refused() {
    check_refused(
        "spec:\n  external:\n    - name: node-1\n    - name: fabric\n",
        &[
            "lab.yaml:5:3: spec: `node-1` is taken; nodes and external hosts need names of their own",
            "lab.yaml:5:3: spec: `fabric` is taken; nodes and external hosts need names of their own",
        ],
    );
}

#[test]
fn a_kind_that_the_lab_cannot_run_is_refused() {
    let text = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: a}\nspec: {}\n";
    assert_eq!(
        read_texts(&[("d.yaml", text)]).unwrap_err(),
        ["d.yaml:1:1: the lab cannot run a CronJob; it runs Pods, DaemonSets, Deployments, \
             StatefulSets, Services, Namespaces and policies"]
    );
}

fn workload(kind: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: a, namespace: web}}\n\
         spec:\n  selector: {{matchLabels: {{app: a}}}}\n  template:\n    metadata: {{labels: {{app: a, tier: x}}}}\n    \
         spec:\n      containers: [{{name: main, ports: [{{name: http, containerPort: 80}}], \
         readinessProbe: {{tcpSocket: {{port: http}}}}}}]\n{rest}"
    )
}

fn pods(text: &str) -> Vec<String> {
    let definition = read_texts(&[("w.yaml", text)]).unwrap();
    let place = |pod: &Pod| {
        let node = pod.node.as_deref().unwrap_or_default();
        format!("{} {node}", pod.full_name())
    };
    definition.pods.iter().map(place).collect()
}

#[test]
fn workloads_make_pods_with_names_that_stay() {
    assert_eq!(
        pods(&workload("Deployment", "  replicas: 3\n")),
        ["web/a-1 node-1", "web/a-2 node-2", "web/a-3 node-1"]
    );
    assert_eq!(pods(&workload("StatefulSet", "")), ["web/a-0 node-1"]);
    assert_eq!(pods(&workload("DaemonSet", "")), ["web/a-node-1 node-1", "web/a-node-2 node-2"]);
    assert_eq!(pods(&workload("Deployment", "  replicas: 0\n")), [] as [&str; 0]);
}

#[test]
fn pods_of_a_workload_carry_its_labels_and_name_it() {
    let definition = read_texts(&[("w.yaml", &workload("Deployment", ""))]).unwrap();
    let pod = &definition.pods[0];
    assert_eq!(pod.containers[0].ready_port, Some(80));
    let metadata = &pod.object["metadata"];
    assert_eq!(metadata["labels"]["tier"], "x");
    assert_eq!(metadata["namespace"], "web");
    let owner = &metadata["ownerReferences"][0];
    let hash = metadata["labels"]["pod-template-hash"].as_str().unwrap();
    assert_eq!(owner["name"], format!("a-{hash}"));
    assert_eq!(owner["controller"], true);
}

#[test]
fn a_selector_that_its_own_pods_do_not_match_is_refused() {
    let text = workload("Deployment", "").replace("matchLabels: {app: a}", "matchLabels: {app: b}");
    assert_eq!(
        read_texts(&[("w.yaml", &text)]).unwrap_err(),
        ["w.yaml:6:27: spec.selector.matchLabels: the template's pods do not carry `app: b`"]
    );
}

#[test]
fn more_replicas_than_a_lab_can_carry_are_refused() {
    let text = workload("Deployment", "  replicas: 65\n");
    let refusals = read_texts(&[("w.yaml", &text)]).unwrap_err();
    assert!(
        refusals[0].ends_with("spec.replicas: the lab runs at most 64 replicas"),
        "{refusals:?}"
    );
}

#[test]
fn two_pods_of_one_name_are_refused_also_when_a_workload_makes_one() {
    let text = workload("Deployment", "") + &pod("a-1", "");
    let refusals = read_texts(&[("w.yaml", &text)]).unwrap_err();
    assert!(refusals[0].ends_with("a pod `web/a-1` exists already"), "{refusals:?}");
}

#[test]
fn a_readiness_port_that_the_container_does_not_have_is_refused() {
    let text = workload("Deployment", "").replace("port: http}", "port: grpc}");
    let refusals = read_texts(&[("w.yaml", &text)]).unwrap_err();
    assert!(refusals[0].contains("is no port of this container"), "{refusals:?}");
}

#[test]
fn ports_on_which_a_host_listens_are_numbers() {
    check_refused(
        "spec:\n  external:\n    - name: a\n      listens: [70000]\n",
        &["lab.yaml:7:17: spec.external[0].listens[0]: is no port"],
    );
}

#[test]
fn a_policy_that_would_not_be_enforced_is_refused() {
    let text = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
                metadata: {name: a, namespace: web}\n\
                spec:\n  endpointSelector: {}\n  ingres: []\n";
    let refusals = read_texts(&[("p.yaml", text)]).unwrap_err();
    assert!(refusals.iter().any(|it| it.starts_with("p.yaml:6:3: spec.ingres: ")), "{refusals:?}");
}

#[test]
fn what_a_pod_cannot_have_here_is_refused() {
    let text = pod("a", "  nodeName: node-9\n  hostNetwork: maybe\n");
    assert_eq!(
        read_texts(&[("p.yaml", &text)]).unwrap_err(),
        [
            "p.yaml:8:16: spec.hostNetwork: must be true or false",
            "p.yaml:7:13: spec.nodeName: there is no node `node-9`; the lab has node-1, node-2",
        ]
    );
}

#[test]
fn two_pods_of_one_name_are_refused() {
    let text = pod("a", "") + &pod("a", "");
    let refusals = read_texts(&[("p.yaml", &text)]).unwrap_err();
    assert_eq!(refusals.len(), 1);
    assert!(refusals[0].ends_with("a pod `web/a` exists already"), "{refusals:?}");
}

#[test]
fn agents_are_told_what_the_lab_says() {
    let agent = |text: &str| {
        format!("apiVersion: signet.dev/v1alpha1\nkind: Lab\nspec: {{agent: {{{text}}}}}\n")
    };
    let text = agent("hostPolicyConfirmSeconds: 5, allowLocalhost: policy");
    let read = read_texts(&[("l.yaml", &text)]).unwrap();
    let want = ["--allow-localhost", "policy", "--host-policy-confirm-seconds", "5"];
    assert_eq!(read.agent, want);
    let text = agent("hostPolicyConfirmSeconds: 0, allowLocalhost: never");
    let refusals = read_texts(&[("l.yaml", &text)]).unwrap_err();
    assert_eq!(refusals.len(), 2, "{refusals:?}");
}
