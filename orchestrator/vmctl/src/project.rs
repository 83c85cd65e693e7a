//! A guest program's project, as `vmctl new` writes it.
//!
//! It holds all that it needs: the library OS as of this vmctl is in its folder `shoal`, so that stock stable Rust
//! builds it anywhere.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Each file's path in a project, and its bytes.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// What the template calls itself; the project's name takes its place.
const PLACEHOLDER: &str = "my-guest";

/// Most bytes of a name: an image's.
const MAX_NAME: usize = 63;

/// Names that cargo, rustc or the project itself has for something else.
const TAKEN: [&str; 13] = [
    "abi",
    "alloc",
    "build",
    "core",
    "deps",
    "examples",
    "libos",
    "libos-build",
    "libos-macros",
    "proc_macro",
    "shoal",
    "std",
    "test",
];

/// Rust's words, which no crate can be called.
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// No project was written, and nothing of one is left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProjectError {
    /// Not a name that a crate and an image may have.
    #[error(
        "{0:?} cannot be a program's name: 1 to 63 of a-z, 0-9, '-' and '_', the first a letter"
    )]
    Name(String),
    /// A name that means something already.
    #[error("{0:?} cannot be a program's name: Rust or the library OS has it for something else")]
    Taken(String),
    /// Something is in the way.
    #[error("{path} is there and not empty: give another name, or remove it", path = .0.display())]
    Exists(PathBuf),
    /// The file system refused.
    #[error("cannot write {path}", path = .path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Writes a project into the folder `path`, whose last part is its name; gives that name.
pub(crate) fn write(path: &Path) -> Result<String, ProjectError> {
    let name = path.file_name().unwrap_or(path.as_os_str());
    let name = checked_name(&name.to_string_lossy())?;
    let told = |path: &Path| {
        let path = path.to_owned();
        move |source| ProjectError::Write { path, source }
    };
    if is_in_the_way(path) {
        return Err(ProjectError::Exists(path.to_owned()));
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // Written beside and renamed: a disk that is full half way leaves nothing.
    let beside = tempfile::Builder::new()
        .prefix(".vmctl-new-")
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent)
        .map_err(told(parent))?;
    for (file, bytes) in FILES {
        let to = beside.path().join(file);
        let folder = to.parent().unwrap_or(beside.path());
        fs::create_dir_all(folder).map_err(told(folder))?;
        fs::write(&to, named(file, bytes, &name)).map_err(told(&to))?;
    }
    // Over an empty folder too.
    fs::rename(beside.path(), path).map_err(told(path))?;
    Ok(name)
}

/// A file's bytes with the project's name in them; the library OS is nobody's to rename.
fn named(file: &str, bytes: &[u8], name: &str) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !file.starts_with("shoal/") => text.replace(PLACEHOLDER, name).into_bytes(),
        _ => bytes.to_owned(),
    }
}

fn checked_name(name: &str) -> Result<String, ProjectError> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let fits = name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(inner);
    if !fits {
        return Err(ProjectError::Name(
            name.chars().take(2 * MAX_NAME).collect(),
        ));
    }
    if TAKEN.contains(&name) || KEYWORDS.contains(&name) {
        return Err(ProjectError::Taken(name.to_owned()));
    }
    Ok(name.to_owned())
}

fn is_in_the_way(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) => e.kind() != io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_the_library_os_and_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("my-kv");
        // An empty folder is no obstacle.
        fs::create_dir(&path).unwrap();
        assert_eq!(write(&path).unwrap(), "my-kv");
        for file in [
            "Cargo.toml",
            "src/main.rs",
            "shoal/abi/Cargo.toml",
            "shoal/libos/Cargo.toml",
        ] {
            assert!(path.join(file).is_file(), "{file}");
        }
        let manifest = fs::read_to_string(path.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("name = \"my-kv\""), "{manifest}");
        assert!(!manifest.contains(PLACEHOLDER), "{manifest}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("precious"), "1").unwrap();
        assert!(matches!(write(&path), Err(ProjectError::Exists(_))));
        let file = dir.path().join("file");
        fs::write(&file, "1").unwrap();
        assert!(matches!(write(&file), Err(ProjectError::Exists(_))));
        let lost = dir.path().join("no/such/folder");
        assert!(matches!(write(&lost), Err(ProjectError::Write { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_name_must_do_for_a_crate_and_an_image() {
        for good in ["a", "my-kv", "kv_2"] {
            assert_eq!(checked_name(good).unwrap(), good);
        }
        for bad in [
            "",
            "2kv",
            "-kv",
            "My",
            "a b",
            "a/b",
            "..",
            "é",
            &"x".repeat(64),
        ] {
            assert!(
                matches!(checked_name(bad), Err(ProjectError::Name(_))),
                "{bad}"
            );
        }
        for taken in ["fn", "test", "libos", "core"] {
            assert!(
                matches!(checked_name(taken), Err(ProjectError::Taken(_))),
                "{taken}"
            );
        }
    }

    #[test]
    fn nothing_that_a_build_left_is_in_a_project() {
        assert!(
            FILES
                .iter()
                .all(|(path, _)| !path.split('/').any(|p| p == "target"))
        );
    }
}
