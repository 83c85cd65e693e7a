//! What stands behind a device on the host: files and streams. Nothing here knows of virtio or of buses.
//!
//! - [`console`]: where a guest's console output goes.
//! - [`file`]: disks' files.
//! - [`input`]: where a guest's console input comes from.

pub mod console;
pub mod file;
pub mod input;
