//! The daemon dies; its VMs do not.

use std::collections::BTreeSet;

use tests::shoal::{Shoal, settles};

fn create(shoal: &Shoal, name: &str, rest: &[&str]) {
    let create = ["create", "--name", name, "--wait", "--timeout", "120s"];
    shoal.ok(&[&create[..], rest].concat());
}

fn monitor_of(shoal: &Shoal, vm: &str) -> u32 {
    let vm = shoal.inspect(vm);
    let pid = vm["monitor_pid"].as_u64();
    u32::try_from(pid.unwrap_or_else(|| panic!("no monitor: {vm}"))).unwrap()
}

#[test]
fn killing_the_daemon_loses_no_vm_and_doubles_none() {
    let mut shoal = Shoal::start();
    shoal.add_image("probe");
    for name in ["a", "b", "c"] {
        create(&shoal, name, &["hello", "--wait"]);
    }
    create(&shoal, "typing", &["probe", "echo"]);
    let monitors = shoal.monitors();
    assert_eq!(monitors.len(), 4);

    for _ in 0..3 {
        shoal.kill_daemon();
        assert!(monitors.iter().all(|pid| tests::host::lives(*pid)));
        shoal.start_daemon();
        let running = |name: &str| (name.to_owned(), "running".to_owned());
        let all = ["a", "b", "c", "typing"].map(running);
        assert_eq!(shoal.states(), all);
        assert_eq!(shoal.monitors(), monitors);
    }

    shoal.ok(&["stop", "a"]);
    assert_eq!(shoal.inspect("a")["outcome"]["status"], 0);
    assert!(shoal.ok(&["logs", "a"]).contains("Goodbye!"));
    shoal.ok(&["rm", "-f", "a", "b", "c", "typing"]);
    settles("the monitors' end", || shoal.monitors().is_empty());
}

#[test]
fn what_ended_while_nobody_looked_is_told_as_it_was() {
    let mut shoal = Shoal::start();
    shoal.add_image("probe");
    create(&shoal, "exits", &["hello", "--wait"]);
    create(&shoal, "dies", &["hello", "--wait"]);
    let (exits, dies) = (monitor_of(&shoal, "exits"), monitor_of(&shoal, "dies"));
    shoal.ok(&[
        "create",
        "--name",
        "late",
        "--wait",
        "--timeout",
        "1s",
        "probe",
        "spin",
    ]);
    let late = monitor_of(&shoal, "late");

    shoal.kill_daemon();
    // SIGTERM is how a monitor is asked to end without an API.
    for (pid, signal) in [
        (exits, rustix::process::Signal::TERM),
        (dies, rustix::process::Signal::KILL),
    ] {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
    settles("the monitors' end", || {
        [exits, dies, late]
            .iter()
            .all(|pid| !tests::host::lives(*pid))
    });
    shoal.start_daemon();

    let vm = shoal.inspect("dies");
    assert_eq!(vm["state"], "failed", "{vm}");
    assert!(
        !vm["outcome"]["message"].as_str().unwrap_or("").is_empty(),
        "{vm}"
    );
    let vm = shoal.inspect("exits");
    assert_eq!(vm["outcome"]["cause"], "stopped", "{vm}");
    let vm = shoal.inspect("late");
    assert_eq!(vm["outcome"]["cause"], "deadline", "{vm}");
}

#[test]
fn killing_a_monitor_fails_its_vm_and_no_other() {
    let shoal = Shoal::start();
    create(&shoal, "dies", &["hello", "--wait"]);
    create(&shoal, "lives", &["hello", "--wait"]);
    let pid = rustix::process::Pid::from_raw(monitor_of(&shoal, "dies").cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let _ = shoal.vmctl(&["wait", "dies"]);
    let vm = shoal.inspect("dies");
    assert_eq!(vm["state"], "failed", "{vm}");
    assert_eq!(vm["outcome"]["cause"], "failed", "{vm}");
    assert_eq!(shoal.inspect("lives")["state"], "running");
    assert_eq!(
        shoal.monitors(),
        BTreeSet::from([monitor_of(&shoal, "lives")])
    );
}

#[test]
fn a_daemon_that_ends_in_good_order_leaves_its_vms_too() {
    let mut shoal = Shoal::start();
    create(&shoal, "stays", &["hello", "--wait"]);
    let monitors = shoal.monitors();
    shoal.end_daemon();
    assert!(monitors.iter().all(|pid| tests::host::lives(*pid)));
    shoal.start_daemon();
    assert_eq!(shoal.states(), [("stays".into(), "running".into())]);
}
