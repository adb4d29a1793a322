//! From the start of a node to the first policy nothing of a pod passes: without an
//! agent's programs no pod gets a link, and with them no pod has a right before its
//! policy is installed.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;
#[path = "support/wires.rs"]
mod wires;

use std::sync::Arc;

use datapath::{AttachError, Config, Datapath, Desired, Endpoint};
use model::Direction;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use policy::{Action, Ports};
use support::*;
use wires::{Probes, Who, Wires, probes};

#[test]
fn nothing_of_a_pod_passes_before_its_policy_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
    let config = Config { pins: folder.path().join("node"), cgroup: None, limits: SMALL };
    let mut wires = Wires::new();
    let nothing = Probes::new();
    let check = |wires: &mut Wires, want: &Probes, when: &str| {
        let arrivals = wires.arrivals(&[want]);
        assert_eq!((&arrivals.old, &arrivals.new), (want, want), "{when}");
    };

    // The node is up, its agent is not: what wires pods is refused, and their links
    // stay down.
    for pod in Who::PODS {
        let refused = datapath::attach_pod(&config.pins, pod.interface(), pod.ifindex());
        assert!(matches!(refused, Err(AttachError::NotInstalled { .. })), "{refused:?}");
    }
    check(&mut wires, &nothing, "without an agent");

    // The agent's programs are there, and no policy yet.
    let mut datapath = Datapath::open(&config).unwrap_or_else(|error| panic!("{}", chain(&error)));
    for pod in Who::PODS {
        datapath::attach_pod(&config.pins, pod.interface(), pod.ifindex()).unwrap();
        wires.set(pod, "up");
    }
    check(&mut wires, &nothing, "without a policy");

    // Two of three are installed; `web` takes what `pay` sends.
    let world = World::new();
    let rules = vec![rule("in", Direction::Ingress, Action::Allow, app("pay"), Ports::All)];
    let pods = [(Who::A, 2, "pay", vec![]), (Who::B, 3, "web", rules)];
    let mut desired = Desired::default();
    for (pod, id, app, rules) in pods {
        let endpoint = Endpoint {
            id: id + 10,
            identity: world.id(app),
            table: id,
            mac: pod.mac(),
            ipv4: Some(pod.address()),
            ipv6: Some(pod.address6()),
            netns_id: -1,
        };
        desired.endpoints.insert(pod.ifindex(), endpoint);
        desired.addresses.extend(pod.addresses().map(|it| (it, world.id(app))));
        desired.tables.insert(id, Arc::new(world.table_of(app, rules)));
    }
    datapath.apply(&desired).unwrap();
    let installed = probes("A>B A>R A>W B>A B>R B>W R>A W>A");
    check(&mut wires, &installed, "with a policy for two of three");
}
