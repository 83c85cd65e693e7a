//! Which subnets a network gets, and which may be asked for: pure functions of what the host's routes and the other networks have.

use ipnet::{Ipv4Net, Ipv6Net};

use crate::net::NetworkSpec;

/// Length of the prefix of a chosen IPv4 subnet.
const CHOSEN4: u8 = 24;
/// Shorter prefixes of routes are ways out, not places: some tunnels write the default route as two halves.
const WAY_OUT4: u8 = 8;
/// The same of IPv6.
const WAY_OUT6: u8 = 16;

/// Bytes of the smallest packet that IPv6 works with.
pub(crate) const MTU_MIN: u16 = 1280;
/// Bytes of the largest packet that a tap takes.
pub(crate) const MTU_MAX: u16 = 65521;

/// What was asked of a network cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not a subnet of the right size.
    #[error("{0} is no IPv4 subnet for a network: a private one from /8 to /29, without host bits")]
    Ipv4(Ipv4Net),
    /// Not a subnet of the right size.
    #[error(
        "{0} is no IPv6 subnet for a network: a unicast one from /32 to /125, without host bits"
    )]
    Ipv6(Ipv6Net),
    /// Too small or too large a packet.
    #[error("an MTU of {0} bytes is not within {MTU_MIN} to {MTU_MAX}")]
    Mtu(u16),
}

/// Checks what is asked for.
///
/// # Errors
/// [`SpecError`].
pub(crate) fn check(spec: &NetworkSpec) -> Result<(), SpecError> {
    if let Some(net) = spec.ipv4 {
        let address = net.addr();
        let odd = address.is_loopback() || address.is_multicast() || address.is_link_local();
        if net != net.trunc()
            || !(8..=29).contains(&net.prefix_len())
            || odd
            || address.octets()[0] == 0
        {
            return Err(SpecError::Ipv4(net));
        }
    }
    if let Some(net) = spec.ipv6 {
        let address = net.addr();
        let odd =
            address.is_multicast() || address.is_unicast_link_local() || address.segments()[0] == 0;
        if net != net.trunc() || !(32..=125).contains(&net.prefix_len()) || odd {
            return Err(SpecError::Ipv6(net));
        }
    }
    match spec.mtu {
        Some(mtu) if !(MTU_MIN..=MTU_MAX).contains(&mtu) => Err(SpecError::Mtu(mtu)),
        _ => Ok(()),
    }
}

/// Who has a subnet that overlaps `wanted`.
pub(crate) fn taken4(wanted: Ipv4Net, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let place = |net: &&Ipv4Net| net.prefix_len() >= WAY_OUT4;
    let overlaps = |net: &&Ipv4Net| net.contains(&wanted) || wanted.contains(*net);
    taken.iter().filter(place).find(overlaps).copied()
}

/// Who has a subnet that overlaps `wanted`.
pub(crate) fn taken6(wanted: Ipv6Net, taken: &[Ipv6Net]) -> Option<Ipv6Net> {
    let place = |net: &&Ipv6Net| net.prefix_len() >= WAY_OUT6;
    let overlaps = |net: &&Ipv6Net| net.contains(&wanted) || wanted.contains(*net);
    taken.iter().filter(place).find(overlaps).copied()
}

/// A /24 of `pool` that nobody has. The search begins at a place that `from` says, so that two daemons which do not see one another's
/// plans seldom make the same one.
pub(crate) fn choose4(pool: Ipv4Net, from: u32, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let bits = CHOSEN4.checked_sub(pool.prefix_len())?;
    let count = 1_u32 << bits;
    (0..count)
        .map(|i| from.wrapping_add(i) % count)
        .filter_map(|i| {
            let base = pool.network().to_bits() | i << (32 - CHOSEN4);
            Ipv4Net::new(base.into(), CHOSEN4).ok()
        })
        .find(|net| taken4(*net, taken).is_none())
}

/// The unique local /64 number `index` of the holder of `global_id` (RFC 4193), or the next that nobody has.
pub(crate) fn choose6(global_id: [u8; 5], index: u16, taken: &[Ipv6Net]) -> Option<Ipv6Net> {
    let id = global_id
        .iter()
        .fold(0xfd_u128, |id, &byte| id << 8 | u128::from(byte));
    (0..=u16::MAX)
        .filter_map(|i| {
            let base = id << 80 | u128::from(index.wrapping_add(i)) << 64;
            Ipv6Net::new(base.into(), 64).ok()
        })
        .find(|net| taken6(*net, taken).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets() -> impl Strategy<Value = Vec<Ipv4Net>> {
        let net = (any::<[u8; 2]>(), 12_u8..=32).prop_map(|([a, b], len)| {
            Ipv4Net::new([10, 128 | (a & 63), b, a].into(), len)
                .unwrap()
                .trunc()
        });
        prop::collection::vec(net, 0..40)
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_free_and_of_the_pool(taken in nets(), from in any::<u32>()) {
            let pool: Ipv4Net = "10.128.0.0/12".parse().unwrap();
            match choose4(pool, from, &taken) {
                Some(net) => {
                    prop_assert!(pool.contains(&net) && net.prefix_len() == 24);
                    prop_assert!(taken.iter().all(|t| !t.contains(&net) && !net.contains(t)));
                }
                None => {
                    let full = (0_u32..4096).all(|i| {
                        let net = Ipv4Net::new((pool.network().to_bits() | i << 8).into(), 24).unwrap();
                        taken4(net, &taken).is_some()
                    });
                    prop_assert!(full);
                }
            }
        }

        #[test]
        fn each_index_has_a_prefix_of_its_own(a in any::<u16>(), b in any::<u16>(), id in any::<[u8; 5]>()) {
            let first = choose6(id, a, &[]).unwrap();
            let second = choose6(id, b, &[first]).unwrap();
            prop_assert_ne!(first, second);
            prop_assert_eq!(first.addr().octets()[0], 0xfd);
        }
    }

    #[test]
    fn a_default_route_takes_nothing() {
        let wide: Ipv4Net = "0.0.0.0/1".parse().unwrap();
        let vpn: Ipv4Net = "10.0.0.0/8".parse().unwrap();
        let pool = "10.128.0.0/10".parse().unwrap();
        assert!(choose4(pool, 0, &[wide]).is_some());
        assert_eq!(choose4(pool, 0, &[vpn]), None);
    }

    #[test]
    fn odd_subnets_are_refused_with_the_subnet() {
        for bad in [
            "127.0.0.0/24",
            "10.0.0.1/24",
            "10.0.0.0/30",
            "224.0.0.0/8",
            "0.0.0.0/8",
            "169.254.0.0/16",
            "8.0.0.0/7",
        ] {
            let spec = NetworkSpec {
                ipv4: Some(bad.parse().unwrap()),
                ..NetworkSpec::default()
            };
            assert!(check(&spec).unwrap_err().to_string().contains(bad), "{bad}");
        }
        for bad in [
            "fe80::/64",
            "ff00::/64",
            "::/64",
            "fd00::1/64",
            "fd00::/126",
            "fd00::/16",
        ] {
            let spec = NetworkSpec {
                ipv6: Some(bad.parse().unwrap()),
                ..NetworkSpec::default()
            };
            assert!(check(&spec).is_err(), "{bad}");
        }
        let spec = NetworkSpec {
            mtu: Some(1279),
            ..NetworkSpec::default()
        };
        assert_eq!(check(&spec), Err(SpecError::Mtu(1279)));
    }
}
