//! Where records are kept.
//!
//! [`Store`] is the one narrow place: load everything once, then commit changes, several at a time, each commit whole and
//! durable or not there at all. [`redb`] does it for one host. [`journal`] turns many callers into few commits.

pub mod journal;
pub mod redb;

use network::Network;

use crate::record::Record;

/// A change of one record, or of one network.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is this from now on.
    Put(Box<Record>),
    /// It is there no more; one that is not there is no error.
    Delete(String),
    /// A network is this from now on.
    PutNetwork(Box<Network>),
    /// A network is there no more; one that is not there is no error.
    DeleteNetwork(String),
}

/// Keeps records.
///
/// The journal's thread calls this and nobody else does, one call at a time. [`Store::load`] comes first.
pub trait Store: Send + 'static {
    /// Every record.
    ///
    /// # Errors
    /// [`StoreError`] where one cannot be read: nothing is then done about any.
    fn load(&mut self) -> Result<Vec<Record>, StoreError>;

    /// Every network.
    ///
    /// # Errors
    /// As [`Store::load`].
    fn networks(&mut self) -> Result<Vec<Network>, StoreError>;

    /// Makes the changes, in their order: all durable when this returns, or none made.
    ///
    /// # Errors
    /// [`StoreError`]; the store can then be used again, for example once there is room.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}

/// Records could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No room for the change.
    #[error("no space left to write {file}: free some on its file system and try again")]
    NoSpace {
        /// The file.
        file: String,
    },
    /// The file's content makes no sense.
    #[error(
        "{file} is damaged: {reason}. None of it was thrown away: put back a copy of it, or move it away to begin with no VMs"
    )]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The file is from a newer version.
    #[error("{file} has format {found}, this vmd reads format {known}: use the newer vmd")]
    Format {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Anything else.
    #[error("cannot {action} {file}: {reason}")]
    Io {
        /// What was to be done.
        action: &'static str,
        /// The file.
        file: String,
        /// What the system said.
        reason: String,
    },
}
