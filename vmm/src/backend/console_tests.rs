//! What becomes of console output.

use super::*;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

fn output(to: ConsoleOutput) -> (Output, Arc<Meter>) {
    let meter = Arc::new(Meter::create(None::<&File>).unwrap());
    (Output::new(Some(to), Arc::clone(&meter)).unwrap(), meter)
}

fn dropped(meter: &Meter) -> u64 {
    meter.read().counter(Counter::ConsoleDropped)
}

#[test]
fn a_log_keeps_the_newest_at_their_offsets() {
    let mut file = tempfile::tempfile().unwrap();
    let keep = 100_000;
    let (output, meter) = output(ConsoleOutput::Log {
        file: file.try_clone().unwrap().into(),
        keep,
    });
    let line = |n: u64| format!("{n:07}\n");
    for n in 0..100_000 {
        output.write(line(n).as_bytes());
    }
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.len(), 800_000);
    assert!(
        metadata.blocks() * 512 <= keep + 2 * STEP,
        "{}",
        metadata.blocks()
    );
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let first = 800_000 - keep as usize;
    let expected: String = (first as u64 / 8..100_000).map(line).collect();
    assert_eq!(&text[first..], expected);
    assert!(text.starts_with('\0'));
    assert_eq!(dropped(&meter), 0);
    assert_eq!(meter.read().counter(Counter::ConsoleOut), 800_000);
    assert!(meter.read().phase(Phase::Console).is_some());
}

#[test]
fn a_full_disk_drops_and_counts() {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let (output, meter) = output(ConsoleOutput::Log {
        file: file.into(),
        keep: 10,
    });
    output.write(b"hello");
    assert_eq!(dropped(&meter), 5);
}

#[test]
fn a_stream_that_nobody_reads_drops_and_goes_on() {
    let (reader, writer) = std::io::pipe().unwrap();
    let (to_pipe, meter) = output(ConsoleOutput::Stream(writer.into()));
    for _ in 0..1000 {
        to_pipe.write(&[b'x'; 1000]);
    }
    let lost = dropped(&meter);
    assert!(lost > 500_000 && lost < 1_000_000, "{lost}");
    let kept = 1_000_000 - lost;
    drop(to_pipe);
    assert_eq!({ reader }.read_to_end(&mut vec![]).unwrap() as u64, kept);

    let (reader, writer) = UnixStream::pair().unwrap();
    let (to_socket, meter) = output(ConsoleOutput::Stream(writer.into()));
    for _ in 0..1000 {
        to_socket.write(&[b'x'; 1000]);
    }
    assert!(dropped(&meter) > 0);
    drop(reader);
    to_socket.write(b"to nobody");
}

#[test]
fn a_log_that_began_earlier_is_continued() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"before ").unwrap();
    let (output, _) = output(ConsoleOutput::Log {
        file: file.try_clone().unwrap().into(),
        keep: 1 << 20,
    });
    output.write(b"after");
    let mut text = [0; 12];
    file.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"before after");
}
