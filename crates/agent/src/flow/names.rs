//! What the numbers in records mean now, and meant a moment ago.
//!
//! Made from the plan in force, one that is about to be, and the one before:
//! records are read a little after they were written.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::{IdentityId, Labels, PodName, RuleSet, RuleSetId};

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
}

impl Names {
    /// Names from these plans, the newest first.
    pub fn new(mut plans: Vec<Arc<Plan>>, catalogue: Arc<Catalogue>) -> Self {
        plans.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let mut names = Self { catalogue, ..Self::default() };
        for plan in &plans {
            names.add(plan);
        }
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
