//! The MP table: which processors and interrupt lines there are, for a kernel without ACPI.
//!
//! ```text
//! 0x9_FC00  floating pointer (16 bytes), where every kernel looks: the end of conventional memory
//! 0x9_FC10  header | a processor each | ISA bus | I/O APIC | a line each | ExtINT, NMI
//! ```
//! Each ISA line has the pin of its number, as KVM's in-kernel controllers wire it: lines 0 to 15 of the PC and, beyond, those
//! of virtio devices.
//!
//! Source: Intel `MultiProcessor` specification 1.4, chapter 4.

use abi::layout;

/// Where it is.
pub const ADDRESS: u64 = layout::LOW_MEMORY_END;
/// Bytes there are for it: up to the video memory.
const MAX: usize = 0xA_0000 - ADDRESS as usize;

const POINTER: usize = 16;
const HEADER: usize = 44;
/// Of the local APICs: an integrated one that has x2APIC mode.
const LAPIC_VERSION: u8 = 0x14;
/// Of KVM's I/O APIC.
const IOAPIC_VERSION: u8 = 0x11;
const ISA: u8 = 0;
/// Entries' first bytes.
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IOAPIC: u8 = 2;
const LINE: u8 = 3;
const LOCAL_LINE: u8 = 4;
/// Kinds of interrupts.
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
/// As the bus has it; where the bus is ISA: rising edge.
const CONFORMING: u8 = 0;
/// A destination that is every local APIC.
const ALL: u8 = 0xFF;
/// The signature of a Pentium Pro with an APIC: nobody reads it, all write it.
const SIGNATURE: u32 = 0x600;
const FEATURE_APIC: u32 = 1 << 9;
const FEATURE_FPU: u32 = 1;

/// The table of a machine with `vcpus` processors, for [`ADDRESS`].
#[must_use]
pub fn table(vcpus: u8) -> Vec<u8> {
    // The first id that is no processor's.
    let ioapic = vcpus;
    let mut entries: Vec<u8> = Vec::new();
    let mut count: u16 = 0;
    let mut add = |bytes: &[u8]| {
        entries.extend_from_slice(bytes);
        count += 1;
    };
    for id in 0..vcpus {
        // Usable; the first starts the others.
        let flags = 1 | u8::from(id == 0) << 1;
        let mut entry = vec![PROCESSOR, id, LAPIC_VERSION, flags];
        entry.extend(SIGNATURE.to_le_bytes());
        entry.extend((FEATURE_APIC | FEATURE_FPU).to_le_bytes());
        entry.extend([0; 8]);
        add(&entry);
    }
    add(&[BUS, ISA, b'I', b'S', b'A', b' ', b' ', b' ']);
    let [a, b, c, d] = (layout::IOAPIC as u32).to_le_bytes();
    add(&[IOAPIC, ioapic, IOAPIC_VERSION, 1, a, b, c, d]);
    for line in 0..=layout::VIRTIO_GSI_LAST as u8 {
        add(&[LINE, INT, CONFORMING, 0, ISA, line, ioapic, line]);
    }
    add(&[LOCAL_LINE, EXT_INT, CONFORMING, 0, ISA, 0, ALL, 0]);
    add(&[LOCAL_LINE, NMI, CONFORMING, 0, ISA, 0, ALL, 1]);

    let mut header = b"PCMP".to_vec();
    // The length is that of header and entries, at most some hundred bytes.
    header.extend(((HEADER + entries.len()) as u16).to_le_bytes());
    header.extend([4, 0]);
    header.extend(b"SHOAL   MICROVM     ");
    header.extend([0; 6]);
    header.extend(count.to_le_bytes());
    header.extend((layout::LAPIC as u32).to_le_bytes());
    header.extend([0; 4]);
    header.extend(entries);
    header[7] = balance(&header);

    let mut table = b"_MP_".to_vec();
    table.extend((ADDRESS as u32 + POINTER as u32).to_le_bytes());
    table.extend([1, 4, 0, 0, 0, 0, 0, 0]);
    table[10] = balance(&table);
    table.extend(header);
    debug_assert!(table.len() <= MAX);
    table
}

/// What makes the sum of all bytes zero.
fn balance(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::VcpuCount;

    #[test]
    fn sums_are_zero_and_entries_fill_the_table() {
        for vcpus in [1, 2, 32] {
            VcpuCount::try_from(u32::from(vcpus)).unwrap();
            let table = table(vcpus);
            assert!(table.len() <= MAX, "{vcpus}");
            let (pointer, rest) = table.split_at(POINTER);
            assert_eq!(balance(pointer), 0);
            assert_eq!(balance(rest), 0);
            assert_eq!(
                usize::from(u16::from_le_bytes([rest[4], rest[5]])),
                rest.len()
            );
            let count = u16::from_le_bytes([rest[34], rest[35]]);
            let mut entries = &rest[HEADER..];
            let mut seen = 0;
            while let Some(kind) = entries.first() {
                entries = &entries[if *kind == PROCESSOR { 20 } else { 8 }..];
                seen += 1;
            }
            assert_eq!(seen, count);
            assert_eq!(count, u16::from(vcpus) + 2 + 24 + 2);
        }
    }
}
