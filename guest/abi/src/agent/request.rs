//! What a host may ask of an agent.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::message::{Invalid, Size, absolute, at_most, name, text};
use super::signal;
use super::start::{Clock, Start};

/// The one request of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Become what is described. Answered with the status.
    Start(Box<Start>),
    /// How far is it? Answered with the status.
    Status,
    /// Memory, load, processes, disks. Answered with the report.
    Report,
    /// Run a program beside the main one. Answered with its process id, then its streams and its exit.
    Exec(Exec),
    /// Follow the main program. Answered when attached, then its streams, and its exit when it ends for good.
    Attach(Attach),
    /// Send a signal to the main program. Answered when it is sent.
    Signal(super::message::Signal),
    /// Unpack a tar stream into a directory. Answered when it may begin, and again when all is there.
    CopyIn(CopyIn),
    /// Pack a path into a tar stream. Answered when it begins.
    CopyOut(CopyOut),
    /// What is at a path? Answered with that.
    Stat(Stat),
    /// Set the clock. Answered when it is set.
    SetClock(Clock),
    /// Add to the kernel's entropy. Answered when it is there.
    AddEntropy(AddEntropy),
    /// Is the guest's service well? Answered with yes or no.
    Health(Health),
    /// End the guest. Answered when it has begun; the connection then lasts as long as the guest.
    Shutdown(Shutdown),
}

/// A program and how it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The program, looked for in the environment's PATH where it has no slash, and its arguments.
    pub argv: Vec<String>,
    /// `KEY=value`, the whole environment. PATH and HOME are added where they are missing, TERM where there is a terminal.
    #[serde(default)]
    pub env: Vec<String>,
    /// Its working directory, `/` without.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Who it runs as: `name`, `uid`, `name:group`, `uid:gid`, as images write it. Root without.
    #[serde(default)]
    pub user: Option<String>,
    /// Groups besides those that `/etc/group` gives the user: names or numbers.
    #[serde(default)]
    pub groups: Vec<String>,
    /// It gets a terminal; everything it writes is then Stdout.
    #[serde(default)]
    pub tty: Option<Tty>,
    /// It gets a standard input that somebody can write to, else an empty one.
    #[serde(default)]
    pub stdin: bool,
}

/// A terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tty {
    /// How large it is.
    pub size: Size,
    /// Which kind: TERM, `xterm` without.
    #[serde(default)]
    pub term: Option<String>,
}

/// Run a program beside the main one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// What and how. It starts from the main program's environment, which `env` overrides; `user` and `cwd` are the main
    /// program's where they are missing.
    pub program: Program,
    /// The program outlives the connection: there are no streams, only the process id.
    #[serde(default)]
    pub detach: bool,
}

/// Follow the main program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attach {
    /// What it wrote lately comes first.
    pub backlog: bool,
    /// The client writes to its standard input; Eof ends that input only where the program has no terminal.
    pub stdin: bool,
    /// The terminal's new size.
    pub size: Option<Size>,
}

/// Unpack a tar stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyIn {
    /// The directory to unpack into: absolute, there already. No entry reaches out of it.
    pub path: String,
}

/// Pack into a tar stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyOut {
    /// What to pack: absolute. The stream's entries begin with its last component.
    pub path: String,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stat {
    /// Absolute.
    pub path: String,
    /// A symbolic link's target is wanted, not the link.
    #[serde(default)]
    pub follow: bool,
}

/// Add to the kernel's entropy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddEntropy {
    /// Bytes that nobody else knows.
    pub bytes: Vec<u8>,
}

/// Is the guest's service well?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// How to find out.
    pub probe: Probe,
    /// How long that may take before the answer is no.
    pub timeout_ms: u32,
}

/// How to find out whether a service is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Probe {
    /// A program that ends with status 0.
    Exec {
        /// What and how; as for an exec.
        program: Program,
    },
    /// A port on loopback that takes connections.
    Tcp {
        /// The port.
        port: u16,
    },
    /// An HTTP server on loopback that answers with a status from 200 to 399.
    Http {
        /// The port.
        port: u16,
        /// What is asked for: begins with a slash.
        path: String,
    },
}

/// End the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// How long the main program may take after its stop signal before everything is killed.
    pub timeout_ms: u32,
    /// Kill everything at once.
    #[serde(default)]
    pub force: bool,
}

impl Request {
    /// Whether this may be asked at all.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Start(start) => start.check(),
            Self::Status | Self::Report | Self::Shutdown(_) => Ok(()),
            Self::Exec(exec) => exec.program.check(),
            Self::Attach(attach) => attach.size.map_or(Ok(()), Size::check),
            Self::Signal(signal) => signal_number(signal.signal),
            Self::CopyIn(CopyIn { path })
            | Self::CopyOut(CopyOut { path })
            | Self::Stat(Stat { path, .. }) => absolute("path", path),
            Self::SetClock(clock) => clock.check(),
            Self::AddEntropy(add) => entropy(&add.bytes),
            Self::Health(health) => health.probe.check(),
        }
    }
}

impl Program {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        at_most("arguments", self.argv.len(), 4096)?;
        match self.argv.first() {
            Some(program) => name("program", program, 4096)?,
            None => return Err(Invalid::new("no program")),
        }
        for arg in &self.argv {
            text("argument", arg, usize::MAX)?;
        }
        at_most("environment variables", self.env.len(), 4096)?;
        for variable in &self.env {
            text("environment variable", variable, usize::MAX)?;
            match variable.split_once('=') {
                None | Some(("", _)) => return Err(Invalid::new("a variable without a name")),
                Some(_) => {}
            }
        }
        if let Some(cwd) = &self.cwd {
            absolute("working directory", cwd)?;
        }
        if let Some(user) = &self.user {
            text("user", user, 256)?;
        }
        at_most("groups", self.groups.len(), 64)?;
        for group in &self.groups {
            name("group", group, 256)?;
        }
        if let Some(tty) = &self.tty {
            tty.size.check()?;
            if let Some(term) = &tty.term {
                name("terminal", term, 64)?;
            }
        }
        Ok(())
    }
}

impl Probe {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Exec { program } => program.check(),
            Self::Tcp { .. } => Ok(()),
            Self::Http { path, .. } => {
                text("path of a probe", path, 2048)?;
                if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()) {
                    return Err(Invalid::new("the path of a probe"));
                }
                Ok(())
            }
        }
    }
}

/// As much as the kernel takes at once with profit.
pub(super) fn entropy(bytes: &[u8]) -> Result<(), Invalid> {
    at_most("bytes of entropy", bytes.len(), 512)
}

pub(super) fn signal_number(signal: u8) -> Result<(), Invalid> {
    if (1..=signal::MAX).contains(&signal) {
        Ok(())
    } else {
        Err(Invalid::new("no signal"))
    }
}
