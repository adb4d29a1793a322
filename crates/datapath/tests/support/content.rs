//! What a node's pinned maps say, read with nothing of the code that wrote them:
//! one line for each element, as the revision in force reads it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use zerocopy::FromBytes;

fn elements<K: FromBytes, V: FromBytes>(map: &MapHandle) -> Vec<(K, V)> {
    let pairs = map.keys().map(|key| {
        let value = map.lookup(&key, MapFlags::ANY).unwrap().unwrap();
        (K::read_from_bytes(&key).unwrap(), V::read_from_bytes(&value).unwrap())
    });
    pairs.collect()
}

/// Everything but counters, connections and links.
pub fn of(pins: &Path) -> BTreeSet<String> {
    let open = |name: &str| MapHandle::from_pinned_path(pins.join("maps").join(name)).unwrap();
    let control = elements::<u32, abi::Control>(&open("control")).remove(0).1;
    let at = |from: u32| control.revision >= from;
    let mut content = BTreeSet::new();
    content.insert(format!(
        "version {} quotas {} {} traces {}",
        control.abi_version, control.connections, control.drop_records, control.trace
    ));
    for (ifindex, endpoint) in elements::<u32, abi::Endpoint>(&open("endpoints")) {
        let abi::Endpoint { id, from_revision, before, after, ipv4, ipv6, netns_id, mac, pad: _ } =
            endpoint;
        let subject = if at(from_revision) { after } else { before };
        content.insert(format!(
            "endpoint {ifindex} {id} {subject:?} {ipv4:?} {ipv6:?} {netns_id} {mac:?}"
        ));
    }
    for (id, _) in elements::<u32, abi::Usage>(&open("usage")) {
        content.insert(format!("usage {id}"));
    }
    for (address, peer) in elements::<abi::Address, abi::Peer>(&open("addresses")) {
        let holder = if at(peer.from_revision) { peer.after } else { peer.before };
        content.insert(format!("address {address:?} {holder:?}"));
    }
    for (key, range) in elements::<abi::PrefixKey, abi::Range>(&open("prefixes")) {
        let identity = if at(range.from_revision) { range.after } else { range.before };
        content.insert(format!("prefix {} {:?} {identity}", key.prefix_bits, key.address));
    }
    for (number, map) in elements::<u32, u32>(&open("tables")) {
        let table = MapHandle::from_map_id(map).unwrap();
        for (key, entry) in elements::<abi::PolicyKey, abi::PolicyEntry>(&table) {
            let decision = if at(entry.from_revision) { entry.after } else { entry.before };
            content.insert(format!("table {number} {key:?} {decision:?}"));
        }
    }
    for folder in ["maps", "programs", "hooks"] {
        for entry in fs::read_dir(pins.join(folder)).unwrap() {
            content.insert(format!("pin {folder} {:?}", entry.unwrap().file_name()));
        }
    }
    content
}
