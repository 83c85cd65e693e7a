//! Sizes and times: as people write them, and as people read them.

use std::time::Duration;

use api::RateLimit;
use jiff::Timestamp;

/// Not a size or a time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnitError {
    /// No memory size.
    #[error(
        "{0:?} is no size: a number of mebibytes, or one with M, G or T, such as 64, 512M or 4G"
    )]
    Memory(String),
    /// No time.
    #[error(
        "{0:?} is no time: a number of seconds, or one with ms, s, m or h, such as 10, 500ms or 2m"
    )]
    Time(String),
    /// Nothing.
    #[error("a time of 0 ends a VM before it starts: leave it out for a VM without an end")]
    NoTime,
    /// No limits.
    #[error(
        "{0:?} is no rate: bytes a second, requests a second, or both, such as 10M, 500/s or 10M,500/s"
    )]
    Rate(String),
    /// No variable.
    #[error("{0:?} is no KEY=VALUE")]
    Variable(String),
}

/// Mebibytes: `64`, `64M`, `64MiB`, `4G`.
pub(crate) fn memory_mib(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "m" | "mb" | "mib" => 1,
        "g" | "gb" | "gib" => 1 << 10,
        "t" | "tb" | "tib" => 1 << 20,
        _ => return Err(UnitError::Memory(text.to_owned())),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .ok_or_else(|| UnitError::Memory(text.to_owned()))
}

/// Milliseconds: `10` (seconds), `500ms`, `10s`, `2m`, `1h`.
pub(crate) fn milliseconds(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text);
    let scale = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(UnitError::Time(text.to_owned())),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .ok_or_else(|| UnitError::Time(text.to_owned()))
}

/// As [`milliseconds`], more than none.
pub(crate) fn lifetime_ms(text: &str) -> Result<u64, UnitError> {
    match milliseconds(text)? {
        0 => Err(UnitError::NoTime),
        ms => Ok(ms),
    }
}

/// A device's limits: `10M` (mebibytes a second), `500/s` (requests a second), `10M,500/s`.
pub(crate) fn rate(text: &str) -> Result<RateLimit, UnitError> {
    let wrong = || UnitError::Rate(text.to_owned());
    let mut limit = RateLimit::default();
    for part in text.split(',') {
        let (place, value) = match part.strip_suffix("/s") {
            Some(count) => (&mut limit.ops_per_second, count.parse().ok()),
            None => {
                let mib = memory_mib(part).map_err(|_| wrong())?;
                (&mut limit.bytes_per_second, mib.checked_mul(1 << 20))
            }
        };
        let value = value.filter(|value| *value != 0).ok_or_else(wrong)?;
        if place.replace(value).is_some() {
            return Err(wrong());
        }
    }
    Ok(limit)
}

/// `KEY=VALUE`, or `KEY` alone for the value that vmctl itself has.
pub(crate) fn variable(text: &str) -> Result<(String, String), UnitError> {
    let refuse = || UnitError::Variable(text.to_owned());
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, value.to_owned()),
        None => (text, std::env::var(text).map_err(|_| refuse())?),
    };
    if key.is_empty() {
        return Err(refuse());
    }
    Ok((key.to_owned(), value))
}

/// A number and what follows it.
fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A size for people: `812 B`, `1.4 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// Mebibytes for people: `64M`, `4G`.
pub(crate) fn mebibytes(mib: u64) -> String {
    if mib != 0 && mib.is_multiple_of(1 << 10) {
        format!("{}G", mib >> 10)
    } else {
        format!("{mib}M")
    }
}

/// The time from `from` to `to`, in its largest unit: `3s`, `5m`, `2h`, `9d`.
pub(crate) fn age(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// A short time for people: `812µs`, `4.1ms`, `2.50s`.
pub(crate) fn short_time(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1000 => format!("{micros}µs"),
        1000..1_000_000 => format!("{:.1}ms", micros as f64 / 1e3),
        _ => format!("{:.2}s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, mib) in [
            ("64", 64),
            ("64M", 64),
            ("64MiB", 64),
            ("4G", 4096),
            ("1t", 1 << 20),
        ] {
            assert_eq!(memory_mib(text), Ok(mib), "{text}");
        }
        for bad in [
            "",
            "M",
            "-1",
            "1.5G",
            "64k",
            "99999999999999999999",
            "99999999999999999T",
        ] {
            let error = memory_mib(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, ms) in [
            ("10", 10_000),
            ("0", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(milliseconds(text), Ok(ms), "{text}");
        }
        for bad in ["", "s", "1d", "1.5s", "-1s", "18446744073709551615h"] {
            assert!(
                milliseconds(bad)
                    .unwrap_err()
                    .to_string()
                    .contains(&format!("{bad:?}"))
            );
        }
        assert_eq!(lifetime_ms("0s"), Err(UnitError::NoTime));
    }

    #[test]
    fn rates_are_bytes_or_requests_a_second() {
        let limit = |bytes_per_second, ops_per_second| RateLimit {
            bytes_per_second,
            ops_per_second,
        };
        assert_eq!(rate("10M"), Ok(limit(Some(10 << 20), None)));
        assert_eq!(rate("500/s"), Ok(limit(None, Some(500))));
        assert_eq!(rate("1G,7/s"), Ok(limit(Some(1 << 30), Some(7))));
        for bad in ["", "0", "0/s", "1M,2M", "1/s,2/s", "x", "1M,", "1.5M"] {
            let error = rate(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_variable_has_a_key() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        for bad in ["", "=x", "SHOAL_NO_SUCH_VARIABLE"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(bytes(812), "812 B");
        assert_eq!(bytes(3 << 19), "1.5 MiB");
        assert_eq!(
            (mebibytes(64), mebibytes(4096)),
            ("64M".into(), "4G".into())
        );
        assert_eq!(short_time(Duration::from_micros(4123)), "4.1ms");
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(age(at(0), at(59)), "59s");
        assert_eq!(age(at(0), at(7200)), "2h");
        // Two clocks may disagree.
        assert_eq!(age(at(5), at(0)), "0s");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = (memory_mib(&text), milliseconds(&text), variable(&text), rate(&text));
        }
    }
}
