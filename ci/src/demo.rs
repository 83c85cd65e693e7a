//! `cargo ci demo`: a first look at Shoal.
//!
//! A daemon of the demo's own, in a temporary directory; a guest that waits; what `vmctl` shows of it. At the end, however it
//! comes, daemon, guest and directory are gone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::install;
use crate::style;
use crate::tree::Tree;

/// The name of the demo's VM.
const NAME: &str = "nemo";
/// Characters of the longest bar.
const WIDTH: u64 = 48;

pub(crate) fn demo(tree: &Tree) -> Result<()> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        bail!(
            "/dev/kvm cannot be opened ({error}): Shoal needs a Linux host with virtualization, and the right to use \
             it; `sudo usermod -aG kvm $USER` and a new login give that on most"
        );
    }
    install::install(tree)?;
    println!();
    let demo = Demo::start(tree)?;
    demo.show()?;
    demo.end()
}

/// The daemon and its directory.
struct Demo {
    vmctl: PathBuf,
    dir: PathBuf,
    daemon: Option<Child>,
}

impl Demo {
    fn start(tree: &Tree) -> Result<Self> {
        let bin = tree.shoal().join("bin");
        let dir = std::env::temp_dir().join(format!("shoal-demo-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        // From here on, the drop cleans up.
        let mut demo = Self {
            vmctl: bin.join("vmctl"),
            dir,
            daemon: None,
        };
        let log = File::create(demo.dir.join("demo.log"))?;
        demo.say(&format!("vmd --dir {} &", demo.dir.display()));
        let child = Command::new(bin.join("vmd"))
            .arg("--dir")
            .arg(&demo.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("vmd did not start")?;
        demo.daemon = Some(child);
        demo.wait_for_socket()?;
        Ok(demo)
    }

    /// A daemon is ready when it takes connections.
    fn wait_for_socket(&mut self) -> Result<()> {
        let socket = self.dir.join("vmd.sock");
        let daemon = self.daemon.as_mut().context("the daemon was not started")?;
        for _ in 0..10_000 {
            if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                return Ok(());
            }
            if let Some(status) = daemon.try_wait()? {
                let log = fs::read_to_string(self.dir.join("demo.log")).unwrap_or_default();
                bail!("vmd ended with {status}:\n{log}");
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        bail!("vmd does not answer after ten seconds");
    }

    fn show(&self) -> Result<()> {
        let create = ["create", "--name", NAME, "--wait", "hello", "--wait"];
        self.vmctl(&create)?;
        self.vmctl(&["logs", NAME])?;
        self.vmctl(&["ps"])?;
        self.phases()?;
        self.vmctl(&["stop", NAME])?;
        self.vmctl(&["logs", "--tail", "1", NAME])?;
        self.vmctl(&["rm", NAME])
    }

    /// Where the time of the boot went, as bars.
    fn phases(&self) -> Result<()> {
        let args = ["-o", "json", "inspect", NAME];
        self.say(&format!("vmctl {}", args.join(" ")));
        let output = self.command(&args).stderr(Stdio::inherit()).output()?;
        ensure!(
            output.status.success(),
            "`vmctl inspect` failed ({})",
            output.status
        );
        let vm: Value = serde_json::from_slice(&output.stdout)?;
        let phases: Vec<(&str, u64)> = vm["metrics"]["boot"]
            .as_array()
            .context("the VM has no boot times")?
            .iter()
            .filter_map(|step| Some((step["phase"].as_str()?, step["at_us"].as_u64()?)))
            .collect();
        print!("{}", chart(&phases));
        println!();
        Ok(())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.vmctl);
        command
            .env("SHOAL_DIR", &self.dir)
            .env_remove("SHOAL_SOCKET")
            .args(args)
            .stdin(Stdio::null());
        command
    }

    fn vmctl(&self, args: &[&str]) -> Result<()> {
        self.say(&format!("vmctl {}", args.join(" ")));
        let status = self.command(args).status().context("vmctl did not start")?;
        println!();
        ensure!(
            status.success(),
            "`vmctl {}` failed ({status})",
            args.join(" ")
        );
        Ok(())
    }

    fn say(&self, command: &str) {
        println!("{}", style::cyan(&format!("$ {command}")));
    }

    /// Stops the daemon, and looks whether anything is left.
    fn end(mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the daemon is gone")?;
        self.say(&format!("kill {}    # vmd", daemon.id()));
        let pid = libc::pid_t::try_from(daemon.id())?;
        // SAFETY: a signal to our own child, which was not waited for: its id is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let status = daemon.wait()?;
        ensure!(status.success(), "vmd ended with {status}");
        let left = users_of(&self.dir);
        ensure!(left.is_empty(), "processes are left: {left:?}");
        fs::remove_dir_all(&self.dir)?;
        println!("Nothing is left: no VM, no daemon, no file.");
        println!(
            "\nShoal is in {}; put that on your PATH, and begin with `vmctl run hello`.",
            self.vmctl.parent().unwrap_or(Path::new("")).display()
        );
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            // A guest outlives its daemon: it must go first.
            let _ = removal(&self.vmctl, &self.dir).status();
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn removal(vmctl: &Path, dir: &Path) -> Command {
    let mut command = Command::new(vmctl);
    command
        .env("SHOAL_DIR", dir)
        .args(["--quiet", "rm", "--force", NAME])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Processes that have a file below `dir` open.
fn users_of(dir: &Path) -> Vec<String> {
    let uses = |pid: &fs::DirEntry| {
        fs::read_dir(pid.path().join("fd")).is_ok_and(|fds| {
            fds.flatten()
                .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(dir)))
        })
    };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(uses)
        .map(|pid| pid.file_name().to_string_lossy().into_owned())
        .collect()
}

/// A bar a phase, from the end of the one before to its own.
fn chart(phases: &[(&str, u64)]) -> String {
    let total = phases.iter().map(|p| p.1).max().unwrap_or(0).max(1);
    let mut text = String::new();
    let mut before = 0;
    for (name, at) in phases.iter().filter(|(name, _)| *name != "ended") {
        let column = |us: u64| (us * WIDTH / total) as usize;
        let (start, end) = (column(before), column(*at));
        let bar = "█".repeat((end - start).max(1));
        let pad = " ".repeat(start);
        let room = " ".repeat((WIDTH as usize + 1).saturating_sub(start + (end - start).max(1)));
        let step = at.saturating_sub(before) as f64 / 1e3;
        text += &format!(
            "  {name:<10} {pad}{}{room}{:>8.2} ms  {}\n",
            style::cyan(&bar),
            *at as f64 / 1e3,
            style::dim(&format!("+{step:.2}"))
        );
        before = *at;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_follow_one_another() {
        let text = chart(&[("launched", 0), ("main", 1000), ("console", 4000)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("1.00 ms"));
        assert!(lines[2].contains("+3.00"));
        assert_eq!(lines[2].matches('█').count(), 36);
    }
}
