//! Each kind of request, with both engines; requests that cannot be; what becomes of those under way.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::*;
use crate::backend::file::Request;
use crate::device::Lifecycle;
use crate::spec::{DeviceId, IoEngine, RateLimit, TokenBucket};
use crate::virtio::mock::{self, Driver, Part};

mod fake;
mod hostile;

const ENGINES: [IoEngine; 2] = [IoEngine::Sync, IoEngine::Async];
const OK: u8 = Status::Ok as u8;
const ERROR: u8 = Status::Error as u8;
const UNSUPPORTED: u8 = Status::Unsupported as u8;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// A file of 1 MiB, each sector full of its own number.
fn numbered() -> File {
    let file = tempfile::tempfile().unwrap();
    for sector in 0..2048_u64 {
        file.write_all_at(&[sector as u8; 512], sector * 512)
            .unwrap();
    }
    file
}

fn disk(file: &File) -> spec::Disk {
    spec::Disk {
        id: "data-disk-of-a-very-long-name".parse::<DeviceId>().unwrap(),
        file: OwnedFd::from(file.try_clone().unwrap()),
        read_only: false,
        rate: RateLimit::default(),
        io_engine: None,
    }
}

fn driver_of(disk: spec::Disk) -> Driver<Block> {
    let (memory, meter) = mock::parts();
    let block = Block::new(disk, memory.clone(), Arc::clone(&meter)).unwrap();
    Driver::new(block, memory, meter, 0)
}

fn driver(file: &File, engine: IoEngine) -> Driver<Block> {
    driver_of(spec::Disk {
        io_engine: Some(engine),
        ..disk(file)
    })
}

fn header(kind: u32, sector: u64) -> Part {
    let mut bytes = vec![0; 16];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&sector.to_le_bytes());
    Part::Out(bytes)
}

fn segment(sector: u64, sectors: u32, flags: u32) -> Part {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(sectors.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    Part::Out(bytes)
}

fn write(driver: &mut Driver<Block>, sector: u64, bytes: &[u8]) -> u8 {
    let parts = [header(OUT, sector), Part::Out(bytes.to_vec()), Part::In(1)];
    driver.send(0, &parts)[0]
}

fn read(driver: &mut Driver<Block>, sector: u64, length: usize) -> (Vec<u8>, u8) {
    let mut bytes = driver.send(0, &[header(IN, sector), Part::In(length), Part::In(1)]);
    let status = bytes.pop().unwrap();
    (bytes, status)
}

/// A request without data.
fn bare(driver: &mut Driver<Block>, kind: u32) -> u8 {
    driver.send(0, &[header(kind, 0), Part::In(1)])[0]
}

#[test]
fn what_is_written_is_in_the_file_and_read_again() {
    for engine in ENGINES {
        let file = numbered();
        let mut driver = driver(&file, engine);
        let text: Vec<u8> = (0..4096_u32).map(|i| (i * 7 / 5) as u8).collect();
        assert_eq!(write(&mut driver, 9, &text), OK);
        let mut there = vec![0; text.len()];
        file.read_exact_at(&mut there, 9 * 512).unwrap();
        assert!(there == text, "{engine:?}");
        assert_eq!(read(&mut driver, 9, 4096), (text, OK));
        assert_eq!(read(&mut driver, 17, 512), (vec![17; 512], OK));
        assert_eq!(bare(&mut driver, FLUSH), OK);
        let reading = driver.reading();
        let counted = [
            Counter::DiskWrites,
            Counter::DiskWriteBytes,
            Counter::DiskReads,
            Counter::DiskReadBytes,
            Counter::DiskFlushes,
            Counter::DiskErrors,
        ];
        assert_eq!(
            counted.map(|c| reading.counter(c)),
            [1, 4096, 2, 4608, 1, 0]
        );
        // With the status.
        assert_eq!(driver.given_back(0)[1].1, 4097);
    }
}

#[test]
fn where_one_buffer_ends_and_the_next_begins_means_nothing() {
    for engine in ENGINES {
        let file = numbered();
        let mut driver = driver(&file, engine);
        let Part::Out(mut bytes) = header(OUT, 3) else {
            unreachable!()
        };
        bytes.extend([0xAB; 1024]);
        let pieces = [0, 5, 16, 17, 300, 1040].windows(2);
        let mut parts: Vec<_> = pieces
            .map(|w| Part::Out(bytes[w[0]..w[1]].to_vec()))
            .collect();
        parts.push(Part::In(1));
        assert_eq!(driver.send(0, &parts), [OK]);
        // The status ends the last buffer of the data.
        let parts = [header(IN, 2), Part::In(500), Part::In(7), Part::In(1030)];
        let read = driver.send(0, &parts);
        let expected = [vec![2; 512], vec![0xAB; 1024], vec![OK]].concat();
        assert!(read == expected, "{engine:?}");
    }
}

#[test]
fn many_are_under_way_at_once() {
    for engine in ENGINES {
        let file = numbered();
        let mut driver = driver(&file, engine);
        let sectors = [3_u64, 99, 7, 2047, 1000, 8, 9, 10];
        let chains = sectors.map(|s| driver.put(0, &[header(IN, s), Part::In(512), Part::In(1)]));
        driver.wait(0, sectors.len() as u16);
        for (sector, chain) in sectors.into_iter().zip(chains) {
            let bytes = driver.filled(0, chain);
            assert!(bytes[..512] == [sector as u8; 512] && bytes[512] == OK);
        }
    }
}

#[test]
fn a_disk_tells_its_name_and_its_shape() {
    let file = numbered();
    let mut driver = driver(&file, IoEngine::Sync);
    let id = driver.send(0, &[header(GET_ID, 0), Part::In(20), Part::In(1)]);
    assert_eq!(&id[..20], b"data-disk-of-a-very-");
    assert_eq!(id[20], OK);
    let short = driver.send(0, &[header(GET_ID, 0), Part::In(4), Part::In(1)]);
    assert_eq!(short, [b"data".as_slice(), &[OK]].concat());
    let config = |offset: u64| driver.read(0x100 + offset);
    // Capacity, segments, block size; discards and zeros: sectors, segments, alignment.
    let values = [0, 4, 12, 20, 36, 40, 44, 48, 52, 56].map(config);
    assert_eq!(values, [2048, 0, 254, 512, 1 << 22, 1, 8, 1 << 22, 1, 1]);
    let offered = driver.offered();
    assert_eq!(
        offered & 0xFF_FFFF,
        1 << 2 | 1 << 6 | 1 << 9 | 1 << 13 | 1 << 14
    );
}

#[test]
fn what_is_discarded_or_zeroed_reads_as_zeros() {
    for engine in ENGINES {
        let file = numbered();
        let mut driver = driver(&file, engine);
        let before = file.metadata().unwrap().blocks();
        let discard = [header(DISCARD, 0), segment(8, 1024, 0), Part::In(1)];
        assert_eq!(driver.send(0, &discard), [OK]);
        assert!(file.metadata().unwrap().blocks() <= before - 1000);
        for (sector, flags) in [(1100, 0), (1101, 1)] {
            let zero = [
                header(WRITE_ZEROES, 0),
                segment(sector, 1, flags),
                Part::In(1),
            ];
            assert_eq!(driver.send(0, &zero), [OK]);
        }
        for sector in [8, 1031, 1100, 1101] {
            assert_eq!(
                read(&mut driver, sector, 512),
                (vec![0; 512], OK),
                "{sector}"
            );
        }
        for sector in [7_u64, 1032, 1099, 1102] {
            let bytes = vec![sector as u8; 512];
            assert_eq!(read(&mut driver, sector, 512), (bytes, OK), "{sector}");
        }
        assert_eq!(driver.reading().counter(Counter::DiskDiscards), 3);
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    }
}

#[test]
fn what_is_not_there_is_an_error() {
    let file = numbered();
    let mut driver = driver(&file, IoEngine::Async);
    let past = [
        2048,
        2047,
        1 << 33,
        u64::MAX,
        u64::MAX / 512,
        u64::MAX / 512 + 2,
    ];
    for sector in past {
        assert_eq!(write(&mut driver, sector, &[1; 1024]), ERROR, "{sector}");
        let (bytes, status) = read(&mut driver, sector, 1024);
        assert_eq!((bytes, status), (vec![0; 1024], ERROR), "{sector}");
        for kind in [DISCARD, WRITE_ZEROES] {
            let parts = [header(kind, 0), segment(sector, 2, 0), Part::In(1)];
            assert_eq!(driver.send(0, &parts), [ERROR], "{sector}");
        }
    }
    // Not whole sectors, or none.
    for length in [1, 511, 513] {
        assert_eq!(write(&mut driver, 0, &vec![1; length]), ERROR);
        assert_eq!(read(&mut driver, 0, length).1, ERROR);
    }
    assert_eq!(bare(&mut driver, OUT), ERROR);
    assert_eq!(bare(&mut driver, IN), ERROR);
    // No segment, half a segment, two; too much; nothing; unknown flags.
    assert_eq!(bare(&mut driver, DISCARD), ERROR);
    let half = Part::Out(vec![0; 8]);
    for parts in [vec![half], vec![segment(0, 1, 0), segment(1, 1, 0)]] {
        let parts = [vec![header(DISCARD, 0)], parts, vec![Part::In(1)]].concat();
        assert_eq!(driver.send(0, &parts), [ERROR]);
    }
    let odd = [
        (DISCARD, segment(0, u32::MAX, 0), ERROR),
        (DISCARD, segment(0, 0, 0), ERROR),
        (DISCARD, segment(0, 1, 1), UNSUPPORTED),
        (WRITE_ZEROES, segment(0, 1, 2), UNSUPPORTED),
    ];
    for (kind, segment, status) in odd {
        assert_eq!(
            driver.send(0, &[header(kind, 0), segment, Part::In(1)]),
            [status]
        );
    }
    for kind in [2, 3, 14, 16, u32::MAX] {
        assert_eq!(bare(&mut driver, kind), UNSUPPORTED);
    }
    assert_eq!(driver.misuses(), 0);
    let mut all = vec![0; 1 << 20];
    file.read_exact_at(&mut all, 0).unwrap();
    assert!(
        all.chunks(512)
            .enumerate()
            .all(|(n, s)| s == [n as u8; 512])
    );
}

#[test]
fn a_read_only_disk_is_not_written() {
    let file = numbered();
    let mut driver = driver_of(spec::Disk {
        read_only: true,
        ..disk(&file)
    });
    assert!(driver.offered() & 1 << VIRTIO_BLK_F_RO != 0);
    assert!(driver.offered() & (1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES) == 0);
    assert_eq!(write(&mut driver, 5, &[1; 512]), ERROR);
    for kind in [DISCARD, WRITE_ZEROES] {
        let parts = [header(kind, 0), segment(5, 1, 0), Part::In(1)];
        assert_eq!(driver.send(0, &parts), [ERROR]);
    }
    assert_eq!(read(&mut driver, 5, 512), (vec![5; 512], OK));
    assert_eq!(bare(&mut driver, FLUSH), OK);
}

#[test]
fn a_file_that_became_shorter_gives_errors_and_no_garbage() {
    for engine in ENGINES {
        let file = numbered();
        let mut driver = driver(&file, engine);
        file.set_len(512 * 100 + 100).unwrap();
        assert_eq!(read(&mut driver, 100, 512).1, ERROR);
        assert_eq!(read(&mut driver, 2000, 512).1, ERROR);
        assert_eq!(read(&mut driver, 99, 512), (vec![99; 512], OK));
        assert_eq!(driver.reading().counter(Counter::DiskErrors), 2);
    }
}

fn ops(size: u64, refill_ms: u64) -> RateLimit {
    RateLimit {
        bandwidth: None,
        ops: Some(bucket(size, refill_ms)),
    }
}

fn bucket(size: u64, refill_ms: u64) -> TokenBucket {
    TokenBucket {
        size: size.try_into().unwrap(),
        one_time_burst: 0,
        refill_ms: refill_ms.try_into().unwrap(),
    }
}

#[test]
fn a_limit_holds_requests_back_until_it_is_changed() {
    let file = numbered();
    let hour = 3_600_000;
    let mut driver = driver_of(spec::Disk {
        rate: ops(2, hour),
        io_engine: Some(IoEngine::Sync),
        ..disk(&file)
    });
    for sector in 0..4 {
        driver.put(0, &[header(IN, sector), Part::In(512), Part::In(1)]);
    }
    assert!(!driver.transport.serve(0));
    assert_eq!(driver.used(0), 2);
    // Bytes: the first request is let through whole, and the next one waits.
    driver.transport.with_device(0, |block| {
        block.change_limit(LimitChange {
            bandwidth: Some(Some(bucket(1, hour))),
            ops: Some(None),
        });
    });
    assert_eq!(driver.used(0), 3);
    driver.transport.with_device(0, |block| {
        block.change_limit(LimitChange {
            bandwidth: Some(None),
            ops: None,
        });
    });
    assert_eq!(driver.used(0), 4);
}

#[test]
fn what_a_limit_holds_back_goes_on_when_its_timer_rings() {
    let file = numbered();
    let mut driver = driver_of(spec::Disk {
        rate: ops(1, 2),
        ..disk(&file)
    });
    for sector in 0..5 {
        driver.put(0, &[header(IN, sector), Part::In(512), Part::In(1)]);
    }
    let began = std::time::Instant::now();
    driver.wait(0, 5);
    assert!(began.elapsed() >= std::time::Duration::from_millis(7));
}
