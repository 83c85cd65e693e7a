//! A whole Shoal, as its users see it: `vmctl`, `vmd` and guests.

use tests::shoal::{Follower, Shoal};

const FIRST_LINE: &str = "Hello from Shoal!";
/// No VM of a test outlives this.
const TIMEOUT: [&str; 2] = ["--timeout", "60s"];

fn create(shoal: &Shoal, name: &str, rest: &[&str]) -> String {
    let args = [&["create", "--name", name, "--wait"], &TIMEOUT[..], rest].concat();
    shoal.ok(&args)
}

#[test]
fn a_vm_from_its_creation_to_its_removal() {
    let shoal = Shoal::start();
    let id = create(&shoal, "web", &["hello", "--wait"]);
    assert_eq!(id.len(), 12, "{id}");
    shoal
        .vmctl(&["ps"])
        .with_status(0)
        .shows("web")
        .shows("running");
    let mut logs = Follower::start(shoal.vmctl_command(&["logs", "-f", "web"]));
    logs.until(FIRST_LINE);

    shoal.ok(&["stop", "web"]);
    logs.until("Goodbye!");
    assert_eq!(logs.status(), Some(0), "following ends with the VM");
    assert_eq!(shoal.states(), [("web".into(), "exited".into())]);
    let vm = shoal.inspect("web");
    assert_eq!(vm["outcome"]["cause"], "exit", "{vm}");
    assert_eq!(vm["outcome"]["status"], 0, "{vm}");
    assert_eq!(vm["id"], id.as_str());

    shoal.ok(&["rm", "web"]);
    assert_eq!(shoal.states(), []);
    shoal.vmctl(&["inspect", "web"]).refused(&["web"]);
}

#[test]
fn a_guests_status_is_vmctls_own() {
    let shoal = Shoal::start();
    shoal.add_image("probe");
    let run = |args: &[&str]| shoal.vmctl(&[&["run"], &TIMEOUT[..], args].concat());
    let _ = run(&["hello"]).with_status(0).shows(FIRST_LINE);
    let _ = run(&["hello", "--exit", "42"]).with_status(42);
    let _ = run(&["probe", "panic"])
        .with_status(101)
        .shows("this panic is on purpose");
    let waits = ["create", "--wait=exit", "hello", "--exit", "7"];
    let _ = shoal.vmctl(&waits).with_status(7);
    let late = ["run", "--timeout", "300ms", "probe", "spin"];
    let _ = shoal.vmctl(&late).with_status(124);
}

#[test]
fn arguments_environment_and_typed_lines_reach_the_program() {
    let shoal = Shoal::start();
    shoal.add_image("probe");
    let env = [
        "run",
        "--env",
        "WORDS=two words",
        "probe",
        "env",
        "a b",
        "--flag",
        "\"quoted\\",
    ];
    shoal
        .vmctl(&env)
        .with_status(0)
        .shows("env WORDS=two words")
        .shows("arg a b")
        .shows("arg --flag")
        .shows("arg \"quoted\\");
    let mut echo = shoal.vmctl_command(&["run", "-i", "--timeout", "60s", "probe", "echo"]);
    let mut child = echo
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"fish\nquit\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("echo fish"), "{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
}

#[test]
fn a_guest_that_does_not_listen_is_stopped_by_force() {
    let shoal = Shoal::start();
    shoal.add_image("probe");
    create(&shoal, "deaf", &["probe", "spin"]);
    shoal.ok(&["stop", "--time", "200ms", "deaf"]);
    assert_eq!(shoal.inspect("deaf")["outcome"]["cause"], "stopped");
    create(&shoal, "idle", &["probe", "idle"]);
    shoal.ok(&["stop", "idle"]);
    assert_eq!(
        shoal.inspect("idle")["outcome"]["status"],
        abi::status::SHUTDOWN
    );
    create(&shoal, "killed", &["probe", "idle"]);
    shoal.ok(&["kill", "killed"]);
    assert_eq!(shoal.inspect("killed")["outcome"]["cause"], "stopped");
    assert_eq!(
        shoal.ok(&["wait", "deaf", "idle", "killed"]),
        "137\n143\n137"
    );
    assert!(shoal.monitors().is_empty());
}

#[test]
fn every_bad_end_is_a_state_with_a_reason() {
    let shoal = Shoal::start();
    let images = tempfile::tempdir().unwrap();
    let halted: &[u8] = &[0xFA, 0xF4, 0xEB, 0xFC];
    // lidt of six zeros at the entry + 9; ud2
    let faulted: &[u8] = &[
        0x0F, 0x01, 0x1D, 9, 0, 0x10, 0, 0x0F, 0x0B, 0, 0, 0, 0, 0, 0,
    ];
    for (name, code, cause, status) in [
        ("halted", halted, "halted", 126),
        ("faulted", faulted, "triple_fault", 126),
    ] {
        let path = images.path().join(name);
        std::fs::write(&path, tests::elf::Elf::of_code(code).bytes()).unwrap();
        shoal.ok(&["image", "add", &path.to_string_lossy()]);
        let run = ["run", "--name", name, "--timeout", "20s", name];
        let _ = shoal.vmctl(&run).with_status(status);
        let vm = shoal.inspect(name);
        assert_eq!(vm["state"], "failed", "{vm}");
        assert_eq!(vm["outcome"]["cause"], cause, "{vm}");
        assert!(
            !vm["outcome"]["message"].as_str().unwrap_or("").is_empty(),
            "{vm}"
        );
    }
}

#[test]
fn events_tell_a_vms_life_in_order() {
    let shoal = Shoal::start();
    // From the beginning, so that none is missed while vmctl starts.
    let mut events =
        Follower::start(shoal.vmctl_command(&["-o", "json", "events", "--since", "0"]));
    create(&shoal, "once", &["hello"]);
    shoal.ok(&["wait", "once"]);
    shoal.ok(&["rm", "once"]);
    for kind in ["created", "running", "ended", "removed"] {
        events.until(&format!("\"{kind}\""));
    }
}

#[test]
fn removing_a_running_vm_frees_all_that_it_held() {
    let shoal = Shoal::start();
    // Once, so that whatever is made once is there.
    create(&shoal, "first", &["hello", "--wait"]);
    shoal.ok(&["rm", "-f", "first"]);
    let before = shoal.at_rest();
    assert!(before.processes.is_empty(), "{before:#?}");
    for name in ["a", "b", "c"] {
        create(&shoal, name, &["hello", "--wait"]);
    }
    assert_eq!(shoal.monitors().len(), 3);
    shoal.ok(&["rm", "-f", "a", "b", "c"]);
    assert_eq!(shoal.at_rest(), before);
}

#[test]
fn a_flooded_console_keeps_its_end_and_a_bounded_file() {
    use std::os::unix::fs::MetadataExt;
    let shoal = Shoal::start();
    shoal.add_image("probe");
    create(&shoal, "loud", &["probe", "flood", "48"]);
    assert_eq!(shoal.ok(&["wait", "loud"]), "0");
    let blocks: u64 = tests::host::files_in(shoal.dir(), &["vmd.log"])
        .iter()
        .filter(|path| !path.starts_with(shoal.dir().join("images")))
        .filter_map(|path| path.metadata().ok())
        .map(|meta| meta.blocks() * 512)
        .sum();
    assert!(blocks < 24 << 20, "{} MiB of disk are used", blocks >> 20);
    shoal
        .vmctl(&["logs", "-n", "3", "loud"])
        .with_status(0)
        .shows("flooded 48 MiB");
    let vm = shoal.inspect("loud");
    assert!(
        vm["metrics"]["console_bytes"].as_u64() >= Some(48 << 20),
        "{vm}"
    );
}

#[test]
fn a_daemon_is_started_where_none_answers() {
    let shoal = Shoal::stopped();
    assert_eq!(shoal.states(), []);
    let version = shoal.json(&["version"]);
    let pid = version["daemon"]["pid"]
        .as_u64()
        .expect("vmd tells its pid") as i32;
    assert!(tests::host::lives(pid.cast_unsigned()));
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    tests::shoal::settles("the daemon's end", || {
        !tests::host::lives(pid.as_raw_nonzero().get().cast_unsigned())
    });
}

#[test]
fn doctor_says_what_this_host_can_do() {
    let shoal = Shoal::start();
    shoal.vmctl(&["doctor"]).with_status(0).shows("/dev/kvm");
}
