//! Which files can be disks, and what the engines do with them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::*;
use crate::machine::memory::Memory;

fn file_of(bytes: u64) -> (tempfile::TempPath, File) {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(bytes).unwrap();
    let (file, path) = file.into_parts();
    (path, file)
}

fn open(path: &Path, write: bool) -> OwnedFd {
    let file = File::options().read(true).write(write).open(path).unwrap();
    file.into()
}

fn refused(file: impl Into<OwnedFd>, read_only: bool) -> String {
    Backing::open(file.into(), read_only)
        .unwrap_err()
        .to_string()
}

#[test]
fn what_is_no_disk_is_refused_by_its_fault() {
    let dir = tempfile::tempdir().unwrap();
    assert!(refused(File::open(dir.path()).unwrap(), true).contains("neither"));
    assert!(refused(std::io::pipe().unwrap().0, true).contains("neither"));
    assert!(refused(File::open("/dev/null").unwrap(), true).contains("neither"));
    let (_path, empty) = file_of(0);
    assert!(refused(empty, false).contains("empty"));
    let (_path, ragged) = file_of(1025);
    assert!(refused(ragged, false).contains("1025 bytes are not a multiple of 512"));
    let (path, _file) = file_of(512);
    assert!(refused(open(&path, false), false).contains("not opened for writing"));
    let write_only = File::options().write(true).open(&path).unwrap();
    assert!(refused(write_only, false).contains("not opened for reading"));
}

#[test]
fn a_disk_that_is_written_has_one_user_and_one_that_is_read_has_many() {
    let (path, _file) = file_of(1 << 20);
    let writer = Backing::open(open(&path, true), false).unwrap();
    assert_eq!(writer.sectors(), 2048);
    for read_only in [true, false] {
        assert!(refused(open(&path, true), read_only).contains("locked"));
    }
    // An engine keeps the lock.
    let engine = writer.engine(None, 4).unwrap();
    assert!(refused(open(&path, true), true).contains("locked"));
    drop(engine);
    let readers = [(); 2].map(|()| Backing::open(open(&path, false), true).unwrap());
    assert!(refused(open(&path, true), false).contains("locked"));
    drop(readers);
    Backing::open(open(&path, true), false).unwrap();
}

fn memory() -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap()
}

fn buffers(memory: &Memory, pieces: &[(u64, usize)]) -> Buffers {
    let mut buffers = Buffers::new(memory);
    for (at, length) in pieces {
        let slice = memory.get_slice(GuestAddress(*at), *length).unwrap();
        assert!(buffers.push(&slice));
    }
    buffers
}

fn engines(file: &File) -> [Box<dyn Engine>; 2] {
    [IoEngine::Sync, IoEngine::Async].map(|kind| {
        let backing = Backing {
            file: file.try_clone().unwrap().into(),
            sectors: 8,
        };
        backing.engine(Some(kind), 4).unwrap()
    })
}

fn run(engine: &mut dyn Engine, work: Work, durable: bool) -> Result<(), Failure> {
    engine.begin(Request {
        token: 7,
        work,
        durable,
    });
    engine.submit();
    engine.drain();
    let finished = engine.finished().unwrap();
    assert_eq!((finished.token, engine.finished()), (7, None));
    finished.result
}

#[test]
fn both_engines_do_the_same() {
    let (_path, file) = file_of(4096);
    for mut engine in engines(&file) {
        let memory = memory();
        memory.write(&[0x11; 1024], GuestAddress(0)).unwrap();
        for durable in [false, true] {
            let from = buffers(&memory, &[(0, 100), (200, 0), (100, 924)]);
            run(&mut *engine, Work::Write { at: 512, from }, durable).unwrap();
        }
        let to = buffers(&memory, &[(0x1000, 1), (0x2000, 2047)]);
        run(&mut *engine, Work::Read { at: 0, to }, false).unwrap();
        let mut read = vec![0; 2047];
        memory.read(&mut read, GuestAddress(0x2000)).unwrap();
        assert!(read[..511] == [0; 511] && read[511..1535] == [0x11; 1024]);
        run(&mut *engine, Work::Flush, false).unwrap();
        for (may_unmap, durable) in [(false, true), (true, false)] {
            file.write_all_at(&[0x22; 1024], 1024).unwrap();
            let zero = Work::Zero {
                at: 1024,
                length: 512,
                may_unmap,
            };
            run(&mut *engine, zero, durable).unwrap();
            let mut there = [0xFF; 1024];
            file.read_exact_at(&mut there, 1024).unwrap();
            assert!(there[..512] == [0; 512] && there[512..] == [0x22; 512]);
        }
        let discard = Work::Discard {
            at: 0,
            length: 4096,
        };
        run(&mut *engine, discard, true).unwrap();
        let past = buffers(&memory, &[(0, 512)]);
        let result = run(&mut *engine, Work::Read { at: 4096, to: past }, false);
        assert_eq!(result, Err(Failure::Short));
    }
}

#[test]
fn what_the_kernel_refuses_is_an_error() {
    let sealed = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&sealed, 4096).unwrap();
    rustix::fs::fcntl_add_seals(&sealed, rustix::fs::SealFlags::WRITE).unwrap();
    for mut engine in engines(&File::from(sealed)) {
        let memory = memory();
        let from = buffers(&memory, &[(0, 512)]);
        let result = run(&mut *engine, Work::Write { at: 0, from }, false);
        assert_eq!(result, Err(Failure::Io(Errno::PERM)));
        let to = buffers(&memory, &[(0, 512)]);
        run(&mut *engine, Work::Read { at: 0, to }, false).unwrap();
    }
}

#[test]
fn many_requests_finish_and_wake() {
    let (_path, file) = file_of(4096);
    let [_, mut engine] = engines(&file);
    let memory = memory();
    let mut got = vec![];
    for round in 0..10 {
        for token in 0..4 {
            let from = buffers(&memory, &[(0, 512)]);
            let at = 512 * u64::from(token);
            engine.begin(Request {
                token: round * 4 + token,
                work: Work::Write { at, from },
                durable: false,
            });
        }
        engine.submit();
        while got.len() < 4 * (round as usize + 1) {
            while let Some(finished) = engine.finished() {
                assert_eq!(finished.result, Ok(()));
                got.push(finished.token);
            }
            if got.len() < 4 * (round as usize + 1) {
                let wake = engine.wake().unwrap();
                let mut polls = [rustix::event::PollFd::new(
                    &wake,
                    rustix::event::PollFlags::IN,
                )];
                let patience = rustix::event::Timespec {
                    tv_sec: 10,
                    tv_nsec: 0,
                };
                assert_eq!(rustix::event::poll(&mut polls, Some(&patience)), Ok(1));
            }
        }
    }
    got.sort_unstable();
    assert!(got.into_iter().eq(0..40));
}

/// A file system of 64 KiB, which only this thread sees; `None` where that is not allowed.
fn small_file_system() -> Option<tempfile::TempDir> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    // SAFETY: nothing in this thread relies on sharing its mounts with the others.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.ok()?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).ok()?;
    let dir = tempfile::tempdir().unwrap();
    mount(
        "tmpfs",
        dir.path(),
        "tmpfs",
        MountFlags::empty(),
        c"size=64k",
    )
    .ok()?;
    Some(dir)
}

#[test]
fn a_full_file_system_is_an_error_and_what_was_there_stays() {
    let test = || {
        let Some(dir) = small_file_system() else {
            eprintln!("skipped: mounts are not allowed");
            return;
        };
        let path = dir.path().join("disk");
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        file.set_len(1 << 20).unwrap();
        for mut engine in engines(&file) {
            let memory = memory();
            memory.write(&[0x33; 4096], GuestAddress(0)).unwrap();
            let results: Vec<_> = (0..32)
                .map(|page| {
                    let from = buffers(&memory, &[(0, 4096)]);
                    let at = page * 4096;
                    run(&mut *engine, Work::Write { at, from }, false)
                })
                .collect();
            let written = results.iter().take_while(|r| r.is_ok()).count();
            assert!((4..=16).contains(&written), "{written}");
            let full = Err(Failure::Io(Errno::NOSPC));
            assert!(results[written..].iter().all(|result| *result == full));
            let to = buffers(&memory, &[(0x2000, 4096)]);
            run(&mut *engine, Work::Read { at: 0, to }, false).unwrap();
            assert_eq!(
                memory.read_obj::<u64>(GuestAddress(0x2ff0)).unwrap(),
                u64::MAX / 5
            );
            // What is discarded makes room.
            let discard = Work::Discard {
                at: 0,
                length: 1 << 20,
            };
            run(&mut *engine, discard, false).unwrap();
        }
        drop(file);
        // Before the directory goes.
        rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    };
    std::thread::spawn(test).join().unwrap();
}
