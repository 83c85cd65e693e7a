//! Files that change whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// The operating system refused something to the store.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}", path = path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// Gives an I/O error the action and the path that it lacks.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError {
            action,
            path: path.to_owned(),
            source,
        })
    }
}

/// Where the parts of a store are.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) blobs: PathBuf,
    pub(crate) roots: PathBuf,
    pub(crate) names: PathBuf,
    pub(crate) factory: PathBuf,
    tmp: PathBuf,
    lock: PathBuf,
}

impl Layout {
    /// Makes the folders that are not there.
    pub(crate) fn create(dir: &Path) -> Result<Self, FileError> {
        let layout = Self {
            blobs: dir.join("blobs"),
            roots: dir.join("roots"),
            names: dir.join("names"),
            factory: dir.join("factory"),
            tmp: dir.join("tmp"),
            lock: dir.join("lock"),
        };
        for folder in layout.folders() {
            // Images belong to whoever runs the store: nobody else has a reason to read them.
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(folder).at("create", folder)?;
        }
        Ok(layout)
    }

    fn folders(&self) -> [&Path; 5] {
        [
            &self.blobs,
            &self.roots,
            &self.names,
            &self.factory,
            &self.tmp,
        ]
    }

    /// Waits until nobody else changes the store; the lock goes with the file.
    pub(crate) fn exclusive(&self) -> Result<File, FileError> {
        let file = self.lock_file()?;
        file.lock().at("lock", &self.lock)?;
        Ok(file)
    }

    /// Waits until nobody changes the store; others may read too.
    pub(crate) fn shared(&self) -> Result<File, FileError> {
        let file = self.lock_file()?;
        file.lock_shared().at("lock", &self.lock)?;
        Ok(file)
    }

    fn lock_file(&self) -> Result<File, FileError> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.lock)
            .at("open", &self.lock)
    }

    /// A file to write to, removed when dropped. The caller holds the store's lock, so that no sweep comes between
    /// its making and its own lock.
    pub(crate) fn temporary(&self, _held: &File) -> Result<NamedTempFile, FileError> {
        let file = NamedTempFile::new_in(&self.tmp).at("create a file in", &self.tmp)?;
        file.as_file().lock().at("lock", file.path())?;
        Ok(file)
    }

    /// A file without a name, gone when closed.
    pub(crate) fn scratch(&self) -> Result<File, FileError> {
        tempfile::tempfile_in(&self.tmp).at("create a file in", &self.tmp)
    }

    /// Removes what writers that are gone left behind. The caller holds the store's lock.
    pub(crate) fn sweep(&self, _held: &File) -> Result<(), FileError> {
        for entry in fs::read_dir(&self.tmp).at("read", &self.tmp)? {
            let path = entry.at("read", &self.tmp)?.path();
            let Ok(file) = File::open(&path) else {
                // Its writer renamed or removed it just now.
                continue;
            };
            if file.try_lock().is_ok() {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Writes a small file so that it is there whole or not at all. The caller holds the store's lock.
    pub(crate) fn write(&self, held: &File, path: &Path, text: &str) -> Result<(), FileError> {
        let mut file = self.temporary(held)?;
        file.write_all(text.as_bytes()).at("write", file.path())?;
        place(file, path)
    }
}

/// Makes a written file permanent at `path`, replacing what is there.
pub(crate) fn place(file: NamedTempFile, path: &Path) -> Result<(), FileError> {
    file.as_file().sync_all().at("sync", file.path())?;
    file.persist(path)
        .map_err(|e| e.error)
        .at("rename a file to", path)?;
    sync_parent(path)
}

/// Takes every right to write away, the owner's too.
pub(crate) fn make_read_only(file: &NamedTempFile) -> Result<(), FileError> {
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o444))
        .at("set the mode of", file.path())
}

/// Removes a file for good; says whether it was there.
pub(crate) fn remove_if_there(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).at("remove", path),
    }
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|f| f.sync_all())
        .at("sync", folder)
}
