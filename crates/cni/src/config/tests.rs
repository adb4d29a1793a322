//! What configurations are accepted, and with which words others are refused.

use serde_json::json;

use super::*;

fn valid() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "name": "pods",
        "type": "signet",
        "node": "node-a",
        "pins": "/sys/fs/bpf/signet/lab/node-a",
        "stateDir": "/run/signet/lab/node-a",
        "subnets": ["10.1.0.0/24", "fd00:1::/64"],
    })
}

/// The valid configuration with one field set, or taken away by `null`.
fn with(field: &str, value: Value) -> Result<NetworkConfig, Failure> {
    let mut config = valid();
    if value.is_null() {
        config.as_object_mut().unwrap().remove(field);
    } else {
        config[field] = value;
    }
    NetworkConfig::read(&config.to_string())
}

#[track_caller]
fn check_refused(field: &str, value: Value, code: Code, message: &str) {
    let failure = with(field, value).unwrap_err();
    assert_eq!((failure.code, failure.message.as_str()), (code, message));
}

#[test]
fn the_least_configuration_has_defaults_for_the_rest() {
    let config = NetworkConfig::read(&valid().to_string()).unwrap();
    assert_eq!(config.version, Version::V1_1_0);
    assert_eq!(config.enforce_timeout, Duration::from_secs(10));
    assert_eq!(config.mtu, None);
    assert_eq!(config.endpoints(), Path::new("/run/signet/lab/node-a/endpoints"));
    assert_eq!(config.subnets.len(), 2);
}

#[test]
fn behind_another_plugin_addresses_are_not_ours_to_give() {
    let message = "network configuration: chained, the plugin before gives addresses and the MTU: \
                   leave out subnets and mtu";
    check_refused("chained", json!(true), Code::InvalidConfig, message);
    let mut config = valid();
    config["chained"] = json!(true);
    config.as_object_mut().unwrap().remove("subnets");
    config["prevResult"] = json!({"ips": [], "more": 1});
    let config = NetworkConfig::read(&config.to_string()).unwrap();
    assert!(config.chained && config.subnets.is_empty());
    // What is passed on is what was given, also what nobody here reads.
    assert_eq!(config.given.unwrap()["more"], 1);
}

#[test]
fn versions_that_are_not_spoken_are_refused() {
    for version in ["0.3.1", "2.0.0", ""] {
        check_refused(
            "cniVersion",
            json!(version),
            Code::IncompatibleVersion,
            &format!("cniVersion `{version}` is not spoken here: use one of 0.4.0, 1.0.0, 1.1.0"),
        );
    }
    assert_eq!(with("cniVersion", json!("0.4.0")).unwrap().version, Version::V0_4_0);
}

#[test]
fn fields_that_nobody_reads_are_refused_by_name_and_value() {
    check_refused(
        "subnet",
        json!("10.0.0.0/8"),
        Code::UnsupportedField,
        "unsupported field `subnet` with value \"10.0.0.0/8\"",
    );
}

#[test]
fn fields_of_the_specification_are_accepted() {
    for (field, value) in [
        ("args", json!({ "labels": [] })),
        ("capabilities", json!({ "portMappings": true })),
        ("runtimeConfig", json!({ "mac": "02:00:00:00:00:01" })),
        ("cni.dev/anything", json!(1)),
        ("dns", json!({ "nameservers": ["10.96.0.10"] })),
    ] {
        assert!(with(field, value).is_ok(), "{field}");
    }
}

#[test]
fn text_that_is_not_a_configuration_is_refused() {
    for text in ["", "[]", "{", "null"] {
        assert_eq!(NetworkConfig::read(text).unwrap_err().code, Code::Decode, "{text}");
    }
    assert_eq!(with("mtu", json!("big")).unwrap_err().code, Code::Decode);
}

#[test]
fn every_wrong_value_is_named_at_once() {
    let failure = NetworkConfig::read(
        r#"{"cniVersion":"1.0.0","name":"a/b","type":"bridge","pins":"x","stateDir":"/a/../b",
            "mtu":100,"enforceTimeoutMs":0}"#,
    )
    .unwrap_err();
    assert_eq!(failure.code, Code::InvalidConfig);
    assert_eq!(
        failure.message,
        "network configuration: name `a/b` is not a name of a network; \
         type is `bridge`, this plugin is `signet`; \
         node is missing: the name of this node; \
         pins `x` is not a plain absolute path; \
         stateDir `/a/../b` is not a plain absolute path; \
         mtu 100 is not between 1280 and 65535; \
         enforceTimeoutMs 0 is not between 1 and 600000; \
         subnets is missing: an IPv4 subnet, an IPv6 subnet or both"
    );
}

#[track_caller]
fn check_subnets_refused(subnets: Value, problem: &str) {
    check_refused(
        "subnets",
        subnets,
        Code::InvalidConfig,
        &format!("network configuration: subnet {problem}"),
    );
}

#[test]
fn subnets_that_cannot_serve_pods_are_refused() {
    check_subnets_refused(json!(["pods"]), "`pods` is not ADDRESS/LENGTH");
    check_subnets_refused(json!(["10.1.0.1/24"]), "`10.1.0.1/24` has bits set beyond its length");
    check_subnets_refused(
        json!(["10.1.0.0/31"]),
        "`10.1.0.0/31` is too small: /30 or /126 at most",
    );
    for range in ["169.254.0.0/16", "fe80::/64", "127.0.0.0/8", "224.0.0.0/8", "ff00::/16"] {
        check_subnets_refused(
            json!([range]),
            &format!("`{range}` is not a range of unicast addresses that can be routed"),
        );
    }
    check_subnets_refused(
        json!(["10.1.0.0/24", "10.2.0.0/24"]),
        "`10.2.0.0/24` is a second one of its family",
    );
}

#[test]
fn what_is_still_in_use_is_read_for_gc() {
    let config =
        with("cni.dev/valid-attachments", json!([{ "containerID": "c1", "ifname": "eth0" }]))
            .unwrap();
    assert_eq!(config.valid_attachments, Some(vec![Attachment::new("c1", "eth0").unwrap()]));
    check_refused(
        "cni.dev/valid-attachments",
        json!([{ "containerID": "../c", "ifname": "eth0" }]),
        Code::InvalidConfig,
        "network configuration: cni.dev/valid-attachments: container id `../c` is not valid: \
         a letter or digit, then letters, digits, `_`, `.`, `-`",
    );
}

#[test]
fn the_version_is_known_even_when_the_rest_is_wrong() {
    assert_eq!(version(r#"{"cniVersion":"1.0.0","junk":1}"#), Some(Version::V1_0_0));
    assert_eq!(version(r#"{"cniVersion":7}"#), None);
    assert_eq!(version(""), None);
}
