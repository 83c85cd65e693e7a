//! KVM's paravirtual clock (Linux `Documentation/virt/kvm/x86/msr.rst`): a page that the host keeps up to date.

use super::scale::Scale;
use crate::arch::gate::{self, Op};
use crate::arch::tsc;
use crate::boot::Record;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use core::time::Duration;

/// `MSR_KVM_WALL_CLOCK_NEW`.
const WALL_CLOCK: u32 = 0x4B56_4D00;
/// `MSR_KVM_SYSTEM_TIME_NEW`.
const SYSTEM_TIME: u32 = 0x4B56_4D01;
/// `KVM_FEATURE_CLOCKSOURCE2`.
const FEATURE: u32 = 1 << 3;
/// "KVMK", the signature's first word.
const SIGNATURE: u32 = 0x4B4D_564B;

/// `struct pvclock_vcpu_time_info`; its version is odd while the host writes.
#[repr(C, align(64))]
struct SystemTime {
    version: AtomicU32,
    _pad: AtomicU32,
    tsc: AtomicU64,
    nanoseconds: AtomicU64,
    multiplier: AtomicU32,
    shift: AtomicU8,
    _flags: AtomicU8,
    _pad2: [AtomicU8; 2],
}

/// `struct pvclock_wall_clock`: the time of day when the system time was zero.
#[repr(C, align(16))]
struct WallClock {
    version: AtomicU32,
    seconds: AtomicU32,
    nanoseconds: AtomicU32,
}

static SYSTEM: SystemTime = SystemTime {
    version: AtomicU32::new(0),
    _pad: AtomicU32::new(0),
    tsc: AtomicU64::new(0),
    nanoseconds: AtomicU64::new(0),
    multiplier: AtomicU32::new(0),
    shift: AtomicU8::new(0),
    _flags: AtomicU8::new(0),
    _pad2: [const { AtomicU8::new(0) }; 2],
};

static WALL: WallClock = WallClock {
    version: AtomicU32::new(0),
    seconds: AtomicU32::new(0),
    nanoseconds: AtomicU32::new(0),
};

/// Whether this is KVM and it has the clock.
pub(super) fn offered(record: &Record) -> bool {
    record.hypervisor == SIGNATURE && record.kvm_features & FEATURE != 0
}

/// The access that tells the host where the clock's page is.
pub(super) fn start() -> Op {
    Op::write_msr(SYSTEM_TIME, (&raw const SYSTEM) as u64 | 1)
}

/// Reads under the version's protection.
fn consistent<T>(read: impl Fn() -> T) -> T {
    loop {
        let before = SYSTEM.version.load(Ordering::Acquire);
        let value = read();
        fence(Ordering::Acquire);
        if before & 1 == 0 && SYSTEM.version.load(Ordering::Relaxed) == before {
            return value;
        }
        spin_loop();
    }
}

/// Nanoseconds of system time.
pub(super) fn now() -> u64 {
    consistent(|| {
        let since = tsc().saturating_sub(SYSTEM.tsc.load(Ordering::Relaxed));
        SYSTEM
            .nanoseconds
            .load(Ordering::Relaxed)
            .wrapping_add(read_scale().nanoseconds(since))
    })
}

/// How TSC and nanoseconds relate now.
pub(super) fn scale() -> Scale {
    consistent(read_scale)
}

fn read_scale() -> Scale {
    Scale {
        multiplier: SYSTEM.multiplier.load(Ordering::Relaxed),
        shift: SYSTEM.shift.load(Ordering::Relaxed).cast_signed(),
    }
}

/// The time of day at system time zero. The host writes it when it is asked to: each time, for a guest that was restored from
/// a snapshot has another.
pub(super) fn boot_time() -> Duration {
    let ask = Op::write_msr(WALL_CLOCK, (&raw const WALL) as u64);
    // SAFETY: the host writes the page named, which is there for that.
    unsafe { gate::access(ask) };
    Duration::new(
        WALL.seconds.load(Ordering::Relaxed).into(),
        WALL.nanoseconds.load(Ordering::Relaxed) % 1_000_000_000,
    )
}
