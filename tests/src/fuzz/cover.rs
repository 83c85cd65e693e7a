//! Which code an input reached.
//!
//! Built with the compiler's own coverage counters (`cargo ci fuzz` asks for them), every branch has a byte that
//! counts how often it was taken. An input that takes a branch anew, or more often by an order, is worth keeping: mutating it
//! leads deeper. Without counters, as in `cargo ci test`, no input is better than another.

use std::sync::Mutex;

/// Where the linker put the counters: start and end.
static COUNTERS: Mutex<Option<(usize, usize)>> = Mutex::new(None);

/// Called by each instrumented object before `main`, all with the same bounds.
///
/// # Safety
/// The compiler's own start-up code calls this, with the bounds of its counters.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    if let Ok(mut counters) = COUNTERS.lock() {
        *counters = Some((start as usize, end as usize));
    }
}

/// What all inputs so far have reached.
#[derive(Debug)]
pub(super) struct Coverage {
    counters: *mut u8,
    /// For each counter, a bit for each order of magnitude that was seen.
    seen: Vec<u8>,
    reached: usize,
}

impl Coverage {
    pub(super) fn new() -> Self {
        let (start, end) = COUNTERS.lock().ok().and_then(|c| *c).unwrap_or((0, 0));
        Self {
            counters: start as *mut u8,
            seen: vec![0; end - start],
            reached: 0,
        }
    }

    /// How many branches there are; zero where none is counted.
    pub(super) fn branches(&self) -> usize {
        self.seen.len()
    }

    /// How many of them were reached.
    pub(super) fn reached(&self) -> usize {
        self.reached
    }

    /// Says whether what ran since the last call reached anything new.
    ///
    /// This is instrumented like all else, and runs after each input: most counters are passed over many at a time.
    pub(super) fn take(&mut self) -> bool {
        let mut new = false;
        let whole = self.seen.len() - self.seen.len() % CHUNK;
        for start in (0..whole).step_by(CHUNK) {
            // SAFETY: the counters are statics of this program, as many as `seen` is long; only this thread runs
            // instrumented code while it fuzzes.
            let taken: [u64; CHUNK / 8] = unsafe {
                self.counters
                    .add(start)
                    .cast::<[u64; CHUNK / 8]>()
                    .read_unaligned()
            };
            if taken.iter().fold(0, |all, word| all | word) == 0 {
                continue;
            }
            for (word, _) in taken.iter().enumerate().filter(|(_, taken)| **taken != 0) {
                new |= self.note(start + 8 * word, 8);
            }
        }
        new | self.note(whole, self.seen.len() - whole)
    }

    /// Notes and clears so many counters.
    fn note(&mut self, start: usize, count: usize) -> bool {
        let mut new = false;
        for at in start..start + count {
            // SAFETY: as in `take`.
            let taken = unsafe { self.counters.add(at).replace(0) };
            let seen = &mut self.seen[at];
            let before = *seen;
            *seen |= ORDERS[usize::from(taken)];
            self.reached += usize::from(before == 0 && *seen != 0);
            new |= *seen != before;
        }
        new
    }
}

/// How many counters are looked at in one step.
const CHUNK: usize = 128;

/// For how often a branch was taken, a bit for the order of magnitude.
const ORDERS: [u8; 256] = {
    let mut orders = [0; 256];
    let mut taken = 1;
    while taken < 256 {
        orders[taken] = match taken {
            1 => 1,
            2 => 2,
            3 => 4,
            4..8 => 8,
            8..16 => 16,
            16..32 => 32,
            32..128 => 64,
            _ => 128,
        };
        taken += 1;
    }
    orders
};
