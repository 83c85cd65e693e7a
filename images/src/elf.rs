//! What makes an ELF file an image: that the monitor takes it.

use std::fs::File;

pub use vmm::boot::elf::ElfError;
use vmm::boot::elf::{self, Bounds};

/// What booting an image takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Guest-physical address at which a monitor enters it.
    pub entry: u64,
    /// Bytes from the start of memory to the end of its last segment: a VM needs more than this.
    pub memory: u64,
}

/// Checks that a monitor could boot `file` in some VM; whether a given VM has the memory is for its monitor to say.
///
/// # Errors
/// [`ElfError`], the first thing that is wrong.
pub fn check(file: &File) -> Result<Facts, ElfError> {
    let image = elf::parse(file, &Bounds::largest())?;
    Ok(Facts {
        entry: image.entry.address(),
        memory: image.end(),
    })
}
