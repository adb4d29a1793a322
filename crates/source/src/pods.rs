//! The pods of a cluster, packed: a node knows a hundred thousand of them and looks
//! at few, so each is one piece of memory that everything shares.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use model::{Pod, PodName};

/// A pod as bytes: numbers are variable in length, texts and lists follow theirs.
#[derive(Clone, Eq, PartialEq)]
pub struct PackedPod(Arc<[u8]>);

impl PackedPod {
    /// The pod with this content.
    pub fn new(pod: &Pod) -> Self {
        // No `..`: a new field does not compile until it is packed.
        let Pod {
            name: PodName { namespace, name },
            labels,
            service_account,
            node,
            addresses,
            host_network,
            workload,
            ports,
        } = pod;
        let mut writer = Writer(Vec::with_capacity(128));
        writer.text(namespace);
        writer.text(name);
        writer.text(node);
        writer.number(usize::from(*host_network));
        writer.text(service_account);
        writer.number(labels.len());
        for (key, value) in labels {
            writer.text(key);
            writer.text(value);
        }
        writer.number(addresses.len());
        for address in addresses {
            match address {
                IpAddr::V4(address) => writer.bytes(&address.octets()),
                IpAddr::V6(address) => writer.bytes(&address.octets()),
            }
        }
        writer.number(usize::from(workload.is_some()));
        for text in workload.iter().flat_map(|(kind, name)| [kind, name]) {
            writer.text(text);
        }
        writer.number(ports.len());
        for (name, (protocol, port)) in ports {
            writer.text(name);
            writer.number(usize::from(*protocol));
            writer.number(usize::from(*port));
        }
        Self(writer.0.into())
    }

    /// What was packed.
    pub fn unpack(&self) -> Pod {
        let mut reader = Reader(&self.0);
        let name = PodName { namespace: reader.text(), name: reader.text() };
        let node = reader.text();
        let host_network = reader.number() == 1;
        let service_account = reader.text();
        let labels = (0..reader.number()).map(|_| (reader.text(), reader.text())).collect();
        let addresses = (0..reader.number()).filter_map(|_| reader.address()).collect();
        let workload = (reader.number() == 1).then(|| (reader.text(), reader.text()));
        let port = |reader: &mut Reader<'_>| {
            let name = reader.text();
            let protocol = u8::try_from(reader.number()).unwrap_or_default();
            (name, (protocol, u16::try_from(reader.number()).unwrap_or_default()))
        };
        let ports: BTreeMap<_, _> = (0..reader.number()).map(|_| port(&mut reader)).collect();
        Pod { name, labels, service_account, node, addresses, host_network, workload, ports }
    }

    /// Its name.
    pub fn name(&self) -> PodName {
        let mut reader = Reader(&self.0);
        PodName { namespace: reader.text(), name: reader.text() }
    }

    /// By which pods are sorted: as by their names.
    fn key(&self) -> (&[u8], &[u8]) {
        let mut reader = Reader(&self.0);
        (reader.bytes(), reader.bytes())
    }
}

impl fmt::Debug for PackedPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unpack().fmt(f)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    /// Seven bits a byte, the lowest first; the last byte is below 128.
    fn number(&mut self, mut number: usize) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
}

/// Reads what [`Writer`] wrote; beyond the end everything is empty.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> usize {
        let mut number = 0;
        for shift in (0..usize::BITS).step_by(7) {
            let Some((byte, rest)) = self.0.split_first() else { break };
            self.0 = rest;
            number |= usize::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                break;
            }
        }
        number
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.number();
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    fn address(&mut self) -> Option<IpAddr> {
        let bytes = self.bytes();
        let ipv4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        ipv4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
    }
}

/// All pods, sorted by name. Copies share them.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Pods(Arc<Vec<PackedPod>>);

impl Pods {
    /// Of two pods with one name the later counts; both are told to `replaced`,
    /// by their places among `pods`.
    pub(crate) fn new(pods: &[&PackedPod], mut replaced: impl FnMut(usize, usize)) -> Self {
        let mut order: Vec<usize> = (0..pods.len()).collect();
        // Stable: of equals the later stays behind.
        order.sort_by(|a, b| pods[*a].key().cmp(&pods[*b].key()));
        let mut last: Option<usize> = None;
        let mut sorted: Vec<PackedPod> = Vec::with_capacity(pods.len());
        for at in order {
            if let Some(earlier) = last.filter(|last| pods[*last].key() == pods[at].key()) {
                replaced(earlier, at);
                sorted.pop();
            }
            sorted.push(pods[at].clone());
            last = Some(at);
        }
        Self(Arc::new(sorted))
    }

    /// Whether these are the very same pods; two that are not may still be equal.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Where the pod of this name is among all of them.
    pub fn position(&self, name: &PodName) -> Option<usize> {
        let key = (name.namespace.as_bytes(), name.name.as_bytes());
        self.0.binary_search_by(|pod| pod.key().cmp(&key)).ok()
    }

    /// The pod of this name.
    pub fn get(&self, name: &PodName) -> Option<Pod> {
        Some(self.0.get(self.position(name)?)?.unpack())
    }

    /// Pods of a namespace.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = Pod> {
        let first = self.0.partition_point(|pod| pod.key().0 < namespace.as_bytes());
        let there = self.0.iter().skip(first);
        there.take_while(move |pod| pod.key().0 == namespace.as_bytes()).map(PackedPod::unpack)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Pod> {
        self.0.iter().map(PackedPod::unpack)
    }

    /// All of them, as they are kept.
    pub fn packed(&self) -> &[PackedPod] {
        &self.0
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn pod_of(name: &str) -> Pod {
        Pod {
            name: PodName { namespace: "bank".into(), name: name.into() },
            labels: BTreeMap::new(),
            service_account: String::new(),
            node: String::new(),
            addresses: vec![],
            host_network: false,
            workload: None,
            ports: BTreeMap::new(),
        }
    }

    prop_compose! {
        fn pod()(
            texts in vec(".{0,200}", 4),
            labels in btree_map(".{0,40}", ".{0,300}", 0..4),
            addresses in vec(any::<IpAddr>(), 0..4),
            host_network in any::<bool>(),
            workload in any::<Option<(String, String)>>(),
            ports in btree_map(".{0,9}", any::<(u8, u16)>(), 0..4),
        ) -> Pod {
            let [namespace, name, node, service_account] =
                <[String; 4]>::try_from(texts).unwrap();
            let name = PodName { namespace, name };
            Pod { name, labels, service_account, node, addresses, host_network, workload, ports }
        }
    }

    proptest! {
        #[test]
        fn a_pod_is_unpacked_as_it_was_packed(pod in pod()) {
            let packed = PackedPod::new(&pod);
            prop_assert_eq!(packed.name(), pod.name.clone());
            prop_assert_eq!(packed.unpack(), pod);
        }

        #[test]
        fn pods_are_sorted_and_found_by_name(names in vec("[ab]{0,3}", 0..9)) {
            let packed: Vec<_> = names.iter().map(|name| PackedPod::new(&pod_of(name))).collect();
            let mut replaced = 0;
            let pods = Pods::new(&packed.iter().collect::<Vec<_>>(), |_, _| replaced += 1);
            prop_assert_eq!(pods.len() + replaced, names.len());
            prop_assert!(pods.iter().map(|pod| pod.name).is_sorted());
            for name in &names {
                prop_assert_eq!(pods.get(&pod_of(name).name), Some(pod_of(name)));
            }
            prop_assert_eq!(pods.get(&pod_of("c").name), None);
        }
    }

    #[test]
    fn of_two_pods_with_one_name_the_later_counts() {
        let later = Pod { node: "n".into(), ..pod_of("a") };
        let packed = [&pod_of("a"), &pod_of("b"), &later].map(PackedPod::new);
        let mut told = Vec::new();
        let pods = Pods::new(&packed.iter().collect::<Vec<_>>(), |old, new| told.push((old, new)));
        assert_eq!(pods.iter().collect::<Vec<_>>(), [later, pod_of("b")]);
        assert_eq!(told, [(0, 2)]);
        assert_eq!(pods.of_namespace("bank").count(), 2);
        assert_eq!(pods.of_namespace("ban").count(), 0);
    }
}
