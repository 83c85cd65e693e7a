//! What people read, made of the API's types. Nothing here asks the time or the terminal.

pub(crate) mod event;
pub(crate) mod images;
pub(crate) mod networks;
pub(crate) mod ports;
pub(crate) mod processes;
pub(crate) mod stats;
pub(crate) mod vm;
pub(crate) mod vms;
pub(crate) mod volumes;

#[cfg(test)]
mod tests;
