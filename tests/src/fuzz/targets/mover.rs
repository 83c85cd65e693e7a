//! The memory mover: a guest whose page tables and requests are whatever the input says.

use vm_memory::{Bytes, GuestAddress};
use vmm::machine::memory::{self, Memory};
use vmm::machine::mover::{ALIGNMENT, DONE, MAX, ZEROES, serve};
use vmm::spec::MemorySize;

use crate::fuzz::Target;

/// Memory enough for tables and pages that they lead to.
const MIB: u64 = 4;
const PAGE: u64 = 4096;
const REQUEST: u64 = 0x8000;
/// Present, writable, of ring 3, accessed, dirty.
const ALL: u64 = 0x67;

thread_local! {
    /// Made once: what one input leaves behind, the next one finds.
    static MEMORY: Memory = {
        let size = MemorySize::from_mib(MIB).expect("a size of memory");
        memory::create(size).expect("there is memory for a guest")
    };
}

pub(super) const TARGET: Target = Target {
    name: "mover",
    about: "the memory mover, by hostile page tables",
    seeds: || {
        // Each piece: page of a table or of nothing, entry, flags, page that it leads to; or a request.
        let tables = [
            [0, 1, 0, 0x67, 2, 0],
            [0, 2, 0, 0x67, 3, 0],
            [0, 3, 2, 0x67, 4, 0],
            [0, 4, 0, 0x67, 16, 0],
            [0, 4, 1, 0x67, 17, 0],
        ]
        .concat();
        let request = |to: u64, from: u64, size: u64| {
            let words = [to, from, size].map(u64::to_le_bytes).concat();
            [&[1, 1][..], &words].concat()
        };
        vec![
            [&tables[..], &request(0x40_0000, ZEROES, 8192)].concat(),
            [&tables[..], &request(0x40_0010, 0x40_1000, 3000)].concat(),
            [
                &tables[..],
                &[0, 3, 3, 0xE7, 0, 2],
                &request(0x60_0000, 0x40_0000, 4096),
            ]
            .concat(),
        ]
    },
    words: &[
        &[0, 1, 0, 0x67, 1, 0],
        &[0, 4, 2, 0x67, 0xFF, 0xFF],
        &[0xFF; 8],
        &[0, 0x80, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0, 0, 0x20, 0, 0, 0, 0, 0],
    ],
    run: |input| MEMORY.with(|memory| drive(memory, input)),
};

fn drive(memory: &Memory, mut input: &[u8]) {
    // Level by level, one table each, unless the input says otherwise.
    for table in 1..4 {
        put(memory, table * PAGE, ((table + 1) * PAGE) | ALL);
    }
    while let Some((&kind, rest)) = input.split_first() {
        input = if kind == 0 {
            let Some((&[table, index, flags, low, high], rest)) = rest.split_first_chunk() else {
                return;
            };
            let page = u64::from(u16::from_le_bytes([low, high]));
            let at = u64::from(table % 8) * PAGE + u64::from(index) * 8;
            put(memory, at, (page * PAGE) | u64::from(flags));
            rest
        } else {
            let Some((&[root, ref words @ ..], rest)) = rest.split_first_chunk::<25>() else {
                return;
            };
            let at = GuestAddress(REQUEST);
            memory.write_slice(words, at).expect("it is memory");
            put(memory, REQUEST + DONE, u64::MAX);
            serve(memory, u64::from(root) * PAGE, (REQUEST / ALIGNMENT) as u32);
            let mut size = [0; 8];
            size.copy_from_slice(&words[16..]);
            let done = memory.read_obj::<u64>(GuestAddress(REQUEST + DONE));
            // The work may have gone over the request, but the answer comes after it.
            let done = done.expect("it is memory");
            assert!(done <= u64::from_le_bytes(size).min(MAX), "{done} bytes");
            rest
        };
    }
}

fn put(memory: &Memory, at: u64, word: u64) {
    memory
        .write_obj(word, GuestAddress(at))
        .expect("it is memory");
}
