//! Plans of small clusters, expected by hand.

use model::{Direction, Labels};
use policy::Why;

use super::*;
use crate::testing::{
    self, CLUSTER, RULE, addresses, api, db, identity, options, record, replan, replan as plan,
};

/// The plan of a cluster with both local pods wired.
fn usual(text: &str) -> Plan {
    testing::plan(text, &[api(), db()])
}

/// The next plan after `before`.
fn next(before: &Plan, text: &str, records: &[EndpointRecord]) -> Plan {
    plan(&testing::inputs(text, records), &options(), Some(before))
}

/// The view of a pod's interface.
#[track_caller]
fn view<'a>(plan: &'a Plan, name: &str) -> &'a EndpointView {
    plan.endpoints.iter().find(|endpoint| endpoint.record.pod == testing::pod(name)).unwrap()
}

/// Why the records of these interfaces are left out; empty: installed.
#[track_caller]
fn check_left_out(plan: &Plan, want: &[(u32, &str)]) {
    let mut found: Vec<(u32, String)> = plan
        .endpoints
        .iter()
        .map(|endpoint| {
            let reason = endpoint.left_out.as_ref().map(ToString::to_string);
            (endpoint.record.ifindex, reason.unwrap_or_default())
        })
        .collect();
    found.sort();
    let found: Vec<(u32, &str)> =
        found.iter().map(|(ifindex, reason)| (*ifindex, reason.as_str())).collect();
    assert_eq!(found, want);
    let installed: Vec<u32> =
        want.iter().filter(|(_, reason)| reason.is_empty()).map(|(ifindex, _)| *ifindex).collect();
    assert_eq!(plan.desired.endpoints.keys().copied().collect::<Vec<_>>(), installed);
}

/// Who is behind an address, as the datapath is told.
#[track_caller]
fn check_address(plan: &Plan, address: &str, want: Option<IdentityId>) {
    let address: IpAddr = address.parse().unwrap();
    assert_eq!(plan.desired.addresses.get(&address).copied(), want, "{address}");
}

#[test]
fn a_wired_pod_is_installed_as_itself() {
    let plan = usual(CLUSTER);
    let installed = &plan.desired.endpoints[&5];
    assert_ne!(installed.id, 0);
    assert_eq!(installed.identity, identity(&plan, "payment/api"));
    assert_eq!(installed.mac, [2, 0, 0, 0, 0, 5]);
    assert_eq!(installed.ipv4, Some("10.1.0.5".parse().unwrap()));
    assert_eq!(installed.ipv6, Some("fd00:1::5".parse().unwrap()));
    assert_eq!(installed.netns_id, 45);
    assert!(plan.desired.tables.contains_key(&installed.table));
    assert_eq!(plan.desired.endpoints[&6].ipv6, None);
    assert_eq!(
        view(&plan, "payment/api").identity.as_ref().unwrap().1.to_strings(),
        [
            "k8s:app=api",
            "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=payment",
            "k8s:io.cilium.k8s.namespace.labels.team=pci",
            "k8s:io.cilium.k8s.policy.cluster=jakarta",
            "k8s:io.kubernetes.pod.namespace=payment",
        ]
    );
    assert_eq!(plan.problems, Vec::<String>::new());
}

#[test]
fn every_known_address_has_its_identity_and_no_other_has_one() {
    let plan = usual(CLUSTER);
    check_address(&plan, "10.1.0.5", Some(identity(&plan, "payment/api")));
    check_address(&plan, "fd00:1::5", Some(identity(&plan, "payment/api")));
    check_address(&plan, "10.1.0.6", Some(identity(&plan, "payment/db")));
    check_address(&plan, "10.2.0.7", Some(identity(&plan, "web/front-1")));
    check_address(&plan, "192.168.0.1", Some(Reserved::Host.id()));
    check_address(&plan, "192.168.0.2", Some(Reserved::RemoteNode.id()));
    assert_eq!(plan.desired.addresses.len(), 6);
}

#[test]
fn pod_ranges_of_all_nodes_are_unmanaged() {
    let plan = usual(CLUSTER);
    let ranges: Vec<(String, u32)> =
        plan.desired.prefixes.iter().map(|(net, id)| (net.to_string(), (*id).into())).collect();
    let want = [("10.1.0.0/24", 3), ("10.2.0.0/24", 3), ("fd00:1::/64", 3)];
    assert_eq!(ranges, want.map(|(net, id)| (net.to_owned(), id)));
}

#[test]
fn the_table_says_what_the_policy_says() {
    let plan = usual(CLUSTER);
    let table = &plan.desired.tables[&plan.desired.endpoints[&5].table];
    let front = identity(&plan, "web/front-1");
    let allowed = table.lookup(Direction::Ingress, front, 6, 8080);
    assert_eq!((allowed.allow, allowed.why), (true, Why::Rule));
    assert_eq!(allowed.rules.rules.iter().map(ToString::to_string).collect::<Vec<_>>(), [RULE]);
    let db = identity(&plan, "payment/db");
    let denied = table.lookup(Direction::Ingress, db, 6, 8080);
    assert_eq!((denied.allow, denied.why), (false, Why::DefaultDeny));
    assert_eq!(denied.rules.because[0].to_string(), "CiliumNetworkPolicy/payment/api");
    let other = table.lookup(Direction::Ingress, front, 6, 8081);
    assert!(!other.allow);
    assert_eq!(view(&plan, "payment/api").default_deny(Direction::Ingress), Some(true));
    assert_eq!(view(&plan, "payment/api").default_deny(Direction::Egress), Some(false));
    assert_eq!(view(&plan, "payment/db").default_deny(Direction::Ingress), Some(false));
}

#[test]
fn the_order_of_records_does_not_matter() {
    let forward = testing::plan(CLUSTER, &[api(), db()]);
    let backward = testing::plan(CLUSTER, &[db(), api()]);
    assert_eq!(forward.desired.endpoints, backward.desired.endpoints);
    assert_eq!(forward.desired.addresses, backward.desired.addresses);
    assert_eq!(forward.desired.tables, backward.desired.tables);
}

#[test]
fn an_interface_without_a_pod_that_explains_it_is_left_out() {
    let plan = testing::plan(
        CLUSTER,
        &[
            record("payment/ghost", 1, &["10.1.0.9"]),
            record("web/front-1", 2, &["10.2.0.7"]),
            record("payment/api", 3, &["10.1.0.50"]),
            db(),
        ],
    );
    check_left_out(
        &plan,
        &[
            (1, "the cluster has no pod of this name"),
            (2, "the pod is placed on node `node-2`, not here"),
            (3, "the interface has 10.1.0.50, the pod's status says 10.1.0.5 and fd00:1::5"),
            (6, ""),
        ],
    );
    check_address(&plan, "10.1.0.9", None);
    check_address(&plan, "10.1.0.50", None);
}

#[test]
fn a_pod_on_the_nodes_network_has_no_interface() {
    let text = CLUSTER.replace("{nodeName: node-2, hostNetwork", "{nodeName: node-1, hostNetwork");
    let plan = testing::plan(&text, &[record("kube-system/proxy", 7, &["10.1.0.7"])]);
    check_left_out(&plan, &[(7, "the pod uses the node's network")]);
}

#[test]
fn pods_on_the_nodes_network_are_their_node_and_have_no_identity() {
    let plan = usual(CLUSTER);
    check_address(&plan, "192.168.0.2", Some(Reserved::RemoteNode.id()));
    let named =
        |labels: &Labels| labels.to_strings().iter().any(|text| text.contains("kube-system"));
    assert!(!plan.identities.iter().any(|(_, labels)| named(labels)));
}

#[test]
fn a_pod_whose_status_is_not_written_yet_is_installed() {
    let text = CLUSTER.replace("status: {podIPs: [{ip: 10.1.0.6}]}", "status: {phase: Pending}");
    let plan = usual(&text);
    check_left_out(&plan, &[(5, ""), (6, "")]);
    check_address(&plan, "10.1.0.6", Some(identity(&plan, "payment/db")));
}

#[test]
fn a_local_pod_without_an_interface_has_no_address_here() {
    let plan = testing::plan(CLUSTER, &[db()]);
    check_address(&plan, "10.1.0.5", None);
}

#[test]
fn records_that_cannot_both_be_true_are_both_left_out() {
    let same_interface = EndpointRecord { ifindex: 5, ..db() };
    let plan = testing::plan(CLUSTER, &[api(), same_interface]);
    let reasons: Vec<String> =
        plan.endpoints.iter().map(|one| one.left_out.as_ref().unwrap().to_string()).collect();
    assert_eq!(reasons, ["another record claims the same interface"; 2]);
    assert!(plan.desired.endpoints.is_empty());

    let twin = record("payment/api", 7, &["10.1.0.5", "fd00:1::5"]);
    let plan = testing::plan(CLUSTER, &[api(), twin]);
    check_left_out(
        &plan,
        &[(5, "another record claims the same pod"), (7, "another record claims the same pod")],
    );
    let copy = EndpointRecord { container_id: api().container_id, ..db() };
    let plan = testing::plan(CLUSTER, &[api(), copy]);
    check_left_out(
        &plan,
        &[
            (5, "another record claims the same container"),
            (6, "another record claims the same container"),
        ],
    );
}

#[test]
fn a_leftover_of_an_earlier_pod_does_not_disturb_its_namesake() {
    let leftover = record("payment/api", 4, &["10.1.0.4"]);
    let plan = testing::plan(CLUSTER, &[leftover, api()]);
    check_left_out(
        &plan,
        &[(4, "the interface has 10.1.0.4, the pod's status says 10.1.0.5 and fd00:1::5"), (5, "")],
    );
}

#[test]
fn an_address_that_no_pod_can_have_leaves_its_interface_out() {
    for address in ["192.168.0.2", "192.168.0.1", "127.0.0.1", "224.0.0.1", "0.0.0.0"] {
        let text =
            CLUSTER.replace("podIPs: [{ip: 10.1.0.6}]", &format!("podIPs: [{{ip: {address}}}]"));
        let plan = testing::plan(&text, &[record("payment/db", 6, &[address])]);
        check_left_out(&plan, &[(6, &format!("{address} cannot be a pod's address"))]);
    }
}

#[test]
fn a_remote_pod_cannot_take_a_nodes_address() {
    let text = CLUSTER.replace("[{ip: 10.2.0.7}]", "[{ip: 192.168.0.1}]");
    let plan = usual(&text);
    check_address(&plan, "192.168.0.1", Some(Reserved::Host.id()));
    assert_eq!(plan.problems, ["pod web/front-1 claims 192.168.0.1, which no pod can have"]);
}

#[test]
fn an_address_that_two_pods_claim_is_nobodys() {
    let text = CLUSTER.replace("[{ip: 10.2.0.7}]", "[{ip: 10.2.0.7}, {ip: 10.1.0.6}]");
    let plan = usual(&text);
    check_address(&plan, "10.1.0.6", Some(Reserved::Unmanaged.id()));
    check_address(&plan, "10.2.0.7", Some(identity(&plan, "web/front-1")));
    assert_eq!(
        plan.problems,
        ["10.1.0.6 is claimed by pods payment/db and web/front-1: it is treated as unmanaged"]
    );
}

#[test]
fn the_nodes_own_interfaces_are_the_host() {
    let mut inputs = testing::inputs(CLUSTER, &[api()]);
    inputs.host_addresses.extend(addresses(&["172.16.0.1", "::ffff:172.16.0.2"]));
    let plan = plan(&inputs, &options(), None);
    check_address(&plan, "172.16.0.1", Some(Reserved::Host.id()));
    check_address(&plan, "172.16.0.2", Some(Reserved::Host.id()));
}

/// The cluster whose second node says that its health endpoint is at an address.
fn with_health(address: &str) -> String {
    let annotations = format!("annotations: {{network.cilium.io/ipv4-health-ip: {address}}}");
    CLUSTER.replace("{name: node-2}", &format!("{{name: node-2, {annotations}}}"))
}

#[test]
fn what_stands_on_a_node_is_who_its_annotations_say() {
    let plan = usual(&with_health("10.2.0.99"));
    check_address(&plan, "10.2.0.99", Some(Reserved::Health.id()));
    check_address(&usual(CLUSTER), "10.2.0.99", None);
    assert_eq!(plan.problems, Vec::<String>::new());
}

#[test]
fn nobody_becomes_a_health_endpoint_by_an_annotation_of_old() {
    for (address, pod) in [("10.2.0.7", "web/front-1"), ("10.1.0.6", "payment/db")] {
        let plan = usual(&with_health(address));
        check_address(&plan, address, Some(identity(&plan, pod)));
        check_left_out(&plan, &[(5, ""), (6, "")]);
        let want = format!("a node says that {address} is `health`: it is pod {pod}");
        assert_eq!(plan.problems, [want]);
    }
    for (address, reserved) in
        [("192.168.0.1", Reserved::Host), ("192.168.0.2", Reserved::RemoteNode)]
    {
        check_address(&usual(&with_health(address)), address, Some(reserved.id()));
    }
}

/// The cluster with its API served at an address.
fn with_apiserver(address: &str) -> String {
    format!(
        "{CLUSTER}---\n{{apiVersion: v1, kind: Endpoints, metadata: {{name: kubernetes, \
         namespace: default}}, subsets: [{{addresses: [{{ip: {address}}}]}}]}}\n"
    )
}

/// As whom the API server at an address is known.
#[track_caller]
fn check_labels(address: &str, want: &[&str]) {
    let plan = usual(&with_apiserver(address));
    let id = plan.desired.addresses[&address.parse::<IpAddr>().unwrap()];
    assert_eq!(plan.identities.labels(id).unwrap().to_strings(), want, "{address}");
}

#[test]
fn the_api_server_is_known_unless_it_is_this_node_or_a_pod() {
    for (address, want) in
        [("192.168.0.2", Reserved::KubeApiserver), ("192.168.0.1", Reserved::Host)]
    {
        check_address(&usual(&with_apiserver(address)), address, Some(want.id()));
    }
    // Outside the cluster it is both the world and the API server.
    check_labels("172.16.0.9", &["reserved:kube-apiserver", "reserved:world"]);
    check_labels("192.168.0.1", &["reserved:host", "reserved:kube-apiserver"]);
    check_labels("192.168.0.2", &["reserved:kube-apiserver", "reserved:remote-node"]);
    check_labels("10.2.0.99", &["reserved:unmanaged"]);
    let plan = usual(&with_apiserver("10.2.0.7"));
    check_address(&plan, "10.2.0.7", Some(identity(&plan, "web/front-1")));
    let plan = usual(&with_apiserver("10.1.0.6"));
    check_address(&plan, "10.1.0.6", Some(identity(&plan, "payment/db")));
    check_left_out(&plan, &[(5, ""), (6, "")]);
}

#[test]
fn pods_of_one_identity_share_a_table_unless_their_named_ports_differ() {
    let replica = "---
apiVersion: v1
kind: Pod
metadata: {name: api-2, namespace: payment, labels: {app: api}}
spec:
  nodeName: node-1
  containers: [{name: main, ports: [{name: http, containerPort: PORT}]}]
";
    let records = [api(), record("payment/api-2", 7, &["10.1.0.7"])];
    let same = testing::plan(&format!("{CLUSTER}{}", replica.replace("PORT", "8080")), &records);
    assert_eq!(same.desired.endpoints[&5].table, same.desired.endpoints[&7].table);
    assert_eq!(same.desired.tables.len(), 1);
    let other = testing::plan(&format!("{CLUSTER}{}", replica.replace("PORT", "8081")), &records);
    assert_ne!(other.desired.endpoints[&5].table, other.desired.endpoints[&7].table);
    assert_eq!(other.desired.endpoints[&5].identity, other.desired.endpoints[&7].identity);
}

#[test]
fn tables_that_did_not_change_are_the_same_ones() {
    let first = usual(CLUSTER);
    let (api_table, db_table) =
        (first.desired.endpoints[&5].table, first.desired.endpoints[&6].table);
    let same = |before: &Plan, after: &Plan, table: &u32| {
        Arc::ptr_eq(&before.desired.tables[table], &after.desired.tables[table])
    };
    let again = next(&first, CLUSTER, &[api(), db()]);
    assert!(same(&first, &again, &api_table) && same(&first, &again, &db_table));
    assert!(Arc::ptr_eq(&first.identities, &again.identities));

    let changed = CLUSTER.replace("port: '8080'", "port: '9090'");
    let third = next(&again, &changed, &[api(), db()]);
    assert!(same(&again, &third, &db_table), "recompiled, but equal");
    assert!(!same(&again, &third, &api_table));
    assert_eq!(third.desired.endpoints, first.desired.endpoints, "the numbers stay");
}

#[test]
fn a_new_peer_changes_the_tables_that_admit_it() {
    let first = usual(CLUSTER);
    let peer = "---
apiVersion: v1
kind: Pod
metadata: {name: front-2, namespace: web, labels: {app: front, version: two}}
spec: {nodeName: node-2}
";
    let second = next(&first, &format!("{CLUSTER}{peer}"), &[api(), db()]);
    let front = identity(&second, "web/front-2");
    let table = &second.desired.tables[&second.desired.endpoints[&5].table];
    assert!(table.lookup(Direction::Ingress, front, 6, 8080).allow, "before it has an address");
}

#[test]
fn a_relabelled_pod_is_another_subject_on_the_same_endpoint() {
    let first = usual(CLUSTER);
    let second =
        next(&first, &CLUSTER.replace("labels: {app: db}", "labels: {app: api}"), &[api(), db()]);
    let (before, after) = (&first.desired.endpoints[&6], &second.desired.endpoints[&6]);
    assert_eq!(before.id, after.id);
    assert_ne!(before.identity, after.identity);
    assert_ne!(before.table, after.table);
    assert_eq!(after.identity, second.desired.endpoints[&5].identity);
}

#[test]
fn a_pod_that_comes_again_is_another_endpoint() {
    let first = usual(CLUSTER);
    let reborn = EndpointRecord { container_id: "container-new".into(), ..api() };
    let second = next(&first, CLUSTER, &[reborn, db()]);
    assert_ne!(first.desired.endpoints[&5].id, second.desired.endpoints[&5].id);
    assert_eq!(first.desired.endpoints[&6].id, second.desired.endpoints[&6].id);
}

/// Options under which the table of `payment/api` does not fit.
fn narrow() -> PlanOptions {
    let mut options = options();
    options.policy.max_entries = 3;
    options
}

#[test]
fn a_policy_that_does_not_fit_leaves_its_subject_out_and_no_other() {
    let plan = plan(&testing::inputs(CLUSTER, &[api(), db()]), &narrow(), None);
    let left_out = view(&plan, "payment/api").left_out.as_ref().unwrap().to_string();
    assert!(left_out.starts_with("its policy cannot be enforced: "), "{left_out}");
    assert_eq!(plan.desired.endpoints.keys().collect::<Vec<_>>(), [&6]);
    check_address(&plan, "10.1.0.5", Some(identity(&plan, "payment/api")));
}

#[test]
fn a_policy_that_does_not_fit_leaves_the_last_good_table_in_force() {
    let first = usual(CLUSTER);
    let changed = CLUSTER.replace("port: '8080'", "port: '9090'");
    let second = plan(&testing::inputs(&changed, &[api(), db()]), &narrow(), Some(&first));
    let table = first.desired.endpoints[&5].table;
    assert!(Arc::ptr_eq(&first.desired.tables[&table], &second.desired.tables[&table]));
    assert_eq!(second.setbacks.len(), 1);
    assert_eq!(second.setbacks[0].outcome, Outcome::LastGoodStays);
}

#[test]
fn a_change_that_needs_more_room_than_there_is_leaves_the_last_good_table() {
    let first = usual(CLUSTER);
    let table = first.desired.endpoints[&5].table;
    let mut options = options();
    // The defaults, the rule's entry, the host's; the new rule would be one more.
    options.limits.table_entries = u32::try_from(first.desired.tables[&table].len()).unwrap();
    let changed = testing::inputs(&CLUSTER.replace("port: '8080'", "port: '9090'"), &[api(), db()]);
    let second = plan(&changed, &options, Some(&first));
    assert!(Arc::ptr_eq(&first.desired.tables[&table], &second.desired.tables[&table]));
    let reason = &second.setbacks[0].reason;
    assert_eq!(reason, "old and new entries are 5 together, 4 is the limit");
    options.limits.table_entries += 1;
    let third = plan(&changed, &options, Some(&first));
    assert_eq!(third.setbacks, []);
}

#[test]
fn a_full_node_keeps_whom_it_has() {
    let mut options = options();
    options.limits.endpoints = 1;
    let first = plan(&testing::inputs(CLUSTER, &[db()]), &options, None);
    let second = plan(&testing::inputs(CLUSTER, &[api(), db()]), &options, Some(&first));
    check_left_out(
        &second,
        &[(5, "the node has room for 1 endpoints (raise `max-endpoints`)"), (6, "")],
    );
}

#[test]
fn each_policy_is_shown_with_whom_it_selects_and_why_it_is_refused() {
    let bad = CLUSTER.replace(
        "{name: api, namespace: payment}\nspec:\n  endpointSelector",
        "{name: bad, namespace: payment}\nspec:\n  endpointSelektor",
    );
    let policy = CLUSTER.rsplit("---\n").next().unwrap();
    let text = format!("{bad}---\n{policy}");
    let inputs = Inputs {
        snapshot: Arc::new(source::read("cluster.yaml", &text)),
        records: vec![api(), db()],
        host_addresses: BTreeSet::new(),
        installed: usual(CLUSTER).installed(),
        node_policies: NodePolicies::default(),
    };
    let plan = plan(&inputs, &options(), None);
    let want = "`CiliumNetworkPolicy/payment/bad` in `cluster.yaml` is refused: no earlier version \
                is known, so pods of namespace `payment` that were not installed before drop \
                everything until it is corrected or removed";
    assert_eq!(plan.unprotected, [want]);
    let [accepted, refused] = plan.policies() else { panic!("{:?}", plan.policies()) };
    assert_eq!(accepted.object.to_string(), "CiliumNetworkPolicy/payment/api");
    assert!(accepted.accepted && accepted.reason.is_empty());
    assert_eq!(accepted.rules, [RULE]);
    assert_eq!(accepted.subjects, ["payment/api"]);
    assert_eq!(accepted.file, "cluster.yaml");
    assert_ne!(accepted.digest, [0; 32]);
    assert_eq!(refused.object.to_string(), "CiliumNetworkPolicy/payment/bad");
    assert!(!refused.accepted);
    assert!(refused.reason.contains("endpointSelektor"), "{}", refused.reason);
    assert!(refused.subjects.is_empty() && refused.rules.is_empty());
}

#[test]
fn a_file_that_cannot_be_taken_apart_is_shown_as_a_file() {
    let inputs = Inputs {
        snapshot: Arc::new(source::read("broken.yaml", "{")),
        records: vec![],
        host_addresses: BTreeSet::new(),
        installed: BTreeSet::new(),
        node_policies: NodePolicies::default(),
    };
    let plan = plan(&inputs, &options(), None);
    let [view] = plan.policies() else { panic!("{:?}", plan.policies()) };
    assert_eq!(view.object.to_string(), "File/-/broken.yaml");
    assert!(!view.accepted);
    assert!(view.reason.starts_with("broken.yaml:"), "{}", view.reason);
}

/// What is left out on a node of this cluster when only `api` was installed before.
fn with_refusal(text: &str) -> Plan {
    let installed = testing::plan(CLUSTER, &[api()]).installed();
    let snapshot = Arc::new(source::read("bad.yaml", &format!("{CLUSTER}---\n{text}")));
    let records = vec![api(), db()];
    let host_addresses = BTreeSet::new();
    let node_policies = NodePolicies::default();
    let inputs = Inputs { snapshot, records, host_addresses, installed, node_policies };
    plan(&inputs, &options(), None)
}

#[test]
fn a_refused_policy_without_an_earlier_version_leaves_out_new_pods_it_may_be_about() {
    let refused = |kind: &str, namespace: &str| {
        let group = "{apiVersion: cilium.io/v2, kind: ";
        with_refusal(&format!("{group}{kind}, metadata: {{name: x{namespace}}}, spec: 7}}"))
    };
    let namespaced = "`CiliumNetworkPolicy/payment/x` in `bad.yaml` is refused and has no earlier \
                      version (correct or remove it)";
    let plan = refused("CiliumNetworkPolicy", ", namespace: payment");
    check_left_out(&plan, &[(5, ""), (6, namespaced)]);
    // Its address is still its own: peers judge it as who it is.
    check_address(&plan, "10.1.0.6", Some(identity(&plan, "payment/db")));
    let plan = refused("CiliumNetworkPolicy", ", namespace: web");
    check_left_out(&plan, &[(5, ""), (6, "")]);
    let of_all = "`CiliumClusterwideNetworkPolicy/-/x` in `bad.yaml` is refused and has no \
                  earlier version (correct or remove it)";
    let plan = refused("CiliumClusterwideNetworkPolicy", "");
    check_left_out(&plan, &[(5, ""), (6, of_all)]);
}

#[test]
fn a_refused_object_that_is_no_policy_leaves_out_nobody_else() {
    for kind in ["Pod", "Node", "Namespace"] {
        let text = format!("{{apiVersion: v1, kind: {kind}, metadata: {{name: 'a b'}}}}");
        let plan = with_refusal(&text);
        assert_eq!(plan.snapshot.refused.len(), 1);
        check_left_out(&plan, &[(5, ""), (6, "")]);
        assert_eq!(plan.unprotected, Vec::<String>::new());
    }
}

/// A policy about nodes of this role.
const NODE_POLICY: &str = "---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: edge}
spec:
  nodeSelector: {matchLabels: {role: edge}}
  ingress:
  - fromEntities: [world]
    toPorts: [{ports: [{port: '22', protocol: TCP}]}]
";

/// The cluster with a policy about its first node, or about another.
fn with_node_policy(role: &str) -> String {
    let node = format!("metadata: {{name: node-1, labels: {{role: {role}}}}}");
    format!("{}{NODE_POLICY}", CLUSTER.replace("metadata: {name: node-1}", &node))
}

#[test]
fn a_policy_that_selects_the_node_judges_it() {
    let plan = usual(&with_node_policy("edge"));
    let subject = plan.desired.host.subject.unwrap();
    assert_eq!((subject.identity, subject.trial), (Reserved::Host.id(), None));
    let table = &plan.desired.tables[&subject.table];
    let world = Reserved::WorldIpv4.id();
    assert!(table.lookup(Direction::Ingress, world, 6, 22).allow);
    assert_eq!(table.lookup(Direction::Ingress, world, 6, 23).why, Why::DefaultDeny);
    assert_eq!(table.lookup(Direction::Egress, world, 6, 23).why, Why::Unenforced);
    let own: Vec<String> = plan.desired.host.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(own, ["192.168.0.1"]);
    let view = plan.policies().iter().find(|view| view.object.name == "edge").unwrap();
    assert_eq!(view.subjects, ["node:node-1"]);
    assert_ne!(view.digest, [0; 32]);
    assert_eq!(plan.problems, Vec::<String>::new());
}

#[test]
fn a_policy_about_other_nodes_leaves_this_one_alone() {
    let plan = usual(&with_node_policy("core"));
    assert_eq!(plan.desired.host.subject, None);
    assert_eq!(plan.desired.tables.len(), 2, "those of the pods");
}

#[test]
fn a_node_on_trial_has_the_table_that_comes_after() {
    let mut inputs = testing::inputs(&with_node_policy("edge"), &[api()]);
    inputs.node_policies.confirm_by = Some(77);
    let plan = plan(&inputs, &options(), None);
    let trial = plan.desired.host.subject.unwrap().trial.unwrap();
    assert_eq!(trial.confirm_by, 77);
    let after = &plan.desired.tables[&trial.fallback];
    let decision = after.lookup(Direction::Ingress, Reserved::WorldIpv4.id(), 6, 23);
    assert_eq!(decision.why, Why::Unenforced);
}

#[test]
fn a_node_policy_that_does_not_fit_leaves_the_node_as_it_was() {
    let text = with_node_policy("edge");
    let mut tight = options();
    tight.policy.max_entries = 2;
    let plan = plan(&testing::inputs(&text, &[]), &tight, None);
    assert_eq!(plan.desired.host.subject, None);
    assert_eq!(plan.setbacks[0].outcome, Outcome::NobodyJudges);
    let first = usual(&text);
    let second = replan(&testing::inputs(&text.replace("'22'", "'23'"), &[]), &tight, Some(&first));
    let table =
        |plan: &Plan| Arc::clone(&plan.desired.tables[&plan.desired.host.subject.unwrap().table]);
    assert_eq!(table(&second), table(&first));
    assert_eq!(second.setbacks[0].outcome, Outcome::LastGoodStays);
}
