//! What a guest is told of its network.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::message::{Invalid, at_most, name, text};

/// Everything about the network. Interfaces that are not named stay down; loopback is always up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// The interfaces, found by their MAC addresses.
    pub interfaces: Vec<Interface>,
    /// What goes into `/etc/resolv.conf`; the image's own file stays where there are no servers.
    pub dns: Dns,
    /// Lines of `/etc/hosts` behind those for loopback and the host's own name.
    pub hosts: Vec<Host>,
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Which it is.
    pub mac: Mac,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<Prefix>,
    /// Where IPv4 goes that is for no network of its own.
    #[serde(default)]
    pub gateway_v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    #[serde(default)]
    pub gateway_v6: Option<Ipv6Addr>,
    /// Bytes of the largest packet; the driver's choice where there is none.
    #[serde(default)]
    pub mtu: Option<u16>,
}

/// Who answers questions about names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Name servers, in order.
    pub servers: Vec<IpAddr>,
    /// Domains to look for short names in.
    pub search: Vec<String>,
}

/// Names of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The address.
    pub address: IpAddr,
    /// Its names; the first is the canonical one.
    pub names: Vec<String>,
}

impl Network {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        at_most("network interfaces", self.interfaces.len(), 16)?;
        for interface in &self.interfaces {
            at_most("addresses of an interface", interface.addresses.len(), 16)?;
            // IPv4's smallest of all; beneath 1280 the kernel itself takes IPv6 away.
            if interface.mtu.is_some_and(|mtu| mtu < 68) {
                return Err(Invalid::new("an MTU below 68"));
            }
        }
        at_most("name servers", self.dns.servers.len(), 8)?;
        at_most("search domains", self.dns.search.len(), 16)?;
        for domain in &self.dns.search {
            word("search domain", domain)?;
        }
        at_most("lines for /etc/hosts", self.hosts.len(), 256)?;
        for host in &self.hosts {
            at_most("names of an address", host.names.len(), 16)?;
            for name in &host.names {
                word("name of an address", name)?;
            }
        }
        Ok(())
    }
}

/// A word that stays one in the files it is written to.
fn word(what: &'static str, value: &str) -> Result<(), Invalid> {
    name(what, value, 253)?;
    if value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(Invalid::new(what));
    }
    text(what, value, 253)
}

/// A MAC address, `02:00:00:00:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

/// An address and how many of its bits name its network, `10.0.0.2/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// The interface's address.
    pub address: IpAddr,
    /// At most 32 for IPv4, 128 for IPv6.
    pub bits: u8,
}

/// Text that is no address of the kind wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseAddressError {
    /// No MAC address.
    #[error("no MAC address of six bytes, as in 02:00:00:00:00:01")]
    Mac,
    /// No address with a prefix.
    #[error("no address with a prefix, as in 10.0.0.2/24")]
    Prefix,
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(ParseAddressError::Mac)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseAddressError::Mac);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| ParseAddressError::Mac)?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(ParseAddressError::Mac),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl FromStr for Prefix {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let (address, bits) = text.split_once('/').ok_or(ParseAddressError::Prefix)?;
        let address: IpAddr = address.parse().map_err(|_| ParseAddressError::Prefix)?;
        if !bits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseAddressError::Prefix);
        }
        let bits: u8 = bits.parse().map_err(|_| ParseAddressError::Prefix)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if bits > most {
            return Err(ParseAddressError::Prefix);
        }
        Ok(Self { address, bits })
    }
}

/// On the wire as people write them.
macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(Mac);
as_text!(Prefix);
