//! From what an OCI image says of how it is run to what we do.

use super::json::ImageConfig;
use crate::config::{Config, ConfigError, Port};

/// Signals as C and docker have them; the rest are told by their numbers.
const SIGNALS: [(&str, u8); 16] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("WINCH", 28),
    ("PWR", 30),
];
/// The first and the last of the signals without a meaning, as C programs are shown them.
const REAL_TIME: (u8, u8) = (34, 64);

/// How an image is to be run makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It is for another operating system.
    #[error("the image is for {0:?}, not for linux")]
    System(String),
    /// A signal that Linux does not have.
    #[error("the image's stop signal {0:?} is not known")]
    Signal(String),
    /// Something else.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// What an OCI configuration means here.
pub(super) fn of(image: ImageConfig) -> Result<Config, RunError> {
    let cut = |text: &str| text.chars().take(80).collect();
    if image.os != "linux" {
        return Err(RunError::System(cut(&image.os)));
    }
    let run = image.config.unwrap_or_default();
    let mut ports = Vec::new();
    for text in run.exposed_ports.unwrap_or_default().into_keys() {
        // A protocol that nobody publishes ports of here.
        if !text.ends_with("/sctp") {
            ports.push(text.parse::<Port>()?);
        }
    }
    let workdir = run.working_dir.unwrap_or_default();
    let signal = run.stop_signal.filter(|text| !text.is_empty());
    let stop_signal = match signal {
        Some(text) => Some(self::signal(&text).ok_or_else(|| RunError::Signal(cut(&text)))?),
        None => None,
    };
    let config = Config {
        entrypoint: run.entrypoint.unwrap_or_default(),
        cmd: run.cmd.unwrap_or_default(),
        env: run.env.unwrap_or_default(),
        user: run.user.unwrap_or_default(),
        // Some say it as seen from the root, without saying so.
        workdir: match workdir.strip_prefix('/') {
            Some(_) => workdir,
            None => format!("/{workdir}"),
        },
        ports,
        volumes: run.volumes.unwrap_or_default().into_keys().collect(),
        stop_signal,
        labels: run.labels.unwrap_or_default(),
        architecture: image.architecture,
    };
    config.check()?;
    Ok(config)
}

/// `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`.
pub(crate) fn signal(text: &str) -> Option<u8> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let (first, last) = REAL_TIME;
    let real_time = |from: u8, rest: &str| match rest {
        "" => Some(from),
        rest if rest.starts_with('+') => from.checked_add(rest[1..].parse().ok()?),
        rest if rest.starts_with('-') => from.checked_sub(rest[1..].parse().ok()?),
        _ => None,
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        real_time(first, rest).filter(|n| *n >= first)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        real_time(last, rest).filter(|n| *n >= first)
    } else {
        let known = SIGNALS.iter().find(|(known, _)| *known == name);
        known.map(|&(_, number)| number).or(name.parse().ok())
    };
    number.filter(|n| (1..=last).contains(n))
}
