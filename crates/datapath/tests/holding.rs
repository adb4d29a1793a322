//! Pins go while the agent runs, folder by folder or with their file system: sockets
//! of the node, of its pods and of services say that nothing opens and nothing ends,
//! and the agent tells it and pins again what it holds.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use datapath::{
    AttachKind, Backends, Desired, Fault, FaultKind, Frontend, Host, HostSubject, Services,
};
use libbpf_rs::{Link, Program, TC_INGRESS, TcHookBuilder};
use model::Direction::Ingress;
use model::Reserved;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::net::if_::if_nametoindex;
use policy::{Action, Mode, Options, Policy};
use support::site::*;
use support::*;

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 9);
const HOST_TABLE: u32 = 1;
/// A refused packet is not sent again within.
const PATIENCE: Duration = Duration::from_millis(700);
/// The kernel takes a program off a while after the last reference to its link.
const GONE_BY_NOW: Duration = Duration::from_millis(500);

/// A node with a policy of its own, an uplink, a client, and a server behind a service.
struct Scene {
    site: Site,
    outside: Pod,
    client: Pod,
    desired: Desired,
    _server: Pod,
    _of_the_node: [TcpListener; 2],
    _of_the_server: [Running; 2],
}

impl Scene {
    fn new(name: &str) -> Self {
        let mut site = site(name);
        let outside = outside();
        let (client, server) = (site.pod(CLIENT), site.pod(SERVER));
        let desired = desired(&site, &client, &server);
        let uplink = if_nametoindex("up0").unwrap();
        let states = site.agent().guard_uplinks(&[(uplink, "up0".to_owned())].into());
        assert_eq!((states.len(), &states[0].missing), (1, &None));
        site.agent().apply(&desired).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let of_the_server = [80, 81].map(|port| site.listen(&server, port));
        let of_the_node = [22, 23].map(|port| TcpListener::bind((NODE4, port)).unwrap());
        let mut scene = Self {
            site,
            outside,
            client,
            desired,
            _server: server,
            _of_the_node: of_the_node,
            _of_the_server: of_the_server,
        };
        eventually("the link", || scene.reaches_the_node(22).then_some(()));
        scene.check_quiet("before");
        scene
    }

    fn look(&mut self) -> Vec<Fault> {
        self.site.agent().check(Some(&self.desired))
    }

    fn reaches_the_node(&self, port: u16) -> bool {
        let target = SocketAddr::from((NODE4, port));
        self.outside.inside(|| TcpStream::connect_timeout(&target, PATIENCE).is_ok())
    }

    fn client_reaches(&self, address: impl Into<IpAddr>, port: u16) -> bool {
        let command = format!("nc -z -w 1 {} {port}", address.into());
        self.site.start(&self.client, &command).0.wait().unwrap().success()
    }

    /// What is allowed goes, what is not does not, services serve, programs have names.
    #[track_caller]
    fn check_judged(&self, when: &str) {
        assert_eq!([22, 23].map(|port| self.reaches_the_node(port)), [true, false], "node, {when}");
        let server = Ipv4Addr::new(10, 1, 0, SERVER);
        let reached = [80, 81].map(|port| self.client_reaches(server, port));
        assert_eq!(reached, [true, false], "pods, {when}");
        self.site.records();
        assert!(self.client_reaches(SERVICE, 80), "service, {when}");
        let record = of(&self.site.records(), model::Direction::Egress, 80);
        assert!(binary(&record).contains("nc"), "process, {when}: {record:?}");
    }

    /// Nothing to tell, and all that is pinned is there.
    #[track_caller]
    fn check_quiet(&mut self, when: &str) {
        assert_eq!((self.look(), self.look()), (vec![], vec![]), "{when}");
        self.check_judged(when);
    }

    fn pinned(&self) -> BTreeMap<String, usize> {
        let count =
            |folder: &str| fs::read_dir(self.site.pins.join(folder)).map_or(0, Iterator::count);
        FOLDERS.map(|folder| (folder.to_owned(), count(folder))).into()
    }
}

const FOLDERS: [&str; 5] = ["hooks", "uplinks", "links", "programs", "maps"];

fn desired(site: &Site, client: &Pod, server: &Pod) -> Desired {
    let world = World::new();
    let policy =
        Policy { name: policy_name(), mode: Mode::Enforce, rules: vec![site::world(22)].into() };
    let host = Reserved::Host.identity().labels;
    let (none, options) = (BTreeMap::new(), Options::default());
    let host = policy::compile(&[policy], &host, &none, &world.identities, &options).unwrap();
    let web = rule("in", Ingress, Action::Allow, app("web"), tcp(80));
    let subject = HostSubject { identity: Reserved::Host.id(), table: HOST_TABLE, trial: None };
    let frontend = Frontend { address: SERVICE.into(), port: 80, protocol: 6 };
    let ends = [SocketAddr::from((server.address(), 80))].into();
    Desired {
        endpoints: [
            (client.ifindex, site.endpoint(client, &world, "web", 2)),
            (server.ifindex, site.endpoint(server, &world, "pay", 3)),
        ]
        .into(),
        host: Host { addresses: [NODE4.into()].into(), subject: Some(subject) },
        addresses: [
            (client.address().into(), world.id("web")),
            (server.address().into(), world.id("pay")),
            (NODE4.into(), Reserved::Host.id()),
        ]
        .into(),
        prefixes: BTreeMap::new(),
        tables: [
            (HOST_TABLE, Arc::new(host)),
            (2, Arc::new(world.table_of("web", vec![]))),
            (3, Arc::new(world.table_of("pay", vec![web]))),
        ]
        .into(),
        services: Services {
            frontends: [(frontend, Backends { ends, affinity_seconds: 0 })].into(),
            addresses: [SERVICE.into()].into(),
        },
    }
}

/// Each pin of a folder, and its file system's answer.
fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

#[test]
fn pins_that_go_folder_by_folder_open_nothing_and_come_back() {
    let mut scene = Scene::new("hold-rm");
    let before = scene.pinned();
    for folder in FOLDERS {
        clear(&scene.site.pins.join(folder));
        sleep(GONE_BY_NOW);
        scene.check_judged(&format!("without {folder}"));
        let told = scene.look();
        assert_eq!(told.len(), before[folder], "{folder}: {told:#?}");
        for fault in told {
            assert_eq!((fault.kind, &fault.left), (FaultKind::Pin, &None), "{fault:?}");
            assert!(fault.detail.contains(&format!("/{folder}/")), "{fault:?}");
        }
        assert_eq!(scene.pinned(), before);
        scene.check_quiet(&format!("{folder} pinned again"));
    }
}

#[test]
fn a_bpffs_that_goes_opens_nothing_and_is_filled_when_it_is_back() {
    let mut scene = Scene::new("hold-umount");
    let before = scene.pinned();
    let target = scene.site.pins.parent().unwrap().to_owned();
    umount2(&target, MntFlags::MNT_DETACH).unwrap();
    sleep(GONE_BY_NOW);
    scene.check_judged("without bpffs");
    let told = scene.look();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].left.as_ref().is_some_and(|it| it.contains("mount -t bpf")), "{told:#?}");
    // As the agent does from time to time, whatever is wrong.
    let uplink = if_nametoindex("up0").unwrap();
    let states = scene.site.agent().guard_uplinks(&[(uplink, "up0".to_owned())].into());
    assert_eq!(states[0].missing, None);
    sleep(GONE_BY_NOW);
    scene.check_judged("without bpffs, after a look");
    mount(Some("bpf"), &target, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
    let told = scene.look();
    assert_eq!(told.len(), before.values().sum::<usize>(), "{told:#?}");
    assert!(told.iter().all(|it| it.kind == FaultKind::Pin && it.left.is_none()), "{told:#?}");
    assert_eq!(scene.pinned(), before);
    scene.check_quiet("with bpffs again");
}

#[test]
fn hooks_and_uplinks_that_are_taken_off_are_told_and_put_back() {
    let mut scene = Scene::new("hold-off");
    let hooks: Vec<_> = fs::read_dir(scene.site.pins.join("hooks")).unwrap().collect();
    assert_eq!(hooks.len(), 11);
    for hook in hooks {
        let hook = hook.unwrap();
        Link::open(hook.path()).unwrap().detach().unwrap();
        check_put_right(&scene.look(), hook.file_name().to_str().unwrap());
    }
    assert!(!fs::exists(scene.site.pins.join("hooks/socket_create_new")).unwrap());
    scene.check_quiet("hooks are back");

    for hook in ["ingress", "egress"] {
        if scene.site.agent().features().attach == AttachKind::Tcx {
            let uplink = if_nametoindex("up0").unwrap();
            let path = scene.site.pins.join(format!("uplinks/{uplink}_{hook}"));
            Link::open(path).unwrap().detach().unwrap();
        } else {
            let arguments = ["filter", "del", "dev", "up0", hook];
            assert!(Command::new("tc").args(arguments).status().unwrap().success());
        }
        if hook == "ingress" {
            assert!(scene.reaches_the_node(23), "or nothing is tested");
        }
        check_put_right(&scene.look(), "up0");
        scene.check_quiet("the uplink is guarded again");
    }

    replace_ingress(&mut scene);
    assert!(!scene.reaches_the_node(22), "a program for pods lets nobody in");
    check_put_right(&scene.look(), "up0");
    scene.check_quiet("the uplink has its own program again");
}

/// Puts the program of pods in the place of the uplink's.
fn replace_ingress(scene: &mut Scene) {
    let uplink = if_nametoindex("up0").unwrap();
    let other = Program::fd_from_pinned_path(scene.site.pins.join("programs/pod_egress")).unwrap();
    if scene.site.agent().features().attach == AttachKind::Tcx {
        let link = Link::open(scene.site.pins.join(format!("uplinks/{uplink}_ingress"))).unwrap();
        let (link, other) = (link.as_fd().as_raw_fd(), other.as_raw_fd());
        // SAFETY: two descriptors that are open for the call; no options is an option.
        let result = unsafe { libbpf_sys::bpf_link_update(link, other, std::ptr::null()) };
        assert_eq!(result, 0);
        return;
    }
    let mut place = TcHookBuilder::new(other.as_fd());
    place.ifindex(uplink as i32).replace(true).handle(0x5137).priority(1);
    place.hook(TC_INGRESS).attach().unwrap();
}

/// One fault, told and put right.
#[track_caller]
fn check_put_right(told: &[Fault], words: &str) {
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((told[0].kind, &told[0].left), (FaultKind::Program, &None), "{told:#?}");
    assert!(told[0].detail.contains(words), "{told:#?}");
}
