//! Hardware addresses.

use std::fmt;
use std::net::Ipv4Addr;

/// A hardware address of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address of the interface that has `address`: one of the locally administered ones, unique where `address` is, and the same
    /// whenever `address` is, so that no neighbour remembers a wrong pair.
    #[must_use]
    pub fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x5a, a, b, c, d])
    }

    /// Its bytes, in the order of the wire.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
