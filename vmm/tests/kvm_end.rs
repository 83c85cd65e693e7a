//! How a VM ends: whatever a guest does, it is a state with a reason, and the monitor is gone.

mod support;

use std::os::unix::process::ExitStatusExt;

use support::Vm;
use vmm::launch::Event;
use vmm::meter::{Counter, Phase, State};
use vmm::outcome::{Cause, Outcome};

/// `mov al, STATUS; out 0xF4, al`
const fn exit(status: u8) -> [u8; 4] {
    [0xB0, status, 0xE6, 0xF4]
}

#[test]
fn an_exit_status_is_passed_on() {
    let ended = Vm::code(&exit(7)).run();
    assert_eq!(ended.outcome, Outcome::exit(7));
    assert_eq!(
        ended.events,
        [Event::Running, Event::Ended(Outcome::exit(7))]
    );
    assert_eq!(ended.status.code(), Some(7));
    let reading = ended.reading;
    assert_eq!(reading.state, State::Ended);
    assert!(reading.start_time > 0);
    let phases = [
        Phase::Main,
        Phase::Described,
        Phase::Created,
        Phase::Loaded,
        Phase::Ready,
    ];
    let times: Vec<_> = phases.map(|p| reading.phase(p).unwrap()).into();
    assert!(times.is_sorted());
    assert!(times[4] <= reading.phase(Phase::Entered).unwrap());
    assert_eq!(reading.vcpus.len(), 1);
}

#[test]
fn a_status_of_32_bits_is_kept_and_cut_for_a_shell() {
    // mov eax, 0x12345; mov dx, 0xF4; out dx, eax
    let ended = Vm::code(&[0xB8, 0x45, 0x23, 1, 0, 0x66, 0xBA, 0xF4, 0, 0xEF]).run();
    assert_eq!(ended.outcome, Outcome::exit(0x12345));
    assert_eq!(ended.status.code(), Some(255));
}

#[test]
fn a_reset_pulse_ends_it() {
    // mov al, 0xFE; out 0x64, al
    let ended = Vm::code(&[0xB0, 0xFE, 0xE6, 0x64]).run();
    assert_eq!(ended.outcome.cause, Cause::Reset);
    assert_eq!(ended.status.code(), Some(1));
}

#[test]
fn a_triple_fault_ends_it() {
    // lidt [an empty table]; ud2
    let ended = Vm::code(&[0x0F, 0x01, 0x1D, 0, 0x08, 0x10, 0, 0x0F, 0x0B]).run();
    assert_eq!(ended.outcome.cause, Cause::TripleFault);
}

#[test]
fn halting_with_interrupts_off_ends_it() {
    // cli; hlt
    let ended = Vm::code(&[0xFA, 0xF4]).run();
    assert_eq!(ended.outcome.cause, Cause::Halted);
    assert!(
        ended.outcome.detail.contains("0x100002"),
        "{}",
        ended.outcome
    );
}

#[test]
fn halting_with_processors_that_never_started_ends_it() {
    let ended = Vm::code(&[0xFA, 0xF4]).with(|vm| vm.vcpus = 4).run();
    assert_eq!(ended.outcome.cause, Cause::Halted);
    assert_eq!(ended.reading.vcpus.len(), 4);
}

#[test]
fn an_idle_guest_lives_until_its_deadline() {
    // lidt [an empty table]; sti; 1: hlt; jmp 1b
    let code = [0x0F, 0x01, 0x1D, 0, 0x08, 0x10, 0, 0xFB, 0xF4, 0xEB, 0xFD];
    let ended = Vm::code(&code).with(|vm| vm.deadline_ms = Some(3500)).run();
    assert_eq!(ended.outcome.cause, Cause::Deadline);
    assert!(ended.reading.counter(Counter::ExitKick) <= 4);
}

#[test]
fn a_spinning_guest_ends_at_its_deadline() {
    let ended = Vm::code(&[0xEB, 0xFE])
        .with(|vm| vm.deadline_ms = Some(200))
        .run();
    assert_eq!(ended.outcome.cause, Cause::Deadline);
    assert!(
        ended.reading.vcpus[0].0 > 50_000_000,
        "{:?}",
        ended.reading.vcpus
    );
}

#[test]
fn a_guest_is_stopped_by_a_signal() {
    let mut running = Vm::code(&[0xEB, 0xFE]).launch();
    assert_eq!(running.event(), Some(Event::Running));
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait().outcome.cause, Cause::Stopped);
}

#[test]
fn a_launcher_that_goes_away_changes_nothing() {
    // 1: dec ecx; jnz 1b; then the exit: some hundred milliseconds of emulation at most
    let code = [&[0xB9, 0, 0, 4, 0, 0x49, 0x75, 0xFD][..], &exit(5)].concat();
    let mut running = Vm::code(&code).launch();
    let (a, _) = std::os::unix::net::UnixStream::pair().unwrap();
    running.socket = std::io::BufReader::new(a);
    let status = running.child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(5), None));
    assert_eq!(running.read().outcome, Some(Outcome::exit(5)));
}

#[test]
fn an_image_that_cannot_boot_is_refused_in_words() {
    let ended = Vm::image(b"not a kernel").run();
    assert_eq!(ended.outcome.cause, Cause::Failed);
    assert!(
        ended
            .outcome
            .detail
            .contains("neither an ELF file nor a Linux bzImage"),
        "{}",
        ended.outcome
    );
    assert_eq!(ended.events.len(), 1);
}
