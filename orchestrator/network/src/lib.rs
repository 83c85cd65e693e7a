//! Tenant networks of one host: bridges, taps, addresses, published ports and names.
//!
//! ```text
//!  the daemon's records
//!          |
//!     [networks] ---- [book]: what is wanted    (pure: slots, subnets, names of things)
//!          |
//!     [plumbing] ---- link (rtnetlink), tap, sysctl, forwarding, conntrack
//!          |--------- rules over nft: the packet filter
//!          |--------- reserve: published ports, kept from others
//!          \--------- names: a resolver at each gateway
//! ```
//! Everything in the kernel is found again by its name ([`name`]), so that a daemon which was killed at any line puts it right when
//! it is back, and none touches what another made. `docs/network.md` says what tenants and operators see of it.
//!
//! - [`net`], [`port`], [`mac`]: the values that cross the border.
//! - [`networks`]: what can be asked for.
//! - [`probe`]: what a host lacks for it.

pub mod book;
mod conntrack;
pub mod error;
mod forwarding;
mod holder;
mod link;
pub mod mac;
pub mod name;
mod names;
pub mod net;
pub mod networks;
mod nft;
pub mod plumbing;
pub mod port;
pub mod probe;
pub mod reserve;
mod resolv;
mod rules;
mod slots;
pub mod subnet;
mod sysctl;
pub mod tap;
#[cfg(test)]
mod tests;

pub use error::SystemError;
pub use mac::Mac;
pub use name::Instance;
pub use net::{Attachment, Known, Lease, LeaseRequest, Network, NetworkSpec};
pub use networks::{Config, Networks, Reconciled, Stats};
pub use port::{PortError, PortSpec, Protocol, Published};
pub use probe::{Missing, probe};
