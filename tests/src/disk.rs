//! A Linux guest that writes to an ext4 disk, and a monitor that is killed meanwhile.
//!
//! ```text
//!   guest:  round 0: begin to write a block of another file, and do not wait; append a record, fsync, say "synced 0"; round 1: ...
//!   test:   waits for "synced N", and for a moment more or not, kills the monitor
//!   then:   the journal is replayed in a copy of the image: e2fsck finds nothing, every record up to N is there
//! ```
//!
//! The image goes from one guest to the next, as a disk does: the next guest's own kernel has to recover what the last one left, and
//! what the guests before it had synced has to be there still.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::fsck::{self, e2fsprogs};
use crate::linux::{Init, guest};
use crate::place;

/// Bytes of the image.
const SIZE: u64 = 64 << 20;
/// Bytes of a record. Which one it is, and whose, fills it: one that is torn is not it.
const RECORD: usize = 512;
/// Bytes of a block: on its way while a record is written.
const BLOCK: usize = 4096;
/// Records that a guest can write.
pub const ROUNDS: u64 = 40;
/// A small guest boots faster.
const MEMORY_MIB: u64 = 64;

/// A disk under test.
#[derive(Debug)]
pub struct Disk {
    dir: TempDir,
    /// How many records each guest so far knew to be on the disk.
    synced: Vec<u64>,
}

/// What a [check](Disk::check) found, all of it in order.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Records of all guests so far that they had synced.
    pub synced: u64,
    /// Records of the last guest that were there, though it was killed before it could say so.
    pub unsaid: u64,
}

impl Disk {
    /// A fresh one.
    ///
    /// # Errors
    /// Where it cannot be made: `mkfs.ext4` is needed.
    pub fn new() -> Result<Self> {
        let disk = Self {
            dir: tempfile::tempdir()?,
            synced: Vec::new(),
        };
        File::create(disk.image())?.set_len(SIZE)?;
        // As `vmd` makes them.
        let features = ["-qF", "-b", "4096", "-O", "^metadata_csum,^64bit"];
        let made = e2fsprogs("mkfs.ext4", &features, &disk.image())?;
        ensure!(made.status.success(), "no file system: {made:?}");
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Lets a guest write until it has synced record number `record`, kills its monitor `pause` later, and says how many records the guest
    /// knew to be on the disk.
    ///
    /// # Errors
    /// Where a monitor cannot be started.
    ///
    /// # Panics
    /// When the guest does not get as far.
    pub fn write_and_kill(&mut self, record: u64, pause: Duration) -> Result<u64> {
        let file = File::options().read(true).write(true).open(self.image())?;
        let vm = guest(&place::kernel(), &init(self.synced.len()))
            .memory_mib(MEMORY_MIB)
            .disk("data", file, false);
        let mut running = vm.start()?;
        running.console_shows(&format!("synced {record}\r\n"));
        std::thread::sleep(pause);
        running.kill();
        let console = running.wait().console;
        let said = console
            .lines()
            .filter_map(|line| line.strip_prefix("synced "));
        // The last line may be half there.
        let last = said.filter_map(|number| number.parse::<u64>().ok()).max();
        let synced = last.context("nothing was synced")? + 1;
        self.synced.push(synced);
        Ok(synced)
    }

    /// Checks the file system, and that every record is there that a guest had synced.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<Found> {
        let copy = self.dir.path().join("copy");
        std::fs::copy(self.image(), &copy)?;
        fsck::replay(&copy)?;
        fsck::ext4(&copy)?;
        let mut found = Found {
            synced: 0,
            unsaid: 0,
        };
        for (life, &synced) in self.synced.iter().enumerate() {
            let log = e2fsprogs("debugfs", &["-R", &format!("cat /log-{life}")], &copy)?;
            let whole = log.stdout.chunks(RECORD).zip(0..);
            let good = whole
                .take_while(|(bytes, round)| *bytes == record(life, *round))
                .count() as u64;
            ensure!(
                good >= synced,
                "guest {life} synced {synced} records, {good} are there: {:?}",
                String::from_utf8_lossy(&log.stderr)
            );
            found.synced += synced;
            found.unsaid = good - synced;
        }
        Ok(found)
    }
}

fn record(life: usize, round: u64) -> Vec<u8> {
    let line = format!("record {round} of guest {life}\n");
    line.bytes().cycle().take(RECORD).collect()
}

/// What the guest does.
fn init(life: usize) -> Vec<u8> {
    let log = format!("/disk/log-{life}");
    let mut init = Init::default()
        .mount("devtmpfs", "/dev")
        .mount_disk("/dev/vda", "ext4", "/disk");
    for round in 0..ROUNDS {
        // Files that are there or not, whole or not: only the file system has to be sound. Some go on growing, some are new.
        let block = match round % 8 {
            0 => format!("/disk/new-{life}-{round}"),
            _ => "/disk/blocks".to_owned(),
        };
        init = init
            .open(&block)
            .write_at(&[life as u8; BLOCK], round * BLOCK as u64)
            .begin_to_sync()
            .close()
            .open(&log)
            .write_at(&record(life, round), round * RECORD as u64)
            .sync()
            .close()
            .say(&format!("synced {round}\n"));
    }
    init.exit(0)
}
