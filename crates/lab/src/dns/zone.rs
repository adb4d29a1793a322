//! What a name stands for, as the DNS specification of Kubernetes has it.
//!
//! Pure: the cluster, the names of external hosts and a question go in; no
//! message is known here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use source::{Service, ServiceName, Snapshot};

use super::ZONE;

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Ports and the names behind them.
    Srv,
    /// Anything else: nothing here has it.
    Other,
}

/// One thing that a name has.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Data {
    /// An address.
    Address(IpAddr),
    /// A port, and the name that has its addresses.
    Port(u16, String),
}

/// What a name has of one kind; `None`: there is no such name.
pub type Answer = Option<BTreeSet<Data>>;

/// All that names come from.
#[derive(Clone, Copy, Debug)]
pub struct Zone<'a> {
    /// The cluster.
    pub snapshot: &'a Snapshot,
    /// External hosts.
    pub hosts: &'a BTreeMap<String, Vec<IpAddr>>,
}

impl Zone<'_> {
    /// What `name` (lower case, without its last dot) has of that kind.
    pub fn answer(&self, name: &str, kind: Kind) -> Answer {
        if name == ZONE {
            return Some(BTreeSet::new());
        }
        let Some(inside) = name.strip_suffix(ZONE).and_then(|rest| rest.strip_suffix('.')) else {
            let addresses = self.hosts.get(name)?;
            return Some(addresses_of(addresses.iter().copied(), kind));
        };
        let mut labels: Vec<&str> = inside.split('.').collect();
        match labels.pop() {
            Some("svc") => self.services(&labels, kind),
            Some("pod") => self.pods(&labels, kind),
            _ => None,
        }
    }

    /// Below `svc.cluster.local`; the last label is the namespace.
    fn services(&self, labels: &[&str], kind: Kind) -> Answer {
        let Some((namespace, labels)) = labels.split_last() else { return Some(BTreeSet::new()) };
        let Some((name, labels)) = labels.split_last() else {
            let known = self.snapshot.services.keys().any(|name| name.namespace == *namespace);
            return known.then(BTreeSet::new);
        };
        let name = ServiceName { namespace: (*namespace).into(), name: (*name).into() };
        let service = self.snapshot.services.get(&name)?;
        match labels {
            [] => Some(addresses_of(self.addresses(service), kind)),
            [port, protocol] => self.ports(service, port, protocol, kind),
            [end] => {
                let named = |address: &IpAddr| dashed(*address) == *end;
                let address = self.snapshot.behind(service).into_iter().find(named)?;
                service.headless.then(|| addresses_of([address], kind))
            }
            _ => None,
        }
    }

    /// A service's own addresses, or those behind it.
    fn addresses(&self, service: &Service) -> BTreeSet<IpAddr> {
        if service.headless {
            return self.snapshot.behind(service);
        }
        service.addresses.iter().copied().collect()
    }

    /// `_port._protocol` of a service.
    fn ports(&self, service: &Service, port: &str, protocol: &str, kind: Kind) -> Answer {
        let number = match protocol {
            "_tcp" => 6,
            "_udp" => 17,
            "_sctp" => 132,
            _ => return None,
        };
        let of_name = |it: &&policy::ServicePort| {
            it.protocol == number && port.strip_prefix('_').is_some_and(|name| name == it.name)
        };
        let port = service.ports.iter().find(of_name)?;
        if kind != Kind::Srv {
            return Some(BTreeSet::new());
        }
        let own = format!("{}.{}.svc.{ZONE}", service.name.name, service.name.namespace);
        if !service.headless {
            return Some([Data::Port(port.port, own)].into());
        }
        let both = [true, false].into_iter();
        let ends = both.flat_map(|ipv4| self.snapshot.serving(service, port, ipv4));
        let named = ends.map(|end| Data::Port(end.port(), format!("{}.{own}", dashed(end.ip()))));
        Some(named.collect())
    }

    /// `10-1-0-5.namespace`: a pod by its address.
    fn pods(&self, labels: &[&str], kind: Kind) -> Answer {
        let [address, namespace] = labels else { return labels.is_empty().then(BTreeSet::new) };
        let mut pods = self.snapshot.pods.of_namespace(namespace);
        let found =
            pods.find_map(|pod| pod.addresses.into_iter().find(|it| dashed(*it) == *address))?;
        Some(addresses_of([found], kind))
    }
}

/// An address as a label.
fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

fn addresses_of(addresses: impl IntoIterator<Item = IpAddr>, kind: Kind) -> BTreeSet<Data> {
    let wanted = |address: &IpAddr| match kind {
        Kind::A => address.is_ipv4(),
        Kind::Aaaa => address.is_ipv6(),
        Kind::Srv | Kind::Other => false,
    };
    addresses.into_iter().filter(wanted).map(Data::Address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "
{apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop}, spec: {
  clusterIPs: [10.96.0.11, 'fd00:10:96::11'], selector: {app: api},
  ports: [{name: web, port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: peers, namespace: shop}, spec: {
  clusterIP: None, selector: {app: api},
  ports: [{name: web, port: 80, targetPort: 8080}, {name: q, port: 9, protocol: UDP}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: nobody, namespace: shop}, spec: {
  clusterIP: None, selector: {app: nobody}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, labels: {app: api}},
 spec: {}, status: {podIPs: [{ip: 10.244.1.2}, {ip: 'fd00:10:244:1::2'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop, labels: {app: api}},
 spec: {}, status: {podIPs: [{ip: 10.244.2.3}]}}
";

    #[track_caller]
    fn check(name: &str, kind: Kind, want: Option<&[&str]>) {
        let snapshot = source::read("a.yaml", CLUSTER);
        assert_eq!(snapshot.refused, []);
        let host = vec!["198.51.100.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let hosts = [("api.swift.com".to_owned(), host)].into();
        let answer = Zone { snapshot: &snapshot, hosts: &hosts }.answer(name, kind);
        let text = |data: Data| match data {
            Data::Address(address) => address.to_string(),
            Data::Port(port, name) => format!("{port} {name}"),
        };
        let answer = answer.map(|found| found.into_iter().map(text).collect::<Vec<_>>());
        let want = want.map(|want| want.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert_eq!(answer, want);
    }

    #[test]
    fn a_service_has_its_own_address_in_each_family() {
        check("api.shop.svc.cluster.local", Kind::A, Some(&["10.96.0.11"]));
        check("api.shop.svc.cluster.local", Kind::Aaaa, Some(&["fd00:10:96::11"]));
        check("api.shop.svc.cluster.local", Kind::Other, Some(&[]));
        check("api.web.svc.cluster.local", Kind::A, None);
        check("api.shop", Kind::A, None);
    }

    #[test]
    fn a_headless_service_has_the_addresses_of_its_pods() {
        let name = "peers.shop.svc.cluster.local";
        check(name, Kind::A, Some(&["10.244.1.2", "10.244.2.3"]));
        check(name, Kind::Aaaa, Some(&["fd00:10:244:1::2"]));
        check("nobody.shop.svc.cluster.local", Kind::A, Some(&[]));
        check("10-244-2-3.peers.shop.svc.cluster.local", Kind::A, Some(&["10.244.2.3"]));
        check("10-244-2-4.peers.shop.svc.cluster.local", Kind::A, None);
        // Only headless services have names for each of them.
        check("10-244-2-3.api.shop.svc.cluster.local", Kind::A, None);
    }

    #[test]
    fn a_port_leads_to_the_name_of_who_serves_it() {
        let own = "80 api.shop.svc.cluster.local";
        check("_web._tcp.api.shop.svc.cluster.local", Kind::Srv, Some(&[own]));
        check("_web._udp.api.shop.svc.cluster.local", Kind::Srv, None);
        check("_web._tcp.api.shop.svc.cluster.local", Kind::A, Some(&[]));
        check(
            "_web._tcp.peers.shop.svc.cluster.local",
            Kind::Srv,
            Some(&[
                "8080 10-244-1-2.peers.shop.svc.cluster.local",
                "8080 10-244-2-3.peers.shop.svc.cluster.local",
                "8080 fd00-10-244-1--2.peers.shop.svc.cluster.local",
            ]),
        );
    }

    #[test]
    fn pods_external_hosts_and_the_domain_itself_have_names() {
        check("10-244-2-3.shop.pod.cluster.local", Kind::A, Some(&["10.244.2.3"]));
        check("10-244-2-3.web.pod.cluster.local", Kind::A, None);
        check("api.swift.com", Kind::A, Some(&["198.51.100.7"]));
        check("api.swift.com", Kind::Aaaa, Some(&["2001:db8::7"]));
        check("swift.com", Kind::A, None);
        for name in ["cluster.local", "svc.cluster.local", "shop.svc.cluster.local"] {
            check(name, Kind::A, Some(&[]));
        }
        check("web.svc.cluster.local", Kind::A, None);
        check("xcluster.local", Kind::A, None);
        check("", Kind::A, None);
    }
}
