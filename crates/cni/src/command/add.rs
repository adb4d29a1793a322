//! ADD: gives a pod its interface, its guard first.

use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use model::{EndpointRecord, PodName};

use super::unwire::{foreign, unwire, unwire_link};
use super::{Done, Node, refused};
use crate::attachment::Attachment;
use crate::failure::{Code, Failure};
use crate::ipam::Ipam;
use crate::presence;
use crate::programs::ProgramsError;
use crate::record;
use crate::result::{Interface, Success};
use crate::wiring::{self, Link, Namespace, Netlink, Plan};

/// The first pause between two looks at whether the agent is done; they double.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// One ADD.
pub(super) struct Addition<'a> {
    pub(super) node: &'a Node<'a>,
    pub(super) attachment: &'a Attachment,
    pub(super) netns: &'a Path,
    pub(super) pod: &'a PodName,
}

impl Addition<'_> {
    /// Wires the pod and waits for the agent. A failure leaves nothing behind; a
    /// repetition for a pod that is wired changes nothing.
    pub(super) fn add(&self) -> Result<Done, Failure> {
        let namespace = self.validate()?;
        let netlink = Netlink::open()?;
        let config = self.node.config;
        let addresses = Ipam::lock(&config.state_dir)?.allocate(
            &config.name,
            self.attachment,
            &config.subnets,
        )?;
        let plan = Plan { attachment: self.attachment.clone(), addresses, mtu: config.mtu };
        match self.in_place(&netlink, &namespace, &plan)? {
            // What is there is an earlier call's: a failure to wait takes nothing away.
            Some(host) => {
                let notes = self.wait_for_agent(&host)?;
                self.done(&namespace, &plan, &host, notes)
            }
            None => self
                .wire_and_open(&netlink, &namespace, &plan)
                .map_err(|failure| self.undo(failure)),
        }
    }

    /// The node's end comes up last, when the agent judges what passes it: what
    /// the kernel says on a new link (multicast reports) is then no drop to explain.
    fn wire_and_open(
        &self,
        netlink: &Netlink,
        namespace: &Namespace,
        plan: &Plan,
    ) -> Result<Done, Failure> {
        let host = self.wire(netlink, namespace, plan)?;
        let notes = self.wait_for_agent(&host)?;
        wiring::raise_host(netlink, plan)?;
        self.done(namespace, plan, &host, notes)
    }

    /// All that can be known to be wrong before anything is changed.
    fn validate(&self) -> Result<Namespace, Failure> {
        if self.node.config.previous.is_some() {
            return Err(Failure::new(
                Code::InvalidConfig,
                "prevResult on ADD: this plugin makes the interface, put it first in the list, or \
                 write `chained: true`",
            ));
        }
        let namespace = self.validate_places()?;
        if let Some(other) = foreign(self.node, self.attachment)? {
            return Err(Failure::new(
                Code::Wiring,
                format!(
                    "host interface `{}` belongs to container `{}` (pod {}): names collide",
                    other.host_interface, other.container_id, other.pod
                ),
            ));
        }
        Ok(namespace)
    }

    /// The pod's namespace, once it is another than the node's and there is somebody to
    /// guard it.
    pub(super) fn validate_places(&self) -> Result<Namespace, Failure> {
        let namespace = Namespace::open(self.netns)?;
        if namespace.is_own()? {
            return Err(Failure::new(
                Code::InvalidEnvironment,
                format!("CNI_NETNS `{}` is the node's own network namespace", self.netns.display()),
            ));
        }
        let pins = &self.node.config.pins;
        if !presence::has_pins(pins) {
            let missing = ProgramsError::NotInstalled { pins: pins.clone() };
            return Err(Failure::caused_by(Code::TryLater, &missing));
        }
        Ok(namespace)
    }

    /// The node's end, if an earlier call has done all of the work.
    fn in_place(
        &self,
        netlink: &Netlink,
        namespace: &Namespace,
        plan: &Plan,
    ) -> Result<Option<Link>, Failure> {
        let Some(host) = netlink.link(&self.attachment.host_interface())? else {
            return Ok(None);
        };
        let pins = &self.node.config.pins;
        let attached = self
            .node
            .programs
            .is_attached(pins, host.index)
            .map_err(|error| refused("look for the programs of", &host.name, &error))?;
        let record = record::find(&self.node.config.endpoints(), &host.name);
        let recorded = match record {
            Ok(Some(record)) => record == self.record(netlink, namespace, plan, &host)?,
            _ => false,
        };
        let in_place =
            attached && recorded && wiring::differences(netlink, namespace, plan)?.is_empty();
        Ok(in_place.then_some(host))
    }

    /// Makes the link. The order is the promise: guard, then record; up comes later.
    fn wire(&self, netlink: &Netlink, namespace: &Namespace, plan: &Plan) -> Result<Link, Failure> {
        unwire_link(self.node, self.attachment)?;
        let host = wiring::create(netlink, namespace, plan)?;
        let pins = &self.node.config.pins;
        self.node
            .programs
            .attach(pins, &host.name, host.index)
            .map_err(|error| refused("attach the programs to", &host.name, &error))?;
        wiring::raise_pod(namespace, plan)?;
        let record = self.record(netlink, namespace, plan, &host)?;
        record::write(&self.node.config.endpoints(), &record)?;
        Ok(host)
    }

    fn record(
        &self,
        netlink: &Netlink,
        namespace: &Namespace,
        plan: &Plan,
        host: &Link,
    ) -> Result<EndpointRecord, Failure> {
        Ok(EndpointRecord {
            container_id: self.attachment.container_id().to_owned(),
            pod: self.pod.clone(),
            pod_interface: self.attachment.interface().to_owned(),
            host_interface: host.name.clone(),
            ifindex: host.index,
            mac: self.attachment.pod_mac(),
            addresses: plan.addresses.clone(),
            netns_id: netlink.namespace_id(namespace)?,
        })
    }

    /// Waits for the agent, if one runs; else says what that means.
    pub(super) fn wait_for_agent(&self, host: &Link) -> Result<Vec<String>, Failure> {
        let runs = presence::agent_runs(&self.node.config.state_dir)
            .map_err(|error| Failure::caused_by(Code::Io, &error))?;
        if runs {
            self.wait(host)?;
            return Ok(Vec::new());
        }
        Ok(vec![format!(
            "no agent runs on node `{}`: pod {} is wired and stays denied until one does",
            self.node.config.node, self.pod
        )])
    }

    /// Tells the runtime what there is.
    fn done(
        &self,
        namespace: &Namespace,
        plan: &Plan,
        host: &Link,
        notes: Vec<String>,
    ) -> Result<Done, Failure> {
        let success = self.success(namespace, plan, host)?;
        Ok(Done { answer: Some(success.to_json(self.node.config.version)), notes })
    }

    /// Returns once the agent has installed the endpoint.
    fn wait(&self, host: &Link) -> Result<(), Failure> {
        let timeout = self.node.config.enforce_timeout;
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let enforced = self
                .node
                .programs
                .is_enforced(&self.node.config.pins, host.index)
                .map_err(|error| refused("look for the endpoint of", &host.name, &error))?;
            if enforced {
                return Ok(());
            }
            let Some(left) = timeout.checked_sub(started.elapsed()) else {
                return Err(Failure::new(
                    Code::TryLater,
                    format!(
                        "the agent on node `{}` did not install pod {} within {} ms; see its log",
                        self.node.config.node,
                        self.pod,
                        timeout.as_millis()
                    ),
                ));
            };
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn success(&self, namespace: &Namespace, plan: &Plan, host: &Link) -> Result<Success, Failure> {
        let name = self.attachment.interface();
        let pod = wiring::pod_link(namespace, name)?.ok_or_else(|| {
            Failure::new(Code::Wiring, format!("`{name}` has gone from the pod meanwhile"))
        })?;
        let with_gateway = |address: &IpAddr| (*address, wiring::gateway(*address));
        let end = |link: &Link, sandbox| Interface {
            name: link.name.clone(),
            mac: link.mac,
            mtu: link.mtu,
            sandbox,
        };
        Ok(Success {
            host: end(host, None),
            pod: end(&pod, Some(self.netns.display().to_string())),
            addresses: plan.addresses.iter().map(with_gateway).collect(),
            dns: self.node.config.dns.clone(),
        })
    }

    /// Takes back what was done, and keeps the first failure as the one to tell.
    fn undo(&self, failure: Failure) -> Failure {
        match unwire(self.node, self.attachment) {
            Ok(()) => failure,
            Err(second) => failure
                .with_detail(&format!("undoing failed too: {} {}", second.message, second.details)),
        }
    }
}
