//! What a Linux bzImage is: the kernel's own decompressor behind a header that says how to load it.
//!
//! ```text
//! file:   boot sector, setup (setup_sects + 1 sectors of 512) | protected-mode code: what is loaded
//!                  \-> setup header at 0x1F1                     \-> entered at its byte 0x200, at 64 bits
//! memory: pref_address: that code; init_size bytes from there on are the decompressor's
//! ```
//!
//! Source: Linux `Documentation/x86/boot.rst`, protocol 2.12 and later.

use super::elf::{Bounds, Entry, Segment, Source};

/// Where the setup header is in the file, and in the zero page.
pub(super) const HEADER: usize = 0x1F1;
/// Bytes of a file that say what it is.
pub(super) const HEAD: usize = 0x268;
/// Sectors are of this size whatever the disk's are.
const SECTOR: u64 = 512;
/// Setup sectors where the header says none.
const SETUP_SECTORS: u64 = 4;
/// The first protocol that tells of a 64-bit entry.
const VERSION: u16 = 0x20C;
/// `xloadflags`: there is one.
const KERNEL_64: u16 = 1;
/// Where it is, from the loaded code on.
const ENTRY_64: u64 = 0x200;

/// A file that is no bzImage that can be booted.
#[derive(Debug, thiserror::Error)]
pub enum BzImageError {
    /// Shorter than it says.
    #[error("the bzImage is truncated: {need} bytes are needed, the file has {file}")]
    Truncated {
        /// What its header asks for.
        need: u64,
        /// The file's bytes.
        file: u64,
    },
    /// Too old.
    #[error("the bzImage has boot protocol {}.{:02}, 2.12 is needed", .0 >> 8, .0 & 0xFF)]
    Version(u16),
    /// For 32-bit processors.
    #[error("the bzImage has no 64-bit entry")]
    NotFor64,
    /// More than the guest has.
    #[error(
        "the bzImage needs {size:#x} bytes of memory at {address:#x}, the guest has {memory:#x}"
    )]
    Memory {
        /// Where.
        address: u64,
        /// How many.
        size: u64,
        /// The end of the guest's low memory.
        memory: u64,
    },
}

/// A bzImage that can be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BzImage {
    /// What is loaded.
    pub segment: Segment,
    /// Where it is entered.
    pub entry: Entry,
    /// The setup header, as it goes into the zero page from its offset 0x1F1 on.
    pub header: Vec<u8>,
    /// Bytes of the whole file.
    pub file_size: u64,
}

/// Whether a file that begins so is a bzImage, or means to be one.
pub(super) fn is_one(head: &[u8]) -> bool {
    head.get(0x1FE..0x200) == Some(&[0x55, 0xAA]) && head.get(0x202..0x206) == Some(b"HdrS")
}

/// Checks a file whose first bytes [`is_one`] knows.
///
/// # Errors
/// [`BzImageError`].
pub(super) fn parse(head: &[u8], file_size: u64, bounds: &Bounds) -> Result<BzImage, BzImageError> {
    let truncated = |need: u64| BzImageError::Truncated {
        need,
        file: file_size,
    };
    let head: &[u8; HEAD] = head
        .get(..HEAD)
        .and_then(|head| head.try_into().ok())
        .ok_or_else(|| truncated(HEAD as u64))?;
    let u16_at = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let u32_at = |at: usize| u64::from(u16_at(at)) | u64::from(u16_at(at + 2)) << 16;
    let version = u16_at(0x206);
    if version < VERSION {
        return Err(BzImageError::Version(version));
    }
    if u16_at(0x236) & KERNEL_64 == 0 {
        return Err(BzImageError::NotFor64);
    }
    let sectors = match u64::from(head[HEADER]) {
        0 => SETUP_SECTORS,
        sectors => sectors,
    };
    let offset = (sectors + 1) * SECTOR;
    // In units of 16 bytes; what follows, a signature for one, is no part of the kernel.
    let size = u32_at(0x1F4) * 16;
    if size <= ENTRY_64 || file_size < offset + size {
        return Err(truncated(offset + size.max(ENTRY_64 + 1)));
    }
    let address = u32_at(0x258) | u32_at(0x25C) << 32;
    let needed = u32_at(0x260).max(size);
    let inside = address
        .checked_add(needed)
        .is_some_and(|end| bounds.hold_low(&(address..end)));
    if !inside {
        return Err(BzImageError::Memory {
            address,
            size: needed,
            memory: bounds.low_end(),
        });
    }
    // The header ends where its own jump, at 0x200, leads to.
    let end = (0x202 + usize::from(head[0x201])).min(HEAD);
    Ok(BzImage {
        segment: Segment {
            offset,
            file_size: size,
            address,
            memory_size: needed,
            executable: true,
            upper_half: false,
        },
        entry: Entry::Linux(address + ENTRY_64),
        header: head[HEADER..end.max(HEADER)].to_vec(),
        file_size,
    })
}

/// The first bytes of a file, as many as there are.
pub(super) fn head<S: Source + ?Sized>(file: &S, file_size: u64) -> std::io::Result<Vec<u8>> {
    // The least of the two fits.
    let mut head = vec![0; file_size.min(HEAD as u64) as usize];
    file.read_at(0, &mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MEMORY: u64 = 64 << 20;

    fn file() -> Vec<u8> {
        let mut file = vec![0; 512 * 2 + 0x1000];
        file[HEADER] = 1;
        file[0x1F4..0x1F8].copy_from_slice(&0x100_u32.to_le_bytes());
        file[0x1FE..0x200].copy_from_slice(&[0x55, 0xAA]);
        file[0x200..0x202].copy_from_slice(&[0xEB, 0x66]);
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x206..0x208].copy_from_slice(&0x20F_u16.to_le_bytes());
        file[0x236] = 1;
        file[0x258..0x260].copy_from_slice(&0x100_0000_u64.to_le_bytes());
        file[0x260..0x264].copy_from_slice(&0x20_0000_u32.to_le_bytes());
        file
    }

    fn check(file: &[u8]) -> Result<BzImage, BzImageError> {
        let size = file.len() as u64;
        let head = head(file, size).unwrap();
        parse(&head, size, &Bounds::of_memory(MEMORY))
    }

    #[test]
    fn a_good_file_is_loaded_where_it_says() {
        assert!(is_one(&file()));
        let image = check(&file()).unwrap();
        assert_eq!(image.entry, Entry::Linux(0x100_0200));
        assert_eq!(
            (image.segment.offset, image.segment.file_size),
            (1024, 0x1000)
        );
        assert_eq!(image.segment.memory_size, 0x20_0000);
        assert_eq!(image.header.len(), 0x268 - HEADER);
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = file();
        for length in 0..whole.len() {
            assert!(
                matches!(check(&whole[..length]), Err(BzImageError::Truncated { .. })),
                "{length}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refusal = |at: usize, bytes: &[u8]| {
            let mut file = file();
            file[at..at + bytes.len()].copy_from_slice(bytes);
            check(&file).unwrap_err()
        };
        let old = refusal(0x206, &[5, 2]);
        assert!(matches!(old, BzImageError::Version(0x205)));
        assert!(old.to_string().contains("2.05"));
        assert!(matches!(refusal(0x236, &[0]), BzImageError::NotFor64));
        assert!(matches!(
            refusal(0x1F4, &[0, 0]),
            BzImageError::Truncated { .. }
        ));
        let huge = refusal(0x260, &u32::MAX.to_le_bytes());
        assert!(matches!(
            huge,
            BzImageError::Memory {
                size: 0xFFFF_FFFF,
                ..
            }
        ));
        let far = refusal(0x258, &u64::MAX.to_le_bytes());
        assert!(matches!(far, BzImageError::Memory { .. }));
    }

    proptest! {
        #[test]
        fn a_spoilt_file_is_answered_and_what_passes_fits(
            spots in proptest::collection::vec((0_usize..0x400, any::<u8>()), 1..6),
        ) {
            let mut file = file();
            for (at, byte) in spots {
                file[at] = byte;
            }
            if let Ok(image) = check(&file) {
                let segment = image.segment;
                prop_assert!(segment.offset + segment.file_size <= file.len() as u64);
                prop_assert!(segment.file_size <= segment.memory_size);
                prop_assert!(segment.address + segment.memory_size <= MEMORY);
            }
        }
    }
}
