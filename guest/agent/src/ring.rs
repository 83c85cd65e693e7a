//! What the main program wrote lately, for all who read it.
//!
//! ```text
//!          start                                   end
//!   forgotten │ out │ err │ out ...                 │ written next
//!                      ▲ reader A         reader B ▲
//! ```
//! There is one writer, which never waits: when the ring is full, the oldest bytes go. Readers keep their own position; one whose
//! position was forgotten is told how much it missed.

use std::collections::VecDeque;

/// Bytes that are kept.
pub(crate) const CAPACITY: usize = 256 * 1024;
/// Runs of one stream that are kept: a program that alternates between both streams makes a run a write.
const RUNS: usize = 8192;

/// Which of a program's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

/// The last bytes of both outputs, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    bytes: VecDeque<u8>,
    /// Where runs of one stream begin; the first begins at or before `start`.
    runs: VecDeque<(u64, Output)>,
    /// Position of the first byte kept.
    start: u64,
}

/// What a reader finds at its position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// Bytes of one stream.
    Bytes(Output, &'a [u8]),
    /// So many were forgotten; the reader goes on behind them.
    Missed(u64),
    /// Nothing yet.
    Nothing,
}

impl Ring {
    /// Position of the next byte written.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Position of the first byte kept.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn push(&mut self, output: Output, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.runs.back().is_none_or(|run| run.1 != output) {
            if self.runs.len() == RUNS {
                let second = self.runs[1].0;
                self.forget(second - self.start);
            }
            self.runs.push_back((self.end(), output));
        }
        self.bytes.extend(bytes);
        self.forget((self.bytes.len().saturating_sub(CAPACITY)) as u64);
    }

    /// What is at `position`: at most one run, and at most up to where the memory wraps.
    pub(crate) fn read(&self, position: u64) -> Found<'_> {
        if position < self.start {
            return Found::Missed(self.start - position);
        }
        if position >= self.end() {
            return Found::Nothing;
        }
        let run = self.runs.partition_point(|run| run.0 <= position);
        let output = self.runs[run - 1].1;
        let until = self.runs.get(run).map_or(self.end(), |next| next.0);
        let (first, second) = self.bytes.as_slices();
        // Both fit in memory.
        let at = (position - self.start) as usize;
        let upto = (until - self.start) as usize;
        let bytes = match at.checked_sub(first.len()) {
            None => &first[at..upto.min(first.len())],
            Some(at) => &second[at..upto - first.len()],
        };
        Found::Bytes(output, bytes)
    }

    /// Lets go of the first `count` bytes.
    fn forget(&mut self, count: u64) {
        // At most the ring's length.
        self.bytes.drain(..count as usize);
        self.start += count;
        while self.runs.len() > 1 && self.runs[1].0 <= self.start {
            self.runs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All that a reader at `position` gets, and how much it missed.
    fn drain(ring: &Ring, position: &mut u64) -> (Vec<(Output, u8)>, u64) {
        let (mut all, mut missed) = (Vec::new(), 0);
        loop {
            match ring.read(*position) {
                Found::Bytes(output, bytes) => {
                    assert!(!bytes.is_empty());
                    all.extend(bytes.iter().map(|&byte| (output, byte)));
                    *position += bytes.len() as u64;
                }
                Found::Missed(count) => {
                    missed += count;
                    *position += count;
                }
                Found::Nothing => return (all, missed),
            }
        }
    }

    proptest! {
        // Each writes more than the ring holds.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn a_reader_gets_each_byte_or_is_told_that_it_missed_it(
            writes in proptest::collection::vec((any::<bool>(), 0..60_000_usize, any::<bool>()), 1..40),
        ) {
            let mut ring = Ring::default();
            let (mut written, mut seen, mut position) = (Vec::new(), 0, 0);
            for (index, (is_err, length, reads)) in writes.into_iter().enumerate() {
                let output = if is_err { Output::Stderr } else { Output::Stdout };
                // Cut to a byte: that is what tells writes apart.
                let bytes = vec![index as u8; length];
                ring.push(output, &bytes);
                written.extend(bytes.into_iter().map(|byte| (output, byte)));
                prop_assert!(ring.end() - ring.start() <= CAPACITY as u64);
                if reads {
                    let (got, missed) = drain(&ring, &mut position);
                    seen += missed as usize;
                    prop_assert_eq!(&written[seen..], &got[..]);
                    seen = written.len();
                }
            }
        }
    }

    #[test]
    fn streams_that_alternate_for_ever_take_bounded_memory() {
        let mut ring = Ring::default();
        for _ in 0..RUNS * 3 {
            ring.push(Output::Stdout, b"a");
            ring.push(Output::Stderr, b"b");
        }
        assert_eq!(ring.runs.len(), RUNS);
        assert_eq!(ring.read(0), Found::Missed(ring.start()));
        assert_eq!(
            ring.read(ring.end() - 1),
            Found::Bytes(Output::Stderr, b"b")
        );
        assert_eq!(ring.read(ring.end()), Found::Nothing);
    }
}
