//! The memory mover: copies and clears a guest's memory for its kernel, at one write to a port.
//!
//! Where ring 0 is emulated, a kernel that copies a page takes a step for each eight bytes: 118 µs on the reference host. A write to
//! a port takes 8. Our kernel asks here where its command line says so (`pvmemory=`, [`crate::boot::linux::words`]).
//!
//! ```text
//! port <- physical address of the request / 64
//! request: to, from (all ones: clear), size, done: eight bytes each; `done` is the answer
//! ```
//! Addresses are virtual, and are looked up in the page tables of the virtual CPU that asks, as its processor would: what is not there, not writable
//! at the target, not accessible to ring 3 in the lower half, or not yet marked accessed (and dirty at the target) ends the work
//! there. The guest does the rest itself, faults and all.
//!
//! A guest can write any tables that it likes: they lead to no memory but its own, and a request takes [`MAX`] bytes at most, in each
//! of whose pages eight entries are read. A program in ring 3 gets nothing, though such hosts may let it reach the port.
//!
//! KVM does not see these writes, as it sees none of a device. It must see those to page tables that it keeps shadows of: a kernel may have
//! a new table cleared here only if the page was no table before, or each entry was emptied before it was freed. Linux empties them.
//!
//! Source: Intel SDM volume 3, 4.5 (4-level paging).

use kvm_bindings::kvm_sregs;
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress};

use super::memory::Memory;

/// Most bytes of one request: what takes the host a fraction of a millisecond.
pub const MAX: u64 = 2 << 20;
/// Where to copy from, to clear: an address that no memory has. Zero is a program's to try.
pub const ZEROES: u64 = u64::MAX;
/// Requests are aligned so, for their address to fit 32 bits.
pub const ALIGNMENT: u64 = 64;
/// Where the answer is in a request.
pub const DONE: u64 = 24;

const PAGE: u64 = 4096;
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
/// The bits of an entry that are an address.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

const CR0_PG: u64 = 1 << 31;
const CR4_LA57: u64 = 1 << 12;
const EFER_LMA: u64 = 1 << 10;

/// A virtual CPU asks. One that is not in ring 0, or has no tables of four levels, is not heard.
pub(super) fn asked(vcpu: &VcpuFd, memory: &Memory, word: u32) {
    if let Some(tables) = vcpu.get_sregs().ok().and_then(|sregs| tables(&sregs)) {
        serve(memory, tables, word);
    }
}

/// Where its tables are, if it may ask.
fn tables(sregs: &kvm_sregs) -> Option<u64> {
    let four_levels =
        sregs.cr0 & CR0_PG != 0 && sregs.efer & EFER_LMA != 0 && sregs.cr4 & CR4_LA57 == 0;
    (four_levels && sregs.cs.dpl == 0).then_some(sregs.cr3)
}

/// Carries out the request that `word` names, by the tables that `cr3` names.
pub fn serve(memory: &Memory, cr3: u64, word: u32) {
    let at = u64::from(word) * ALIGNMENT;
    let mut bytes = [0_u8; DONE as usize];
    if memory.read_slice(&mut bytes, GuestAddress(at)).is_err() {
        return;
    }
    let word = |index: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[index * 8..][..8]);
        u64::from_le_bytes(word)
    };
    let request = Request {
        to: word(0),
        from: Some(word(1)).filter(|from| *from != ZEROES),
        size: word(2),
    };
    let done = Walk { memory, cr3 }.carry_out(request);
    // A request at the very end of memory gets no answer.
    let _ = memory.write_slice(&done.to_le_bytes(), GuestAddress(at + DONE));
}

/// What a guest asks for.
#[derive(Clone, Copy, Debug)]
struct Request {
    to: u64,
    /// Nothing: clear.
    from: Option<u64>,
    size: u64,
}

/// Memory, as the tables of one address space show it.
struct Walk<'a> {
    memory: &'a Memory,
    cr3: u64,
}

impl Walk<'_> {
    /// Does it as far as it can be done; gives the number of bytes.
    fn carry_out(&self, request: Request) -> u64 {
        let size = request.size.min(MAX);
        let mut page = [0; PAGE as usize];
        let mut done = 0;
        while done < size {
            let to = request.to.wrapping_add(done);
            let from = request.from.map(|from| from.wrapping_add(done));
            let left = |address: u64| PAGE - address % PAGE;
            let count = (size - done).min(left(to)).min(from.map_or(PAGE, left));
            let Some(target) = self.translate(to, true) else {
                break;
            };
            // At most a page. It goes through a buffer of ours: both ends may be the same memory.
            let part = &mut page[..count as usize];
            let read = match from {
                None => Some(()),
                Some(from) => self
                    .translate(from, false)
                    .and_then(|source| self.memory.read_slice(part, GuestAddress(source)).ok()),
            };
            if read.is_none() || self.memory.write_slice(part, GuestAddress(target)).is_err() {
                break;
            }
            done += count;
        }
        done
    }

    /// The physical address, if the processor could use it as it is marked now.
    fn translate(&self, address: u64, write: bool) -> Option<u64> {
        // Canonical: bits 63 to 47 are alike.
        let sign = (address as i64) >> 47;
        let mut wanted = PRESENT | ACCESSED;
        match sign {
            0 => wanted |= USER,
            -1 => {}
            _ => return None,
        }
        if write {
            wanted |= WRITABLE;
        }
        let mut table = self.cr3 & ADDRESS;
        for level in [39, 30, 21, 12] {
            let at = table + (address >> level) % 512 * 8;
            let entry: u64 = self.memory.read_obj(GuestAddress(at)).ok()?;
            if entry & wanted != wanted {
                return None;
            }
            if level == 12 || (level < 39 && entry & LARGE != 0) {
                let inside = (1 << level) - 1;
                let dirty = !write || entry & DIRTY != 0;
                return dirty.then_some((entry & ADDRESS & !inside) | (address & inside));
            }
            table = entry & ADDRESS;
        }
        None
    }
}

#[cfg(test)]
#[path = "mover_tests.rs"]
mod tests;
