//! What a Linux guest boots: the kernel and the agent that an installation comes with, its image's root, its disks.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::disk::volume::{VolumeError, Volumes};
use crate::disk::{DiskError, Disks};
use crate::folder::VmFolder;
use crate::record::LinuxRecord;

/// Where an installation has its kernel and its agent.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The kernel, an ELF file.
    pub kernel: PathBuf,
    /// The first file system, which is the agent.
    pub initrd: PathBuf,
}

/// All that a Linux guest boots, opened.
#[derive(Debug)]
pub struct Boot {
    /// The kernel.
    pub kernel: File,
    /// The first file system.
    pub initrd: File,
    /// The image's root, for reading.
    pub root: File,
    /// Its own disk.
    pub disk: File,
    /// Its volumes, each locked.
    pub volumes: Vec<File>,
}

/// Something that a Linux guest boots is not there.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The installation has no kernel, or no agent.
    #[error("cannot open {what} {}: `cargo ci {made_by}` makes it, and vmd --{flag} names another", path.display())]
    Program {
        /// What is missing.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What makes it.
        made_by: &'static str,
        /// What says where it is.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Its disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its disk was there and cannot be opened.
    #[error("cannot open the VM's disk {}", path.display())]
    OwnDisk {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

impl Programs {
    /// Opens both.
    ///
    /// # Errors
    /// [`BootError::Program`].
    pub fn open(&self) -> Result<(File, File), BootError> {
        let missing = |what, path: &PathBuf, made_by, flag| {
            let path = path.clone();
            move |source| BootError::Program {
                what,
                path,
                made_by,
                flag,
                source,
            }
        };
        let kernel = File::open(&self.kernel).map_err(missing(
            "the Linux kernel",
            &self.kernel,
            "kernel",
            "kernel",
        ))?;
        let initrd = File::open(&self.initrd).map_err(missing(
            "the guest's agent",
            &self.initrd,
            "build",
            "initrd",
        ))?;
        Ok((kernel, initrd))
    }
}

/// Opens all of it; a disk that the VM does not have yet is made. Blocks.
///
/// # Errors
/// [`BootError`].
pub fn open(
    programs: &Programs,
    disks: &Disks,
    volumes: &Volumes,
    record: &LinuxRecord,
    folder: &VmFolder,
    root: File,
) -> Result<Boot, BootError> {
    let (kernel, initrd) = programs.open()?;
    let path = folder.disk();
    if !path.exists() {
        disks.make(record.disk_mib, &path)?;
    }
    let disk = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|source| BootError::OwnDisk { path, source })?;
    let taken = record
        .volumes
        .iter()
        .map(|mount| volumes.take(&mount.volume));
    Ok(Boot {
        kernel,
        initrd,
        root,
        disk,
        volumes: taken.collect::<Result<_, _>>()?,
    })
}
