//! Docker's rules for `cp`: what a source becomes at a target.
//!
//! | source | target is a directory | target is a file | nothing is there |
//! |---|---|---|---|
//! | a file | is put into it by its name | is overwritten | gets the target's name; not where that ends in `/` |
//! | a directory | is put into it by its name | refused | gets the target's name |
//! | `DIR/.` | its contents are put into it | refused | its contents become a directory of the target's name |
//!
//! A directory that the target's name is to be put into has to be there.

use super::place::Shape;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum There {
    Directory,
    /// Anything else that can be written over.
    File,
    Nothing,
}

/// What is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source<'a> {
    /// Its last name; the root has none.
    pub(crate) name: Option<&'a str>,
    /// Whether it is a directory.
    pub(crate) directory: bool,
    /// How it was written.
    pub(crate) shape: Shape,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Into the target, by this name.
    Into(String),
    /// Its contents, into the target.
    Contents,
    /// Into the directory that the target is in, by the target's name.
    Beside,
}

/// It cannot be copied there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    /// A file written as a directory.
    #[error("the source is not a directory, as the end of its path says")]
    SourceNotDirectory,
    /// A directory over a file.
    #[error("a directory cannot be copied over a file")]
    OverFile,
    /// A file's path with a slash behind it.
    #[error("the target is not a directory, as the end of its path says")]
    TargetNotDirectory,
    /// A new directory for a file.
    #[error(
        "the target's directory is not there, and a file is not copied into one that is made for it"
    )]
    NoDirectory,
}

/// Decides.
pub(crate) fn plan(source: Source<'_>, target: There, shape: Shape) -> Result<Plan, PlanError> {
    if !source.directory && source.shape != Shape::Plain {
        return Err(PlanError::SourceNotDirectory);
    }
    match (target, source.directory) {
        (There::Directory, _) => match source.name {
            Some(name) if source.shape != Shape::Contents => Ok(Plan::Into(name.to_owned())),
            _ => Ok(Plan::Contents),
        },
        (There::File, true) => Err(PlanError::OverFile),
        (There::File, false) if shape != Shape::Plain => Err(PlanError::TargetNotDirectory),
        (There::Nothing, false) if shape != Shape::Plain => Err(PlanError::NoDirectory),
        (There::File | There::Nothing, _) => Ok(Plan::Beside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(shape: Shape) -> Source<'static> {
        Source {
            name: Some("f"),
            directory: false,
            shape,
        }
    }

    fn dir(shape: Shape) -> Source<'static> {
        Source {
            name: Some("d"),
            directory: true,
            shape,
        }
    }

    #[test]
    fn the_rules_are_dockers() {
        use Shape::{Contents, Directory, Plain};
        use There::{File, Nothing};
        let into = |name: &str| Ok(Plan::Into(name.to_owned()));
        for (source, target, shape, expected) in [
            (file(Plain), There::Directory, Plain, into("f")),
            (file(Plain), There::Directory, Directory, into("f")),
            (file(Plain), File, Plain, Ok(Plan::Beside)),
            (
                file(Plain),
                File,
                Directory,
                Err(PlanError::TargetNotDirectory),
            ),
            (file(Plain), Nothing, Plain, Ok(Plan::Beside)),
            (file(Plain), Nothing, Directory, Err(PlanError::NoDirectory)),
            (
                file(Directory),
                Nothing,
                Plain,
                Err(PlanError::SourceNotDirectory),
            ),
            (
                file(Contents),
                There::Directory,
                Plain,
                Err(PlanError::SourceNotDirectory),
            ),
            (dir(Plain), There::Directory, Plain, into("d")),
            (dir(Directory), There::Directory, Directory, into("d")),
            (dir(Contents), There::Directory, Plain, Ok(Plan::Contents)),
            (dir(Plain), File, Plain, Err(PlanError::OverFile)),
            (dir(Contents), File, Plain, Err(PlanError::OverFile)),
            (dir(Plain), Nothing, Plain, Ok(Plan::Beside)),
            (dir(Plain), Nothing, Directory, Ok(Plan::Beside)),
            (dir(Contents), Nothing, Plain, Ok(Plan::Beside)),
        ] {
            assert_eq!(
                plan(source, target, shape),
                expected,
                "{source:?} {target:?} {shape:?}"
            );
        }
    }

    #[test]
    fn a_root_has_no_name_to_give() {
        let root = Source {
            name: None,
            directory: true,
            shape: Shape::Directory,
        };
        assert_eq!(
            plan(root, There::Directory, Shape::Plain),
            Ok(Plan::Contents)
        );
    }
}
