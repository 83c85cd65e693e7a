//! From the guest to a host program: written at once where the socket takes it, else kept in order until it does.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sendmsg, shutdown};

use crate::backend::vector::Vector;

/// One socket's outflow. What it keeps is bounded by the credit that the guest was given.
#[derive(Debug, Default)]
pub(super) struct Outflow {
    waiting: VecDeque<u8>,
    /// The socket has no room, until it says otherwise.
    full: bool,
    /// The host program takes no more: what comes is forgotten.
    closed: bool,
    end: End,
}

/// Whether there is an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    No,
    /// After what waits.
    Due,
    /// The host program was told, once: to be told is an event, after which it would be told again.
    Told,
}

impl Outflow {
    /// Takes `data`; says how many bytes of it are off our hands.
    pub(super) fn push(&mut self, socket: &OwnedFd, data: &mut Vector<'_>) -> usize {
        let length = data.len();
        if self.waiting.is_empty() && !self.full && !self.closed && length > 0 {
            match data.send(socket) {
                Ok(count) => {
                    // A stream takes less than all only where it is full.
                    self.full = count < length;
                    let _sent = data.take_front(count);
                }
                Err(Errno::AGAIN) => self.full = true,
                Err(_) => {
                    // Nothing waits.
                    self.close();
                }
            }
        }
        if !self.closed && !data.is_empty() {
            let start = self.waiting.len();
            self.waiting.resize(start + data.len(), 0);
            // It was put at the end just now, in as many as two parts.
            let (first, second) = self.waiting.as_mut_slices();
            let skip = start.saturating_sub(first.len());
            let in_first = first.len().min(start);
            let head = data.take_front(first.len() - in_first);
            head.copy_to(&mut first[in_first..]);
            data.copy_to(&mut second[skip..]);
            return length - (head.len() + data.len());
        }
        length
    }

    /// The socket has room again: says how many bytes of those that waited are off our hands.
    pub(super) fn flush(&mut self, socket: &OwnedFd) -> usize {
        self.full = false;
        let before = self.waiting.len();
        while !self.waiting.is_empty() && !self.full {
            let (first, second) = self.waiting.as_slices();
            let parts = [IoSlice::new(first), IoSlice::new(second)];
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), flags) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.full = true,
                Err(_) => {
                    self.close();
                    return before;
                }
            }
        }
        let count = before - self.waiting.len();
        if self.waiting.is_empty() {
            // A connection that is not slow costs no memory.
            self.waiting = VecDeque::new();
        }
        self.finish(socket);
        count
    }

    /// The guest sends no more: the host program reads the end after all that waits.
    pub(super) fn end(&mut self, socket: &OwnedFd) {
        if self.end == End::No {
            self.end = End::Due;
        }
        self.finish(socket);
    }

    /// The host program takes no more; says how many bytes are forgotten.
    pub(super) fn close(&mut self) -> usize {
        self.closed = true;
        std::mem::take(&mut self.waiting).len()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn finish(&mut self, socket: &OwnedFd) {
        if self.end == End::Due && self.waiting.is_empty() && !self.closed {
            self.end = End::Told;
            // A host program that is gone needs no end.
            let _ = shutdown(socket, Shutdown::Write);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use vm_memory::VolatileSlice;

    #[test]
    fn what_a_slow_reader_does_not_take_waits_in_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let socket = OwnedFd::from(ours);
        let mut outflow = Outflow::default();
        let (mut next, mut forwarded) = (0_u32, 0);
        let mut sent: Vec<u8> = vec![];
        while outflow.waiting.len() < 100_000 {
            let mut piece: Vec<u8> = (0..5000).flat_map(|i| (next + i).to_le_bytes()).collect();
            next += 5000;
            sent.extend(&piece);
            let mut data = Vector::default();
            data.push(VolatileSlice::from(&mut piece[..]));
            forwarded += outflow.push(&socket, &mut data);
        }
        assert_eq!(forwarded + outflow.waiting.len(), sent.len());
        outflow.end(&socket);
        let mut read = vec![0; sent.len()];
        let mut got = 0;
        while !outflow.is_empty() {
            got += theirs.read(&mut read[got..]).unwrap();
            forwarded += outflow.flush(&socket);
        }
        theirs.read_exact(&mut read[got..]).unwrap();
        assert!(read == sent && forwarded == sent.len());
        // The end comes after all of it.
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
        assert_eq!(outflow.waiting.capacity(), 0);
    }

    #[test]
    fn what_nobody_reads_any_more_is_forgotten() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let socket = OwnedFd::from(ours);
        let mut outflow = Outflow::default();
        for _ in 0..2 {
            let mut piece = *b"hello";
            let mut data = Vector::default();
            data.push(VolatileSlice::from(&mut piece[..]));
            assert_eq!(outflow.push(&socket, &mut data), 5);
            assert!(outflow.is_closed() && outflow.is_empty());
        }
    }
}
