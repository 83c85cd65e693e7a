//! Packs a file or a tree into a tar stream.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use abi::agent::message::Message;
use abi::agent::reply::{Failure, Reply};
use tar::{Builder, EntryType, Header};

use crate::copy_in::failure;
use crate::worker::Channel;

/// Bytes of a file that are read at once.
const READ: usize = 64 * 1024;
/// A tar stream's unit.
const BLOCK: u64 = 512;

/// Sends `path` and what is in it.
pub(crate) fn copy_out(channel: &mut Channel, path: &str) -> Result<(), Failure> {
    let from = Path::new(path);
    from.symlink_metadata()
        .map_err(|error| failure(path, &error))?;
    channel.tell(&Message::Reply(Reply::Ready));
    let mut builder = Builder::new(&mut *channel);
    pack(&mut builder, from)
        .and_then(|()| builder.finish())
        .and_then(|()| builder.get_mut().flush())
        .map_err(|error| failure(path, &error))?;
    drop(builder);
    channel.tell(&Message::Eof);
    Ok(())
}

fn pack<W: Write>(builder: &mut Builder<W>, from: &Path) -> io::Result<()> {
    // The root has no name of its own.
    let name = from
        .file_name()
        .map_or_else(|| PathBuf::from("."), PathBuf::from);
    let mut buffer = vec![0; READ];
    // Files with several names, by the first one that was sent.
    let mut names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut left = vec![(from.to_owned(), name)];
    while let Some((path, name)) = left.pop() {
        let meta = match path.symlink_metadata() {
            Ok(meta) => meta,
            // It went while we looked elsewhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let kind = meta.file_type();
        let mut header = Header::new_gnu();
        header.set_metadata(&meta);
        if kind.is_socket() {
            continue;
        }
        if kind.is_dir() {
            builder.append_data(&mut header, &name, io::empty())?;
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                left.push((entry.path(), name.join(entry.file_name())));
            }
        } else if kind.is_symlink() {
            header.set_size(0);
            builder.append_link(&mut header, &name, fs::read_link(&path)?)?;
        } else if let Some(first) = (meta.nlink() > 1)
            .then(|| names.get(&(meta.dev(), meta.ino())))
            .flatten()
        {
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            builder.append_link(&mut header, &name, first)?;
        } else {
            if meta.nlink() > 1 {
                names.insert((meta.dev(), meta.ino()), name.clone());
            }
            if kind.is_file() {
                file(builder, &path, &name, &meta, header, &mut buffer)?;
            } else {
                // `set_metadata` says which device it is.
                builder.append_data(&mut header, &name, io::empty())?;
            }
        }
    }
    Ok(())
}

/// A file, as long as its header says whatever becomes of it meanwhile: a log grows while it is read.
fn file<W: Write>(
    builder: &mut Builder<W>,
    path: &Path,
    name: &Path,
    meta: &Metadata,
    mut header: Header,
    buffer: &mut [u8],
) -> io::Result<()> {
    let mut file = File::open(path)?;
    header.set_size(meta.len());
    builder.append_data(&mut header, name, io::empty())?;
    let mut left = meta.len();
    while left > 0 {
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = match file.read(&mut buffer[..most])? {
            0 => {
                buffer[..most].fill(0);
                most
            }
            count => count,
        };
        builder.get_mut().write_all(&buffer[..count])?;
        left -= count as u64;
    }
    let padding = [0; BLOCK as usize];
    let over = (meta.len() % BLOCK) as usize;
    if over > 0 {
        builder.get_mut().write_all(&padding[over..])?;
    }
    Ok(())
}
