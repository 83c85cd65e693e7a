//! The socket device (section 5.10): streams between a guest's programs and the host's, without a network.
//!
//! ```text
//!  guest's program                                                           host's program
//!        |            receive queue   <---- packets ----   readv   <----------  unix socket
//!     AF_VSOCK                               Mux
//!        |            transmit queue  ----  packets ---->  writev  ---------->  unix socket
//!                     event queue     (for a guest that was restored elsewhere)
//! ```
//!
//! The host's side is Firecracker's ([`crate::backend::unix`]). Data go from guest memory to a socket and back by one system call and no
//! copy. A host program that reads slowly stops its guest's program by credit, and holds at most a window of bytes here; a guest's
//! program that reads slowly stops the reading of its socket. Nobody waits for anybody else.
//!
//! - [`packet`]: a packet's header. [`credit`]: who may send how much.
//! - [`connection`]: one stream. [`outflow`]: its way to the host. [`mux`]: all of them.

mod connection;
mod credit;
mod mux;
mod outflow;
mod packet;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::VirtioDevice;
use super::ring::{Broken, Ring};
use crate::backend::unix::Sockets;
use crate::meter::Meter;
use crate::spec;
use mux::Mux;

/// Device id.
const ID: u32 = 19;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// A Linux guest fills the first with buffers of its own size, and keeps them: of 64 KiB in our kernel, of 4 in others.
const QUEUES: [u16; 3] = [32, 128, 8];

/// The device.
#[derive(Debug)]
pub struct Vsock {
    config: [u8; 8],
    mux: Mux,
}

impl Vsock {
    /// The device that a description asks for.
    ///
    /// # Errors
    /// Where its listener is none, or no descriptor is left.
    pub fn new(vsock: spec::Vsock, meter: Arc<Meter>) -> io::Result<Self> {
        let sockets = Sockets::new(vsock.listener, vsock.out)?;
        Ok(Self {
            config: u64::from(vsock.cid).to_le_bytes(),
            mux: Mux::new(vsock.cid, sockets, meter),
        })
    }
}

impl VirtioDevice for Vsock {
    fn id(&self) -> u32 {
        ID
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn wakes(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        vec![(RECEIVE, self.mux.descriptor())]
    }

    fn activate(&mut self, _features: u64) {}

    fn serve(&mut self, index: usize, ring: &mut Ring<'_>) -> Result<(), Broken> {
        match index {
            RECEIVE => self.mux.fill(ring),
            TRANSMIT => self.mux.take(ring),
            // Its buffers wait for an event.
            _ => Ok(()),
        }
    }

    fn follow_up(&self, index: usize) -> Option<usize> {
        (index == TRANSMIT && self.mux.has_packets()).then_some(RECEIVE)
    }

    fn reset(&mut self) {
        self.mux.reset();
    }
}
