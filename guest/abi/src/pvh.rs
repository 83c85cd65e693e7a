//! PVH: the x86/HVM direct boot protocol (Xen `docs/misc/pvh.pandoc`, `public/arch-x86/hvm/start_info.h`).
//!
//! The guest's ELF file carries a note (owner `Xen`, type [`NOTE_TYPE`]) with the 32-bit physical entry
//! point. It is entered in 32-bit protected mode, paging off, interrupts off, flat segments, `ebx` holding
//! the guest-physical address of a [`StartInfo`].

/// ELF note type `XEN_ELFNOTE_PHYS32_ENTRY`.
pub const NOTE_TYPE: u32 = 18;
/// ELF note owner, its NUL included.
pub const NOTE_OWNER: &[u8; 4] = b"Xen\0";
/// ELF note owner of the library OS, its NUL included: a guest that wants its own file as its module, for its symbols.
pub const LIBRARY_OS_OWNER: &[u8; 6] = b"Shoal\0";
/// [`StartInfo::magic`]: "xEn3" with the 0x80 bit of the "E" set.
pub const START_MAGIC: u32 = 0x336E_C578;

/// `struct hvm_start_info`, version 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartInfo {
    /// [`START_MAGIC`].
    pub magic: u32,
    /// 1: the memory map is there.
    pub version: u32,
    /// Zero.
    pub flags: u32,
    /// How many [`Module`]s.
    pub module_count: u32,
    /// Address of the first [`Module`].
    pub modules: u64,
    /// Address of the command line, NUL-terminated.
    pub cmdline: u64,
    /// Address of the ACPI RSDP, or zero.
    pub rsdp: u64,
    /// Address of the first [`MemoryRange`].
    pub memory_map: u64,
    /// How many [`MemoryRange`]s.
    pub memory_map_count: u32,
    /// Zero.
    pub reserved: u32,
}

/// `struct hvm_modlist_entry`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Address of the module's first byte.
    pub start: u64,
    /// Its bytes.
    pub size: u64,
    /// Address of its command line, or zero.
    pub cmdline: u64,
    /// Zero.
    pub reserved: u64,
}

/// `struct hvm_memmap_table_entry`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryRange {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// One of `RANGE_*`.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

/// [`MemoryRange::kind`]: usable RAM.
pub const RANGE_RAM: u32 = 1;
/// [`MemoryRange::kind`]: keep away.
pub const RANGE_RESERVED: u32 = 2;
