//! Services of a lab: what is written, with the addresses that the API server
//! would have given out.
//!
//! What is not written is generated in the order of names, the same every time:
//! 10.96.0.11, fd00:10:96::11 and so on. Numbers look the same in both families.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use manifest::{Document, Refusal};
use serde_json::{Value, json};

use crate::definition::fields::Field;
use crate::definition::lab_object::LabObject;

/// Where the addresses of services are.
const RANGE_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 16);
const RANGE_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112);

/// The first number that is generated: lower ones are customary for some.
const FIRST: u32 = 11;
/// Most services of a lab: their numbers must fit one group of an IPv6 address.
const MOST: usize = 1000;

/// What stands for no address.
const HEADLESS: &str = "None";

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Addresses that are written.
    written: Vec<IpAddr>,
    /// Families in their order; none: it is headless.
    families: Vec<Family>,
    /// The manifest.
    object: Value,
    /// Where it was written, for what is found out later.
    refusal: Refusal,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Family {
    V4,
    V6,
}

impl Service {
    fn is(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let namespace = metadata["namespace"].as_str().unwrap_or("default");
        object["kind"] == "Service" && namespace == self.namespace && metadata["name"] == self.name
    }
}

impl Family {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Fields that the lab understands.
const KNOWN: [&str; 11] = [
    "type",
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "ipFamilyPolicy",
    "selector",
    "ports",
    "sessionAffinity",
    "sessionAffinityConfig",
    "publishNotReadyAddresses",
    "internalTrafficPolicy",
];

/// Reads a Service; `None` when it is too wrong to go on with.
pub fn read(document: &Document, refusals: &mut Vec<Refusal>) -> Option<Service> {
    let root = Field::root(document);
    let Some(metadata) = root.get("metadata") else {
        refusals.push(root.refuse("`metadata` is missing", None));
        return None;
    };
    let name = metadata.name_at("name", refusals)?;
    let namespace = match metadata.get("namespace") {
        Some(_) => metadata.name_at("namespace", refusals)?,
        None => "default".into(),
    };
    let Some(spec) = root.get("spec") else {
        refusals.push(root.refuse("`spec` is missing", None));
        return None;
    };
    refuse_what_is_not_run(&spec, refusals);
    let (written, headless) = own_addresses(&spec, refusals);
    let families = if headless { vec![] } else { families(&spec, &written, refusals) };
    // The rest is read by those who will use it, and refused as they would.
    let read = source::read(&document.file, &document.root.to_json().to_string());
    let found = read.refused.into_iter().flat_map(|refused| refused.refusals);
    refusals.extend(found.map(|refusal| Refusal { at: document.root.at, ..refusal }));
    let refusal = root.refuse(String::new(), None);
    let object = document.root.to_json();
    Some(Service { namespace, name, written, families, object, refusal })
}

fn refuse_what_is_not_run(spec: &Field<'_>, refusals: &mut Vec<Refusal>) {
    if let Some(kind) = spec.get("type")
        && let Some(text) = kind.text(refusals)
        && text != "ClusterIP"
    {
        let fix = "write `type: ClusterIP`, or leave it out";
        let reason = format!("the lab has no {text} services: it has ClusterIP and headless ones");
        refusals.push(kind.refuse(reason, Some(fix)));
        return;
    }
    if let Some(policy) = spec.get("internalTrafficPolicy")
        && policy.text(refusals).is_some_and(|text| text != "Cluster")
    {
        refusals.push(policy.refuse("backends of all nodes are used alike", None));
    }
    spec.only(&KNOWN, refusals);
}

fn own_addresses(spec: &Field<'_>, refusals: &mut Vec<Refusal>) -> (Vec<IpAddr>, bool) {
    let mut fields = spec.items("clusterIPs", refusals);
    fields.extend(spec.get("clusterIP"));
    let mut addresses = Vec::new();
    for field in fields {
        let Some(text) = field.text(refusals) else { continue };
        if text == HEADLESS {
            return (vec![], true);
        }
        let Some(address) = (!text.is_empty()).then(|| field.parsed("an IP address", refusals))
        else {
            continue;
        };
        match address {
            Some(address) if !ranges().any(|range| range.contains(&address)) => {
                let [v4, v6] = [0, 1].map(|at| ranges().nth(at).map(|it| it.to_string()));
                let (v4, v6) = (v4.unwrap_or_default(), v6.unwrap_or_default());
                refusals.push(field.refuse(format!("`{address}` is not in {v4} or {v6}"), None));
            }
            Some(address) if !addresses.contains(&address) => addresses.push(address),
            _ => {}
        }
    }
    let of = |family| addresses.iter().filter(|it| Family::of(**it) == family).count();
    if of(Family::V4) > 1 || of(Family::V6) > 1 {
        refusals.push(spec.refuse("a service has one address of a family", None));
    }
    (addresses, false)
}

/// As the API server chooses them: one family, IPv4, unless more is asked for.
fn families(spec: &Field<'_>, written: &[IpAddr], refusals: &mut Vec<Refusal>) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for field in spec.items("ipFamilies", refusals) {
        match field.text(refusals).as_deref() {
            Some("IPv4") => families.push(Family::V4),
            Some("IPv6") => families.push(Family::V6),
            Some(_) => refusals.push(field.refuse("must be `IPv4` or `IPv6`", None)),
            None => {}
        }
    }
    families.extend(written.iter().map(|address| Family::of(*address)));
    let policy = spec.get("ipFamilyPolicy");
    match policy.as_ref().and_then(|policy| policy.text(refusals)).as_deref() {
        Some("PreferDualStack" | "RequireDualStack") => families.extend([Family::V4, Family::V6]),
        None | Some("SingleStack") => {}
        Some(_) => refusals.extend(policy.as_ref().map(|policy| {
            let reason = "must be `SingleStack`, `PreferDualStack` or `RequireDualStack`";
            policy.refuse(reason, None)
        })),
    }
    let first = families.first().copied().unwrap_or(Family::V4);
    let second = families.iter().copied().find(|family| *family != first);
    let chosen: Vec<Family> = [Some(first), second].into_iter().flatten().collect();
    let single = policy.filter(|policy| policy.text(&mut vec![]).as_deref() == Some("SingleStack"));
    if let (Some(policy), true) = (single, chosen.len() > 1) {
        refusals.push(policy.refuse("two families are written, so this is not single", None));
    }
    chosen
}

fn ranges() -> impl Iterator<Item = IpNet> {
    let v4 = Ipv4Net::new(RANGE_V4.0, RANGE_V4.1).ok().map(IpNet::V4);
    let v6 = Ipv6Net::new(RANGE_V6.0, RANGE_V6.1).ok().map(IpNet::V6);
    v4.into_iter().chain(v6)
}

/// Gives out addresses; the objects as the API server would show them. Services
/// that are `present` already keep what they have.
pub fn objects(
    mut services: Vec<Service>,
    lab: &LabObject,
    present: &[Value],
    refusals: &mut Vec<Refusal>,
) -> Vec<Value> {
    services.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    refuse_contradictions(&services, lab, refusals);
    let mut taken: BTreeSet<IpAddr> =
        services.iter().flat_map(|service| service.written.iter().copied()).collect();
    taken.extend(present.iter().flat_map(given));
    let mut numbers = FIRST..;
    let mut objects = Vec::new();
    for service in services {
        let mut addresses = service.written.clone();
        let before = present.iter().filter(|object| service.is(object)).flat_map(given);
        let is_new = |at: &IpAddr| !addresses.iter().any(|it| Family::of(*it) == Family::of(*at));
        let kept: Vec<_> = before.filter(is_new).collect();
        addresses.extend(kept.iter().filter(|at| service.families.contains(&Family::of(**at))));
        let missing: Vec<Family> = service
            .families
            .iter()
            .copied()
            .filter(|family| !addresses.iter().any(|address| Family::of(*address) == *family))
            .collect();
        if !missing.is_empty() {
            let free = |number: &u32| numbered(*number).iter().all(|it| !taken.contains(it));
            let number = numbers.find(free).unwrap_or(FIRST);
            let generated = numbered(number);
            addresses
                .extend(generated.iter().copied().filter(|it| missing.contains(&Family::of(*it))));
            taken.extend(generated);
        }
        objects.push(service.shown(addresses));
    }
    objects
}

/// The addresses that a Service object has.
fn given(object: &Value) -> Vec<IpAddr> {
    let addresses = (object["kind"] == "Service").then(|| object["spec"]["clusterIPs"].as_array());
    let addresses = addresses.flatten().into_iter().flatten();
    addresses.filter_map(|text| text.as_str()?.parse().ok()).collect()
}

fn refuse_contradictions(services: &[Service], lab: &LabObject, refusals: &mut Vec<Refusal>) {
    let Some(last) = services.last() else { return };
    let refuse = |service: &Service, reason: String| Refusal { reason, ..service.refusal.clone() };
    if services.len() > MOST {
        refusals.push(refuse(last, format!("a lab has at most {MOST} services")));
    }
    let mut written = BTreeSet::new();
    for service in services {
        for address in &service.written {
            if !written.insert(*address) {
                refusals.push(refuse(service, format!("`{address}` is another service's")));
            }
        }
    }
    for pair in services.windows(2) {
        let [left, right] = pair else { continue };
        if (&left.namespace, &left.name) == (&right.namespace, &right.name) {
            let name = format!("{}/{}", right.namespace, right.name);
            refusals.push(refuse(right, format!("a service `{name}` exists already")));
        }
    }
    let stations = lab.nodes.iter().flat_map(|node| node.addresses.iter());
    let stations = stations.chain(lab.external.iter().flat_map(|host| host.addresses.iter()));
    let others = stations.map(|address| IpNet::from(*address));
    let others = others.chain(lab.nodes.iter().flat_map(|node| node.pod_cidrs.iter().copied()));
    for other in others {
        for range in ranges().filter(|it| it.contains(&other) || other.contains(it)) {
            let reason = format!("services have addresses in {range}, which `{other}` overlaps");
            refusals.push(refuse(last, reason));
        }
    }
}

/// The addresses with a number, one of each family.
fn numbered(number: u32) -> Vec<IpAddr> {
    let v4 = Ipv4Addr::from(u32::from(RANGE_V4.0).wrapping_add(number));
    let group = u16::from_str_radix(&number.to_string(), 16).unwrap_or(0);
    let mut segments = RANGE_V6.0.segments();
    segments[7] = group;
    vec![v4.into(), Ipv6Addr::from(segments).into()]
}

impl Service {
    fn shown(self, mut addresses: Vec<IpAddr>) -> Value {
        let Self { namespace, families, mut object, .. } = self;
        addresses.sort_by_key(|address| families.iter().position(|it| *it == Family::of(*address)));
        object["metadata"]["namespace"] = json!(namespace);
        let spec = &mut object["spec"];
        spec["type"] = json!("ClusterIP");
        if families.is_empty() {
            spec["clusterIP"] = json!(HEADLESS);
            spec["clusterIPs"] = json!([HEADLESS]);
        } else {
            spec["clusterIP"] = json!(addresses.first());
            spec["clusterIPs"] = json!(addresses);
            let families: Vec<&str> = families.iter().map(|family| family.as_str()).collect();
            spec["ipFamilies"] = json!(families);
        }
        object
    }
}

#[cfg(test)]
mod tests;
