//! Links, addresses and routes by netlink: the VM's veth pair and both of its ends.
//!
//! Each function brings its part to the wanted state from whatever state it is in.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMetric, RouteScope};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::NetError;
use super::name::{GUEST, GUEST_MAC, HOST_ADDRESS, HOST_MAC};

/// Longest time of one question to the kernel's network.
const TIMEOUT: Duration = Duration::from_secs(10);
const LOOPBACK_INDEX: u32 = 1;

/// Opens a netlink socket in the namespace of this thread. Its task ends with the last handle.
pub fn connect() -> Result<Handle, NetError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| NetError::Io { what: "open a netlink socket", error })?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Inside the VM's namespace: makes the veth pair and brings up the guest's end; its index. `fresh` says that the
/// namespace was made just now.
pub async fn make_guest_end(
    guest: &Handle,
    host: &Handle,
    netns: &Path,
    interface: &str,
    fresh: bool,
) -> Result<u32, NetError> {
    if fresh {
        for scope in ["all", "default"] {
            disable_ipv6(scope)?;
        }
        let up = LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build();
        ask("bring up lo", guest.link().set(up).execute()).await?;
    }
    make_pair(host, guest, netns, interface).await?;
    let end = find(guest, GUEST.interface).await?.ok_or(NetError::Vanished { what: "the guest's interface" })?;
    let index = end.header.index;
    let up = LinkUnspec::new_with_index(index).up().build();
    ask("bring up the guest's interface", guest.link().set(up).execute()).await?;
    Ok(index)
}

/// Gives the guest's end its address and route, where an engine looks for them that is not told.
pub async fn address_guest_end(guest: &Handle, index: u32) -> Result<(), NetError> {
    let address = guest.address().add(index, IpAddr::V4(GUEST.address), GUEST.prefix_len).replace();
    ask("set the guest's address", address.execute()).await?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(GUEST.gateway).output_interface(index).build();
    ask("set the guest's route", guest.route().add(default).replace().execute()).await
}

/// A pair that is there is kept when its ends are these two; one with another end is of another life.
async fn make_pair(host: &Handle, guest: &Handle, netns: &Path, interface: &str) -> Result<(), NetError> {
    let add = || async {
        let target = File::open(netns).map_err(|error| NetError::Io { what: "open the namespace", error })?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(GUEST.interface)
            .address(GUEST_MAC.to_vec())
            .setns_by_fd(target.as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(interface)
            .address(HOST_MAC.to_vec())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        ask("make the veth pair", host.link().add(pair).execute()).await
    };
    match add().await {
        Err(error) if error.is_errno(rustix::io::Errno::EXIST) => {}
        other => return other,
    }
    let ends = (find(host, interface).await?, find(guest, GUEST.interface).await?);
    if let (Some(outer), Some(inner)) = &ends
        && peer_index(inner) == Some(outer.header.index)
    {
        return Ok(());
    }
    remove(host, interface).await?;
    remove(guest, GUEST.interface).await?;
    add().await
}

/// On the host: address, route and neighbour of the VM; the link goes up last, when its rules are there.
pub async fn make_host_end(host: &Handle, interface: &str, address: Ipv4Addr) -> Result<(), NetError> {
    let end = find(host, interface).await?.ok_or(NetError::Vanished { what: "the host's interface" })?;
    let index = end.header.index;
    let own = host.address().add(index, IpAddr::V4(HOST_ADDRESS), 32).replace();
    ask("set the host's address", own.execute()).await?;
    let up = LinkUnspec::new_with_index(index).up().build();
    ask("bring up the host's interface", host.link().set(up).execute()).await?;
    let neighbour = host.neighbours().add(index, IpAddr::V4(address)).link_layer_address(&GUEST_MAC).replace();
    ask("set the VM's neighbour entry", neighbour.execute()).await?;
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(address, 32)
        .scope(RouteScope::Link)
        .pref_source(HOST_ADDRESS)
        .output_interface(index)
        .build();
    // An app that writes an answer in two parts, as Python's http.server does, holds the second until the first is
    // acknowledged: which a client on a connection that it used before puts off for 40 ms.
    route.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::QuickAck(1)]));
    ask("set the VM's route", host.route().add(route).replace().execute()).await
}

/// The host's end while it is down: it takes no IPv6 address and hears no router, and it takes packets only from the
/// source that its route leads to. So when somebody empties the firewall, a guest under its untranslated address is
/// cut off, not let loose.
pub fn harden_host_end(interface: &str) -> Result<(), NetError> {
    disable_ipv6(interface)?;
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
    std::fs::write(path, "1").map_err(|error| NetError::Io { what: "make a link check its sources", error })
}

fn disable_ipv6(scope: &str) -> Result<(), NetError> {
    let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
    match std::fs::write(path, "1") {
        // A kernel without IPv6 has nothing to disable.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| NetError::Io { what: "disable IPv6 on a link", error }),
    }
}

/// Removes a link and with it its other end, its addresses, routes and neighbours; not there is fine.
pub async fn remove(handle: &Handle, interface: &str) -> Result<(), NetError> {
    let Some(link) = find(handle, interface).await? else { return Ok(()) };
    match ask("remove a link", handle.link().del(link.header.index).execute()).await {
        Err(error) if error.is_errno(rustix::io::Errno::NODEV) => Ok(()),
        other => other,
    }
}

/// The names of all links.
pub async fn names(handle: &Handle) -> Result<Vec<String>, NetError> {
    let links = ask("list links", handle.link().get().execute().try_collect::<Vec<_>>()).await?;
    Ok(links.iter().filter_map(link_name).collect())
}

async fn find(handle: &Handle, interface: &str) -> Result<Option<LinkMessage>, NetError> {
    let mut links = handle.link().get().match_name(interface).execute();
    match ask("find a link", links.try_next()).await {
        Err(error) if error.is_errno(rustix::io::Errno::NODEV) => Ok(None),
        other => other,
    }
}

fn link_name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

/// The other end's index, in its own namespace.
fn peer_index(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    })
}

async fn ask<T>(what: &'static str, request: impl Future<Output = Result<T, rtnetlink::Error>>) -> Result<T, NetError> {
    let answer = tokio::time::timeout(TIMEOUT, request).await.map_err(|_| NetError::Timeout { what })?;
    answer.map_err(|error| NetError::Netlink { what, error })
}
