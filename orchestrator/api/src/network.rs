//! Networks of VMs.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A network: a bridge on the host that joins VMs with one another, and with the world by way of the host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its IPv4 addresses, as `10.88.0.0/24`.
    pub ipv4: String,
    /// Its IPv6 addresses, as `fd00:1::/64`.
    pub ipv6: String,
    /// Bytes of its largest packet.
    pub mtu: u16,
    /// The host's name for its bridge, where there is one now: while a VM runs in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// The VMs in it, by name, those included that have ended.
    pub vms: Vec<String>,
}

/// `POST /v1/networks`: make a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateNetwork {
    /// Its name, as a VM's; not `none`.
    #[schema(pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    pub name: String,
    /// Its IPv4 addresses, as `10.88.0.0/24`; some that no other network has where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,
    /// Its IPv6 addresses, as `fd00:1::/64`; some that no other network has where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// Bytes of its largest packet; that of the host's way out, at most 1500, where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1280, maximum = 65521)]
    pub mtu: Option<u16>,
}

/// A VM's addresses in a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Address {
    /// The network.
    pub network: String,
    /// Its IPv4 address.
    #[schema(value_type = String)]
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    #[schema(value_type = String)]
    pub ipv6: Ipv6Addr,
    /// Its device's address, as `02:00:00:00:00:01`.
    pub mac: String,
}
