//! What limited readers see. The flows are those of the protocol's test: `payment`
//! judged a, b and c, `web` none; d is an answer between both.

use super::*;

const FLOWS: &str = include_str!("../../tests/protocol/flows.jsonl");

fn limited(namespaces: &[&str]) -> Scope {
    Scope::Namespaces(namespaces.iter().map(|name| (*name).to_owned()).collect())
}

fn answers() -> Vec<GetFlowsResponse> {
    FLOWS.lines().map(|line| crate::json::from_json(line).unwrap()).collect()
}

#[track_caller]
fn check(scope: &Scope, want: &str) {
    let shown = answers().into_iter().filter_map(|answer| scope.shown(answer));
    let words: String = shown
        .map(|answer| match answer.response_types {
            Some(ResponseTypes::Flow(flow)) => flow.uuid,
            _ => ".".to_owned(),
        })
        .collect();
    assert_eq!(words, want);
}

#[test]
fn a_flow_belongs_to_the_namespace_where_it_was_judged() {
    check(&Scope::Everything, "abcde.");
    check(&limited(&["payment"]), "abc");
    check(&limited(&["web"]), "");
    check(&limited(&["web", "payment"]), "abcd");
    check(&limited(&["kube-system"]), "");
}

/// What ended between both, seen at this end: an answer, or not.
fn end(direction: TrafficDirection, reply: bool) -> GetFlowsResponse {
    use crate::proto::flow::{CiliumEventType, Verdict};
    let pod =
        |namespace: &str| Some(Endpoint { namespace: namespace.into(), ..Endpoint::default() });
    let (client, server) = (pod("web"), pod("payment"));
    let (source, destination) = if reply { (server, client) } else { (client, server) };
    crate::flow::to_response(Flow {
        source,
        destination,
        traffic_direction: direction.into(),
        is_reply: Some(reply),
        verdict: Verdict::Forwarded.into(),
        event_type: Some(CiliumEventType { r#type: EVENT_TRACE, sub_type: 0 }),
        ..Flow::default()
    })
}

/// `web` asks, `payment` answers: of either direction it is certain who saw the end.
#[test]
fn the_end_of_a_connection_belongs_to_who_saw_it() {
    for reply in [false, true] {
        let shown = |namespace: &str, direction| {
            limited(&[namespace]).shown(end(direction, reply)).is_some()
        };
        assert!(shown("web", TrafficDirection::Egress), "{reply}");
        assert!(!shown("web", TrafficDirection::Ingress), "{reply}");
        assert!(shown("payment", TrafficDirection::Ingress), "{reply}");
        assert!(!shown("payment", TrafficDirection::Egress), "{reply}");
    }
}

#[test]
fn nothing_of_another_namespace_is_left_in_what_is_shown() {
    let scope = limited(&["payment"]);
    let shown: String = answers()
        .into_iter()
        .filter_map(|answer| scope.shown(answer))
        .map(|answer| crate::json::to_json(&answer).unwrap())
        .collect();
    for word in ["front", "\"web\"", "30002", "kube", "30003", "\"c2\"", "Deployment"] {
        assert!(!shown.contains(word), "{word}: {shown}");
    }
    assert!(shown.contains("api-0") && shown.contains("10.1.0.6"), "{shown}");
    assert!(!shown.contains("lost_events"), "{shown}");
}

#[test]
fn what_numbers_the_whole_node_is_not_shown() {
    let detail = Detail {
        reason: "rule".into(),
        rules: vec!["r".into()],
        because: vec![],
        revision: 7,
        source: Actor::Unknown("not-seen".into()),
        destination: Actor::Unknown("not-seen".into()),
        record: "1/2".into(),
        bytes: 74,
        count: 1,
        first_ns: 0,
        shadow: None,
        connection: None,
    };
    let mut answer = answers().remove(1);
    if let Some(ResponseTypes::Flow(flow)) = &mut answer.response_types {
        flow.extensions = Some(detail.to_any());
        flow.ingress_denied_by[0].revision = 7;
        flow.ingress_denied_by.push(Policy { namespace: "web".into(), ..Policy::default() });
    }
    let shown = limited(&["payment"]).shown(answer).unwrap();
    let Some(ResponseTypes::Flow(flow)) = shown.response_types else { panic!() };
    assert_eq!((flow.ingress_denied_by.len(), flow.ingress_denied_by[0].revision), (1, 0));
    let detail = Detail::from_any(&flow.extensions.unwrap()).unwrap();
    assert_eq!((detail.revision, detail.record.as_str()), (0, ""));
    assert_eq!(detail.source, Actor::Unknown("not-shown".into()));
    assert_eq!(detail.destination, Actor::Unknown("not-seen".into()));
}

fn hex(bytes: &[u8]) -> String {
    sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn access() -> Access {
    let (certificate, token) = (hex(b"certificate"), hex(b"secret"));
    Access::read(&format!(
        r#"{{"readers":[{{"name":"soc","certificateSha256":"{certificate}","namespaces":["*"]}},{{"name":"pay","tokenSha256":"{token}","namespaces":["payment"]}}]}}"#
    ))
    .unwrap()
}

#[test]
fn who_is_not_listed_sees_nothing() {
    let decided = |certificate: &[u8], token| access().decide(certificate, token);
    assert_eq!(decided(b"certificate", None).unwrap(), Scope::Everything);
    assert_eq!(decided(b"other", Some("secret")).unwrap(), limited(&["payment"]));
    assert_eq!(decided(b"other", None).unwrap_err().code(), tonic::Code::PermissionDenied);
    let mistaken = decided(b"certificate", Some("secre"));
    assert_eq!(mistaken.unwrap_err().code(), tonic::Code::Unauthenticated);
}

#[track_caller]
fn check_refused(text: &str, want: &str) {
    let error = Access::read(text).unwrap_err().to_string();
    assert!(error.contains(want), "{error}");
}

#[test]
fn a_list_that_means_nothing_is_refused_whole() {
    check_refused("{}", "not of the form");
    check_refused(r#"{"readers":[],"x":1}"#, "not of the form");
    let reader = |fields: &str| format!(r#"{{"readers":[{{"name":"a",{fields}}}]}}"#);
    check_refused(&reader(r#""namespaces":["a"]"#), "give certificateSha256 or tokenSha256");
    check_refused(&reader(r#""tokenSha256":"ab","namespaces":["a"]"#), "64 hexadecimal digits");
    let digest = hex(b"x");
    for namespaces in ["[]", r#"["*","a"]"#, r#"[""]"#, r#"["a/b"]"#] {
        let fields = format!(r#""tokenSha256":"{digest}","namespaces":{namespaces}"#);
        check_refused(&reader(&fields), "namespaces are names");
    }
}
