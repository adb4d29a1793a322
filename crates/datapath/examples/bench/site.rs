//! What all sections share: a BPF file system of one's own, and a node that
//! knows 100,000 identities and any number of rules.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use datapath::{Config, Datapath, Desired, Endpoint, Limits};
use model::{Direction, IdentityBook, IdentityId, Label, Labels, PolicyKind, PolicyName, RuleId};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use policy::{Action, Mode, Options, Peer, Peers, Policy, Port, PortMatch, Ports, Requirement};
use policy::{Rule, Selector, SelectorKey, Table, Tier, Transport};

use crate::Outcome;

/// Number of the pod; the first ones are the node's own.
pub const ENDPOINT: u32 = 9;
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// A port that everybody may be asked at, where there are rules at all.
pub const OPEN_PORT: u16 = 1023;
/// The first port of the rules about single peers.
pub const FIRST_PORT: u16 = 1024;

/// A BPF file system in a mount namespace of this thread's own.
pub struct Pins {
    folder: tempfile::TempDir,
}

impl Pins {
    pub fn new() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("{error}: run as root"))?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>)?;
        Ok(Self { folder })
    }

    pub fn node(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = nix::mount::umount(self.folder.path());
    }
}

/// Room for 100,000 rules, 100,000 connections of one pod, and every record.
pub fn large() -> Limits {
    Limits {
        endpoints: 1,
        connections_per_endpoint: 262_144,
        addresses: 131_072,
        table_entries: 262_144,
        ring_bytes: 64 << 20,
        drop_records: u32::MAX,
        ..Limits::default()
    }
}

pub fn open(pins: PathBuf, limits: Limits) -> Outcome<Datapath> {
    Ok(Datapath::open(&Config { pins, cgroup: None, limits })?)
}

/// How rules are spread: over so many peers, each with so many ports.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub count: u32,
    pub peers: u32,
}

impl Rules {
    pub fn new(count: u32) -> Self {
        Self { count, peers: (count / 10).clamp(1, 1_000) }
    }
}

/// A node with one pod, and remote peers from 10.2.0.0 on, each with an identity.
pub struct Cluster {
    remote: u32,
    book: IdentityBook,
}

impl Cluster {
    pub fn new(remote: u32) -> Self {
        let subject = [labels("pay")];
        let book = IdentityBook::new((0..remote).map(|n| labels(&format!("a{n}"))).chain(subject));
        Self { remote, book }
    }

    /// Each rule allows one peer at one port; one more allows everybody at
    /// [`OPEN_PORT`]. No rules: nothing is enforced.
    pub fn table(&self, rules: Rules) -> Outcome<Table> {
        let everybody =
            (rules.count > 0).then(|| rule(0, Direction::Egress, Peers::Any, OPEN_PORT));
        let single = (0..rules.count).map(|number| {
            let port = u32::from(FIRST_PORT) + number / rules.peers;
            let port = u16::try_from(port).unwrap_or(u16::MAX);
            let peer = app(format!("a{}", number % rules.peers));
            rule(number + 1, Direction::Egress, peer, port)
        });
        self.compile("pay", everybody.into_iter().chain(single).collect())
    }

    /// Of the first remote peer, if it is a pod of this node as well: what the
    /// pod may ask it.
    pub fn server_table(&self) -> Outcome<Table> {
        self.compile("a0", vec![rule(0, Direction::Ingress, app("pay".into()), FIRST_PORT)])
    }

    fn compile(&self, subject: &str, rules: Vec<Rule>) -> Outcome<Table> {
        let policies = [Policy { name: policy_name(), mode: Mode::Enforce, rules: rules.into() }];
        let options = Options { max_entries: 120_000, ..Options::default() };
        let subject = labels(subject);
        Ok(policy::compile(&policies, &subject, &BTreeMap::new(), &self.book, &options)?)
    }

    pub fn identity(&self, app: &str) -> Outcome<IdentityId> {
        Ok(self.book.id(&labels(app)).ok_or("an identity is missing")?)
    }

    pub fn desired(&self, ifindex: u32, table: Table) -> Outcome<Desired> {
        let endpoint = Endpoint {
            id: 9,
            identity: self.identity("pay")?,
            table: 1,
            mac: MAC,
            ipv4: Some(POD),
            ipv6: None,
            netns_id: -1,
        };
        let first = u32::from(Ipv4Addr::new(10, 2, 0, 0));
        let addresses = (0..self.remote)
            .map(|peer| {
                let address = Ipv4Addr::from(first + peer);
                Ok((address.into(), self.identity(&format!("a{peer}"))?))
            })
            .collect::<Outcome<_>>()?;
        Ok(Desired {
            endpoints: [(ifindex, endpoint)].into(),
            host: Default::default(),
            addresses,
            prefixes: BTreeMap::new(),
            tables: [(1, Arc::new(table))].into(),
            ..Desired::default()
        })
    }
}

fn labels(app: &str) -> Labels {
    let cluster = Label::k8s("io.cilium.k8s.policy.cluster", "default");
    [Label::k8s("app", app), cluster].into_iter().collect()
}

fn app(name: String) -> Peers {
    let want = Requirement::equals(SelectorKey::parse("k8s:app"), name);
    Peers::OneOf(vec![Peer::Endpoints([want].into_iter().collect())])
}

fn policy_name() -> PolicyName {
    PolicyName {
        kind: PolicyKind::CiliumNetworkPolicy,
        namespace: Some("bank".into()),
        name: "bench".into(),
    }
}

fn rule(number: u32, direction: Direction, peers: Peers, port: u16) -> Rule {
    let transport = Transport::Tcp;
    Rule {
        id: RuleId { policy: policy_name(), path: format!("spec.rules[{number}]") },
        tier: Tier::Normal,
        priority: 0,
        subject: policy::Subject::Endpoints(Selector::default()),
        direction,
        action: Action::Allow,
        peers,
        ports: Ports::OneOf(vec![PortMatch { transport, port: Port::Range(port, port) }]),
        default_deny: true,
        authentication: None,
        layer7: None,
        log: None,
    }
}
