//! Published ports, as a person writes them: `8080:80`, `127.0.0.1:8080:80/tcp`, `[::1]::53/udp`, `80`.
//!
//! ```text
//! [ADDRESS:][HOST:]GUEST[/PROTOCOL]
//! ```
//! An empty or absent host port, or 0, means: any that is free.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most bytes of a port's text: longer ones are refused unread.
const MAX_TEXT: usize = 96;

/// What is carried to the guest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// Its number in an IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port that is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSpec {
    /// Only at this address of the host; at each of them, of both families, where it is absent.
    pub address: Option<IpAddr>,
    /// Port of the host; any free one where it is absent.
    pub host: Option<NonZeroU16>,
    /// Port of the guest.
    pub guest: NonZeroU16,
    /// What is carried.
    pub protocol: Protocol,
}

/// A port that is published: the host's port is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Only at this address of the host; at each of them, of both families, where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Port of the host.
    pub host: NonZeroU16,
    /// Port of the guest.
    pub guest: NonZeroU16,
    /// What is carried.
    pub protocol: Protocol,
}

impl Published {
    /// Whether no two VMs can have both: same port, same protocol, and an address in common.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        let shared = match (self.address, other.address) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        shared && self.host == other.host && self.protocol == other.protocol
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(a)) => write!(f, "[{a}]")?,
            Some(IpAddr::V4(a)) => write!(f, "{a}")?,
            None => f.write_str("*")?,
        }
        write!(f, ":{} -> {}/{}", self.host, self.guest, self.protocol)
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(a)) => write!(f, "[{a}]:")?,
            Some(IpAddr::V4(a)) => write!(f, "{a}:")?,
            None => {}
        }
        match self.host {
            Some(port) => write!(f, "{port}:")?,
            None => f.write_str("0:")?,
        }
        write!(f, "{}/{}", self.guest, self.protocol)
    }
}

/// Not a published port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a published port: {why}; write [ADDRESS:][HOST:]GUEST[/tcp|/udp], like 8080:80"
)]
pub struct PortError {
    text: String,
    why: &'static str,
}

impl FromStr for PortSpec {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        parse(text).map_err(|why| PortError {
            text: text.chars().take(MAX_TEXT).collect(),
            why,
        })
    }
}

fn parse(text: &str) -> Result<PortSpec, &'static str> {
    if text.len() > MAX_TEXT {
        return Err("it is too long");
    }
    let (rest, protocol) = match text.rsplit_once('/') {
        None => (text, Protocol::Tcp),
        Some((rest, "tcp")) => (rest, Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some(_) => return Err("the protocol is neither tcp nor udp"),
    };
    let (rest, guest) = match rest.rsplit_once(':') {
        None => ("", rest),
        Some((rest, guest)) => (rest, guest),
    };
    let guest = number(guest, "the guest's port is no number from 1 to 65535")?;
    let guest = NonZeroU16::new(guest).ok_or("the guest's port is 0")?;
    // A colon in brackets belongs to an address.
    let (address, host) = match rest.rsplit_once(':') {
        Some((address, host)) if !host.ends_with(']') => (Some(address), host),
        _ if rest.ends_with(']') => (Some(rest), ""),
        _ => (None, rest),
    };
    let host = if host.is_empty() {
        None
    } else {
        NonZeroU16::new(number(
            host,
            "the host's port is no number from 0 to 65535",
        )?)
    };
    let address = address.map(parse_address).transpose()?;
    // "Any address" is said by saying none.
    let address = address.filter(|address| !address.is_unspecified());
    Ok(PortSpec {
        address,
        host,
        guest,
        protocol,
    })
}

fn parse_address(text: &str) -> Result<IpAddr, &'static str> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse().map(IpAddr::V6).ok(),
        None => text.parse().map(IpAddr::V4).ok(),
    };
    let address =
        address.ok_or("the address is neither an IPv4 one nor an IPv6 one in brackets")?;
    if address.is_multicast() {
        return Err("the address is a multicast one");
    }
    Ok(address)
}

/// Digits only: `u16::from_str` takes a sign.
fn number(text: &str, why: &'static str) -> Result<u16, &'static str> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().map_err(|_| why)
    } else {
        Err(why)
    }
}
