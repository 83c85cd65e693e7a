//! What makes an ELF file an image.

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, elf};

/// What booting an image takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Guest-physical address at which a monitor enters it.
    pub entry: u64,
    /// Bytes from the start of memory to the end of its last segment: a VM needs more than this.
    pub memory: u64,
}

/// Not an image.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Not an ELF file, or a damaged one.
    #[error("not a complete 64-bit x86-64 ELF file: {0}")]
    Malformed(String),
    /// Nothing to load.
    #[error("it has no segment to load")]
    NoSegment,
}

/// Checks that a monitor could boot `file`.
///
/// # Errors
/// [`ElfError`], the first thing that is wrong.
pub fn check(file: &File) -> Result<Facts, ElfError> {
    let malformed = |e: object::Error| ElfError::Malformed(e.to_string());
    let mut head = vec![0; 64 << 10];
    let read = file
        .read_at(&mut head, 0)
        .map_err(|e| ElfError::Malformed(e.to_string()))?;
    let data = &head[..read];
    let length = file.metadata().map_or(0, |m| m.len());
    let header = elf::FileHeader64::<LittleEndian>::parse(data).map_err(malformed)?;
    let mut memory = 0;
    for segment in header
        .program_headers(LittleEndian, data)
        .map_err(malformed)?
        .iter()
        .filter(|s| s.p_type(LittleEndian) == elf::PT_LOAD)
    {
        let (offset, bytes) = segment.file_range(LittleEndian);
        if offset.checked_add(bytes).is_none_or(|end| end > length) {
            return Err(ElfError::Malformed(
                "a segment ends past the file".to_owned(),
            ));
        }
        let end = segment
            .p_paddr(LittleEndian)
            .checked_add(segment.p_memsz(LittleEndian))
            .ok_or_else(|| ElfError::Malformed("a segment wraps".to_owned()))?;
        memory = memory.max(end);
    }
    if memory == 0 {
        return Err(ElfError::NoSegment);
    }
    Ok(Facts {
        entry: header.e_entry(LittleEndian),
        memory,
    })
}
