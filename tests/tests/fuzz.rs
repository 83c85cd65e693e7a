//! A short run of every fuzz target: `cargo ci fuzz` is the long one.

use tests::fuzz::{brief, targets};

const RUNS: u64 = 20_000;

#[test]
fn no_hostile_input_is_too_much() {
    for target in targets::ALL {
        eprintln!("{}", target.name);
        brief(&target, RUNS);
    }
}
