//! Flows built from records, expected by hand.

use std::sync::Arc;

use datapath::Ring;
use model::{Layer4, MatchType, PodName, Process, RuleSetId, TcpFlags, Trace};

use super::*;
use crate::catalogue::Catalogue;
use crate::planner::Plan;
use crate::testing::{self, CLUSTER, RULE, api, db, identity, pod};

const OFFSET: i64 = 1_000_000_000;

struct World {
    plan: Arc<Plan>,
    names: Names,
    builder: FlowBuilder,
}

fn world() -> World {
    let plan = Arc::new(testing::plan(CLUSTER, &[api(), db()]));
    let names = Names::new(vec![Arc::clone(&plan)], Arc::default());
    World { plan, names, builder: FlowBuilder::new("node-1", Containers::of(None)) }
}

impl World {
    fn id(&self, name: &str) -> u32 {
        identity(&self.plan, name).into()
    }

    fn endpoint(&self, ifindex: u32) -> u32 {
        self.plan.desired.endpoints[&ifindex].id
    }

    fn build(&mut self, record: &Record) -> Flow {
        self.builder.build(record, &self.names, OFFSET)
    }

    /// `payment/db` opens a connection to `payment/api`, seen on its way out.
    fn sent(&self) -> Record {
        Record {
            cpu: 1,
            sequence: 7,
            ring: Ring::Traces,
            when_ns: 500,
            verdict: Verdict::Forwarded,
            reason: 0,
            why: 1,
            hook: Direction::Egress,
            direction: Some(Direction::Egress),
            is_reply: Some(false),
            ifindex: 6,
            endpoint_id: self.endpoint(6),
            revision: 3,
            ether_type: 0x0800,
            source_mac: [2, 0, 0, 0, 0, 6],
            destination_mac: [2, 0, 0, 0, 0, 1],
            addresses: Some(("10.1.0.6".parse().unwrap(), "10.1.0.5".parse().unwrap())),
            l4: Some(Layer4::Tcp { source: 40000, destination: 8080, flags: TcpFlags(2) }),
            source_identity: self.id("payment/db"),
            destination_identity: self.id("payment/api"),
            rule_sets: [RuleSetId(0); 2],
            shadow: None,
            trace: None,
            match_type: MatchType::All,
            length: 74,
            cookie: 77,
            peer_cookie: 0,
            process: Attribution::Known(process(100)),
        }
    }

    /// The same packet at `payment/api`, which drops it.
    fn received(&self) -> Record {
        Record {
            ring: Ring::Drops,
            verdict: Verdict::Dropped,
            reason: 133,
            why: 3,
            hook: Direction::Ingress,
            direction: Some(Direction::Ingress),
            ifindex: 5,
            endpoint_id: self.endpoint(5),
            rule_sets: [self.because(), RuleSetId(0)],
            cookie: 0,
            peer_cookie: 77,
            process: Attribution::Known(process(200)),
            ..self.sent()
        }
    }

    /// Number of the set that says who switched default deny on for `payment/api`.
    fn because(&self) -> RuleSetId {
        self.set(|set| !set.because.is_empty())
    }

    fn rule(&self) -> RuleSetId {
        self.set(|set| !set.rules.is_empty())
    }

    fn set(&self, wanted: impl Fn(&RuleSet) -> bool) -> RuleSetId {
        let table = &self.plan.desired.tables[&self.plan.desired.endpoints[&5].table];
        table.rule_sets().find(|(_, set)| wanted(set)).unwrap().0
    }
}

fn process(pid: u32) -> Process {
    Process { pid, comm: "curl".into(), ..Process::default() }
}

fn pid(end: &End) -> Result<u32, UnknownProcess> {
    match &end.process {
        Attribution::Known(process) => Ok(process.pid),
        Attribution::Unknown(why) => Err(*why),
    }
}

fn named(end: &End) -> PodName {
    PodName { namespace: end.namespace.clone(), name: end.pod.clone() }
}

#[test]
fn a_sent_packet_has_its_sender_here_and_both_ends_named() {
    let mut world = world();
    let record = world.sent();
    let flow = world.build(&record);
    assert_eq!(flow.time_ns, 1_000_000_500);
    assert_eq!((flow.verdict, flow.reason), (Verdict::Forwarded, Reason::Unenforced));
    assert_eq!(named(&flow.source), pod("payment/db"));
    assert_eq!(named(&flow.destination), pod("payment/api"));
    assert_eq!(flow.source.endpoint_id, world.endpoint(6));
    assert_eq!(flow.destination.endpoint_id, world.endpoint(5));
    assert_eq!(flow.source.identity, Some(identity(&world.plan, "payment/db")));
    assert!(flow.source.labels.to_strings().contains(&"k8s:app=db".to_owned()));
    assert!(flow.destination.labels.to_strings().contains(&"k8s:app=api".to_owned()));
    assert_eq!(flow.node, "node-1");
    assert_eq!(flow.interface, (6, "sg6".to_owned()));
    assert_eq!(flow.record, (1, 7));
    let policy = flow.policy.unwrap();
    assert_eq!((policy.revision, policy.match_type), (3, MatchType::All));
    assert!(policy.rules.is_empty() && policy.because.is_empty());
}

#[test]
fn a_default_denial_names_who_switched_it_on() {
    let mut world = world();
    let record = world.received();
    let flow = world.build(&record);
    assert_eq!((flow.verdict, flow.reason), (Verdict::Dropped, Reason::DefaultDeny));
    let policy = flow.policy.unwrap();
    assert!(policy.rules.is_empty());
    assert_eq!(policy.because[0].to_string(), "CiliumNetworkPolicy/payment/api");
}

#[test]
fn an_admission_names_its_rule_once() {
    let mut world = world();
    let record = Record {
        verdict: Verdict::Forwarded,
        reason: 0,
        why: 2,
        rule_sets: [world.rule(), world.rule()],
        ..world.received()
    };
    let flow = world.build(&record);
    assert_eq!(flow.reason, Reason::Rule);
    let rules: Vec<String> = flow.policy.unwrap().rules.iter().map(ToString::to_string).collect();
    assert_eq!(rules, [RULE]);
}

/// What an operator is told, for verdict, drop code and reason of the policy.
#[track_caller]
fn check_reason(verdict: Verdict, reason: u8, why: u8, want: Reason, asked: bool) {
    let mut world = world();
    let record = Record { verdict, reason, why, ..world.received() };
    let flow = world.build(&record);
    assert_eq!((flow.reason, flow.policy.is_some()), (want, asked));
}

#[test]
fn the_policys_reason_is_told_only_where_the_policy_decided() {
    let (forwarded, dropped) = (Verdict::Forwarded, Verdict::Dropped);
    check_reason(forwarded, 0, 1, Reason::Unenforced, true);
    check_reason(forwarded, 0, 2, Reason::Rule, true);
    check_reason(forwarded, 0, 5, Reason::Rule, true);
    check_reason(forwarded, 0, 0, Reason::Established, false);
    check_reason(dropped, 133, 3, Reason::DefaultDeny, true);
    check_reason(dropped, 181, 4, Reason::DenyRule, true);
    check_reason(dropped, 133, 6, Reason::Unsupported, true);
    check_reason(dropped, 132, 0, Reason::Datapath(DropReason::INVALID_SOURCE_IP), false);
    check_reason(dropped, 203, 0, Reason::Datapath(DropReason::EP_NOT_READY), false);
    // Allowed by a rule, but the endpoint's connections are used up.
    check_reason(dropped, 155, 2, Reason::Datapath(DropReason::CT_MAP_INSERTION_FAILED), true);
    // From a datapath that knows more reasons.
    check_reason(forwarded, 0, 99, Reason::Established, false);
    check_reason(dropped, 250, 99, Reason::Datapath(DropReason(250)), false);
}

#[test]
fn the_receiver_knows_the_sending_process_from_the_senders_record() {
    let mut world = world();
    let (sent, received) = (world.sent(), world.received());
    let first = world.build(&sent);
    assert_eq!(pid(&first.source), Ok(100));
    assert_eq!(pid(&first.destination), Err(UnknownProcess::NotSeen));
    let second = world.build(&received);
    assert_eq!(pid(&second.source), Ok(100));
    assert_eq!(pid(&second.destination), Ok(200));
}

#[test]
fn a_sender_whose_record_was_lost_is_not_seen() {
    let mut world = world();
    let received = world.received();
    assert_eq!(pid(&world.build(&received).source), Err(UnknownProcess::NotSeen));
}

#[test]
fn an_answer_does_not_name_the_asker_as_its_sender() {
    let mut world = world();
    let sent = world.sent();
    world.build(&sent);
    // The answer of `payment/api`, on its way back into `payment/db`.
    let answer = Record {
        hook: Direction::Ingress,
        is_reply: Some(true),
        addresses: sent.addresses.map(|(source, destination)| (destination, source)),
        source_identity: sent.destination_identity,
        destination_identity: sent.source_identity,
        cookie: 0,
        peer_cookie: 77,
        ..sent.clone()
    };
    let flow = world.build(&answer);
    assert_eq!(pid(&flow.source), Err(UnknownProcess::NotSeen));
    assert_eq!(named(&flow.destination), pod("payment/db"));
}

/// What `payment/db` opened to `payment/api` ends: seen at either, on the way that is
/// told.
fn end_at(world: &World, server: bool, is_reply: bool) -> Record {
    let sent = world.sent();
    fn swapped<T>((a, b): (T, T), swap: bool) -> (T, T) {
        if swap { (b, a) } else { (a, b) }
    }
    let identities = (sent.source_identity, sent.destination_identity);
    let (source, destination) = swapped(identities, is_reply);
    let direction = if server { Direction::Ingress } else { Direction::Egress };
    let hook = match (direction, is_reply) {
        (Direction::Egress, false) | (Direction::Ingress, true) => Direction::Egress,
        _ => Direction::Ingress,
    };
    Record {
        hook,
        direction: Some(direction),
        is_reply: Some(is_reply),
        addresses: sent.addresses.map(|ends| swapped(ends, is_reply)),
        source_identity: source,
        destination_identity: destination,
        why: 0,
        cookie: if server { 0 } else { 77 },
        peer_cookie: if server { 77 } else { 0 },
        process: Attribution::Unknown(UnknownProcess::Closed),
        trace: Some(Trace::End(None)),
        ifindex: if server { 5 } else { 6 },
        endpoint_id: world.endpoint(if server { 5 } else { 6 }),
        ..sent
    }
}

#[test]
fn at_the_end_of_a_connection_who_opened_it_is_still_known() {
    let mut world = world();
    let sent = world.sent();
    world.build(&sent);
    for (server, is_reply) in [(false, false), (false, true), (true, false), (true, true)] {
        let record = end_at(&world, server, is_reply);
        let flow = world.build(&record);
        let (opened, other) = match is_reply {
            false => (&flow.source, &flow.destination),
            true => (&flow.destination, &flow.source),
        };
        assert_eq!(named(opened), pod("payment/db"), "{record:?}");
        assert_eq!(pid(opened), Ok(100), "{record:?}");
        let unknown = if server { UnknownProcess::Closed } else { UnknownProcess::NotSeen };
        assert_eq!(pid(other), Err(unknown), "{record:?}");
        assert_eq!((flow.reason, flow.policy), (Reason::Established, None));
    }
}

#[test]
fn a_cut_answer_is_a_drop_at_ingress_by_the_right_of_egress() {
    use api::proto::flow::TrafficDirection;
    let (mut world, uuids) = (world(), api::flow::UuidKey::new(b""));
    let cut = Record {
        hook: Direction::Ingress,
        direction: Some(Direction::Egress),
        verdict: Verdict::Dropped,
        is_reply: Some(true),
        ..world.sent()
    };
    let flow = api::flow::to_proto(&world.build(&cut), "", &uuids);
    assert_eq!(flow.traffic_direction(), TrafficDirection::Ingress);
    // An answer that goes on is told by the right it goes on by.
    let answer = Record { verdict: Verdict::Forwarded, ..cut };
    let flow = api::flow::to_proto(&world.build(&answer), "", &uuids);
    assert_eq!(flow.traffic_direction(), TrafficDirection::Egress);
}

#[test]
fn a_peer_on_another_node_is_named_but_its_process_is_there() {
    let mut world = world();
    let record = Record {
        addresses: Some(("10.1.0.6".parse().unwrap(), "10.2.0.7".parse().unwrap())),
        destination_identity: world.id("web/front-1"),
        ..world.sent()
    };
    let flow = world.build(&record);
    assert_eq!(named(&flow.destination), pod("web/front-1"));
    assert_eq!(flow.destination.endpoint_id, 0);
    assert_eq!(flow.destination.workload, Some(("StatefulSet".into(), "front".into())));
    assert_eq!(pid(&flow.destination), Err(UnknownProcess::OtherNode));
}

#[test]
fn the_world_the_host_and_the_unknown_have_no_process_here() {
    for (number, label) in [(2, Some("reserved:world")), (1, Some("reserved:host")), (0, None)] {
        let mut world = world();
        let record = Record {
            addresses: Some(("10.1.0.6".parse().unwrap(), "203.0.113.9".parse().unwrap())),
            destination_identity: number,
            ..world.sent()
        };
        let flow = world.build(&record);
        assert_eq!(pid(&flow.destination), Err(UnknownProcess::NotLocal));
        assert_eq!(flow.destination.identity.map(u32::from).unwrap_or_default(), number);
        assert_eq!(flow.destination.labels.to_strings().first().map(String::as_str), label);
        assert_eq!(flow.destination.pod, "");
    }
}

#[test]
fn an_address_that_changed_hands_does_not_rename_the_past() {
    let mut world = world();
    let record = Record {
        // Judged as `payment/db` when 10.1.0.5 was its address.
        destination_identity: world.id("payment/db"),
        ..world.sent()
    };
    let flow = world.build(&record);
    assert_eq!(flow.destination.pod, "");
    assert_eq!(flow.destination.identity, Some(identity(&world.plan, "payment/db")));
    assert!(flow.destination.labels.to_strings().contains(&"k8s:app=db".to_owned()));
}

#[test]
fn a_pod_that_is_not_installed_yet_is_named_by_its_interface() {
    let plan =
        Arc::new(testing::plan(CLUSTER, &[testing::record("payment/ghost", 9, &["10.1.0.9"])]));
    let names = Names::new(vec![plan], Arc::default());
    let mut builder = FlowBuilder::new("node-1", Containers::of(None));
    let record = Record {
        ifindex: 9,
        endpoint_id: 0,
        source_identity: 0,
        verdict: Verdict::Dropped,
        reason: 203,
        why: 0,
        ..world().sent()
    };
    let flow = builder.build(&record, &names, OFFSET);
    assert_eq!(named(&flow.source), pod("payment/ghost"));
    assert_eq!((flow.source.endpoint_id, flow.source.identity), (0, None));
    assert_eq!(flow.interface.1, "sg9");
}

#[test]
fn a_record_of_before_a_change_is_told_with_the_names_of_before() {
    let mut world = world();
    let record = world.received();
    let later = Arc::new(testing::plan(
        &CLUSTER.replace(
            "{name: api, namespace: payment}\nspec:\n  endpoint",
            "{name: other, namespace: payment}\nspec:\n  endpoint",
        ),
        &[api()],
    ));
    let mut catalogue = Catalogue::default();
    catalogue.update(world.plan.desired.tables.values().flat_map(|table| table.rule_sets()));
    world.names = Names::new(vec![later], Arc::new(catalogue));
    let flow = world.build(&record);
    assert_eq!(flow.policy.unwrap().because[0].to_string(), "CiliumNetworkPolicy/payment/api");
    // Of two plans the older one still knows the pod that is gone.
    let old = Arc::clone(&world.plan);
    let new = Arc::new(testing::plan(CLUSTER, &[api()]));
    world.names = Names::new(vec![new, old], Arc::default());
    let sent = world.sent();
    assert_eq!(named(&world.build(&sent).source), pod("payment/db"));
}

#[test]
fn the_container_is_the_cgroups_folder() {
    use std::os::unix::fs::MetadataExt;
    let slice = tempfile::tempdir().unwrap();
    let folder = slice.path().join("payment.db");
    std::fs::create_dir(&folder).unwrap();
    let mut world = world();
    world.builder = FlowBuilder::new("node-1", Containers::of(Some(slice.path().to_owned())));
    let cgroup_id = std::fs::metadata(&folder).unwrap().ino();
    let sender = Process { cgroup_id, ..process(100) };
    let sent = Record { process: Attribution::Known(sender), ..world.sent() };
    let received = world.received();
    let container = |end: &End| end.process.known().unwrap().container.clone();
    assert_eq!(container(&world.build(&sent).source), "payment.db");
    assert_eq!(container(&world.build(&received).source), "payment.db", "learnt with its name");
}

#[test]
fn a_frame_that_is_not_ip_is_a_flow_too() {
    let mut world = world();
    let record = Record {
        verdict: Verdict::Dropped,
        reason: 130,
        why: 0,
        direction: None,
        is_reply: None,
        addresses: None,
        l4: None,
        destination_identity: 0,
        process: Attribution::Unknown(UnknownProcess::NoSocket),
        ..world.sent()
    };
    let flow = world.build(&record);
    assert_eq!((flow.addresses, flow.l4, flow.direction), (None, None, None));
    assert_eq!(named(&flow.source), pod("payment/db"));
    assert_eq!(pid(&flow.source), Err(UnknownProcess::NoSocket));
}

#[test]
fn what_would_have_been_decided_has_its_names_too() {
    let mut world = world();
    let rule_sets = [world.because(), RuleSetId(0)];
    let shadow = datapath::Shadow { verdict: Verdict::Dropped, why: 3, rule_sets };
    let record = Record { verdict: Verdict::Forwarded, reason: 0, why: 1, ..world.received() };
    assert_eq!(world.build(&record).shadow, None);
    let flow = world.build(&Record { shadow: Some(shadow), ..record.clone() });
    let told = flow.shadow.unwrap();
    assert_eq!((told.verdict, told.reason), (Verdict::Dropped, Reason::DefaultDeny));
    assert_eq!((told.rules.len(), told.because.len()), (0, 1));
    // A number that this version does not know says nothing.
    let unknown = Some(datapath::Shadow { why: 99, ..shadow });
    assert_eq!(world.build(&Record { shadow: unknown, ..record }).shadow, None);
}

/// `payment/api` as a service of its own address, and two that claim one.
const SERVICES: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: payment}
spec: {clusterIP: 10.96.0.5, selector: {app: api}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: one, namespace: payment}
spec: {clusterIP: 10.96.0.6, selector: {app: api}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: two, namespace: payment}
spec: {clusterIP: 10.96.0.6, selector: {app: api}, ports: [{port: 80}]}
";

#[test]
fn the_own_address_of_a_service_names_it_and_no_other_address_does() {
    let plan = Arc::new(testing::plan(&format!("{CLUSTER}{SERVICES}"), &[api(), db()]));
    let mut world = world();
    world.names = Names::new(vec![plan], Arc::default());
    let service = Some(("payment".to_owned(), "api".to_owned()));
    for (address, want) in [
        ("10.96.0.5", service),
        ("10.96.0.6", None),
        ("10.96.0.7", None),
        // Its backend is reached as a pod.
        ("10.1.0.5", None),
    ] {
        let addresses = Some(("10.1.0.6".parse().unwrap(), address.parse().unwrap()));
        let record = Record { addresses, verdict: Verdict::Dropped, reason: 174, ..world.sent() };
        let flow = world.build(&record);
        assert_eq!((flow.destination.service, flow.source.service), (want, None), "{address}");
    }
}

#[test]
fn the_labels_of_the_node_are_known() {
    let labels = "metadata: {name: node-1, labels: {zone: b, kubernetes.io/arch: amd64}}";
    let cluster = CLUSTER.replacen("metadata: {name: node-1}", labels, 1);
    assert!(world().names.node_labels().is_empty());
    let names = Names::new(vec![Arc::new(testing::plan(&cluster, &[]))], Arc::default());
    assert_eq!(**names.node_labels(), ["kubernetes.io/arch=amd64", "zone=b"]);
}

#[test]
fn a_flow_carries_what_its_deciders_want_logged() {
    let logged = |text: &str| {
        let spec = "spec:\n  endpointSelector";
        assert!(CLUSTER.contains(spec));
        CLUSTER.replacen(spec, &format!("spec:\n  log: {{value: {text}}}\n  endpointSelector"), 1)
    };
    let plan = Arc::new(testing::plan(&logged("ticket-7"), &[api(), db()]));
    let mut world =
        World { names: Names::new(vec![Arc::clone(&plan)], Arc::default()), plan, ..world() };
    let denied = world.received();
    assert_eq!(world.build(&denied).policy.unwrap().log, ["ticket-7"]);
    let rule_sets = [world.rule(); 2];
    let by_rule = Record { verdict: Verdict::Forwarded, why: 2, rule_sets, ..denied.clone() };
    assert_eq!(world.build(&by_rule).policy.unwrap().log, ["ticket-7"]);
    // What the policy did not decide, it says nothing about.
    let sent = world.sent();
    assert_eq!(world.build(&sent).policy.unwrap().log, [""; 0]);
}
