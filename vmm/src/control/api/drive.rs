//! `/drives`: disks by the names of their files.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::draft::ConfigureError;
use super::limit;
use crate::control::files;
use crate::rate::LimitChange;
use crate::spec::{self, DeviceId, IoEngine, wire};

/// `PUT /drives/{id}`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Drive {
    drive_id: String,
    path_on_host: PathBuf,
    is_root_device: bool,
    #[serde(default)]
    is_read_only: bool,
    /// The root's partition, where it is not the whole disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    partuuid: Option<String>,
    /// This device has a cache that a driver can flush, whichever is asked for.
    #[serde(default)]
    cache_type: CacheType,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limiter: Option<wire::RateLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    io_engine: Option<IoEngine>,
    /// Firecracker's vhost-user back end.
    #[serde(skip_serializing)]
    socket: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
enum CacheType {
    #[default]
    Unsafe,
    Writeback,
}

/// `PATCH /drives/{id}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DriveUpdate {
    drive_id: String,
    path_on_host: Option<PathBuf>,
    rate_limiter: Option<wire::RateLimit>,
}

impl DriveUpdate {
    /// The change, for the drive that the path names.
    pub(super) fn check(self, id: &str) -> Result<LimitChange, ConfigureError> {
        same_id(id, &self.drive_id)?;
        if self.path_on_host.is_some() {
            return Err(ConfigureError::NotSupported(
                "path_on_host of a running VM's drive".to_owned(),
            ));
        }
        Ok(limit::change(self.rate_limiter.unwrap_or_default())?)
    }
}

/// The drives of a configuration, the root first.
#[derive(Debug, Default)]
pub(super) struct Drives(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    body: Drive,
    id: DeviceId,
    file: OwnedFd,
    rate: spec::RateLimit,
}

impl Drives {
    /// Adds a drive, or replaces the one of its name. `id` is the path's, where the body came by one.
    pub(super) fn put(&mut self, id: Option<&str>, body: Drive) -> Result<(), ConfigureError> {
        same_id(id.unwrap_or(&body.drive_id), &body.drive_id)?;
        if body.socket.is_some() {
            return Err(ConfigureError::NotSupported("socket".to_owned()));
        }
        let of_others = |entry: &&Entry| entry.body.drive_id != body.drive_id;
        let mut others = self.0.iter().filter(of_others);
        if body.is_root_device && others.any(|entry| entry.body.is_root_device) {
            return Err(ConfigureError::RootTwice);
        }
        if let Some(uuid) = &body.partuuid
            && !uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
        {
            return Err(ConfigureError::PartUuid(uuid.chars().take(64).collect()));
        }
        let entry = Entry {
            id: body.drive_id.parse()?,
            file: files::disk(&body.path_on_host, body.is_read_only)?,
            rate: limit::limit(body.rate_limiter)?,
            body,
        };
        let place = self.0.iter().position(|other| other.id == entry.id);
        let root = entry.body.is_root_device;
        match place {
            Some(place) => self.0[place] = entry,
            None => self.0.push(entry),
        }
        if root {
            // By its place the guest's command line names it.
            self.0.sort_by_key(|entry| !entry.body.is_root_device);
        }
        Ok(())
    }

    /// For the machine, by copies of the descriptors.
    pub(super) fn disks(&self) -> io::Result<Vec<spec::Disk>> {
        let disk = |entry: &Entry| {
            Ok(spec::Disk {
                id: entry.id.clone(),
                file: entry.file.try_clone()?,
                read_only: entry.body.is_read_only,
                rate: entry.rate,
                io_engine: entry.body.io_engine,
            })
        };
        self.0.iter().map(disk).collect()
    }

    /// What the guest's command line says of its root, with a space before it; nothing where no drive is.
    pub(super) fn root_words(&self) -> String {
        let Some(root) = self.0.first().filter(|entry| entry.body.is_root_device) else {
            return String::new();
        };
        let device = match &root.body.partuuid {
            Some(uuid) => format!("PARTUUID={uuid}"),
            None => "/dev/vda".to_owned(),
        };
        let mode = if root.body.is_read_only { "ro" } else { "rw" };
        format!(" root={device} {mode}")
    }

    /// As they were put.
    pub(super) fn bodies(&self) -> Vec<&Drive> {
        self.0.iter().map(|entry| &entry.body).collect()
    }
}

/// Checks that path and body name one device.
pub(super) fn same_id(path: &str, body: &str) -> Result<(), ConfigureError> {
    if path == body {
        return Ok(());
    }
    let cut = |text: &str| text.chars().take(DeviceId::MAX).collect();
    Err(ConfigureError::OtherId {
        path: cut(path),
        body: cut(body),
    })
}
