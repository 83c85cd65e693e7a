//! How images go: first their names, then their bytes.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::digest::Digest;
use crate::files::{At, FileError, remove_if_there};
use crate::image::{FindError, InspectError, Kind};
use crate::name::ImageName;
use crate::store::{Store, entries};

/// What [`Store::remove`] took away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The image, whose bytes stay until [`Store::gc`].
    pub digest: Digest,
    /// The names that it lost.
    pub names: Vec<ImageName>,
}

/// What [`Store::gc`] took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// The images.
    pub digests: Vec<Digest>,
    /// Their bytes together, and those of roots that went with them.
    pub bytes: u64,
}

impl Store {
    /// Takes a name away, or, given the beginning of a digest, all of that image's names. Bytes stay until
    /// [`Self::gc`]; whether an image is in use is for the caller to know.
    ///
    /// # Errors
    /// [`FindError`] where there is no such name or image.
    pub fn remove(&self, reference: &str) -> Result<Removed, FindError> {
        let _held = self.layout.exclusive()?;
        let name = reference.parse::<ImageName>().ok();
        let named = name.as_ref().map(|n| self.named(n)).transpose()?.flatten();
        let (digest, names) = match (name, named) {
            (Some(name), Some(digest)) => (digest, vec![name]),
            _ => {
                let digest = self.resolve(reference)?;
                let names = self.names_by_digest()?.remove(&digest);
                (digest, names.unwrap_or_default())
            }
        };
        for name in &names {
            remove_if_there(&self.name_file(name))?;
        }
        Ok(Removed { digest, names })
    }

    /// Removes the bytes of images that have no name and are not `in_use`, roots that no image names any more, and
    /// what a crash left over.
    ///
    /// # Errors
    /// [`InspectError`] where the store cannot be read or written to; a damaged name or manifest is one, because what
    /// it kept is unknown.
    pub fn gc(&self, in_use: &HashSet<Digest>) -> Result<Freed, InspectError> {
        let held = self.layout.exclusive()?;
        self.layout.sweep(&held)?;
        let names = self.names_by_digest()?;
        let (kept, unused): (Vec<Digest>, _) = self
            .digests()?
            .into_iter()
            .partition(|digest| names.contains_key(digest) || in_use.contains(digest));
        let mut roots = HashSet::new();
        for &digest in &kept {
            if self.image(digest, Vec::new())?.kind == Kind::Linux {
                roots.insert(self.manifest(digest)?.root);
            }
        }
        let mut freed = Freed::default();
        for digest in unused {
            freed.bytes += remove(&self.blob(digest))?;
            freed.digests.push(digest);
        }
        for root in entries::<Digest>(&self.layout.roots)? {
            if !roots.contains(&root) {
                freed.bytes += remove(&self.root(root))?;
            }
        }
        Ok(freed)
    }
}

/// Removes a file that is there, and says how large it was.
fn remove(path: &Path) -> Result<u64, FileError> {
    let size = fs::metadata(path).at("read the size of", path)?.len();
    remove_if_there(path)?;
    Ok(size)
}
