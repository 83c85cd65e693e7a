//! A whole Shoal: a daemon in a directory of its own, and `vmctl` that speaks to it.
//!
//! When a [`Shoal`] goes, so does everything that it started; when a test fails, what the daemon said is shown.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{host, place};

/// How long a daemon may take until it answers.
const START: Duration = Duration::from_secs(20);

/// A daemon and its directory.
#[derive(Debug)]
pub struct Shoal {
    dir: Directory,
    daemon: Option<Child>,
}

#[derive(Debug)]
enum Directory {
    Own(tempfile::TempDir),
    Given(PathBuf),
}

impl Shoal {
    /// A daemon in a new directory, with the factory images.
    #[must_use]
    pub fn start() -> Self {
        let mut shoal = Self::stopped();
        shoal.start_daemon();
        shoal
    }

    /// A new directory without a daemon.
    #[must_use]
    pub fn stopped() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("shoal-test-")
            .tempdir()
            .expect("a directory can be made");
        Self {
            dir: Directory::Own(dir),
            daemon: None,
        }
    }

    /// A directory that stands already, without a daemon.
    #[must_use]
    pub fn in_directory(dir: &Path) -> Self {
        Self {
            dir: Directory::Given(dir.to_owned()),
            daemon: None,
        }
    }

    /// The daemon's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        match &self.dir {
            Directory::Own(dir) => dir.path(),
            Directory::Given(dir) => dir,
        }
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir().join("vmd.sock")
    }

    /// The daemon's process.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// The command that starts a daemon here.
    #[must_use]
    pub fn daemon_command(&self) -> Command {
        let mut command = Command::new(place::program("vmd"));
        command.arg("--dir").arg(self.dir()).stdin(Stdio::null());
        command
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Panics
    /// When it ends or does not answer; the panic shows its log.
    pub fn start_daemon(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("the log can be written");
        let child = self
            .daemon_command()
            .stdout(log.try_clone().expect("a descriptor can be doubled"))
            .stderr(log)
            .spawn()
            .expect("vmd starts");
        let child = self.daemon.insert(child);
        let until = Instant::now() + START;
        let socket = match &self.dir {
            Directory::Own(dir) => dir.path().join("vmd.sock"),
            Directory::Given(dir) => dir.join("vmd.sock"),
        };
        // A daemon says that it is ready by taking connections, and nothing announces that.
        while UnixStream::connect(&socket).is_err() {
            let ended = child.try_wait().expect("our own child can be asked");
            if ended.is_some() || Instant::now() > until {
                panic!("vmd does not answer ({ended:?}):\n{}", self.daemon_log());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills the daemon, as a crash would.
    pub fn kill_daemon(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the daemon to end, and waits until it has.
    ///
    /// # Panics
    /// When it ends badly.
    pub fn end_daemon(&mut self) {
        let mut child = self.daemon.take().expect("the daemon runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("vmd takes signals");
        let status = child.wait().expect("our own child can be waited for");
        assert!(
            status.success(),
            "vmd ended with {status}:\n{}",
            self.daemon_log()
        );
    }

    fn log(&self) -> PathBuf {
        // Beside the directory, not in it: what is in there is counted.
        self.dir().with_extension("log")
    }

    /// What the daemon has said.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// `vmctl` with these arguments, ready to be run.
    #[must_use]
    pub fn vmctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(place::program("vmctl"));
        command
            .env("SHOAL_DIR", self.dir())
            .env_remove("SHOAL_SOCKET")
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs `vmctl` and waits for it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn vmctl(&self, args: &[&str]) -> Said {
        let output = self.vmctl_command(args).output().expect("vmctl starts");
        Said::new(args, output)
    }

    /// Runs `vmctl`, which must succeed, and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&self, args: &[&str]) -> String {
        self.vmctl(args).with_status(0).stdout.trim_end().to_owned()
    }

    /// Runs `vmctl -o json`, which must succeed, and gives what it printed.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[&["-o", "json"], args].concat());
        serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{args:?} printed no JSON ({e}): {text}"))
    }

    /// One VM, with all that is known of it.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn inspect(&self, vm: &str) -> Value {
        let mut answer = self.json(&["inspect", vm]);
        match answer.as_array_mut() {
            Some(list) => list.remove(0),
            None => answer,
        }
    }

    /// Names and states of all VMs, by name.
    #[must_use]
    pub fn states(&self) -> Vec<(String, String)> {
        let word = |vm: &Value, key: &str| vm[key].as_str().unwrap_or_default().to_owned();
        let mut states: Vec<_> = self
            .json(&["ps", "--all"])
            .as_array()
            .expect("ps prints a list")
            .iter()
            .map(|vm| (word(vm, "name"), word(vm, "state")))
            .collect();
        states.sort();
        states
    }

    /// The port of the host where a VM's `port` is.
    ///
    /// # Panics
    /// When it is nowhere.
    #[must_use]
    pub fn published(&self, vm: &str, port: u16) -> u16 {
        let said = self.ok(&["port", vm, &port.to_string()]);
        let port = said.rsplit(':').next();
        port.and_then(|port| port.trim().parse().ok())
            .expect("a port of the host")
    }

    /// Adds a small Linux image that Shoal did not make ([`crate::boxed`]), as `box`.
    ///
    /// # Panics
    /// Where it cannot be made, or is refused.
    pub fn import_box(&self) {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let archive = crate::boxed::archive(dir.path()).expect("there is a busybox");
        self.ok(&[
            "image",
            "import",
            "--name",
            "box",
            &archive.to_string_lossy(),
        ]);
    }

    /// Adds one of the repository's guests as an image of the same name.
    pub fn add_image(&self, guest: &str) {
        let path = place::guest(guest);
        self.ok(&["image", "add", guest, &path.to_string_lossy()]);
    }

    /// Sends bytes to the daemon's socket and gives all that it answers.
    ///
    /// # Panics
    /// When nobody takes them.
    #[must_use]
    pub fn raw(&self, request: &[u8]) -> String {
        let mut socket = UnixStream::connect(self.socket()).expect("vmd answers");
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a socket has time limits");
        // A daemon that has heard enough may close before all is sent.
        let _ = socket.write_all(request);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A request to the daemon: its answer's status, and its body as JSON (null where it is none).
    #[must_use]
    pub fn request(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        request(&self.socket(), method, path, body)
    }

    /// What stands on the host for this daemon.
    #[must_use]
    pub fn footprint(&self) -> host::Footprint {
        host::Footprint::of(self.dir(), self.pid())
    }

    /// What stands on the host once nothing changes any more: a monitor takes some milliseconds to close its VM, and a
    /// connection's last descriptor closes a moment after its answer.
    #[must_use]
    pub fn at_rest(&self) -> host::Footprint {
        const STILL: usize = 20;
        let mut last = self.footprint();
        let mut still = 0;
        for _ in 0..1000 {
            std::thread::sleep(Duration::from_millis(10));
            let now = self.footprint();
            still = if now == last { still + 1 } else { 0 };
            if still == STILL {
                break;
            }
            last = now;
        }
        last
    }

    /// The monitors that live.
    #[must_use]
    pub fn monitors(&self) -> std::collections::BTreeSet<u32> {
        host::users_of(self.dir(), self.daemon.as_ref().map_or(0, Child::id))
    }
}

/// A request to the daemon behind `socket`, for threads that have no [`Shoal`] of their own; status 0 where none answers.
#[must_use]
pub fn request(socket: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: shoal\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (
        status.unwrap_or(0),
        serde_json::from_str(body).unwrap_or(Value::Null),
    )
}

/// Waits until `holds`, which nothing announces, is true.
///
/// # Panics
/// When it is not after ten seconds.
pub fn settles(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Drop for Shoal {
    fn drop(&mut self) {
        self.kill_daemon();
        for pid in self.monitors() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if std::thread::panicking() {
            eprintln!("-- vmd's log --\n{}", self.daemon_log());
        }
        let _ = fs::remove_file(self.log());
    }
}

/// What a command said.
#[derive(Clone, Debug)]
pub struct Said {
    /// The command.
    pub command: String,
    /// Its exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Said {
    fn new(args: &[&str], output: Output) -> Self {
        Self {
            command: format!("vmctl {}", args.join(" ")),
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It exited with `status`.
    ///
    /// # Panics
    /// When not; the panic shows everything.
    #[must_use]
    pub fn with_status(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "wrong exit status: {self}");
        self
    }

    /// It failed, and said why in one line that holds every one of `words`.
    ///
    /// # Panics
    /// When not; the panic shows everything.
    pub fn refused(&self, words: &[&str]) -> &Self {
        assert_ne!(self.status, Some(0), "it succeeded: {self}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not said: {self}");
        }
        self
    }

    /// Its standard output holds `text`.
    ///
    /// # Panics
    /// When not; the panic shows everything.
    pub fn shows(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "{text:?} is not shown: {self}");
        self
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "$ {} -> {:?}", self.command, self.status)?;
        writeln!(f, "-- stdout --\n{}", self.stdout)?;
        writeln!(f, "-- stderr --\n{}", self.stderr)
    }
}

/// A command whose output is read line by line while it runs. It is gone when this is.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Follower {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("vmctl starts");
        let stdout = child.stdout.take().expect("its output is a pipe");
        Self {
            child,
            lines: BufReader::new(stdout),
        }
    }

    /// Its next line, waited for; `None` at its end.
    #[must_use]
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap_or(0);
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// Reads on until a line holds `text`, and gives that line.
    ///
    /// # Panics
    /// When it ends first.
    pub fn until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        while let Some(line) = self.line() {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("it ended without {text:?}; it said:\n{}", seen.join("\n"));
    }

    /// Waits for its end and gives its exit status.
    #[must_use]
    pub fn status(&mut self) -> Option<i32> {
        self.child.wait().ok().and_then(|status| status.code())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
