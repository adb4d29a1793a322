//! Command lines and the requests they make, as Hubble's command line makes them.

use clap::Parser;

use super::*;

const NOW: u64 = 1_795_312_058_000_000_000;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    observe: ObserveArgs,
}

fn parse(line: &str) -> Result<GetFlowsRequest, String> {
    let words = std::iter::once("observe").chain(line.split_whitespace());
    let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
    let flows = match line.observe.other {
        Some(Other::Flows(flows)) => *flows,
        _ => line.observe.flows,
    };
    let format = flows.format(false);
    flows.request(NOW, format)
}

/// What Hubble's client asks for in its own forms, and what it prints unasked.
const MASK: &str = "time verdict ethernet IP l4 source.identity source.namespace source.pod_name destination.identity destination.namespace destination.pod_name Type node_name l7 event_type source_service destination_service is_reply Summary ip_trace_id traffic_direction policy_match_type source_names destination_names auth_type sock_xlate_point debug_capture_point ingress_allowed_by ingress_denied_by egress_allowed_by egress_denied_by";

/// The fields that are asked for.
fn fields(request: &GetFlowsRequest) -> String {
    request.field_mask.as_ref().map_or_else(String::new, |mask| mask.paths.join(" "))
}

/// The request as JSON, without the mask of forms that print fixed fields.
#[track_caller]
fn check(line: &str, want: &str) {
    let mut request = parse(line).unwrap();
    if fields(&request) == MASK {
        request.field_mask = None;
    }
    assert_eq!(api::json::to_json(&request).unwrap(), want, "{line}");
}

#[test]
fn twenty_flows_unless_somebody_says_how_many() {
    check("", r#"{"number":"20"}"#);
    check("--last 3", r#"{"number":"3"}"#);
    check("--first 5", r#"{"number":"5","first":true}"#);
    check("--all", r#"{"number":"18446744073709551615"}"#);
    check("-f", r#"{"follow":true}"#);
    check("-f --last 3", r#"{"number":"3","follow":true}"#);
}

#[test]
fn a_time_range_has_no_number() {
    check(
        "--since 5m --until 1m",
        r#"{"since":"2026-11-22T01:42:38Z","until":"2026-11-22T01:46:38Z"}"#,
    );
    check("--until 2026-11-22", r#"{"until":"2026-11-22T00:00:00Z"}"#);
    check("-f --since 5m --until 1m", r#"{"follow":true,"since":"2026-11-22T01:42:38Z"}"#);
}

/// The filters only.
#[track_caller]
fn check_filter(line: &str, want: &str) {
    check(&format!("--all {line}"), &format!(r#"{{"number":"18446744073709551615",{want}}}"#));
}

#[test]
fn flags_about_either_end_make_two_filters() {
    check_filter(
        "--namespace default",
        r#""whitelist":[{"source_pod":["default/"]},{"destination_pod":["default/"]}]"#,
    );
    check_filter(
        "--label app=x",
        r#""whitelist":[{"source_label":["app=x"]},{"destination_label":["app=x"]}]"#,
    );
    check_filter(
        "--identity world",
        r#""whitelist":[{"source_identity":[2,9,10]},{"destination_identity":[2,9,10]}]"#,
    );
    check_filter("--from-identity world-ipv6", r#""whitelist":[{"source_identity":[10]}]"#);
    check_filter("--to-identity 2", r#""whitelist":[{"destination_identity":[2]}]"#);
    check_filter(
        "--port 80",
        r#""whitelist":[{"source_port":["80"]},{"destination_port":["80"]}]"#,
    );
    check_filter(
        "--ip 10.0.0.0/8",
        r#""whitelist":[{"source_ip":["10.0.0.0/8"]},{"destination_ip":["10.0.0.0/8"]}]"#,
    );
    check_filter(
        "--workload Deployment/web",
        r#""whitelist":[{"source_workload":[{"name":"web","kind":"Deployment"}]},{"destination_workload":[{"name":"web","kind":"Deployment"}]}]"#,
    );
}

#[test]
fn other_flags_make_one_filter_and_add_up() {
    check_filter("--verdict DROPPED", r#""whitelist":[{"verdict":["DROPPED"]}]"#);
    check_filter(
        "--verdict dropped --verdict AUDIT --protocol tcp",
        r#""whitelist":[{"verdict":["DROPPED","AUDIT"],"protocol":["tcp"]}]"#,
    );
    check_filter("--type l7", r#""whitelist":[{"event_type":[{"type":129}]}]"#);
    check_filter(
        "-t trace:to-endpoint",
        r#""whitelist":[{"event_type":[{"type":4,"match_sub_type":true}]}]"#,
    );
    check_filter(
        "-t drop:133",
        r#""whitelist":[{"event_type":[{"type":1,"match_sub_type":true,"sub_type":133}]}]"#,
    );
    check_filter(
        "--drop-reason-desc policy_denied --traffic-direction egress",
        r#""whitelist":[{"traffic_direction":["EGRESS"],"drop_reason_desc":["POLICY_DENIED"]}]"#,
    );
    check_filter(
        "--tcp-flags SYN,ack --ip-version ipv6 --interface eth0 --node-name a* --uuid u",
        r#""whitelist":[{"uuid":["u"],"interface":[{"name":"eth0"}],"tcp_flags":[{"SYN":true,"ACK":true}],"node_name":["a*"],"ip_version":["IPv6"]}]"#,
    );
    check_filter(
        "--from-ip ::1 --to-port 5432 --from-label a=b --to-identity 7",
        r#""whitelist":[{"source_ip":["::1"],"source_label":["a=b"],"destination_port":["5432"],"destination_identity":[7]}]"#,
    );
}

#[test]
fn an_either_side_flag_goes_with_the_others() {
    check_filter(
        "-n pay --verdict DROPPED",
        r#""whitelist":[{"source_pod":["pay/"],"verdict":["DROPPED"]},{"destination_pod":["pay/"],"verdict":["DROPPED"]}]"#,
    );
}

#[test]
fn namespace_and_pod_name_one_pod_together() {
    check_filter("--from-pod default/xwing", r#""whitelist":[{"source_pod":["default/xwing"]}]"#);
    check_filter(
        "--from-namespace pay --from-pod web --to-namespace db",
        r#""whitelist":[{"source_pod":["pay/web"],"destination_pod":["db/"]}]"#,
    );
    check_filter(
        "-n pay --pod pay/web",
        r#""whitelist":[{"source_pod":["pay/web"]},{"destination_pod":["pay/web"]}]"#,
    );
}

#[test]
fn not_reverses_the_next_filter_only() {
    check_filter(
        "--not --namespace kube-system",
        r#""blacklist":[{"source_pod":["kube-system/"]},{"destination_pod":["kube-system/"]}]"#,
    );
    check_filter(
        "--verdict DROPPED --not --protocol=icmp --to-port 80 --not -n a",
        r#""blacklist":[{"source_pod":["a/"],"protocol":["icmp"]},{"destination_pod":["a/"],"protocol":["icmp"]}],"whitelist":[{"verdict":["DROPPED"],"destination_port":["80"]}]"#,
    );
    check_filter(
        "--not --verdict FORWARDED --verdict AUDIT",
        r#""blacklist":[{"verdict":["FORWARDED"]}],"whitelist":[{"verdict":["AUDIT"]}]"#,
    );
}

#[track_caller]
fn check_refused(line: &str, want: &str) {
    let error = parse(line).unwrap_err();
    assert!(error.contains(want), "{line}: {error}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    check_refused("--first 1 --last 1", "cannot be used with");
    check_refused("--first 1 --all", "cannot be used with");
    check_refused("--last 1 --all", "cannot be used with");
    check_refused("--first 1 -f", "cannot be used with");
    check_refused(
        "-n a --pod b/c",
        "pod `b/c` is in namespace `b`, but the namespace given is `a`",
    );
    check_refused("--not --last 5", "--not");
    check_refused("--verdict DROPPED --not", "--not");
}

#[test]
fn values_that_mean_nothing_are_refused_with_their_flag() {
    check_refused("--verdict DENIED", "--verdict `DENIED`: verdicts are FORWARDED, DROPPED");
    check_refused("--port http", "--port `http`: a port is a number up to 65535");
    check_refused("--identity me", "--identity `me`: an identity is a number or a reserved name");
    check_refused("--type what", "--type `what`: types are drop,");
    check_refused("-t drop:to-endpoint", "--type `drop:to-endpoint`: `to-endpoint` is no subtype");
    check_refused("--tcp-flags SIN", "--tcp-flags `SIN`: `SIN` is no TCP flag");
    check_refused("--since yesterday", "--since: `yesterday` is neither");
    check_refused("--drop-reason-desc NOPE", "--drop-reason-desc `NOPE`");
}

#[test]
fn every_flag_of_hubbles_goes_to_its_field() {
    for (line, want) in [
        ("--snat-ip 10.0.0.1", r#"{"source_ip_xlated":["10.0.0.1"]}"#),
        ("--from-fqdn a.b", r#"{"source_fqdn":["a.b"]}"#),
        ("--to-fqdn *.example.com", r#"{"destination_fqdn":["*.example.com"]}"#),
        (
            "--from-workload Deployment/a",
            r#"{"source_workload":[{"name":"a","kind":"Deployment"}]}"#,
        ),
        ("--to-workload a", r#"{"destination_workload":[{"name":"a"}]}"#),
        ("--from-cluster c1", r#"{"source_cluster_name":["c1"]}"#),
        ("--to-cluster c1", r#"{"destination_cluster_name":["c1"]}"#),
        ("--http-status 5+", r#"{"http_status_code":["5+"]}"#),
        ("--http-method GET", r#"{"http_method":["GET"]}"#),
        ("--http-path ^/v1", r#"{"http_path":["^/v1"]}"#),
        ("--http-url x", r#"{"http_url":["x"]}"#),
        ("--http-header a:b", r#"{"http_header":[{"key":"a","value":"b"}]}"#),
        ("--dns-query x", r#"{"dns_query":["x"]}"#),
        ("-4", r#"{"ip_version":["IPv4"]}"#),
        ("--ipv6", r#"{"ip_version":["IPv6"]}"#),
        ("--encrypted", r#"{"encrypted":[true]}"#),
        ("--unencrypted", r#"{"encrypted":[false]}"#),
        ("--reply false", r#"{"reply":[false]}"#),
        ("--node-label a=b", r#"{"node_labels":["a=b"]}"#),
        ("--trace-id x", r#"{"trace_id":["x"]}"#),
        ("--ip-trace-id 7", r#"{"ip_trace_id":["7"]}"#),
        ("--cel-expression true", r#"{"experimental":{"cel_expression":["true"]}}"#),
        ("--from-all-namespaces", r#"{"source_pod":["/"]}"#),
        ("--to-service a/b", r#"{"destination_service":["a/b"]}"#),
        (
            "--from-service b -n x",
            r#"{"source_pod":["x/"],"source_service":["b"]},{"source_service":["b"],"destination_pod":["x/"]}"#,
        ),
        (r#"--allowlist {"uuid":["a"]}"#, r#"{"uuid":["a"]}"#),
    ] {
        check_filter(line, &format!(r#""whitelist":[{want}]"#));
    }
    check_filter(r#"--denylist {"uuid":["a"]}"#, r#""blacklist":[{"uuid":["a"]}]"#);
    check_filter(
        r#"--allowlist {"uuid":["a"]}{"uuid":["b"]} --allowlist {"uuid":["c"]}"#,
        r#""whitelist":[{"uuid":["a"]},{"uuid":["b"]},{"uuid":["c"]}]"#,
    );
    check_refused(r#"--allowlist {"uuid":["a"]},{"uuid":["b"]}"#, "--allowlist `{");
    check_refused(r#"--allowlist {"uuid":["a"]}{"sauce":1}"#, "sauce");
}

#[test]
fn flags_about_either_end_of_names_make_two_filters() {
    check_filter("-A", r#""whitelist":[{"source_pod":["/"]},{"destination_pod":["/"]}]"#);
    check_filter("-A --pod x", r#""whitelist":[{"source_pod":["/x"]},{"destination_pod":["/x"]}]"#);
    check_filter(
        "--service web -n shop",
        r#""whitelist":[{"source_service":["shop/web"]},{"destination_service":["shop/web"]}]"#,
    );
    check_filter(
        "--fqdn a.b --cluster c",
        r#""whitelist":[{"source_fqdn":["a.b"],"source_cluster_name":["c"]},{"destination_fqdn":["a.b"],"destination_cluster_name":["c"]}]"#,
    );
}

#[test]
fn a_switch_is_reversed_like_any_filter() {
    check_filter(
        "--not -4 --port 5",
        r#""blacklist":[{"ip_version":["IPv4"]}],"whitelist":[{"source_port":["5"]},{"destination_port":["5"]}]"#,
    );
}

#[test]
fn a_field_mask_goes_with_json_and_hubbles_own_with_its_forms() {
    check(
        "-o json --field-mask uuid,source.identity",
        r#"{"number":"20","field_mask":"uuid,source.identity"}"#,
    );
    assert!(parse("-o dict --field-mask uuid").is_err());
    let asked = |line: &str| fields(&parse(line).unwrap());
    for line in ["", "-o compact", "-o table", "-o compact --use-default-field-masks"] {
        assert_eq!(asked(line), MASK, "{line}");
    }
    assert_eq!(asked("-o dict"), format!("{MASK} extensions"));
    for line in ["-o compact --use-default-field-masks=false", "-o brief", "-o json"] {
        assert_eq!(asked(line), "", "{line}");
    }
    check("flows --last 2", r#"{"number":"2"}"#);
    check("--input-file x", r#"{}"#);
}

#[test]
fn what_would_be_decided_is_asked_as_an_expression() {
    check_filter(
        "--shadow denied",
        r#""whitelist":[{"experimental":{"cel_expression":["_flow.extensions.shadow.verdict == 'denied'"]}}]"#,
    );
    check_filter(
        "--not --shadow differs",
        r#""blacklist":[{"experimental":{"cel_expression":["_flow.extensions.shadow.differs == true"]}}]"#,
    );
    check_refused("--shadow audit", "--shadow `audit`: give allowed, denied or differs");
    check_refused("--shadow denied --cel-expression true", "write it into the expression");
}
