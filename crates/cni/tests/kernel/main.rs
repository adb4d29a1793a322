//! The plugin on a real kernel: network namespaces made for each test, called as
//! a container runtime calls it. Needs root.
//!
//! The programs are a recording fake (`fake.rs`): what is tried here is the
//! wiring, the order and the undoing, not the judging. `pinned.rs` tries the real
//! programs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod fake;
mod node;
mod pinned;

use std::fs;

use fake::{Fake, Trouble};
use node::{Node, Pod};
use serde_json::{Value, json};

/// ADD fails with `code` and a message that contains `message`, and leaves nothing.
#[track_caller]
fn check_add_fails(node: &Node, pod: &Pod, fake: &Fake, code: u32, message: &str) {
    let outcome = node.call("ADD", pod, fake);
    let answer = outcome.answer.unwrap();
    assert!(!outcome.succeeded, "{answer}");
    assert_eq!(answer["code"], code, "{answer}");
    assert!(answer["msg"].as_str().unwrap().contains(message), "{answer}");
    node.assert_clean();
    assert_eq!(fake.attached(), 0, "programs stay attached");
}

/// CHECK finds exactly this.
#[track_caller]
fn check_finds(node: &Node, pod: &Pod, previous: &Value, fake: &Fake, want: &str) {
    let outcome = node.call_with("CHECK", pod, &node.config_with(previous), fake);
    let answer = outcome.answer.unwrap_or_default();
    if want.is_empty() {
        assert!(outcome.succeeded, "{answer}");
        return;
    }
    assert_eq!(answer["code"], 102, "{answer}");
    let host = previous["interfaces"][0]["name"].as_str().unwrap();
    assert_eq!(answer["msg"].as_str().unwrap().replace(host, "HOST"), want);
}

#[test]
fn a_pod_that_was_added_is_reached_from_its_node() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let answer = node.add(&pod, &Fake::default());
    assert!(node.namespace.pings("10.1.0.2"));
    assert!(node.namespace.pings("fd00:1::2"));
    assert!(pod.namespace.pings("10.1.0.1"));
    assert!(pod.namespace.pings("fd00:1::1"));
    assert_eq!(answer["ips"][0]["address"], "10.1.0.2/32");
    assert_eq!(answer["ips"][1]["address"], "fd00:1::2/128");
    assert_eq!(answer["interfaces"][1]["sandbox"], pod.namespace.path().to_str().unwrap());
    let record = node.records().remove(0);
    assert_eq!(record.pod.to_string(), "web/a");
    assert_eq!(answer["interfaces"][0]["name"], record.host_interface);
    let id = node.namespace.ip(&format!("netns list-id nsid {}", record.netns_id));
    assert!(id.contains(pod.namespace.path().file_name().unwrap().to_str().unwrap()), "{id}");
    let line = node.namespace.ip(&format!("-o link show {}", record.host_interface));
    assert!(line.starts_with(&format!("{}: ", record.ifindex)), "{line}");
    let mac = record.mac.map(|byte| format!("{byte:02x}")).join(":");
    assert_eq!(answer["interfaces"][1]["mac"], mac);
}

#[test]
fn two_pods_of_a_node_reach_each_other() {
    let (node, a, b) = (Node::new(), Pod::new("a"), Pod::new("b"));
    let fake = Fake::default();
    node.add(&a, &fake);
    node.add(&b, &fake);
    assert!(a.namespace.pings("10.1.0.3"));
    assert!(b.namespace.pings("10.1.0.2"));
    assert!(a.namespace.pings("fd00:1::3"));
    assert!(b.namespace.pings("fd00:1::2"));
}

#[test]
fn programs_are_attached_while_both_ends_are_down() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::seeing(pod.namespace.path());
    node.add(&pod, &fake);
    let seen = fake.seen();
    assert_eq!(seen.len(), 2, "the node's links and the pod's");
    for links in seen {
        let link = links.lines().find(|line| !line.starts_with("lo ")).unwrap();
        assert!(link.contains("DOWN"), "{link}");
        assert!(!link.contains(",UP"), "{link}");
    }
}

#[test]
fn no_end_has_an_address_that_nobody_gave_it() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let answer = node.add(&pod, &Fake::default());
    let host = answer["interfaces"][0]["name"].as_str().unwrap();
    assert_eq!(node.namespace.ip(&format!("-o addr show {host}")), "");
    let addresses = pod.namespace.ip("-o addr show eth0");
    assert_eq!(addresses.lines().count(), 2, "{addresses}");
}

#[test]
fn the_node_forwards_and_takes_any_way_back() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let host = node.add(&pod, &Fake::default())["interfaces"][0]["name"].clone();
    let rp_filter = format!("ipv4/conf/{}/rp_filter", host.as_str().unwrap());
    for (setting, value) in
        [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"), (rp_filter.as_str(), "2")]
    {
        let path = format!("/proc/sys/net/{setting}");
        let is = node.namespace.run(|| fs::read_to_string(&path).unwrap());
        assert_eq!(is.trim(), value, "{setting}");
    }
}

#[test]
fn the_mtu_of_the_configuration_is_that_of_both_ends() {
    let (mut node, pod) = (Node::new(), Pod::new("a"));
    node.config["mtu"] = json!(1400);
    let answer = node.add(&pod, &Fake::default());
    assert_eq!(answer["interfaces"][0]["mtu"], 1400);
    assert_eq!(answer["interfaces"][1]["mtu"], 1400);
}

#[test]
fn without_an_agent_the_pod_is_wired_and_the_operator_is_told() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::with(Trouble::NeverEnforced);
    let outcome = node.call("ADD", &pod, &fake);
    assert!(outcome.succeeded);
    assert_eq!(
        outcome.notes,
        ["no agent runs on node `node-a`: pod web/a is wired and stays denied until one does"]
    );
    assert_eq!(fake.looks(), 0);
}

#[test]
fn with_an_agent_add_returns_once_it_has_installed_the_pod() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let _lock = node.hold_agent_lock();
    let fake = Fake::enforced_at_look(4);
    let outcome = node.call("ADD", &pod, &fake);
    assert!(outcome.succeeded && outcome.notes.is_empty(), "{outcome:?}");
    assert_eq!(fake.looks(), 4);
}

#[test]
fn adding_twice_changes_nothing() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::default();
    let first = node.add(&pod, &fake);
    let records = node.records();
    assert_eq!(node.add(&pod, &fake), first);
    assert_eq!(node.records(), records);
    assert_eq!(fake.attachments(), 1);
    assert!(node.namespace.pings("10.1.0.2"));
}

#[test]
fn adding_again_repairs_what_is_broken_and_keeps_the_addresses() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::default();
    let first = node.add(&pod, &fake);
    pod.namespace.ip("route del default");
    let second = node.add(&pod, &fake);
    assert_eq!(second["ips"], first["ips"]);
    assert!(pod.namespace.pings("10.1.0.1"));
    assert_eq!(fake.attached(), 1);
}

#[test]
fn what_a_killed_add_left_is_in_nobodys_way() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::default();
    let host = node.add(&pod, &fake)["interfaces"][0]["name"].as_str().unwrap().to_owned();
    fs::remove_file(node.state().join(format!("endpoints/{host}.json"))).unwrap();
    node.add(&pod, &fake);
    assert!(node.namespace.pings("10.1.0.2"));
    assert_eq!(fake.attached(), 1, "the first one's programs are detached");
}

#[test]
fn a_repetition_that_waits_in_vain_takes_nothing_away() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::with(Trouble::NeverEnforced);
    node.add(&pod, &fake);
    let _lock = node.hold_agent_lock();
    let outcome = node.call("ADD", &pod, &fake);
    assert_eq!(outcome.answer.unwrap()["code"], 11);
    assert_eq!((node.records().len(), node.leases(), fake.attached()), (1, 1, 1));
}

#[test]
fn del_leaves_nothing_and_may_be_repeated() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::default();
    node.add(&pod, &fake);
    for _ in 0..2 {
        let outcome = node.call("DEL", &pod, &fake);
        assert!(outcome.succeeded && outcome.answer.is_none(), "{outcome:?}");
        node.assert_clean();
        assert_eq!(fake.attached(), 0);
        assert_eq!(pod.namespace.links(), Vec::<String>::new());
    }
}

#[test]
fn del_works_after_the_pod_has_gone() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::default();
    node.add(&pod, &fake);
    let gone = Pod { namespace: node::Namespace::new("other"), container: "a".into() };
    drop(pod);
    assert!(node.call("DEL", &gone, &fake).succeeded);
    node.assert_clean();
    assert_eq!(fake.attached(), 0);
}

#[test]
fn del_works_without_a_record() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::default();
    node.add(&pod, &fake);
    fs::remove_dir_all(node.state().join("endpoints")).unwrap();
    assert!(node.call("DEL", &pod, &fake).succeeded);
    node.assert_clean();
    assert_eq!(fake.attached(), 0);
}

#[test]
fn del_works_with_a_record_that_is_junk() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::default();
    node.add(&pod, &fake);
    let host = node.records()[0].host_interface.clone();
    fs::write(node.state().join(format!("endpoints/{host}.json")), "{").unwrap();
    assert!(node.call("DEL", &pod, &fake).succeeded);
    node.assert_clean();
}

#[test]
fn del_works_without_pins() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    node.add(&pod, &Fake::default());
    fs::remove_dir_all(node.pins()).unwrap();
    assert!(node.call("DEL", &pod, &Fake::with(Trouble::DetachFails)).succeeded);
    node.assert_clean();
}

#[test]
fn an_address_is_not_free_while_its_programs_cannot_be_detached() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    node.add(&pod, &Fake::default());
    let outcome = node.call("DEL", &pod, &Fake::with(Trouble::DetachFails));
    assert_eq!(outcome.answer.unwrap()["code"], 101);
    assert_eq!(node.namespace.links(), Vec::<String>::new(), "no link without its guard");
    assert_eq!((node.records().len(), node.leases()), (1, 1));
    assert!(node.call("DEL", &pod, &Fake::default()).succeeded);
    node.assert_clean();
}

#[test]
fn a_failure_to_attach_leaves_nothing() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::with(Trouble::AttachFails);
    check_add_fails(&node, &pod, &fake, 101, "the verifier said no");
    assert_eq!(pod.namespace.links(), Vec::<String>::new());
}

#[test]
fn a_node_without_pins_wires_nothing() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    fs::remove_dir_all(node.pins()).unwrap();
    check_add_fails(
        &node,
        &pod,
        &Fake::default(),
        11,
        "the agent has never run on this node: no pinned programs at",
    );
}

#[test]
fn an_agent_that_does_not_answer_in_time_leaves_nothing() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let _lock = node.hold_agent_lock();
    let fake = Fake::with(Trouble::NeverEnforced);
    check_add_fails(&node, &pod, &fake, 11, "did not install pod web/a within 200 ms");
    assert!(fake.looks() > 5, "{}", fake.looks());
}

#[test]
fn a_failure_to_look_at_the_endpoint_leaves_nothing() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let _lock = node.hold_agent_lock();
    check_add_fails(&node, &pod, &Fake::with(Trouble::IsEnforcedFails), 101, "verifier said no");
}

#[test]
fn a_pod_that_has_the_interface_already_keeps_it_and_gets_nothing() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    pod.namespace.ip("link add eth0 type bridge");
    check_add_fails(&node, &pod, &Fake::default(), 100, "to the pod's `eth0`");
    assert_eq!(pod.namespace.links(), ["eth0"]);
}

#[test]
fn a_pod_that_has_a_default_route_already_gets_nothing() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    pod.namespace.ip("link set lo up");
    pod.namespace.ip("route add default dev lo");
    check_add_fails(&node, &pod, &Fake::default(), 100, "route 0.0.0.0/0 over `eth0`");
    assert_eq!(pod.namespace.links(), Vec::<String>::new());
}

#[test]
fn a_node_that_routes_the_address_elsewhere_keeps_its_route_and_gets_nothing() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    node.namespace.ip("route add 10.1.0.2/32 dev lo");
    check_add_fails(&node, &pod, &Fake::default(), 100, "route 10.1.0.2/32 over `sg");
    assert!(node.namespace.ip("route show 10.1.0.2").contains("dev lo"));
}

#[test]
fn a_record_that_cannot_be_written_leaves_nothing() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    fs::create_dir_all(node.state()).unwrap();
    fs::write(node.state().join("endpoints"), "in the way").unwrap();
    let fake = Fake::default();
    let outcome = node.call("ADD", &pod, &fake);
    assert_eq!(outcome.answer.unwrap()["code"], 5);
    fs::remove_file(node.state().join("endpoints")).unwrap();
    assert_eq!(node.namespace.links(), Vec::<String>::new());
}

#[test]
fn a_namespace_that_is_not_there_or_is_the_nodes_is_refused() {
    let node = Node::new();
    let pod = Pod::new("a");
    let gone = Pod { namespace: node::Namespace::new("gone"), container: "a".into() };
    gone.namespace.run(|| ());
    let path = gone.namespace.path();
    std::process::Command::new("ip")
        .args(["netns", "del", path.file_name().unwrap().to_str().unwrap()])
        .status()
        .unwrap();
    check_add_fails(&node, &gone, &Fake::default(), 4, "cannot open network namespace");
    drop(pod);
    let variable = |name: &str| {
        Some(match name {
            "CNI_COMMAND" => "ADD".to_owned(),
            "CNI_CONTAINERID" => "a".to_owned(),
            "CNI_NETNS" => node.namespace.path().display().to_string(),
            "CNI_IFNAME" => "eth0".to_owned(),
            "CNI_ARGS" => "K8S_POD_NAMESPACE=web;K8S_POD_NAME=a".to_owned(),
            _ => return None,
        })
    };
    let fake = Fake::default();
    let config = node.config.to_string();
    let outcome = node.namespace.run(|| cni::command::execute(&variable, &config, &fake));
    let answer = outcome.answer.unwrap();
    assert_eq!(answer["code"], 4, "{answer}");
    node.assert_clean();
}

#[test]
fn a_subnet_without_a_free_address_says_so() {
    let (mut node, a, b) = (Node::new(), Pod::new("a"), Pod::new("b"));
    node.config["subnets"] = json!(["10.1.0.0/30"]);
    let fake = Fake::default();
    node.add(&a, &fake);
    let answer = node.call("ADD", &b, &fake).answer.unwrap();
    assert_eq!(answer["code"], 11);
    assert!(answer["msg"].as_str().unwrap().starts_with("no free address in 10.1.0.0/30"));
    assert_eq!(node.records().len(), 1);
}

#[test]
fn check_finds_nothing_on_a_pod_as_added() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::default();
    let previous = node.add(&pod, &fake);
    check_finds(&node, &pod, &previous, &fake, "");
}

#[test]
fn check_names_a_route_an_address_and_a_neighbour_that_are_missing() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::default();
    let previous = node.add(&pod, &fake);
    pod.namespace.ip("-6 route del default");
    check_finds(
        &node,
        &pod,
        &previous,
        &fake,
        "not as ADD left it (1): pod: `eth0` lacks route ::/0 via fe80::1",
    );
    pod.namespace.ip("addr del fd00:1::2/128 dev eth0");
    pod.namespace.ip("neigh del 169.254.1.1 dev eth0");
    let host = previous["interfaces"][0]["name"].as_str().unwrap();
    node.namespace.ip(&format!("route del 10.1.0.2 dev {host}"));
    let mac = previous["interfaces"][0]["mac"].as_str().unwrap();
    check_finds(
        &node,
        &pod,
        &previous,
        &fake,
        &format!(
            "not as ADD left it (4): node: `HOST` lacks route 10.1.0.2/32; \
             pod: `eth0` lacks address fd00:1::2/128; \
             pod: `eth0` lacks neighbour 169.254.1.1 at {mac}; \
             pod: `eth0` lacks route ::/0 via fe80::1"
        ),
    );
}

#[test]
fn check_names_programs_and_record_that_are_missing() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::default();
    let previous = node.add(&pod, &fake);
    fake.forget_attachments();
    let host = node.records()[0].host_interface.clone();
    let path = node.state().join(format!("endpoints/{host}.json"));
    fs::remove_file(&path).unwrap();
    let path = path.display().to_string().replace(&host, "HOST");
    check_finds(
        &node,
        &pod,
        &previous,
        &fake,
        &format!(
            "not as ADD left it (2): no programs are attached to `HOST`; \
             no endpoint record `{path}`"
        ),
    );
}

#[test]
fn check_names_a_link_that_is_gone() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::default();
    let previous = node.add(&pod, &fake);
    node.namespace.ip(&format!("link del {}", node.records()[0].host_interface));
    check_finds(
        &node,
        &pod,
        &previous,
        &fake,
        "not as ADD left it (2): node: `HOST` does not exist; pod: `eth0` does not exist",
    );
}

#[test]
fn check_without_a_previous_result_is_refused() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let answer = node.call("CHECK", &pod, &Fake::default()).answer.unwrap();
    assert_eq!(answer["code"], 7);
}

#[test]
fn gc_removes_what_the_runtime_has_forgotten_and_nothing_else() {
    let (node, a, b) = (Node::new(), Pod::new("a"), Pod::new("b"));
    let fake = Fake::default();
    node.add(&a, &fake);
    node.add(&b, &fake);
    let mut config = node.config.clone();
    assert_eq!(node.call("GC", &a, &fake).answer.unwrap()["code"], 7, "no list, no removal");
    config["cni.dev/valid-attachments"] = json!([{ "containerID": "b", "ifname": "eth0" }]);
    let mut other = config.clone();
    other["name"] = json!("other");
    assert!(node.call_with("GC", &a, &other, &fake).succeeded);
    assert_eq!(node.leases(), 2, "another network's pods are not its business");
    assert!(node.call_with("GC", &a, &config, &fake).succeeded);
    assert_eq!((node.leases(), fake.attached()), (1, 1));
    assert_eq!(node.records()[0].container_id, "b");
    assert!(node.namespace.pings("10.1.0.3"));
}

#[test]
fn status_says_what_is_missing() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    let fake = Fake::default();
    let answer = node.call("STATUS", &pod, &fake).answer.unwrap();
    assert_eq!(answer["code"], 50);
    assert_eq!(
        answer["msg"],
        "no agent runs on node `node-a`: new pods would stay denied; start `signet agent`"
    );
    let _lock = node.hold_agent_lock();
    assert!(node.call("STATUS", &pod, &fake).succeeded);
    fs::remove_dir_all(node.pins()).unwrap();
    let answer = node.call("STATUS", &pod, &fake).answer.unwrap();
    assert_eq!(answer["code"], 50);
    assert!(answer["msg"].as_str().unwrap().contains("has never run"), "{answer}");
}

#[test]
fn version_lists_what_is_spoken_and_needs_nothing_else() {
    let (mut node, pod) = (Node::new(), Pod::new("a"));
    node.config = json!({ "cniVersion": "0.4.0" });
    let outcome = node.call("VERSION", &pod, &Fake::default());
    assert_eq!(
        outcome.answer.unwrap(),
        json!({ "cniVersion": "0.4.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"] })
    );
}

#[test]
fn commands_of_1_1_are_refused_to_older_callers() {
    let (mut node, pod) = (Node::new(), Pod::new("a"));
    node.config["cniVersion"] = json!("1.0.0");
    for command in ["GC", "STATUS"] {
        let answer = node.call(command, &pod, &Fake::default()).answer.unwrap();
        assert_eq!((&answer["code"], &answer["cniVersion"]), (&json!(1), &json!("1.0.0")));
    }
}
