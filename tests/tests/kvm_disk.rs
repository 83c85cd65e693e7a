//! Disks: which files can be one, whose they are, and what is left of them when a monitor is killed.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use tests::disk::Disk;
use tests::monitor::{Running, Vm};
use vmm::outcome::Cause;

/// An image of so many bytes.
fn image(dir: &Path, name: &str, bytes: u64) -> File {
    let path = dir.join(name);
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .expect("there is room");
    file.set_len(bytes).expect("there is room");
    file
}

fn open(dir: &Path, name: &str) -> File {
    let path = dir.join(name);
    let file = File::options().read(true).write(true).open(path);
    file.expect("the image is there")
}

/// A guest that runs until it is told to end.
fn waiting(disk: File, read_only: bool) -> Running {
    let vm = Vm::of("probe").args(&["echo"]).disk("d", disk, read_only);
    vm.start().expect("a monitor starts")
}

#[test]
fn files_that_cannot_be_disks_are_refused_before_the_guest_starts() {
    let dir = tempfile::tempdir().expect("there is room");
    let read_only = || {
        image(dir.path(), "good", 512);
        File::open(dir.path().join("good")).expect("it is there")
    };
    let cases = [
        (
            image(dir.path(), "empty", 0),
            "disk d: its file cannot be used: it is empty",
        ),
        (
            image(dir.path(), "ragged", 1000),
            "1000 bytes are not a multiple of 512",
        ),
        (
            File::open(dir.path()).expect("it is there"),
            "neither a regular file nor a block device",
        ),
        (read_only(), "not opened for writing"),
    ];
    for (file, words) in cases {
        let ended = Vm::of("hello").disk("d", file, false).run();
        ended.by(Cause::Failed).says(words);
        assert_eq!(ended.console, "");
    }
}

#[test]
fn a_disk_belongs_to_one_vm_as_long_as_that_lives() {
    let dir = tempfile::tempdir().expect("there is room");
    let mut first = waiting(image(dir.path(), "disk", 1 << 20), false);
    first.console_shows("ready");
    let take = |read_only| {
        let vm = Vm::of("hello");
        vm.disk("d", open(dir.path(), "disk"), read_only).run()
    };
    for read_only in [false, true] {
        take(read_only).by(Cause::Failed).says("in use");
    }
    first.kill();
    let _ = first.wait();
    take(false).exited(0);
    // Two may read it.
    let mut reader = waiting(open(dir.path(), "disk"), true);
    reader.console_shows("ready");
    take(true).exited(0);
    take(false).by(Cause::Failed).says("in use");
}

#[test]
fn what_linux_had_synced_is_there_after_its_monitor_was_killed() {
    let mut disk = Disk::new().expect("a file system");
    // The second guest recovers what the first one left; the second kill comes while the next records are on their way.
    for (record, pause) in [(2, Duration::ZERO), (20, Duration::from_millis(30))] {
        let synced = disk.write_and_kill(record, pause).expect("a guest writes");
        assert!(synced > record);
        disk.check().expect("the disk is in order");
    }
}
