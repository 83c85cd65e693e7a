//! `/vsock`: the socket device by the name of its unix socket. A guest's own connections go to sockets of the same name with `_<port>` behind.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::draft::ConfigureError;
use crate::control::SocketError;
use crate::control::socket::Socket;
use crate::spec;

/// `PUT /vsock`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Vsock {
    guest_cid: u32,
    uds_path: PathBuf,
    /// A name that Firecracker gave it once; nothing comes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    vsock_id: Option<String>,
}

/// The socket device of a configuration. Its socket's file goes with it.
#[derive(Debug)]
pub(super) struct Entry {
    body: Vsock,
    listener: Socket,
    dir: OwnedFd,
    prefix: String,
}

impl Entry {
    /// Listens at the path, where nothing is yet.
    pub(super) fn new(body: Vsock) -> Result<Self, ConfigureError> {
        spec::Vsock::check_cid(body.guest_cid)?;
        let failed = |source: io::Error| SocketError::Bind {
            path: body.uds_path.clone(),
            source,
        };
        let prefix = body.uds_path.file_name().and_then(OsStr::to_str);
        let prefix = prefix.unwrap_or_default().to_owned();
        spec::VsockOut::check_prefix(&prefix)?;
        let parent = body.uds_path.parent().filter(|p| *p != Path::new(""));
        let dir = rustix::fs::open(
            parent.unwrap_or(Path::new(".")),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| failed(e.into()))?;
        let listener = Socket::bind_new(&body.uds_path)?;
        Ok(Self {
            body,
            listener,
            dir,
            prefix,
        })
    }

    /// For the machine, by copies of the descriptors.
    pub(super) fn vsock(&self) -> io::Result<spec::Vsock> {
        Ok(spec::Vsock {
            cid: self.body.guest_cid,
            listener: self.listener.copy()?,
            out: Some(spec::VsockOut {
                dir: self.dir.try_clone()?,
                prefix: self.prefix.clone(),
            }),
        })
    }

    /// As it was put.
    pub(super) fn body(&self) -> &Vsock {
        &self.body
    }

    /// Where it listens.
    pub(super) fn path(&self) -> &Path {
        &self.body.uds_path
    }
}

impl Vsock {
    /// Where it is to listen.
    pub(super) fn path(&self) -> &Path {
        &self.uds_path
    }
}
