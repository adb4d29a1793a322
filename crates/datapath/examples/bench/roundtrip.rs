//! p50 of a TCP round trip between two pods of a node: with nothing, with Signet
//! and with nftables, in turn, so that what the machine does meanwhile meets all
//! three alike.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use datapath::{Datapath, Desired, Endpoint, Limits};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::{Pid, gettid};

use crate::Outcome;
use crate::site::{self, Cluster, FIRST_PORT, MAC, POD, Pins, Rules};

const ROUNDS: usize = 30;
const WARM: usize = 500;
const TRIPS: usize = 5_000;
const RULES: u32 = 10_000;
/// The first remote peer: rule 0 lets the pod ask it at [`FIRST_PORT`].
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 0);
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];

#[derive(Clone, Copy, Eq, PartialEq)]
enum Filter {
    Nothing,
    Signet,
    Nftables,
}

pub fn measure() -> Outcome<()> {
    println!("roundtrip: p50 of {TRIPS} TCP round trips, {ROUNDS} interleaved rounds,");
    println!("{RULES} rules; both ends on one CPU, through a node's two veths");
    let filters = [Filter::Nothing, Filter::Signet, Filter::Nftables];
    let nodes = filters.into_iter().map(Node::new).collect::<Outcome<Vec<_>>>()?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let p50 = nodes.iter().map(Node::round).collect::<Outcome<Vec<u64>>>()?;
        rounds.push(p50);
    }
    let column = |at: usize| sorted(rounds.iter().map(|round| i128::from(round[at])));
    let difference =
        |at: usize| sorted(rounds.iter().map(|r| i128::from(r[at]) - i128::from(r[0])));
    for (at, name) in ["nothing", "signet", "nftables"].into_iter().enumerate() {
        println!("  {name:<9} p50 {:>6} ns, above nothing {}", middle(&column(at)), {
            let sorted = difference(at);
            // Ranks 10 and 21 of 30 hold the median with 95 %.
            format!("{:>5} ns (95 %: {} to {})", middle(&sorted), sorted[9], sorted[20])
        });
    }
    Ok(())
}

fn sorted(values: impl Iterator<Item = i128>) -> Vec<i128> {
    let mut values: Vec<i128> = values.collect();
    values.sort_unstable();
    values
}

fn middle(sorted: &[i128]) -> i128 {
    sorted[sorted.len() / 2]
}

/// A node with a client and a server, each in a network namespace of a thread.
struct Node {
    ask: Sender<()>,
    answer: Receiver<Outcome<u64>>,
}

impl Node {
    fn new(filter: Filter) -> Outcome<Self> {
        let (ask, asked) = channel();
        let (tell, answer) = channel();
        let (ready, is_ready) = channel();
        thread::spawn(move || {
            let client = match wire(filter) {
                Ok(node) => node,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let _ = ready.send(Ok(()));
            while asked.recv().is_ok() {
                let _ = tell.send(client.round());
            }
        });
        is_ready.recv()??;
        Ok(Self { ask, answer })
    }

    fn round(&self) -> Outcome<u64> {
        self.ask.send(())?;
        self.answer.recv()?
    }
}

/// What the node's thread keeps alive.
struct Wired {
    client: Sender<Sender<Outcome<u64>>>,
    _datapath: Option<(Datapath, Pins)>,
}

impl Wired {
    fn round(&self) -> Outcome<u64> {
        let (tell, answer) = channel();
        self.client.send(tell)?;
        answer.recv()?
    }
}

fn wire(filter: Filter) -> Outcome<Wired> {
    one_cpu()?;
    let pins = Pins::new()?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    run("ip link set lo up; sysctl -qw net.ipv4.ip_forward=1")?;
    let datapath = match filter {
        Filter::Signet => Some(site::open(pins.node("node"), Limits::default())?),
        _ => None,
    };
    let pin = datapath.as_ref().map(|_| pins.node("node"));
    let client = pod("client", POD, MAC, pin.clone())?;
    let server = pod("server", SERVER, SERVER_MAC, pin)?;
    let mut kept = None;
    if let Some(mut datapath) = datapath {
        datapath.apply(&both_pods()?)?;
        kept = Some((datapath, pins));
    }
    if filter == Filter::Nftables {
        nftables()?;
    }
    let address = SocketAddr::from((SERVER, FIRST_PORT));
    let gone = |_| "a pod's thread has ended";
    server.send(Box::new(move || serve(address))).map_err(gone)?;
    let (rounds, asked) = channel::<Sender<Outcome<u64>>>();
    client.send(Box::new(move || trips(address, &asked))).map_err(gone)?;
    Ok(Wired { client: rounds, _datapath: kept })
}

/// Both ends are pods of this node, each with its own policy.
fn both_pods() -> Outcome<Desired> {
    let cluster = Cluster::new(RULES);
    let table = cluster.table(Rules::new(RULES))?;
    let mut desired = cluster.desired(if_nametoindex("client")?, table)?;
    let server = Endpoint {
        id: site::ENDPOINT + 1,
        identity: cluster.identity("a0")?,
        table: 2,
        mac: SERVER_MAC,
        ipv4: Some(SERVER),
        ipv6: None,
        netns_id: -1,
    };
    desired.endpoints.insert(if_nametoindex("server")?, server);
    desired.addresses.insert(POD.into(), cluster.identity("pay")?);
    desired.tables.insert(2, Arc::new(cluster.server_table()?));
    Ok(desired)
}

type Work = Box<dyn FnOnce() -> Outcome<()> + Send>;

/// A pod: a namespace that lives in a thread, which then does what it is sent.
fn pod(
    name: &str,
    address: Ipv4Addr,
    mac: [u8; 6],
    pins: Option<PathBuf>,
) -> Outcome<Sender<Work>> {
    let (work, todo) = channel::<Work>();
    let (tell, told) = channel();
    thread::spawn(move || {
        if let Err(error) = one_cpu().and_then(|()| Ok(unshare(CloneFlags::CLONE_NEWNET)?)) {
            return drop(tell.send(Err(error)));
        }
        let _ = tell.send(Ok(gettid()));
        let Ok(work) = todo.recv() else { return };
        if let Err(error) = work() {
            eprintln!("bench: {error}");
        }
    });
    let thread = told.recv()??;
    let gateway = format!("02:00:00:00:01:{:02x}", mac[5]);
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    run(&format!(
        "ip link add {name} address {gateway} type veth \
         peer name eth0 address {mac} netns {thread}"
    ))?;
    if let Some(pins) = pins {
        datapath::attach_pod(&pins, name, if_nametoindex(name)?)?;
    }
    run(&format!(
        "ip link set {name} up; ip route add {address}/32 dev {name}; \
         ip neigh replace {address} lladdr {mac} dev {name}; \
         nsenter --net=/proc/{}/task/{thread}/ns/net sh -ec 'ip addr add {address}/32 dev eth0; \
         ip link set lo up; ip link set eth0 up; ip route add 169.254.1.1 dev eth0; \
         ip route add default via 169.254.1.1; \
         ip neigh add 169.254.1.1 lladdr {gateway} dev eth0'",
        std::process::id()
    ))?;
    Ok(work)
}

/// What the rules of the table say, as nftables' users would write it.
fn nftables() -> Outcome<()> {
    let rules = Rules::new(RULES);
    let elements: Vec<String> = (0..RULES)
        .map(|number| {
            let peer = Ipv4Addr::from(u32::from(SERVER) + number % rules.peers);
            let port = u32::from(FIRST_PORT) + number / rules.peers;
            format!("{POD} . {peer} . {port} : accept")
        })
        .collect();
    let ruleset = format!(
        "table ip bench {{
           map rules {{
             type ipv4_addr . ipv4_addr . inet_service : verdict
             elements = {{ {} }}
           }}
           chain forward {{
             type filter hook forward priority 0; policy drop;
             ct state established,related accept
             ip saddr . ip daddr . tcp dport vmap @rules
           }}
         }}",
        elements.join(", ")
    );
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    nft.stdin.take().ok_or("nft has no input")?.write_all(ruleset.as_bytes())?;
    if nft.wait()?.success() { Ok(()) } else { Err("nft refused the rules".into()) }
}

fn serve(address: SocketAddr) -> Outcome<()> {
    let (mut stream, _) = TcpListener::bind(address)?.accept()?;
    stream.set_nodelay(true)?;
    let mut byte = [0; 64];
    while stream.read_exact(&mut byte).is_ok() {
        stream.write_all(&byte)?;
    }
    Ok(())
}

fn trips(address: SocketAddr, asked: &Receiver<Sender<Outcome<u64>>>) -> Outcome<()> {
    let mut stream = connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    while let Ok(tell) = asked.recv() {
        let _ = tell.send(p50(&mut stream));
    }
    Ok(())
}

/// The server may not listen yet.
fn connect(address: SocketAddr) -> Outcome<TcpStream> {
    let start = Instant::now();
    loop {
        match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
            Ok(stream) => return Ok(stream),
            Err(error) if start.elapsed() > Duration::from_secs(5) => return Err(error.into()),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn p50(stream: &mut TcpStream) -> Outcome<u64> {
    let mut byte = [0; 64];
    let mut times = Vec::with_capacity(TRIPS);
    for trip in 0..WARM + TRIPS {
        let start = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        if trip >= WARM {
            times.push(u64::try_from(start.elapsed().as_nanos())?);
        }
    }
    times.sort_unstable();
    Ok(times[TRIPS / 2])
}

fn one_cpu() -> Outcome<()> {
    let mut cpus = CpuSet::new();
    cpus.set(0)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
}

fn run(script: &str) -> Outcome<()> {
    let output = Command::new("sh").args(["-ec", script]).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{script}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
