//! The entropy device (section 5.4): one queue, whose buffers are filled with the host's randomness.

use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};

use super::VirtioDevice;
use super::ring::{Broken, Chain, Ring};
use crate::meter::{Counter, Meter};

/// Device id.
const ID: u32 = 4;
const QUEUES: [u16; 1] = [64];
/// Most bytes for one request: a driver that wants more asks again.
const CHAIN_MAX: usize = 64 << 10;
/// Bytes that are fetched at a time: as many as the kernel gives without a pause.
const PIECE: usize = 256;

/// The device.
pub struct Entropy {
    meter: Arc<Meter>,
}

impl Entropy {
    /// A source that counts what it gives.
    #[must_use]
    pub fn new(meter: Arc<Meter>) -> Self {
        Self { meter }
    }
}

impl VirtioDevice for Entropy {
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
        &[]
    }

    fn activate(&mut self, _features: u64) {}

    fn serve(&mut self, _index: usize, ring: &mut Ring<'_>) -> Result<(), Broken> {
        while let Some(chain) = ring.next_chain()? {
            let (written, whole) = fill(&chain);
            if !whole {
                ring.note_bad_chain();
            }
            self.meter.add(Counter::Entropy, u64::from(written));
            ring.done(&chain, written)?;
        }
        Ok(())
    }

    fn reset(&mut self) {}
}

/// Fills the chain's buffers; says with how much, and whether the chain made sense so far.
fn fill(chain: &Chain<'_>) -> (u32, bool) {
    let mut written = 0;
    for buffer in chain.buffers() {
        let Some(buffer) = buffer.ok().filter(|buffer| buffer.writable) else {
            return (written as u32, false);
        };
        let length = buffer.slice.len().min(CHAIN_MAX - written);
        for start in (0..length).step_by(PIECE) {
            let mut piece = [0; PIECE];
            let wanted = (length - start).min(PIECE);
            // The kernel's pool is ready long before any VM: this many bytes come whole.
            let Ok(wanted) = getrandom(&mut piece[..wanted], GetRandomFlags::empty()) else {
                return (written as u32, true);
            };
            let Ok(part) = buffer.slice.subslice(start, wanted) else {
                return (written as u32, false);
            };
            part.copy_from(&piece[..wanted]);
            written += wanted;
        }
    }
    (written as u32, true)
}
