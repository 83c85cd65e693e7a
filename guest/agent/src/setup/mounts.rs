//! Mounts: the kernel's own file systems, and the root.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use abi::agent::reply::Failure;
use abi::agent::start::{Filesystem, Root, Writes};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use super::disks::Disks;
use super::{failed, failed_io};

/// The shared part of an overlay, its own part, and the whole, in the initial RAM disk.
const LOWER: &str = "/lower";
const DISK: &str = "/disk";
const ROOT: &str = "/newroot";

/// A file system and where it goes.
struct Mount {
    source: &'static str,
    target: &'static str,
    kind: &'static str,
    flags: MsFlags,
    data: Option<&'static str>,
}

const STRICT: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

const BASICS: [Mount; 4] = [
    plain("devtmpfs", "/dev", MsFlags::MS_NOSUID, Some("mode=0755")),
    plain("proc", "/proc", STRICT, None),
    plain("sysfs", "/sys", STRICT, None),
    plain(
        "devpts",
        "/dev/pts",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        Some("gid=5,mode=620,ptmxmode=666"),
    ),
];

/// What a program of a distribution finds besides.
const REST: [Mount; 2] = [
    plain(
        "tmpfs",
        "/dev/shm",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
        Some("mode=1777"),
    ),
    plain("cgroup2", "/sys/fs/cgroup", STRICT, None),
];

/// What only programs in a root that cannot be written to are helped with: else these directories are the image's.
const WRITABLE: [Mount; 2] = [
    plain(
        "tmpfs",
        "/run",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
        Some("mode=0755"),
    ),
    plain(
        "tmpfs",
        "/tmp",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
        Some("mode=1777"),
    ),
];

const fn plain(
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    data: Option<&'static str>,
) -> Mount {
    Mount {
        source: kind,
        target,
        kind,
        flags,
        data,
    }
}

impl Mount {
    fn mount(&self) -> Result<(), Failure> {
        // In a read-only root the directory is there, or the mount says that it is not.
        let _ = make_directory(self.target, 0o755);
        mount(
            Some(self.source),
            self.target,
            Some(self.kind),
            self.flags,
            self.data,
        )
        .map_err(failed(format_args!(
            "{} cannot be mounted on {}",
            self.kind, self.target
        )))
    }
}

/// What the agent itself needs to look at the kernel and to run programs.
pub(super) fn basics() -> Result<(), Failure> {
    BASICS.iter().try_for_each(Mount::mount)?;
    for (target, link) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ] {
        symlink(target, link).map_err(failed_io(link))?;
    }
    Ok(())
}

/// Mounts the root and moves into it. Gives a directory of the file system that its writes go to.
pub(super) fn root(root: &Root, disks: &Disks) -> Result<Option<OwnedFd>, Failure> {
    let device = disks.device(&root.disk)?;
    let kind = match root.filesystem {
        Filesystem::Erofs => "erofs",
        Filesystem::Ext4 => "ext4",
    };
    let written = match &root.writes {
        Writes::Refused => {
            disk(device, ROOT, kind, MsFlags::MS_RDONLY)?;
            None
        }
        Writes::Root => {
            disk(device, ROOT, kind, MsFlags::empty())?;
            Some(directory(ROOT)?)
        }
        Writes::Memory | Writes::Disk { .. } => {
            disk(device, LOWER, kind, MsFlags::MS_RDONLY)?;
            if let Writes::Disk { disk: serial } = &root.writes {
                disk(disks.device(serial)?, DISK, "ext4", MsFlags::MS_NOATIME)?;
            } else {
                make_directory(DISK, 0o755).map_err(failed_io(DISK))?;
                mount(
                    Some("tmpfs"),
                    DISK,
                    Some("tmpfs"),
                    MsFlags::empty(),
                    None::<&str>,
                )
                .map_err(failed("memory cannot be mounted"))?;
            }
            overlay()?;
            Some(directory(DISK)?)
        }
    };
    for (from, to) in [("/dev", "dev"), ("/proc", "proc"), ("/sys", "sys")] {
        let to = format!("{ROOT}/{to}");
        let _ = make_directory(&to, 0o755);
        mount(
            Some(from),
            &*to,
            None::<&str>,
            MsFlags::MS_MOVE,
            None::<&str>,
        )
        .map_err(failed(format_args!("the root has no directory {from}")))?;
    }
    chdir(ROOT)
        .and_then(|()| mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>))
        .and_then(|()| chroot("."))
        .and_then(|()| chdir("/"))
        .map_err(failed("the root cannot be entered"))?;
    Ok(written)
}

/// What belongs into a root besides its own files.
pub(super) fn complete(is_read_only: bool) -> Result<(), Failure> {
    REST.iter().try_for_each(Mount::mount)?;
    if is_read_only {
        return WRITABLE.iter().try_for_each(Mount::mount);
    }
    for mount in &WRITABLE {
        let mode = if mount.target == "/tmp" {
            0o1777
        } else {
            0o755
        };
        make_directory(mount.target, mode).map_err(failed_io(mount.target))?;
    }
    Ok(())
}

fn overlay() -> Result<(), Failure> {
    let (upper, work) = (format!("{DISK}/upper"), format!("{DISK}/work"));
    for path in [&*upper, &*work, ROOT] {
        make_directory(path, 0o755).map_err(failed_io(path))?;
    }
    let data = format!("lowerdir={LOWER},upperdir={upper},workdir={work}");
    mount(
        Some("overlay"),
        ROOT,
        Some("overlay"),
        MsFlags::empty(),
        Some(&*data),
    )
    .map_err(failed("the disk cannot be laid over the root"))
}

/// Mounts a disk.
pub(super) fn disk(device: &Path, target: &str, kind: &str, flags: MsFlags) -> Result<(), Failure> {
    make_directory(target, 0o755).map_err(failed_io(target))?;
    // Reading all of a disk's maps in advance is for much writing soon: a sixteenth of the way to the program, where ring 0 is emulated.
    let options = (kind == "ext4").then_some("no_prefetch_block_bitmaps");
    let plain = None::<&str>;
    let mounted = match mount(Some(device), target, Some(kind), flags, options) {
        // A kernel of the tenant's own may be older than the option.
        Err(Errno::EINVAL) if options.is_some() => {
            mount(Some(device), target, Some(kind), flags, plain)
        }
        other => other,
    };
    mounted.map_err(failed(format_args!(
        "{} cannot be mounted on {target} as {kind}",
        device.display()
    )))
}

/// A directory to find a file system by.
pub(super) fn directory(path: &str) -> Result<OwnedFd, Failure> {
    fs::File::open(path)
        .map(OwnedFd::from)
        .map_err(failed_io(path))
}

/// Makes a directory, and those above it, unless it is there.
pub(super) fn make_directory(path: &str, mode: u32) -> std::io::Result<()> {
    let made = fs::DirBuilder::new().mode(mode).create(path);
    match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path),
        other => other,
    }
}
