//! Input made to cost: bounded time, a clear refusal, no panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use std::time::{Duration, Instant};

use manifest::{check, read};
use policy::Options;

/// What one file may take; without optimisation, some more.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

/// Everything that is refused, within the time.
fn refusals(text: &str) -> Vec<String> {
    let start = Instant::now();
    let refusals = match read("f", text) {
        Ok(documents) => check(&documents, &Options::default()).outcome.refusals,
        Err(refusals) => refusals,
    };
    let taken = start.elapsed();
    assert!(taken < LIMIT, "{taken:?}");
    refusals.iter().map(ToString::to_string).collect()
}

fn cnp(spec: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: p, namespace: a}}\nspec: {spec}\n"
    )
}

fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_file_of_ten_megabytes_is_refused() {
    let text = cnp("{endpointSelector: {}, ingress: [{}]}") + &"# padding\n".repeat(1 << 20);
    assert!(refusals(&text)[0].contains("at most"), "{:?}", refusals(&text));
}

#[test]
fn bombs_are_refused() {
    let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (from, to) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        text += &format!("{to}: &{to} [{}]\n", list(9, |_| format!("*{from}")));
    }
    assert!(refusals(&text)[0].contains("aliases are not read"));
    assert!(refusals(&("[".repeat(100_000)))[0].contains("nested deeper"));
    assert!(refusals(&("{a: ".repeat(100_000)))[0].contains("nested deeper"));
    assert!(refusals(&("- ".repeat(100_000)))[0].contains("nested deeper"));
    assert!(refusals(&("? ".repeat(50_000)))[0].contains("f:1:"));
}

#[test]
fn lists_of_ten_thousand_are_taken() {
    let endpoints = list(10_000, |n| format!("{{matchLabels: {{app: a{n}}}}}"));
    let ranges = list(10_000, |n| format!("10.{}.{}.0/24", n / 256, n % 256));
    let names = list(10_000, |n| format!("{{matchName: n{n}.example.com}}"));
    for member in [
        format!("ingress: [{{fromEndpoints: [{endpoints}]}}]"),
        format!("egress: [{{toCIDR: [{ranges}]}}], egressDeny: [{{toCIDR: [{ranges}]}}]"),
        format!("egress: [{{toFQDNs: [{names}]}}]"),
    ] {
        assert_eq!(refusals(&cnp(&format!("{{endpointSelector: {{}}, {member}}}"))), [""; 0]);
    }
    let rules = list(10_000, |n| format!("{{fromEndpoints: [{{matchLabels: {{app: a{n}}}}}]}}"));
    assert_eq!(refusals(&cnp(&format!("{{endpointSelector: {{}}, ingress: [{rules}]}}"))), [""; 0]);
}

#[test]
fn expressions_that_blow_up_are_refused_or_linear() {
    let path = |path: &str| {
        cnp(&format!(
            "{{endpointSelector: {{}}, ingress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], \
             rules: {{http: [{{path: '{path}'}}]}}}}]}}]}}"
        ))
    };
    assert_eq!(refusals(&path("(a+)+b")), [""; 0]);
    assert!(refusals(&path("((((a{99}){99}){99}){99})"))[0].contains("is too large"));
    assert!(refusals(&path(&"(".repeat(10_000)))[0].contains("is no regular expression"));
    assert!(
        refusals(&path(&format!("{}a{}", "(".repeat(500), ")".repeat(500))))[0].contains("is no")
    );
    let many = list(1_000, |_| "{path: '(\\\\w{1,200}){1,20}'}".to_owned());
    let text = cnp(&format!(
        "{{endpointSelector: {{}}, ingress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], rules: \
         {{http: [{many}]}}}}]}}]}}"
    ));
    assert!(!refusals(&text).is_empty());
}

#[test]
fn labels_with_anything_in_them_are_refused() {
    for value in ["a\\0b", "\\u202e", "ü", "a\\nb", "' or 1=1"] {
        let text = cnp(&format!(
            "{{endpointSelector: {{matchLabels: {{app: \"{value}\"}}}}, ingress: [{{}}]}}"
        ));
        let refusals = refusals(&text);
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert!(refusals[0].chars().all(|found| !found.is_control()), "{refusals:?}");
    }
    assert!(refusals("a\0b")[0].contains("cannot stand in a manifest"));
}

#[test]
fn a_key_that_is_set_twice_is_refused() {
    let text = cnp("{endpointSelector: {}, ingress: [{}], ingress: []}");
    assert!(refusals(&text)[0].contains("`ingress` is already set"));
}

#[test]
fn a_thousand_policies_are_checked_together() {
    let text: String = (0..1_000)
        .map(|n| {
            "---\n".to_owned()
                + &cnp("{endpointSelector: {matchLabels: {app: x}}, ingress: [{fromEndpoints: [{matchLabels: {app: other}}], toPorts: [{ports: [{port: '80', endPort: 9000}]}]}]}")
                    .replace("name: p", &format!("name: p{n}"))
        })
        .collect();
    assert_eq!(refusals(&text), [""; 0]);
}
