//! Linux guests as their owners see them: `vmctl`, `vmd`, a monitor, our kernel, the agent and an image that we did not make.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::shoal::{Shoal, settles};
use tests::{boxed, fsck, network};

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

/// A connection to a program in the guest that says again what it hears.
fn echo(port: u16) -> TcpStream {
    let mut caller = None;
    settles_slowly("the echo's listening", || {
        // Who calls before it listens is refused.
        caller = TcpStream::connect(("127.0.0.1", port)).ok();
        caller.is_some()
    });
    let caller = caller.expect("it has settled");
    let patience = Some(Duration::from_secs(60));
    caller.set_read_timeout(patience).expect("it is connected");
    caller
}

/// Says `words` by an open connection, and hears them again.
fn says_again(mut echo: &TcpStream, words: &str) {
    echo.write_all(words.as_bytes()).expect("it is connected");
    let mut heard = vec![0; words.len()];
    echo.read_exact(&mut heard).expect("the guest answers");
    assert_eq!(String::from_utf8_lossy(&heard), words);
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

/// VMs that no port or no address is left for are refused in words, while `box` runs with `port`.
fn cannot_be(shoal: &Shoal, port: u16) {
    let ours = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let own = ours.local_addr().expect("it has an address").port();
    for (port, by) in [(port, "VM box".to_owned()), (own, process())] {
        let words = format!("port {port}/tcp of the host is taken by {by}");
        let publish = format!("127.0.0.1:{port}:80");
        let create = ["create", "--name", "other", "-p", &publish, "box"];
        let _ = shoal.vmctl(&create).refused(&[&words]);
    }
    // Five addresses are left by its own, the gateway's and the one for all.
    let tiny = ["network", "create", "--ipv4", "10.200.0.0/29"];
    shoal.ok(&[&tiny[..], &["--mtu", "9000", "tiny"]].concat());
    assert_eq!(shoal.json(&["network", "inspect", "tiny"])["mtu"], 9000);
    let create = |name| ["create", "--name", name, "--network", "tiny", "box"];
    let five = ["one", "two", "three", "four", "five"];
    for name in five {
        shoal.ok(&create(name));
    }
    let words = "all 5 addresses of network tiny (10.200.0.0/29) are taken";
    let _ = shoal.vmctl(&create("six")).refused(&[words]);
    shoal.ok(&[&["rm", "--force"][..], &five].concat());
    shoal.ok(&["network", "rm", "tiny"]);
    assert_eq!(shoal.states(), [("box".to_owned(), "running".to_owned())]);
}

/// This one, as errors name it.
fn process() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").expect("it has a name");
    format!("{} (process {})", name.trim_end(), std::process::id())
}

#[test]
fn an_image_is_run_looked_into_stopped_and_started_again() {
    network::own(a_life);
}

fn a_life() {
    let before = network::stands();
    let mut shoal = Shoal::start();
    let files = tempfile::tempdir().unwrap();
    shoal.import_box();

    let create = ["create", "--wait=ready", "--timeout", DEADLINE];
    let with = [
        "-p",
        "127.0.0.1:0:80",
        "-p",
        "127.0.0.1:0:7",
        "-v",
        "data:/data",
    ];
    shoal.ok(&[&create[..], &with, &["--name", "box", "box"]].concat());
    let port = shoal.published("box", 80);
    serves(port);

    cannot_be(&shoal, port);

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
    let at_once: Vec<_> = (10..18)
        .map(|status| {
            let exit = format!("exit {status}");
            let mut command = shoal.vmctl_command(&["exec", "box", "sh", "-c", &exit]);
            (status, command.spawn().expect("vmctl starts"))
        })
        .collect();
    for (status, mut child) in at_once {
        assert_eq!(child.wait().expect("it ends").code(), Some(status));
    }
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
    shoal.ok(&["cp", &there.to_string_lossy(), "box:/data/kept"]);
    assert!(
        std::fs::read(&back).unwrap() == bytes,
        "a file comes back as it went"
    );

    // Traffic does not need the daemon, new or under way; exec works again with the next one.
    shoal.ok(&["exec", "-d", "box", "nc", "-l", "-p", "7", "-e", "cat"]);
    let echo = echo(shoal.published("box", 7));
    says_again(&echo, "before");
    shoal.kill_daemon();
    says_again(&echo, "without a daemon");
    serves(port);
    shoal.start_daemon();
    says_again(&echo, "with another");
    let _ = shoal.vmctl(&["exec", "box", "true"]).with_status(0);

    // A stop in order, and another start on the same disk.
    shoal.ok(&["stop", "box"]);
    assert_eq!(shoal.inspect("box")["state"], "exited");
    let id = shoal.inspect("box")["id"].as_str().unwrap().to_owned();
    let dir = shoal.dir();
    fsck::ext4(&dir.join(format!("vms/{id}/disk.ext4"))).unwrap();
    fsck::ext4(&dir.join("volumes/data.ext4")).unwrap();
    for root in std::fs::read_dir(dir.join("images/roots")).unwrap() {
        fsck::erofs(&root.unwrap().path()).unwrap();
    }
    shoal.ok(&["start", "box"]);
    settles_slowly("the agent answers again", || {
        shoal.inspect("box")["linux"]["agent"] == "running"
    });
    serves(port);
    let kept = shoal.vmctl_command(&["exec", "box", "cat", "/kept"]);
    assert!(fed(kept, b"") == (bytes, Some(0)), "the disk kept the file");

    shoal.ok(&["rm", "--force", "box"]);
    assert_eq!(shoal.states(), []);
    // Nor is any device, address, route, rule or connection.
    settles("the network's removal", || network::stands() == before);
    let connections = network::connections();
    assert!(!connections.contains("=10."), "{connections}");
    assert!(page(port).is_none(), "the port is closed");
}

/// As [`settles`], for what takes a guest's boot.
fn settles_slowly(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(300);
    while !holds() {
        assert!(Instant::now() < until, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(100));
    }
}
