//! The memory mover does what a processor would, and no more.

use super::*;
use crate::machine::memory;
use crate::spec::MemorySize;
use proptest::prelude::*;

/// Tables at 0x1000 (one a level); virtual 0x40_0000.. are the pages from 0x10_0000 on.
const CR3: u64 = 0x1000;
const VIRTUAL: u64 = 0x40_0000;
const PHYSICAL: u64 = 0x10_0000;
const PAGES: u64 = 8;
const ALL: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;
const REQUEST: u64 = 0x8000;

fn memory() -> Memory {
    let memory = memory::create(MemorySize::from_mib(16).unwrap()).unwrap();
    for (table, next) in [(0x1000, 0x2000), (0x2000, 0x3000)] {
        set(&memory, table, next | ALL);
    }
    set(&memory, 0x3000 + VIRTUAL / (2 << 20) * 8, 0x4000 | ALL);
    for page in 0..PAGES {
        entry(&memory, page, ALL);
    }
    memory
}

fn set(memory: &Memory, at: u64, word: u64) {
    memory.write_obj(word, GuestAddress(at)).unwrap();
}

/// Marks page number `page` so.
fn entry(memory: &Memory, page: u64, flags: u64) {
    set(memory, 0x4000 + page * 8, (PHYSICAL + page * PAGE) | flags);
}

fn ask(memory: &Memory, to: u64, from: u64, size: u64) -> u64 {
    for (index, word) in (0..).zip([to, from, size, u64::MAX]) {
        set(memory, REQUEST + index * 8, word);
    }
    serve(memory, CR3, (REQUEST / ALIGNMENT) as u32);
    memory.read_obj(GuestAddress(REQUEST + DONE)).unwrap()
}

fn fill(memory: &Memory, page: u64, byte: u8) {
    let at = GuestAddress(PHYSICAL + page * PAGE);
    memory.write_slice(&[byte; PAGE as usize], at).unwrap();
}

fn byte(memory: &Memory, address: u64) -> u8 {
    memory
        .read_obj(GuestAddress(address - VIRTUAL + PHYSICAL))
        .unwrap()
}

#[test]
fn pages_are_copied_and_cleared() {
    let memory = memory();
    fill(&memory, 0, 7);
    let (page0, page1) = (VIRTUAL, VIRTUAL + PAGE);
    assert_eq!(ask(&memory, page1, page0, PAGE), PAGE);
    assert_eq!(byte(&memory, page1 + PAGE - 1), 7);
    assert_eq!(ask(&memory, page0 + 100, ZEROES, PAGE), PAGE);
    assert_eq!(
        [page0 + 99, page0 + 100, page1 + 99, page1 + 100].map(|at| byte(&memory, at)),
        [7, 0, 0, 7]
    );
}

#[test]
fn a_page_that_would_fault_ends_the_work() {
    for (flag, target_only) in [
        (PRESENT, false),
        (USER, false),
        (ACCESSED, false),
        (WRITABLE, true),
        (DIRTY, true),
    ] {
        let memory = memory();
        fill(&memory, 0, 7);
        entry(&memory, 1, ALL & !flag);
        let (as_target, as_source) = (
            ask(&memory, VIRTUAL, VIRTUAL + 4 * PAGE, 3 * PAGE),
            ask(&memory, VIRTUAL + 4 * PAGE, VIRTUAL, 3 * PAGE),
        );
        assert_eq!(as_target, PAGE, "{flag:#x}");
        let expected = if target_only { 3 * PAGE } else { PAGE };
        assert_eq!(as_source, expected, "{flag:#x}");
    }
}

#[test]
fn tables_that_lead_nowhere_do_no_work() {
    let memory = memory();
    entry(&memory, 0, 0xF_FFFF_F000 | ALL);
    assert_eq!(ask(&memory, VIRTUAL, ZEROES, 8), 0);
    // Not canonical; in tables beyond memory.
    assert_eq!(ask(&memory, 1 << 47, ZEROES, 8), 0);
    set(&memory, 0x2000, (64 << 20) | ALL);
    assert_eq!(ask(&memory, VIRTUAL + PAGE, ZEROES, 8), 0);
    // Page zero is a program's address like any other.
    assert_eq!(ask(&memory, VIRTUAL + PAGE, 0, 8), 0);
    // A request at no memory, and one at its end.
    serve(&memory, CR3, u32::MAX);
    serve(&memory, CR3, ((16 << 20) / ALIGNMENT - 1) as u32);
}

#[test]
fn large_pages_and_the_upper_half_are_the_kernels() {
    let memory = memory();
    let upper = 0xFFFF_8000_0000_0000;
    // No USER anywhere on the way.
    set(&memory, 0x1000 + 256 * 8, 0x5000 | ALL & !USER);
    set(&memory, 0x5000, 0x6000 | ALL & !USER);
    set(&memory, 0x6000, LARGE | ALL & !USER);
    fill(&memory, 2, 9);
    let page2 = upper + PHYSICAL + 2 * PAGE;
    assert_eq!(ask(&memory, VIRTUAL, page2, 16), 16);
    assert_eq!(byte(&memory, VIRTUAL + 15), 9);
}

#[test]
fn only_ring_0_with_tables_of_four_levels_is_heard() {
    let kernel = kvm_sregs {
        cr0: CR0_PG,
        cr3: CR3,
        efer: EFER_LMA,
        ..kvm_sregs::default()
    };
    assert_eq!(tables(&kernel), Some(CR3));
    let mut program = kernel;
    program.cs.dpl = 3;
    let five_levels = kvm_sregs {
        cr4: CR4_LA57,
        ..kernel
    };
    let (real, legacy) = (
        kvm_sregs { cr0: 0, ..kernel },
        kvm_sregs { efer: 0, ..kernel },
    );
    for other in [program, five_levels, real, legacy] {
        assert_eq!(tables(&other), None, "{other:?}");
    }
}

proptest! {
    #[test]
    fn any_request_is_answered_within_its_size(
        to: u64, from: u64, size: u64, offset in 0..PAGES * PAGE,
    ) {
        let memory = memory();
        prop_assert!(ask(&memory, to, from, size) <= size.min(MAX));
        prop_assert!(ask(&memory, VIRTUAL + offset, from, size) <= size.min(MAX));
        let room = PAGES * PAGE - offset;
        prop_assert_eq!(ask(&memory, VIRTUAL + offset, ZEROES, size), size.min(room));
    }

    #[test]
    fn it_copies_as_a_processor_does(to in 0..4 * PAGE, from in 4 * PAGE..7 * PAGE, size in 1..PAGE) {
        let memory = memory();
        for page in 0..PAGES {
            fill(&memory, page, page as u8 + 1);
        }
        prop_assert_eq!(ask(&memory, VIRTUAL + to, VIRTUAL + from, size), size);
        for offset in [0, size / 2, size - 1] {
            let expected = ((from + offset) / PAGE) as u8 + 1;
            prop_assert_eq!(byte(&memory, VIRTUAL + to + offset), expected);
        }
    }
}
