//! The last steps: what lives is killed, what is written reaches the disks, and the monitor is told.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, fchdir, sync};

use crate::main_program::reap;

/// Makes file systems quiet: all is written, and no more can be.
pub(super) fn close(written: &[OwnedFd]) {
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    // Only what has ended lets go of its files. Beside an init there may be others' children, which end as well.
    while reap(0).is_some() {}
    sync();
    for directory in written.iter().rev() {
        // The root may be an overlay: what it writes to is reached by a directory of that alone.
        let _ = fchdir(directory.as_fd()).and_then(|()| {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(None::<&str>, ".", None::<&str>, flags, None::<&str>)
        });
    }
}

/// How long last words may take to leave: a thread of the kernel's carries them to the host, and goes first when this one sleeps.
const LAST_WORDS: Duration = Duration::from_millis(10);

/// Ends the guest with an exit status.
pub(crate) fn end(status: u32) -> ! {
    std::thread::sleep(LAST_WORDS);
    // SAFETY: the ports are the exit port's, which nothing else in this guest knows; where there is none, nothing
    // happens. Ring 3 may use them once `ioperm` said so.
    unsafe {
        if libc::ioperm(abi::port::EXIT.into(), 4, 1) == 0 {
            core::arch::asm!("out dx, eax", in("dx") abi::port::EXIT, in("eax") status, options(nomem, nostack));
        }
    }
    // Another monitor, then: it hears of the end, if not of the status.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    std::process::exit(1)
}
