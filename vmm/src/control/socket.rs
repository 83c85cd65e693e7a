//! Sockets that are listened on, the API's and a guest's: made at a path, or handed over open.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::net::sockopt::socket_acceptconn;

/// The API has no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens there.
    #[error("another process answers at the API socket {0:?}")]
    InUse(PathBuf),
    /// Something is there that is not ours to remove.
    #[error("{0:?} exists and is not a socket")]
    NotSocket(PathBuf),
    /// The kernel refused.
    #[error("cannot listen at {path:?}: {source}")]
    Bind {
        /// The path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A descriptor that is not a listening socket.
    #[error("the control descriptor is not a listening socket")]
    NotListening,
    /// A descriptor that cannot be set up.
    #[error("the control descriptor cannot be made non-blocking: {0}")]
    Blocking(io::Error),
}

/// A listening socket. Where it was made at a path, its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: OwnedFd,
    file: Option<Place>,
}

/// A file, and which one it was when it was ours.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Socket {
    /// Listens at `path`. A socket file that nobody listens behind any more is removed first.
    ///
    /// Who may connect is who may write to the file: by the process's umask, as in Firecracker.
    ///
    /// # Errors
    /// [`SocketError`], where something answers there, something else is there, or the kernel refuses.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Bind {
            path: path.to_owned(),
            source,
        };
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(there) if !there.file_type().is_socket() => {
                return Err(SocketError::NotSocket(path.to_owned()));
            }
            Ok(_) => match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
                Ok(_) => return Err(SocketError::InUse(path.to_owned())),
            },
        }
        Self::bind_new(path)
    }

    /// Listens at `path`, where nothing is.
    ///
    /// # Errors
    /// [`SocketError::Bind`].
    pub fn bind_new(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Bind {
            path: path.to_owned(),
            source,
        };
        let listener = UnixListener::bind(path).map_err(failed)?;
        let mut socket = Self::try_from(OwnedFd::from(listener))?;
        let there = std::fs::symlink_metadata(path).map_err(failed)?;
        socket.file = Some(Place {
            path: path.to_owned(),
            device: there.dev(),
            inode: there.ino(),
        });
        Ok(socket)
    }

    /// Another descriptor of the same socket; the file stays with this one.
    ///
    /// # Errors
    /// Where there is no descriptor left.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        self.listener.try_clone()
    }
}

impl TryFrom<OwnedFd> for Socket {
    type Error = SocketError;

    /// Takes a socket that listens already.
    fn try_from(listener: OwnedFd) -> Result<Self, SocketError> {
        if !socket_acceptconn(&listener).unwrap_or(false) {
            return Err(SocketError::NotListening);
        }
        rustix::fs::fcntl_getfl(&listener)
            .and_then(|flags| rustix::fs::fcntl_setfl(&listener, flags | OFlags::NONBLOCK))
            .map_err(|e| SocketError::Blocking(e.into()))?;
        Ok(Self {
            listener,
            file: None,
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(place) = &self.file {
            // Another process may have made its own there meanwhile.
            let ours = std::fs::symlink_metadata(&place.path)
                .is_ok_and(|there| (there.dev(), there.ino()) == (place.device, place.inode));
            if ours {
                let _ = std::fs::remove_file(&place.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_file_goes_with_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api");
        let socket = Socket::bind(&path).unwrap();
        let error = Socket::bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::InUse(_)), "{error}");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_file_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Socket::bind(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_successors_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api");
        let old = Socket::bind(&path).unwrap();
        // Moved, not removed: a freed inode number may come again at once.
        std::fs::rename(&path, dir.path().join("aside")).unwrap();
        let _new = Socket::bind(&path).unwrap();
        drop(old);
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "mine").unwrap();
        let error = Socket::bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::NotSocket(_)), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        let error = Socket::bind(&dir.path().join("none/api")).unwrap_err();
        assert!(error.to_string().contains("none/api"), "{error}");
        let file = std::fs::File::open(&path).unwrap();
        let error = Socket::try_from(OwnedFd::from(file)).unwrap_err();
        assert!(matches!(error, SocketError::NotListening), "{error}");
    }
}
