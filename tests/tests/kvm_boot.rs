//! A guest boots, does what it was asked to, and its status comes back.

use std::time::Duration;

use tests::elf::Elf;
use tests::monitor::Vm;
use vmm::launch::Event;
use vmm::meter::Phase;
use vmm::outcome::Cause;

const FIRST_LINE: &str = "Hello from Shoal!";

#[test]
fn hello_says_hello() {
    let hello = Vm::of("hello").run();
    hello.exited(0).shows(FIRST_LINE);
    assert_eq!(hello.events.first(), Some(&Event::Running));
}

#[test]
fn its_status_is_passed_on() {
    for status in [0, 1, 42, 100, 255] {
        let hello = Vm::of("hello").args(&["--exit", &status.to_string()]).run();
        hello.exited(status);
    }
}

#[test]
fn the_boot_is_timed_phase_by_phase() {
    let hello = Vm::of("hello").run();
    let reading = hello.exited(0).reading.as_ref().unwrap();
    let mut before = 0;
    for phase in Phase::ALL {
        let at = reading
            .phase(phase)
            .unwrap_or_else(|| panic!("{phase:?} was not reached: {hello}"));
        assert!(at >= before, "{phase:?} came before its time: {hello}");
        before = at;
    }
}

#[test]
fn a_guest_that_waits_is_ended_by_its_deadline() {
    let hello = Vm::of("hello")
        .args(&["--wait"])
        .deadline(Duration::from_millis(500))
        .run();
    hello.by(Cause::Deadline).shows(FIRST_LINE);
    assert!(hello.took >= Duration::from_millis(500));
}

#[test]
fn big_guests_boot_too() {
    for (vcpus, mib) in [(1, 16), (2, 256), (4, 4096), (32, 1024)] {
        let hello = Vm::of("hello").vcpus(vcpus).memory_mib(mib).run();
        hello.exited(0).shows(FIRST_LINE);
    }
}

#[test]
fn a_tenants_own_kernel_boots_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kernel");
    std::fs::write(&path, Elf::valid().bytes()).unwrap();
    Vm::of_file(&path).run().exited(7);
}

#[test]
fn killing_a_monitor_ends_it_at_once() {
    let mut vm = Vm::of("hello").args(&["--wait"]).start().unwrap();
    vm.console_shows(FIRST_LINE);
    vm.kill();
    let ended = vm.wait();
    assert_eq!(ended.outcome, None, "a dead monitor spoke: {ended}");
}
