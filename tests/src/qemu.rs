//! QEMU on the same files: a second opinion on every guest.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

const PROGRAM: &str = "qemu-system-x86_64";

/// Whether it is installed.
#[must_use]
pub fn is_there() -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(PROGRAM).is_file()))
}

/// QEMU at work, with one processor. It is gone when this is.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    console: ChildStdout,
}

impl Qemu {
    /// Boots `kernel` with this command line and 64 MiB; the guest's serial port is [`Qemu::console`].
    ///
    /// # Errors
    /// Where QEMU cannot be started.
    pub fn start(kernel: &Path, cmdline: &str) -> io::Result<Self> {
        Self::launch(command(kernel, cmdline, 64).stderr(Stdio::inherit()))
    }

    /// Boots a Linux `kernel` with its first file system; what QEMU itself says is not shown, but is part of the console.
    ///
    /// # Errors
    /// Where QEMU cannot be started.
    pub fn start_linux(kernel: &Path, initrd: &Path, cmdline: &str, mib: u64) -> io::Result<Self> {
        let (console, theirs) = io::pipe()?;
        let mut command = command(kernel, cmdline, mib);
        command.arg("-initrd").arg(initrd);
        command.stdout(theirs.try_clone()?).stderr(theirs);
        let child = command.spawn()?;
        // Their ends are ours too until this is gone, and the console would never end.
        drop(command);
        let console = ChildStdout::from(std::os::fd::OwnedFd::from(console));
        Ok(Self { child, console })
    }

    fn launch(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let console = child.stdout.take().expect("its output is a pipe");
        Ok(Self { child, console })
    }

    /// Waits until the console holds `text`; where that does not come, gives what stood there that says why.
    ///
    /// # Errors
    /// Where the console cannot be read.
    pub fn shows(&mut self, text: &str, within: Duration) -> io::Result<Result<(), String>> {
        let until = Instant::now() + within;
        let mut seen = String::new();
        let mut buffer = [0; 4096];
        loop {
            if seen.contains(text) {
                return Ok(Ok(()));
            }
            // QEMU stops a guest at such an error, and stays.
            let error = seen
                .lines()
                .find(|line| line.contains("KVM internal error"));
            if let Some(error) = error {
                return Ok(Err(error.to_owned()));
            }
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut fds = [PollFd::new(&self.console, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&left))?;
            let read = match ready {
                0 => 0,
                _ => self.console.read(&mut buffer)?,
            };
            if read == 0 {
                let last = seen.lines().last().unwrap_or("nothing");
                return Ok(Err(last.to_owned()));
            }
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
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

fn command(kernel: &Path, cmdline: &str, mib: u64) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["-M", "microvm,rtc=off", "-enable-kvm", "-cpu", "host"])
        .args(["-m", &mib.to_string(), "-smp", "1", "-no-reboot"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .args(["-serial", "stdio", "-append", cmdline, "-kernel"])
        .arg(kernel)
        .stdin(Stdio::null());
    command
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
