//! What the numbers in records mean now, and meant a moment ago.
//!
//! Made from the plan in force, one that is about to be, and the one before:
//! records are read a little after they were written.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use model::{Direction, IdentityId, Labels, PodName, PolicyName, RuleSet, RuleSetId};
use policy::{Policy, Rule};
use source::ServiceName;

use crate::catalogue::Catalogue;
use crate::planner::{Holder, Plan};

/// A pod, and where it hangs on this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The pod.
    pub pod: PodName,
    /// Kind and name of its owner.
    pub workload: Option<(String, String)>,
    /// Its number here; 0: on another node.
    pub endpoint_id: u32,
}

/// The plans that records may refer to, and an index of this node's pods.
#[derive(Debug, Default)]
pub struct Names {
    /// The newest first.
    plans: Vec<Arc<Plan>>,
    catalogue: Arc<Catalogue>,
    by_endpoint: HashMap<u32, Place>,
    by_interface: HashMap<u32, (String, Place)>,
    /// Numbers of the pods that are installed.
    installed: HashMap<PodName, u32>,
    /// Labels of this node, `key=value` and sorted.
    node_labels: Arc<[String]>,
    /// Services by their own addresses; made when somebody asks.
    services: OnceLock<Services>,
}

/// `None`: two of them claim the address.
type Services = HashMap<IpAddr, Option<ServiceName>>;

impl Names {
    /// Names from these plans, the newest first.
    pub fn new(mut plans: Vec<Arc<Plan>>, catalogue: Arc<Catalogue>) -> Self {
        plans.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let mut names = Self { catalogue, ..Self::default() };
        for plan in &plans {
            names.add(plan);
        }
        names.node_labels =
            plans.iter().find_map(|plan| plan.node()).map(labels).unwrap_or_default();
        names.plans = plans;
        names
    }

    /// What an earlier call has set, it keeps: newer plans come first.
    fn add(&mut self, plan: &Plan) {
        for endpoint in &plan.endpoints {
            let record = &endpoint.record;
            let place = Place {
                pod: record.pod.clone(),
                workload: endpoint.workload.clone(),
                endpoint_id: endpoint.id,
            };
            if endpoint.left_out.is_none() {
                self.installed.entry(record.pod.clone()).or_insert(endpoint.id);
            }
            let interface = (record.host_interface.clone(), place.clone());
            self.by_interface.entry(record.ifindex).or_insert(interface);
            self.by_endpoint.entry(endpoint.id).or_insert(place);
        }
    }

    /// Labels of this node, as its Node has them now.
    pub fn node_labels(&self) -> &Arc<[String]> {
        &self.node_labels
    }

    /// The service whose own address this is, and nobody else's.
    pub fn service(&self, address: IpAddr) -> Option<&ServiceName> {
        let services = self.services.get_or_init(|| {
            let mut all = Services::new();
            for plan in self.plans.iter().rev() {
                all.extend(services(plan));
            }
            all
        });
        services.get(&address)?.as_ref()
    }

    /// The texts that the deciders of a flow want it to carry, each once: its rules, and
    /// of the policies that denied by default the rules that are about this subject.
    pub fn log(
        &self,
        deciders: &RuleSet,
        subject: Option<&Labels>,
        direction: Option<Direction>,
    ) -> Vec<String> {
        let decided = deciders
            .rules
            .iter()
            .filter_map(|id| self.policy(&id.policy)?.rules.iter().find(|rule| rule.id == *id));
        let denied = |rule: &&Rule| {
            rule.default_deny
                && Some(rule.direction) == direction
                && subject.is_some_and(|subject| rule.selects(subject))
        };
        let denying = deciders.because.iter().filter_map(|name| self.policy(name));
        let denying = denying.flat_map(|policy| policy.rules.iter()).filter(denied);
        let texts: BTreeSet<&String> =
            decided.chain(denying).filter_map(|rule| rule.log.as_ref()).collect();
        texts.into_iter().cloned().collect()
    }

    fn policy(&self, name: &PolicyName) -> Option<&Policy> {
        self.plans.iter().find_map(|plan| {
            let policies = &plan.snapshot.policies;
            let at = policies.binary_search_by(|policy| policy.name.cmp(name)).ok()?;
            policies.get(at)
        })
    }

    /// What an identity stands for.
    pub fn labels(&self, id: IdentityId) -> Option<&Labels> {
        self.plans.iter().find_map(|plan| plan.identities.labels(id))
    }

    /// The pod at an address, if it has this identity: an address that changed
    /// hands since the packet was judged names nobody.
    pub fn place_of_address(&self, address: IpAddr, identity: IdentityId) -> Option<Place> {
        self.plans.iter().find_map(|plan| match plan.addresses.get(&address)? {
            (known, Holder::Pod(pod)) if *known == identity => {
                let pod = pod.unpack();
                let endpoint_id = self.installed.get(&pod.name).copied().unwrap_or_default();
                Some(Place { pod: pod.name, workload: pod.workload, endpoint_id })
            }
            _ => None,
        })
    }

    /// The pod with this endpoint number.
    pub fn place_of_endpoint(&self, id: u32) -> Option<&Place> {
        self.by_endpoint.get(&id)
    }

    /// The pod on this interface, installed or not.
    pub fn place_of_interface(&self, ifindex: u32) -> Option<&Place> {
        self.by_interface.get(&ifindex).map(|(_, place)| place)
    }

    /// Name of an interface; empty when no pod hangs on it.
    pub fn interface(&self, ifindex: u32) -> &str {
        self.by_interface.get(&ifindex).map_or("", |(name, _)| name)
    }

    /// Whether an endpoint of this node has the identity.
    pub fn is_local(&self, identity: IdentityId) -> bool {
        self.plans.iter().any(|plan| {
            plan.desired.endpoints.values().any(|endpoint| endpoint.identity == identity)
        })
    }

    /// What a rule-set number stands for in the table of an endpoint, else in any.
    pub fn rule_set(&self, endpoint: u32, id: RuleSetId) -> Option<&RuleSet> {
        let own = self.plans.iter().find_map(|plan| {
            let (_, table) = plan.endpoint(endpoint)?.table.as_ref()?;
            table.rule_set(id)
        });
        own.or_else(|| self.catalogue.get(id))
    }
}

fn labels(node: &model::Node) -> Arc<[String]> {
    node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

/// The services of a plan by address, but for addresses that are a pod's or a node's.
fn services(plan: &Plan) -> Services {
    let mut all = Services::new();
    for service in plan.snapshot.services.values() {
        let own = service.addresses.iter().filter(|it| plan.addresses.get(it).is_none());
        for address in own {
            all.entry(*address)
                .and_modify(|claimed| *claimed = None)
                .or_insert_with(|| Some(service.name.clone()));
        }
    }
    all
}
