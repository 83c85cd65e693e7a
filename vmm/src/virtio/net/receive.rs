//! Receiving. How long a frame is shows only when it is read, so the largest that may come needs to have room; what it left is for
//! the next, and what was not needed at all goes back to the ring.
//!
//! ```text
//! ring --take--> | chain | chain | chain | chain | ...   the pool: room for one frame, of any length
//!                |<-- a frame -->|                       given back together, with their number in its header
//! ```

use std::collections::VecDeque;

use super::*;

/// Frames that are received in one turn.
const TURN: usize = 256;
/// Where a header has the number of its frame's chains (section 5.1.6).
const NUMBER: usize = 10;

/// Chains that were taken, and the memory that they are.
#[derive(Default)]
pub(super) struct Pool<'a> {
    chains: VecDeque<(Chain<'a>, usize)>,
    room: Vector<'a>,
}

impl Net {
    pub(super) fn receive(&mut self, ring: &mut Ring<'_>) -> Result<(), Broken> {
        self.receive_limit.clear();
        // A driver rings more often for its buffers than there is something to put into them.
        if !self.link.is_readable() {
            return Ok(());
        }
        ring.lengthen();
        let mut pool = Pool::default();
        let mut more = true;
        for _ in 0..TURN {
            more = self.receive_limit.admits() && self.fill(&mut pool, ring)?;
            if more {
                more = self.receive_frame(&mut pool, ring)?;
            }
            if !more {
                break;
            }
        }
        ring.put_back(pool.chains.into_iter().map(|(chain, _)| chain));
        if more {
            ring.ask_again();
        }
        Ok(())
    }

    /// Brings the pool to the room that a frame may need; `false` where the driver has not made as much available.
    fn fill<'a>(&mut self, pool: &mut Pool<'a>, ring: &mut Ring<'a>) -> Result<bool, Broken> {
        let merged = self.has(VIRTIO_NET_F_MRG_RXBUF);
        let needed = self.room_needed();
        while pool.chains.is_empty() || (merged && pool.room.len() < needed) {
            let Some(chain) = ring.next_chain()? else {
                // A driver whose whole ring is no more than this gets what fits.
                let all = pool.chains.len() == usize::from(ring.size());
                return Ok(all && pool.room.len() > HEADER);
            };
            // A chain of no bytes would be as many as one likes.
            match chain.vector(true) {
                Ok(room) if !room.is_empty() => {
                    pool.chains.push_back((chain, room.len()));
                    pool.room.append(room);
                }
                _ => {
                    // Those before it go as well: only what was taken last can be put back.
                    ring.note_bad_chain();
                    for (chain, _) in std::mem::take(pool).chains {
                        ring.done(&chain, 0)?;
                    }
                    ring.done(&chain, 0)?;
                }
            }
        }
        Ok(true)
    }

    /// Room for the largest frame and one byte: one that fills all of it was cut.
    fn room_needed(&self) -> usize {
        let offloads = self.offloads();
        if offloads.checksum && (offloads.tso4 || offloads.tso6) {
            FRAME_MAX + 1
        } else {
            HEADER + ETHERNET + usize::from(self.mtu) + 1
        }
    }

    /// Receives a frame; `false` where there is none.
    fn receive_frame<'a>(
        &mut self,
        pool: &mut Pool<'a>,
        ring: &mut Ring<'a>,
    ) -> Result<bool, Broken> {
        match pool.room.read(&*self.link) {
            Ok(length) if (HEADER + 1..pool.room.len()).contains(&length) => {
                let bytes = (length - HEADER) as u64;
                self.receive_limit.spend(bytes);
                self.meter.add(Counter::NetReceived, 1);
                self.meter.add(Counter::NetReceivedBytes, bytes);
                pool.deliver(length, ring)?;
            }
            // Too long for its reader, or no frame: its room is for the next.
            Ok(1..) => self.meter.add(Counter::NetDropped, 1),
            Err(Errno::AGAIN) => return Ok(false),
            Ok(0) | Err(_) => {
                self.meter.add(Counter::NetErrors, 1);
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<'a> Pool<'a> {
    /// Gives the chains back that `length` bytes were written into.
    fn deliver(&mut self, length: usize, ring: &mut Ring<'a>) -> Result<(), Broken> {
        let mut written = Vec::with_capacity(1);
        let (mut left, mut room) = (length, 0);
        while left > 0
            && let Some((chain, size)) = self.chains.pop_front()
        {
            let count = left.min(size);
            left -= count;
            room += size;
            // No longer than a frame.
            written.push((chain, count as u32));
        }
        // No more chains than the ring has.
        let number = written.len() as u16;
        self.room.copy_from_at(NUMBER, &number.to_le_bytes());
        drop(self.room.take_front(room));
        ring.done_together(&written)
    }
}
