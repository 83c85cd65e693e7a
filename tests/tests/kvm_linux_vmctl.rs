//! Linux guests as their owners see them: `vmctl`, `vmd`, a monitor, our kernel, the agent and an image that we did not make.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::boxed;
use tests::shoal::{Shoal, settles};

/// Where ring 0 is emulated a boot takes many seconds, and those of a loaded host are long. No VM outlives this.
const DEADLINE: &str = "400s";

/// What a web server says at `/`, or nothing where it does not answer.
fn page(port: u16) -> Option<String> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).ok()?;
    server
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    server.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    server.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}

/// Waits until the guest's server, which is started after its agent is ready, serves its page.
fn serves(port: u16) {
    let until = Instant::now() + Duration::from_secs(60);
    while page(port).as_deref() != Some(boxed::PAGE) {
        assert!(Instant::now() < until, "nothing is served at port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The host's network devices.
fn links() -> BTreeSet<String> {
    let names = std::fs::read_dir("/sys/class/net").expect("there is a network");
    names
        .map(|entry| entry.expect("it can be read").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// What comes out of a command that gets `input`, and its status.
fn fed(mut command: Command, input: &[u8]) -> (Vec<u8>, Option<i32>) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("vmctl starts");
    let mut to = child.stdin.take().expect("it is a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || to.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    let _ = writer.join().expect("the writer does not panic");
    (output.stdout, output.status.code())
}

#[test]
fn an_image_is_run_looked_into_stopped_and_started_again() {
    let before = links();
    let mut shoal = Shoal::start();
    let files = tempfile::tempdir().unwrap();
    let archive = boxed::archive(files.path()).unwrap();
    shoal.ok(&[
        "image",
        "import",
        "--name",
        "box",
        &archive.to_string_lossy(),
    ]);

    let create = ["create", "--wait=ready", "--timeout", DEADLINE];
    let rest = ["--name", "box", "-p", "127.0.0.1:0:80", "box"];
    shoal.ok(&[&create[..], &rest].concat());
    let port = shoal.ok(&["port", "box", "80"]);
    let port: u16 = port
        .rsplit(':')
        .next()
        .and_then(|port| port.trim().parse().ok())
        .expect("a port of the host");
    serves(port);

    // Statuses, signals and streams.
    let _ = shoal.vmctl(&["exec", "box", "true"]).with_status(0);
    let _ = shoal
        .vmctl(&["exec", "box", "sh", "-c", "exit 7"])
        .with_status(7);
    let _ = shoal
        .vmctl(&["exec", "box", "sh", "-c", "kill -TERM $$"])
        .with_status(143);
    let _ = shoal
        .vmctl(&["exec", "box", "no-such-program"])
        .with_status(127);
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n * 7 + n / 251) as u8).collect();
    let through = fed(shoal.vmctl_command(&["exec", "-i", "box", "cat"]), &bytes);
    assert!(
        through == (bytes.clone(), Some(0)),
        "what goes in comes out"
    );

    // Files, there and back.
    let there = files.path().join("there");
    std::fs::write(&there, &bytes).unwrap();
    shoal.ok(&["cp", &there.to_string_lossy(), "box:/kept"]);
    let back = files.path().join("back");
    shoal.ok(&["cp", "box:/kept", &back.to_string_lossy()]);
    assert!(
        std::fs::read(&back).unwrap() == bytes,
        "a file comes back as it went"
    );

    // Traffic does not need the daemon; exec works again with the next one.
    shoal.kill_daemon();
    serves(port);
    shoal.start_daemon();
    let _ = shoal.vmctl(&["exec", "box", "true"]).with_status(0);

    // A stop in order, and another start on the same disk.
    shoal.ok(&["stop", "box"]);
    assert_eq!(shoal.inspect("box")["state"], "exited");
    shoal.ok(&["start", "box"]);
    settles_slowly("the agent answers again", || {
        shoal.inspect("box")["linux"]["agent"] == "running"
    });
    serves(port);
    let kept = shoal.vmctl_command(&["exec", "box", "cat", "/kept"]);
    assert!(fed(kept, b"") == (bytes, Some(0)), "the disk kept the file");

    shoal.ok(&["rm", "--force", "box"]);
    assert_eq!(shoal.states(), []);
    settles("the network's removal", || links() == before);
    assert!(page(port).is_none(), "the port is closed");
}

/// As [`settles`], for what takes a guest's boot.
fn settles_slowly(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(300);
    while !holds() {
        assert!(Instant::now() < until, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(100));
    }
}
