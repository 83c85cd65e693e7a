//! An image with an init of its own: that becomes process 1, and the agent goes on as its child.

use std::os::fd::AsFd;

use abi::agent::reply::{Code, Failure};
use nix::errno::Errno;
use nix::unistd::{ForkResult, fork};

use crate::main_program::Main;
use crate::{setup, turns};

/// Splits this process: process 1 becomes the main program, the child returns. (Sockets and locks of the agent's own are
/// closed where the program is executed.)
pub(crate) fn hand_over(main: &Main) -> Result<(), Failure> {
    let failed = |errno: Errno| {
        Failure::new(
            Code::Failed,
            format_args!("cannot make room for init: {}", errno.desc()),
        )
    };
    let stdio = std::fs::File::options()
        .read(true)
        .write(true)
        .open(setup::CONSOLE)
        .or_else(|_| {
            std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
        })
        .map_err(|error| {
            Failure::new(
                Code::Failed,
                format_args!("cannot open the console: {error}"),
            )
        })?;
    // SAFETY: the workers' threads are not in the child, which does not wait for any of them; the C library makes its
    // own locks good after a fork.
    match unsafe { fork() }.map_err(failed)? {
        ForkResult::Child => {
            turns::come_after();
            Ok(())
        }
        ForkResult::Parent { .. } => {
            turns::come_as_usual();
            let fd = stdio.as_fd();
            let failure = main.become_init([fd, fd, fd]);
            eprintln!("agent: {failure}");
            // Process 1 must not just end: the kernel would call that a panic.
            setup::end(127)
        }
    }
}
