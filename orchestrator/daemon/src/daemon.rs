//! The daemon: started, served, ended. VMs live on.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use images::Store as Images;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::fleet::{Fleet, FleetError};
use crate::folder::{self, Home, HomeError};
use crate::follow::Follower;
use crate::http::{App, serve};
use crate::linux::boot::Programs;
use crate::store::journal::Journal;
use crate::store::redb::RedbStore;
use crate::store::{Store, StoreError};

/// Most bytes of a socket's path, as `sun_path` has room for (unix(7)).
pub const SOCKET_PATH_MAX: usize = 107;
/// Clients that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// What a daemon is told when it is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it keeps everything.
    pub dir: PathBuf,
    /// Where it listens, if not in `dir`.
    pub socket: Option<PathBuf>,
    /// The monitor's program.
    pub vmm: PathBuf,
    /// What Linux guests boot.
    pub programs: Programs,
    /// Recipes that an installation comes with; they need not be there.
    pub recipes: PathBuf,
    /// Images that an installation comes with; it need not be there.
    pub factory: PathBuf,
}

/// The daemon could not be started.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Its directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its records.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its VMs.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// Its images.
    #[error(transparent)]
    Images(#[from] images::FileError),
    /// Its socket's path.
    #[error(
        "the socket's path has {} bytes, {SOCKET_PATH_MAX} are possible: give a shorter --socket than {}",
        .0.as_os_str().len(), .0.display()
    )]
    SocketPath(PathBuf),
    /// Anything of the system's.
    #[error("cannot {action}")]
    System {
        /// What was to be done.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// From here on a panic ends the daemon at once: one that goes on with half of a state is worse than none. Its VMs live on, and the
/// next daemon finds them.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Runs the daemon until it is told to end (SIGTERM, SIGINT).
///
/// # Errors
/// [`DaemonError`], before it serves.
pub async fn run(options: Options) -> Result<(), DaemonError> {
    let system = |action: &str| {
        let action = action.to_owned();
        move |source| DaemonError::System { action, source }
    };
    let (home, _lock) = Home::take(&options.dir)?;
    let socket = options.socket.unwrap_or_else(|| home.socket());
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(DaemonError::SocketPath(socket));
    }
    let mut store = RedbStore::open(&home.state())?;
    let records = store.load()?;
    let networks = store.networks()?;
    abort_on_panic();
    let images = Images::open(home.images())?;
    for imported in images.import_factory(&options.factory)? {
        match imported.result {
            Ok(digest) => info!(image = %imported.name, %digest, "added from the installation"),
            Err(error) => warn!(image = %imported.name, error = crate::chain(&error), "not added"),
        }
    }
    let journal = Journal::start(store).map_err(system("start a thread"))?;
    let fleet = Fleet::new(home, journal, images, options.vmm, options.programs)?;
    let fleet = Arc::new(fleet);
    let follower = Follower::start().map_err(system("watch files"))?;

    // Who asks is answered by one that knows what lives.
    fleet.recover(records, networks).await;
    let mut ends = Vec::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        ends.push(signal(kind).map_err(system("handle signals"))?);
    }
    let listener = bind(&socket).map_err(system(&format!("listen on {}", socket.display())))?;
    info!(socket = %socket.display(), vms = fleet.counts().0.total, "ready");

    let router = App::new(Arc::clone(&fleet), follower, &options.recipes).router();
    let end = async move {
        let ends = ends.iter_mut().map(|end| Box::pin(end.recv()));
        futures::future::select_all(ends).await;
        info!("ending; VMs live on");
    };
    serve::serve(listener, router, end).await;
    // Nobody finds a socket where nobody listens.
    let _ = std::fs::remove_file(&socket);
    fleet.close();
    Ok(())
}

/// Takes the socket's path over from a daemon that is gone: the directory's lock says that none is left. A path that is no socket
/// is left alone.
fn bind(socket: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    let (dir, name) = match (socket.parent(), socket.file_name().and_then(|n| n.to_str())) {
        (Some(dir), Some(name)) => (dir, name),
        _ => return Err(std::io::Error::other("that is no path of a file")),
    };
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    if let Ok(metadata) = std::fs::symlink_metadata(socket)
        && metadata.file_type().is_socket()
    {
        std::fs::remove_file(socket)?;
    }
    let listener = folder::listen(dir, name, BACKLOG)?;
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// What a process of this daemon is set up with, before it has threads: files are for their owner alone, there may be as many
/// descriptors as the system lets there be, and those that came from whoever started it go to no monitor.
///
/// # Errors
/// The operating system's.
pub fn prepare() -> std::io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit, umask};
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(fd) = name
            .to_str()
            .and_then(|n| n.parse().ok())
            .filter(|fd| *fd > 2)
        else {
            continue;
        };
        // SAFETY: it was open a moment ago, and no other thread is there to close it; the flag changes no other's use of it.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(())
}
