//! What a bootable ELF file is: 64-bit, little-endian, x86-64, and a Linux kernel or one with a PVH note (`abi::pvh`).
//!
//! The one place where such a file is checked: for the monitor before it boots it, and for the image store
//! before it keeps it. [`parse`] is a pure function of the file's bytes and the bounds of memory: what it
//! returns can be loaded without another check.
//!
//! ```text
//! ELF header -> program headers -> PT_LOAD: segments -> sorted, apart, inside memory
//!            |                  \-> PT_NOTE: notes  \
//!            |-> section headers (only without one) --> PVH note -> entry, inside executable bytes
//!            \-> entry, where the segment there is linked into the upper half: Linux, as its boot protocol has it
//! ```
//!
//! Linux is entered by its own 64-bit protocol also where it has a PVH note: that protocol can hand over a seed for random
//! numbers, and PVH cannot. Other kernels of the upper half (FreeBSD's) name a virtual address as their entry, which is
//! in no segment's physical range.
//!
//! Source: ELF-64 object file format 1.5; notes as in `abi::pvh`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use abi::layout;
use object::LittleEndian as LE;
use object::elf::{
    EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, NoteHeader64, PF_X, PT_LOAD, PT_NOTE,
    ProgramHeader64, SHT_NOTE, SectionHeader64,
};
use object::pod::{self, Pod};

/// Most program headers that are read: a kernel has five, a Rust program ten.
pub const MAX_SEGMENTS: u16 = 64;
/// Most section headers that are read, where notes must be looked for there.
pub const MAX_SECTIONS: u16 = 4096;
/// Where the upper half of the address space begins: a kernel's.
const UPPER_HALF: u64 = 0xFFFF_8000_0000_0000;
/// Most bytes of one group of notes.
pub const MAX_NOTES: u64 = 64 << 10;

/// Where the bytes of a file come from.
pub trait Source {
    /// How many bytes there are.
    ///
    /// # Errors
    /// As the file system has it.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// Where there are fewer bytes, or the file system fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Source for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl Source for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

/// The guest-physical ranges that an image may lie in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds([Range<u64>; 2]);

impl Bounds {
    /// What a guest with `bytes` of memory has for its image: from 1 MiB on, less the hole below 4 GiB.
    #[must_use]
    pub fn of_memory(bytes: u64) -> Self {
        let low = bytes.min(layout::LOW_RAM_END);
        let high = bytes.saturating_sub(layout::LOW_RAM_END);
        Self([
            layout::IMAGE_START..low,
            layout::HIGH_RAM_START..layout::HIGH_RAM_START.saturating_add(high),
        ])
    }

    /// The bounds of the largest guest: for an image whose guest is not known yet.
    #[must_use]
    pub fn largest() -> Self {
        Self::of_memory(crate::spec::MemorySize::MAX_MIB << 20)
    }

    /// Whether all of `range` is in the memory below 4 GiB.
    pub(super) fn hold_low(&self, range: &Range<u64>) -> bool {
        self.0[0].start <= range.start && range.end <= self.0[0].end
    }

    /// The end of the memory below 4 GiB.
    pub(super) fn low_end(&self) -> u64 {
        self.0[0].end
    }

    fn hold(&self, range: &Range<u64>) -> bool {
        self.0
            .iter()
            .any(|r| r.start <= range.start && range.end <= r.end)
    }
}

/// A part of the file that belongs into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where its bytes are in the file.
    pub offset: u64,
    /// How many bytes the file has of it; what memory has more is zero.
    pub file_size: u64,
    /// Guest-physical address.
    pub address: u64,
    /// Bytes in memory, at least `file_size`.
    pub memory_size: u64,
    /// Whether it holds instructions.
    pub executable: bool,
    /// Whether it is linked to run in the upper half of the address space, as a kernel is.
    pub upper_half: bool,
}

impl Segment {
    /// The first address after it.
    #[must_use]
    pub fn end(&self) -> u64 {
        // `parse` refused what wraps.
        self.address + self.memory_size
    }
}

/// Where and how a kernel is entered; addresses are guest-physical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// By PVH (`abi::pvh`), at 32 bits.
    Pvh(u32),
    /// By Linux's 64-bit boot protocol.
    Linux(u64),
}

impl Entry {
    /// The address.
    #[must_use]
    pub fn address(self) -> u64 {
        match self {
            Self::Pvh(address) => address.into(),
            Self::Linux(address) => address,
        }
    }
}

/// A file that can be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it is entered.
    pub entry: Entry,
    /// What to load: in the order of addresses, without overlaps, inside the bounds.
    pub segments: Vec<Segment>,
    /// Bytes of the whole file.
    pub file_size: u64,
    /// Whether it is the library OS (`abi::pvh::LIBRARY_OS_OWNER`), which wants its own file as a module.
    pub library_os: bool,
}

impl Image {
    /// The first address after the last segment.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(0, Segment::end)
    }
}

/// Why a file cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The file could not be read.
    #[error("the image cannot be read")]
    Read(#[source] io::Error),
    /// Not ELF.
    #[error("neither an ELF file nor a Linux bzImage: it begins with {0:02x?}")]
    Magic([u8; 4]),
    /// Of another class or byte order.
    #[error("not a 64-bit little-endian ELF file: class {class}, data {data}")]
    Class {
        /// `EI_CLASS`.
        class: u8,
        /// `EI_DATA`.
        data: u8,
    },
    /// For another machine.
    #[error("not for x86-64: machine {0}")]
    Machine(u16),
    /// Not a program.
    #[error("not an executable: ELF type {0}")]
    Kind(u16),
    /// The header's own sizes make no sense.
    #[error("{what} of {size} bytes, {expected} were expected")]
    HeaderSize {
        /// Which header.
        what: &'static str,
        /// What the file says.
        size: u16,
        /// What it is.
        expected: usize,
    },
    /// No, or too many, headers.
    #[error("{count} {what}, 1 to {max} are allowed")]
    Count {
        /// Which headers.
        what: &'static str,
        /// What the file says.
        count: u16,
        /// The most.
        max: u16,
    },
    /// Something lies beyond the file's end.
    #[error("truncated: {what} need {size} bytes at {offset:#x}, the file has {file}")]
    Truncated {
        /// What.
        what: &'static str,
        /// Where.
        offset: u64,
        /// How many bytes.
        size: u64,
        /// The file's bytes.
        file: u64,
    },
    /// A segment with more in the file than in memory.
    #[error("segment {index} has {file_size} bytes in the file but {memory_size} in memory")]
    SegmentSize {
        /// Its program header.
        index: usize,
        /// Bytes in the file.
        file_size: u64,
        /// Bytes in memory.
        memory_size: u64,
    },
    /// A segment that wraps, or lies where the guest has no memory.
    #[error("segment {index} of {size:#x} bytes at {address:#x} is outside the guest's memory")]
    SegmentOutside {
        /// Its program header.
        index: usize,
        /// Its address.
        address: u64,
        /// Its bytes in memory.
        size: u64,
    },
    /// Two segments in one place.
    #[error("segments overlap at {0:#x}")]
    SegmentsOverlap(u64),
    /// Nothing to load.
    #[error("no loadable segment")]
    NoSegment,
    /// Notes of absurd length.
    #[error("notes of {0} bytes, {MAX_NOTES} are allowed")]
    NotesSize(u64),
    /// No note with the entry point.
    #[error(
        "neither a PVH note (owner Xen, type {}) nor a Linux kernel's entry",
        abi::pvh::NOTE_TYPE
    )]
    NoNote,
    /// A note of the right kind whose content is not an address.
    #[error("the PVH note holds {0} bytes, 4 or 8 were expected")]
    NoteSize(usize),
    /// An entry point where there is no code.
    #[error("the entry point {0:#x} is not inside an executable segment")]
    Entry(u64),
}

/// Checks a file, and says what to load and where to enter it.
///
/// # Errors
/// [`ElfError`], the first that is found.
pub fn parse(file: &(impl Source + ?Sized), bounds: &Bounds) -> Result<Image, ElfError> {
    let reader = Reader {
        file,
        size: file.size().map_err(ElfError::Read)?,
    };
    let header = reader.header()?;
    let programs = reader.programs(&header)?;
    let segments = segments(&reader, &programs, bounds)?;
    let holder = |entry: u64| {
        segments
            .iter()
            .find(|s| s.executable && entry >= s.address && entry - s.address < s.file_size)
    };
    let own = header.e_entry.get(LE);
    let linux = holder(own).is_some_and(|s| s.upper_half);
    let mut notes = Notes::default();
    let entry = if linux {
        Entry::Linux(own)
    } else {
        notes.of_programs(&reader, &programs)?;
        if notes.pvh.is_none() {
            notes.of_sections(&reader, &header)?;
        }
        let entry = notes.pvh.ok_or(ElfError::NoNote)?;
        match u32::try_from(entry) {
            Ok(address) if holder(entry).is_some() => Entry::Pvh(address),
            _ => return Err(ElfError::Entry(entry)),
        }
    };
    Ok(Image {
        entry,
        segments,
        file_size: reader.size,
        library_os: notes.library_os,
    })
}

/// A file whose length is known.
struct Reader<'a, S: ?Sized> {
    file: &'a S,
    size: u64,
}

impl<S: Source + ?Sized> Reader<'_, S> {
    fn check(&self, what: &'static str, offset: u64, size: u64) -> Result<(), ElfError> {
        match offset.checked_add(size) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(ElfError::Truncated {
                what,
                offset,
                size,
                file: self.size,
            }),
        }
    }

    fn bytes(&self, what: &'static str, offset: u64, size: u64) -> Result<Vec<u8>, ElfError> {
        self.check(what, offset, size)?;
        // Every caller bounds `size`; what is inside the file fits the address space.
        let mut bytes = vec![0; size as usize];
        self.file
            .read_at(offset, &mut bytes)
            .map_err(ElfError::Read)?;
        Ok(bytes)
    }

    fn table<T: Pod>(&self, what: &'static str, offset: u64, n: u16) -> Result<Vec<T>, ElfError> {
        let size = u64::from(n) * size_of::<T>() as u64;
        let bytes = self.bytes(what, offset, size)?;
        // The types have alignment one, and the length is a whole number of them.
        Ok(pod::slice_from_all_bytes::<T>(&bytes)
            .map(<[T]>::to_vec)
            .unwrap_or_default())
    }

    fn header(&self) -> Result<FileHeader64<LE>, ElfError> {
        let mut magic = [0; 4];
        let start = self.bytes("identification", 0, self.size.min(4))?;
        magic[..start.len()].copy_from_slice(&start);
        if magic != object::elf::ELFMAG {
            return Err(ElfError::Magic(magic));
        }
        let bytes = self.bytes("ELF header", 0, size_of::<FileHeader64<LE>>() as u64)?;
        let (class, data) = (bytes[4], bytes[5]);
        if (class, data) != (2, 1) {
            return Err(ElfError::Class { class, data });
        }
        let (header, _) =
            pod::from_bytes::<FileHeader64<LE>>(&bytes).map_err(|()| ElfError::Magic(magic))?;
        let machine = header.e_machine.get(LE);
        if machine != EM_X86_64 {
            return Err(ElfError::Machine(machine.0));
        }
        let kind = header.e_type.get(LE);
        if kind != ET_EXEC && kind != ET_DYN {
            return Err(ElfError::Kind(kind.0));
        }
        Ok(*header)
    }

    fn programs(&self, header: &FileHeader64<LE>) -> Result<Vec<ProgramHeader64<LE>>, ElfError> {
        check_size::<ProgramHeader64<LE>>("program headers", header.e_phentsize.get(LE))?;
        let count = header.e_phnum.get(LE);
        check_count("program headers", count, MAX_SEGMENTS)?;
        self.table("program headers", header.e_phoff.get(LE), count)
    }
}

fn check_size<T>(what: &'static str, size: u16) -> Result<(), ElfError> {
    let expected = size_of::<T>();
    if usize::from(size) == expected {
        Ok(())
    } else {
        Err(ElfError::HeaderSize {
            what,
            size,
            expected,
        })
    }
}

fn check_count(what: &'static str, count: u16, max: u16) -> Result<(), ElfError> {
    if (1..=max).contains(&count) {
        Ok(())
    } else {
        Err(ElfError::Count { what, count, max })
    }
}

/// The loadable segments, sorted and checked.
fn segments<S: Source + ?Sized>(
    reader: &Reader<'_, S>,
    programs: &[ProgramHeader64<LE>],
    bounds: &Bounds,
) -> Result<Vec<Segment>, ElfError> {
    let mut segments = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        let memory_size = program.p_memsz.get(LE);
        if program.p_type.get(LE) != PT_LOAD || memory_size == 0 {
            continue;
        }
        let (offset, file_size) = (program.p_offset.get(LE), program.p_filesz.get(LE));
        if file_size > memory_size {
            return Err(ElfError::SegmentSize {
                index,
                file_size,
                memory_size,
            });
        }
        reader.check("segments", offset, file_size)?;
        let address = program.p_paddr.get(LE);
        let inside = address
            .checked_add(memory_size)
            .is_some_and(|end| bounds.hold(&(address..end)));
        if !inside {
            return Err(ElfError::SegmentOutside {
                index,
                address,
                size: memory_size,
            });
        }
        segments.push(Segment {
            offset,
            file_size,
            address,
            memory_size,
            executable: program.p_flags.get(LE).contains(PF_X),
            upper_half: program.p_vaddr.get(LE) >= UPPER_HALF,
        });
    }
    segments.sort_unstable_by_key(|s: &Segment| s.address);
    let overlap = segments
        .windows(2)
        .find(|pair| pair[0].end() > pair[1].address);
    match overlap {
        Some(pair) => Err(ElfError::SegmentsOverlap(pair[1].address)),
        None if segments.is_empty() => Err(ElfError::NoSegment),
        None => Ok(segments),
    }
}

/// What a file's notes say.
#[derive(Default)]
struct Notes {
    /// The PVH entry point; the first counts.
    pvh: Option<u64>,
    library_os: bool,
}

impl Notes {
    fn of_programs<S: Source + ?Sized>(
        &mut self,
        reader: &Reader<'_, S>,
        programs: &[ProgramHeader64<LE>],
    ) -> Result<(), ElfError> {
        for program in programs.iter().filter(|p| p.p_type.get(LE) == PT_NOTE) {
            let (offset, size) = (program.p_offset.get(LE), program.p_filesz.get(LE));
            self.read(reader, offset, size, program.p_align.get(LE))?;
        }
        Ok(())
    }

    fn of_sections<S: Source + ?Sized>(
        &mut self,
        reader: &Reader<'_, S>,
        header: &FileHeader64<LE>,
    ) -> Result<(), ElfError> {
        let (offset, count) = (header.e_shoff.get(LE), header.e_shnum.get(LE));
        if offset == 0 || count == 0 {
            return Ok(());
        }
        check_size::<SectionHeader64<LE>>("section headers", header.e_shentsize.get(LE))?;
        check_count("section headers", count, MAX_SECTIONS)?;
        let sections: Vec<SectionHeader64<LE>> = reader.table("section headers", offset, count)?;
        for section in sections.iter().filter(|s| s.sh_type.get(LE) == SHT_NOTE) {
            let (offset, size) = (section.sh_offset.get(LE), section.sh_size.get(LE));
            self.read(reader, offset, size, section.sh_addralign.get(LE))?;
        }
        Ok(())
    }

    /// Takes what one group of notes says.
    fn read<S: Source + ?Sized>(
        &mut self,
        reader: &Reader<'_, S>,
        offset: u64,
        size: u64,
        align: u64,
    ) -> Result<(), ElfError> {
        if size > MAX_NOTES {
            return Err(ElfError::NotesSize(size));
        }
        let bytes = reader.bytes("notes", offset, size)?;
        // Notes of 4-byte alignment are what everybody writes; 8 is what the format says for 64-bit files.
        let align = if align == 8 { 8 } else { 4 };
        let mut rest = &bytes[..];
        while let Some(note) = next_note(rest, align) {
            rest = note.tail;
            if note.owner == abi::pvh::LIBRARY_OS_OWNER {
                self.library_os = true;
            }
            if note.owner == abi::pvh::NOTE_OWNER
                && note.kind == abi::pvh::NOTE_TYPE
                && self.pvh.is_none()
            {
                self.pvh = Some(match *note.content {
                    [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
                    [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                    _ => return Err(ElfError::NoteSize(note.content.len())),
                });
            }
        }
        Ok(())
    }
}

/// A note.
struct Note<'a> {
    kind: u32,
    owner: &'a [u8],
    content: &'a [u8],
    /// What follows it.
    tail: &'a [u8],
}

/// The first note of `bytes`.
fn next_note(bytes: &[u8], align: usize) -> Option<Note<'_>> {
    let (note, _) = pod::from_bytes::<NoteHeader64<LE>>(bytes).ok()?;
    let name = size_of::<NoteHeader64<LE>>();
    let name_end = name.checked_add(note.n_namesz.get(LE) as usize)?;
    let content = name_end.checked_next_multiple_of(align)?;
    let content_end = content.checked_add(note.n_descsz.get(LE) as usize)?;
    let next = content_end.checked_next_multiple_of(align)?;
    Some(Note {
        kind: note.n_type.get(LE).0,
        owner: bytes.get(name..name_end)?,
        content: bytes.get(content..content_end)?,
        // The last note's padding may be missing.
        tail: bytes.get(next..).unwrap_or_default(),
    })
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
