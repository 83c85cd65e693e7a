//! What a driver gives up, the host gets.

use std::os::unix::fs::MetadataExt;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::*;
use crate::device::{Device, Lifecycle};
use crate::machine::memory;
use crate::spec::MemorySize;
use crate::virtio::mock::{self, Driver, Part};

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATISTICS: usize = 2;
const REPORT: usize = 3;

/// Where the pages are that tests give up: past all that the driver uses itself.
const FIRST: u64 = 0x400;

const WANTED: spec::Balloon = spec::Balloon {
    target_mib: 3,
    deflate_on_oom: true,
    stats_interval_s: 1,
    free_page_reporting: true,
};

fn driver_without(wanted: spec::Balloon, without: u64) -> Driver<Balloon> {
    let memory = memory::create(MemorySize::from_mib(16).unwrap()).unwrap();
    let (_, meter) = mock::parts();
    let balloon = Balloon::new(wanted, memory.clone(), Arc::clone(&meter)).unwrap();
    Driver::new(balloon, memory, meter, without)
}

fn driver() -> Driver<Balloon> {
    driver_without(WANTED, 0)
}

/// Bytes of guest memory that the host has given.
fn held(driver: &Driver<Balloon>) -> u64 {
    let region = driver.memory.iter().next().unwrap();
    let file = region.file_offset().unwrap().file();
    file.metadata().unwrap().blocks() * 512
}

/// Bytes that the driver's own buffers may take meanwhile.
const OWN: u64 = 16 * PAGE;

fn touch(driver: &Driver<Balloon>, pages: u64) {
    let bytes = vec![0x5A; (pages * PAGE) as usize];
    driver
        .memory
        .write(&bytes, GuestAddress(FIRST * PAGE))
        .unwrap();
}

fn numbers(pages: impl IntoIterator<Item = u64>) -> Part {
    let bytes = pages
        .into_iter()
        .flat_map(|page| (page as u32).to_le_bytes());
    Part::Out(bytes.collect())
}

fn byte(driver: &Driver<Balloon>, page: u64) -> u8 {
    driver
        .memory
        .read_obj(GuestAddress(page * PAGE + 7))
        .unwrap()
}

#[test]
fn inflated_pages_go_back_to_the_host_and_come_again_when_touched() {
    let mut driver = driver();
    touch(&driver, 512);
    let before = held(&driver);
    // In the order that Linux has: from the last to the first.
    for start in [256, 0] {
        let pages = (FIRST + start..FIRST + start + 256).rev();
        driver.send(INFLATE, &[numbers(pages)]);
    }
    assert!(held(&driver) <= before - 512 * PAGE + OWN);
    assert_eq!(byte(&driver, FIRST + 100), 0);
    driver.send(DEFLATE, &[numbers([FIRST, FIRST + 1])]);
    touch(&driver, 2);
    assert_eq!(byte(&driver, FIRST + 1), 0x5A);
    let reading = driver.reading();
    assert_eq!(reading.counter(Counter::BalloonInflated), 512);
    assert_eq!(reading.counter(Counter::BalloonDeflated), 2);
    assert_eq!(driver.misuses(), 0);
}

#[test]
fn reported_ranges_go_back_to_the_host() {
    let mut driver = driver();
    touch(&driver, 1024);
    let before = held(&driver);
    let range = |page, count: u64| Part::Raw(page * PAGE, (count * PAGE) as u32, 2);
    driver.send(REPORT, &[range(FIRST, 512), range(FIRST + 600, 100)]);
    assert!(held(&driver) <= before - 612 * PAGE + OWN);
    let bytes = [511, 512, 599, 600, 699, 700].map(|page| byte(&driver, FIRST + page));
    assert_eq!(bytes, [0, 0x5A, 0x5A, 0, 0, 0x5A]);
    assert_eq!(driver.reading().counter(Counter::BalloonReported), 612);
}

#[test]
fn a_new_target_interrupts_and_the_driver_says_how_far_it_is() {
    let driver = driver();
    assert_eq!(driver.read(0x100), 3 * 256);
    driver
        .transport
        .reconfigure(|balloon| balloon.set_target(5))
        .unwrap();
    let refused = driver
        .transport
        .call(|balloon| balloon.set_target(17).unwrap_err());
    assert_eq!(
        refused.to_string(),
        "a balloon cannot take 17 MiB from a guest of 16 MiB"
    );
    assert!(
        driver
            .transport
            .call(|balloon| balloon.set_target(u64::MAX).is_err())
    );
    assert_eq!((driver.read(0x60) & 2, driver.read(0x100)), (2, 5 * 256));
    driver.write(0x104, 700);
    let actual = driver.transport.with_device(INFLATE, |b| b.actual_pages());
    assert_eq!(actual, 700);
    // The target is not the driver's to write, and nothing is behind the actual size.
    driver.write(0x100, 1);
    driver.transport.write(0x106, &[1, 2, 3, 4]);
    driver.write(0x108, 1);
    assert_eq!(driver.misuses(), 3);
    assert_eq!((driver.read(0x100), driver.read(0x104)), (5 * 256, 700));
    let described = driver.transport.with_device(INFLATE, |b| b.described());
    assert_eq!(
        described,
        spec::Balloon {
            target_mib: 5,
            ..WANTED
        }
    );
}

fn figures(list: &[(u16, u64)]) -> Part {
    let bytes = list
        .iter()
        .flat_map(|(tag, value)| tag.to_le_bytes().into_iter().chain(value.to_le_bytes()));
    Part::Out(bytes.collect())
}

fn statistics(driver: &Driver<Balloon>) -> Statistics {
    let read = |balloon: &mut Balloon| *balloon.statistics().unwrap();
    driver.transport.with_device(INFLATE, read)
}

#[test]
fn statistics_are_asked_for_at_their_interval() {
    let mut driver = driver();
    driver.put(
        STATISTICS,
        &[figures(&[(4, 1000), (5, 2000), (99, 1), (4, 1001)])],
    );
    driver.transport.serve(STATISTICS);
    // The buffer stays with the device until the interval is over.
    assert_eq!(driver.used(STATISTICS), 0);
    let expected = Statistics {
        free_memory: Some(1001),
        total_memory: Some(2000),
        ..Statistics::default()
    };
    assert_eq!(statistics(&driver), expected);
    let began = std::time::Instant::now();
    driver.wait(STATISTICS, 1);
    assert!(began.elapsed() >= std::time::Duration::from_millis(900));
    driver.put(STATISTICS, &[figures(&[(0, 7), (1, 8), (9, 3)])]);
    driver.transport.serve(STATISTICS);
    assert_eq!(driver.used(STATISTICS), 1);
    assert_eq!(
        (statistics(&driver).swap_in, statistics(&driver).free_memory),
        (Some(7), None)
    );
}

#[test]
fn before_a_pause_the_buffer_for_statistics_is_given_back() {
    let mut driver = driver();
    driver.put(STATISTICS, &[figures(&[(4, 1)])]);
    driver.transport.serve(STATISTICS);
    driver.transport.pause();
    assert_eq!(driver.used(STATISTICS), 1);
    driver.transport.pause();
    driver.put(STATISTICS, &[figures(&[(4, 2)])]);
    driver.transport.resume();
    driver.transport.serve(STATISTICS);
    assert_eq!(
        (driver.used(STATISTICS), statistics(&driver).free_memory),
        (1, Some(2))
    );
}

#[test]
fn queues_of_features_that_were_not_agreed_on_are_left_out() {
    let mut driver = driver_without(WANTED, STATS);
    touch(&driver, 1);
    driver.send(2, &[Part::Raw(FIRST * PAGE, PAGE as u32, 2)]);
    assert_eq!(driver.reading().counter(Counter::BalloonReported), 1);
    // The next driver agrees on all.
    driver.set_up(0);
    driver.put(STATISTICS, &[figures(&[(4, 1)])]);
    driver.transport.serve(STATISTICS);
    assert_eq!(statistics(&driver).free_memory, Some(1));
}

#[test]
fn the_interval_changes_but_neither_begins_nor_ends() {
    let set = |driver: &Driver<Balloon>, seconds| {
        let change = |balloon: &mut Balloon| balloon.set_interval(seconds);
        driver.transport.with_device(INFLATE, change)
    };
    let with = driver();
    assert_eq!([5, 1, 0].map(|s| set(&with, s)), [true, true, false]);
    let wanted = spec::Balloon {
        stats_interval_s: 0,
        ..WANTED
    };
    let without = driver_without(wanted, 0);
    assert_eq!([0, 1].map(|s| set(&without, s)), [true, false]);
    assert_eq!(without.offered() & STATS, 0);
}

#[test]
fn what_makes_no_sense_is_counted_and_changes_nothing() {
    let mut driver = driver();
    touch(&driver, 4);
    let before = held(&driver);
    let outside = [
        numbers([16 << 8]),
        numbers([u64::from(u32::MAX)]),
        Part::Out(vec![0; 3]),
        numbers([FIRST; CHAIN_PAGES + 1]),
        Part::In(4),
        Part::Raw(1 << 40, 4, 0),
        Part::Raw(0, 0xFFFF_FFFC, 0),
    ];
    let count = outside.len() as u64;
    for part in outside {
        driver.send(INFLATE, &[part]);
    }
    assert_eq!(driver.misuses(), count);
    driver.send(REPORT, &[Part::Raw(FIRST * PAGE, PAGE as u32, 0)]);
    driver.send(REPORT, &[Part::Raw((16 << 20) - PAGE, 2 * PAGE as u32, 2)]);
    driver.put(STATISTICS, &[Part::In(10)]);
    driver.transport.serve(STATISTICS);
    assert_eq!(driver.misuses(), count + 3);
    assert!(held(&driver) >= before);
    assert_eq!(byte(&driver, FIRST), 0x5A);
    // Less than a page is nobody's page.
    driver.send(REPORT, &[Part::Raw(FIRST * PAGE + 1, PAGE as u32, 2)]);
    assert_eq!(byte(&driver, FIRST), 0x5A);
}
