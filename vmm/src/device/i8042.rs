//! The keyboard controller, as far as a guest without keyboard needs it: it resets the machine, and it delivers
//! Ctrl-Alt-Del, by which whoever owns a VM asks it to shut down.
//!
//! The keys come as scan codes of set 1 on interrupt line [`abi::layout::I8042_GSI`], one byte an interrupt, as
//! from a controller that translates.
//!
//! Source: IBM PS/2 hardware interface reference, keyboard and auxiliary device controller.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use abi::port::{I8042_COMMAND, I8042_DATA, I8042_RESET};
use vmm_sys_util::eventfd::EventFd;

use super::Device;
use crate::machine::end::End;
use crate::outcome::{Cause, Outcome};
use crate::sync::lock;

/// Offset of the data register.
pub const DATA: u64 = 0;
/// Offset of the status and command register.
pub const COMMAND: u64 = (I8042_COMMAND - I8042_DATA) as u64;

/// Status: a byte waits in the data register.
const OUTPUT_FULL: u8 = 1 << 0;
/// Status: the self-test was passed.
const SYSTEM: u8 = 1 << 2;
/// Status: the keyboard is not locked.
const UNLOCKED: u8 = 1 << 4;

/// Left control, left alt and delete, pressed and released.
const CTRL_ALT_DEL: [u8; 8] = [0x1D, 0x38, 0xE0, 0x53, 0xE0, 0xD3, 0xB8, 0x9D];

/// Keys were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The guest has not read the earlier ones.
    #[error("the guest has not yet taken the last Ctrl-Alt-Del")]
    Waiting,
    /// Its interrupt could not be raised.
    #[error("the keyboard's interrupt cannot be raised")]
    Interrupt,
}

/// The controller.
pub struct I8042 {
    end: Arc<End>,
    line: EventFd,
    keys: Mutex<VecDeque<u8>>,
}

impl I8042 {
    /// A controller that reports resets to `end` and interrupts by `line`.
    #[must_use]
    pub fn new(end: Arc<End>, line: EventFd) -> Self {
        Self {
            end,
            line,
            keys: Mutex::default(),
        }
    }

    /// Presses Ctrl-Alt-Del.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn ctrl_alt_del(&self) -> Result<(), KeysError> {
        let mut keys = lock(&self.keys);
        if !keys.is_empty() {
            return Err(KeysError::Waiting);
        }
        self.line.write(1).map_err(|_| KeysError::Interrupt)?;
        keys.extend(CTRL_ALT_DEL);
        Ok(())
    }

    fn read_register(&self, offset: u64) -> u8 {
        let mut keys = lock(&self.keys);
        if offset != DATA {
            let waiting = if keys.is_empty() { 0 } else { OUTPUT_FULL };
            return SYSTEM | UNLOCKED | waiting;
        }
        let key = keys.pop_front();
        if !keys.is_empty() {
            // An interrupt that cannot be raised leaves the status bit, which a driver may poll.
            let _ = self.line.write(1);
        }
        key.unwrap_or(0)
    }
}

impl Device for I8042 {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill_with(|| self.read_register(offset));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if offset == COMMAND && data.contains(&I8042_RESET) {
            self.end.report(Outcome::new(Cause::Reset, ""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller() -> (Arc<End>, I8042) {
        let end = Arc::new(End::new().unwrap());
        let line = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        (Arc::clone(&end), I8042::new(end, line))
    }

    fn read(controller: &I8042, offset: u64) -> u8 {
        let mut data = [0];
        controller.read(offset, &mut data);
        data[0]
    }

    #[test]
    fn keys_come_one_by_one_with_an_interrupt_each() {
        let (_, controller) = controller();
        assert_eq!(read(&controller, COMMAND) & OUTPUT_FULL, 0);
        controller.ctrl_alt_del().unwrap();
        assert_eq!(controller.ctrl_alt_del(), Err(KeysError::Waiting));
        for key in CTRL_ALT_DEL {
            assert_eq!(controller.line.read().unwrap(), 1);
            assert_ne!(read(&controller, COMMAND) & OUTPUT_FULL, 0);
            assert_eq!(read(&controller, DATA), key);
        }
        assert!(controller.line.read().is_err());
        assert_eq!(read(&controller, DATA), 0);
        controller.ctrl_alt_del().unwrap();
    }

    #[test]
    fn the_reset_pulse_ends_the_vm_and_nothing_else_does() {
        let (end, controller) = controller();
        controller.write(DATA, &[I8042_RESET]);
        controller.write(COMMAND, &[0xAA]);
        assert_eq!(end.outcome(), None);
        controller.write(COMMAND, &[I8042_RESET]);
        assert_eq!(end.outcome().unwrap().cause, Cause::Reset);
    }
}
