//! The agent in a Linux guest: its first process, and its owner's hands and eyes in it.
//!
//! The kernel runs it from the initial RAM disk as process 1. It listens on a vsock port for its host, which tells
//! it what the guest is to be ([`setup`]), then runs the main program ([`main_program`]) and whatever
//! the host asks for beside it ([`handler`]), reaps what is left to it, and ends the guest ([`end`]).
//!
//! ```text
//!  host ══ vsock ══▶ server: one thread, one epoll ──▶ pump: connections ──▶ handler: requests
//!                      │                                                      │
//!                      ├──▶ main program ──▶ ring ──▶ console, attached        ├──▶ spawn: programs
//!                      └──▶ end                                               └──▶ worker: copies, probes
//! ```
//! On some hosts a guest's ring 0 is emulated at a thousandth of the speed. So the agent makes few system calls: streams are
//! edge-triggered, reads are large, nothing is mounted before it is needed, and no thread waits for a connection.
//!
//! `agent --listen-unix PATH` is the same on a unix socket, as an ordinary program: that is how it is tested.

mod conn;
mod console;
mod copy_in;
mod copy_out;
mod end;
mod handler;
mod init;
mod limits;
mod main_program;
mod poll;
mod probe;
mod pump;
mod report;
mod restart;
mod ring;
mod server;
mod setup;
mod spawn;
mod stat;
mod stdio;
mod user;
mod worker;

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, listen, socket,
};

use crate::server::Server;
use crate::setup::Guest;

const USAGE: &str = "agent: runs as process 1 of a guest, or: agent --listen-unix PATH";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let listener = match (args.next(), args.next()) {
        (Some(flag), Some(path)) if flag == "--listen-unix" => {
            listen_unix(&path).map(|l| (l, Guest::of_others()))
        }
        _ if std::process::id() == 1 => listen_vsock().map(|l| (l, Guest::ours())),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let served = listener.and_then(|(listener, guest)| {
        limits::raise();
        let is_ours = guest.is_ours();
        let mut server = Server::new(listener, guest)?;
        let status = server.run();
        if is_ours {
            server.guest.close_disks();
            setup::end(status);
        }
        Ok(status)
    });
    match served {
        // An exit status has eight bits, and so has every program's.
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)),
        Err(errno) => {
            eprintln!("agent: cannot listen: {}", errno.desc());
            if std::process::id() == 1 {
                setup::end(1);
            }
            ExitCode::FAILURE
        }
    }
}

fn listen_vsock() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
    bind(
        listener.as_raw_fd(),
        &VsockAddr::new(libc::VMADDR_CID_ANY, abi::agent::PORT),
    )?;
    listen(&listener, Backlog::MAXCONN)?;
    Ok(listener)
}

fn listen_unix(path: &OsStr) -> nix::Result<OwnedFd> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let listener = UnixListener::bind(path).map_err(errno)?;
    listener.set_nonblocking(true).map_err(errno)?;
    Ok(OwnedFd::from(listener))
}
