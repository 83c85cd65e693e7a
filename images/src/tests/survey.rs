//! What a directory holds, in words that can be compared.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A line of words for each path beneath `root`, the root's own under `""`.
pub(super) fn survey(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut first_names = HashMap::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let kind = metadata.file_type();
        let what = if kind.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            ahead.extend(entries.map(|e| e.unwrap().path()));
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("link {:?}", fs::read_link(&path).unwrap())
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            format!("file {} {}", bytes.len(), crate::Digest::of(&bytes).short())
        } else {
            let kind = [
                (kind.is_char_device(), "char"),
                (kind.is_block_device(), "block"),
                (kind.is_fifo(), "fifo"),
            ];
            let kind = kind.iter().find(|(is, _)| *is).unwrap().1;
            format!("{kind} {:#x}", metadata.rdev())
        };
        // Which names are one file's, whatever its number.
        if !kind.is_dir() {
            let names: &mut Vec<String> = first_names.entry(metadata.ino()).or_default();
            names.push(name.clone());
        }
        let line = format!(
            "{what} {:o} {}:{} at {}.{:09} x{} {:?}",
            metadata.mode() & 0o7777,
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.nlink(),
            xattrs(&path),
        );
        found.insert(name, line);
    }
    for mut names in first_names.into_values() {
        names.sort();
        for name in &names {
            let line = found.get_mut(name).unwrap();
            line.push_str(&format!(" = {}", names[0]));
        }
    }
    found
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0; 64 << 10];
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let length = rustix::fs::llistxattr(&path, list.as_mut_slice()).unwrap_or(0);
    let names = list[..length].split(|&b| b == 0).filter(|n| !n.is_empty());
    let read = names.map(|name| {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(&path, OsStr::from_bytes(name), value.as_mut_slice());
        value.truncate(length.unwrap());
        (String::from_utf8(name.to_vec()).unwrap(), value)
    });
    read.collect()
}

/// A mounted erofs.
pub(super) struct Mounted(TempDir);

impl Mounted {
    /// Mounts it where this process may and the kernel can; says so where not.
    pub(super) fn new(image: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return None;
        }
        let dir = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "erofs", "-o", "loop,ro,nodev,nosuid"]);
        let output = mount.arg(image).arg(dir.path()).output().unwrap();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                said.contains("unknown filesystem") || said.contains("loop device"),
                "{said}"
            );
            eprintln!("skipped: {said}");
            return None;
        }
        Some(Self(dir))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.0.path()).status();
        assert!(status.is_ok_and(|s| s.success()), "it stays mounted");
    }
}

/// Whether a program is there; says so where not.
pub(super) fn is_there(program: &str, package: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        let mut folders = std::env::split_paths(&path);
        folders.any(|folder| folder.join(program).exists())
    });
    if !found {
        eprintln!("skipped: {program} is missing (package {package})");
    }
    found
}

/// What a program says, which must succeed.
pub(super) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A file system's own check of an image.
pub(super) fn fsck(image: &Path) {
    if is_there("fsck.erofs", "erofs-utils") {
        run(Command::new("fsck.erofs").arg("--extract").arg(image));
    }
}
