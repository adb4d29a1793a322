//! The small languages inside manifests: selectors, ranges, name patterns and
//! regexes. Any text is read or refused, and what is read can be asked.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use model::{Label, Labels};
use policy::{NamePattern, Operator, Pattern, Requirement, Selector, SelectorKey};

/// Never wrong about itself, whatever it is asked.
fn ask_pattern(pattern: &NamePattern, name: &str) {
    let _ = pattern.matches(name);
    if pattern.is_everything() {
        assert!(pattern.matches(name), "{pattern:?} is everything but {name:?}");
    }
}

fn ask_selector(key: &str, value: &str) {
    let key = SelectorKey::parse(key);
    let wants = |operator| -> Selector {
        [Requirement { key: key.clone(), operator }].into_iter().collect()
    };
    let set = || [value.to_owned()].into();
    let labels: Labels = value.parse::<Label>().into_iter().collect();
    let found = wants(Operator::In(set())).matches(&labels);
    assert_ne!(found, wants(Operator::NotIn(set())).matches(&labels));
    let exists = wants(Operator::Exists).matches(&labels);
    assert_ne!(exists, wants(Operator::DoesNotExist).matches(&labels));
}

fn ask_range(text: &str) {
    let Ok(net) = text.parse::<ipnet::IpNet>() else { return };
    let label = policy::cidr_label(net);
    // A label is one for each range, whatever host bits were written.
    assert_eq!(label, policy::cidr_label(net.trunc()));
    assert!(!label.key.starts_with('-') && !label.key.ends_with('-'), "{label}");
}

fuzz_target!(|text: &str| {
    let (one, other) = text.split_once('\n').unwrap_or((text, ""));
    for pattern in [NamePattern::name(one), NamePattern::pattern(one)].into_iter().flatten() {
        ask_pattern(&pattern, other);
    }
    if let Ok(pattern) = Pattern::new(one) {
        let _ = pattern.matches(other);
    }
    ask_selector(one, other);
    ask_range(one);
    let _ = one.parse::<IpAddr>();
});
