//! KVM's paravirtual clock (Linux `Documentation/virt/kvm/x86/msr.rst`): a page that the host keeps up to date.

use super::scale::Scale;
use crate::arch::{gate::Op, tsc};
use crate::boot::{self, Record};
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use core::time::Duration;

/// `MSR_KVM_WALL_CLOCK_NEW`.
const WALL_CLOCK: u32 = 0x4B56_4D00;
/// `MSR_KVM_SYSTEM_TIME_NEW`.
const SYSTEM_TIME: u32 = 0x4B56_4D01;
/// `KVM_FEATURE_CLOCKSOURCE2`.
const FEATURE: u32 = 1 << 3;
/// "KVMKVMKVM\0\0\0" in ebx, ecx, edx.
const SIGNATURE: [u32; 3] = [0x4B4D_564B, 0x564B_4D56, 0x4D];

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
    let [_, ebx, ecx, edx] = record.leaf(boot::LEAF_HYPERVISOR);
    [ebx, ecx, edx] == SIGNATURE && record.leaf(boot::LEAF_KVM_FEATURES)[0] & FEATURE != 0
}

/// The accesses that tell the host where the clock's pages are.
pub(super) fn start() -> [Op; 2] {
    [
        Op::write_msr(WALL_CLOCK, (&raw const WALL) as u64),
        Op::write_msr(SYSTEM_TIME, (&raw const SYSTEM) as u64 | 1),
    ]
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

/// The time of day at system time zero.
pub(super) fn boot_time() -> Duration {
    Duration::new(
        WALL.seconds.load(Ordering::Relaxed).into(),
        WALL.nanoseconds.load(Ordering::Relaxed) % 1_000_000_000,
    )
}
