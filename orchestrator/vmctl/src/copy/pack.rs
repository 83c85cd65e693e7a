//! Files of this host as a tar archive.
//!
//! Owners are left out: in the guest the files are root's. Links are packed as links; sockets, pipes and devices are left out.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;

use super::pipe::{self, CHUNKS, Feeder, Received};

/// An archive of what is at `path`, which is called `name` in it; nothing, where its contents alone are wanted.
pub(crate) fn stream(path: PathBuf, name: PathBuf) -> Received {
    let (to, from) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut feeder = Feeder::new(to);
        match write(&path, &name, &mut feeder).and_then(|()| feeder.flush()) {
            // Who receives went away, and knows why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => feeder.fail(error),
            Ok(()) => {}
        }
    });
    pipe::stream(from)
}

fn write(path: &Path, name: &Path, to: &mut impl Write) -> io::Result<()> {
    let mut builder = Builder::new(to);
    let mut left = vec![(path.to_owned(), name.to_owned())];
    while let Some((path, name)) = left.pop() {
        let told = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let metadata = fs::symlink_metadata(&path).map_err(told)?;
        // Contents are wanted of what a link at the top leads to.
        let metadata = match name.as_os_str().is_empty() {
            true => fs::metadata(&path).map_err(told)?,
            false => metadata,
        };
        let mut header = header_of(&metadata);
        if metadata.is_dir() {
            if !name.as_os_str().is_empty() {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, &name, io::empty())?;
            }
            for entry in fs::read_dir(&path).map_err(told)? {
                let entry = entry.map_err(told)?;
                left.push((entry.path(), name.join(entry.file_name())));
            }
        } else if metadata.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = fs::read_link(&path).map_err(told)?;
            builder.append_link(&mut header, &name, target)?;
        } else if metadata.is_file() {
            header.set_size(metadata.len());
            let file = Whole {
                file: File::open(&path).map_err(told)?,
                left: metadata.len(),
            };
            builder
                .append_data(&mut header, &name, file)
                .map_err(told)?;
        }
    }
    builder.finish()
}

fn header_of(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    header
}

/// A file, as long as its header says whatever becomes of it meanwhile.
struct Whole {
    file: File,
    left: u64,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |n| n.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        match self.file.read(&mut buffer[..most])? {
            0 => Err(io::Error::other("it became shorter while it was read")),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path, name: &str) -> Vec<String> {
        let mut archive = Vec::new();
        write(path, Path::new(name), &mut archive).unwrap();
        let mut archive = tar::Archive::new(&archive[..]);
        let entries = archive.entries().unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                assert_eq!(
                    (entry.header().uid().unwrap(), entry.header().gid().unwrap()),
                    (0, 0)
                );
                entry.path().unwrap().to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_tree_is_packed_by_its_new_name_or_as_contents() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join("sub/file"), "x").unwrap();
        std::os::unix::fs::symlink("/nowhere", tree.join("link")).unwrap();
        let long = "l".repeat(150);
        fs::write(tree.join(&long), "x").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
        let whole =
            |prefix: &str| ["link", &long, "sub", "sub/file"].map(|name| format!("{prefix}{name}"));
        assert_eq!(names(&tree, "new")[1..], whole("new/"));
        assert_eq!(names(&tree, ""), whole(""));
        assert_eq!(names(&tree.join("sub/file"), "g"), ["g"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = write(Path::new("/nonexistent"), Path::new("x"), &mut Vec::new());
        assert!(error.unwrap_err().to_string().contains("/nonexistent"));
    }

    #[test]
    fn a_file_that_grows_is_packed_as_long_as_it_was() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "0123456789").unwrap();
        let mut read = String::new();
        let mut whole = Whole {
            file: file.reopen().unwrap(),
            left: 4,
        };
        whole.read_to_string(&mut read).unwrap();
        assert_eq!(read, "0123");
        whole.left = 20;
        assert!(whole.read_to_string(&mut read).is_err());
    }
}
