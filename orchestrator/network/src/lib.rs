//! Tenant networks of one host: bridges, taps, addresses, published ports and names.
//!
//! - [`net`], [`port`], [`mac`]: the values that cross the border.
//! - [`name`]: what things are called in the kernel, and whose they are.

pub mod mac;
pub mod name;
pub mod net;
pub mod port;

pub use mac::Mac;
pub use name::Instance;
pub use net::{Attachment, Known, Lease, LeaseRequest, Network, NetworkSpec};
pub use port::{PortError, PortSpec, Protocol, Published};
