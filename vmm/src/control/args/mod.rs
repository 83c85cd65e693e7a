//! The flags of the binary `vmm`: Firecracker's, and `--spec-fd` and `--probe`.
//!
//! Parsed by hand: there are few of them, and a parser for people would cost more at each start than the boot has to spare.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::path::PathBuf;

use super::log::{Level, LevelError};
use super::{Instance, Logger};
use crate::spec::{ValueError, VmId};

/// What `--help` prints.
pub const HELP: &str = "\
vmm: one process is one microVM

  vmm --spec-fd N               a VM described whole, over the unix socket N
  vmm --api-sock PATH           a VM configured by Firecracker's API
  vmm --no-api --config-file PATH
                                a VM configured by a file, without an API
  vmm --probe                   say what this host's KVM can do
  vmm --version | --help

With --api-sock or --config-file:
  --api-sock PATH        unix socket of the API
  --config-file PATH     configuration as GET /vm/config answers it; the VM starts at once
  --no-api               no API socket; needs --config-file
  --id ID                the VM's name [anonymous-instance]
  --log-path PATH        file or FIFO of the log
  --level LEVEL          Off, Error, Warning, Info, Debug or Trace [Info]
  --show-level           the log's lines say their level
  --show-log-origin      the log's lines say where they come from
  --metrics-path PATH    file or FIFO of the metrics, JSON lines
  --start-time-us N      CLOCK_MONOTONIC microseconds when the launcher asked for this process
  --start-time-cpu-us N, --parent-cpu-time-us N, --no-seccomp
                         taken for Firecracker's launchers, and of no effect here
";

/// The name of a VM that was given none: Firecracker's.
const DEFAULT_ID: &str = "anonymous-instance";

/// What the process shall do.
#[derive(Debug)]
pub enum Mode {
    /// Run the VM that is described over this descriptor.
    Spec {
        /// A unix stream socket: see [`crate::launch`].
        fd: RawFd,
    },
    /// Serve the API.
    Api {
        /// Where it listens.
        socket: PathBuf,
        /// A configuration to start from; without one clients configure and start the VM.
        config: Option<PathBuf>,
        /// The VM's name, log and metrics.
        instance: Instance,
    },
    /// Run the VM that a file describes, without an API.
    File {
        /// Its configuration.
        config: PathBuf,
        /// The VM's name, log and metrics.
        instance: Instance,
    },
    /// Say what the host's KVM can do.
    Probe,
    /// Say the version.
    Version,
    /// Print [`HELP`].
    Help,
}

/// The flags make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// No such flag.
    #[error("unknown argument {0:?}: see --help")]
    Unknown(OsString),
    /// A flag that Firecracker has.
    #[error("{0} is not supported by this version of Shoal")]
    NotSupported(&'static str),
    /// A flag that lacks its value.
    #[error("{0} needs a value")]
    NoValue(&'static str),
    /// A flag with a value that has none.
    #[error("{0} takes no value")]
    Value(&'static str),
    /// A flag given twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// Not a number, or too large.
    #[error("{flag} needs a number, not {value:?}")]
    Number {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: OsString,
    },
    /// Flags that exclude each other.
    #[error("{0} and {1} exclude each other")]
    Conflict(&'static str, &'static str),
    /// A flag without another that it needs.
    #[error("{0} needs {1}")]
    Needs(&'static str, &'static str),
    /// Nothing said what to do.
    #[error(
        "one of --api-sock, --config-file with --no-api, --spec-fd and --probe is needed: see --help"
    )]
    Nothing,
    /// Not a VM's name.
    #[error("--id: {0}")]
    Id(ValueError),
    /// Not a level.
    #[error("--level: {0}")]
    Level(LevelError),
}

/// Flags, and whether they have a value.
const FLAGS: [(&str, bool); 17] = [
    ("--api-sock", true),
    ("--config-file", true),
    ("--id", true),
    ("--level", true),
    ("--log-path", true),
    ("--metrics-path", true),
    ("--no-api", false),
    ("--no-seccomp", false),
    ("--parent-cpu-time-us", true),
    ("--probe", false),
    ("--show-level", false),
    ("--show-log-origin", false),
    ("--spec-fd", true),
    ("--start-time-cpu-us", true),
    ("--start-time-us", true),
    ("--version", false),
    ("--help", false),
];

/// Flags that Firecracker has and this version does not.
const ABSENT: [&str; 9] = [
    "--boot-timer",
    "--describe-snapshot",
    "--enable-pci",
    "--http-api-max-payload-size",
    "--metadata",
    "--mmds-size-limit",
    "--module",
    "--seccomp-filter",
    "--snapshot-version",
];

impl Mode {
    /// Parses what follows the program's name.
    ///
    /// # Errors
    /// [`ArgsError`], the first that is found.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, ArgsError> {
        let mut given = Given::collect(args.into_iter())?;
        // As in Firecracker, whoever asks for help gets it, whatever else stands there.
        if given.flag("--help") {
            return Ok(Self::Help);
        }
        if given.flag("--version") {
            return Ok(Self::Version);
        }
        if given.flag("--probe") {
            return given.alone("--probe").map(|()| Self::Probe);
        }
        if let Some(fd) = given.number("--spec-fd")? {
            let fd = fd.value_in("--spec-fd")?;
            return given.alone("--spec-fd").map(|()| Self::Spec { fd });
        }
        given.firecracker()
    }
}

/// The flags that were given, with their values; empty where they have none.
struct Given(Vec<(&'static str, OsString)>);

/// A number, and the words that it came from.
struct Number(u64, OsString);

impl Number {
    fn value_in<T: TryFrom<u64>>(self, flag: &'static str) -> Result<T, ArgsError> {
        let Self(number, value) = self;
        T::try_from(number).map_err(|_| ArgsError::Number { flag, value })
    }
}

impl Given {
    fn collect(mut args: impl Iterator<Item = OsString>) -> Result<Self, ArgsError> {
        let mut given = Self(Vec::new());
        while let Some(arg) = args.next() {
            let (name, value) = split(&arg);
            if let Some(absent) = ABSENT.iter().find(|flag| name == **flag) {
                return Err(ArgsError::NotSupported(absent));
            }
            let (flag, has_value) = *FLAGS
                .iter()
                .find(|(flag, _)| name == *flag)
                .ok_or_else(|| ArgsError::Unknown(name.to_owned()))?;
            let value = match (has_value, value) {
                (true, Some(value)) => value.to_owned(),
                (true, None) => args.next().ok_or(ArgsError::NoValue(flag))?,
                (false, None) => OsString::new(),
                (false, Some(_)) => return Err(ArgsError::Value(flag)),
            };
            if given.0.iter().any(|(other, _)| *other == flag) {
                return Err(ArgsError::Twice(flag));
            }
            given.0.push((flag, value));
        }
        Ok(given)
    }

    fn take(&mut self, flag: &'static str) -> Option<OsString> {
        let at = self.0.iter().position(|(other, _)| *other == flag)?;
        Some(self.0.swap_remove(at).1)
    }

    fn flag(&mut self, flag: &'static str) -> bool {
        self.take(flag).is_some()
    }

    fn path(&mut self, flag: &'static str) -> Option<PathBuf> {
        self.take(flag).map(PathBuf::from)
    }

    fn number(&mut self, flag: &'static str) -> Result<Option<Number>, ArgsError> {
        let Some(value) = self.take(flag) else {
            return Ok(None);
        };
        match value.to_str().and_then(|text| text.parse().ok()) {
            Some(number) => Ok(Some(Number(number, value))),
            None => Err(ArgsError::Number { flag, value }),
        }
    }

    /// Refuses what stands beside `flag`.
    fn alone(&self, flag: &'static str) -> Result<(), ArgsError> {
        match self.0.first() {
            None => Ok(()),
            Some((other, _)) => Err(ArgsError::Conflict(flag, other)),
        }
    }

    /// The modes that Firecracker has.
    fn firecracker(mut self) -> Result<Mode, ArgsError> {
        let instance = self.instance()?;
        let config = self.path("--config-file");
        let socket = self.path("--api-sock");
        match (self.flag("--no-api"), socket, config) {
            (true, Some(_), _) => Err(ArgsError::Conflict("--no-api", "--api-sock")),
            (true, None, None) => Err(ArgsError::Needs("--no-api", "--config-file")),
            (true, None, Some(config)) => Ok(Mode::File { config, instance }),
            (false, Some(socket), config) => Ok(Mode::Api {
                socket,
                config,
                instance,
            }),
            (false, None, Some(_)) => {
                Err(ArgsError::Needs("--config-file", "--api-sock or --no-api"))
            }
            (false, None, None) => Err(ArgsError::Nothing),
        }
    }

    fn instance(&mut self) -> Result<Instance, ArgsError> {
        let text = |value: OsString| value.to_string_lossy().into_owned();
        let id = self
            .take("--id")
            .map_or_else(|| DEFAULT_ID.to_owned(), text);
        let id: VmId = id.parse().map_err(ArgsError::Id)?;
        let level = self.take("--level").map(|name| Level::try_from(text(name)));
        let launched_at = match self.number("--start-time-us")? {
            None => None,
            Some(Number(micros, value)) => {
                let flag = "--start-time-us";
                let nanos = micros.checked_mul(1000);
                Some(nanos.ok_or(ArgsError::Number { flag, value })?)
            }
        };
        for flag in ["--start-time-cpu-us", "--parent-cpu-time-us"] {
            self.number(flag)?;
        }
        self.flag("--no-seccomp");
        Ok(Instance {
            id,
            launched_at,
            logger: Logger {
                log_path: self.path("--log-path"),
                level: level.transpose().map_err(ArgsError::Level)?,
                show_level: self.flag("--show-level").then_some(true),
                show_log_origin: self.flag("--show-log-origin").then_some(true),
                module: None,
            },
            metrics_path: self.path("--metrics-path"),
        })
    }
}

/// A flag's name, and its value where it has the form `--name=value`.
fn split(arg: &OsStr) -> (&OsStr, Option<&OsStr>) {
    use std::os::unix::ffi::OsStrExt;
    let bytes = arg.as_bytes();
    match bytes.iter().position(|b| *b == b'=') {
        Some(at) if bytes.starts_with(b"--") => (
            OsStr::from_bytes(&bytes[..at]),
            Some(OsStr::from_bytes(&bytes[at + 1..])),
        ),
        _ => (arg, None),
    }
}

#[cfg(test)]
mod tests;
