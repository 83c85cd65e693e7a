//! A content-addressed store of what microVMs boot.
//!
//! ```text
//! blobs/<digest>      an image's bytes: immutable, mode 0444, named by their BLAKE3
//! names/<name>:<tag>  the digest that the name stands for
//! factory/<file>      the digest that an installation's file had when it was last imported
//! tmp/                what is being written; its writer holds a lock on it, so what nobody locks is left over
//! lock                held while names and blobs change together
//! ```
//!
//! Whatever becomes visible is written in `tmp/`, synced, renamed into place and the folder synced: a crash at any
//! line leaves the old state or the new one, and at most a file in `tmp/` that the next [`Store::open`] or
//! [`Store::gc`] removes. Several processes may use one store at once.
//!
//! There is one kind of image: a library OS's ELF file ([`elf`]).

mod add;
mod digest;
pub mod elf;
mod factory;
mod files;
mod name;
mod store;
#[cfg(test)]
mod tests;

pub use add::{AddError, MAX_SIZE};
pub use digest::{Digest, DigestError};
pub use factory::{ImportError, Imported};
pub use files::FileError;
pub use name::{ImageName, NameError};
pub use store::{FindError, Freed, Image, InspectError, Inspection, Removed, Store};
