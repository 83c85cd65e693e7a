//! What stands behind a device on the host: files and streams. Nothing here knows of virtio or of buses.
//!
//! - [`console`]: where a guest's console output goes.
//! - [`input`]: where its input comes from.

pub mod console;
pub mod input;
