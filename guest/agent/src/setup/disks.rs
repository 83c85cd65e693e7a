//! Disks, by their serials.

use std::fs;
use std::path::PathBuf;

use abi::agent::reply::{Code, Failure};

use super::failed_io;

/// The guest's disks.
#[derive(Debug, Default)]
pub(super) struct Disks {
    /// Serial and device.
    found: Vec<(String, PathBuf)>,
}

/// Looks which disks there are.
pub(super) fn find() -> Result<Disks, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").map_err(failed_io("/sys/block cannot be read"))? {
        let entry = entry.map_err(failed_io("/sys/block cannot be read"))?;
        // Only virtio disks have this file.
        if let Ok(serial) = fs::read_to_string(entry.path().join("serial")) {
            let device = PathBuf::from("/dev").join(entry.file_name());
            found.push((serial.trim_end().to_owned(), device));
        }
    }
    Ok(Disks { found })
}

impl Disks {
    /// The device with that serial.
    pub(super) fn device(&self, serial: &str) -> Result<&PathBuf, Failure> {
        let found = self.found.iter().find(|disk| disk.0 == serial);
        found.map(|disk| &disk.1).ok_or_else(|| {
            let there: Vec<&str> = self.found.iter().map(|disk| &*disk.0).collect();
            let why = format!("there is no disk {serial:?}, only: {}", there.join(", "));
            Failure::new(Code::NotFound, why)
        })
    }
}
