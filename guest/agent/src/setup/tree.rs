//! Copies of directory trees.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, lchown, symlink};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// Copies what is in the directory `from` into the directory `to`, which becomes like `from` itself: owners, modes,
/// links and devices as they are.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = entry.metadata()?;
        let kind = meta.file_type();
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy(&source, &target)?;
            continue;
        }
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
            lchown(&target, Some(meta.uid()), Some(meta.gid()))?;
            continue;
        }
        if kind.is_file() {
            fs::copy(&source, &target)?;
        } else {
            let device = makedev(
                nix::sys::stat::major(meta.rdev()),
                nix::sys::stat::minor(meta.rdev()),
            );
            let what = match () {
                () if kind.is_fifo() => SFlag::S_IFIFO,
                () if kind.is_char_device() => SFlag::S_IFCHR,
                () if kind.is_block_device() => SFlag::S_IFBLK,
                // A socket is nothing without the program that listens on it.
                () => continue,
            };
            mknod(&target, what, Mode::empty(), device)?;
        }
        liken(&target, &meta)?;
    }
    liken(to, &fs::metadata(from)?)
}

/// Owner first: a change of it takes set-uid bits away.
fn liken(path: &Path, meta: &Metadata) -> io::Result<()> {
    lchown(path, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(path, meta.permissions())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_copy_is_like_what_it_was_copied_from() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub/deep"))?;
        fs::write(from.join("sub/deep/file"), "text")?;
        fs::set_permissions(
            from.join("sub/deep/file"),
            fs::Permissions::from_mode(0o4750),
        )?;
        fs::set_permissions(from.join("sub"), fs::Permissions::from_mode(0o1711))?;
        fs::set_permissions(&from, fs::Permissions::from_mode(0o700))?;
        symlink("/nowhere", from.join("link"))?;
        mknod(&from.join("pipe"), SFlag::S_IFIFO, Mode::S_IRUSR, 0)?;
        fs::create_dir(&to)?;
        copy(&from, &to)?;
        let mode =
            |path: &str| fs::symlink_metadata(to.join(path)).map(|meta| meta.mode() & 0o7777);
        assert_eq!(fs::read(to.join("sub/deep/file"))?, b"text");
        assert_eq!(
            (mode("sub/deep/file")?, mode("sub")?, mode("")?),
            (0o4750, 0o1711, 0o700)
        );
        assert_eq!(fs::read_link(to.join("link"))?, Path::new("/nowhere"));
        assert!(fs::metadata(to.join("pipe"))?.file_type().is_fifo());
        assert_eq!(mode("pipe")?, 0o400);
        Ok(())
    }
}
