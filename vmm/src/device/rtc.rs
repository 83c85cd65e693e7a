//! The clock of a PC (MC146818, the "CMOS"), as far as a guest reads the time from it: no alarm, no interrupt, no memory.
//!
//! It shows the host's clock, UTC, in BCD and 24 hours. A guest cannot set it: it is read from the host at each access.
//!
//! Source: Motorola MC146818A data sheet.

use std::sync::atomic::{AtomicU8, Ordering};

use super::Device;

/// Offset of the register that selects another.
pub const INDEX: u64 = 0;
/// Offset of the selected register.
pub const DATA: u64 = 1;

const SECOND: u8 = 0x00;
const MINUTE: u8 = 0x02;
const HOUR: u8 = 0x04;
const WEEKDAY: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0A;
const STATUS_B: u8 = 0x0B;
const STATUS_D: u8 = 0x0D;
const CENTURY: u8 = 0x32;
/// Status A: the oscillator runs. It never says that an update is under way: each access sees a whole time.
const RUNNING: u8 = 0x20;
/// Status B: 24 hours.
const HOURS_24: u8 = 0x02;
/// Status D: the battery is good.
const VALID: u8 = 0x80;
/// The bit of the index that masks NMIs.
const NMI_MASK: u8 = 0x80;

/// The clock.
#[derive(Debug, Default)]
pub struct Rtc {
    index: AtomicU8,
}

impl Device for Rtc {
    fn read(&self, offset: u64, data: &mut [u8]) {
        // What was written there cannot be read back.
        data.fill(0xFF);
        if offset == DATA {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            data.fill(register(self.index.load(Ordering::Relaxed), now.tv_sec));
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (INDEX, [.., index]) = (offset, data) {
            self.index.store(index & !NMI_MASK, Ordering::Relaxed);
        }
    }
}

/// A register at a time: seconds since 1970.
fn register(index: u8, time: i64) -> u8 {
    let (days, second) = (time.div_euclid(86_400), time.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let value = match index {
        SECOND => second % 60,
        MINUTE => second / 60 % 60,
        HOUR => second / 3600,
        // The first day of 1970 was a Thursday; Sunday is 1.
        WEEKDAY => (days + 4).rem_euclid(7) + 1,
        DAY => day,
        MONTH => month,
        YEAR => year.rem_euclid(100),
        CENTURY => year / 100,
        STATUS_A => return RUNNING,
        STATUS_B => return HOURS_24,
        STATUS_D => return VALID,
        _ => return 0,
    };
    // Two decimal digits.
    (((value / 10) << 4) | (value % 10)) as u8
}

/// Year, month and day of a day since 1970: counted in eras of 400 years that begin on a 1st of March, after the leap day.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, late) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + late, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // Monday, 29 February 2016, 23:59:58; `date -u -d @1456790398`.
        let show = |index| register(index, 1_456_790_398);
        let shown = [CENTURY, YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, WEEKDAY].map(show);
        assert_eq!(shown, [0x20, 0x16, 0x02, 0x29, 0x23, 0x59, 0x58, 2]);
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
    }

    #[test]
    fn a_register_is_selected_then_read() {
        let rtc = Rtc::default();
        let mut data = [0];
        rtc.write(INDEX, &[STATUS_D | NMI_MASK]);
        rtc.read(DATA, &mut data);
        assert_eq!(data, [VALID]);
        rtc.write(DATA, &[0]);
        rtc.write(INDEX, &[0x7F]);
        rtc.read(DATA, &mut data);
        assert_eq!(data, [0]);
    }

    proptest! {
        #[test]
        fn each_day_has_its_successor(days in -10_000_i64..100_000) {
            let (year, month, day) = civil(days);
            let next = civil(days + 1);
            prop_assert!((1..=12).contains(&month) && (1..=31).contains(&day));
            prop_assert!(
                next == (year, month, day + 1) || next == (year, month + 1, 1) || next == (year + 1, 1, 1)
            );
        }

        #[test]
        fn any_register_at_any_time_is_answered(index: u8, time: i64) {
            register(index, time / 2);
        }
    }
}
