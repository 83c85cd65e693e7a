//! Why a tar stream cannot be read.

use std::io;

/// A tar stream cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// What it comes from failed.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It ends in the middle of an entry.
    #[error("the archive is cut short")]
    Cut,
    /// A header is none.
    #[error("the archive has no valid header at byte {0}")]
    Checksum(u64),
    /// A header's field is no number.
    #[error("a number in the archive is none")]
    Number(#[source] io::Error),
    /// More bytes than there can be.
    #[error("the archive says that an entry has {0} bytes")]
    Size(u64),
    /// A user or group that Linux does not have.
    #[error("the archive has an owner {0}, which is over 4294967295")]
    Id(u64),
    /// Too much before an entry.
    #[error("the archive has {0} bytes of records before one entry")]
    Extension(u64),
    /// The same kind of record twice before one entry.
    #[error("the archive says something twice of one entry")]
    Repeated,
    /// A record is none.
    #[error("the archive has a bad pax record")]
    Pax,
    /// A path, or a link's target, that no system takes.
    #[error("the archive has a path of more than 4096 bytes")]
    LongPath,
    /// What the entry is, nobody knows.
    #[error("the archive has an entry of unknown type {0:#04x}")]
    Type(u8),
    /// A sparse file whose holes make no sense.
    #[error("the archive has a sparse file with a bad map")]
    Sparse,
    /// Attributes without end.
    #[error("the archive has more than 128 attributes or 64 KiB of them in one entry")]
    Xattrs,
}
