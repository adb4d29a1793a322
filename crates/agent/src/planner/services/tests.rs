//! Services of the small cluster.

use super::*;
use crate::planner::Plan;
use crate::testing::{self, CLUSTER, api, db};

fn plan_of(more: &str) -> Plan {
    testing::plan(&format!("{CLUSTER}---\n{more}"), &[api(), db()])
}

/// What the kernel is told: `address:port/protocol affinity ends`.
#[track_caller]
fn check(plan: &Plan, want: &[&str]) {
    let services = &plan.desired.services;
    let text = |(frontend, backends): (&Frontend, &Backends)| {
        let Frontend { address, port, protocol } = frontend;
        let ends: Vec<String> = backends.ends.iter().map(ToString::to_string).collect();
        let own = SocketAddr::new(*address, *port);
        format!("{own}/{protocol} {} {}", backends.affinity_seconds, ends.join(","))
    };
    assert_eq!(services.frontends.iter().map(text).collect::<Vec<_>>(), want);
}

const PAY: &str = "
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: payment}
spec:
  clusterIPs: [10.96.0.7, 'fd00:10:96::7']
  selector: {app: api}
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  ports: [{port: 80, targetPort: http}, {name: s, port: 36412, protocol: SCTP}]
";

#[test]
fn each_address_and_port_leads_to_backends_of_its_family() {
    let plan = plan_of(PAY);
    check(&plan, &["10.96.0.7:80/6 60 10.1.0.5:8080", "[fd00:10:96::7]:80/6 60 [fd00:1::5]:8080"]);
    let addresses: Vec<String> =
        plan.desired.services.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.96.0.7", "fd00:10:96::7"]);
    let reasons: Vec<&str> = plan.services.iter().map(|view| view.reason.as_str()).collect();
    let sctp = "SCTP has no socket hooks: ask for a backend's own address";
    assert_eq!(reasons, ["", "", sctp, sctp]);
    assert_eq!(plan.problems, Vec::<String>::new());
}

#[test]
fn a_service_that_nobody_serves_is_known_and_leads_nowhere() {
    let plan = plan_of(&PAY.replace("{app: api}", "{app: nobody}"));
    check(&plan, &["10.96.0.7:80/6 60 ", "[fd00:10:96::7]:80/6 60 "]);
    assert_eq!(plan.services[0].reason, "no backend is ready: connections are refused");
}

#[test]
fn what_two_services_claim_neither_gets() {
    let other = PAY.replace("name: pay", "name: thief").replace(", 'fd00:10:96::7'", "");
    let plan = plan_of(&format!("{PAY}---\n{other}"));
    check(&plan, &["[fd00:10:96::7]:80/6 60 [fd00:1::5]:8080"]);
    assert!(plan.desired.services.addresses.contains(&"10.96.0.7".parse().unwrap()));
    let want = "10.96.0.7 is claimed by services payment/pay and payment/thief: \
                neither is led anywhere";
    assert_eq!(plan.problems, [want]);
}

#[test]
fn nobodys_own_address_becomes_a_services() {
    // A pod here, a pod elsewhere, a node.
    for address in ["10.1.0.6", "10.2.0.7", "192.168.0.2"] {
        let plan = plan_of(&PAY.replace("10.96.0.7", address));
        check(&plan, &["[fd00:10:96::7]:80/6 60 [fd00:1::5]:8080"]);
        assert!(!plan.desired.services.addresses.contains(&address.parse().unwrap()));
        let want = format!(
            "service payment/pay has the address {address} of a pod or a node: \
             it is not led anywhere"
        );
        assert_eq!(plan.problems, [want]);
    }
}

/// A service of two ports that one pod serves, at an address.
fn two_ports(name: &str, address: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: payment}}, spec: \
         {{clusterIP: {address}, selector: {{app: api}}, ports: [{{name: a, port: 80}}, {{name: b, \
         port: 81}}]}}}}\n"
    )
}

#[test]
fn of_services_that_do_not_fit_those_stay_that_are_there() {
    let (old, new) = (two_ports("z", "10.96.0.9"), two_ports("a", "10.96.0.1"));
    let mut options = testing::options();
    // Two addresses and three ports.
    options.limits.services = 5;
    let of = |text: &str, before: Option<&Plan>| {
        let inputs = testing::inputs(&format!("{CLUSTER}{text}"), &[api(), db()]);
        testing::replan(&inputs, &options, before)
    };
    let first = of(&old, None);
    assert_eq!(first.misfit, None);
    let second = of(&format!("{old}{new}"), Some(&first));
    let both = ["10.96.0.9:80/6 0 10.1.0.5:80", "10.96.0.9:81/6 0 10.1.0.5:81"];
    check(&second, &["10.96.0.1:80/6 0 10.1.0.5:80", both[0], both[1]]);
    assert_eq!(second.desired.services.addresses.len(), 2, "its address stays a service's own");
    let text = second.misfit.as_ref().unwrap();
    let want =
        "1 ports of services do not fit and are led nowhere: addresses and ports are 6, 5 is";
    assert!(text.starts_with(want), "{text}");
    let refused: Vec<(u16, &str)> = second
        .services
        .iter()
        .filter(|view| !view.reason.is_empty())
        .map(|view| (view.frontend.port, view.reason.as_str()))
        .collect();
    assert_eq!(refused, [(81, NO_ROOM)]);

    // Of backends one more fits.
    options.limits.services = 100;
    options.limits.backends = 3;
    let inputs = testing::inputs(&format!("{CLUSTER}{old}{new}"), &[api(), db()]);
    let third = testing::replan(&inputs, &options, Some(&first));
    check(&third, &["10.96.0.1:80/6 0 10.1.0.5:80", both[0], both[1]]);
    options.limits.backends = 4;
    let fourth = testing::replan(&inputs, &options, Some(&third));
    assert_eq!((fourth.misfit, fourth.desired.services.frontends.len()), (None, 4));
}
