//! Who gets which address.

use proptest::prelude::*;

use super::*;

const NETWORK: &str = "pods";

fn attachment(number: u8) -> Attachment {
    Attachment::new(&format!("c{number}"), "eth0").unwrap()
}

fn subnets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn allocate(ledger: &mut Ledger, owner: u8, subnets_: &[&str]) -> Result<Vec<String>, IpamError> {
    let addresses = ledger.allocate(NETWORK, &attachment(owner), &subnets(subnets_))?;
    Ok(addresses.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn check(ledger: &mut Ledger, owner: u8, subnets: &[&str], want: &[&str]) {
    assert_eq!(allocate(ledger, owner, subnets).unwrap(), want);
}

#[test]
fn the_first_pod_gets_the_first_address_after_the_gateway_of_each_subnet() {
    let mut ledger = Ledger::default();
    check(&mut ledger, 1, &["10.1.0.0/24", "fd00:1::/64"], &["10.1.0.2", "fd00:1::2"]);
    check(&mut ledger, 2, &["10.1.0.0/24", "fd00:1::/64"], &["10.1.0.3", "fd00:1::3"]);
}

#[test]
fn a_second_allocation_for_the_same_interface_changes_nothing() {
    let mut ledger = Ledger::default();
    check(&mut ledger, 1, &["10.1.0.0/24"], &["10.1.0.2"]);
    let before = ledger.clone();
    check(&mut ledger, 1, &["10.1.0.0/24"], &["10.1.0.2"]);
    assert_eq!(ledger, before);
}

#[test]
fn an_address_that_was_let_go_is_the_last_to_be_given_again() {
    let mut ledger = Ledger::default();
    check(&mut ledger, 1, &["10.1.0.0/29"], &["10.1.0.2"]);
    assert!(ledger.release(&attachment(1)));
    for want in ["10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.2"] {
        check(&mut ledger, 2, &["10.1.0.0/29"], &[want]);
        assert!(ledger.release(&attachment(2)));
    }
}

#[test]
fn network_gateway_and_broadcast_are_never_given() {
    let mut ledger = Ledger::default();
    check(&mut ledger, 1, &["10.1.0.0/30"], &["10.1.0.2"]);
    let error = allocate(&mut ledger, 2, &["10.1.0.0/30"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no free address in 10.1.0.0/30: all 1 are taken; delete pods or give the node a wider \
         subnet"
    );
}

#[test]
fn an_exhausted_subnet_leaves_no_half_a_lease() {
    let mut ledger = Ledger::default();
    check(&mut ledger, 1, &["fd00:1::/64", "10.1.0.0/30"], &["fd00:1::2", "10.1.0.2"]);
    let before = ledger.clone();
    assert!(allocate(&mut ledger, 2, &["fd00:1::/64", "10.1.0.0/30"]).is_err());
    assert_eq!(ledger, before);
}

#[test]
fn a_new_subnet_adds_to_what_a_pod_has_and_an_old_one_goes() {
    let mut ledger = Ledger::default();
    check(&mut ledger, 1, &["10.1.0.0/24"], &["10.1.0.2"]);
    check(&mut ledger, 1, &["10.1.0.0/24", "fd00:1::/64"], &["10.1.0.2", "fd00:1::2"]);
    check(&mut ledger, 1, &["fd00:1::/64"], &["fd00:1::2"]);
}

#[test]
fn a_large_ledger_goes_on_in_an_enormous_subnet() {
    let mut ledger = Ledger::default();
    for owner in 0..=255 {
        allocate(&mut ledger, owner, &["fd00::/8"]).unwrap();
    }
    assert_eq!(ledger.leases().len(), 256);
}

#[test]
fn a_ledger_is_read_as_it_was_written() {
    let mut ledger = Ledger::default();
    allocate(&mut ledger, 1, &["10.1.0.0/24", "fd00:1::/64"]).unwrap();
    assert_eq!(Ledger::from_json(&ledger.to_json()).unwrap(), ledger);
}

#[track_caller]
fn check_junk(text: &str, reason: &str) {
    assert_eq!(Ledger::from_json(text.as_bytes()).unwrap_err(), reason);
}

#[test]
fn a_ledger_that_contradicts_itself_is_refused() {
    check_junk(r#"{"version":2,"leases":[],"last":{}}"#, "version 2, not 1");
    check_junk(
        r#"{"version":1,"last":{},"leases":[
            {"network":"n","containerId":"a","interface":"eth0","addresses":["10.1.0.2"]},
            {"network":"n","containerId":"b","interface":"eth0","addresses":["10.1.0.2"]}]}"#,
        "10.1.0.2 belongs to both `a` and `b`",
    );
    for junk in ["", "[]", "{}", r#"{"version":1,"leases":[],"last":{},"more":1}"#] {
        assert!(Ledger::from_json(junk.as_bytes()).is_err(), "{junk}");
    }
}

/// What a runtime does: `true` allocates, `false` releases, for one of six pods,
/// in a subnet with room for five.
fn steps() -> impl Strategy<Value = Vec<(bool, u8)>> {
    prop::collection::vec((any::<bool>(), 0u8..6), 0..60)
}

proptest! {
    #[test]
    fn no_address_ever_has_two_owners(steps in steps()) {
        let pods = subnets(&["10.1.0.0/29", "fd00:1::/125"]);
        let mut ledger = Ledger::default();
        let mut owners: BTreeMap<u8, Vec<IpAddr>> = BTreeMap::new();
        for (wants, owner) in steps {
            if !wants {
                prop_assert_eq!(
                    ledger.release(&attachment(owner)), owners.remove(&owner).is_some()
                );
                continue;
            }
            match ledger.allocate(NETWORK, &attachment(owner), &pods) {
                Ok(addresses) => {
                    prop_assert!(pods.iter().zip(&addresses).all(|(p, a)| p.contains(a)));
                    let held = owners.entry(owner).or_insert_with(|| addresses.clone());
                    prop_assert_eq!(&*held, &addresses);
                }
                Err(_) => prop_assert_eq!(owners.len(), 5),
            }
            let all: Vec<&IpAddr> = owners.values().flatten().collect();
            let distinct: BTreeSet<&IpAddr> = all.iter().copied().collect();
            prop_assert_eq!(all.len(), distinct.len());
            prop_assert_eq!(&Ledger::from_json(&ledger.to_json()).unwrap(), &ledger);
        }
    }
}
