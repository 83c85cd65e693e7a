//! Linux's 64-bit boot protocol: the zero page, a seed, page tables and descriptors, and the words that our kernel wants.
//!
//! ```text
//! 0x7000  zero page: setup header, memory map, where command line, initrd and seed are
//! 0x8000  seed: random numbers of the host, which the kernel takes and clears
//! 0x9000  descriptors: code 0x10, data 0x18
//! 0xA000  page tables: the first 4 GiB, identity, in pages of 2 MiB
//! ```
//! All of it lies in the first MiB, which Linux keeps for itself until it needs it no more.
//!
//! Source: Linux `Documentation/x86/boot.rst` (64-bit boot protocol), `zero-page.rst`.

use abi::pvh::MemoryRange;
use vm_memory::{Bytes, GuestAddress};

use super::bzimage;
use super::load::{Initrd, LoadError};
use crate::machine::memory::Memory;

/// Where the zero page is.
pub const ZERO_PAGE: u64 = 0x7000;
const SEED: u64 = 0x8000;
/// Where the descriptor table is.
pub const GDT: u64 = 0x9000;
/// Where the uppermost page table is.
pub const PAGE_TABLES: u64 = 0xA000;

/// Code and data of 64 bits, at 0x10 and 0x18.
const DESCRIPTORS: [u64; 4] = [0, 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF];
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE: u64 = 1 << 7;
const PAGE: u64 = 0x1000;
/// Tables of 2 MiB pages: a GiB each.
const GIGABYTES: u64 = 4;

/// Bytes of the seed: what the kernel's generator takes.
const SEED_BYTES: usize = 32;
/// `setup_data` of type `SETUP_RNG_SEED`.
const SETUP_RNG_SEED: u32 = 9;

// Offsets in the zero page.
const E820_ENTRIES: usize = 0x1E8;
const BOOT_FLAG: usize = 0x1FE;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const TYPE_OF_LOADER: usize = 0x210;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21C;
const CMD_LINE_PTR: usize = 0x228;
const KERNEL_ALIGNMENT: usize = 0x230;
const CMDLINE_SIZE: usize = 0x238;
const SETUP_DATA: usize = 0x250;
const E820_TABLE: usize = 0x2D0;
/// A loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xFF;

/// Numbers of processor features (word * 32 + bit), each with why ring 0 must do without.
const CLEARED: [u32; 12] = [
    141, 151, // cx16, popcnt: not in ring 0
    158, 306, // rdrand, rdseed: not in ring 0
    288, 295, 298, 308, // fsgsbase, smep, invpcid, smap: CR4 refuses them
    297, 580, // erms, fsrm: `rep movsb` costs a step a byte, `rep movsq` one for eight
    311, 312, // clflushopt, clwb: not in ring 0
];

/// The words that our kernel (`images/kernel`) wants on its command line: what its README says of them is true on this host.
#[must_use]
pub fn words(ring0_emulated: bool) -> String {
    let mut words = "quiet reboot=k panic=-1 dummy.numdummies=0 console=hvc0".to_owned();
    if ring0_emulated {
        let cleared = CLEARED.map(|feature| feature.to_string()).join(",");
        words.push_str(" noxsave clearcpuid=");
        words.push_str(&cleared);
        words.push_str(
            " noreplace-smp rodata=off tick_every=10 leansysfs leanlog rootfstype=ramfs pvmemory=",
        );
        words.push_str(&abi::port::MOVER.to_string());
        // TCP would send two segments at a time to who is slow, and here a frame of 64 KiB costs little more than a small one.
        words.push_str(" sysctl.net.ipv4.tcp_min_tso_segs=44");
    }
    words
}

/// Writes all that the protocol hands over. `header` is a bzImage's setup header; `seed` the host's random numbers.
///
/// # Errors
/// [`LoadError::Memory`].
pub(super) fn write(
    memory: &Memory,
    header: Option<&[u8]>,
    map: &[MemoryRange],
    initrd: Option<Initrd>,
    seed: &[u8; SEED_BYTES],
) -> Result<(), LoadError> {
    memory.write_slice(&zero_page(header, map, initrd), GuestAddress(ZERO_PAGE))?;
    memory.write_slice(&setup_data(seed), GuestAddress(SEED))?;
    let descriptors = DESCRIPTORS.map(u64::to_le_bytes).concat();
    memory.write_slice(&descriptors, GuestAddress(GDT))?;
    memory.write_slice(&page_tables(), GuestAddress(PAGE_TABLES))?;
    Ok(())
}

fn zero_page(header: Option<&[u8]>, map: &[MemoryRange], initrd: Option<Initrd>) -> Vec<u8> {
    let mut page = vec![0; PAGE as usize];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    match header {
        Some(header) => put(bzimage::HEADER, header),
        // A vmlinux has none: what a loader is asked for.
        None => {
            put(BOOT_FLAG, &[0x55, 0xAA]);
            put(MAGIC, b"HdrS");
            put(VERSION, &0x20F_u16.to_le_bytes());
            put(KERNEL_ALIGNMENT, &0x20_0000_u32.to_le_bytes());
        }
    }
    put(TYPE_OF_LOADER, &[LOADER_UNDEFINED]);
    put(CMD_LINE_PTR, &(abi::layout::CMDLINE as u32).to_le_bytes());
    put(
        CMDLINE_SIZE,
        &(abi::layout::CMDLINE_MAX as u32 - 1).to_le_bytes(),
    );
    put(SETUP_DATA, &SEED.to_le_bytes());
    if let Some(initrd) = initrd {
        // It lies below 2 GiB.
        put(RAMDISK_IMAGE, &(initrd.address as u32).to_le_bytes());
        put(RAMDISK_SIZE, &(initrd.size as u32).to_le_bytes());
    }
    // Four ranges at most: the page has room for 128.
    put(E820_ENTRIES, &[map.len() as u8]);
    for (range, at) in map.iter().zip((E820_TABLE..).step_by(20)) {
        put(at, &range.start.to_le_bytes());
        put(at + 8, &range.size.to_le_bytes());
        put(at + 16, &range.kind.to_le_bytes());
    }
    page
}

/// A list of one node.
fn setup_data(seed: &[u8; SEED_BYTES]) -> Vec<u8> {
    [
        &0_u64.to_le_bytes()[..],
        &SETUP_RNG_SEED.to_le_bytes(),
        &(SEED_BYTES as u32).to_le_bytes(),
        seed,
    ]
    .concat()
}

fn page_tables() -> Vec<u8> {
    let table = |index: u64| PAGE_TABLES + index * PAGE;
    let mut entries = vec![0_u64; (2 + GIGABYTES as usize) * 512];
    entries[0] = table(1) | PRESENT_WRITABLE;
    for gigabyte in 0..GIGABYTES {
        entries[512 + gigabyte as usize] = table(2 + gigabyte) | PRESENT_WRITABLE;
    }
    for (address, entry) in (0_u64..).step_by(2 << 20).zip(&mut entries[1024..]) {
        *entry = address | PRESENT_WRITABLE | LARGE;
    }
    entries
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u32_at(page: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(page[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn the_zero_page_tells_of_memory_and_initrd() {
        let map = [MemoryRange {
            start: 0x10_0000,
            size: 0x100_0000,
            kind: abi::pvh::RANGE_RAM,
            reserved: 0,
        }];
        let initrd = Initrd {
            address: 0x80_0000,
            size: 77,
        };
        let page = zero_page(None, &map, Some(initrd));
        assert_eq!(page[E820_ENTRIES], 1);
        assert_eq!(u32_at(&page, E820_TABLE), 0x10_0000);
        assert_eq!(u32_at(&page, E820_TABLE + 16), abi::pvh::RANGE_RAM);
        assert_eq!(u32_at(&page, RAMDISK_IMAGE), 0x80_0000);
        assert_eq!(u32_at(&page, RAMDISK_SIZE), 77);
        assert_eq!(u32_at(&page, CMD_LINE_PTR), 0x2_0000);
        assert_eq!(&page[MAGIC..MAGIC + 4], b"HdrS");
    }

    #[test]
    fn a_bzimages_own_header_is_kept() {
        let mut header = vec![0; 0x268 - bzimage::HEADER];
        header[0x236 - bzimage::HEADER] = 1;
        let page = zero_page(Some(&header), &[], None);
        assert_eq!(page[0x236], 1);
        assert_eq!(page[TYPE_OF_LOADER], LOADER_UNDEFINED);
    }

    #[test]
    fn the_first_four_gigabytes_are_mapped_to_themselves() {
        let tables = page_tables();
        let entry = |table: usize, index: usize| {
            let at = table * 0x1000 + index * 8;
            u64::from_le_bytes(tables[at..at + 8].try_into().unwrap())
        };
        assert_eq!(entry(0, 0), 0xB003);
        assert_eq!(entry(1, 3), 0xF003);
        assert_eq!(entry(2, 0), 0x83);
        assert_eq!(entry(5, 511), ((4 << 30) - (2 << 20)) | 0x83);
        assert!(PAGE_TABLES + tables.len() as u64 <= abi::layout::CMDLINE);
    }

    #[test]
    fn emulation_takes_words_that_hardware_does_without() {
        assert!(!words(false).contains("clearcpuid"));
        assert!(words(true).starts_with(&words(false)));
        assert!(words(true).contains(" noxsave clearcpuid=141,151,158,306,"));
    }
}
