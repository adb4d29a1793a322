//! Services as ends of probes: what a client asks, and every place where its
//! packets may arrive.
//!
//! From the objects that the lab publishes, like any reader of them; who really
//! answered is seen at the backends.

use std::net::{IpAddr, SocketAddr};

use source::{Service, ServiceName, Snapshot};

use crate::dns;
use crate::lab::Lab;
use crate::probe::end::End;
use crate::probe::file::{Family, Port, Protocol};

/// What such an end is called.
pub const PREFIX: &str = "svc:";

/// What a probe asks of a service.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The port of the service, by number or name.
    pub port: Option<&'a Port>,
    /// Of the port.
    pub protocol: Protocol,
    /// Of the address.
    pub family: Family,
}

/// Where the packets of a probe may go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Way {
    /// What the client asks for.
    pub asked: SocketAddr,
    /// The name that it asks for instead of an address.
    pub name: Option<String>,
    /// Each place of arrival.
    pub backends: Vec<SocketAddr>,
}

/// The way to the service `NAMESPACE/NAME` of the cluster of whoever asks.
pub fn find(text: &str, question: Question<'_>, from: &End<'_>, lab: &Lab) -> Result<Way, String> {
    let scanned = source::Directory::new(lab.places.objects(from.cluster())).scan();
    let snapshot = scanned.map_err(|error| error.to_string())?.unwrap_or_default();
    of(text, question, &snapshot)
}

fn of(text: &str, question: Question<'_>, snapshot: &Snapshot) -> Result<Way, String> {
    let service = named(text, snapshot)?;
    let is_ipv4 = question.family == Family::V4;
    let of_family = |address: &&IpAddr| address.is_ipv4() == is_ipv4;
    let own = service.addresses.iter().find(of_family).copied();
    let no_address = || format!("svc:{text} has no address of that family");
    let protocol = match question.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        // No hook leads these, so nobody is behind the address.
        Protocol::Sctp | Protocol::Icmp => {
            let port = match question.port {
                Some(Port::Number(number)) => *number,
                _ => 0,
            };
            let asked = SocketAddr::new(own.ok_or_else(no_address)?, port);
            return Ok(Way { asked, name: None, backends: vec![] });
        }
    };
    let port = question.port.ok_or("a service has ports: write one")?;
    let of_port = |it: &&policy::ServicePort| {
        it.protocol == protocol
            && match port {
                Port::Number(number) => it.port == *number,
                Port::Name(name) => it.name == *name,
            }
    };
    let port = service.ports.iter().find(of_port);
    let port = port.ok_or_else(|| format!("svc:{text} has no such port"))?;
    let backends: Vec<SocketAddr> = snapshot.serving(service, port, is_ipv4).into_iter().collect();
    let (asked, name) = match (own, service.headless, backends.first()) {
        (Some(own), _, _) => (SocketAddr::new(own, port.port), None),
        (None, true, Some(first)) => {
            let ServiceName { namespace, name } = &service.name;
            (*first, Some(format!("{name}.{namespace}.svc.{}", dns::ZONE)))
        }
        _ => return Err(no_address()),
    };
    Ok(Way { asked, name, backends })
}

fn named<'s>(text: &str, snapshot: &'s Snapshot) -> Result<&'s Service, String> {
    let (namespace, name) =
        text.split_once('/').ok_or_else(|| format!("`svc:{text}` is not svc:NAMESPACE/NAME"))?;
    let name = ServiceName { namespace: namespace.to_owned(), name: name.to_owned() };
    snapshot.services.get(&name).ok_or_else(|| format!("the lab has no svc:{text}"))
}
