//! A kernel, its initrd and what its boot protocol hands over, into guest memory.

use std::fs::File;
use std::io;

use abi::layout;
use abi::pvh::{MemoryRange, Module, RANGE_RAM, RANGE_RESERVED, START_MAGIC, StartInfo};
use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, VolatileSlice,
};

use super::elf::{Bounds, Entry, Segment, Source};
use super::initrd::{self, InitrdError};
use super::kernel::Kernel;
use super::{linux, mptable};
use crate::machine::memory::Memory;

/// Where the module list is: behind the start information, in its page.
const MODULES: u64 = layout::START_INFO + 0x100;

/// Memory could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The image's bytes could not be read.
    #[error("the image's segment at {address:#x} cannot be read")]
    Segment {
        /// Its address.
        address: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The initrd's bytes could not be read.
    #[error("the initrd cannot be read")]
    InitrdRead(#[source] io::Error),
    /// The initrd cannot be given to this guest.
    #[error(transparent)]
    Initrd(#[from] InitrdError),
    /// The host gave no random numbers.
    #[error("the host has no random numbers for a seed")]
    Seed(#[source] io::Error),
    /// The guest has no memory at a place that the ABI names.
    #[error("guest memory cannot be written")]
    Memory(#[from] vm_memory::guest_memory::Error),
    /// The devices' words and the launcher's together are too long.
    #[error("the command line has {0} bytes with its devices, {max} fit", max = layout::CMDLINE_MAX - 1)]
    CommandLine(usize),
}

/// An initrd in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initrd {
    /// Its first byte.
    pub address: u64,
    /// Its bytes.
    pub size: u64,
}

/// Copies every segment to its place. What the file does not have is zero already: the memory is new.
///
/// # Errors
/// [`LoadError`]; the guest is not to be run then.
pub fn image(memory: &Memory, file: &File, segments: &[Segment]) -> Result<(), LoadError> {
    for segment in segments {
        let address = GuestAddress(segment.address);
        let slice = memory.get_slice(address, segment.file_size as usize)?;
        read_exact_at(file, segment.offset, &slice).map_err(|source| LoadError::Segment {
            address: segment.address,
            source,
        })?;
    }
    Ok(())
}

/// Copies an initrd beside a kernel that ends at `kernel_end`.
///
/// # Errors
/// [`LoadError`]; the guest is not to be run then.
pub fn initrd(
    memory: &Memory,
    file: &File,
    kernel_end: u64,
    bounds: &Bounds,
) -> Result<Initrd, LoadError> {
    let size = file.size().map_err(LoadError::InitrdRead)?;
    let address = initrd::place(size, kernel_end, bounds)?;
    let slice = memory.get_slice(GuestAddress(address), size as usize)?;
    read_exact_at(file, 0, &slice).map_err(LoadError::InitrdRead)?;
    Ok(Initrd { address, size })
}

/// What a guest is handed beside its kernel.
#[derive(Clone, Copy, Debug)]
pub struct Handover<'a> {
    /// The command line, with the devices in it.
    pub cmdline: &'a str,
    /// Bytes of the library OS's own file, where it is mapped.
    pub module: Option<u64>,
    /// The initrd, where there is one.
    pub initrd: Option<Initrd>,
    /// How many processors there are.
    pub vcpus: u8,
}

/// Writes what the kernel's protocol hands over, where the ABI or the protocol has it; gives the address of it that the first processor
/// takes along.
///
/// # Errors
/// [`LoadError`]; the guest is not to be run then.
pub fn hand_over(memory: &Memory, kernel: &Kernel, what: Handover<'_>) -> Result<u64, LoadError> {
    if what.cmdline.len() >= layout::CMDLINE_MAX {
        return Err(LoadError::CommandLine(what.cmdline.len()));
    }
    memory.write_slice(what.cmdline.as_bytes(), GuestAddress(layout::CMDLINE))?;
    if !kernel.library_os {
        let table = mptable::table(what.vcpus);
        memory.write_slice(&table, GuestAddress(mptable::ADDRESS))?;
    }
    match kernel.entry {
        Entry::Pvh(_) => {
            let module = match (what.module, what.initrd) {
                (Some(size), _) => Some((layout::MODULE_START, size)),
                (None, initrd) => initrd.map(|initrd| (initrd.address, initrd.size)),
            };
            let map = memory_map(memory, what.module.is_some());
            start_info(memory, &map, module)?;
            Ok(layout::START_INFO)
        }
        Entry::Linux(_) => {
            let mut seed = [0; 32];
            rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
                .map_err(|error| LoadError::Seed(error.into()))?;
            let map = memory_map(memory, false);
            linux::write(memory, kernel.header.as_deref(), &map, what.initrd, &seed)?;
            Ok(linux::ZERO_PAGE)
        }
    }
}

/// Fills `slice` from the file, straight into guest memory.
fn read_exact_at(file: &File, offset: u64, slice: &VolatileSlice<'_>) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let guard = slice.ptr_guard_mut();
    let mut done = 0;
    while done < slice.len() {
        // SAFETY: the guard's pointer is valid for `len` bytes while it lives, and `done` is less; memory of a
        // guest has no Rust references to it.
        let read = unsafe {
            libc::pread(
                file.as_raw_fd(),
                guard.as_ptr().add(done).cast(),
                slice.len() - done,
                (offset as usize + done) as libc::off_t,
            )
        };
        match read {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            -1 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            read => done += read.unsigned_abs(),
        }
    }
    Ok(())
}

/// Writes PVH's start information, with the memory map and one module at most: its address and size.
fn start_info(
    memory: &Memory,
    map: &[MemoryRange],
    module: Option<(u64, u64)>,
) -> Result<(), LoadError> {
    for (range, at) in map
        .iter()
        .zip((layout::MEMORY_MAP..).step_by(size_of::<MemoryRange>()))
    {
        memory.write_slice(&range_bytes(range), GuestAddress(at))?;
    }
    if let Some((address, size)) = module {
        let words = [address, size, 0, 0];
        memory.write_slice(&words.map(u64::to_le_bytes).concat(), GuestAddress(MODULES))?;
    }
    let info = StartInfo {
        magic: START_MAGIC,
        version: 1,
        module_count: u32::from(module.is_some()),
        modules: if module.is_some() { MODULES } else { 0 },
        cmdline: layout::CMDLINE,
        memory_map: layout::MEMORY_MAP,
        memory_map_count: map.len() as u32,
        ..StartInfo::default()
    };
    memory.write_slice(&info_bytes(&info), GuestAddress(layout::START_INFO))?;
    Ok(())
}

fn memory_map(memory: &Memory, module: bool) -> Vec<MemoryRange> {
    let range = |start: u64, end: u64, kind| MemoryRange {
        start,
        size: end - start,
        kind,
        reserved: 0,
    };
    let mut map = vec![
        range(0, layout::LOW_MEMORY_END, RANGE_RAM),
        range(layout::LOW_MEMORY_END, layout::IMAGE_START, RANGE_RESERVED),
    ];
    for region in memory.iter() {
        let start = region.start_addr().raw_value().max(layout::IMAGE_START);
        let end = region.start_addr().raw_value() + region.len();
        map.push(range(start, end, RANGE_RAM));
    }
    if module {
        let end = layout::MODULE_START + layout::MODULE_MAX;
        map.push(range(layout::MODULE_START, end, RANGE_RESERVED));
    }
    map.sort_unstable_by_key(|r| r.start);
    map
}

fn range_bytes(range: &MemoryRange) -> [u8; size_of::<MemoryRange>()] {
    let mut bytes = [0; size_of::<MemoryRange>()];
    bytes[..8].copy_from_slice(&range.start.to_le_bytes());
    bytes[8..16].copy_from_slice(&range.size.to_le_bytes());
    bytes[16..20].copy_from_slice(&range.kind.to_le_bytes());
    bytes
}

fn info_bytes(info: &StartInfo) -> Vec<u8> {
    let words = [info.magic, info.version, info.flags, info.module_count];
    let addresses = [info.modules, info.cmdline, info.rsdp, info.memory_map];
    [
        words.map(u32::to_le_bytes).concat(),
        addresses.map(u64::to_le_bytes).concat(),
        [info.memory_map_count, info.reserved]
            .map(u32::to_le_bytes)
            .concat(),
    ]
    .concat()
}

/// Bytes that the layout of [`Module`] and [`StartInfo`] must have for the writes above to be right.
const _: () = assert!(size_of::<StartInfo>() == 56 && size_of::<Module>() == 32);
