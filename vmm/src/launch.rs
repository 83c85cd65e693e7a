//! How a launcher hands a monitor its VM, and hears of it.
//!
//! Launcher and monitor share a unix stream socket: `vmm --spec-fd N`.
//!
//! ```text
//! launcher -> monitor   u32 length (little endian), that many bytes of JSON (`spec::wire::Vm`);
//!                       the descriptors ride on the first byte
//! monitor -> launcher   one JSON object a line: {"event":"running"} ... {"event":"ended",...}
//! ```
//!
//! A monitor whose launcher is gone carries on: what it would have said stands in its meter too.

use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::outcome::Outcome;
use crate::spec::wire;

/// Most bytes of a description.
pub const MAX_SPEC: usize = 256 << 10;
/// Most descriptors beside it.
pub const MAX_DESCRIPTORS: usize = 64;

/// What a monitor says to its launcher.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The guest's first virtual CPU was entered.
    Running,
    /// The VM is over; the monitor exits next.
    Ended(Outcome),
}

/// A description did not get across.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The socket failed.
    #[error("launch socket failed")]
    Socket(#[source] io::Error),
    /// The launcher closed before the description was whole.
    #[error("launcher closed its socket before the description was complete")]
    Closed,
    /// A description too long.
    #[error("description has {0} bytes, {MAX_SPEC} are allowed")]
    TooLong(usize),
    /// Too many descriptors.
    #[error("{0} descriptors, {MAX_DESCRIPTORS} are allowed")]
    TooManyDescriptors(usize),
}

/// Sends a description and its descriptors.
///
/// # Errors
/// [`LaunchError`] where it is too long or the socket fails.
pub fn send(
    socket: &mut UnixStream,
    vm: &wire::Vm,
    descriptors: &[RawFd],
) -> Result<(), LaunchError> {
    let json = serde_json::to_vec(vm).map_err(|e| LaunchError::Socket(e.into()))?;
    if json.len() > MAX_SPEC {
        return Err(LaunchError::TooLong(json.len()));
    }
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(LaunchError::TooManyDescriptors(descriptors.len()));
    }
    let message = [&(json.len() as u32).to_le_bytes()[..], &json[..]].concat();
    let sent = socket
        .send_with_fds(&[&message[..]], descriptors)
        .map_err(|e| LaunchError::Socket(e.into()))?;
    // A stream socket may have taken a part only; the descriptors went with it.
    socket
        .write_all(&message[sent..])
        .map_err(LaunchError::Socket)
}

/// Receives a description's JSON and its descriptors.
///
/// # Errors
/// [`LaunchError`]; descriptors that had come are closed.
pub fn receive(socket: &mut UnixStream) -> Result<(Vec<u8>, Vec<OwnedFd>), LaunchError> {
    let mut length = [0_u8; 4];
    let mut raw: [RawFd; MAX_DESCRIPTORS] = [-1; MAX_DESCRIPTORS];
    let mut parts = [libc::iovec {
        iov_base: length.as_mut_ptr().cast(),
        iov_len: length.len(),
    }];
    // SAFETY: the one part points at `length`, which outlives the call and has that many bytes.
    let (read, count) = unsafe { socket.recv_with_fds(&mut parts, &mut raw) }
        .map_err(|e| LaunchError::Socket(e.into()))?;
    let descriptors = raw[..count]
        .iter()
        // SAFETY: the kernel made these for this process just now: nobody else owns them.
        .map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) })
        .collect();
    read_exact(socket, &mut length[read..])?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_SPEC {
        return Err(LaunchError::TooLong(length));
    }
    let mut json = vec![0; length];
    read_exact(socket, &mut json)?;
    Ok((json, descriptors))
}

/// Tells the launcher; one that is gone is no error.
pub fn tell(mut socket: &UnixStream, event: &Event) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        let _ = socket.write_all(&line);
    }
}

fn read_exact(socket: &mut UnixStream, buffer: &mut [u8]) -> Result<(), LaunchError> {
    socket.read_exact(buffer).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => LaunchError::Closed,
        _ => LaunchError::Socket(e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;
    use std::os::fd::AsRawFd;

    fn vm() -> wire::Vm {
        serde_json::from_str(
            r#"{"version":1,"id":"a","vcpus":1,"memory_mib":64,"boot":{"kernel":0}}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_description_arrives_with_its_descriptors() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send(&mut ours, &vm(), &[file.as_raw_fd()]).unwrap();
        let (json, descriptors) = receive(&mut theirs).unwrap();
        let vm = crate::spec::Vm::validate(&json, descriptors).unwrap();
        assert_eq!(vm.id.as_str(), "a");
        assert_ne!(vm.boot.kernel.as_raw_fd(), file.as_raw_fd());
    }

    #[test]
    fn an_absurd_length_is_refused_unread() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        ours.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(receive(&mut theirs), Err(LaunchError::TooLong(_))));
    }

    #[test]
    fn a_launcher_that_goes_away_is_noticed() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        ours.write_all(&10_u32.to_le_bytes()).unwrap();
        drop(ours);
        assert!(matches!(receive(&mut theirs), Err(LaunchError::Closed)));
    }

    #[test]
    fn events_are_a_line_each() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tell(&theirs, &Event::Running);
        tell(&theirs, &Event::Ended(Outcome::exit(3)));
        let lines: Vec<String> = io::BufReader::new(ours)
            .lines()
            .take(2)
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            serde_json::from_str::<Event>(&lines[0]).unwrap(),
            Event::Running
        );
        assert_eq!(
            serde_json::from_str::<Event>(&lines[1]).unwrap(),
            Event::Ended(Outcome::exit(3))
        );
    }
}
