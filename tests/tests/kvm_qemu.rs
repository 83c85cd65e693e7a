//! The same files under QEMU: what boots here is no creature of our own monitor.

use tests::qemu::Qemu;
use tests::{monitor::Vm, place};

#[test]
fn the_same_elf_boots_under_qemu() {
    let qemu = Qemu::start(&place::guest("hello"), "-- --exit 5").unwrap();
    let (status, console) = qemu.wait().unwrap();
    assert_eq!(status, Some(5), "{console}");
    assert!(console.contains("Hello from Shoal!"), "{console}");
}

#[test]
fn both_monitors_show_a_program_the_same_things() {
    let line = "HOME=/here -- env one \"two words\"";
    let (status, theirs) = Qemu::start(&place::guest("probe"), line)
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(status, Some(0), "{theirs}");
    let ours = Vm::of("probe").cmdline(line).run();
    ours.exited(0);
    // QEMU's serial port is where a tenant sees a line's end as the guest sent it.
    let lines =
        |text: &str| -> Vec<String> { text.lines().map(|l| l.trim_end().to_owned()).collect() };
    assert_eq!(lines(&theirs), lines(&ours.console));
}
