//! What a network is, what a VM has of it, and what a monitor is given: the values that cross this crate's border.
//!
//! [`Network`] and [`Lease`] are written down by the daemon before anything is done with them; from them alone all
//! that is in the kernel can be found, made again and removed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::mac::Mac;
use crate::port::{PortSpec, Published};

/// What is asked of a new network; what is absent is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// IPv4 subnet, from /8 to /29.
    pub ipv4: Option<Ipv4Net>,
    /// IPv6 subnet, from /32 to /125.
    pub ipv6: Option<Ipv6Net>,
    /// Bytes of the largest packet, from 1280 to 65521.
    pub mtu: Option<u16>,
}

/// A network, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its number, in the names of its links: no two networks of one daemon have the same.
    pub index: u16,
    /// IPv4 subnet.
    pub ipv4: Ipv4Net,
    /// IPv6 subnet.
    pub ipv6: Ipv6Net,
    /// Bytes of the largest packet.
    pub mtu: u16,
}

impl Network {
    /// The host's own IPv4 address in it, by which everything else is reached.
    #[must_use]
    pub fn gateway4(&self) -> Ipv4Addr {
        self.ipv4_at(GATEWAY)
    }

    /// The host's own IPv6 address in it.
    #[must_use]
    pub fn gateway6(&self) -> Ipv6Addr {
        self.ipv6_at(GATEWAY)
    }

    /// Last slot that a VM can have: fewer than 2^16, without the IPv4 broadcast address.
    pub(crate) fn last_slot(&self) -> u16 {
        let of = |bits: u8| 1_u32.checked_shl(u32::from(bits)).unwrap_or(u32::MAX);
        let ipv4 = of(32 - self.ipv4.prefix_len()).saturating_sub(2);
        let ipv6 = of(128 - self.ipv6.prefix_len()).saturating_sub(1);
        u16::try_from(ipv4.min(ipv6)).unwrap_or(u16::MAX)
    }

    pub(crate) fn ipv4_at(&self, slot: u16) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.ipv4.network().to_bits() + u32::from(slot))
    }

    pub(crate) fn ipv6_at(&self, slot: u16) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.ipv6.network().to_bits() + u128::from(slot))
    }

    /// The slot of an address, if a VM can have it.
    pub(crate) fn slot_of(&self, address: Ipv4Addr) -> Option<u16> {
        let offset = address
            .to_bits()
            .checked_sub(self.ipv4.network().to_bits())?;
        let slot = u16::try_from(offset).ok()?;
        (FIRST_SLOT..=self.last_slot())
            .contains(&slot)
            .then_some(slot)
    }
}

/// The host's slot in each network.
const GATEWAY: u16 = 1;
/// The first slot of a VM.
pub(crate) const FIRST_SLOT: u16 = 2;

/// What a VM asks of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The VM's id.
    pub vm: String,
    /// What the VM is called in the network.
    pub name: String,
    /// The network.
    pub network: String,
    /// The IPv4 address it wants; any free one where it is absent. Its IPv6 address goes with it.
    pub ipv4: Option<Ipv4Addr>,
    /// The ports it publishes.
    pub ports: Vec<PortSpec>,
}

/// What a VM has in a network, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The VM's id.
    pub vm: String,
    /// What the VM is called in the network.
    pub name: String,
    /// The network.
    pub network: String,
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Its published ports, with the host's ports chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Published>,
}

impl Lease {
    /// Its hardware address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        Mac::of(self.ipv4)
    }
}

/// What a monitor and a guest are told of their network.
#[derive(Debug)]
pub struct Attachment {
    /// The tap, opened with `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`, for the monitor. While somebody holds it the link is there.
    pub tap: OwnedFd,
    /// What the link is called on the host.
    pub link: String,
    /// The guest's hardware address: frames from another are dropped.
    pub mac: Mac,
    /// The guest's IPv4 address, with the length of the prefix.
    pub ipv4: Ipv4Net,
    /// The guest's IPv6 address, with the length of the prefix.
    pub ipv6: Ipv6Net,
    /// Its IPv4 gateway.
    pub gateway4: Ipv4Addr,
    /// Its IPv6 gateway.
    pub gateway6: Ipv6Addr,
    /// Resolvers in the order in which to ask them: the gateway, which knows the network's VMs, then the host's own, for while
    /// the daemon is away.
    pub dns: Vec<IpAddr>,
    /// Bytes of the largest packet.
    pub mtu: u16,
}

/// A VM that the daemon has written down, for [`crate::Networks::reconcile`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What it has.
    pub lease: Lease,
    /// Whether its monitor lives.
    pub live: bool,
}
