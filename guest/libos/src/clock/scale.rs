//! Ticks to nanoseconds and back, in integers: `ns = ticks * 2^shift * multiplier / 2^32`, as kvm-clock has it.

/// The ratio of nanoseconds to TSC ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Parts of 2^32.
    pub(super) multiplier: u32,
    /// Power of two that ticks are multiplied by first; negative to divide.
    pub(super) shift: i8,
}

impl Scale {
    /// The scale of a counter at `hertz`, which is above 1 kHz.
    pub(super) fn of_frequency(hertz: u64) -> Self {
        // Normalised so that the multiplier keeps 31 bits or more: ratio < 1 after the shift.
        let mut shift = 0;
        let mut scaled = u128::from(hertz);
        while scaled <= 1_000_000_000 {
            scaled *= 2;
            shift += 1;
        }
        while scaled > 2_000_000_000 {
            scaled /= 2;
            shift -= 1;
        }
        let multiplier = ((1_000_000_000u128 << 32) / scaled) as u32;
        Self { multiplier, shift }
    }

    /// `ticks` in nanoseconds.
    #[inline]
    pub(crate) fn nanoseconds(self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks);
        let shifted = if self.shift >= 0 {
            ticks << self.shift
        } else {
            ticks >> -self.shift
        };
        ((shifted * u128::from(self.multiplier)) >> 32) as u64
    }

    /// `nanoseconds` in ticks; the largest number where there are more.
    pub(crate) fn ticks(self, nanoseconds: u64) -> u64 {
        let scaled = (u128::from(nanoseconds) << 32) / u128::from(self.multiplier.max(1));
        let ticks = if self.shift >= 0 {
            scaled >> self.shift
        } else {
            scaled << -self.shift
        };
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_is_the_frequency() {
        for hertz in [1_000_000, 999_999_999, 1_000_000_000, 2_499_998_000, 5_000_000_001] {
            let scale = Scale::of_frequency(hertz);
            let ns = scale.nanoseconds(hertz);
            assert!(ns.abs_diff(1_000_000_000) < 1000, "{hertz} Hz: {ns} ns");
            assert!(scale.ticks(1_000_000_000).abs_diff(hertz) <= hertz / 1_000_000 + 1, "{hertz} Hz");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(hertz in 1_000_000u64..6_000_000_000, ns in 0u64..(1 << 60)) {
            let scale = Scale::of_frequency(hertz);
            let back = scale.nanoseconds(scale.ticks(ns));
            prop_assert!(back.abs_diff(ns) <= 1_000_000_000 / hertz + 2);
        }
    }
}
