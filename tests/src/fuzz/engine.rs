//! The loop: take an input, change it, run it, keep it where it reached new code.

use std::time::{Duration, Instant};

use super::Target;
use super::cover::Coverage;
use super::mutate::{Random, mutate};
use super::slot::Slot;

/// Inputs kept at most: past that, a new one takes an old one's place.
const KEPT: usize = 4096;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// After so many inputs.
    Runs(u64),
    /// After so long.
    Time(Duration),
}

/// Runs `target` on input after input until `limit`; `before` sees each first, `after` when it is through.
fn fuzz(
    target: &Target,
    seed: u64,
    limit: Limit,
    mut before: impl FnMut(&[u8]),
    mut after: impl FnMut(&Coverage),
) {
    let mut random = Random::new(seed);
    let mut coverage = Coverage::new();
    let mut kept = (target.seeds)();
    assert!(!kept.is_empty(), "{} has no valid input", target.name);
    let seeds = kept.len();
    let mut input = Vec::new();
    let start = Instant::now();
    for run in 0_u64.. {
        match limit {
            Limit::Runs(runs) if run >= runs => break,
            // The clock is slower than many a target.
            Limit::Time(time) if run % 64 == 0 && start.elapsed() >= time => break,
            _ => {}
        }
        input.clear();
        match usize::try_from(run) {
            // Valid inputs first, as they are.
            Ok(run) if run < seeds => input.extend_from_slice(&kept[run]),
            _ => {
                // The newest are the likeliest to lead further.
                let newest =
                    kept.len() - 1 - random.below(kept.len()).min(random.below(kept.len()));
                input.extend_from_slice(&kept[newest]);
                let other = &kept[random.below(kept.len())];
                mutate(&mut random, &mut input, other, target.words);
            }
        }
        before(&input);
        // What the engine itself reached is not the target's.
        coverage.take();
        (target.run)(&input);
        if coverage.take() {
            if kept.len() < KEPT {
                kept.push(input.clone());
            } else {
                let at = seeds + random.below(KEPT - seeds);
                kept[at].clone_from(&input);
            }
        }
        after(&coverage);
    }
}

/// A worker's run: each input is noted in `slot`.
pub(super) fn work(target: &Target, seed: u64, limit: Limit, slot: &Slot) -> usize {
    let mut branches = 0;
    fuzz(
        target,
        seed,
        limit,
        |input| slot.begin(input),
        |coverage| {
            branches = coverage.branches();
            slot.done(coverage.reached());
        },
    );
    branches
}

/// A short run in this process, for tests: a panic is told with the input that made it.
pub fn brief(target: &Target, runs: u64) {
    struct Tell(Vec<u8>);
    impl Drop for Tell {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input was b\"{}\"", self.0.escape_ascii());
            }
        }
    }
    let tell = std::cell::RefCell::new(Tell(Vec::new()));
    fuzz(
        target,
        0x5348_4F41,
        Limit::Runs(runs),
        |input| {
            let now = &mut tell.borrow_mut().0;
            now.clear();
            now.extend_from_slice(input);
        },
        |_| {},
    );
}
