//! Links, addresses, neighbours, routes and namespace numbers, as the plugin uses
//! them: plain calls that block, each with an error that says what was tried.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use futures::{Stream, StreamExt, TryStreamExt};
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::runtime::Runtime;

use super::{End, Namespace, Neighbour, Route, WiringError};
use crate::result::mac_text;

/// A conversation with the kernel about the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Netlink {
    runtime: Runtime,
    handle: Handle,
}

/// An interface as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    /// Number of the other end, which may be in another namespace.
    pub(crate) peer: Option<u32>,
}

impl Netlink {
    /// Opens a conversation for the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, WiringError> {
        let failed = |source| failure("open a netlink socket", source);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let entered = runtime.enter();
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        runtime.spawn(connection);
        drop(entered);
        Ok(Self { runtime, handle })
    }

    /// The interface of this name, if there is one.
    pub(crate) fn link(&self, name: &str) -> Result<Option<Link>, WiringError> {
        let mut answers = self.handle.link().get().match_name(name).execute();
        match self.runtime.block_on(answers.try_next()) {
            Ok(message) => Ok(message.map(|message| link(name, &message))),
            Err(error) if is(&error, Errno::ENODEV) => Ok(None),
            Err(error) => Err(failure(format!("look up `{name}`"), io_error(error))),
        }
    }

    /// Creates a pair, both ends down, the second one in `namespace`.
    pub(super) fn add_veth(
        &self,
        host: &End,
        pod: &End,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), WiringError> {
        let mut near = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(&host.name)
            .address(host.mac.to_vec());
        let mut far = LinkMessageBuilder::<LinkUnspec>::new()
            .name(&pod.name)
            .address(pod.mac.to_vec())
            .setns_by_fd(namespace.as_raw_fd());
        if let Some(mtu) = host.mtu {
            (near, far) = (near.mtu(mtu), far.mtu(mtu));
        }
        let message = near.set_info_data(InfoData::Veth(InfoVeth::Peer(far.build()))).build();
        self.runtime.block_on(self.handle.link().add(message).execute()).map_err(|error| {
            let action = format!("create the link `{}` to the pod's `{}`", host.name, pod.name);
            failure(action, io_error(error))
        })
    }

    /// Sets an interface up.
    pub(super) fn set_up(&self, link: &Link) -> Result<(), WiringError> {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        self.runtime
            .block_on(self.handle.link().change(message).execute())
            .map_err(|error| failure(format!("set `{}` up", link.name), io_error(error)))
    }

    /// Sets an interface down: nothing passes it any more.
    pub(crate) fn set_down(&self, link: &Link) -> Result<(), WiringError> {
        let message = LinkUnspec::new_with_index(link.index).down().build();
        self.runtime
            .block_on(self.handle.link().change(message).execute())
            .map_err(|error| failure(format!("set `{}` down", link.name), io_error(error)))
    }

    /// Deletes an interface, and its other end with it; it may be gone already.
    pub(crate) fn delete(&self, link: &Link) -> Result<(), WiringError> {
        match self.runtime.block_on(self.handle.link().del(link.index).execute()) {
            Err(error) if !is(&error, Errno::ENODEV) => {
                Err(failure(format!("delete `{}`", link.name), io_error(error)))
            }
            _ => Ok(()),
        }
    }

    /// Gives an interface an address that is its whole subnet. Nobody else is on
    /// the link, so duplicates are not looked for.
    pub(super) fn add_address(&self, link: &Link, address: IpAddr) -> Result<(), WiringError> {
        let net = IpNet::from(address);
        let mut request = self.handle.address().add(link.index, address, net.prefix_len());
        if address.is_ipv6() {
            let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
            request.message_mut().attributes.push(AddressAttribute::Flags(flags));
        }
        self.runtime
            .block_on(request.execute())
            .map_err(|error| failure(format!("give `{}` {net}", link.name), io_error(error)))
    }

    /// Makes a neighbour known for good.
    pub(super) fn add_neighbour(
        &self,
        link: &Link,
        neighbour: Neighbour,
    ) -> Result<(), WiringError> {
        let Neighbour { address, mac } = neighbour;
        let request =
            self.handle.neighbours().add(link.index, address).link_layer_address(&mac).replace();
        self.runtime.block_on(request.execute()).map_err(|error| {
            let action = format!("tell `{}` that {address} is at {}", link.name, mac_text(mac));
            failure(action, io_error(error))
        })
    }

    /// Adds a route over an interface.
    pub(super) fn add_route(&self, link: &Link, route: Route) -> Result<(), WiringError> {
        let request = self.handle.route().add(route_message(link, route));
        self.runtime.block_on(request.execute()).map_err(|error| {
            let action = format!("route {} over `{}`", route.destination, link.name);
            failure(action, io_error(error))
        })
    }

    /// All addresses of an interface.
    pub(super) fn addresses(&self, link: &Link) -> Result<Vec<IpNet>, WiringError> {
        let answers = self.handle.address().get().set_link_index_filter(link.index).execute();
        let messages = self.collect(answers, || format!("list addresses of `{}`", link.name))?;
        Ok(messages.iter().filter_map(address).collect())
    }

    /// All permanent neighbours of an interface, of both families.
    pub(super) fn neighbours(&self, link: &Link) -> Result<Vec<Neighbour>, WiringError> {
        let answers = self.handle.neighbours().get().execute();
        let messages = self.collect(answers, || format!("list neighbours of `{}`", link.name))?;
        let of_link = messages.iter().filter(|message| message.header.ifindex == link.index);
        Ok(of_link.filter_map(neighbour).collect())
    }

    /// All routes of the main table over an interface, of both families.
    pub(super) fn routes(&self, link: &Link) -> Result<Vec<Route>, WiringError> {
        let families = [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ];
        let mut routes = Vec::new();
        for family in families {
            let answers = self.handle.route().get(family).execute();
            let messages = self.collect(answers, || format!("list routes over `{}`", link.name))?;
            routes.extend(messages.iter().filter_map(|message| route(message, link.index)));
        }
        Ok(routes)
    }

    /// The number by which this namespace knows the other one; given if it had none.
    pub(crate) fn namespace_id(&self, other: &Namespace) -> Result<i32, WiringError> {
        let failed = |source| failure("number the pod's network namespace", source);
        if let Some(id) = self.find_namespace_id(other).map_err(failed)? {
            return Ok(id);
        }
        match self.ask(RouteNetlinkMessage::NewNsId(namespace_message(other, Some(-1)))) {
            // Somebody was faster: then it has one.
            Err(error) if error.raw_os_error() != Some(Errno::EEXIST as i32) => {
                return Err(failed(error));
            }
            _ => {}
        }
        let id = self.find_namespace_id(other).map_err(failed)?;
        id.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    fn find_namespace_id(&self, other: &Namespace) -> io::Result<Option<i32>> {
        let question = RouteNetlinkMessage::GetNsId(namespace_message(other, None));
        let attributes = self.ask(question)?.into_iter().flat_map(|answer| match answer {
            RouteNetlinkMessage::NewNsId(message) => message.attributes,
            _ => Vec::new(),
        });
        // The kernel says -1 for "has none".
        let mut ids = attributes.filter_map(|attribute| match attribute {
            NsidAttribute::Id(id) if id >= 0 => Some(id),
            _ => None,
        });
        Ok(ids.next())
    }

    /// Sends one message and collects the answers up to the acknowledgement.
    fn ask(&self, question: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut message = NetlinkMessage::from(question);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let mut answers = self.handle.clone().request(message).map_err(io_error)?;
        self.runtime.block_on(async {
            let mut collected = Vec::new();
            while let Some(answer) = answers.next().await {
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::InnerMessage(answer) => collected.push(answer),
                    _ => {}
                }
            }
            Ok(collected)
        })
    }

    fn collect<T>(
        &self,
        answers: impl Stream<Item = Result<T, rtnetlink::Error>>,
        action: impl FnOnce() -> String,
    ) -> Result<Vec<T>, WiringError> {
        self.runtime
            .block_on(answers.try_collect())
            .map_err(|error| failure(action(), io_error(error)))
    }
}

fn link(name: &str, message: &LinkMessage) -> Link {
    let mut link = Link {
        name: name.to_owned(),
        index: message.header.index,
        mac: [0; 6],
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        peer: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => {
                link.mac = bytes.as_slice().try_into().unwrap_or_default();
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(index) => link.peer = Some(*index),
            _ => {}
        }
    }
    link
}

fn address(message: &AddressMessage) -> Option<IpNet> {
    let find = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    // IPv4 tells its own address as "local", IPv6 does not.
    IpNet::new(find(true).or_else(|| find(false))?, message.header.prefix_len).ok()
}

fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                address = Some(IpAddr::V4(*ip));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                address = Some(IpAddr::V6(*ip));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    Some(Neighbour { address: address?, mac: mac? })
}

fn route(message: &RouteMessage, index: u32) -> Option<Route> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    };
    let (mut destination, mut gateway, mut over) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => over = Some(*index),
            _ => {}
        }
    }
    if over != Some(index) {
        return None;
    }
    // A default route has no destination: its family is the gateway's.
    let destination = destination
        .map(|address| IpNet::new(address, header.destination_prefix_length).ok())
        .unwrap_or_else(|| gateway.map(crate::result::default_route))?;
    Some(Route { destination, gateway })
}

fn route_message(link: &Link, route: Route) -> RouteMessage {
    let length = route.destination.prefix_len();
    match (route.destination.network(), route.gateway) {
        (IpAddr::V4(network), gateway) => {
            let message = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(network, length)
                .output_interface(link.index);
            match gateway {
                Some(IpAddr::V4(gateway)) => message.gateway(gateway).onlink().build(),
                _ => message.scope(RouteScope::Link).build(),
            }
        }
        (IpAddr::V6(network), gateway) => {
            let message = RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(network, length)
                .output_interface(link.index);
            match gateway {
                Some(IpAddr::V6(gateway)) => message.gateway(gateway).onlink().build(),
                _ => message.build(),
            }
        }
    }
}

fn namespace_message(other: &Namespace, id: Option<i32>) -> NsidMessage {
    let mut message = NsidMessage::default();
    // Descriptors are never negative while they are borrowed.
    let fd = other.as_fd().as_raw_fd().unsigned_abs();
    message.attributes.push(NsidAttribute::Fd(fd));
    message.attributes.extend(id.map(NsidAttribute::Id));
    message
}

fn failure(action: impl Into<String>, source: io::Error) -> WiringError {
    WiringError::Netlink { action: action.into(), source }
}

fn is(error: &rtnetlink::Error, errno: Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message)
        if message.raw_code() == -(errno as i32))
}

fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
