//! Pieces of guest memory that one system call reads into or writes from: what a device moves is never copied on the way.
//!
//! The guest may write to the same memory meanwhile. No reference to it is ever made: the kernel has addresses and lengths alone.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use vm_memory::VolatileSlice;

/// Most pieces that the kernel takes at once (`IOV_MAX`).
pub const PIECES: usize = 1024;

/// Pieces of guest memory, in order.
#[derive(Default)]
pub struct Vector<'a> {
    pieces: Vec<VolatileSlice<'a>>,
    length: usize,
}

impl<'a> Vector<'a> {
    /// Adds a piece at the end.
    pub fn push(&mut self, piece: VolatileSlice<'a>) {
        if !piece.is_empty() {
            self.length += piece.len();
            self.pieces.push(piece);
        }
    }

    /// Adds the pieces of another at the end.
    pub fn append(&mut self, other: Self) {
        self.length += other.length;
        self.pieces.extend(other.pieces);
    }

    /// Bytes of all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes the first `count` bytes off, or all where there are fewer.
    #[must_use]
    pub fn take_front(&mut self, count: usize) -> Self {
        let mut front = Self::default();
        let mut left = count;
        let mut whole = 0;
        for piece in &mut self.pieces {
            if left < piece.len() {
                // In bounds by the line above: both always are.
                if let (Ok(head), Ok(tail)) = (piece.subslice(0, left), piece.offset(left)) {
                    front.push(head);
                    *piece = tail;
                }
                break;
            }
            left -= piece.len();
            front.push(*piece);
            whole += 1;
        }
        self.pieces.drain(..whole);
        self.length -= front.length;
        front
    }

    /// Keeps the first `count` bytes only.
    pub fn truncate(&mut self, count: usize) {
        *self = self.take_front(count);
    }

    /// Copies from the beginning into `bytes`; says how many.
    pub fn copy_to(&self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in &self.pieces {
            done += piece.copy_to(&mut bytes[done..]);
        }
        done
    }

    /// Copies `bytes` to the beginning; says how many.
    pub fn copy_from(&self, bytes: &[u8]) -> usize {
        self.copy_from_at(0, bytes)
    }

    /// Copies `bytes` to what begins after `start` bytes; says how many.
    pub fn copy_from_at(&self, start: usize, bytes: &[u8]) -> usize {
        let (mut skip, mut done) = (start, 0);
        for piece in &self.pieces {
            if done == bytes.len() {
                break;
            }
            let Ok(rest) = piece.offset(skip.min(piece.len())) else {
                break;
            };
            skip -= piece.len() - rest.len();
            let count = rest.len().min(bytes.len() - done);
            rest.copy_from(&bytes[done..done + count]);
            done += count;
        }
        done
    }

    /// Reads once from `fd` into the pieces (readv).
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self, fd: impl AsFd) -> Result<usize, Errno> {
        let parts = self.parts();
        again(|| {
            // SAFETY: every part is mapped memory of the guest, which `'a` keeps mapped; the kernel writes to it as the guest might.
            unsafe {
                libc::readv(
                    fd.as_fd().as_raw_fd(),
                    parts.as_ptr(),
                    parts.len() as libc::c_int,
                )
            }
        })
    }

    /// Writes the pieces once to `fd` (writev).
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, fd: impl AsFd) -> Result<usize, Errno> {
        let parts = self.parts();
        again(|| {
            // SAFETY: as in `read`; the kernel reads only.
            unsafe {
                libc::writev(
                    fd.as_fd().as_raw_fd(),
                    parts.as_ptr(),
                    parts.len() as libc::c_int,
                )
            }
        })
    }

    /// Sends the pieces once to a socket, without waiting and without a signal where nobody reads (sendmsg).
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, socket: impl AsFd) -> Result<usize, Errno> {
        let mut parts = self.parts();
        // SAFETY: all zeros is a message without address, parts and control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        again(|| {
            // SAFETY: as in `write`; `message` points at `parts`, which outlives the call.
            unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, flags) }
        })
    }

    fn parts(&self) -> Vec<libc::iovec> {
        let part = |piece: &VolatileSlice<'_>| libc::iovec {
            iov_base: piece.ptr_guard_mut().as_ptr().cast(),
            iov_len: piece.len(),
        };
        self.pieces.iter().take(PIECES).map(part).collect()
    }
}

/// Calls until no signal comes between.
fn again(call: impl Fn() -> isize) -> Result<usize, Errno> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => match Errno::from_io_error(&std::io::Error::last_os_error()) {
                Some(Errno::INTR) => {}
                other => return Err(other.unwrap_or(Errno::IO)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn vector(pieces: &mut [Vec<u8>]) -> Vector<'_> {
        let mut vector = Vector::default();
        for piece in pieces {
            vector.push(VolatileSlice::from(&mut piece[..]));
        }
        vector
    }

    proptest! {
        #[test]
        fn a_front_and_the_rest_are_the_whole(
            mut pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..6),
            count in 0_usize..50,
        ) {
            let all: Vec<u8> = pieces.concat();
            let mut rest = vector(&mut pieces);
            let front = rest.take_front(count);
            let cut = count.min(all.len());
            prop_assert_eq!((front.len(), rest.len()), (cut, all.len() - cut));
            let (mut head, mut tail) = (vec![0; front.len()], vec![0; rest.len()]);
            prop_assert_eq!(front.copy_to(&mut head), cut);
            rest.copy_to(&mut tail);
            prop_assert_eq!(&head, &all[..cut]);
            prop_assert_eq!(&tail, &all[cut..]);
            let mut written = all.clone();
            let start = count.min(all.len() / 2);
            let part = vec![9; count.min(all.len() - start)];
            written[start..start + part.len()].copy_from_slice(&part);
            let mut joined = front;
            joined.append(rest);
            prop_assert_eq!(joined.copy_from_at(start, &part), part.len());
            let mut bytes = vec![0; all.len()];
            joined.copy_to(&mut bytes);
            prop_assert_eq!(bytes, written);
            let front = joined.take_front(count);
            prop_assert_eq!(front.copy_from(&vec![7; count]), cut);
            prop_assert_eq!(front.copy_to(&mut head), cut);
            prop_assert!(head.iter().all(|b| *b == 7));
        }
    }

    #[test]
    fn bytes_go_through_a_socket_in_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut pieces = [b"ab".to_vec(), b"".to_vec(), b"cde".to_vec()];
        assert_eq!(vector(&mut pieces).send(&ours), Ok(5));
        let mut text = [0; 5];
        theirs.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"abcde");
        theirs.write_all(b"12345678").unwrap();
        assert_eq!(vector(&mut pieces).read(&ours), Ok(5));
        assert_eq!(pieces, [&b"12"[..], b"", b"345"]);
        assert_eq!(vector(&mut pieces).write(&ours), Ok(5));
        drop(theirs);
        assert_eq!(vector(&mut pieces).send(&ours), Err(Errno::PIPE));
    }
}
