//! The gate: what ring 3 asks of ring 0.
//!
//! A call costs an exception and an `iretq`, a register access inside it little beside: so accesses come in
//! batches. The other calls put the processor to sleep, let pending interrupts in, and end the VM.

#[cfg(not(test))]
use core::arch::asm;

const BATCH: u64 = 0;
const IDLE: u64 = 1;
const WINDOW: u64 = 2;
const EXIT: u64 = 3;

/// One register access: what `ring0.s` reads.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    operation: u64,
    address: u64,
    value: u64,
}

impl Op {
    /// Reads a byte of I/O space.
    pub(crate) const fn in8(port: u16) -> Self {
        Self::new(0, port as u64, 0)
    }

    /// Writes a byte of I/O space.
    pub(crate) const fn out8(port: u16, value: u8) -> Self {
        Self::new(1, port as u64, value as u64)
    }

    /// Writes a string to one port, byte for byte. The bytes must be there until the batch has run.
    pub(crate) fn out_string(port: u16, text: &[u8]) -> Self {
        let length = text.len() as u64;
        assert!(length < 1 << 16, "a string of {length} bytes to a port");
        Self::new(2, port.into(), text.as_ptr() as u64 | length << 48)
    }

    /// Reads a 32-bit register in memory space.
    pub(crate) const fn read32(address: u64) -> Self {
        Self::new(3, address, 0)
    }

    /// Writes a 32-bit register in memory space.
    pub(crate) const fn write32(address: u64, value: u32) -> Self {
        Self::new(4, address, value as u64)
    }

    /// Writes a model-specific register.
    pub(crate) const fn write_msr(msr: u32, value: u64) -> Self {
        Self::new(5, msr as u64, value)
    }

    /// Changes to another set of page tables.
    pub(crate) const fn load_cr3(root: u64) -> Self {
        Self::new(6, root, 0)
    }

    /// Executes CPUID, subleaf 0; the answer is [`Self::cpuid_result`].
    pub(crate) const fn cpuid(leaf: u32) -> Self {
        Self::new(7, leaf as u64, 0)
    }

    const fn new(operation: u64, address: u64, value: u64) -> Self {
        Self {
            operation,
            address,
            value,
        }
    }

    /// What a read gave.
    pub(crate) const fn result(&self) -> u32 {
        self.value as u32
    }

    /// What CPUID gave: eax, ebx, ecx, edx.
    pub(crate) const fn cpuid_result(&self) -> [u32; 4] {
        [
            self.address as u32,
            (self.address >> 32) as u32,
            self.value as u32,
            (self.value >> 32) as u32,
        ]
    }
}

/// Up to `N` accesses, gathered and then run at once.
pub(crate) struct Batch<const N: usize> {
    ops: [Op; N],
    count: usize,
}

impl<const N: usize> Batch<N> {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self {
            ops: [Op::new(0, 0, 0); N],
            count: 0,
        }
    }

    /// Adds an access; gives its place, by which [`Self::result`] finds what it read.
    ///
    /// # Panics
    /// Past `N`.
    pub(crate) fn push(&mut self, op: Op) -> usize {
        self.ops[self.count] = op;
        self.count += 1;
        self.count - 1
    }

    /// Adds accesses that nobody asks the results of.
    ///
    /// # Panics
    /// Past `N`.
    pub(crate) fn extend(&mut self, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            self.push(op);
        }
    }

    /// Runs them.
    ///
    /// # Safety
    /// As for [`batch`].
    pub(crate) unsafe fn run(&mut self) {
        // SAFETY: the caller's.
        unsafe { batch(&mut self.ops[..self.count]) };
    }

    /// What the access at `place` read.
    pub(crate) fn result(&self, place: usize) -> u32 {
        self.ops[place].result()
    }
}

/// Runs the accesses in order; reads leave their value in the operation.
///
/// # Safety
/// Each access must be one that its device or the processor allows, and must not take memory away that Rust relies on.
pub(crate) unsafe fn batch(ops: &mut [Op]) {
    let range = ops.as_mut_ptr_range();
    // SAFETY: the caller vouches for the accesses; ring 0 reads and writes only this slice besides.
    unsafe { call(BATCH, range.start as u64, range.end as u64) };
}

/// Sleeps until an interrupt, at the latest at TSC `deadline` if that is not 0; gives the lines that interrupted, a bit each.
pub(crate) fn idle(deadline: u64) -> u32 {
    // SAFETY: interrupt stubs touch nothing of ring 3's.
    unsafe { call(IDLE, deadline, 0) as u32 }
}

/// Lets pending interrupts in; gives their lines, a bit each.
pub(crate) fn window() -> u32 {
    // SAFETY: as for `idle`.
    unsafe { call(WINDOW, 0, 0) as u32 }
}

/// Ends the VM.
pub(crate) fn exit(status: u32) -> ! {
    // SAFETY: nothing of this program runs any more.
    unsafe { call(EXIT, status.into(), 0) };
    unreachable!("the VM has ended");
}

/// A test on the host has no ring 0 to call.
#[cfg(test)]
unsafe fn call(number: u64, _first: u64, _second: u64) -> u64 {
    unreachable!("gate call {number} in a test")
}

/// Crosses into ring 0 and back.
///
/// # Safety
/// What the call does is the caller's to answer for.
#[cfg(not(test))]
unsafe fn call(number: u64, first: u64, second: u64) -> u64 {
    let result;
    // SAFETY: the gate returns behind itself, with the registers named here changed and no others.
    unsafe {
        asm!(
            "call shoal_gate",
            inlateout("rax") number => result,
            inlateout("rdi") first => _,
            inlateout("rsi") second => _,
            out("rcx") _, out("rdx") _, out("r8") _,
        );
    }
    result
}
