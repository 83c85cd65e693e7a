//! Disks of Linux guests: sparse files with an empty ext4 on each, made in a millisecond.
//!
//! ```text
//! templates/ext4-<MiB>   made once a size by mke2fs
//!        | copy: FICLONE where the file system has it, else only what is no hole
//!        v
//! vms/<id>/disk.ext4, volumes/<name>.ext4
//! ```
//! Each is written beside its place, synced and renamed: a disk that has its name is whole, whatever was killed while it was made.
//! What was left beside it is replaced by the next attempt.

pub mod volume;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::fs::SeekFrom;

/// The least size in mebibytes: a journal and something beside it.
pub const MIN_MIB: u64 = 16;
/// The largest size in mebibytes: 4 TiB, where block numbers still have 32 bits.
pub const MAX_MIB: u64 = 4 << 20;
/// The size where nobody says.
pub const DEFAULT_MIB: u64 = 8192;
/// Templates that are kept: each takes less than a mebibyte of disk for each 8 GiB of its size.
const TEMPLATES: usize = 16;
/// What is not yet what its name will say.
const UNFINISHED: &str = "new";
/// mke2fs is there also where a user's PATH has no sbin.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a file system is made so that a guest's first mount finds nothing left to do:
/// - no checksums of metadata, nor descriptors of 64 bytes: where ring 0 is emulated, a checksum of a block takes
///   milliseconds. The journal stays: it is what keeps a file system whole;
/// - tables of inodes count as written (the file is a hole there, so they read as zeroes), hence no thread in the guest that
///   writes them;
/// - no blocks kept for root: the disk is one program's.
const MKE2FS: [&str; 11] = [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-m",
    "0",
    "-E",
    "lazy_itable_init=0,lazy_journal_init=0,assume_storage_prezeroed=1,nodiscard,root_owner=0:0",
    "-O^metadata_csum,^64bit,^orphan_file,^resize_inode",
];

/// A disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// No such program.
    #[error("cannot run mke2fs, which makes disks: install the package e2fsprogs")]
    NoProgram(#[source] io::Error),
    /// The program failed.
    #[error("mke2fs made no disk of {mib} MiB: {said}")]
    Program {
        /// The size.
        mib: u64,
        /// The last line of what it said.
        said: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    System {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DiskError {
    fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::System {
            action,
            path,
            source,
        }
    }
}

/// Makes disks.
#[derive(Debug)]
pub struct Disks {
    templates: PathBuf,
    /// Held while a template is made: the second one who wants it waits for it.
    making: Mutex<()>,
}

impl Disks {
    /// Makes disks from templates in a directory, which is made where it is not there.
    ///
    /// # Errors
    /// [`DiskError::System`].
    pub fn open(templates: PathBuf) -> Result<Self, DiskError> {
        directory(&templates)?;
        sweep(&templates)?;
        Ok(Self {
            templates,
            making: Mutex::new(()),
        })
    }

    /// Makes an empty disk; `path` is there, whole and durable, when this returns. Blocks: for some milliseconds, or some tens
    /// for the first one of a size.
    ///
    /// # Errors
    /// [`DiskError`]; there is no disk at `path` then that was not there before.
    pub fn make(&self, mib: u64, path: &Path) -> Result<(), DiskError> {
        let template = self.template(mib)?;
        finish(path, |beside| {
            copy_sparse(&template, beside).map_err(DiskError::system("write", path))
        })
    }

    fn template(&self, mib: u64) -> Result<File, DiskError> {
        let path = self.templates.join(format!("ext4-{mib}"));
        let _alone = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other.map_err(DiskError::system("open", &path)),
        }
        finish(&path, |beside| {
            File::options()
                .write(true)
                .open(beside)
                .and_then(|file| file.set_len(mib << 20))
                .map_err(DiskError::system("write", &path))?;
            mke2fs(mib, beside)
        })?;
        self.keep_few()
            .map_err(DiskError::system("tidy", &self.templates))?;
        File::open(&path).map_err(DiskError::system("open", &path))
    }

    /// Removes the templates that were made first where there are many.
    fn keep_few(&self) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.templates)? {
            let entry = entry?;
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
        found.sort();
        for (_, path) in found.iter().rev().skip(TEMPLATES) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn mke2fs(mib: u64, path: &Path) -> Result<(), DiskError> {
    let output = Command::new("mke2fs")
        .args(MKE2FS)
        .arg(path)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .output()
        .map_err(DiskError::NoProgram)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim_end().lines().next_back().unwrap_or("nothing");
    Err(DiskError::Program {
        mib,
        said: said.chars().take(300).collect(),
    })
}

/// Makes the file at `path` with `fill`, so that it has its name only once it is whole and on the disk.
fn finish(path: &Path, fill: impl FnOnce(&Path) -> Result<(), DiskError>) -> Result<(), DiskError> {
    let beside = path.with_added_extension(UNFINISHED);
    let made = (|| {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)
            .map_err(DiskError::system("make", path))?;
        fill(&beside)?;
        file.sync_all().map_err(DiskError::system("sync", path))?;
        fs::rename(&beside, path).map_err(DiskError::system("name", path))?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(DiskError::system("sync", dir))
    })();
    if made.is_err() {
        let _ = fs::remove_file(&beside);
    }
    made
}

/// Copies a file and leaves out its holes.
fn copy_sparse(from: &File, to: &Path) -> io::Result<()> {
    let to = File::options().write(true).open(to)?;
    if rustix::fs::ioctl_ficlone(&to, from).is_ok() {
        return Ok(());
    }
    let end = from.metadata()?.len();
    to.set_len(end)?;
    let mut at = 0;
    while at < end {
        let data = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let hole = rustix::fs::seek(from, SeekFrom::Hole(data))?;
        copy_range(from, &to, data, hole)?;
        at = hole;
    }
    Ok(())
}

fn copy_range(from: &File, to: &File, mut at: u64, end: u64) -> io::Result<()> {
    while at < end {
        let (mut source, mut target) = (at, at);
        let length = usize::try_from(end - at).unwrap_or(usize::MAX);
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), length)?;
        if copied == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += copied as u64;
    }
    Ok(())
}

fn directory(path: &Path) -> Result<(), DiskError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(DiskError::system("make", path))
}

/// Removes what was being made when somebody was killed.
fn sweep(dir: &Path) -> Result<(), DiskError> {
    let swept = (|| {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    })();
    swept.map_err(DiskError::system("tidy", dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn sound(disk: &Path) {
        let check = Command::new("e2fsck")
            .env("PATH", PATH)
            .arg("-fn")
            .arg(disk)
            .output()
            .unwrap();
        assert!(check.status.success(), "{check:?}");
    }

    #[test]
    fn a_disk_is_sparse_sound_and_of_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let disks = Disks::open(dir.path().join("templates")).unwrap();
        for (name, mib) in [("a", 8192), ("b", 8192), ("c", MIN_MIB)] {
            let path = dir.path().join(name);
            disks.make(mib, &path).unwrap();
            let metadata = path.metadata().unwrap();
            assert_eq!(metadata.len(), mib << 20);
            assert!(metadata.blocks() * 512 < 4 << 20, "{}", metadata.blocks());
            sound(&path);
        }
        let templates = fs::read_dir(dir.path().join("templates")).unwrap();
        assert_eq!(templates.count(), 2);
    }

    #[test]
    fn what_was_left_half_made_is_never_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        let templates = dir.path().join("templates");
        fs::create_dir(&templates).unwrap();
        // As a daemon leaves it that was killed in the middle.
        fs::write(templates.join("ext4-16.new"), "half").unwrap();
        fs::write(dir.path().join("disk.new"), "half, and longer").unwrap();
        let disks = Disks::open(templates.clone()).unwrap();
        assert_eq!(fs::read_dir(&templates).unwrap().count(), 0);
        let path = dir.path().join("disk");
        disks.make(16, &path).unwrap();
        sound(&path);
        assert!(!dir.path().join("disk.new").exists());
    }

    #[test]
    fn a_disk_that_cannot_be_made_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let disks = Disks::open(dir.path().join("templates")).unwrap();
        // Too small for mke2fs.
        let refusal = disks.make(0, &dir.path().join("disk")).unwrap_err();
        assert!(refusal.to_string().contains("0 MiB"), "{refusal}");
        assert!(disks.make(16, &dir.path().join("no/disk")).is_err());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn few_templates_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let disks = Disks::open(dir.path().join("templates")).unwrap();
        let path = dir.path().join("disk");
        for mib in 16..16 + TEMPLATES as u64 + 3 {
            disks.make(mib, &path).unwrap();
        }
        let templates = fs::read_dir(dir.path().join("templates")).unwrap();
        assert_eq!(templates.count(), TEMPLATES);
    }
}
