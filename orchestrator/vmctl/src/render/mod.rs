//! What people read, made of the API's types. Nothing here asks the time or the terminal.

pub(crate) mod event;
pub(crate) mod images;
pub(crate) mod vm;
pub(crate) mod vms;

#[cfg(test)]
mod tests;
