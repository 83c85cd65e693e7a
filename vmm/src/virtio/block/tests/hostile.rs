//! Chains that make no sense: given back, counted, and nothing touched.

use super::*;

/// Readable or writable, and beside that nothing.
const READ: u16 = 0;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

fn refused(parts: &[Part]) {
    let file = numbered();
    let mut driver = driver(&file, IoEngine::Async);
    driver.put(0, parts);
    driver.wait(0, 1);
    assert_eq!(driver.given_back(0), [(0, 0)], "{parts:?}");
    assert_eq!(driver.misuses(), 1, "{parts:?}");
    // An honest request is served as ever.
    assert_eq!(read(&mut driver, 1, 512), (vec![1; 512], OK));
}

#[test]
fn chains_without_a_header_or_a_place_for_the_status_are_refused() {
    refused(&[header(FLUSH, 0)]);
    refused(&[Part::In(1)]);
    refused(&[Part::Out(vec![0; 15]), Part::In(1)]);
    refused(&[header(IN, 0), Part::In(0)]);
}

#[test]
fn what_is_read_comes_before_what_is_written() {
    refused(&[Part::In(1), header(FLUSH, 0)]);
    refused(&[header(OUT, 0), Part::In(1), Part::Out(vec![0; 512])]);
    refused(&[
        header(OUT, 0),
        Part::In(512),
        Part::Out(vec![0; 512]),
        Part::In(1),
    ]);
}

#[test]
fn buffers_outside_memory_are_refused() {
    for address in [0x20_0000, 0x1F_FF00, u64::MAX, u64::MAX - 256, 1 << 40] {
        refused(&[header(IN, 0), Part::Raw(address, 512, WRITE), Part::In(1)]);
        refused(&[header(OUT, 0), Part::Raw(address, 512, READ), Part::In(1)]);
        refused(&[header(FLUSH, 0), Part::Raw(address, 512, WRITE)]);
        refused(&[Part::Raw(address, 512, READ), Part::In(1)]);
    }
    refused(&[
        header(IN, 0),
        Part::Raw(0x10_0000, u32::MAX, WRITE),
        Part::In(1),
    ]);
    refused(&[header(OUT, 0), Part::Raw(0, u32::MAX, READ), Part::In(1)]);
}

#[test]
fn a_chain_without_end_is_refused() {
    let file = numbered();
    let mut driver = driver(&file, IoEngine::Async);
    driver.put(0, &[header(IN, 0), Part::In(512), Part::In(1)]);
    // The third continues at the second.
    driver
        .memory
        .write_obj(WRITE | 1, GuestAddress(44))
        .unwrap();
    driver.memory.write_obj(1_u16, GuestAddress(46)).unwrap();
    driver.wait(0, 1);
    assert_eq!((driver.given_back(0), driver.misuses()), (vec![(0, 0)], 1));
}

/// A table of one descriptor at 3 MiB less some.
fn table(driver: &Driver<Block>, address: u64, length: u32, flags: u16) -> Part {
    let at = 0x1F_0000;
    driver.memory.write_obj(address, GuestAddress(at)).unwrap();
    driver
        .memory
        .write_obj(length, GuestAddress(at + 8))
        .unwrap();
    driver
        .memory
        .write_obj(flags, GuestAddress(at + 12))
        .unwrap();
    Part::Raw(at, 16, INDIRECT)
}

#[test]
fn a_table_within_a_table_is_refused() {
    let file = numbered();
    let mut driver = driver(&file, IoEngine::Async);
    let part = table(&driver, 0x1F_0000, 16, INDIRECT);
    driver.put(0, &[part]);
    driver.wait(0, 1);
    assert_eq!((driver.given_back(0), driver.misuses()), (vec![(0, 0)], 1));
}

#[test]
fn a_table_in_a_hole_or_of_odd_length_is_refused() {
    refused(&[Part::Raw(1 << 40, 16, INDIRECT)]);
    refused(&[Part::Raw(0x1F_0000, 15, INDIRECT)]);
    refused(&[Part::Raw(0x1F_0000, 0, INDIRECT)]);
    refused(&[Part::Raw(0x1F_0000, 0xFFFF_FFF0, INDIRECT)]);
}

#[test]
fn more_data_than_a_request_may_have_is_an_error() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 30).unwrap();
    let mut driver = driver(&file, IoEngine::Async);
    let whole = Part::Raw(0x10_0000, 0x10_0000, READ);
    let mut parts = vec![header(OUT, 0)];
    parts.extend(vec![whole; 60]);
    parts.push(Part::In(1));
    assert_eq!(driver.send(0, &parts), [OK]);
    // 75 MiB.
    let piece = Part::Raw(0x8_0000, 0x18_0000, READ);
    let mut parts = vec![header(OUT, 0)];
    parts.extend(vec![piece; 50]);
    parts.push(Part::In(1));
    assert_eq!(driver.send(0, &parts), [ERROR]);
}
