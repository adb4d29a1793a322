//! The end of a probe that is a service: what the client asks for, and every
//! place where its packets may arrive.

use std::net::IpAddr;

use source::{Service, ServiceName, Snapshot};

use crate::dns;
use crate::journal::Journal;
use crate::places::Places;
use crate::probe::end::End;
use crate::probe::file::{Family, Port};
use crate::probe::frame::{Mark, Tuple};

/// What such an end is called.
const PREFIX: &str = "svc:";

/// Where the packets of a probe may go.
#[derive(Clone, Debug, PartialEq)]
pub struct Route<'a> {
    /// What the client asks for.
    pub asked: Tuple,
    /// The name that it asks for instead of an address.
    pub name: Option<String>,
    /// Each place of arrival, and the packets that arrive there.
    pub arrivals: Vec<(End<'a>, Tuple)>,
}

/// Whether a text means a service.
pub fn is_service(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// The route from `source` with that port to a service.
pub fn route<'a>(
    text: &str,
    (source, number): (IpAddr, u16),
    port: Option<&Port>,
    family: Family,
    (journal, places): (&'a Journal, &Places),
) -> Result<Route<'a>, String> {
    let scanned = source::Directory::new(places.cluster()).scan();
    let snapshot = scanned.map_err(|error| error.to_string())?.unwrap_or_default();
    let service = find(text, &snapshot)?;
    let port = port.ok_or("a service has ports: write one")?;
    let of_port = |it: &&policy::ServicePort| {
        it.protocol == 6
            && match port {
                Port::Number(number) => it.port == *number,
                Port::Name(name) => it.name == *name,
            }
    };
    let found = service.ports.iter().find(of_port);
    let port = found.ok_or(format!("{text} has no such TCP port"))?;
    let ends = snapshot.serving(service, port, family == Family::V4);
    let mut arrivals = Vec::new();
    for end in &ends {
        let place = End::of(&format!("ip:{}", end.ip()), journal)?;
        if end.ip() == source {
            return Err(format!("{text} may lead its client to itself, which nobody judges"));
        }
        let mark = Mark::Tcp(number, end.port());
        arrivals.push((place, Tuple { source, destination: end.ip(), mark }));
    }
    let of_family = |address: &&IpAddr| address.is_ipv4() == (family == Family::V4);
    let own = service.addresses.iter().find(of_family).copied();
    let (destination, asked_port, name) = match (own, service.headless, ends.first()) {
        (Some(own), _, _) => (own, port.port, None),
        (None, true, Some(end)) => {
            let ServiceName { namespace, name } = &service.name;
            let name = format!("{name}.{namespace}.svc.{}", dns::ZONE);
            (end.ip(), end.port(), Some(name))
        }
        _ => return Err(format!("{text} has no address of that family")),
    };
    let asked = Tuple { source, destination, mark: Mark::Tcp(number, asked_port) };
    Ok(Route { asked, name, arrivals })
}

fn find<'s>(text: &str, snapshot: &'s Snapshot) -> Result<&'s Service, String> {
    let name = text.strip_prefix(PREFIX).unwrap_or(text);
    let (namespace, name) =
        name.split_once('/').ok_or(format!("`{text}` is not svc:NAMESPACE/NAME"))?;
    let name = ServiceName { namespace: namespace.to_owned(), name: name.to_owned() };
    snapshot.services.get(&name).ok_or(format!("the lab has no {text}"))
}
