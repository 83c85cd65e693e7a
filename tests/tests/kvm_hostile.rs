//! Guests that do their worst: each ends as a state with a reason, and its monitor in good order.

use std::time::Duration;

use tests::elf::{ENTRY, Elf};
use tests::monitor::Vm;
use vmm::meter::Counter;
use vmm::outcome::Cause;

/// Code that has no end by itself runs so long.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// 32-bit code in ring 0, entered as a kernel is.
fn kernel(code: &[u8]) -> Vm {
    Vm::of_bytes(&Elf::of_code(code).bytes())
}

/// `mov eax, status; out EXIT, eax; jmp $`
fn exit(status: u8) -> Vec<u8> {
    vec![
        0xB8,
        status,
        0,
        0,
        0,
        0xE7,
        abi::port::EXIT as u8,
        0xEB,
        0xFE,
    ]
}

#[test]
fn a_triple_fault_says_where() {
    // lidt [code + 9]; ud2; six zeros: no handler for anything
    let at = (ENTRY as u32 + 9).to_le_bytes();
    let mut code = vec![0x0F, 0x01, 0x1D, at[0], at[1], at[2], at[3], 0x0F, 0x0B];
    code.extend([0; 6]);
    kernel(&code).run().by(Cause::TripleFault).says("rip");
}

#[test]
fn spinning_in_ring_0_is_ended_by_its_deadline() {
    kernel(&[0xEB, 0xFE])
        .deadline(LONG_ENOUGH)
        .run()
        .by(Cause::Deadline);
}

#[test]
fn halting_with_interrupts_off_is_noticed() {
    // cli; hlt; jmp back
    let halted = kernel(&[0xFA, 0xF4, 0xEB, 0xFC]).run();
    halted.by(Cause::Halted).says("rip");
}

#[test]
fn every_port_may_be_written_and_read() {
    // xor edx, edx; xor eax, eax
    // again: cmp dx, EXIT; je next; out dx, al; in al, dx; xor eax, eax; next: inc dx; jnz again
    let mut code = vec![0x31, 0xD2, 0x31, 0xC0];
    code.extend([0x66, 0x81, 0xFA, abi::port::EXIT as u8, 0x00]);
    code.extend([0x74, 0x04, 0xEE, 0xEC, 0x31, 0xC0, 0x66, 0x42, 0x75, 0xF1]);
    code.extend(exit(5));
    let ended = kernel(&code).run();
    ended.exited(5);
    let unclaimed = ended.reading.as_ref().unwrap().counter(Counter::Unclaimed);
    assert!(
        unclaimed > 60_000,
        "only {unclaimed} accesses went nowhere: {ended}"
    );
}

#[test]
fn every_hole_in_memory_may_be_written_and_read() {
    // mov edi, 0xC0000000; again: mov [edi], edi; mov eax, [edi]; add edi, 0x8FFC; jnc again
    let mut code = vec![0xBF, 0x00, 0x00, 0x00, 0xC0];
    code.extend([0x89, 0x3F, 0x8B, 0x07]);
    code.extend([0x81, 0xC7, 0xFC, 0x8F, 0x00, 0x00, 0x73, 0xF4]);
    code.extend(exit(6));
    kernel(&code).run().exited(6);
}

#[test]
fn every_register_of_every_device_may_be_written() {
    // mov edi, 0xD0000000; again: mov [edi], edi; mov eax, [edi]; add edi, 4; cmp edi, end; jb again
    let mut code = vec![0xBF, 0x00, 0x00, 0x00, 0xD0];
    code.extend([0x89, 0x3F, 0x8B, 0x07, 0x83, 0xC7, 0x04]);
    code.extend([0x81, 0xFF, 0x00, 0x40, 0x00, 0xD0, 0x72, 0xF1]);
    code.extend(exit(7));
    kernel(&code).run().exited(7);
}

#[test]
fn a_reset_ends_the_vm() {
    // mov al, 0xFE; out 0x64, al; jmp $
    kernel(&[0xB0, 0xFE, 0xE6, 0x64, 0xEB, 0xFE])
        .run()
        .by(Cause::Reset);
}

#[test]
fn flooding_the_serial_port_holds_nobody_up() {
    // mov dx, SERIAL; mov al, 'x'; again: out dx, al; jmp again
    let mut code = vec![0x66, 0xBA];
    code.extend(abi::port::SERIAL.to_le_bytes());
    code.extend([0xB0, b'x', 0xEE, 0xEB, 0xFD]);
    let flood = kernel(&code).deadline(LONG_ENOUGH).run();
    flood.by(Cause::Deadline).shows("xxxxxxxx");
}

#[test]
fn a_console_that_nobody_reads_holds_nobody_up() {
    let vm = Vm::of("probe").args(&["flood", "8"]).start().unwrap();
    // The pipe is full after 64 KiB; the guest must come to its end all the same.
    let ended = loop {
        if let Some(outcome) = vm.reading().and_then(|r| r.outcome) {
            break outcome;
        }
        assert!(
            vm.launched().elapsed() < Duration::from_secs(20),
            "it hangs"
        );
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!((ended.cause, ended.status), (Cause::Exit, 0));
    let reading = vm.wait().exited(0).reading.clone().unwrap();
    assert!(reading.counter(Counter::ConsoleOut) >= 8 << 20);
    assert!(reading.counter(Counter::ConsoleDropped) > 0);
}

#[test]
fn an_instruction_that_this_host_cannot_carry_out_has_a_reason() {
    // `lock ud2` is no instruction. Ring 0 on hardware raises #UD, which without handlers is a triple fault; where ring 0 is
    // emulated, the emulator gives up.
    let ended = kernel(&[0xF0, 0x0F, 0x0B, 0xEB, 0xFE])
        .deadline(LONG_ENOUGH)
        .run();
    let cause = ended.outcome.as_ref().map(|o| o.cause);
    assert!(
        matches!(cause, Some(Cause::Unsupported | Cause::TripleFault)),
        "{ended}"
    );
}

/// The repository's own hostile guests, which go further than a few bytes of code can.
#[test]
fn bare_guests_end_as_they_should() {
    for (guest, status) in [("ports", 0), ("holes", 0), ("queue-abuse", 0)] {
        Vm::of(guest).run().exited(status);
    }
    for (guest, cause) in [
        ("triple-fault", Cause::TripleFault),
        ("halt-if0", Cause::Halted),
    ] {
        Vm::of(guest).run().by(cause);
    }
    for guest in ["spin-ring0", "flood-serial"] {
        Vm::of(guest)
            .deadline(LONG_ENOUGH)
            .run()
            .by(Cause::Deadline);
    }
}

#[test]
fn every_processor_can_be_started() {
    for vcpus in [1, 2, 8] {
        Vm::of("smp").vcpus(vcpus).run().exited(vcpus);
    }
}

#[test]
fn a_guest_with_hostile_queues_cannot_take_entropy_or_console_down() {
    let abuse = Vm::of("queue-abuse").run();
    abuse.exited(0);
    let reading = abuse.reading.as_ref().unwrap();
    assert!(
        reading.counter(Counter::DriverErrors) > 0,
        "nothing was refused: {abuse}"
    );
}
