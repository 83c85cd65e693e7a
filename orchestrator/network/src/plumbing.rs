//! What is made in the kernel for a network and for a VM, step by step, and taken away again.
//!
//! ```text
//! network   rules (elements)  ->  forwarding on  ->  bridge  ->  its settings  ->  its addresses  ->  up
//! VM        rules (elements)  ->  tap  ->  its settings  ->  on the bridge, up
//! ```
//! The rules come first and go last, so that no link is ever up without them. Each step may be done twice; a daemon that was killed between
//! two of them does them again, or takes away what the first ones made.

use std::os::fd::OwnedFd;

use crate::book::{Entry, Routes};
use crate::error::SystemError;
use crate::link::{self, Link};
use crate::mac::Mac;
use crate::name::Instance;
use crate::net::Network;
use crate::nft::batch::Element;
use crate::subnet;
use crate::sysctl;
use crate::tap::{self, TapError};

/// A network's bridge cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// There is a link of that name which is not ours.
    #[error("link {0} exists already and is not Shoal's")]
    NotOurs(String),
    /// The host got a route there meanwhile.
    #[error("subnet {wanted} of network {network} overlaps {taken}, to which the host has a route")]
    Overlaps {
        /// The network.
        network: String,
        /// Its subnet.
        wanted: String,
        /// The route.
        taken: String,
    },
    /// The kernel refused it.
    #[error(transparent)]
    System(#[from] SystemError),
}

/// Makes a network's bridge, or what is missing of it.
pub(crate) fn bridge(instance: &Instance, network: &Network) -> Result<Link, BridgeError> {
    let name = instance.bridge(network.index);
    let found = link::find(&name)?;
    if found
        .as_ref()
        .is_some_and(|link| !link.ours || !link.bridge)
    {
        return Err(BridgeError::NotOurs(name));
    }
    check_routes(
        network,
        &link::routes(found.as_ref().map(|link| link.index))?,
    )?;
    if found.is_none() {
        link::add_bridge(&name, Mac::of(network.gateway4()), network.mtu)?;
    }
    let gone = || BridgeError::NotOurs(name.clone());
    let bridge = link::find(&name)?.ok_or_else(gone)?;
    // A published port answers at the host's 127.0.0.1 as well: such packets pass here, and the rules see to it that no others do.
    sysctl::write(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    link::add_address(&bridge, prefix4(network))?;
    if sysctl::has_ipv6() {
        // Some hosts have it off for new links.
        sysctl::write(&format!("ipv6/conf/{name}/disable_ipv6"), "0")?;
        sysctl::write(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
        link::add_address(&bridge, prefix6(network))?;
    }
    link::up(&bridge, &format!("Shoal network {}", network.name))?;
    Ok(bridge)
}

/// Makes a VM's tap on its network's bridge.
pub(crate) fn tap(
    instance: &Instance,
    network: &Network,
    bridge: &Link,
    entry: &Entry,
) -> Result<(OwnedFd, String), TapError> {
    let name = instance.tap(network.index, entry.slot);
    let tap = tap::make(&name)?;
    let gone = || TapError::Exists(name.clone());
    let link = link::find(&name)?.ok_or_else(gone)?;
    // The host itself says nothing on a guest's wire.
    if sysctl::has_ipv6() {
        sysctl::write(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
    }
    link::adopt(&link, bridge, network.mtu, &alias(entry))?;
    Ok((tap, name))
}

/// Puts a VM's tap back on its network's bridge; false where there is no tap.
pub(crate) fn readopt(
    instance: &Instance,
    network: &Network,
    bridge: &Link,
    entry: &Entry,
) -> Result<bool, SystemError> {
    let Some(link) = link::find(&instance.tap(network.index, entry.slot))? else {
        return Ok(false);
    };
    if link.master != Some(bridge.index) || !link.ours {
        link::adopt(&link, bridge, network.mtu, &alias(entry))?;
    }
    Ok(true)
}

/// Removes a link of ours; one of the same name that somebody else made stays.
pub(crate) fn remove(name: &str) -> Result<bool, SystemError> {
    match link::find(name)? {
        Some(link) if link.ours => link::remove(&link).map(|()| true),
        _ => Ok(false),
    }
}

/// What the rules say of a network or a VM, as elements.
pub(crate) fn elements(instance: &Instance, network: &Network, entry: &Entry) -> Vec<Element> {
    crate::rules::of_vm(&instance.tap(network.index, entry.slot), &entry.lease)
}

fn alias(entry: &Entry) -> String {
    format!("Shoal VM {} ({})", entry.lease.vm, entry.lease.name)
}

fn prefix4(network: &Network) -> ipnet::IpNet {
    ipnet::IpNet::new(network.gateway4().into(), network.ipv4.prefix_len()).unwrap_or_default()
}

fn prefix6(network: &Network) -> ipnet::IpNet {
    ipnet::IpNet::new(network.gateway6().into(), network.ipv6.prefix_len()).unwrap_or_default()
}

fn check_routes(network: &Network, routes: &Routes) -> Result<(), BridgeError> {
    let overlaps = |wanted: String, taken: String| BridgeError::Overlaps {
        network: network.name.clone(),
        wanted,
        taken,
    };
    if let Some(taken) = subnet::taken4(network.ipv4, &routes.ipv4) {
        return Err(overlaps(network.ipv4.to_string(), taken.to_string()));
    }
    if let Some(taken) = subnet::taken6(network.ipv6, &routes.ipv6) {
        return Err(overlaps(network.ipv6.to_string(), taken.to_string()));
    }
    Ok(())
}
