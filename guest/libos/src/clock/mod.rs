//! Time: the TSC, and what turns it into nanoseconds.
//!
//! | source | where | wall clock |
//! |---|---|---|
//! | [`Source::Kvm`] | CPUID names KVM and offers its clock | yes |
//! | [`Source::Cpuid`] | CPUID leaf 0x15 or 0x16 tells the frequency | no |
//! | [`Source::Pit`] | elsewhere: 10 ms of the 8254 timer measure it | no |
//!
//! Reading the time costs some 20 ns and never leaves ring 3.

mod calibrate;
mod kvm;
mod scale;

use crate::arch::{gate::Op, tsc};
use crate::boot::Record;
use crate::core_cell::CoreOnce;
use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;
use scale::Scale;

/// Where the time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// KVM's paravirtual clock.
    Kvm,
    /// The TSC, at the frequency that CPUID tells.
    Cpuid,
    /// The TSC, measured against the 8254 timer.
    Pit,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm-clock",
            Self::Cpuid => "tsc (cpuid)",
            Self::Pit => "tsc (calibrated)",
        })
    }
}

/// A moment on the monotonic clock: nanoseconds since some moment before the guest's first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self(monotonic())
    }

    /// How long ago this was; zero for a moment to come.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now() - self
    }

    /// This moment as a value of the TSC.
    pub(crate) fn as_tsc(self) -> u64 {
        let now = tsc();
        now.saturating_add(scale().ticks(self.0.saturating_sub(monotonic())))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// The moment this much later; the end of time, some 584 years in, where there is none.
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time between; zero where `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A clock without KVM's: the TSC alone.
struct Fixed {
    source: Source,
    scale: Scale,
}

/// Set where KVM's clock is not there.
static FIXED: CoreOnce<Fixed> = CoreOnce::new();

/// Where the time comes from on this machine.
#[must_use]
pub fn source() -> Source {
    FIXED.get().map_or(Source::Kvm, |fixed| fixed.source)
}

/// The time of day, as time since 1970-01-01 00:00 UTC; `None` where the monitor offers none.
#[must_use]
pub fn since_epoch() -> Option<Duration> {
    match source() {
        Source::Kvm => Some(kvm::boot_time() + Duration::from_nanos(monotonic())),
        Source::Cpuid | Source::Pit => None,
    }
}

/// Nanoseconds on the monotonic clock.
fn monotonic() -> u64 {
    match FIXED.get() {
        Some(fixed) => fixed.scale.nanoseconds(tsc()),
        None => kvm::now(),
    }
}

/// How TSC and nanoseconds relate at this moment.
pub(crate) fn scale() -> Scale {
    FIXED.get().map_or_else(kvm::scale, |fixed| fixed.scale)
}

/// The register accesses that turn the clock on, for the first batch; none where KVM's is not there.
pub(crate) fn start(record: &Record) -> Option<[Op; 2]> {
    kvm::offered(record).then(kvm::start)
}

/// Settles the clock after the first batch: without KVM's, finds the TSC's frequency.
pub(crate) fn settle(record: &Record) {
    if !kvm::offered(record) {
        let (source, hertz) = calibrate::frequency();
        FIXED.get_or_init(|| Fixed {
            source,
            scale: Scale::of_frequency(hertz),
        });
    }
}
