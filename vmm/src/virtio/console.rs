//! The console device (section 5.3), one port: queue 0 receives what people type, queue 1 transmits what the guest says.
//!
//! Output is taken at once, whatever becomes of it, so that a guest never waits for whoever reads. Input waits in
//! [`PENDING`] bytes until the driver has buffers for it, and behind those wherever it comes from.

use std::collections::VecDeque;
use std::sync::Arc;

use vm_memory::VolatileSlice;

use super::VirtioDevice;
use super::mmio::Transport;
use super::ring::{BadChain, Broken, Chain, Ring};
use crate::backend::console::Output;
use crate::backend::input::{Room, Taker};

/// Device id.
const ID: u32 = 3;
const RECEIVE: usize = 0;
const QUEUES: [u16; 2] = [64, 256];
/// Bytes of input that wait for a driver.
const PENDING: usize = 256;
/// Most bytes of one chain that are output: nobody reads more, and a turn has to end.
const CHAIN_MAX: usize = 256 << 10;
/// Bytes that are copied out of the guest at a time.
const PIECE: usize = 4096;

/// The device.
pub struct Console {
    output: Arc<Output>,
    room: Room,
    pending: VecDeque<u8>,
    active: bool,
}

impl Console {
    /// A console that writes to `output`, and says by `room` when it can take input.
    #[must_use]
    pub fn new(output: Arc<Output>, room: Room) -> Self {
        Self {
            output,
            room,
            pending: VecDeque::with_capacity(PENDING),
            active: false,
        }
    }

    fn room(&self) -> usize {
        if self.active {
            PENDING - self.pending.len()
        } else {
            0
        }
    }

    fn receive(&mut self, ring: &mut Ring<'_>) -> Result<(), Broken> {
        let before = self.pending.len();
        while !self.pending.is_empty()
            && let Some(chain) = ring.next_chain()?
        {
            let (written, whole) = fill(&mut self.pending, &chain);
            if !whole {
                ring.note_bad_chain();
            }
            ring.done(&chain, written)?;
        }
        if self.pending.len() < before {
            self.room.announce();
        }
        Ok(())
    }

    fn transmit(&mut self, ring: &mut Ring<'_>) -> Result<(), Broken> {
        while let Some(chain) = ring.next_chain()? {
            if self.print(&chain).is_err() {
                ring.note_bad_chain();
            }
            ring.done(&chain, 0)?;
        }
        Ok(())
    }

    fn print(&self, chain: &Chain<'_>) -> Result<(), BadChain> {
        let mut left = CHAIN_MAX;
        for buffer in chain.buffers() {
            let buffer = buffer?;
            if buffer.writable {
                return Err(BadChain);
            }
            let length = buffer.slice.len().min(left);
            left -= length;
            for start in (0..length).step_by(PIECE) {
                let mut piece = [0; PIECE];
                let part = buffer
                    .slice
                    .subslice(start, (length - start).min(PIECE))
                    .map_err(|_| BadChain)?;
                part.copy_to(&mut piece[..]);
                self.output.write(&piece[..part.len()]);
            }
            self.output.drop_bytes((buffer.slice.len() - length) as u64);
        }
        Ok(())
    }
}

/// Moves what fits from `pending` into the chain; says how much, and whether the chain made sense so far.
fn fill(pending: &mut VecDeque<u8>, chain: &Chain<'_>) -> (u32, bool) {
    let mut written = 0;
    for buffer in chain.buffers() {
        match buffer {
            Ok(buffer) if buffer.writable => written += fill_slice(pending, &buffer.slice),
            _ => return (written, false),
        }
        if pending.is_empty() {
            break;
        }
    }
    (written, true)
}

fn fill_slice(pending: &mut VecDeque<u8>, slice: &VolatileSlice<'_>) -> u32 {
    let length = pending.len().min(slice.len());
    let bytes: Vec<u8> = pending.drain(..length).collect();
    slice.copy_from(&bytes[..]);
    // At most PENDING.
    length as u32
}

impl VirtioDevice for Console {
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
        // Columns, rows, ports and emergency write belong to features that are not offered.
        &[0; 12]
    }

    fn activate(&mut self, _features: u64) {
        self.active = true;
        self.room.announce();
    }

    fn serve(&mut self, index: usize, ring: &mut Ring<'_>) -> Result<(), Broken> {
        match index {
            RECEIVE => self.receive(ring),
            _ => self.transmit(ring),
        }
    }

    fn reset(&mut self) {
        self.active = false;
    }
}

impl Taker for Transport<Console> {
    fn room(&self) -> usize {
        self.with_device(RECEIVE, |console| console.room())
    }

    fn take(&self, bytes: &[u8]) -> usize {
        self.with_device(RECEIVE, |console| {
            let taken = bytes.len().min(PENDING - console.pending.len());
            console.pending.extend(&bytes[..taken]);
            taken
        })
    }
}
