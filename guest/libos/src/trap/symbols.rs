//! Function names, from the symbol table of the program's own ELF file.
//!
//! The file comes from outside, so nothing in it is believed: every read is bounded, and what does not fit gives no name.

/// The symbol table of an ELF file.
pub(crate) struct Symbols<'a> {
    table: &'a [u8],
    names: &'a [u8],
}

/// `SHT_SYMTAB`.
const SYMBOL_TABLE: u32 = 2;
/// `STT_FUNC`, the low four bits of a symbol's `st_info`.
const FUNCTION: u8 = 2;
/// Bytes of a section header.
const SECTION: usize = 64;
/// Bytes of a symbol.
const SYMBOL: usize = 24;
/// Longest name that is given.
const NAME: usize = 1024;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(field.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

/// The header of section `index`.
fn section(file: &[u8], index: usize) -> Option<&[u8]> {
    let start = usize::try_from(u64_at(file, 0x28)?).ok()?;
    let start = start.checked_add(index.checked_mul(SECTION)?)?;
    file.get(start..start.checked_add(SECTION)?)
}

/// What a section header says are its bytes.
fn contents<'a>(file: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let start = usize::try_from(u64_at(header, 0x18)?).ok()?;
    let size = usize::try_from(u64_at(header, 0x20)?).ok()?;
    file.get(start..start.checked_add(size)?)
}

impl<'a> Symbols<'a> {
    /// The symbols of a 64-bit little-endian ELF file; `None` where it is none or has none.
    pub(crate) fn find(file: &'a [u8]) -> Option<Self> {
        if file.get(..6)? != b"\x7fELF\x02\x01" || usize::from(u16_at(file, 0x3A)?) != SECTION {
            return None;
        }
        let count = usize::from(u16_at(file, 0x3C)?);
        let header = (0..count)
            .filter_map(|index| section(file, index))
            .find(|header| u32_at(header, 4) == Some(SYMBOL_TABLE))?;
        let names = section(file, u32_at(header, 0x28)? as usize)?;
        Some(Self {
            table: contents(file, header)?,
            names: contents(file, names)?,
        })
    }

    /// The function at `address`, and how far into it that is.
    pub(crate) fn at(&self, address: u64) -> Option<(&'a str, u64)> {
        self.table.chunks_exact(SYMBOL).find_map(|symbol| {
            let start = u64_at(symbol, 8)?;
            let offset = address.checked_sub(start)?;
            // A function without a size, as in assembly, counts at its first byte only.
            let inside = offset < u64_at(symbol, 16)?.max(1);
            if symbol[4] & 0xF != FUNCTION || !inside {
                return None;
            }
            Some((self.name(u32_at(symbol, 0)? as usize)?, offset))
        })
    }

    fn name(&self, at: usize) -> Option<&'a str> {
        let bytes = self.names.get(at..)?;
        let bytes = &bytes[..bytes.len().min(NAME)];
        let end = bytes.iter().position(|&byte| byte == 0)?;
        str::from_utf8(&bytes[..end]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// A file with one symbol `name` at `start`, of `size` bytes.
    fn file(name: &[u8], start: u64, size: u64) -> Vec<u8> {
        let mut file = std::vec![0u8; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x28..0x30].copy_from_slice(&64u64.to_le_bytes());
        file[0x3A..0x3E].copy_from_slice(&[64, 0, 2, 0]);
        let data = 64 + 2 * SECTION;
        let mut header = |kind: u32, offset: usize, size: usize, link: u32| {
            let mut h = [0u8; SECTION];
            h[4..8].copy_from_slice(&kind.to_le_bytes());
            h[0x18..0x20].copy_from_slice(&(offset as u64).to_le_bytes());
            h[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            h[0x28..0x2C].copy_from_slice(&link.to_le_bytes());
            file.extend(h);
        };
        header(SYMBOL_TABLE, data, SYMBOL, 1);
        header(3, data + SYMBOL, name.len(), 0);
        file.extend(0u32.to_le_bytes());
        file.extend([FUNCTION, 0, 0, 0]);
        file.extend(start.to_le_bytes());
        file.extend(size.to_le_bytes());
        file.extend(name);
        file
    }

    #[test]
    fn a_function_is_found_anywhere_inside_it() {
        let file = file(b"main\0", 0x10_0000, 16);
        let symbols = Symbols::find(&file).unwrap();
        assert_eq!(symbols.at(0x10_0000), Some(("main", 0)));
        assert_eq!(symbols.at(0x10_000F), Some(("main", 15)));
        assert_eq!(symbols.at(0x10_0010), None);
        assert_eq!(symbols.at(0xF_FFFF), None);
    }

    #[test]
    fn a_name_without_its_end_is_no_name() {
        let file = file(b"main", 0, 16);
        assert_eq!(Symbols::find(&file).unwrap().at(0), None);
    }

    proptest! {
        #[test]
        fn a_damaged_file_gives_no_name_or_some_name(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
            cut: prop::sample::Index,
            address: u64,
        ) {
            let mut file = file(b"main\0", 0x10_0000, 16);
            for (at, value) in damage {
                let at = at.index(file.len());
                file[at] = value;
            }
            file.truncate(cut.index(file.len() + 1));
            if let Some(symbols) = Symbols::find(&file) {
                symbols.at(address);
                symbols.at(0x10_0004);
            }
        }

        #[test]
        fn any_bytes_are_no_symbols(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Symbols::find(&bytes).is_none());
        }
    }
}
