//! QEMU on the same files: a second opinion on every guest.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

const PROGRAM: &str = "qemu-system-x86_64";

/// Whether it is installed.
#[must_use]
pub fn is_there() -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(PROGRAM).is_file()))
}

/// QEMU at work, with 64 MiB and one processor. It is gone when this is.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    console: ChildStdout,
}

impl Qemu {
    /// Boots `kernel` with this command line; the guest's serial port is [`Qemu::console`].
    ///
    /// # Errors
    /// Where QEMU cannot be started.
    pub fn start(kernel: &Path, cmdline: &str) -> io::Result<Self> {
        let mut child = Command::new(PROGRAM)
            .args(["-M", "microvm,rtc=off", "-enable-kvm", "-cpu", "host"])
            .args(["-m", "64", "-smp", "1", "-no-reboot"])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
            .args(["-serial", "stdio", "-append", cmdline, "-kernel"])
            .arg(kernel)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let console = child.stdout.take().expect("its output is a pipe");
        Ok(Self { child, console })
    }

    /// What the guest writes.
    pub fn console(&mut self) -> &mut ChildStdout {
        &mut self.console
    }

    /// Waits for the end; gives the guest's exit status, where it had one, and all that was left on the console.
    ///
    /// # Errors
    /// Where the console cannot be read.
    pub fn wait(mut self) -> io::Result<(Option<u32>, String)> {
        let mut text = Vec::new();
        self.console.read_to_end(&mut text)?;
        let status = self.child.wait()?;
        Ok((
            guest_status(status),
            String::from_utf8_lossy(&text).into_owned(),
        ))
    }
}

/// QEMU's debug exit device makes `(status << 1) | 1` of a guest's status.
fn guest_status(status: ExitStatus) -> Option<u32> {
    let code = status.code()?.cast_unsigned();
    (code & 1 == 1).then_some(code >> 1)
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
