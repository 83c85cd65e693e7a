//! What the device asks of its engine, and when.

use std::collections::VecDeque;
use std::sync::Mutex;

use rustix::io::Errno;

use super::*;
use crate::sync::lock;

/// An engine that does nothing until it is told to.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    begun: Vec<(u32, String, bool)>,
    under_way: Vec<Request>,
    finished: VecDeque<Finished>,
    submits: u32,
}

impl Fake {
    /// Finishes the request that was begun `nth` of those under way.
    fn finish(&self, nth: usize, result: Result<(), Failure>) {
        let mut inner = lock(&self.0);
        let token = inner.under_way.remove(nth).token;
        inner.finished.push_back(Finished { token, result });
    }

    fn begun(&self) -> Vec<(String, bool)> {
        let inner = lock(&self.0);
        let begun = inner.begun.iter();
        begun
            .map(|(_, what, durable)| (what.clone(), *durable))
            .collect()
    }

    fn under_way(&self) -> usize {
        lock(&self.0).under_way.len()
    }
}

impl Engine for Fake {
    fn begin(&mut self, request: Request) {
        let what = match &request.work {
            Work::Read { at, .. } => format!("read {at}"),
            Work::Write { at, .. } => format!("write {at}"),
            Work::Flush => "flush".to_owned(),
            Work::Discard { at, .. } => format!("discard {at}"),
            Work::Zero { at, .. } => format!("zero {at}"),
        };
        let mut inner = lock(&self.0);
        inner.begun.push((request.token, what, request.durable));
        inner.under_way.push(request);
    }

    fn submit(&mut self) {
        lock(&self.0).submits += 1;
    }

    fn finished(&mut self) -> Option<Finished> {
        lock(&self.0).finished.pop_front()
    }

    fn drain(&mut self) {
        while self.under_way() > 0 {
            self.finish(0, Ok(()));
        }
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn with_fake(without: u64) -> (Driver<Block>, Fake) {
    let fake = Fake::default();
    let (memory, meter) = mock::parts();
    let block = Block::with_engine(
        Box::new(fake.clone()),
        2048,
        false,
        "fake",
        Limiter::new(RateLimit::default()).unwrap(),
        memory.clone(),
        Arc::clone(&meter),
    );
    (Driver::new(block, memory, meter, without), fake)
}

fn put_write(driver: &mut Driver<Block>, sector: u64) -> usize {
    let parts = [header(OUT, sector), Part::Out(vec![1; 512]), Part::In(1)];
    driver.put(0, &parts)
}

#[test]
fn a_flush_is_begun_after_the_writes_that_were_given_back() {
    let (mut driver, fake) = with_fake(0);
    let chain = put_write(&mut driver, 1);
    driver.transport.serve(0);
    assert_eq!(fake.begun(), [("write 512".to_owned(), false)]);
    fake.finish(0, Ok(()));
    driver.transport.serve(0);
    assert_eq!(driver.filled(0, chain), [OK]);
    let flush = driver.put(0, &[header(FLUSH, 0), Part::In(1)]);
    driver.transport.serve(0);
    assert_eq!(fake.begun()[1], ("flush".to_owned(), false));
    // It is not over before the engine says so.
    assert_eq!(driver.used(0), 1);
    fake.finish(0, Err(Failure::Io(Errno::IO)));
    driver.transport.serve(0);
    assert_eq!(driver.filled(0, flush), [ERROR]);
}

#[test]
fn without_flushes_each_write_is_on_the_disk_before_it_is_given_back() {
    let (mut driver, fake) = with_fake(1 << VIRTIO_BLK_F_FLUSH);
    put_write(&mut driver, 0);
    driver.put(0, &[header(WRITE_ZEROES, 0), segment(8, 1, 0), Part::In(1)]);
    driver.transport.serve(0);
    let expected = [("write 0".to_owned(), true), ("zero 4096".to_owned(), true)];
    assert_eq!(fake.begun(), expected);
    // The next driver's disk has a cache again.
    driver.set_up(0);
    put_write(&mut driver, 0);
    driver.transport.serve(0);
    assert_eq!(fake.begun()[2], ("write 0".to_owned(), false));
}

#[test]
fn requests_are_given_back_in_the_order_of_their_end() {
    let (mut driver, fake) = with_fake(0);
    let chains: Vec<_> = (0..3).map(|s| put_write(&mut driver, s)).collect();
    driver.transport.serve(0);
    assert_eq!(lock(&fake.0).submits, 1);
    fake.finish(2, Ok(()));
    fake.finish(0, Err(Failure::Io(Errno::NOSPC)));
    driver.transport.serve(0);
    fake.finish(0, Err(Failure::Unsupported));
    driver.transport.serve(0);
    let heads = driver.given_back(0).into_iter().map(|(head, _)| head);
    let expected = [2, 0, 1].map(|chain: usize| driver.head(0, chains[chain]));
    assert!(heads.eq(expected));
    let statuses: Vec<_> = chains.iter().map(|c| driver.filled(0, *c)).collect();
    assert_eq!(statuses, [[ERROR], [UNSUPPORTED], [OK]]);
    assert_eq!(driver.reading().counter(Counter::DiskErrors), 2);
    assert_eq!(driver.reading().counter(Counter::DiskWrites), 1);
}

#[test]
fn before_a_pause_all_that_is_under_way_is_given_back() {
    let (mut driver, fake) = with_fake(0);
    put_write(&mut driver, 0);
    put_write(&mut driver, 1);
    driver.transport.serve(0);
    put_write(&mut driver, 2);
    driver.transport.pause();
    assert_eq!((driver.used(0), fake.under_way()), (2, 0));
    assert_eq!(fake.begun().len(), 2);
    driver.transport.resume();
    driver.transport.serve(0);
    assert_eq!(fake.under_way(), 1);
}

#[test]
fn at_the_end_all_that_was_handed_over_is_carried_out() {
    let (mut driver, fake) = with_fake(0);
    put_write(&mut driver, 0);
    driver.transport.serve(0);
    put_write(&mut driver, 1);
    driver.transport.halt();
    assert_eq!((driver.used(0), fake.under_way()), (2, 0));
}

#[test]
fn a_reset_forgets_what_was_under_way() {
    let (mut driver, fake) = with_fake(0);
    put_write(&mut driver, 0);
    driver.transport.serve(0);
    driver.set_up(0);
    assert_eq!(fake.under_way(), 0);
    driver.transport.serve(0);
    assert_eq!(driver.used(0), 0);
    // Its place is free again: as many fit as ever.
    for round in 0..3 {
        for sector in 0..20 {
            put_write(&mut driver, sector);
        }
        driver.transport.serve(0);
        assert_eq!(fake.under_way(), 20);
        (0..20).for_each(|_| fake.finish(0, Ok(())));
        driver.transport.serve(0);
        assert_eq!(driver.used(0), 20 * (round + 1));
    }
}

#[test]
fn a_driver_that_hands_over_one_chain_again_and_again_is_bounded() {
    let (mut driver, fake) = with_fake(0);
    // The rest waits on the ring, which has room for it.
    for round in 0..15 {
        for sector in 0..20 {
            put_write(&mut driver, round * 20 + sector);
        }
        driver.transport.serve(0);
    }
    assert_eq!(fake.under_way(), usize::from(DEPTH));
    assert_eq!(driver.used(0), 0);
    fake.finish(0, Ok(()));
    driver.transport.serve(0);
    assert_eq!(fake.under_way(), usize::from(DEPTH));
}
