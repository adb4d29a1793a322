//! Real interfaces, real sockets, real processes: two network namespaces and a
//! veth, the programs on the side that the pod cannot reach.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use datapath::{Config, Datapath, Desired, Endpoint, Record, RecordReader};
use model::{Attribution, Direction, Process, UnknownProcess, Verdict};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use policy::Action;
use support::*;

#[track_caller]
fn run(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// Runs on a thread of its own in the pod's network namespace, so that only
/// that thread leaves the node's.
fn in_pod<T: Send + 'static>(pod: &Pod, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = fs::File::open(&pod.namespace).unwrap();
    thread::spawn(move || {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
    .join()
    .unwrap()
}

struct Pod {
    namespace: PathBuf,
    ifindex: u32,
    mac: [u8; 6],
    holder: std::process::Child,
}

impl Drop for Pod {
    fn drop(&mut self) {
        // The namespace and both ends of the veth go with its last process.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn ifindex(interface: &str) -> u32 {
    let path = format!("/sys/class/net/{interface}/ifindex");
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// A pod on the node: programs first, link up second. The node is this thread's
/// own network namespace.
fn pod(pins: &std::path::Path, number: u8) -> Pod {
    let holder = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
    let namespace = PathBuf::from(format!("/proc/{}/ns/net", holder.id()));
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let start = Instant::now();
    while fs::read_link(&namespace).is_ok_and(|link| link == own) {
        assert!(start.elapsed() < Duration::from_secs(10), "no namespace for the pod");
        thread::sleep(Duration::from_millis(2));
    }
    let (host, mac) = (format!("sgt{number}"), [2, 0, 0, 0, 0, number]);
    run(&format!(
        "ip link add {host} type veth peer name eth0 address 02:00:00:00:00:{number:02x} netns {}",
        holder.id()
    ));
    let index = ifindex(&host);
    datapath::attach_pod(pins, &host, index).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(datapath::is_attached(pins, index).unwrap());
    run(&format!(
        "nsenter -t {pid} -n sh -c 'ip addr add 10.1.0.{number}/32 dev eth0; ip link set lo up; \
         ip link set eth0 up; ip route add 169.254.1.1 dev eth0; \
         ip route add default via 169.254.1.1; ip neigh add 169.254.1.1 lladdr '$(cat /sys/class/net/{host}/address)' dev eth0'",
        pid = holder.id()
    ));
    run(&format!(
        "ip link set {host} up; ip route add 10.1.0.{number}/32 dev {host}; \
         ip neigh add 10.1.0.{number} lladdr 02:00:00:00:00:{number:02x} dev {host}"
    ));
    Pod { namespace, ifindex: index, mac, holder }
}

/// A node of its own: mount, network namespace, cgroup.
struct Site {
    datapath: Datapath,
    reader: RecordReader,
    pins: PathBuf,
    cgroup: PathBuf,
    _folder: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        // Threads of this process move back before the folder can go.
        let _ = fs::write(cgroup_root().join("cgroup.procs"), std::process::id().to_string());
        let _ = fs::remove_dir(&self.cgroup);
    }
}

fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2");
    line.split(' ').nth(4).unwrap().into()
}

/// Enters namespaces of its own and opens a datapath there.
fn site(name: &str) -> Site {
    let folder = tempfile::tempdir().unwrap();
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("these tests need root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
    run("mount -t sysfs sysfs /sys -o remount,ro 2>/dev/null; mount -t sysfs sysfs /sys");
    run("ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward");
    let cgroup = cgroup_root_outside(folder.path()).join(format!("signet-test-{name}-{}", std::process::id()));
    fs::create_dir_all(&cgroup).unwrap();
    let pins = folder.path().join("node");
    let config = Config { pins: pins.clone(), cgroup: Some(cgroup.clone()), limits: SMALL };
    let datapath = Datapath::open(&config).unwrap_or_else(|error| panic!("{}", chain(&error)));
    for hook in &datapath.features().hooks {
        assert_eq!(hook.missing, None, "{}", hook.name);
    }
    let reader = RecordReader::open(&pins).unwrap();
    Site { datapath, reader, pins, cgroup, _folder: folder }
}

impl Site {
    fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        self.reader.read(Duration::ZERO, &mut |record| records.push(record.unwrap())).unwrap();
        records
    }
}
