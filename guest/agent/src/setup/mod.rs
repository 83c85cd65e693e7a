//! Making the guest what its Start says: root, volumes, names, network, clock; and taking it apart at the end.
//!
//! ```text
//!  initial RAM disk            new root
//!  /lower  erofs, shared ─┐
//!  /disk   ext4, own ─────┴──▶ /            overlay
//!  /dev /proc /sys ──────────▶ moved along, then /dev/pts, /dev/shm, /sys/fs/cgroup
//!                              volumes, then /etc/hosts, hostname, resolv.conf
//! ```

pub(crate) mod clock;
mod disks;
mod end;
mod files;
mod mounts;
mod netlink;
mod tree;
mod volumes;

use std::os::fd::OwnedFd;

use abi::agent::network::Network;
use abi::agent::reply::{Code, Failure};
use abi::agent::start::{Start, Writes};
use nix::errno::Errno;

pub(crate) use end::end;

/// The guest's console, which goes into the VM's log.
pub(crate) const CONSOLE: &str = "/dev/hvc0";

/// The machine that the agent is in.
pub(crate) struct Guest {
    /// It is ours to change. Without, the agent is an ordinary program on somebody's machine, as in tests.
    is_ours: bool,
    has_basics: bool,
    /// File systems that hold data, by a directory in each, for the end.
    written: Vec<OwnedFd>,
    /// Where disks are mounted.
    paths: Vec<String>,
}

impl Guest {
    /// A guest of our own, as process 1.
    pub(crate) fn ours() -> Self {
        Self {
            is_ours: true,
            has_basics: false,
            written: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// Somebody's machine.
    pub(crate) fn of_others() -> Self {
        Self {
            is_ours: false,
            ..Self::ours()
        }
    }

    /// Whether it is ours to change and, at last, to end.
    pub(crate) fn is_ours(&self) -> bool {
        self.is_ours
    }

    pub(crate) fn console(&self) -> &'static str {
        if self.is_ours {
            CONSOLE
        } else {
            "/proc/self/fd/1"
        }
    }

    /// Where disks are mounted, the root among them.
    pub(crate) fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Refuses what only a guest of our own is for.
    pub(crate) fn allow(&self) -> Result<(), Failure> {
        if self.is_ours {
            return Ok(());
        }
        Err(Failure::new(
            Code::Permission,
            "this agent is not process 1 of a guest",
        ))
    }

    /// The file systems that the kernel itself is seen by. They are mounted when first needed: an agent that
    /// only has to answer does without.
    pub(crate) fn mount_basics(&mut self) -> Result<(), Failure> {
        if self.is_ours && !self.has_basics {
            mounts::basics()?;
            self.has_basics = true;
        }
        Ok(())
    }

    /// Makes the guest what `start` says, up to its main program.
    pub(crate) fn become_it(&mut self, start: &Start) -> Result<(), Failure> {
        if !self.is_ours {
            let is_plain = start.root.is_none()
                && start.volumes.is_empty()
                && start.hostname.is_none()
                && start.network == Network::default()
                && start.clock.is_none()
                && start.entropy.is_empty();
            return if is_plain { Ok(()) } else { self.allow() };
        }
        if let Some(clock) = start.clock {
            clock::set(clock)?;
        }
        self.mount_basics()?;
        if !start.entropy.is_empty() {
            clock::add_entropy(&start.entropy)?;
        }
        let disks = if start.root.is_some() || !start.volumes.is_empty() {
            disks::find()?
        } else {
            disks::Disks::default()
        };
        if let Some(root) = &start.root {
            self.written.extend(mounts::root(root, &disks)?);
            mounts::complete(root.writes == Writes::Refused)?;
            self.paths.push("/".into());
        }
        for volume in &start.volumes {
            self.written.extend(volumes::mount(volume, &disks)?);
            self.paths.push(volume.path.clone());
        }
        let name = start.hostname.as_deref().unwrap_or("localhost");
        files::write(name, &start.network)?;
        netlink::set_up(&start.network.interfaces)
    }

    /// What is written goes to the disks, and nothing more is.
    pub(crate) fn close_disks(&self) {
        end::close(&self.written);
    }
}

/// A failure of the kernel's at `what`.
fn failed(what: impl std::fmt::Display) -> impl FnOnce(Errno) -> Failure {
    let what = what.to_string();
    move |errno| {
        let code = match errno {
            Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => Code::NotFound,
            Errno::EACCES | Errno::EPERM | Errno::EROFS => Code::Permission,
            Errno::ENOSPC | Errno::ENOMEM => Code::NoSpace,
            Errno::ENOTDIR => Code::NotDirectory,
            Errno::EBUSY => Code::Busy,
            _ => Code::Failed,
        };
        Failure::new(code, format_args!("{what}: {}", errno.desc()))
    }
}

/// The same for what the standard library does.
fn failed_io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Failure {
    let tell = failed(what);
    move |error| tell(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}
