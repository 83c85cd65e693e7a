//! ELF files that cannot be booted, and why.

use super::*;
use proptest::prelude::*;

#[path = "../../tests/support/elf.rs"]
mod make;
use make::{CODE, CODE_OFFSET, Elf, NOTE_OFFSET, Program};

const CODE_BYTES: &[u8] = &[0xEB, 0xFE, 0x90, 0x90];

fn bounds() -> Bounds {
    Bounds::of_memory(64 << 20)
}

fn check(elf: &Elf) -> Result<Image, ElfError> {
    parse(&elf.bytes()[..], &bounds())
}

/// What is said of a good file after `spoil`.
fn refusal(spoil: impl FnOnce(&mut Elf)) -> ElfError {
    let mut elf = Elf::of_code(CODE_BYTES);
    spoil(&mut elf);
    check(&elf).unwrap_err()
}

#[test]
fn a_good_file_is_loaded_where_it_says() {
    let image = check(&Elf::of_code(CODE_BYTES)).unwrap();
    assert_eq!(image.entry, Entry::Pvh(CODE as u32));
    assert!(!image.library_os);
    let segment = Segment {
        offset: CODE_OFFSET,
        file_size: 4,
        address: CODE,
        memory_size: 0x1004,
        executable: true,
        upper_half: false,
    };
    assert_eq!(image.segments, [segment]);
    assert_eq!(image.end(), CODE + 0x1004);
}

#[test]
fn a_file_of_another_kind_is_named() {
    assert!(matches!(
        parse(&b""[..], &bounds()),
        Err(ElfError::Magic(_))
    ));
    assert!(matches!(
        parse(&b"#!/bin/sh"[..], &bounds()),
        Err(ElfError::Magic(_))
    ));
    assert!(matches!(
        refusal(|e| e.header[4] = 1),
        ElfError::Class { class: 1, .. }
    ));
    assert!(matches!(
        refusal(|e| e.header[5] = 2),
        ElfError::Class { data: 2, .. }
    ));
    assert!(matches!(
        refusal(|e| e.header[18] = 183),
        ElfError::Machine(183)
    ));
    assert!(matches!(refusal(|e| e.header[16] = 1), ElfError::Kind(1)));
    assert!(matches!(
        refusal(|e| e.header[54] = 32),
        ElfError::HeaderSize { size: 32, .. }
    ));
}

#[test]
fn every_truncation_is_refused() {
    let whole = Elf::of_code(CODE_BYTES).bytes();
    for length in 0..whole.len() {
        assert!(parse(&whole[..length], &bounds()).is_err(), "{length}");
    }
}

#[test]
fn segments_are_apart_and_inside_memory() {
    let segment = |change: fn(&mut Program)| move |elf: &mut Elf| change(&mut elf.programs[0]);
    let outside = |address: fn(&mut Program)| {
        matches!(
            refusal(segment(address)),
            ElfError::SegmentOutside { index: 0, .. }
        )
    };
    assert!(outside(|p| p.address = 0xF_FFFF));
    assert!(outside(|p| p.address = 64 << 20));
    assert!(outside(|p| p.memory_size = 64 << 20));
    assert!(outside(|p| p.address = u64::MAX - 8));
    assert!(outside(|p| p.memory_size = u64::MAX));
    assert!(outside(|p| p.address = 0xD000_0000));
    assert!(matches!(
        refusal(segment(|p| p.memory_size = 3)),
        ElfError::SegmentSize {
            file_size: 4,
            memory_size: 3,
            ..
        }
    ));
    assert!(matches!(
        refusal(segment(|p| p.offset = u64::MAX - 1)),
        ElfError::Truncated {
            what: "segments",
            ..
        }
    ));
    let twice = |elf: &mut Elf| {
        let mut second = elf.programs[0];
        second.address += 0x1000;
        elf.programs.insert(0, second);
    };
    assert!(matches!(
        refusal(twice),
        ElfError::SegmentsOverlap(0x10_1000)
    ));
    assert!(matches!(
        refusal(segment(|p| p.kind = 0)),
        ElfError::NoSegment
    ));
}

#[test]
fn memory_has_a_hole() {
    let elf = |address| {
        let mut elf = Elf::of_code(CODE_BYTES);
        let mut high = elf.programs[0];
        high.address = address;
        elf.programs.push(high);
        parse(&elf.bytes()[..], &Bounds::of_memory(4 << 30))
    };
    assert!(elf(0x1_0000_0000).is_ok());
    assert!(elf(0xBFFF_E000).is_ok());
    assert!(elf(0xBFFF_F000).is_err());
    assert!(elf(0x1_4000_0000).is_err());
}

#[test]
fn the_entry_is_in_code() {
    let note =
        |entry: u32| move |elf: &mut Elf| elf.note[16..].copy_from_slice(&entry.to_le_bytes());
    assert!(matches!(refusal(note(0)), ElfError::Entry(0)));
    assert!(matches!(refusal(note(CODE as u32 + 4)), ElfError::Entry(_)));
    assert!(matches!(
        refusal(|e| e.programs[0].flags = 6),
        ElfError::Entry(CODE)
    ));
}

#[test]
fn the_note_is_found_or_missed() {
    assert!(matches!(refusal(|e| e.note[12] = b'x'), ElfError::NoNote));
    assert!(matches!(refusal(|e| e.note[8] = 17), ElfError::NoNote));
    assert!(matches!(
        refusal(|e| e.programs.truncate(1)),
        ElfError::NoNote
    ));
    assert!(matches!(refusal(|e| e.note[4] = 3), ElfError::NoteSize(3)));
    assert!(matches!(
        refusal(|e| e.programs[1].file_size = 1 << 20),
        ElfError::NotesSize(_)
    ));
    // Behind another one.
    let mut elf = Elf::of_code(CODE_BYTES);
    let other = [
        &[2, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0][..],
        b"G\0\0\0",
        b"!\0\0\0",
    ]
    .concat();
    elf.note.splice(0..0, other);
    elf.programs[1].file_size = elf.note.len() as u64;
    assert!(check(&elf).is_ok());
    // In eight bytes.
    let mut elf = Elf::of_code(CODE_BYTES);
    elf.note[4] = 8;
    elf.note.extend([0; 4]);
    elf.programs[1].file_size += 4;
    assert!(check(&elf).is_ok());
}

#[test]
fn the_library_os_says_so() {
    let mut elf = Elf::of_code(CODE_BYTES);
    elf.note
        .extend([&[6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0][..], b"Shoal\0\0\0"].concat());
    elf.programs[1].file_size = elf.note.len() as u64;
    assert!(check(&elf).unwrap().library_os);
}

#[test]
fn linux_is_known_by_an_entry_in_the_upper_half() {
    let linux = |entry: u64| {
        let mut elf = Elf::of_code(CODE_BYTES);
        elf.programs.truncate(1);
        elf.header[24..32].copy_from_slice(&entry.to_le_bytes());
        let mut bytes = elf.bytes();
        // Its virtual address.
        bytes[64 + 16..64 + 24].copy_from_slice(&0xFFFF_FFFF_8100_0000_u64.to_le_bytes());
        parse(&bytes[..], &bounds()).map(|image| image.entry)
    };
    assert_eq!(linux(CODE + 2).unwrap(), Entry::Linux(CODE + 2));
    assert!(matches!(linux(CODE + 4), Err(ElfError::NoNote)));
    assert!(matches!(
        linux(0xFFFF_FFFF_8100_0000),
        Err(ElfError::NoNote)
    ));
}

#[test]
fn a_note_may_be_in_a_section() {
    let mut elf = Elf::of_code(CODE_BYTES);
    elf.programs.truncate(1);
    let mut section = [0; 64];
    section[4..8].copy_from_slice(&7_u32.to_le_bytes());
    section[24..32].copy_from_slice(&NOTE_OFFSET.to_le_bytes());
    section[32..40].copy_from_slice(&(elf.note.len() as u64).to_le_bytes());
    let at = elf.bytes().len() as u64;
    elf.header[40..48].copy_from_slice(&at.to_le_bytes());
    elf.header[58..60].copy_from_slice(&64_u16.to_le_bytes());
    elf.header[60..62].copy_from_slice(&1_u16.to_le_bytes());
    let mut bytes = elf.bytes();
    bytes.extend(section);
    assert!(parse(&bytes[..], &bounds()).is_ok());
    elf.header[60..62].copy_from_slice(&u16::MAX.to_le_bytes());
    assert!(matches!(
        check(&elf),
        Err(ElfError::Count {
            what: "section headers",
            ..
        })
    ));
}

#[test]
fn absurd_counts_are_refused() {
    assert!(matches!(
        refusal(|e| e.programs = vec![e.programs[0]; 65]),
        ElfError::Count { count: 65, .. }
    ));
    assert!(matches!(
        refusal(|e| e.programs.clear()),
        ElfError::Count { count: 0, .. }
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>) {
        let _ = parse(&bytes[..], &bounds());
    }

    #[test]
    fn a_spoilt_file_is_answered_and_what_passes_fits(
        spots in proptest::collection::vec((0_usize..0x420, any::<u8>()), 1..6),
    ) {
        let mut bytes = Elf::of_code(CODE_BYTES).bytes();
        for (at, byte) in spots {
            bytes[at] = byte;
        }
        if let Ok(image) = parse(&bytes[..], &bounds()) {
            let mut end = layout::IMAGE_START;
            for segment in &image.segments {
                prop_assert!(segment.address >= end && segment.file_size <= segment.memory_size);
                prop_assert!(segment.offset + segment.file_size <= bytes.len() as u64);
                end = segment.address + segment.memory_size;
            }
            prop_assert!(end <= 64 << 20);
        }
    }
}
