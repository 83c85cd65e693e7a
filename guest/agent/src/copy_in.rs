//! Unpacks a tar stream into a directory.
//!
//! No entry leaves the directory, neither by its name nor by a link that came before it. It is refused, and so is the rest of the
//! stream: an archive that tries is no copy of anything.

use std::io::{self, Read};
use std::path::Path;

use abi::agent::message::Message;
use abi::agent::reply::{Code, Failure, Reply};
use tar::{Archive, EntryType};

use crate::worker::{Channel, Incoming};

/// Unpacks what the peer sends into `path`.
pub(crate) fn copy_in(channel: &mut Channel, path: &str) -> Result<(), Failure> {
    let target = Path::new(path);
    match target.metadata() {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(Failure::new(
                Code::NotDirectory,
                format_args!("{path} is not a directory"),
            ));
        }
        Err(error) => return Err(failure(path, &error)),
    }
    channel.tell(&Message::Reply(Reply::Ready));
    let mut incoming = Incoming::new(channel);
    unpack(&mut incoming, target)?;
    // Padding behind the archive's own end.
    io::copy(&mut incoming, &mut io::sink()).map_err(|error| failure(path, &error))?;
    Ok(())
}

fn unpack(incoming: &mut impl Read, target: &Path) -> Result<(), Failure> {
    let mut archive = Archive::new(incoming);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(nix::unistd::geteuid().is_root());
    let told = |error: io::Error| failure("the archive", &error);
    // A directory that nobody may write to gets its mode when all is in it.
    let mut directories = Vec::new();
    for entry in archive.entries().map_err(told)? {
        let mut entry = entry.map_err(told)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.header().entry_type() {
            EntryType::Directory => directories.push(entry),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                return Err(Failure::new(
                    Code::Invalid,
                    format_args!("{name:?} is a device or a pipe"),
                ));
            }
            _ => put(&mut entry, target, &name)?,
        }
    }
    // The deepest first, so that none closes the way to another.
    directories.sort_by(|a, b| b.path_bytes().cmp(&a.path_bytes()));
    for mut entry in directories {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        put(&mut entry, target, &name)?;
    }
    Ok(())
}

fn put<R: Read>(entry: &mut tar::Entry<'_, R>, target: &Path, name: &str) -> Result<(), Failure> {
    match entry.unpack_in(target) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(
            Code::Invalid,
            format_args!("{name:?} leads out of the directory"),
        )),
        Err(error) => Err(failure(name, &error)),
    }
}

/// A failure of the file system's, or of the archive.
pub(crate) fn failure(what: &str, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::Permission,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::NoSpace,
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Code::NotDirectory,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            Code::Invalid
        }
        _ => Code::Failed,
    };
    // The innermost says what the kernel said; those around it repeat the path.
    let mut why: &dyn std::error::Error = error;
    while let Some(source) = why.source() {
        why = source;
    }
    Failure::new(code, format_args!("{what}: {why}"))
}
