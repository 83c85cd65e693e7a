//! The gate: what ring 3 asks of ring 0.
//!
//! A call costs an exception and an `iretq`, a register access inside it little beside: so accesses come in
//! batches. The other calls put the processor to sleep, let pending interrupts in, and end the VM.

#[cfg(not(test))]
use core::arch::asm;

const BATCH: u64 = 0;
const IDLE: u64 = 1;
const EXIT: u64 = 2;

/// One register access: an operation, an address, a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    kind: Kind,
    address: u64,
    value: u64,
}

/// The operations, by their place in `ring0.s`'s table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Kind {
    Write32 = 0,
    Read32 = 1,
    In8 = 2,
    Out8 = 3,
    WriteMsr = 4,
    LoadCr3 = 5,
    Cpuid = 6,
    OutString = 7,
}

impl Op {
    /// Reads a byte of I/O space.
    pub(crate) const fn in8(port: u16) -> Self {
        Self::new(Kind::In8, port as u64, 0)
    }

    /// Writes a byte of I/O space.
    pub(crate) const fn out8(port: u16, value: u8) -> Self {
        Self::new(Kind::Out8, port as u64, value as u64)
    }

    /// Writes a string to one port, byte for byte. The bytes must be there until the batch has run.
    pub(crate) fn out_string(port: u16, text: &[u8]) -> Self {
        let port_and_length = u64::from(port) | (text.len() as u64) << 16;
        Self::new(Kind::OutString, port_and_length, text.as_ptr() as u64)
    }

    /// Reads a 32-bit register in memory space.
    pub(crate) const fn read32(address: u64) -> Self {
        Self::new(Kind::Read32, address, 0)
    }

    /// Writes a 32-bit register in memory space.
    pub(crate) const fn write32(address: u64, value: u32) -> Self {
        Self::new(Kind::Write32, address, value as u64)
    }

    /// Writes a model-specific register.
    pub(crate) const fn write_msr(msr: u32, value: u64) -> Self {
        Self::new(Kind::WriteMsr, msr as u64, value)
    }

    /// Changes to another set of page tables.
    pub(crate) const fn load_cr3(root: u64) -> Self {
        Self::new(Kind::LoadCr3, root, 0)
    }

    /// Executes CPUID, subleaf 0; the answer is [`Batch::cpuid_result`].
    pub(crate) const fn cpuid(leaf: u32) -> Self {
        Self::new(Kind::Cpuid, leaf as u64, 0)
    }

    const fn new(kind: Kind, address: u64, value: u64) -> Self {
        Self {
            kind,
            address,
            value,
        }
    }
}

/// Accesses, gathered in order and then run at once.
///
/// `WORDS` is the memory for them: two words an access, and two for every run of accesses of one kind, for ring 0 takes
/// its few steps a run at a time.
pub(crate) struct Batch<const WORDS: usize> {
    words: [u64; WORDS],
    used: usize,
    runs: u64,
    /// The kind of the last run, and the place of its count.
    last: Option<(Kind, usize)>,
}

impl<const WORDS: usize> Batch<WORDS> {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self {
            words: [0; WORDS],
            used: 0,
            runs: 0,
            last: None,
        }
    }

    /// Adds an access; gives its place, by which [`Self::result`] finds what it read.
    ///
    /// # Panics
    /// Where the words are used up.
    pub(crate) fn push(&mut self, op: Op) -> usize {
        match self.last {
            Some((kind, count)) if kind == op.kind => self.words[count] += 1,
            _ => {
                self.word(op.kind as u64);
                let count = self.word(1);
                self.runs += 1;
                self.last = Some((op.kind, count));
            }
        }
        self.word(op.address);
        self.word(op.value)
    }

    fn word(&mut self, word: u64) -> usize {
        self.words[self.used] = word;
        self.used += 1;
        self.used - 1
    }

    /// Adds accesses that nobody asks the results of.
    ///
    /// # Panics
    /// Where the words are used up.
    pub(crate) fn extend(&mut self, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            self.push(op);
        }
    }

    /// Runs them, if there are any.
    ///
    /// # Safety
    /// Each access must be one that its device or the processor allows, and must not take memory away that Rust relies on.
    pub(crate) unsafe fn run(&mut self) {
        if self.runs > 0 {
            // SAFETY: the caller vouches for the accesses; ring 0 reads and writes only these words besides.
            unsafe { call(BATCH, self.runs, self.words.as_mut_ptr() as u64) };
        }
    }

    /// What the access at `place` read.
    pub(crate) fn result(&self, place: usize) -> u32 {
        self.words[place] as u32
    }

    /// What CPUID at `place` gave: eax, ebx, ecx, edx.
    pub(crate) fn cpuid_result(&self, place: usize) -> [u32; 4] {
        let (low, high) = (self.words[place - 1], self.words[place]);
        [
            low as u32,
            (low >> 32) as u32,
            high as u32,
            (high >> 32) as u32,
        ]
    }
}

/// Runs one access; gives what it read.
///
/// # Safety
/// As for [`Batch::run`].
pub(crate) unsafe fn access(op: Op) -> u32 {
    let mut batch = Batch::<4>::new();
    let place = batch.push(op);
    // SAFETY: the caller's.
    unsafe { batch.run() };
    batch.result(place)
}

/// Sleeps until an interrupt, at the latest at TSC `deadline` if that is not 0; gives the lines that interrupted, a bit each.
pub(crate) fn idle(deadline: u64) -> u32 {
    // SAFETY: interrupt stubs touch nothing of ring 3's.
    unsafe { call(IDLE, deadline, 0) as u32 }
}

/// Lets pending interrupts in; gives their lines, a bit each.
///
/// It sleeps until a moment long past: a bare `sti; nop; cli` lets nothing in where ring 0 is emulated.
pub(crate) fn window() -> u32 {
    idle(1)
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
            out("rcx") _, out("rdx") _, out("r8") _, out("r9") _, out("r10") _,
        );
    }
    result
}
