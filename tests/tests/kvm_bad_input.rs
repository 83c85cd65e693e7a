//! What cannot be done is refused, with the value that was wrong, and nothing stays behind.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use tests::elf::Elf;
use tests::shoal::Shoal;

#[test]
fn values_out_of_bounds_are_named() {
    let shoal = Shoal::start();
    let before = shoal.at_rest();
    for (args, words) in [
        (&["--vcpus", "0", "hello"][..], &["0", "1 to 32"][..]),
        (&["--vcpus", "1000", "hello"], &["1000", "1 to 32"]),
        (&["--memory", "0", "hello"], &["0"]),
        (&["--memory", "10240G", "hello"], &["10485760"]),
        (&["--name", "Not A Name", "hello"], &["Not A Name"]),
        (&["nothing-like-it"], &["nothing-like-it"]),
        (&["--env", "=x", "hello"], &["=x"]),
    ] {
        shoal.vmctl(&[&["create"], args].concat()).refused(words);
    }
    let too_long = "x".repeat(100_000);
    shoal
        .vmctl(&["create", "hello", &too_long])
        .refused(&["100"]);
    assert_eq!(shoal.states(), []);
    assert_eq!(shoal.at_rest(), before);
}

#[test]
fn a_name_is_given_once() {
    let shoal = Shoal::start();
    shoal.ok(&[
        "create",
        "--name",
        "web",
        "--timeout",
        "60s",
        "hello",
        "--wait",
    ]);
    shoal
        .vmctl(&["create", "--name", "web", "hello"])
        .refused(&["web"]);
    assert_eq!(shoal.states().len(), 1);
    shoal.vmctl(&["rm", "web"]).refused(&["web"]);
    shoal.ok(&["rm", "-f", "web"]);
    shoal.ok(&["run", "--name", "web", "--timeout", "60s", "hello"]);
}

#[test]
fn fields_that_nobody_knows_are_refused() {
    let shoal = Shoal::start();
    for (body, word) in [
        (r#"{"image":"hello","vcpu":2}"#, "vcpu"),
        (r#"{"image":"hello","vcpus":"two"}"#, "two"),
        (r#"{"image":"hello","vcpus":-1}"#, "-1"),
        (r#"{"vcpus":1}"#, "image"),
        (r#"[]"#, "expected"),
        ("", ""),
        (r#"{"image":"#, ""),
    ] {
        let (status, answer) = shoal.request("POST", "/v1/vms", body);
        assert!((400..500).contains(&status), "{body}: {status} {answer}");
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(word), "{body}: {answer}");
    }
    let (status, _) = shoal.request("GET", "/v1/nothing/here", "");
    assert_eq!(status, 404);
    let (status, _) = shoal.request("PATCH", "/v1/vms", "{}");
    assert_eq!(status, 405);
    assert_eq!(shoal.states(), []);
}

#[test]
fn what_is_no_http_is_answered_and_forgotten() {
    let shoal = Shoal::start();
    let before = shoal.at_rest();
    for garbage in [
        &b"\0\0\0\0"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /v1/vms HTTP/9.9\r\n\r\n",
        b"POST /v1/vms HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        &[b'A'; 200_000],
    ] {
        let answer = shoal.raw(garbage);
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 4")
                || answer.starts_with("HTTP/1.1 5"),
            "{:?}: {answer}",
            &garbage[..garbage.len().min(40)].escape_ascii().to_string()
        );
    }
    assert_eq!(shoal.states(), []);
    assert_eq!(shoal.at_rest(), before);
}

#[test]
fn a_body_of_a_gibibyte_is_refused_unread() {
    let shoal = Shoal::start();
    let mut socket = UnixStream::connect(shoal.socket()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let head = "POST /v1/vms HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    // As much as it takes: the daemon hangs up, and does not keep what came.
    let piece = vec![b' '; 1 << 20];
    let mut sent = 0_u64;
    while sent < 1 << 30 && socket.write_all(&piece).is_ok() {
        sent += piece.len() as u64;
    }
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    assert!(
        sent < 64 << 20 || answer.starts_with("HTTP/1.1 413"),
        "{sent} bytes were taken: {answer}"
    );
    let memory = tests::host::status_kib(shoal.pid(), "VmHWM").unwrap();
    assert!(memory < 200 << 10, "vmd came to {memory} KiB");
    assert_eq!(shoal.states(), []);
}

#[test]
fn a_slow_client_holds_nobody_up() {
    let shoal = Shoal::start();
    let mut slow: Vec<UnixStream> = (0..100)
        .map(|_| UnixStream::connect(shoal.socket()).unwrap())
        .collect();
    for socket in &mut slow {
        socket.write_all(b"GET /v1/vms HTTP/1.1\r\nHo").unwrap();
    }
    shoal.ok(&["run", "--timeout", "60s", "hello"]);
    // It is cut off in the end, with or without a word.
    let socket = &mut slow[0];
    socket
        .set_read_timeout(Some(Duration::from_secs(40)))
        .unwrap();
    let mut answer = Vec::new();
    let cut = socket.read_to_end(&mut answer);
    assert!(cut.is_ok(), "it was let wait: {cut:?}");
}

#[test]
fn files_that_cannot_boot_are_no_images() {
    let shoal = Shoal::start();
    let dir = tempfile::tempdir().unwrap();
    let valid = Elf::valid();
    let change = |change: &dyn Fn(&mut Elf)| {
        let mut elf = valid.clone();
        change(&mut elf);
        elf.bytes()
    };
    let whole = valid.bytes();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "ELF"),
        ("text", b"#!/bin/sh\necho no\n".to_vec(), "ELF"),
        ("truncated", whole[..whole.len() - 8].to_vec(), "truncated"),
        ("header-only", whole[..64].to_vec(), "truncated"),
        ("no-note", change(&|e| e.note = None), "note"),
        ("class-32", change(&|e| e.class = 1), "64-bit"),
        ("arm", change(&|e| e.machine = 183), "183"),
        (
            "outside",
            change(&|e| e.segments[0].address = 0xD000_0000),
            "0xd0000000",
        ),
        (
            "below",
            change(&|e| e.segments[0].address = 0x1000),
            "0x1000",
        ),
        (
            "wrapping",
            change(&|e| e.segments[0].address = u64::MAX - 3),
            "0xff",
        ),
        (
            "entry-nowhere",
            change(&|e| e.note = Some(vec![0, 0, 0, 1])),
            "0x1000000",
        ),
        (
            "short-note",
            change(&|e| e.note = Some(vec![0, 0, 16])),
            "note",
        ),
        (
            "overlapping",
            change(&|e| e.segments.push(e.segments[0].clone())),
            "overlap",
        ),
        (
            "more-in-file",
            change(&|e| e.segments[0].memory_size = 1),
            "memory",
        ),
    ];
    let before = shoal.json(&["image", "ls"]);
    for (name, bytes, word) in cases {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        shoal
            .vmctl(&["image", "add", &path.to_string_lossy()])
            .refused(&[word]);
    }
    assert_eq!(shoal.json(&["image", "ls"]), before);
}

#[test]
fn an_image_larger_than_its_vm_fails_with_the_address() {
    let shoal = Shoal::start();
    let dir = tempfile::tempdir().unwrap();
    let mut elf = Elf::valid();
    let mut far = elf.segments[0].clone();
    far.address = 512 << 20;
    elf.segments.push(far);
    let path = dir.path().join("far");
    std::fs::write(&path, elf.bytes()).unwrap();
    shoal.ok(&["image", "add", &path.to_string_lossy()]);
    let _ = shoal.vmctl(&["run", "--name", "far", "--timeout", "20s", "far"]);
    let vm = shoal.inspect("far");
    assert_eq!(vm["state"], "failed", "{vm}");
    let message = vm["outcome"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("0x20000000"), "{vm}");
    let wide = ["run", "--memory", "1G", "--timeout", "20s", "far"];
    let _ = shoal.vmctl(&wide).with_status(7);
}

#[test]
fn a_second_daemon_on_the_same_directory_gives_way() {
    let shoal = Shoal::start();
    let second = shoal
        .daemon_command()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains(&shoal.pid().to_string()), "{said}");
    assert_eq!(shoal.states(), []);
}

#[test]
fn a_damaged_state_file_is_named_and_left_alone() {
    let mut shoal = Shoal::start();
    shoal.ok(&[
        "create",
        "--name",
        "web",
        "--wait",
        "--timeout",
        "60s",
        "hello",
        "--wait",
    ]);
    shoal.kill_daemon();
    let state = shoal.dir().join("state.redb");
    let damaged = vec![0x5A; 64 << 10];
    std::fs::write(&state, &damaged).unwrap();
    let output = shoal
        .daemon_command()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("state.redb"), "{said}");
    assert_eq!(
        std::fs::read(&state).unwrap(),
        damaged,
        "the evidence is gone"
    );
    assert_eq!(shoal.monitors().len(), 1, "the VM was ended: {said}");
}

#[test]
fn a_full_disk_is_told_and_survived() {
    // A file system of its own, small enough to fill.
    let dir = tempfile::tempdir().unwrap();
    let _mount = Tmpfs::mount(dir.path());
    let mut shoal = Shoal::in_directory(dir.path());
    shoal.start_daemon();
    shoal.ok(&[
        "create",
        "--name",
        "before",
        "--wait",
        "--timeout",
        "60s",
        "hello",
        "--wait",
    ]);
    let filler = dir.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let full = shoal.vmctl(&["create", "--name", "full", "--timeout", "60s", "hello"]);
    full.refused(&["space"]);
    assert_eq!(shoal.states(), [("before".into(), "running".into())]);
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    shoal.ok(&["run", "--name", "after", "--timeout", "60s", "hello"]);
    shoal.ok(&["rm", "-f", "before", "after"]);
    shoal.end_daemon();
    drop(shoal);
}

/// A mounted file system of 16 MiB; unmounted when it goes.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(path: &std::path::Path) -> Self {
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"])
            .arg(path)
            .status()
            .unwrap();
        assert!(
            status.success(),
            "a tmpfs cannot be mounted: this test needs root"
        );
        Self(path.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}
