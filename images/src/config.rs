//! How a Linux image wants to be run.
//!
//! What an image says of itself is a stranger's word: [`Config::check`] lets through only what an agent can do as it
//! stands, and both ways in, from an image and from a manifest in the store, go by it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most bytes of one word: what Linux takes as one argument of a program.
const MAX_WORD: usize = 128 << 10;
/// Most bytes of all words together: what an agent can be told in some frames.
const MAX_ALL: usize = 256 << 10;
/// Most entries of any list.
const MAX_ENTRIES: usize = 1024;
/// The greatest signal of Linux.
const MAX_SIGNAL: u8 = 64;

/// How a Linux image wants to be run, unless its user says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The program and its first arguments; the user's own arguments come after it.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program where there is no entry point; the user's own take their place.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`, to be looked up in the image; root where it is empty.
    #[serde(default)]
    pub user: String,
    /// Absolute.
    #[serde(default = "root")]
    pub workdir: String,
    /// What the program listens on.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// Absolute paths that want a volume.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// The signal that asks the program to end, as a number; SIGTERM where none is said.
    #[serde(default)]
    pub stop_signal: Option<u8>,
    /// What its maker says of it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it runs on, as Go has it: `amd64`.
    pub architecture: String,
}

fn root() -> String {
    "/".to_owned()
}

/// A port that a program listens on; written `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Port {
    /// Not 0.
    pub number: u16,
    /// Of which protocol.
    pub protocol: Protocol,
}

/// What a port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `tcp`
    Tcp,
    /// `udp`
    Udp,
}

/// An image's configuration cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not what virtual machines here run.
    #[error("the image is for {0:?}, not for amd64")]
    Architecture(String),
    /// More than any program is given.
    #[error("the image's {field} has more than {max}")]
    TooMuch {
        /// Which list.
        field: &'static str,
        /// How much there may be.
        max: &'static str,
    },
    /// A word that the field cannot hold.
    #[error("the image's {field} has {value:?}, which is not {wanted}")]
    Bad {
        /// Which field.
        field: &'static str,
        /// What it holds, cut short.
        value: String,
        /// What it should hold.
        wanted: &'static str,
    },
}

impl Config {
    /// A configuration that says nothing, for what virtual machines here run.
    #[must_use]
    pub fn new() -> Self {
        Self {
            workdir: root(),
            architecture: "amd64".to_owned(),
            ..Self::default()
        }
    }

    /// Lets through what can be run.
    ///
    /// # Errors
    /// [`ConfigError`], the first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.architecture != "amd64" {
            return Err(ConfigError::Architecture(cut(&self.architecture)));
        }
        let labels: Vec<String> = self.labels.iter().map(|(k, v)| format!("{k}{v}")).collect();
        let lists: [(&str, &[String]); 7] = [
            ("entry point", &self.entrypoint),
            ("command", &self.cmd),
            ("environment", &self.env),
            ("user", std::slice::from_ref(&self.user)),
            ("working directory", std::slice::from_ref(&self.workdir)),
            ("volumes", &self.volumes),
            ("labels", &labels),
        ];
        let mut all = 0;
        for (field, list) in lists {
            let too_much = |max| Err(ConfigError::TooMuch { field, max });
            if list.len() > MAX_ENTRIES {
                return too_much("1024 entries");
            }
            for word in list {
                all += word.len();
                if word.len() > MAX_WORD || all > MAX_ALL {
                    return too_much("128 KiB a word, or 256 KiB with all before it");
                }
                wants(field, word, !word.contains('\0'), "free of zero bytes")?;
            }
        }
        for word in &self.env {
            let named = word
                .split_once('=')
                .is_some_and(|(name, _)| !name.is_empty());
            wants("environment", word, named, "NAME=value")?;
        }
        let user = &self.user;
        let plain = user.matches(':').count() <= 1 && !user.contains(char::is_whitespace);
        wants("user", user, plain, "user or user:group")?;
        wants(
            "working directory",
            &self.workdir,
            is_path(&self.workdir),
            PATH,
        )?;
        for path in &self.volumes {
            let good = is_path(path) && path != "/";
            wants(
                "volumes",
                path,
                good,
                "an absolute path beneath / without \"..\"",
            )?;
        }
        if self.ports.len() > MAX_ENTRIES {
            let field = "ports";
            return Err(ConfigError::TooMuch {
                field,
                max: "1024 entries",
            });
        }
        if let Some(signal) = self.stop_signal {
            let good = (1..=MAX_SIGNAL).contains(&signal);
            wants(
                "stop signal",
                &signal.to_string(),
                good,
                "a signal's number",
            )?;
        }
        Ok(())
    }
}

const PATH: &str = "an absolute path without \"..\"";

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.len() < 4096 && !text.split('/').any(|part| part == "..")
}

fn wants(
    field: &'static str,
    value: &str,
    good: bool,
    wanted: &'static str,
) -> Result<(), ConfigError> {
    if good {
        return Ok(());
    }
    let value = cut(value);
    Err(ConfigError::Bad {
        field,
        value,
        wanted,
    })
}

/// A stranger's text: as much of it as identifies it.
fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for Port {
    type Err = ConfigError;

    /// `80`, `80/tcp` or `80/udp`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        };
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        match (number.parse(), protocol) {
            (Ok(number @ 1..), Some(protocol)) if digits => Ok(Self { number, protocol }),
            _ => Err(ConfigError::Bad {
                field: "ports",
                value: cut(text),
                wanted: "1 to 65535, then /tcp or /udp if need be",
            }),
        }
    }
}

impl TryFrom<String> for Port {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl From<Port> for String {
    fn from(port: Port) -> Self {
        port.to_string()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
