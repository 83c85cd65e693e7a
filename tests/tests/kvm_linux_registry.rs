//! An image from a registry, made and carried there by others' tools, run and used as a person would: on a terminal.

use std::process::Stdio;

use tests::boxed;
use tests::registry::Registry;
use tests::shoal::Shoal;
use tests::terminal::Terminal;

/// Where ring 0 is emulated a boot takes many seconds, and those of a loaded host are long. No VM outlives this.
const DEADLINE: &str = "400s";

/// Says whether a program of the host is there.
fn is_there(program: &str) -> bool {
    std::process::Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

#[test]
fn an_image_that_others_made_is_pulled_run_and_used_on_a_terminal() {
    for program in ["umoci", "skopeo", "docker-registry", "setsid"] {
        if !is_there(program) {
            eprintln!("skipped: {program} is missing");
            return;
        }
    }
    let files = tempfile::tempdir().unwrap();
    let registry = Registry::start(files.path()).unwrap();
    let layout = boxed::layout(files.path()).unwrap();
    let (layout, reference) = (format!("oci:{layout}"), registry.reference("box:1"));
    let there = format!("docker://{reference}");
    boxed::run(
        "skopeo",
        &["copy", "--dest-tls-verify=false", &layout, &there],
    )
    .unwrap();
    let archive = files.path().join("saved.tar");
    let saved = format!("docker-archive:{}:box:1", archive.display());
    boxed::run("skopeo", &["copy", &layout, &saved]).unwrap();

    let shoal = Shoal::start();
    shoal.ok(&["image", "pull", "--name", "pulled", &reference]);
    shoal.ok(&[
        "image",
        "import",
        "--name",
        "saved",
        &archive.to_string_lossy(),
    ]);
    let image = |name: &str| {
        let image = shoal.json(&["image", "inspect", name]);
        (image["bytes"].clone(), image["config"].clone())
    };
    assert_eq!(image("pulled"), image("saved"), "however it came");

    let create = ["create", "--wait=ready", "--timeout", DEADLINE];
    shoal.ok(&[&create[..], &["--name", "box", "pulled"]].concat());
    let shell = shoal.vmctl_command(&["exec", "-it", "box", "sh"]);
    let mut terminal = Terminal::start(&shell, 31, 97).unwrap();
    // What is typed is shown too: the words that are waited for are not those that were typed.
    terminal
        .type_in("tty; stty size; echo $((6 * 7))\r")
        .unwrap();
    terminal.wait_for("/dev/pts/").unwrap();
    terminal.wait_for("31 97").unwrap();
    terminal.wait_for("42").unwrap();
    terminal.resize(40, 120).unwrap();
    terminal.type_in("until stty size | cat >/s; read a </s; [ \"$a\" = '40 120' ]; do :; done; echo $((9 * 9))\r").unwrap();
    terminal.wait_for("81").unwrap();
    // The key that interrupts does so in the guest: neither vmctl nor the shell ends.
    // What it interrupts says first that it runs: a shell that is about to start it would pass over the key.
    terminal
        .type_in("sh -c 'echo $((8 * 8)); exec sleep 1000'\r")
        .unwrap();
    terminal.wait_for("64").unwrap();
    terminal.type_in("\x03").unwrap();
    terminal.type_in("echo $?-$((7 * 7))\r").unwrap();
    terminal.wait_for("130-49").unwrap();
    terminal.type_in("exit 9\r").unwrap();
    assert_eq!(terminal.end().unwrap().code(), Some(9));

    // Files, there and back, also a folder.
    let folder = files.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "from the host\n").unwrap();
    shoal.ok(&["cp", &folder.to_string_lossy(), "box:/kept"]);
    shoal.ok(&["exec", "box", "sh", "-c", "echo and the guest >>/kept/file"]);
    let back = files.path().join("back");
    shoal.ok(&["cp", "box:/kept", &back.to_string_lossy()]);
    let text = std::fs::read_to_string(back.join("file")).unwrap();
    assert_eq!(text, "from the host\nand the guest\n");
    shoal.ok(&["rm", "--force", "box"]);
}
