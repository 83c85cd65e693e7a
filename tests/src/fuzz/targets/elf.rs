//! ELF: what is let through can be loaded.

use vmm::boot::elf::{Bounds, parse};

use crate::elf::Elf;
use crate::fuzz::Target;

/// Of the guest that the file is checked for.
const MEMORY: u64 = 64 << 20;

pub(super) const TARGET: Target =
    Target {
        name: "elf",
        about: "a tenant's program, as the monitor and the image store read it",
        seeds: || {
            let mut large_note = Elf::valid();
            large_note.note = Some(0x10_0000_u64.to_le_bytes().to_vec());
            let mut two = Elf::valid();
            let mut data = two.segments[0].clone();
            data.address += 0x10_0000;
            data.memory_size += 0x5000;
            data.flags = 6;
            two.segments.push(data);
            vec![Elf::valid().bytes(), large_note.bytes(), two.bytes()]
        },
        words: &[b"\x7fELF", b"Xen\0", b"\x12\0\0\0", b"\x04\0\0\0"],
        run: |input| {
            let Ok(image) = parse(input, &Bounds::of_memory(MEMORY)) else {
                return;
            };
            let mut free = abi::layout::IMAGE_START;
            for segment in &image.segments {
                assert!(segment.address >= free, "segments overlap");
                assert!(segment.file_size <= segment.memory_size);
                assert!(segment.offset + segment.file_size <= input.len() as u64);
                free = segment.address + segment.memory_size;
            }
            assert!(free <= MEMORY, "a segment ends at {free:#x}");
            let entry = image.entry.address();
            assert!(image.segments.iter().any(|s| {
                s.executable && (s.address..s.address + s.file_size).contains(&entry)
            }));
        },
    };
