//! A lab on the running kernel, without enforcement: does its network reach
//! everything, and are its containers what they are said to be? Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it goes wrong")]

mod scene;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Output;

use scene::Scene;

#[track_caller]
fn check_ok(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    stdout
}

const PING: [&str; 6] = ["ping", "-n", "-c", "1", "-W", "2"];

fn ping(address: &str) -> Vec<&str> {
    PING.into_iter().chain([address]).collect()
}

#[test]
fn everything_reaches_everything_in_both_families() {
    let scene = Scene::of("t-network");
    for address in ["198.51.100.7", "2001:db8:ffff::7", "172.20.0.12", "fd00:172:20::12"] {
        check_ok(&scene.inside("node-1", &ping(address)));
        check_ok(&scene.exec("web/client", &ping(address)));
    }
    for address in &scene.lab.pod("payment/server").unwrap().addresses {
        let address = address.to_string();
        check_ok(&scene.inside("internet", &ping(&address)));
        check_ok(&scene.exec("web/client", &ping(&address)));
    }
}

#[test]
fn the_source_address_of_a_pod_is_seen_everywhere() {
    let scene = Scene::of("t-source");
    let address = scene.lab.pod("web/client").unwrap().addresses[0].to_string();
    let route = check_ok(&scene.inside("internet", &["ip", "route", "get", &address]));
    assert!(route.contains("169.254.200.1"), "{route}");
    check_ok(&scene.exec("web/client", &["nc", "-z", "-w", "2", "198.51.100.7", "80"]));
    let rules =
        check_ok(&scene.inside("fabric", &["sh", "-c", "nft list ruleset 2>/dev/null; true"]));
    assert!(!rules.contains("masquerade"), "{rules}");
}

#[test]
fn a_container_and_what_is_run_in_it_are_in_the_nodes_cgroup() {
    let scene = Scene::of("t-cgroup");
    let pod = scene.lab.pod("web/client").unwrap();
    let container = pod.container(None).unwrap();
    let want = format!("0::/signet/t-cgroup/node-1/{}", container.id);
    let pid = container.process.unwrap().pid;
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(cgroup.lines().any(|line| line == want), "{cgroup}");

    let groups = scene.lab.groups().unwrap();
    let procs = groups.node("node-1").join(&container.id).join("cgroup.procs");
    let sleeper = std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| scene.exec("web/client", &["sleep", "0.7"]));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let members = fs::read_to_string(&procs).unwrap();
        assert_eq!(members.lines().count(), 2, "{members}");
        sleeper.join().unwrap()
    });
    check_ok(&sleeper);
}

#[test]
fn containers_of_a_pod_share_its_network_and_nothing_else() {
    let scene = Scene::of("t-share");
    let pod = scene.lab.pod("payment/server").unwrap();
    let inode = |path: String| fs::metadata(path).unwrap().ino();
    let of = |name: &str, kind: &str| {
        let pid = pod.container(Some(name)).unwrap().process.unwrap().pid;
        inode(format!("/proc/{pid}/ns/{kind}"))
    };
    let netns = scene.lab.places.netns("payment.server");
    assert_eq!(of("main", "net"), inode(netns.display().to_string()));
    assert_eq!(of("main", "net"), of("side", "net"));
    for kind in ["pid", "mnt", "ipc", "uts", "cgroup"] {
        assert_ne!(of("main", kind), inode(format!("/proc/self/ns/{kind}")), "{kind}");
    }
    let page = scene.exec_in(
        "payment/server",
        Some("side"),
        &["nc", "-z", "-w", "2", "127.0.0.1", "8080"],
    );
    check_ok(&page);
    assert_eq!(check_ok(&scene.exec("payment/server", &["hostname"])), "server\n");
    let log = scene.lab.places.logs().join("payment_server_side.log");
    assert_eq!(fs::read_to_string(log).unwrap(), "hello from red\n");
}

#[test]
fn a_container_can_write_to_its_own_scratch_space_only() {
    let scene = Scene::of("t-write");
    check_ok(&scene.exec("web/client", &["touch", "/tmp/a", "/run/a", "/root/a"]));
    for path in ["/a", "/etc/a", "/usr/a", "/var/lib/a"] {
        let output = scene.exec("web/client", &["touch", path]);
        assert!(!output.status.success(), "{path} can be written");
    }
    let shadow = scene.exec("web/client", &["cat", "/etc/shadow"]);
    assert_eq!(check_ok(&shadow), "");
}

#[test]
fn users_and_capabilities_are_those_of_the_manifest() {
    let scene = Scene::of("t-user");
    assert_eq!(check_ok(&scene.exec("web/user", &["id", "-u"])), "1000\n");
    check_ok(&scene.exec("web/user", &ping("198.51.100.7")));
    let bounding = |pod: &str| {
        let status = check_ok(&scene.exec(pod, &["grep", "CapBnd", "/proc/self/status"]));
        let digits = status.split_whitespace().nth(1).unwrap().to_owned();
        u64::from_str_radix(&digits, 16).unwrap()
    };
    let net_admin = 1 << 12;
    assert_ne!(bounding("web/user") & net_admin, 0);
    assert_eq!(bounding("web/client") & net_admin, 0);
}

#[test]
fn agents_read_pods_with_their_place_and_addresses() {
    let scene = Scene::of("t-objects");
    let file = scene.lab.places.cluster().join("Pod.payment.server.json");
    let object: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(object["spec"]["nodeName"], "node-2");
    let addresses = &scene.lab.pod("payment/server").unwrap().addresses;
    assert_eq!(object["status"]["podIPs"][1]["ip"], addresses[1].to_string());
    assert_eq!(object["metadata"]["labels"]["app"], "server");
    for name in ["Node.-.node-1.json", "Namespace.-.web.json", "Namespace.-.payment.json"] {
        assert!(scene.lab.places.cluster().join(name).exists(), "{name}");
    }
}

#[test]
fn two_labs_with_the_same_addresses_do_not_meet() {
    let one = Scene::of("t-one");
    let two = Scene::of("t-two");
    let address = |scene: &Scene| scene.lab.pod("payment/server").unwrap().addresses.clone();
    assert_eq!(address(&one), address(&two));
    let links = check_ok(&std::process::Command::new("ip").args(["-o", "link"]).output().unwrap());
    assert!(!links.contains("to0"), "a link of a lab is in the host's namespace: {links}");
    drop(one);
    check_ok(&two.exec("web/client", &ping("198.51.100.7")));
}
