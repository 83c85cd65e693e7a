//! Which calls a request makes.

use proptest::prelude::*;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::*;
use crate::machine::memory::Memory;

fn buffers(lengths: &[usize]) -> Buffers {
    let memory = Memory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
    let mut buffers = Buffers::new(&memory);
    let mut at = 0;
    for length in lengths {
        let slice = memory.get_slice(GuestAddress(at), *length).unwrap();
        assert!(buffers.push(&slice));
        at += *length as u64;
    }
    buffers
}

fn job(work: Work, durable: bool) -> Job {
    Job::new(Request {
        token: 1,
        work,
        durable,
    })
}

fn mode(job: &Job) -> i32 {
    match job.call() {
        Call::Allocate { mode, .. } => mode,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn a_call_that_does_less_goes_on_where_it_was(
        lengths in proptest::collection::vec(1..300_usize, 1..8),
        counts in proptest::collection::vec(1..400_u32, 1..100),
    ) {
        let total: usize = lengths.iter().sum();
        let whole = buffers(&lengths);
        let start = whole.pieces()[0].iov_base as usize;
        let mut job = job(Work::Read { at: 512, to: whole }, true);
        let mut done = 0;
        let mut counts = counts.into_iter().cycle();
        loop {
            let Call::Read { at, to } = job.call() else {
                panic!("not a read");
            };
            prop_assert_eq!(at, 512 + done as u64);
            prop_assert_eq!(to.len() as usize, total - done);
            // Pieces in a row: the first begins where the last call ended.
            prop_assert_eq!(to.pieces()[0].iov_base as usize, start + done);
            let sum: usize = to.pieces().iter().map(|p| p.iov_len).sum();
            prop_assert_eq!(sum, total - done);
            let count = (counts.next().unwrap() as usize).min(total - done);
            done += count;
            if let Some(finished) = job.take(Ok(count as u32)) {
                prop_assert_eq!(finished.result, Ok(()));
                break;
            }
        }
        prop_assert_eq!(done, total);
    }
}

#[test]
fn a_call_that_does_nothing_or_too_much_ends_the_request() {
    for count in [0, 513, u32::MAX] {
        let mut job = job(
            Work::Write {
                at: 0,
                from: buffers(&[512]),
            },
            false,
        );
        let finished = job.take(Ok(count)).unwrap();
        assert_eq!(finished.result, Err(Failure::Short));
    }
}

#[test]
fn a_call_that_did_not_happen_is_made_again_but_not_for_ever() {
    let mut job = job(Work::Flush, false);
    for errno in [Errno::INTR, Errno::CANCELED, Errno::AGAIN] {
        assert_eq!(job.take(Err(errno)), None);
        assert!(matches!(job.call(), Call::Sync));
    }
    let ends = (0..RETRIES).find_map(|_| job.take(Err(Errno::INTR)));
    assert_eq!(ends.unwrap().result, Err(Failure::Io(Errno::INTR)));
}

#[test]
fn zeros_become_a_hole_where_they_cannot_be_had_otherwise() {
    let zero = |may_unmap| Work::Zero {
        at: 0,
        length: 512,
        may_unmap,
    };
    let punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    let mut job = job(zero(false), false);
    assert_eq!(mode(&job), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
    assert_eq!(job.take(Err(Errno::OPNOTSUPP)), None);
    assert_eq!(mode(&job), punch);
    let finished = job.take(Err(Errno::OPNOTSUPP)).unwrap();
    assert_eq!(finished.result, Err(Failure::Unsupported));
    job = self::job(zero(true), false);
    assert_eq!(mode(&job), punch);
    assert_eq!(job.take(Ok(0)).unwrap().result, Ok(()));
}

#[test]
fn what_is_durable_is_synced_once() {
    let mut discard = job(Work::Discard { at: 0, length: 512 }, true);
    assert_eq!(discard.take(Ok(0)), None);
    assert!(matches!(discard.call(), Call::Sync));
    assert_eq!(discard.take(Ok(0)).unwrap().result, Ok(()));
    // A write has a flag for it.
    let write = job(
        Work::Write {
            at: 0,
            from: buffers(&[512]),
        },
        true,
    );
    assert!(matches!(write.call(), Call::Write { durable: true, .. }));
}
