//! The way to the host's daemon, which is started where none answers.
//!
//! Two commands may start one at the same moment: `vmd` locks its directory, so one of the two ends at once, and both
//! commands reach the other.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

use crate::place::Place;

/// How long a daemon that was started may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long another's daemon may take once ours has ended.
const PATIENCE_WITH_ANOTHER: Duration = Duration::from_secs(2);
/// The first pause between two looks at the socket, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// No daemon is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReachError {
    /// The socket is there and may not be used.
    #[error("the daemon's socket {path} cannot be used: try as the user who runs it", path = .0.display())]
    Socket(PathBuf, #[source] io::Error),
    /// There is no program to start.
    #[error("no daemon answers on {socket}, and there is none to start: vmd is not beside {vmctl}", socket = .0.display(), vmctl = .1.display())]
    NoProgram(PathBuf, PathBuf),
    /// The directory cannot be made.
    #[error("cannot make {path}: give another directory with --dir", path = .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// The log cannot be written.
    #[error("cannot write the daemon's log {path}", path = .0.display())]
    Log(PathBuf, #[source] io::Error),
    /// The program cannot be run.
    #[error("cannot run {path}", path = .0.display())]
    Spawn(PathBuf, #[source] io::Error),
    /// It ended.
    #[error("vmd ended as it started ({status}): {reason}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// What it said last.
        reason: String,
    },
    /// It takes too long.
    #[error("vmd was started and does not answer after {seconds} s: see {log}", seconds = PATIENCE.as_secs(), log = .0.display())]
    Slow(PathBuf),
}

/// Returns once a daemon answers.
pub(crate) async fn reach(place: &Place) -> Result<(), ReachError> {
    if answers(&place.socket).await? {
        return Ok(());
    }
    let program = beside("vmd").map_err(|us| ReachError::NoProgram(place.socket.clone(), us))?;
    let log = place.dir.join("vmd.log");
    let mut child = start(&program, place, &log)?;
    let mut deadline = Instant::now() + PATIENCE;
    let mut pause = PAUSE.0;
    let mut ended = None;
    while !answers(&place.socket).await? {
        if ended.is_none()
            && let Ok(Some(status)) = child.try_wait()
        {
            ended = Some(status);
            deadline = deadline.min(Instant::now() + PATIENCE_WITH_ANOTHER);
        }
        if Instant::now() > deadline {
            return Err(match ended {
                Some(status) => ReachError::Ended {
                    status,
                    reason: last_line(&log),
                },
                None => ReachError::Slow(log),
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
    Ok(())
}

/// Whether somebody listens on `socket`.
pub(crate) async fn answers(socket: &Path) -> Result<bool, ReachError> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    match UnixStream::connect(socket).await {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), NotFound | ConnectionRefused) => Ok(false),
        Err(e) => Err(ReachError::Socket(socket.to_owned(), e)),
    }
}

/// A program that was installed beside this one; else where this one is.
pub(crate) fn beside(name: &str) -> Result<PathBuf, PathBuf> {
    let us = std::env::current_exe().unwrap_or_else(|_| "vmctl".into());
    let program = us.with_file_name(name);
    if program.is_file() {
        Ok(program)
    } else {
        Err(us)
    }
}

fn start(program: &Path, place: &Place, log: &Path) -> Result<Child, ReachError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&place.dir)
        .map_err(|e| ReachError::Directory(place.dir.clone(), e))?;
    let (out, err) = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .and_then(|file| Ok((file.try_clone()?, file)))
        .map_err(|e| ReachError::Log(log.to_owned(), e))?;
    let mut command = Command::new(program);
    command
        .arg("--dir")
        .arg(&place.dir)
        .arg("--socket")
        .arg(&place.socket)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err);
    // SAFETY: between fork and exec, only system calls that take no lock and allocate nothing.
    unsafe {
        command.pre_exec(|| {
            // Out of our session: the terminal's end is not the daemon's.
            rustix::process::setsid()?;
            // What a careless caller left open in us (a pipe that somebody reads to its end) is not the daemon's.
            let inherit = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
            if libc::close_range(3, libc::c_uint::MAX, inherit) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command
        .spawn()
        .map_err(|e| ReachError::Spawn(program.to_owned(), e))
}

fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    line.unwrap_or("it said nothing").trim().to_owned()
}
