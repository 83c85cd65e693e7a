//! From a chain of buffers to what it asks for (section 5.2.6).
//!
//! ```text
//!   readable:  header 16 bytes | data to write, or a segment to discard
//!   writable:  data that is read, or the serial number | status 1 byte
//! ```
//!
//! Where one buffer ends and the next begins means nothing (section 2.7.4). Each byte of the header is read once: the guest may change it
//! any time.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

use crate::backend::file::buffers::Buffers;
use crate::machine::memory::Memory;
use crate::virtio::ring::{BadChain, Chain};

/// Bytes of a header, and of a segment to discard.
const HEADER: usize = 16;
/// Most bytes of one request's data: as many are under way for each place, and drivers ask for far less.
const DATA_MAX: u64 = 64 << 20;
/// A segment's flag: space may be given up.
pub(super) const UNMAP: u32 = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

/// What a driver reads as the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Ok = VIRTIO_BLK_S_OK as u8,
    Error = VIRTIO_BLK_S_IOERR as u8,
    Unsupported = VIRTIO_BLK_S_UNSUPP as u8,
}

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) task: Task,
    /// Where the status goes.
    pub(super) status: GuestAddress,
}

/// What is asked for. Sectors and lengths are as the driver says.
#[derive(Debug)]
pub(super) enum Task {
    Read {
        sector: u64,
        to: Buffers,
    },
    Write {
        sector: u64,
        from: Buffers,
    },
    Flush,
    Discard(Segment),
    WriteZeroes(Segment),
    Id {
        to: Pieces,
    },
    /// No such request.
    Unknown,
    /// More data than a request may have, or too little.
    Invalid,
}

impl Task {
    /// Bytes of data that it moves.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Read { to: data, .. } | Self::Write { from: data, .. } => data.len(),
            _ => 0,
        }
    }
}

/// A range of sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) sector: u64,
    pub(super) sectors: u32,
    pub(super) flags: u32,
}

/// Guest memory: pieces that were found to be there, in order.
#[derive(Debug, Default)]
pub(super) struct Pieces(Vec<(GuestAddress, usize)>);

impl Pieces {
    fn push(&mut self, address: GuestAddress, length: usize) {
        if length > 0 {
            self.0.push((address, length));
        }
    }

    /// Takes the last byte away.
    fn pop_byte(&mut self) -> Option<GuestAddress> {
        let (address, length) = self.0.last_mut()?;
        *length -= 1;
        let byte = address.unchecked_add(*length as u64);
        if *length == 0 {
            self.0.pop();
        }
        Some(byte)
    }

    /// Copies from guest memory as far as both reach; says how many bytes.
    fn read(&self, memory: &Memory, into: &mut [u8]) -> usize {
        let mut done = 0;
        for (address, length) in &self.0 {
            let end = into.len().min(done + length);
            // The pieces were found to be there.
            let _ = memory.read_slice(&mut into[done..end], *address);
            done = end;
        }
        done
    }

    /// Copies to guest memory as far as both reach; says how many bytes.
    pub(super) fn fill(&self, memory: &Memory, from: &[u8]) -> u32 {
        let mut done = 0;
        for (address, length) in &self.0 {
            let end = from.len().min(done + length);
            let _ = memory.write_slice(&from[done..end], *address);
            done = end;
        }
        done as u32
    }

    /// For a file to read or write; `None` where they are too many or too large.
    fn buffers(&self, memory: &Memory) -> Option<Buffers> {
        let mut buffers = Buffers::new(memory);
        let slice = |(address, length): &(GuestAddress, usize)| -> Option<VolatileSlice<'_>> {
            memory.get_slice(*address, *length).ok()
        };
        let whole = self
            .0
            .iter()
            .all(|piece| slice(piece).is_some_and(|s| buffers.push(&s)));
        (whole && buffers.len() <= DATA_MAX).then_some(buffers)
    }
}

/// Parses a chain.
///
/// # Errors
/// [`BadChain`] where there is no header or no place for a status.
pub(super) fn parse(chain: &Chain<'_>, memory: &Memory) -> Result<Request, BadChain> {
    let mut header = [0; HEADER];
    let mut have = 0;
    let (mut readable, mut writable) = (Pieces::default(), Pieces::default());
    for buffer in chain.buffers() {
        let buffer = buffer?;
        let length = buffer.slice.len();
        if buffer.writable {
            writable.push(buffer.address, length);
            continue;
        }
        // What the device reads comes before what it writes (section 2.7.4.2).
        if !writable.0.is_empty() {
            return Err(BadChain);
        }
        let taken = length.min(HEADER - have);
        if taken > 0 {
            let part = buffer.slice.subslice(0, taken).map_err(|_| BadChain)?;
            part.copy_to(&mut header[have..have + taken]);
            have += taken;
        }
        readable.push(buffer.address.unchecked_add(taken as u64), length - taken);
    }
    let status = writable.pop_byte().ok_or(BadChain)?;
    if have < HEADER {
        return Err(BadChain);
    }
    let kind = u32::from_le_bytes(part(&header, 0));
    let sector = u64::from_le_bytes(part(&header, 8));
    let task = match kind {
        VIRTIO_BLK_T_IN => writable
            .buffers(memory)
            .map_or(Task::Invalid, |to| Task::Read { sector, to }),
        VIRTIO_BLK_T_OUT => readable
            .buffers(memory)
            .map_or(Task::Invalid, |from| Task::Write { sector, from }),
        VIRTIO_BLK_T_FLUSH => Task::Flush,
        VIRTIO_BLK_T_DISCARD => segment(&readable, memory).map_or(Task::Invalid, Task::Discard),
        VIRTIO_BLK_T_WRITE_ZEROES => {
            segment(&readable, memory).map_or(Task::Invalid, Task::WriteZeroes)
        }
        VIRTIO_BLK_T_GET_ID => Task::Id { to: writable },
        _ => Task::Unknown,
    };
    Ok(Request { task, status })
}

/// The one segment that a request to discard may have.
fn segment(pieces: &Pieces, memory: &Memory) -> Option<Segment> {
    let mut bytes = [0; HEADER + 1];
    (pieces.read(memory, &mut bytes) == HEADER).then(|| Segment {
        sector: u64::from_le_bytes(part(&bytes, 0)),
        sectors: u32::from_le_bytes(part(&bytes, 8)),
        flags: u32::from_le_bytes(part(&bytes, 12)),
    })
}

/// `N` bytes from `at` on, of which there are as many.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}
