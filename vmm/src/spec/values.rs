//! Values that can only be valid.

use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;

/// Why a value was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a VM's name.
    #[error("VM id {0:?} is not 1 to {max} ASCII letters, digits and hyphens", max = VmId::MAX)]
    Id(String),
    /// Too few or too many virtual CPUs.
    #[error("a VM has 1 to {max} vCPUs, not {0}", max = VcpuCount::MAX)]
    Vcpus(u32),
    /// Too little or too much memory.
    #[error("a VM has {min} to {max} MiB of memory, not {0}", min = MemorySize::MIN_MIB, max = MemorySize::MAX_MIB)]
    Memory(u64),
    /// A command line that does not fit.
    #[error("the command line has {0} bytes, {max} fit", max = CommandLine::MAX)]
    CommandLineLength(usize),
    /// A command line that would end early.
    #[error("the command line has a NUL at byte {0}")]
    CommandLineNul(usize),
}

/// A VM's name: 1 to 64 ASCII letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VmId(String);

impl VmId {
    /// Most bytes.
    pub const MAX: usize = 64;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VmId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let valid = (1..=Self::MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !valid {
            // The value is a stranger's: show what identifies it and no more.
            return Err(ValueError::Id(text.chars().take(Self::MAX + 1).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many virtual CPUs: 1 to 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuCount(NonZeroU8);

impl VcpuCount {
    /// Most virtual CPUs.
    pub const MAX: u8 = 32;

    /// The number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0.get()
    }
}

impl TryFrom<u32> for VcpuCount {
    type Error = ValueError;

    fn try_from(count: u32) -> Result<Self, ValueError> {
        u8::try_from(count)
            .ok()
            .filter(|c| *c <= Self::MAX)
            .and_then(NonZeroU8::new)
            .map(Self)
            .ok_or(ValueError::Vcpus(count))
    }
}

/// A guest's memory: whole mebibytes, 2 MiB to 1 TiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySize(u64);

impl MemorySize {
    /// Least mebibytes: an image starts at the first.
    pub const MIN_MIB: u64 = 2;
    /// Most mebibytes.
    pub const MAX_MIB: u64 = 1 << 20;

    /// A size in mebibytes.
    ///
    /// # Errors
    /// [`ValueError::Memory`] where it is out of bounds.
    pub fn from_mib(mib: u64) -> Result<Self, ValueError> {
        if (Self::MIN_MIB..=Self::MAX_MIB).contains(&mib) {
            Ok(Self(mib))
        } else {
            Err(ValueError::Memory(mib))
        }
    }

    /// In mebibytes.
    #[must_use]
    pub fn mib(self) -> u64 {
        self.0
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0 << 20
    }
}

/// A guest's command line, as its launcher wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine(String);

impl CommandLine {
    /// Most bytes: the room that the ABI gives, less what the monitor needs for its devices and the NUL.
    pub const MAX: usize = abi::layout::CMDLINE_MAX - 1024;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommandLine {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.len() > Self::MAX {
            return Err(ValueError::CommandLineLength(text.len()));
        }
        match text.bytes().position(|b| b == 0) {
            Some(at) => Err(ValueError::CommandLineNul(at)),
            None => Ok(Self(text.to_owned())),
        }
    }
}
