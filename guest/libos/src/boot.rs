//! From ring 3's first instruction to the program.
//!
//! ```text
//! ring 0: entry ---> start: the machine's description -> page tables
//!                      -> first batch through the gate: tables on, clock on, every device asked who it is
//!                      -> heap -> console -> the program's main
//! ```
//! Ring 0 notes the TSC and CPUID in [`RECORD`] on its way, for both are cheapest to ask for there.

use crate::arch::gate::{Batch, Op};
use crate::arch::layout::{GIANT, HUGE, PAGE};
use crate::arch::paging::{self, Builder, Table};
use crate::core_cell::{CoreCell, CoreOnce};
use crate::image;
use crate::memory::{heap, map, map::Ranges};
use crate::{clock, shutdown, timing, virtio};
use abi::pvh::{MemoryRange, Module, START_MAGIC, StartInfo};
use core::ops::Range;
use core::slice;

/// What ring 0 notes on its way up; `ring0.s` has the same offsets.
#[repr(C)]
pub(crate) struct Record {
    /// The TSC at the first instruction.
    pub(crate) entry: u64,
    leaves: [[u32; 4]; 4],
}

/// [`Record::leaf`]: features of the processor (leaf 1).
pub(crate) const LEAF_FEATURES: usize = 0;
/// [`Record::leaf`]: more of them (leaf 0x8000_0001).
pub(crate) const LEAF_EXTENDED: usize = 1;
/// [`Record::leaf`]: who the hypervisor is (leaf 0x4000_0000).
pub(crate) const LEAF_HYPERVISOR: usize = 2;
/// [`Record::leaf`]: KVM's features (leaf 0x4000_0001).
pub(crate) const LEAF_KVM_FEATURES: usize = 3;

impl Record {
    /// eax, ebx, ecx, edx of a CPUID leaf.
    pub(crate) fn leaf(&self, leaf: usize) -> [u32; 4] {
        self.leaves[leaf]
    }
}

/// Written by ring 0 before any Rust runs.
pub(crate) static mut RECORD: Record = Record {
    entry: 0,
    leaves: [[0; 4]; 4],
};

/// [`RECORD`], once ring 3 runs.
pub(crate) fn record() -> &'static Record {
    // SAFETY: ring 0 wrote it before the first Rust, and nothing writes it again.
    unsafe { &*(&raw const RECORD) }
}

/// What the monitor told about the machine.
pub(crate) struct Machine {
    /// The command line.
    pub(crate) cmdline: &'static str,
    /// All RAM above the first MiB.
    pub(crate) ram: Ranges,
    /// The program's own ELF file, where the monitor hands it over.
    pub(crate) module: Option<&'static [u8]>,
}

static MACHINE: CoreOnce<Machine> = CoreOnce::new();
/// The virtio devices that answered.
pub(crate) static DEVICES: CoreCell<virtio::Found> = CoreCell::new(virtio::Found::new());

/// The machine, once it is known.
pub(crate) fn machine() -> Option<&'static Machine> {
    MACHINE.get()
}

/// Most bytes of a command line: more than any monitor passes.
const CMDLINE_MAX: usize = 1 << 16;
/// Most entries of a memory map.
const MAP_MAX: u32 = 128;
/// CPUID leaf 0x8000_0001, edx: 1 GiB pages.
const GIANT_PAGES: u32 = 1 << 26;
/// CPUID leaf 1, ecx: the APIC timer has the TSC deadline mode, which KVM has always had.
const TSC_DEADLINE: u32 = 1 << 24;
/// Page table frames besides one for each GiB: the root, and those of image, devices and module.
const FRAMES: u64 = 32;
/// The most memory that the tables are laid out for: 4 TiB.
const RAM_LIMIT: u64 = 4096 * GIANT;

unsafe extern "Rust" {
    /// The program: what `#[libos::main]` makes.
    safe fn __libos_main() -> !;
}

/// Ring 3's first Rust.
pub(crate) extern "C" fn start(info: *const StartInfo) -> ! {
    timing::mark(timing::Phase::Ring3);
    // SAFETY: PVH hands over the address of its start information, which the tables of the start map.
    let info = unsafe { info.read() };
    assert!(info.magic == START_MAGIC, "not started by PVH");
    let machine = describe(&info);
    assert!(
        record().leaf(LEAF_FEATURES)[2] & TSC_DEADLINE != 0,
        "this machine's APIC timer has no TSC deadline mode"
    );
    let devices = virtio::listed(machine.cmdline, &machine.ram);
    let (root, used) = build_tables(machine, &devices);
    timing::mark(timing::Phase::Tables);
    first_batch(root, devices);
    timing::mark(timing::Phase::Switched);
    claim_heap(machine, &used);
    timing::mark(timing::Phase::Heap);
    crate::console::start();
    timing::mark(timing::Phase::Console);
    crate::options::check();
    timing::report();
    __libos_main()
}

/// Reads what the monitor hands over.
fn describe(info: &StartInfo) -> &'static Machine {
    let count = info.memory_map_count.min(MAP_MAX) as usize;
    // SAFETY: PVH: so many entries are there, and nothing writes them.
    let entries = unsafe { slice::from_raw_parts(info.memory_map as *const MemoryRange, count) };
    let ram = map::ram(entries.iter().copied(), RAM_LIMIT);
    let module = (info.module_count > 0).then(|| {
        // SAFETY: PVH: so many modules are there.
        unsafe { (info.modules as *const Module).read() }
    });
    let module = module.filter(|m| {
        m.start
            .checked_add(m.size)
            .is_some_and(|end| m.size != 0 && m.start >= abi::layout::IMAGE_START && end <= RAM_LIMIT)
    });
    MACHINE.get_or_init(|| Machine {
        cmdline: command_line(info.cmdline),
        ram,
        // SAFETY: the module is RAM that the heap leaves out or a window of its own; `build_tables` maps it.
        module: module.map(|m| unsafe {
            slice::from_raw_parts(m.start as *const u8, m.size as usize)
        }),
    })
}

/// The text up to its NUL, or up to what is not UTF-8.
fn command_line(address: u64) -> &'static str {
    if address == 0 {
        return "";
    }
    let start = address as *const u8;
    let mut length = 0;
    // SAFETY: PVH: a NUL ends it, and memory is there up to the NUL.
    while length < CMDLINE_MAX && unsafe { start.add(length).read() } != 0 {
        length += 1;
    }
    // SAFETY: just read, and nothing writes it: the heap leaves it out.
    let bytes = unsafe { slice::from_raw_parts(start, length) };
    match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// Builds the page tables behind the image; gives their root and the memory they take.
fn build_tables(machine: &Machine, devices: &virtio::Found) -> (u64, Range<u64>) {
    let base = image::end();
    let giant = record().leaf(LEAF_EXTENDED)[3] & GIANT_PAGES != 0;
    let gibs = machine.ram.iter().map(|r| r.end.div_ceil(GIANT)).max().unwrap_or(0);
    let wanted = FRAMES + if giant { 0 } else { gibs };
    let room = base..base + wanted * PAGE;
    assert!(machine.ram.hold(&room), "too little memory for the page tables");
    // SAFETY: free RAM behind the image, mapped by the tables of the start, and nobody else's.
    let frames = unsafe { slice::from_raw_parts_mut(base as *mut Table, wanted as usize) };
    let tables = Builder::new(frames, base, giant).and_then(|mut tables| {
        tables.map(PAGE..abi::layout::IMAGE_START, paging::DATA)?;
        for range in machine.ram.iter() {
            tables.map(range.clone(), paging::DATA)?;
        }
        for region in image::regions() {
            tables.map(region.range, region.flags)?;
        }
        let ioapics = abi::layout::IOAPIC..abi::layout::IOAPIC + HUGE;
        tables.map(ioapics, paging::RING0_DATA)?;
        for device in devices.iter() {
            tables.map(device.registers(), paging::DATA)?;
        }
        if let Some(module) = machine.module {
            let range = module.as_ptr_range();
            let range = range.start as u64..range.end as u64;
            if !machine.ram.hold(&range) {
                tables.map(range, paging::CONSTANT)?;
            }
        }
        Ok(tables.used())
    });
    match tables {
        Ok(used) => (base, base..base + used as u64 * PAGE),
        Err(paging::OutOfFrames) => panic!("too many mappings for the page tables"),
    }
}

/// Everything that only ring 0 may do, at once.
fn first_batch(root: u64, mut devices: virtio::Found) {
    let mut batch = Batch::<{ 7 + 3 * virtio::MAX }>::new();
    batch.push(Op::load_cr3(root));
    if let Some(ops) = clock::start(record()) {
        batch.extend(ops);
    }
    batch.extend(shutdown::route());
    let first = devices.ask(&mut batch);
    // SAFETY: the tables map everything that is in use; the clock's pages are its own; identifying a device
    // changes nothing.
    unsafe { batch.run() };
    devices.answered(&batch, first);
    *DEVICES.borrow() = devices;
    clock::settle(record());
}

/// Gives the heap what nothing else uses.
fn claim_heap(machine: &Machine, tables: &Range<u64>) {
    let mut free = machine.ram.clone();
    free.remove(&(abi::layout::IMAGE_START..tables.end));
    let cmdline = machine.cmdline.as_ptr() as u64;
    free.remove(&(cmdline..cmdline + machine.cmdline.len() as u64 + 1));
    if let Some(module) = machine.module {
        free.remove(&(module.as_ptr() as u64..module.as_ptr_range().end as u64));
    }
    for range in free.iter() {
        // SAFETY: mapped, RAM, and nobody's.
        unsafe { heap::claim(range.clone()) };
    }
}
