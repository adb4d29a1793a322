//! Manifests from anybody: every text is policies or refusals that say where, and
//! what the table says of the policies is what the rules say.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use model::{Direction, IdentityBook, Labels};
use policy::{Options, Policy, Probe};

/// The applications of the seeds; the first is whose table is compiled.
const PODS: [&[&str]; 3] = [
    &["k8s:app=ledger", "k8s:tier=back", "k8s:io.kubernetes.pod.namespace=payment"],
    &["k8s:app=gateway", "k8s:io.kubernetes.pod.namespace=payment"],
    &["k8s:app=api", "k8s:io.kubernetes.pod.namespace=shop"],
];

/// Protocol and port: inside, at the edges of and beside what the seeds name.
const PACKETS: [(u8, u16); 9] =
    [(6, 443), (6, 8079), (6, 8080), (6, 8090), (6, 8091), (6, 80), (17, 53), (132, 1), (1, 0)];

static SUBJECT: LazyLock<Labels> = LazyLock::new(|| labels(PODS[0]));
static EVERYBODY: LazyLock<IdentityBook> =
    LazyLock::new(|| IdentityBook::new(PODS.iter().map(|pod| labels(pod))));

fn labels(texts: &[&str]) -> Labels {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn table_agrees_with_rules(policies: &[Policy]) {
    let ports = BTreeMap::from([("http".to_owned(), (6, 80))]);
    // Small enough that refusing a table that does not fit is tried as well.
    let options = Options { max_entries: 512, ..Options::default() };
    let Ok(table) = policy::compile(policies, &SUBJECT, &ports, &EVERYBODY, &options) else {
        return;
    };
    for (id, peer) in EVERYBODY.iter() {
        for direction in [Direction::Ingress, Direction::Egress] {
            for (protocol, port) in PACKETS {
                let probe = Probe { direction, peer, protocol, port };
                assert_eq!(
                    table.lookup(direction, id, protocol, port),
                    policy::evaluate(policies, &SUBJECT, &ports, &probe, &options),
                    "{probe:?}"
                );
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let documents = match manifest::read_bytes("fuzz.yaml", bytes) {
        Ok(documents) => documents,
        Err(refusals) => {
            assert!(!refusals.is_empty(), "refused without a reason");
            return;
        }
    };
    let outcome = manifest::policies(&documents);
    for refusal in &outcome.refusals {
        assert!(refusal.at.line >= 1 && refusal.at.column >= 1, "refused nowhere: {refusal}");
    }
    let report = manifest::check(&documents, &Options::default());
    assert!(report.outcome.refusals.len() >= outcome.refusals.len(), "check forgives");
    if !outcome.policies.is_empty() {
        table_agrees_with_rules(&outcome.policies);
    }
});
