//! Links, addresses and routes of one network namespace, by netlink.
//!
//! A socket belongs to the namespace of the thread that opened it, so everything
//! here runs on a thread inside the namespace (see [`crate::netns`]).

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressScope,
};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::error::Error;
use crate::netns::Netns;
use crate::topology::{Route, Setup, UPLINK, Wire};

/// Brings the namespace's `lo` up.
pub fn loopback_up(netns: &Netns) -> Result<(), Error> {
    inside(netns, |handle| async move { set_up(&handle, "lo").await })
}

/// Makes the wire's two ends, each directly where it belongs, and brings both up.
pub fn connect(fabric: &Netns, station: &Netns, wire: &Wire) -> Result<(), Error> {
    let target: File = station.open()?;
    let name = wire.fabric_link.clone();
    inside(fabric, |handle| async move {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(UPLINK)
            .setns_by_fd(target.as_raw_fd())
            .build();
        let veth = LinkMessageBuilder::<LinkVeth>::new(&name, UPLINK)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        handle
            .link()
            .add(veth)
            .execute()
            .await
            .map_err(Error::network(format!("create the link `{name}`")))?;
        set_up(&handle, &name).await
    })?;
    inside(station, |handle| async move { set_up(&handle, UPLINK).await })
}

/// Gives a namespace its addresses and routes.
pub fn configure(netns: &Netns, setup: &Setup) -> Result<(), Error> {
    inside(netns, |handle| async move {
        for (link, address) in &setup.addresses {
            let index = index_of(&handle, link).await?;
            add_address(&handle, index, *address).await?;
        }
        for route in &setup.routes {
            let index = index_of(&handle, &route.link).await?;
            add_route(&handle, index, route).await?;
        }
        Ok(())
    })
}

/// Runs `work` with a netlink handle inside the namespace.
fn inside<T, F, W>(netns: &Netns, work: W) -> Result<T, Error>
where
    T: Send,
    F: Future<Output = Result<T, Error>>,
    W: FnOnce(Handle) -> F + Send,
{
    netns.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(Error::file("start a netlink runtime in", netns.path()))?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection()
                .map_err(Error::file("open a netlink socket in", netns.path()))?;
            tokio::spawn(connection);
            work(handle).await
        })
    })?
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32, Error> {
    let what = || format!("find the link `{name}`");
    let found = handle
        .link()
        .get()
        .match_name(name.to_owned())
        .execute()
        .try_next()
        .await
        .map_err(Error::network(what()))?;
    let link = found.ok_or_else(|| Error::Unknown(format!("there is no link `{name}`")))?;
    Ok(link.header.index)
}

async fn set_up(handle: &Handle, name: &str) -> Result<(), Error> {
    let index = index_of(handle, name).await?;
    handle
        .link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .map_err(Error::network(format!("bring the link `{name}` up")))
}

async fn add_address(handle: &Handle, index: u32, address: IpNet) -> Result<(), Error> {
    let mut request = handle.address().add(index, address.addr(), address.prefix_len());
    let message = request.message_mut();
    // Nobody else is on the link: waiting for duplicates would only cost a second.
    message.header.flags |= AddressHeaderFlags::Nodad;
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    if let IpAddr::V4(v4) = address.addr()
        && v4.is_link_local()
    {
        message.header.scope = AddressScope::Link;
    }
    request.execute().await.map_err(Error::network(format!("add the address {address}")))
}

async fn add_route(handle: &Handle, index: u32, route: &Route) -> Result<(), Error> {
    let what = match route.via {
        Some(via) => format!("add the route to {} by {via}", route.to),
        None => format!("add the route to {} on `{}`", route.to, route.link),
    };
    let malformed = |detail: String| Error::Malformed { what: what.clone(), detail };
    let mut message = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.addr(), route.to.prefix_len())
        .map_err(|error| malformed(error.to_string()))?
        .output_interface(index);
    message = match route.via {
        Some(via) => message.gateway(via).map_err(|error| malformed(error.to_string()))?.onlink(),
        None if route.to.addr().is_ipv4() => message.scope(RouteScope::Link),
        None => message,
    };
    handle.route().add(message.build()).execute().await.map_err(Error::network(what))
}
