//! The exit port (`abi::port::EXIT`): a write ends the VM with the value written as its exit status.

use std::sync::Arc;

use super::Device;
use crate::machine::end::End;
use crate::outcome::Outcome;

/// The port.
pub struct ExitPort {
    end: Arc<End>,
}

impl ExitPort {
    /// A port that reports to `end`.
    #[must_use]
    pub fn new(end: Arc<End>) -> Self {
        Self { end }
    }
}

impl Device for ExitPort {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0xFF);
    }

    /// Of any width: what is missing of 32 bits is zero.
    fn write(&self, _offset: u64, data: &[u8]) {
        let mut status = [0; 4];
        let length = data.len().min(4);
        status[..length].copy_from_slice(&data[..length]);
        self.end.report(Outcome::exit(u32::from_le_bytes(status)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_what_was_written() {
        for (data, status) in [
            (&[7][..], 7),
            (&[1, 2], 0x201),
            (&[1, 2, 3, 4, 5], 0x0403_0201),
        ] {
            let end = Arc::new(End::new().unwrap());
            ExitPort::new(Arc::clone(&end)).write(0, data);
            assert_eq!(end.outcome(), Some(Outcome::exit(status)));
        }
    }
}
