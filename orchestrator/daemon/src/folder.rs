//! Where the daemon keeps everything: one directory.
//!
//! ```text
//! vmd.sock             the API
//! vmd.lock             locked by the one daemon that uses the directory; holds its pid
//! state.redb           records: what is wanted
//! images/              the image store
//! vms/<id>/lock        locked by the VM's monitor for as long as it lives; holds its pid
//! vms/<id>/meter       one page of counters, and how the VM ended
//! vms/<id>/console.log what the guest wrote, the oldest of it punched out
//! vms/<id>/console.in  FIFO: what the guest reads
//! vms/<id>/control.sock the monitor's control API
//! vms/<id>/monitor.log what the monitor had to say to people
//! vms/<id>/vsock.sock  to ports of a Linux guest: its agent's, for one
//! vms/<id>/disk.ext4   a Linux guest's own disk
//! templates/           empty disks, to be copied
//! volumes/<name>.ext4  disks that outlive VMs
//! ```
//!
//! Sockets are bound and reached by way of `/proc/self/fd/N/`, so that a long path to the directory is no trouble
//! (`sun_path` has 108 bytes).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::name;

/// How long a daemon's lock may outlive it: one that was killed while it started a monitor leaves a child that has not yet become
/// that monitor, and still has all its descriptors.
const LAST_BREATH: Duration = Duration::from_millis(500);

/// Between two attempts to join a queue that is full.
const QUEUE: Duration = Duration::from_millis(5);

/// Bytes of console output that are kept at least.
pub const CONSOLE_KEEP: u64 = 1 << 20;
/// The files of a VM's folder.
const FILES: [&str; 9] = [
    "lock",
    "meter",
    "console.log",
    "console.in",
    "control.sock",
    "monitor.log",
    "vsock.sock",
    DISK,
    // One that was being made.
    "disk.ext4.new",
];
const DISK: &str = "disk.ext4";
/// Those that a VM keeps that is started again.
const KEPT: [&str; 2] = ["console.log", DISK];
/// Connections to a guest that may wait until its monitor takes them: a hundred `exec` at once are no trouble.
const VSOCK_BACKLOG: i32 = 256;

/// The daemon's directory.
#[derive(Clone, Debug)]
pub struct Home {
    dir: PathBuf,
}

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// It cannot be made or written to.
    #[error("cannot use {} as vmd's directory", path.display())]
    Dir {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another daemon has it.
    #[error("another vmd{} already uses {}: stop it first, or give this one a --dir of its own", holder(*pid), dir.display())]
    Taken {
        /// The directory.
        dir: PathBuf,
        /// The other daemon, where it said who it is.
        pid: Option<u32>,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl Home {
    /// Makes the directory ready and takes its lock, which lasts as long as the file that is returned.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn take(dir: &Path) -> Result<(Self, File), HomeError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Dir { path, source }
        };
        let vms = dir.join("vms");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&vms)
            .map_err(failed(&vms))?;
        // Absolute: monitors and messages must not depend on where the daemon was started.
        let dir = fs::canonicalize(dir).map_err(failed(dir))?;
        let path = dir.join("vmd.lock");
        let mut lock = private(&path).map_err(failed(&path))?;
        match lock_by(&lock, Instant::now() + LAST_BREATH) {
            Ok(true) => {}
            Ok(false) => {
                return Err(HomeError::Taken {
                    pid: read_pid(&mut lock),
                    dir,
                });
            }
            Err(e) => return Err(failed(&path)(e)),
        }
        write_pid(&lock, std::process::id()).map_err(failed(&path))?;
        Ok((Self { dir }, lock))
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The records' file.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state.redb")
    }

    /// The image store.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.dir.join("images")
    }

    /// The API's socket, where nobody says otherwise.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("vmd.sock")
    }

    /// Empty disks.
    #[must_use]
    pub fn templates(&self) -> PathBuf {
        self.dir.join("templates")
    }

    /// Disks that outlive VMs.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.dir.join("volumes")
    }

    /// A VM's folder.
    #[must_use]
    pub fn vm(&self, id: &str) -> VmFolder {
        VmFolder {
            path: self.dir.join("vms").join(id),
        }
    }

    /// The folders that look like a VM's: named by an id, with nothing in them but what a VM has.
    ///
    /// # Errors
    /// The operating system's.
    pub fn vms(&self) -> io::Result<Vec<(String, VmFolder)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.dir.join("vms"))? {
            let entry = entry?;
            let Ok(id) = entry.file_name().into_string() else {
                continue;
            };
            if !name::is_id(&id) || !entry.file_type()?.is_dir() {
                continue;
            }
            let folder = self.vm(&id);
            if folder.has_only_ours()? {
                found.push((id, folder));
            }
        }
        Ok(found)
    }
}

/// One VM's folder.
#[derive(Clone, Debug)]
pub struct VmFolder {
    path: PathBuf,
}

/// The descriptors of a folder that was made.
#[derive(Debug)]
pub struct Made {
    /// The lock file, locked: whoever has this descriptor last, lives.
    pub lease: File,
    /// An empty page.
    pub meter: File,
    /// Empty, for appending.
    pub console: File,
    /// The FIFO, for reading and writing, so that it never ends.
    pub input: File,
    /// A listening socket.
    pub control: OwnedFd,
    /// Empty, for appending.
    pub log: File,
}

/// Whether a VM's monitor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Nobody holds the lock: there is no monitor.
    Free,
    /// Somebody holds it; this pid, where one was noted.
    Held(Option<u32>),
}

impl VmFolder {
    /// Makes the folder and all that is in it. What an attempt before this one left is replaced, but for the console's log and the
    /// disk, which are those of a VM that is started again.
    ///
    /// The caller knows that no monitor uses it.
    ///
    /// # Errors
    /// The operating system's; what was made so far is there.
    pub fn make(&self) -> io::Result<Made> {
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.clear_for_another_start()?,
            other => other?,
        }
        let lease = private(&self.path.join("lock"))?;
        if !try_lock(&lease)? {
            return Err(io::Error::other("the lock of a new folder is held"));
        }
        let meter = private(&self.meter())?;
        meter.set_len(vmm::meter::PAGE_SIZE as u64)?;
        let input = self.path.join("console.in");
        rustix::fs::mkfifoat(rustix::fs::CWD, &input, Mode::RUSR | Mode::WUSR)?;
        Ok(Made {
            lease,
            meter,
            console: appending(&self.console())?,
            // Reading and writing: with a writer always there, a read waits where it would otherwise say "end".
            input: rustix::fs::open(
                &input,
                OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
                Mode::empty(),
            )?
            .into(),
            control: listen(&self.path, "control.sock", 16)?,
            log: appending(&self.monitor_log())?,
        })
    }

    /// Notes the monitor's pid beside the lock that it is about to hold.
    ///
    /// # Errors
    /// The operating system's.
    pub fn note_monitor(lease: &File, pid: u32) -> io::Result<()> {
        write_pid(lease, pid)
    }

    /// Whether the VM's monitor lives. A lock that is free stays so: only the daemon that asks makes monitors.
    ///
    /// # Errors
    /// The operating system's.
    pub fn lease(&self) -> io::Result<Lease> {
        let mut file = match File::open(self.path.join("lock")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Lease::Free),
            other => other?,
        };
        if try_lock(&file)? {
            return Ok(Lease::Free);
        }
        Ok(Lease::Held(read_pid(&mut file)))
    }

    /// Removes what tells of a start that is over, so that the next one begins with nothing but its disk and its console's log.
    ///
    /// # Errors
    /// The operating system's.
    pub fn clear_for_another_start(&self) -> io::Result<()> {
        for file in FILES.iter().filter(|file| !KEPT.contains(file)) {
            ignore_missing(fs::remove_file(self.path.join(file)))?;
        }
        Ok(())
    }

    /// Makes the socket by which a Linux guest's ports are reached.
    ///
    /// # Errors
    /// The operating system's.
    pub fn make_vsock(&self) -> io::Result<OwnedFd> {
        listen(&self.path, "vsock.sock", VSOCK_BACKLOG)
    }

    /// Removes the folder; one that is not there is no error.
    ///
    /// # Errors
    /// The operating system's; also where somebody put something else into it.
    pub fn clear(&self) -> io::Result<()> {
        for file in FILES {
            ignore_missing(fs::remove_file(self.path.join(file)))?;
        }
        ignore_missing(fs::remove_dir(&self.path))
    }

    /// Gives back the room that logs take, and keeps what tells how the VM ended.
    ///
    /// # Errors
    /// The operating system's.
    pub fn empty_logs(&self) -> io::Result<()> {
        for log in [self.console(), self.monitor_log()] {
            ignore_missing(
                File::options()
                    .write(true)
                    .truncate(true)
                    .open(log)
                    .map(drop),
            )?;
        }
        Ok(())
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The console's log.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.path.join("console.log")
    }

    /// The console's input.
    #[must_use]
    pub fn input(&self) -> PathBuf {
        self.path.join("console.in")
    }

    /// The meter's file.
    #[must_use]
    pub fn meter(&self) -> PathBuf {
        self.path.join("meter")
    }

    /// A Linux guest's own disk.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.path.join(DISK)
    }

    /// What the monitor wrote to its standard error.
    #[must_use]
    pub fn monitor_log(&self) -> PathBuf {
        self.path.join("monitor.log")
    }

    /// Connects to the monitor's control API.
    ///
    /// # Errors
    /// The operating system's: nobody listens, for one.
    pub fn connect_control(&self) -> io::Result<std::os::unix::net::UnixStream> {
        let dir = open_dir(&self.path)?;
        std::os::unix::net::UnixStream::connect(through(&dir, "control.sock"))
    }

    /// Connects to the monitor's way to ports of the guest; waits while too many others do.
    ///
    /// # Errors
    /// The operating system's: nobody listens, for one.
    pub async fn connect_vsock(&self) -> io::Result<tokio::net::UnixStream> {
        let dir = open_dir(&self.path)?;
        let socket = through(&dir, "vsock.sock");
        loop {
            match tokio::net::UnixStream::connect(&socket).await {
                // Nobody tells when there is room in the listener's queue.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(QUEUE).await;
                }
                other => return other,
            }
        }
    }

    fn has_only_ours(&self) -> io::Result<bool> {
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if !FILES.iter().any(|file| *file == name) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A new listening socket `name` in `dir`.
///
/// # Errors
/// The operating system's.
pub fn listen(dir: &Path, name: &str, backlog: i32) -> io::Result<OwnedFd> {
    let dir = open_dir(dir)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(through(&dir, name))?)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(dir, flags, Mode::empty())?)
}

fn through(dir: &OwnedFd, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

/// A file for its owner alone, made where it is not there.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn appending(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// As [`try_lock`], again and again until `deadline`: a lock cannot be waited for and given up.
fn lock_by(file: &File, deadline: Instant) -> io::Result<bool> {
    loop {
        let locked = try_lock(file)?;
        if locked || Instant::now() >= deadline {
            return Ok(locked);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Locks the open file description; `false` where another one has the lock.
fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn write_pid(mut file: &File, pid: u32) -> io::Result<()> {
    file.set_len(0)?;
    // One write: a reader sees all of it or nothing.
    file.write_all(format!("{pid}\n").as_bytes())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let (_home, lock) = Home::take(dir.path()).unwrap();
        let refusal = Home::take(dir.path()).unwrap_err().to_string();
        assert!(
            refusal.contains(&format!("pid {}", std::process::id())),
            "{refusal}"
        );
        drop(lock);
        Home::take(dir.path()).unwrap();
    }

    #[test]
    fn a_lease_lasts_as_long_as_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let (home, _lock) = Home::take(dir.path()).unwrap();
        let folder = home.vm("0123456789ab");
        assert_eq!(folder.lease().unwrap(), Lease::Free);
        let made = folder.make().unwrap();
        assert_eq!(folder.lease().unwrap(), Lease::Held(None));
        VmFolder::note_monitor(&made.lease, 77).unwrap();
        assert_eq!(folder.lease().unwrap(), Lease::Held(Some(77)));
        drop(made);
        assert_eq!(folder.lease().unwrap(), Lease::Free);
        // Made again over what is there, and removed twice.
        drop(folder.make().unwrap());
        folder.clear().unwrap();
        folder.clear().unwrap();
        assert!(home.vms().unwrap().is_empty());
    }

    #[test]
    fn a_long_path_has_its_sockets_too() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        let (home, _lock) = Home::take(&deep).unwrap();
        let folder = home.vm("0123456789ab");
        let _made = folder.make().unwrap();
        folder.connect_control().unwrap();
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let (home, _lock) = Home::take(dir.path()).unwrap();
        let folder = home.vm("0123456789ab");
        drop(folder.make().unwrap());
        fs::create_dir(dir.path().join("vms/not-an-id")).unwrap();
        assert_eq!(home.vms().unwrap().len(), 1);
        fs::write(dir.path().join("vms/0123456789ab/notes.txt"), "mine").unwrap();
        assert!(home.vms().unwrap().is_empty());
        assert!(folder.clear().is_err());
        assert!(dir.path().join("vms/0123456789ab/notes.txt").exists());
    }
}
