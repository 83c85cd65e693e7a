//! The log that `PUT /logger` and `--log-path` ask for: a line for each request, and for what the monitor has to say.
//!
//! Firecracker's form: `2026-03-01T12:00:00.123456789 [id:thread:LEVEL:origin] text`. Without a path nothing is written: standard
//! output belongs to the guest's console.

use std::fmt::Write as _;
use std::panic::Location;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::api::body;
use super::files::{FileError, Lines};

/// How much a line matters; the log takes those up to its own level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub enum Level {
    /// Takes nothing.
    Off,
    /// Something did not work.
    Error,
    /// Something may not work.
    #[serde(rename = "Warning")]
    Warn,
    /// What was done.
    Info,
    /// How it was done.
    Debug,
    /// Every step.
    Trace,
}

/// Not a level.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("level {0:?} is none of Off, Error, Warning, Info, Debug, Trace")]
pub struct LevelError(String);

impl TryFrom<String> for Level {
    type Error = LevelError;

    fn try_from(name: String) -> Result<Self, LevelError> {
        match name.to_ascii_lowercase().as_str() {
            "off" => Ok(Self::Off),
            "error" => Ok(Self::Error),
            "warn" | "warning" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(LevelError(name)),
        }
    }
}

/// The log of one monitor.
#[derive(Debug)]
pub(super) struct Log {
    id: String,
    lines: Option<Lines>,
    level: Level,
    show_level: bool,
    show_origin: bool,
}

impl Log {
    /// A log without a file: it takes nothing yet.
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            lines: None,
            level: Level::Info,
            show_level: false,
            show_origin: false,
        }
    }

    /// Changes what `update` names, or nothing where its file cannot be opened.
    pub(super) fn update(&mut self, update: &body::Logger) -> Result<(), FileError> {
        if let Some(path) = &update.log_path {
            self.lines = Some(Lines::open(path)?);
        }
        self.level = update.level.unwrap_or(self.level);
        self.show_level = update.show_level.unwrap_or(self.show_level);
        self.show_origin = update.show_log_origin.unwrap_or(self.show_origin);
        Ok(())
    }

    /// Writes a line, if the log is there and takes it. One that cannot be written is lost.
    #[track_caller]
    pub(super) fn write(&mut self, level: Level, text: &str) {
        let Some(lines) = self.lines.as_mut().filter(|_| level <= self.level) else {
            return;
        };
        let thread = std::thread::current();
        let mut line = timestamp(SystemTime::now());
        let _ = write!(line, " [{}:{}", self.id, thread.name().unwrap_or("control"));
        if self.show_level {
            let _ = write!(line, ":{}", format!("{level:?}").to_ascii_uppercase());
        }
        if self.show_origin {
            let origin = Location::caller();
            let _ = write!(line, ":{}:{}", origin.file(), origin.line());
        }
        line.push_str("] ");
        // A client's words may be in it: they shall not look like lines of the log.
        for character in text.chars() {
            if character.is_control() {
                line.extend(character.escape_default());
            } else {
                line.push(character);
            }
        }
        let _ = lines.write(line.into_bytes());
    }
}

/// UTC, to the nanosecond.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}",
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_nanos()
    )
}

/// Year, month and day of a count of days since 1970. Counts from 1 March of year 0, so that leap days come last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year + u64::from(month <= 2);
    (year, month, day - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_timestamp_is_the_day_that_it_is() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::new(seconds, 7));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000007");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000007");
        assert_eq!(at(951_868_800), "2000-03-01T00:00:00.000000007");
        assert_eq!(at(1_767_225_599), "2025-12-31T23:59:59.000000007");
    }

    #[test]
    fn a_line_cannot_be_forged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::new("a");
        let update = body::Logger {
            log_path: Some(path.clone()),
            show_level: Some(true),
            show_log_origin: Some(true),
            ..body::Logger::default()
        };
        log.update(&update).unwrap();
        log.write(Level::Info, "one\n2026 [b] two");
        log.write(Level::Debug, "not taken");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(":INFO:vmm/src/control/log.rs:"), "{text}");
        assert!(text.ends_with("] one\\n2026 [b] two\n"), "{text}");
    }
}
