//! What the service answers about a node.

use std::time::Instant;

use datapath::{AttachKind, Features, HookState};

use super::*;
use crate::enforced::Enforced;
use crate::planner::Plan;
use crate::state::{ControlView, Facts};
use crate::testing::{self, CLUSTER, RULE, api, db};

const SECOND: u64 = 1_000_000_000;

/// A node on which `before` is in force, and `newest` is or is not yet.
fn service(before: Option<Plan>, newest: Plan, pending: Option<&str>) -> NodeSignet {
    let newest = Arc::new(newest);
    let mut enforced = Enforced::default();
    if let Some(before) = before {
        enforced.advance(Arc::new(before), 3, 3 * SECOND);
    }
    if pending.is_none() {
        enforced.advance(Arc::clone(&newest), 4, 4 * SECOND);
    }
    let hooks = vec![
        HookState { name: "connect4", missing: None },
        HookState { name: "bind4", missing: Some("refused".into()) },
    ];
    let state = NodeState::new(Facts {
        node: "node-1".into(),
        cluster: "jakarta".into(),
        kernel_release: "6.18".into(),
        features: Features { attach: AttachKind::Tcx, hooks, taken_over: true },
        started: Instant::now(),
    });
    state.set_control(ControlView {
        newest: Some(newest),
        enforced,
        pending: pending.map(str::to_owned),
        last_error: pending.map(|error| (error.to_owned(), 5 * SECOND)),
        ..ControlView::default()
    });
    NodeSignet::new(Arc::new(state))
}

#[test]
fn the_status_says_what_the_kernel_can_and_where_enforcement_stands() {
    let plan = testing::plan(CLUSTER, &[api(), testing::record("payment/ghost", 9, &["10.1.0.9"])]);
    let status = service(None, plan, None).status_now();
    assert_eq!((status.node.as_str(), status.attach_kind.as_str()), ("node-1", "tcx"));
    assert_eq!(status.policy_revision, 4);
    assert_eq!((status.endpoints, status.endpoints_not_ready), (2, 1));
    assert_eq!((status.last_error.as_str(), status.last_error_time), ("", None));
    let features: Vec<(&str, bool, &str)> = status
        .features
        .iter()
        .map(|feature| (feature.name.as_str(), feature.available, feature.detail.as_str()))
        .collect();
    assert_eq!(
        features,
        [
            ("connect4", true, "attached"),
            ("bind4", false, "refused"),
            ("pinned state", true, "taken over from an earlier agent"),
        ]
    );
}

#[test]
fn an_endpoint_is_listed_with_its_table_and_its_enforcement() {
    let plan = testing::plan(CLUSTER, &[api()]);
    let service = service(None, plan, None);
    let rows = endpoints::list("node-1", &service.0.control());
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((row.namespace.as_str(), row.pod.as_str()), ("payment", "api"));
    assert_eq!((row.interface.as_str(), row.ifindex), ("sg5", 5));
    assert_eq!(row.addresses, ["10.1.0.5", "fd00:1::5"]);
    assert_eq!(row.mac, "02:00:00:00:00:05");
    assert_eq!(row.ingress(), api::proto::signet::v1::Enforcement::DefaultDeny);
    assert_eq!(row.egress(), api::proto::signet::v1::Enforcement::None);
    assert!(row.ready && row.reason.is_empty());
    assert_eq!(row.revision, 4);
    assert_eq!(row.table_digest.len(), 64);
    assert!(row.labels.contains(&"k8s:app=api".to_owned()));
}

#[test]
fn an_endpoint_that_is_left_out_says_why() {
    let plan = testing::plan(CLUSTER, &[testing::record("payment/ghost", 9, &["10.1.0.9"])]);
    let service = service(None, plan, None);
    let rows = endpoints::list("node-1", &service.0.control());
    assert_eq!(rows[0].reason, "the cluster has no pod of this name");
    assert!(!rows[0].ready);
    assert_eq!((rows[0].identity, rows[0].table, rows[0].revision), (0, 0, 0));
}

#[test]
fn while_a_plan_cannot_be_installed_the_one_in_force_is_shown() {
    let before = testing::plan(CLUSTER, &[api()]);
    let digest = before.endpoints[0].table.as_ref().unwrap().1.digest();
    let changed = CLUSTER.replace("port: '8080'", "port: '9090'");
    let newest = testing::plan(&changed, &[api(), db()]);
    let service = service(Some(before), newest, Some("map is full"));
    let rows = endpoints::list("node-1", &service.0.control());
    assert_eq!((rows[0].pod.as_str(), rows[0].ready, rows[0].revision), ("api", true, 3));
    assert_eq!(rows[0].table_digest, hexadecimal(&digest));
    assert_eq!(rows[0].reason, "map is full");
    assert_eq!((rows[1].pod.as_str(), rows[1].ready, rows[1].revision), ("db", false, 0));
    let policies = policies::list("node-1", &service.0.control());
    assert_eq!(policies[0].reason, "not in force yet: map is full");
    assert_eq!((policies[0].accepted, policies[0].revision), (true, 0));
    assert_eq!(service.status_now().last_error, "map is full");
}

#[test]
fn a_policy_is_listed_with_its_rules_its_subjects_and_since_when() {
    let plan = testing::plan(CLUSTER, &[api(), db()]);
    let service = service(None, plan, None);
    let rows = policies::list("node-1", &service.0.control());
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(row.kind, "CiliumNetworkPolicy");
    assert_eq!((row.namespace.as_str(), row.name.as_str()), ("payment", "api"));
    assert_eq!(row.rules, [RULE]);
    assert_eq!(row.subjects, ["payment/api"]);
    assert_eq!(row.source, "cluster.yaml");
    assert!(row.accepted && row.reason.is_empty());
    assert_eq!((row.revision, row.since), (4, Some(timestamp(4 * SECOND))));
    assert_eq!(row.digest.len(), 64);
}

#[test]
fn identities_are_listed_by_number_with_the_reserved_ones() {
    let plan = testing::plan(CLUSTER, &[api()]);
    let service = service(None, plan, None);
    let rows = identities::list("node-1", &service.0.control());
    assert_eq!((rows[0].id, rows[0].labels.as_slice()), (1, &["reserved:host".to_owned()][..]));
    assert!(rows.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(rows.len(), 10 + 3, "reserved, and the pods api, db and front");
    assert!(rows.iter().all(|row| row.nodes == ["node-1"]));
}
