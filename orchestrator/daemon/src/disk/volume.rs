//! Volumes: disks with names, which outlive the VMs that use them.
//!
//! A volume is one file, `volumes/<name>.ext4`; all that is known of it is the file's own. Who runs on it holds a lock on the open file
//! (`flock`), which goes with the descriptor to the monitor and ends with it: so two VMs never write to one volume, whatever
//! becomes of the daemon.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rustix::fs::FlockOperation;

use super::{DEFAULT_MIB, DiskError, Disks, MAX_MIB, MIN_MIB, directory, sweep};
use crate::name::{self, NameError};

const EXTENSION: &str = "ext4";

/// A volume, as its file shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its size.
    pub size_mib: u64,
    /// What it takes of the host's disk.
    pub used_bytes: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Something could not be done with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Not a name.
    #[error("a volume is named as a VM is")]
    Name(#[from] NameError),
    /// Not a size.
    #[error("a disk has {MIN_MIB} to {MAX_MIB} MiB, not {0}")]
    Size(u64),
    /// There is none.
    #[error("there is no volume {0:?}")]
    Unknown(String),
    /// There is one already.
    #[error("there is a volume {0:?} already")]
    Exists(String),
    /// VMs have it.
    #[error("volume {name:?} is used by {}: remove them first", vms.join(", "))]
    Used {
        /// Which.
        name: String,
        /// The VMs.
        vms: Vec<String>,
    },
    /// A VM runs on it.
    #[error("volume {0:?} is in use by another VM that runs: stop that one first")]
    Locked(String),
    /// It could not be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The operating system refused.
    #[error("cannot {action} volume {name:?}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// Which.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Checks a disk's size.
///
/// # Errors
/// [`VolumeError::Size`].
pub fn check_size(mib: u64) -> Result<u64, VolumeError> {
    match (MIN_MIB..=MAX_MIB).contains(&mib) {
        true => Ok(mib),
        false => Err(VolumeError::Size(mib)),
    }
}

/// All volumes.
#[derive(Debug)]
pub struct Volumes {
    dir: PathBuf,
    /// Held while a volume comes to be or goes, and while VMs begin to use some: see [`Volumes::still`].
    changing: Mutex<()>,
}

/// As long as this is there, no volume comes or goes.
#[derive(Debug)]
pub struct Still<'a> {
    volumes: &'a Volumes,
    _held: MutexGuard<'a, ()>,
}

impl Volumes {
    /// The volumes in a directory, which is made where it is not there.
    ///
    /// # Errors
    /// [`DiskError::System`].
    pub fn open(dir: PathBuf) -> Result<Self, DiskError> {
        directory(&dir)?;
        sweep(&dir)?;
        Ok(Self {
            dir,
            changing: Mutex::new(()),
        })
    }

    /// Lets no volume come or go by anyone else.
    pub fn still(&self) -> Still<'_> {
        Still {
            volumes: self,
            _held: self.changing.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// [`VolumeError::System`].
    pub fn list(&self) -> Result<Vec<Volume>, VolumeError> {
        let failed = |source| VolumeError::System {
            action: "list",
            name: "*".to_owned(),
            source,
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            if let Some(name) = name.filter(|name| name::check(name).is_ok())
                && path.extension().is_some_and(|e| e == EXTENSION)
            {
                match self.get(name) {
                    // Removed since.
                    Err(VolumeError::Unknown(_)) => {}
                    other => found.push(other?),
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// One of them.
    ///
    /// # Errors
    /// [`VolumeError::Unknown`], for one.
    pub fn get(&self, name: &str) -> Result<Volume, VolumeError> {
        let metadata = match fs::metadata(self.path(name)?) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(VolumeError::Unknown(name.to_owned()));
            }
            other => other.map_err(|e| failed("look at", name, e))?,
        };
        // Where the file system keeps no birth, the last write has to do.
        let made = metadata.created().or_else(|_| metadata.modified());
        Ok(Volume {
            name: name.to_owned(),
            size_mib: metadata.len() >> 20,
            used_bytes: metadata.blocks() * 512,
            created_at: made
                .ok()
                .and_then(|made| Timestamp::try_from(made).ok())
                .unwrap_or_default(),
        })
    }

    /// Opens a volume for a VM alone: the lock ends with the last copy of the descriptor.
    ///
    /// # Errors
    /// [`VolumeError::Locked`], for one.
    pub fn take(&self, name: &str) -> Result<File, VolumeError> {
        let file = match File::options()
            .read(true)
            .write(true)
            .open(self.path(name)?)
        {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(VolumeError::Unknown(name.to_owned()));
            }
            other => other.map_err(|e| failed("open", name, e))?,
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(VolumeError::Locked(name.to_owned())),
            Err(e) => Err(failed("lock", name, e.into())),
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf, VolumeError> {
        name::check(name)?;
        Ok(self.dir.join(format!("{name}.{EXTENSION}")))
    }
}

impl Still<'_> {
    /// Makes a volume.
    ///
    /// # Errors
    /// [`VolumeError::Exists`], for one.
    pub fn create(
        &self,
        disks: &Disks,
        name: &str,
        size_mib: Option<u64>,
    ) -> Result<Volume, VolumeError> {
        let path = self.volumes.path(name)?;
        let mib = check_size(size_mib.unwrap_or(DEFAULT_MIB))?;
        if path.exists() {
            return Err(VolumeError::Exists(name.to_owned()));
        }
        disks.make(mib, &path)?;
        self.volumes.get(name)
    }

    /// Makes the volume where there is none.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub fn ensure(&self, disks: &Disks, name: &str) -> Result<(), VolumeError> {
        match self.create(disks, name, None) {
            Ok(_) | Err(VolumeError::Exists(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes a volume and all that is on it; `users` are the VMs that have it.
    ///
    /// # Errors
    /// [`VolumeError::Used`], for one.
    pub fn remove(&self, name: &str, users: Vec<String>) -> Result<(), VolumeError> {
        if !users.is_empty() {
            return Err(VolumeError::Used {
                name: name.to_owned(),
                vms: users,
            });
        }
        // Where the monitor of a VM that was just removed still holds it, it is not free yet.
        let _locked = self.volumes.take(name)?;
        fs::remove_file(self.volumes.path(name)?).map_err(|e| failed("remove", name, e))
    }
}

fn failed(action: &'static str, name: &str, source: io::Error) -> VolumeError {
    VolumeError::System {
        action,
        name: name.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_one_vms_and_outlives_it() {
        let dir = tempfile::tempdir().unwrap();
        let disks = Disks::open(dir.path().join("templates")).unwrap();
        let volumes = Volumes::open(dir.path().join("volumes")).unwrap();
        let made = volumes.still().create(&disks, "data", Some(64)).unwrap();
        assert_eq!((made.name.as_str(), made.size_mib), ("data", 64));
        assert_eq!(volumes.list().unwrap(), [made]);
        volumes.still().ensure(&disks, "data").unwrap();
        let again = volumes.still().create(&disks, "data", None);
        assert!(matches!(again, Err(VolumeError::Exists(_))));
        let taken = volumes.take("data").unwrap();
        assert!(matches!(volumes.take("data"), Err(VolumeError::Locked(_))));
        let used = volumes.still().remove("data", vec!["web".to_owned()]);
        assert!(used.unwrap_err().to_string().contains("web"));
        let locked = volumes.still().remove("data", vec![]);
        assert!(matches!(locked, Err(VolumeError::Locked(_))));
        drop(taken);
        volumes.still().remove("data", vec![]).unwrap();
        assert!(matches!(volumes.get("data"), Err(VolumeError::Unknown(_))));
    }

    #[test]
    fn a_name_or_a_size_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let disks = Disks::open(dir.path().join("templates")).unwrap();
        let volumes = Volumes::open(dir.path().join("volumes")).unwrap();
        for name in ["", "../x", "A", "a/b"] {
            let refused = volumes.still().create(&disks, name, None);
            assert!(matches!(refused, Err(VolumeError::Name(_))), "{name}");
            assert!(volumes.take(name).is_err());
        }
        for size in [0, MIN_MIB - 1, MAX_MIB + 1, u64::MAX] {
            let refused = volumes.still().create(&disks, "data", Some(size));
            assert!(refused.unwrap_err().to_string().contains(&size.to_string()));
        }
        assert!(volumes.list().unwrap().is_empty());
    }
}
