//! What stands behind a device on the host: files and streams. Nothing here knows of virtio or of buses.
//!
//! - [`console`]: where a guest's console output goes.
//! - [`file`]: disks' files.
//! - [`input`]: where a guest's console input comes from.
//! - [`tap`]: a guest's network frames.
//! - [`unix`]: host programs on unix sockets.
//! - [`vector`]: pieces of guest memory for one system call.

pub mod console;
pub mod file;
pub mod input;
pub mod tap;
pub mod unix;
pub mod vector;
