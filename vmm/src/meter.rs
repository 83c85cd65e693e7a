//! Counters and state of one VM, in one page that the monitor writes and any reader maps.
//!
//! The page is a file where a launcher gave one, so it outlives both: a monitor that is gone has said
//! there how its VM ended. Writers use relaxed stores; [`Meter::end`] and [`Meter::set_state`] release, so that who
//! reads a state sees what led to it.
//!
//! | word | what |
//! |---|---|
//! | 0 | magic and layout version |
//! | 1, 2 | the monitor's pid and start time (clock ticks since boot, `/proc/PID/stat` field 22) |
//! | 3 | [`State`] |
//! | 4, 5, 6 | cause of the end, exit status, bytes of detail |
//! | 8.. | detail, UTF-8, 256 bytes |
//! | 40.. | one word a [`Phase`]: `CLOCK_MONOTONIC` ns, zero where not reached |
//! | 64.. | one word a [`Counter`] |
//! | 96.. | for each vCPU: ns of processor time, ns of them in the monitor |
//! | 160.. | for each vCPU: RIP and instructions emulated when it was last brought out of the guest, by a kick or its end |

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::outcome::{Cause, Outcome};
use crate::spec::VcpuCount;

/// Bytes of the page.
pub const PAGE_SIZE: usize = 4096;

const MAGIC: u64 = 0x5348_4f41_4c4d_0001;
const WORDS: usize = PAGE_SIZE / 8;
const PID: usize = 1;
const START_TIME: usize = 2;
const STATE: usize = 3;
const CAUSE: usize = 4;
const STATUS: usize = 5;
const DETAIL_LEN: usize = 6;
const DETAIL: usize = 8;
const DETAIL_MAX: usize = 256;
const PHASES: usize = 40;
const COUNTERS: usize = 64;
const VCPUS: usize = 96;
const PLACES: usize = 160;

/// What a VM is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u64)]
pub enum State {
    /// Its monitor prepares it.
    Starting = 0,
    /// Its virtual CPUs run.
    Running = 1,
    /// Its virtual CPUs and devices stand still.
    Paused = 2,
    /// It is over: [`Reading::outcome`] says how.
    Ended = 3,
}

/// A step of the boot, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(usize)]
pub enum Phase {
    /// The launcher asked for the process.
    Launched,
    /// The monitor's `main` began.
    Main,
    /// The description was read and checked.
    Described,
    /// KVM made the VM.
    Created,
    /// Guest memory is mapped and the image loaded.
    Loaded,
    /// Devices and virtual CPUs are there.
    Ready,
    /// The first virtual CPU first entered the guest.
    Entered,
    /// The guest's first driver took its device.
    Driver,
    /// The guest's first byte reached the console.
    Console,
    /// The end.
    Ended,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 10] = [
        Self::Launched,
        Self::Main,
        Self::Described,
        Self::Created,
        Self::Loaded,
        Self::Ready,
        Self::Entered,
        Self::Driver,
        Self::Console,
        Self::Ended,
    ];
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(usize)]
pub enum Counter {
    /// Exits for port I/O.
    ExitPio,
    /// Exits for MMIO.
    ExitMmio,
    /// Exits for a halt.
    ExitHalt,
    /// Exits by the monitor's own signal.
    ExitKick,
    /// All other exits.
    ExitOther,
    /// Accesses to addresses and ports where nothing is.
    Unclaimed,
    /// Bytes the guest wrote to its console.
    ConsoleOut,
    /// Bytes of those that nobody took.
    ConsoleDropped,
    /// Bytes the guest read from its console.
    ConsoleIn,
    /// Bytes of entropy given.
    Entropy,
    /// Requests of a driver that made no sense and were refused.
    DriverErrors,
    /// Reads of disks.
    DiskReads,
    /// Bytes of those.
    DiskReadBytes,
    /// Writes to disks.
    DiskWrites,
    /// Bytes of those.
    DiskWriteBytes,
    /// Flushes of disks.
    DiskFlushes,
    /// Discards of disks, and ranges of them that were zeroed.
    DiskDiscards,
    /// Requests to disks that failed.
    DiskErrors,
    /// Frames that the guest received.
    NetReceived,
    /// Bytes of those.
    NetReceivedBytes,
    /// Frames that the guest sent.
    NetSent,
    /// Bytes of those.
    NetSentBytes,
    /// Frames in either direction that were dropped: too long, malformed, or no room for them.
    NetDropped,
    /// Failures of taps.
    NetErrors,
    /// Connections between the guest's programs and the host's, from either side.
    VsockConnections,
    /// Bytes that the guest received by them.
    VsockReceived,
    /// Bytes that the guest sent by them.
    VsockSent,
    /// Pages that a guest's balloon took, 4 KiB each.
    BalloonInflated,
    /// Pages that it gave back.
    BalloonDeflated,
    /// Free pages that the guest reported.
    BalloonReported,
}

impl Counter {
    /// Every counter.
    pub const ALL: [Self; 30] = [
        Self::ExitPio,
        Self::ExitMmio,
        Self::ExitHalt,
        Self::ExitKick,
        Self::ExitOther,
        Self::Unclaimed,
        Self::ConsoleOut,
        Self::ConsoleDropped,
        Self::ConsoleIn,
        Self::Entropy,
        Self::DriverErrors,
        Self::DiskReads,
        Self::DiskReadBytes,
        Self::DiskWrites,
        Self::DiskWriteBytes,
        Self::DiskFlushes,
        Self::DiskDiscards,
        Self::DiskErrors,
        Self::NetReceived,
        Self::NetReceivedBytes,
        Self::NetSent,
        Self::NetSentBytes,
        Self::NetDropped,
        Self::NetErrors,
        Self::VsockConnections,
        Self::VsockReceived,
        Self::VsockSent,
        Self::BalloonInflated,
        Self::BalloonDeflated,
        Self::BalloonReported,
    ];
}

/// The page, as its writer has it.
#[derive(Debug)]
pub struct Meter {
    page: Page,
}

/// The page could not be used.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// The kernel refused.
    #[error("meter page cannot be mapped")]
    Map(#[source] std::io::Error),
    /// The file is too short.
    #[error("meter file has {0} bytes, {PAGE_SIZE} are needed")]
    Short(u64),
    /// The file is not a meter, or of another version.
    #[error("meter file begins with {0:#x}, not with {MAGIC:#x}")]
    Magic(u64),
}

impl Meter {
    /// Makes the page ready in `file`, or in memory of its own where there is none.
    ///
    /// # Errors
    /// [`MeterError`] where the file is too short or cannot be mapped.
    pub fn create(file: Option<impl AsFd>) -> Result<Self, MeterError> {
        let page = match file {
            Some(file) => Page::map(file.as_fd(), true)?,
            None => Page::anonymous()?,
        };
        let meter = Self { page };
        meter.put(PID, u64::from(std::process::id()));
        meter.page.word(0).store(MAGIC, Ordering::Release);
        Ok(meter)
    }

    /// Says when this process started, in the kernel's own clock ticks.
    pub fn set_start_time(&self, ticks: u64) {
        self.put(START_TIME, ticks);
    }

    /// Moves to `state`.
    pub fn set_state(&self, state: State) {
        self.page.word(STATE).store(state as u64, Ordering::Release);
    }

    /// Notes that `phase` is reached now; only its first time counts.
    pub fn reach(&self, phase: Phase) {
        self.reach_at(phase, monotonic_ns());
    }

    /// Notes that `phase` was reached at `ns` of `CLOCK_MONOTONIC`; only its first time counts.
    pub fn reach_at(&self, phase: Phase, ns: u64) {
        let word = self.page.word(PHASES + phase as usize);
        let _ = word.compare_exchange(0, ns, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, n: u64) {
        self.page
            .word(COUNTERS + counter as usize)
            .fetch_add(n, Ordering::Relaxed);
    }

    /// Adds to the time that a virtual CPU spent in the monitor. Only that CPU's own thread may call this.
    pub fn add_monitor_time(&self, vcpu: u8, ns: u64) {
        let word = self.page.word(vcpu_word(vcpu) + 1);
        // One writer: no read-modify-write needed.
        word.store(
            word.load(Ordering::Relaxed).wrapping_add(ns),
            Ordering::Relaxed,
        );
    }

    /// Notes the processor time that a virtual CPU has used since its start, in the guest and in the monitor.
    pub fn set_cpu_time(&self, vcpu: u8, ns: u64) {
        self.put(vcpu_word(vcpu), ns);
    }

    /// Notes where a virtual CPU is, and how many of its instructions KVM has emulated.
    pub fn set_place(&self, vcpu: u8, rip: u64, emulated: u64) {
        let word = vcpu_word(vcpu) - VCPUS + PLACES;
        self.put(word, rip);
        self.put(word + 1, emulated);
    }

    /// Notes the end. Only the first end counts: `false` where there was one already.
    pub fn end(&self, outcome: &Outcome) -> bool {
        let claimed = self
            .page
            .word(CAUSE)
            .compare_exchange(
                0,
                outcome.cause as u64,
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok();
        if claimed {
            self.put(STATUS, u64::from(outcome.status));
            let cut = outcome.detail.floor_char_boundary(DETAIL_MAX);
            let detail = &outcome.detail.as_bytes()[..cut];
            for (word, chunk) in detail.chunks(8).enumerate() {
                let mut bytes = [0; 8];
                bytes[..chunk.len()].copy_from_slice(chunk);
                self.put(DETAIL + word, u64::from_le_bytes(bytes));
            }
            self.put(DETAIL_LEN, cut as u64);
            self.reach(Phase::Ended);
            self.set_state(State::Ended);
        }
        claimed
    }

    /// Reads what stands there now.
    #[must_use]
    pub fn read(&self) -> Reading {
        self.page.read()
    }

    fn put(&self, word: usize, value: u64) {
        self.page.word(word).store(value, Ordering::Relaxed);
    }
}

/// The page, as a reader has it.
#[derive(Debug)]
pub struct MeterReader {
    page: Page,
}

impl MeterReader {
    /// Maps a monitor's page.
    ///
    /// # Errors
    /// [`MeterError`] where it is no meter: a monitor that has not yet begun has left it zero.
    pub fn open(file: impl AsFd) -> Result<Self, MeterError> {
        let page = Page::map(file.as_fd(), false)?;
        match page.word(0).load(Ordering::Acquire) {
            MAGIC => Ok(Self { page }),
            other => Err(MeterError::Magic(other)),
        }
    }

    /// Reads what stands there now.
    #[must_use]
    pub fn read(&self) -> Reading {
        self.page.read()
    }
}

/// What stood in the page at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The monitor's process.
    pub pid: u32,
    /// When that process started, in clock ticks since boot; zero where it has not said so.
    pub start_time: u64,
    /// What the VM is doing.
    pub state: State,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
    /// `CLOCK_MONOTONIC` nanoseconds of each [`Phase`], in order; zero where not reached.
    pub phases: [u64; Phase::ALL.len()],
    /// Each [`Counter`], in order.
    pub counters: [u64; Counter::ALL.len()],
    /// For each virtual CPU, nanoseconds of processor time in the guest, and nanoseconds in the monitor. A halted
    /// processor uses none. The first is brought up to date about once a second, and at the end.
    pub vcpus: Vec<(u64, u64)>,
    /// Where the first virtual CPU was when it was last brought out of the guest: its RIP, and how many of its instructions KVM had
    /// emulated by then (zero where KVM does not count).
    pub place: (u64, u64),
}

impl Reading {
    /// When `phase` was reached, if it was.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> Option<u64> {
        Some(self.phases[phase as usize]).filter(|ns| *ns != 0)
    }

    /// A counter's value.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

fn vcpu_word(vcpu: u8) -> usize {
    debug_assert!(vcpu < VcpuCount::MAX);
    VCPUS + 2 * usize::from(vcpu)
}

/// A mapped page of words.
#[derive(Debug)]
struct Page {
    words: *const AtomicU64,
}

// SAFETY: the page is mapped until the drop, and reached by atomics alone.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    fn map(file: std::os::fd::BorrowedFd<'_>, writable: bool) -> Result<Self, MeterError> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let size = rustix::fs::fstat(file)
            .map_err(|e| MeterError::Map(e.into()))?
            .st_size;
        if size < PAGE_SIZE as i64 {
            return Err(MeterError::Short(size.cast_unsigned()));
        }
        let protection = if writable {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
        let at = unsafe {
            mmap(
                std::ptr::null_mut(),
                PAGE_SIZE,
                protection,
                MapFlags::SHARED,
                file,
                0,
            )
        }
        .map_err(|e| MeterError::Map(e.into()))?;
        Ok(Self { words: at.cast() })
    }

    fn anonymous() -> Result<Self, MeterError> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        // SAFETY: as in `map`.
        let at = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                PAGE_SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .map_err(|e| MeterError::Map(e.into()))?;
        Ok(Self { words: at.cast() })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORDS);
        // SAFETY: the page has `WORDS` words, is mapped while `self` lives, and is aligned to a page.
        unsafe { &*self.words.add(index) }
    }

    fn read(&self) -> Reading {
        let get = |index: usize| self.word(index).load(Ordering::Relaxed);
        // The state first, acquiring what its writer released before it.
        let state = match self.word(STATE).load(Ordering::Acquire) {
            0 => State::Starting,
            1 => State::Running,
            2 => State::Paused,
            _ => State::Ended,
        };
        let outcome = (state == State::Ended).then(|| {
            let mut detail: Vec<u8> = (0..DETAIL_MAX / 8)
                .flat_map(|i| get(DETAIL + i).to_le_bytes())
                .collect();
            detail.truncate(usize::try_from(get(DETAIL_LEN)).unwrap_or(0));
            Outcome {
                cause: Cause::from_number(get(CAUSE)).unwrap_or(Cause::Failed),
                status: get(STATUS) as u32,
                detail: String::from_utf8_lossy(&detail).into_owned(),
            }
        });
        Reading {
            pid: get(PID) as u32,
            start_time: get(START_TIME),
            state,
            outcome,
            phases: std::array::from_fn(|i| get(PHASES + i)),
            counters: std::array::from_fn(|i| get(COUNTERS + i)),
            place: (get(PLACES), get(PLACES + 1)),
            vcpus: (0..usize::from(VcpuCount::MAX))
                .map(|i| (get(VCPUS + 2 * i), get(VCPUS + 2 * i + 1)))
                .take_while(|times| *times != (0, 0))
                .map(|(all, monitor)| (all.saturating_sub(monitor), monitor))
                .collect(),
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` or `anonymous`, and nothing borrows from it any more. A failure leaves it mapped.
        let _ = unsafe { rustix::mm::munmap(self.words.cast_mut().cast(), PAGE_SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> std::fs::File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(PAGE_SIZE as u64).unwrap();
        file
    }

    #[test]
    fn a_reader_sees_what_the_writer_wrote() {
        let file = file();
        assert!(matches!(
            MeterReader::open(&file),
            Err(MeterError::Magic(0))
        ));
        let meter = Meter::create(Some(&file)).unwrap();
        let reader = MeterReader::open(&file).unwrap();
        meter.reach(Phase::Main);
        meter.add(Counter::ExitPio, 3);
        meter.add_monitor_time(0, 7);
        meter.set_cpu_time(0, 12);
        meter.set_place(0, 0xFFF0, 5);
        meter.set_place(31, 1, 2);
        meter.set_state(State::Running);
        let reading = reader.read();
        assert_eq!(reading.pid, std::process::id());
        assert_eq!(reading.state, State::Running);
        assert!(reading.phase(Phase::Main).is_some() && reading.phase(Phase::Ended).is_none());
        assert_eq!(reading.counter(Counter::ExitPio), 3);
        assert_eq!(reading.vcpus, [(5, 7)]);
        assert_eq!(reading.place, (0xFFF0, 5));
        assert_eq!(reading.outcome, None);
    }

    #[test]
    fn the_first_end_counts_and_outlives_the_monitor() {
        let file = file();
        let meter = Meter::create(Some(&file)).unwrap();
        let first = Outcome::new(Cause::TripleFault, "é".repeat(300));
        assert!(meter.end(&first));
        assert!(!meter.end(&Outcome::exit(3)));
        drop(meter);
        let outcome = MeterReader::open(&file).unwrap().read().outcome.unwrap();
        assert_eq!(
            (outcome.cause, outcome.detail.len()),
            (Cause::TripleFault, 256)
        );
    }

    #[test]
    fn a_short_file_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100).unwrap();
        assert!(matches!(
            Meter::create(Some(&file)),
            Err(MeterError::Short(100))
        ));
    }
}
