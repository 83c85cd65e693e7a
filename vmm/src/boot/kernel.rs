//! What a file is that a VM is to boot, and what its monitor must do with it.
//!
//! | file | entered by | gets |
//! |---|---|---|
//! | ELF with the library OS's note | PVH | its own file as module 0 |
//! | ELF with a PVH note | PVH | the initrd as module 0 |
//! | ELF of a Linux kernel (vmlinux) | 64-bit boot protocol | the initrd, a seed, an MP table |
//! | Linux bzImage | 64-bit boot protocol | the initrd, a seed, an MP table |

use super::bzimage::{self, BzImageError};
use super::elf::{self, Bounds, ElfError, Entry, Segment, Source};

/// A kernel, checked: it can be loaded as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Where it is entered, and how.
    pub entry: Entry,
    /// What to load: in the order of addresses, without overlaps, inside memory; never empty.
    pub segments: Vec<Segment>,
    /// Bytes of the whole file.
    pub file_size: u64,
    /// Whether it is the library OS.
    pub library_os: bool,
    /// Linux's setup header, where the file has one.
    pub header: Option<Vec<u8>>,
}

/// A file that cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// As ELF.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// As a bzImage.
    #[error(transparent)]
    BzImage(#[from] BzImageError),
}

impl Kernel {
    /// Checks a file for a guest with this memory.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn parse(file: &(impl Source + ?Sized), bounds: &Bounds) -> Result<Self, KernelError> {
        let file_size = file.size().map_err(ElfError::Read)?;
        let head = bzimage::head(file, file_size).map_err(ElfError::Read)?;
        if bzimage::is_one(&head) {
            let image = bzimage::parse(&head, file_size, bounds)?;
            return Ok(Self {
                entry: image.entry,
                segments: vec![image.segment],
                file_size: image.file_size,
                library_os: false,
                header: Some(image.header),
            });
        }
        let image = elf::parse(file, bounds)?;
        Ok(Self {
            entry: image.entry,
            segments: image.segments,
            file_size: image.file_size,
            library_os: image.library_os,
            header: None,
        })
    }

    /// The first address after all that it uses before it knows of its memory.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(0, Segment::end)
    }
}
