//! Linux guests: what may be asked of them, what they boot, and what their agents are told.
//!
//! ```text
//! request + image's config --spec--> LinuxRecord --boot-----> kernel, initrd, disks, command line -> monitor
//!                                        \-------describe--> Start -> agent
//! ```

pub mod boot;
pub mod describe;
pub mod spec;
