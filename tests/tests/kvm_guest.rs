//! What the library OS offers a program, and what it says when the program goes wrong.

use std::time::Duration;

use abi::status;
use tests::monitor::{Ended, Vm};
use vmm::outcome::Cause;

fn probe(args: &[&str]) -> Ended {
    Vm::of("probe").args(args).run()
}

#[test]
fn arguments_and_environment_arrive_as_they_were() {
    let line = r#"HOME=/here EMPTY= "WORDS=two words" -- env -- "a \" b" --flag"#;
    let env = Vm::of("probe").cmdline(line).run();
    env.exited(0)
        .shows("arg --\n")
        .shows("arg a \" b\n")
        .shows("arg --flag\n")
        .shows("env WORDS=two words\n")
        .shows("env EMPTY=\n")
        .shows("home /here\n");
}

#[test]
fn tasks_timers_clock_and_heap_do_their_work() {
    for (mode, line) in [
        ("tasks", "tasks take turns"),
        ("timers", "timeouts hold"),
        ("clock", "forwards"),
        ("alloc", "in one block"),
    ] {
        probe(&[mode]).exited(0).shows(line);
    }
}

#[test]
fn entropy_differs_each_time() {
    let rng = probe(&["rng"]);
    rng.exited(0);
    let drawn: Vec<&str> = rng
        .console
        .lines()
        .filter(|l| l.starts_with("random "))
        .collect();
    assert_eq!(drawn.len(), 2, "{rng}");
    assert_ne!(drawn[0], drawn[1], "{rng}");
}

#[test]
fn what_is_typed_arrives() {
    let mut vm = Vm::of("probe").args(&["echo"]).start().unwrap();
    vm.console_shows("ready");
    vm.type_in("one\n");
    vm.console_shows("echo one");
    vm.type_in("quit\n");
    vm.wait().exited(0).shows("echo quit");
}

#[test]
fn a_panic_names_its_place_and_its_function() {
    let panic = probe(&["panic"]);
    panic
        .exited(status::PANIC)
        .shows("panicked at")
        .shows("faults.rs")
        .shows("probe::");
}

#[test]
fn every_fault_has_a_report_and_its_own_status() {
    for (mode, status, words) in [
        ("null", status::BAD_ACCESS, "null dereference"),
        ("write-text", status::BAD_ACCESS, "not allowed"),
        ("exec-data", status::BAD_ACCESS, "execution"),
        ("overflow", status::BAD_ACCESS, "stack overflow"),
        ("wild", status::BAD_ACCESS, "page fault"),
        ("divide", status::ARITHMETIC, "divide error"),
        (
            "invalid",
            status::INVALID_INSTRUCTION,
            "invalid instruction",
        ),
    ] {
        probe(&[mode])
            .exited(status)
            .shows(words)
            .shows("rip ")
            .shows("probe::faults");
    }
}

#[test]
fn a_program_without_memory_is_told_so() {
    probe(&["oom"])
        .exited(status::OUT_OF_MEMORY)
        .shows("out of memory: this guest has 63 MiB");
}

#[test]
fn a_guest_that_computes_for_ever_is_ended_all_the_same() {
    for mode in ["spin", "busy"] {
        Vm::of("probe")
            .args(&[mode])
            .deadline(Duration::from_millis(500))
            .run()
            .by(Cause::Deadline);
    }
}
