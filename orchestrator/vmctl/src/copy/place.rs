//! What a word of `vmctl cp` means.

use std::path::PathBuf;
use std::str::FromStr;

/// Where files come from, or go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A path in a VM: absolute, without `.` and `..`; `shape` is what these said.
    Guest {
        /// The VM.
        vm: String,
        /// The path.
        path: String,
        /// How it was written.
        shape: Shape,
    },
    /// A path on this host.
    Host(PathBuf, Shape),
    /// A tar archive on the standard input or output.
    Stream,
}

/// How a path ends, which says what is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// What is there.
    Plain,
    /// `/`: a directory.
    Directory,
    /// `/.`: what is in a directory.
    Contents,
}

/// Not a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlaceError {
    /// Nothing.
    #[error("an empty path: give VM:/path, a path on this host, or - for a tar archive")]
    Empty,
    /// No path after the VM.
    #[error("{0:?} has no path after its VM: {0}/ is the VM's root")]
    NoPath(String),
    /// Not for a C program.
    #[error("{0:?} has a NUL in it, which no path has")]
    Nul(String),
}

impl FromStr for Place {
    type Err = PlaceError;

    /// `-`, `VM:path` or a path; one on this host with a colon in it begins with `/` or `./`.
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if text.is_empty() {
            return Err(PlaceError::Empty);
        }
        if text.contains('\0') {
            return Err(PlaceError::Nul(text.to_owned()));
        }
        if text == "-" {
            return Ok(Self::Stream);
        }
        match text.split_once(':') {
            Some((vm, path)) if !vm.is_empty() && !vm.contains('/') && !vm.starts_with('.') => {
                if path.is_empty() {
                    return Err(PlaceError::NoPath(text.to_owned()));
                }
                Ok(Self::Guest {
                    vm: vm.to_owned(),
                    path: clean(path),
                    shape: Shape::of(path),
                })
            }
            _ => Ok(Self::Host(text.into(), Shape::of(text))),
        }
    }
}

impl Shape {
    fn of(path: &str) -> Self {
        if path == "." || path.ends_with("/.") {
            Self::Contents
        } else if path.ends_with('/') {
            Self::Directory
        } else {
            Self::Plain
        }
    }
}

/// An absolute path without `.`, `..` and doubled slashes; one that was relative begins at the root, as docker's.
pub(crate) fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The directory that a clean path is in, and its name there; a root has none.
pub(crate) fn split(path: &str) -> Option<(&str, &str)> {
    let (dir, name) = path.rsplit_once('/')?;
    if name.is_empty() {
        return None;
    }
    Some((if dir.is_empty() { "/" } else { dir }, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guest(vm: &str, path: &str, shape: Shape) -> Place {
        Place::Guest {
            vm: vm.into(),
            path: path.into(),
            shape,
        }
    }

    #[test]
    fn words_are_read_as_dockers() {
        for (text, place) in [
            ("-", Place::Stream),
            ("web:/etc/hosts", guest("web", "/etc/hosts", Shape::Plain)),
            ("web:etc/", guest("web", "/etc", Shape::Directory)),
            ("web:/a/./b/../c/.", guest("web", "/a/c", Shape::Contents)),
            ("web:/", guest("web", "/", Shape::Directory)),
            ("web:/../..", guest("web", "/", Shape::Plain)),
            ("a/b:c", Place::Host("a/b:c".into(), Shape::Plain)),
            ("./a:b", Place::Host("./a:b".into(), Shape::Plain)),
            (":x", Place::Host(":x".into(), Shape::Plain)),
            (".", Place::Host(".".into(), Shape::Contents)),
            ("dir/", Place::Host("dir/".into(), Shape::Directory)),
        ] {
            assert_eq!(text.parse(), Ok(place), "{text}");
        }
        assert_eq!("".parse::<Place>(), Err(PlaceError::Empty));
        assert_eq!(
            "web:".parse::<Place>(),
            Err(PlaceError::NoPath("web:".into()))
        );
    }

    #[test]
    fn a_path_is_a_directory_and_a_name() {
        assert_eq!(split("/etc/hosts"), Some(("/etc", "hosts")));
        assert_eq!(split("/etc"), Some(("/", "etc")));
        assert_eq!(split("/"), None);
    }

    proptest! {
        #[test]
        fn a_guests_path_is_absolute_and_never_leaves_the_root(text in "vm:[a./]{1,20}") {
            match text.parse::<Place>().unwrap() {
                Place::Guest { path, .. } => {
                    prop_assert!(path.starts_with('/'));
                    prop_assert!(path.split('/').skip(1).all(|p| p != "." && p != ".."));
                    prop_assert_eq!(clean(&path), path);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
