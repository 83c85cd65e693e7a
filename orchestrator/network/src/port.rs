//! Published ports, as a person writes them: `8080:80`, `127.0.0.1:8080:80/tcp`, `[fd00::1]::53/udp`, `80`.
//!
//! ```text
//! [ADDRESS:][HOST:]GUEST[/PROTOCOL]
//! ```
//! An empty or absent host port, or 0, means: any that is free.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
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

impl PortSpec {
    /// The port, once the host's is chosen.
    #[must_use]
    pub(crate) fn published(&self, host: NonZeroU16) -> Published {
        Published {
            address: self.address,
            host,
            guest: self.guest,
            protocol: self.protocol,
        }
    }
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
    if address == IpAddr::V6(Ipv6Addr::LOCALHOST) {
        return Err("nothing reaches a guest from ::1, but 127.0.0.1 would do");
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(text: &str) -> String {
        text.parse::<PortSpec>().unwrap().to_string()
    }

    #[test]
    fn what_people_write_is_understood() {
        assert_eq!(said("8080:80"), "8080:80/tcp");
        assert_eq!(said("80"), "0:80/tcp");
        assert_eq!(said(":80/udp"), "0:80/udp");
        assert_eq!(said("0:80"), "0:80/tcp");
        assert_eq!(said("127.0.0.1:8080:80/tcp"), "127.0.0.1:8080:80/tcp");
        assert_eq!(said("127.0.0.1::80"), "127.0.0.1:0:80/tcp");
        assert_eq!(said("[fd00::1]:53:53/udp"), "[fd00::1]:53:53/udp");
        assert_eq!(said("0.0.0.0:8080:80"), "8080:80/tcp");
        assert_eq!(said("[::]:8080:80"), "8080:80/tcp");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_text() {
        for bad in [
            "",
            ":",
            "::",
            "a",
            "0",
            "80:",
            "80:0",
            "-1:80",
            "+80",
            "65536:80",
            "80:65536",
            "80/sctp",
            "80/",
            "/tcp",
            "1:2:3:4",
            "fd00::1:80:80",
            "[::1]:80:80",
            "[fd00::1:80",
            "127.0.0.1:80:80:80",
            "127.0.0.1",
            "[127.0.0.1]:80:80",
            "224.0.0.1:80:80",
            "host:80:80",
            " 80:80",
            "80 :80",
            "８0:80",
            "80:80/TCP",
            "999999999999999999999:80",
        ] {
            let error = bad
                .parse::<PortSpec>()
                .map(|spec| spec.to_string())
                .unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("{bad:?} is not a published port")),
                "{error}"
            );
        }
        let long = "1"
            .repeat(1 << 20)
            .parse::<PortSpec>()
            .unwrap_err()
            .to_string();
        assert!(
            long.len() < 300,
            "a stranger's text is not repeated without end"
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(
            address in prop::option::of(any::<IpAddr>()), host in any::<u16>(), guest in 1_u16.., udp in any::<bool>()
        ) {
            let refused = |a: &IpAddr| a.is_unspecified() || a.is_multicast() || *a == IpAddr::V6(Ipv6Addr::LOCALHOST);
            let spec = PortSpec {
                address: address.filter(|address| !refused(address)),
                host: NonZeroU16::new(host),
                guest: NonZeroU16::new(guest).unwrap(),
                protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
            };
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }

        #[test]
        fn no_text_is_too_odd(text in "[0-9a-f:\\[\\]./tcpudp ]{0,100}") {
            if let Ok(spec) = text.parse::<PortSpec>() {
                prop_assert_eq!(spec.to_string().parse(), Ok(spec));
            }
        }

        #[test]
        fn ports_collide_both_ways_or_not_at_all(a in 1_u16..3, b in 1_u16..3, at in any::<[Option<bool>; 2]>()) {
            let port = |host, at: Option<bool>| Published {
                address: at.map(|one| if one { [127, 0, 0, 1].into() } else { [127, 0, 0, 2].into() }),
                host: NonZeroU16::new(host).unwrap(),
                guest: NonZeroU16::MIN,
                protocol: Protocol::Tcp,
            };
            let (one, other) = (port(a, at[0]), port(b, at[1]));
            prop_assert_eq!(one.collides(&other), other.collides(&one));
            prop_assert!(one.collides(&one));
        }
    }
}
