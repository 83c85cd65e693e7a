//! Settings of the network stack, as files.

use std::fs;
use std::path::PathBuf;

use crate::error::SystemError;

/// A setting.
fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(name)
}

/// Whether this host's kernel does IPv6 at all.
pub(crate) fn has_ipv6() -> bool {
    path("ipv6").exists()
}

/// Reads a setting.
pub(crate) fn read(name: &str) -> Result<String, SystemError> {
    let text =
        fs::read_to_string(path(name)).map_err(SystemError::of(format!("read net/{name}")))?;
    Ok(text.trim_end().to_owned())
}

/// Writes a setting, if it is another.
pub(crate) fn write(name: &str, value: &str) -> Result<(), SystemError> {
    if read(name)? == value {
        return Ok(());
    }
    fs::write(path(name), value).map_err(SystemError::of(format!("set net/{name} to {value}")))
}
