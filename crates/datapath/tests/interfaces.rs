//! Real interfaces, real sockets, real processes: a node and two pods in network
//! namespaces of their own, the programs on the side that a pod cannot reach.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::fs;
use std::path::Path;

use datapath::Record;
use model::{Attribution, Direction, UnknownProcess, Verdict};
use policy::{Action, Peers, Ports};
use support::site::*;
use support::*;

/// The file that `nc` is, whatever links lead to it.
fn nc() -> String {
    run("readlink -f $(command -v nc)").trim().to_owned()
}

#[test]
fn a_connection_names_the_processes_of_both_ends() {
    let (mut site, world) = (site("both"), World::new());
    let (client, server) = (site.pod(CLIENT), site.pod(SERVER));
    let rules = vec![rule("in", Direction::Ingress, Action::Allow, app("web"), tcp(8080))];
    site.enforce(&world, [&client, &server], rules);
    let listener = site.listen(&server, 8080);
    assert!(site.connect(&client, &server, 8080));
    let records = site.records();
    let sent = of(&records, Direction::Egress, 8080);
    let received = of(&records, Direction::Ingress, 8080);
    assert_eq!((binary(&sent), binary(&received)), (nc(), nc()));
    let process = received.process.known().unwrap();
    assert_eq!((process.pid, process.uid), (listener.0.id(), 0));
    assert_eq!(process.comm, "nc");
    assert_ne!(sent.cookie, 0);
    assert_eq!(received.peer_cookie, sent.cookie, "the receiver's record names the sender's");
    let folder = fs::metadata(&site.cgroup).unwrap();
    assert_eq!(process.cgroup_id, std::os::unix::fs::MetadataExt::ino(&folder));
}

#[test]
fn a_denied_connection_names_its_sender_and_that_nobody_would_have_listened() {
    let (mut site, world) = (site("denied"), World::new());
    let (client, server) = (site.pod(CLIENT), site.pod(SERVER));
    let rules = vec![rule("in", Direction::Ingress, Action::Allow, app("web"), tcp(8080))];
    site.enforce(&world, [&client, &server], rules);
    let _listener = site.listen(&server, 8081);
    assert!(!site.connect(&client, &server, 8081));
    assert!(!site.connect(&client, &server, 8082));
    let records = site.records();
    let sent = of(&records, Direction::Egress, 8081);
    let denied = of(&records, Direction::Ingress, 8081);
    assert_eq!((sent.verdict, denied.verdict), (Verdict::Forwarded, Verdict::Dropped));
    assert_eq!((binary(&denied), denied.peer_cookie), (nc(), sent.cookie));
    let nobody = of(&records, Direction::Ingress, 8082);
    assert_eq!(nobody.process, Attribution::Unknown(UnknownProcess::NoListener));
    let told = |record: &Record| records.iter().position(|other| other == record).unwrap();
    assert!(told(&sent) < told(&denied), "the sender is told before the drop");
}

#[test]
fn a_pod_that_is_not_installed_yet_reaches_nobody_and_nobody_reaches_it() {
    let (mut site, world) = (site("early"), World::new());
    let (client, server) = (site.pod(CLIENT), site.pod(SERVER));
    assert!(!datapath::is_enforced(&site.pins, client.ifindex).unwrap());
    let _listener = site.listen(&server, 8080);
    assert!(!site.connect(&client, &server, 8080));
    let early = of(&site.records(), Direction::Egress, 8080);
    assert_eq!((early.reason, early.endpoint_id), (203, 0));
    let open = vec![rule("in", Direction::Ingress, Action::Allow, Peers::Any, Ports::All)];
    site.enforce(&world, [&client, &server], open);
    assert!(datapath::is_enforced(&site.pins, client.ifindex).unwrap());
    assert!(site.connect(&client, &server, 8080));
}

#[test]
fn a_pod_that_is_taken_away_leaves_no_pin_and_no_entry() {
    let (mut site, world) = (site("away"), World::new());
    let (client, server) = (site.pod(CLIENT), site.pod(SERVER));
    site.enforce(&world, [&client, &server], vec![]);
    let index = client.ifindex;
    assert!(datapath::is_attached(&site.pins, index).unwrap());
    datapath::detach_pod(&site.pins, index).unwrap();
    assert!(!datapath::is_enforced(&site.pins, index).unwrap());
    datapath::detach_pod(&site.pins, index).unwrap();
    let links = fs::read_dir(site.pins.join("links")).unwrap();
    let left: Vec<_> = links
        .map(|link| link.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(&format!("{index}_")))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn attaching_without_an_agent_s_programs_says_that_none_has_run() {
    let folder = tempfile::tempdir().unwrap();
    let error = datapath::attach_pod(Path::new(folder.path()), "eth0", 1).unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("the agent has never run on this node"), "{text}");
}
