//! One transaction to the kernel, and what it says.
//!
//! A transaction goes in a single write, and with thousands of elements is larger than a socket's buffer commonly is: so the
//! socket is made here, with a buffer to fit.

use std::io::{self, IoSlice, IoSliceMut};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags,
    SocketType, netlink, recvmsg, sendmsg, socket_with, sockopt,
};

/// Bytes of a message's header.
const HEADER: usize = 16;
/// `NLMSG_ERROR`: an error, or with number 0 an acknowledgement.
const ERROR: u16 = 2;
/// Type of the message that begins a transaction; the one that ends it has the next number.
const BEGIN: u16 = 16;
const END: u16 = 17;
/// Room for acknowledgements: the kernel counts each as a kilobyte or so.
const ROOM_FOR_ANSWERS: usize = 4 << 20;

/// Has messages done, in one write: a transaction, or several that are none. The kernel is through with all of them when this returns.
pub(crate) fn messages(messages: &[u8]) -> io::Result<()> {
    let kind = SocketType::RAW;
    let socket = socket_with(
        AddressFamily::NETLINK,
        kind,
        SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    )?;
    sockopt::set_socket_send_buffer_size_force(
        &socket,
        messages.len().saturating_mul(2).max(1 << 16),
    )?;
    sockopt::set_socket_recv_buffer_size_force(&socket, ROOM_FOR_ANSWERS)?;
    let text = [IoSlice::new(messages)];
    let sent = sendmsg(
        &socket,
        &text,
        &mut SendAncillaryBuffer::default(),
        SendFlags::empty(),
    )?;
    if sent != messages.len() {
        return Err(io::Error::other("a transaction was cut"));
    }
    let mut expected = heads(messages).filter(|head| head.acknowledged).count();
    let mut buffer = vec![0; 1 << 16];
    while expected > 0 {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg(
            &socket,
            &mut parts,
            &mut RecvAncillaryBuffer::default(),
            RecvFlags::empty(),
        )?;
        for head in heads(&buffer[..received.bytes]) {
            if head.kind != ERROR {
                continue;
            }
            match head.errno {
                0 => expected = expected.saturating_sub(1),
                number => return Err(io::Error::from_raw_os_error(number)),
            }
        }
    }
    Ok(())
}

/// What is needed of a message.
struct Head {
    kind: u16,
    acknowledged: bool,
    /// Of an error.
    errno: i32,
}

/// The messages in a buffer.
fn heads(mut rest: &[u8]) -> impl Iterator<Item = Head> {
    /// `NLM_F_ACK`.
    const ACK: u16 = 4;
    std::iter::from_fn(move || {
        let (header, _) = rest.split_first_chunk::<HEADER>()?;
        let len = usize::try_from(u32::from_ne_bytes([
            header[0], header[1], header[2], header[3],
        ]))
        .ok()?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let flags = u16::from_ne_bytes([header[6], header[7]]);
        let errno = rest
            .get(HEADER..HEADER + 4)
            .and_then(|bytes| bytes.try_into().ok());
        rest = rest
            .get(len.max(HEADER).next_multiple_of(4)..)
            .unwrap_or_default();
        Some(Head {
            kind,
            acknowledged: flags & ACK != 0 && kind != BEGIN && kind != END,
            errno: errno.map_or(0, |bytes| i32::from_ne_bytes(bytes).saturating_neg()),
        })
    })
}
