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

#![cfg_attr(not(test), no_main)]

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
mod turns;
mod user;
mod worker;

use std::ffi::{OsStr, c_char, c_int};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, listen, socket,
};

use crate::server::Server;
use crate::setup::Guest;

const USAGE: &str = "agent: runs as process 1 of a guest, or: agent --listen-unix PATH";

/// Where the C library goes first: the standard library's own start makes a dozen system calls, for a message about
/// stack overflows among others, and a guest waits for each.
#[cfg_attr(not(test), unsafe(export_name = "main"))]
#[cfg_attr(test, allow(dead_code, reason = "a test has a start of its own"))]
extern "C" fn start(_argc: c_int, _argv: *const *const c_char) -> c_int {
    // SAFETY: a peer that is gone must be an error where it is written to; no other thread is there yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // The C library has kept the arguments where `args_os` finds them.
    let mut args = std::env::args_os().skip(1);
    let listener = match (args.next(), args.next()) {
        (Some(flag), Some(path)) if flag == "--listen-unix" => {
            listen_unix(&path).map(|listener| (listener, Guest::of_others()))
        }
        _ if std::process::id() == 1 => {
            have_stdio();
            turns::come_after();
            listen_vsock().map(|listener| (listener, Guest::ours()))
        }
        _ => {
            eprintln!("{USAGE}");
            return 2;
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
        Ok(status) => status.cast_signed(),
        Err(errno) => {
            eprintln!("agent: cannot listen: {}", errno.desc());
            if std::process::id() == 1 {
                setup::end(1);
            }
            1
        }
    }
}

/// The kernel gives process 1 its console as 0, 1 and 2, where there is one. Nothing else may ever have these numbers.
fn have_stdio() {
    // SAFETY: calls on numbers that nobody has, and a path that is a C string.
    unsafe {
        if libc::fcntl(2, libc::F_GETFD) < 0 {
            while (0..2).contains(&libc::open(c"/dev/null".as_ptr(), libc::O_RDWR)) {}
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
