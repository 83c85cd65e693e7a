//! A content-addressed store of what microVMs boot, and the ways in for images that others made.
//!
//! ```text
//! blobs/<digest>      an image: immutable, mode 0444, named by its BLAKE3
//! roots/<digest>      a root file system that manifests among the images name; immutable too
//! names/<name>:<tag>  the digest that the name stands for; `%` is for `/`
//! factory/<file>      the digest that an installation's file had when it was last imported
//! tmp/                what is being written; its writer holds a lock on it, so what nobody locks is left over
//! lock                held while names and blobs change together
//! ```
//!
//! Whatever becomes visible is written in `tmp/`, synced, renamed into place and the folder synced: a crash at any
//! line leaves the old state or the new one, and at most a file in `tmp/` or a root without a manifest, which the next
//! [`Store::open`] or [`Store::gc`] removes. Several processes may use one store at once.
//!
//! There are two kinds of images, told apart by their first bytes: a library OS's ELF file ([`elf`]), and a Linux
//! image's [`Manifest`], JSON that names a root, an uncompressed erofs, and says how it wants to be run.

mod add;
mod collect;
mod config;
mod digest;
pub mod elf;
pub mod erofs;
mod factory;
mod files;
mod image;
mod manifest;
mod name;
pub mod oci;
mod progress;
pub mod recipe;
mod root;
pub mod rootfs;
mod store;
mod tar;
#[cfg(test)]
mod tests;

pub use add::{AddError, MAX_SIZE};
pub use collect::{Freed, Removed};
pub use config::{Config, ConfigError, Port, Protocol};
pub use digest::{Digest, DigestError};
pub use factory::{ImportError, Imported};
pub use files::FileError;
pub use image::{Detail, FindError, Image, InspectError, Inspection, Kind, Opened};
pub use manifest::{Manifest, ManifestError, Source};
pub use name::{ImageName, NameError};
pub use progress::{Cancel, Phase, Progress, Step};
pub use root::{MAX_ROOT, Root, RootWriter};
pub use store::Store;
