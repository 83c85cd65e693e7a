//! What a guest meets: memory, ports, holes, consoles, other processors.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use support::Vm;
use vmm::launch::Event;
use vmm::meter::{Counter, State};
use vmm::outcome::{Cause, Outcome};

/// `mov al, STATUS; out 0xF4, al`
const EXIT_7: [u8; 4] = [0xB0, 7, 0xE6, 0xF4];

fn exit_7_after(code: &[u8]) -> Vec<u8> {
    [code, &EXIT_7].concat()
}

#[test]
fn every_port_but_those_that_end_it_can_be_read_and_written() {
    // xor edx, edx; 1: in al, dx; cmp dx, 0xF4; je 2f; cmp dx, 0x64; je 2f; out dx, al; in eax, dx; 2: inc dx; jnz 1b
    let code = exit_7_after(&[
        0x31, 0xD2, 0xEC, 0x66, 0x81, 0xFA, 0xF4, 0, 0x74, 0x09, 0x66, 0x83, 0xFA, 0x64, 0x74,
        0x03, 0xEE, 0xED, 0x90, 0x66, 0x42, 0x75, 0xEB,
    ]);
    let ended = Vm::code(&code).run();
    assert_eq!(ended.outcome, Outcome::exit(7));
    assert!(ended.reading.counter(Counter::Unclaimed) > 100_000);
}

#[test]
fn holes_in_memory_read_all_ones_and_take_writes() {
    // mov ebx, 0xC0000000; 1: mov eax, [ebx]; cmp eax, -1; jne 2f; mov [ebx], eax;
    // add ebx, 0x100000; cmp ebx, 0xD0000000; jb 1b; 2:
    let good = [
        0xBB, 0, 0, 0, 0xC0, 0x8B, 0x03, 0x83, 0xF8, 0xFF, 0x75, 0x10, 0x89, 0x03, 0x81, 0xC3, 0,
        0, 0x10, 0, 0x81, 0xFB, 0, 0, 0, 0xD0, 0x72, 0xE9,
    ];
    // The good end is status 7; a read that is not all ones jumps past it, to a halt.
    let code = [&good[..], &[0xB0, 7, 0xE6, 0xF4, 0xFA, 0xF4]].concat();
    let ended = Vm::code(&code).run();
    assert_eq!(ended.outcome, Outcome::exit(7));
    assert_eq!(ended.reading.counter(Counter::Unclaimed), 512);
}

#[test]
fn memory_is_all_there_from_the_first_instruction_on() {
    // mov ebx, 0xBFF00000; mov dword [ebx], 0x12345678; inc dword [ebx]; cmp dword [ebx], 0x12345679; jne 2f;
    // mov esi, ebx; lea edi, [ebx + 0x100]; mov ecx, 64; rep movsd; cmp dword [ebx + 0x100], 0x12345679; je 3f;
    // 2: cli; hlt; 3:
    let code = exit_7_after(&[
        0xBB, 0, 0, 0xF0, 0xBF, 0xC7, 0x03, 0x78, 0x56, 0x34, 0x12, 0xFF, 0x03, 0x81, 0x3B, 0x79,
        0x56, 0x34, 0x12, 0x75, 0x1B, 0x89, 0xDE, 0x8D, 0xBB, 0, 1, 0, 0, 0xB9, 64, 0, 0, 0, 0xF3,
        0xA5, 0x81, 0xBB, 0, 1, 0, 0, 0x79, 0x56, 0x34, 0x12, 0x74, 0x02, 0xFA, 0xF4,
    ]);
    let ended = Vm::code(&code).with(|vm| vm.memory_mib = 4096).run();
    assert_eq!(ended.outcome, Outcome::exit(7));
    assert_eq!(ended.reading.counter(Counter::Unclaimed), 0);
}

#[test]
fn a_flood_on_the_serial_port_keeps_its_newest() {
    // mov dx, 0x3F8; mov ecx, 20000; 1: mov al, cl; out dx, al; dec ecx; jnz 1b
    let code = exit_7_after(&[
        0x66, 0xBA, 0xF8, 0x03, 0xB9, 0x20, 0x4E, 0, 0, 0x88, 0xC8, 0xEE, 0x49, 0x75, 0xFA,
    ]);
    let ended = Vm::code(&code).run();
    assert_eq!(ended.outcome, Outcome::exit(7));
    let expected: Vec<u8> = (1..=20_000_u32).rev().map(|n| n as u8).collect();
    assert!(ended.log == expected);
    assert_eq!(ended.reading.counter(Counter::ConsoleOut), 20_000);
}

#[test]
fn a_kernel_without_an_initrd_is_handed_its_memory_map_and_no_module() {
    // ebx -> start info. Exits with bits of what was wrong.
    let code = [
        0x31, 0xC0, // xor eax, eax
        0x81, 0x3B, 0x78, 0xC5, 0x6E, 0x33, // cmp dword [ebx], START_MAGIC
        0x74, 0x02, 0x0C, 0x01, // je +2; or al, 1
        0x83, 0x7B, 0x0C, 0x00, // cmp dword [ebx+12], 0    no module
        0x74, 0x02, 0x0C, 0x02, // je +2; or al, 2
        0x83, 0x7B, 0x30, 0x03, // cmp dword [ebx+48], 3    ranges: low, reserved, RAM
        0x74, 0x02, 0x0C, 0x04, // je +2; or al, 4
        0xE6, 0xF4, // out 0xF4, al
    ];
    assert_eq!(Vm::code(&code).run().outcome, Outcome::exit(0));
}

#[test]
fn every_processor_can_be_started() {
    // The first sends INIT and SIPI to all others, which each add one to a counter, and waits for three.
    // lapic at 0xFEE00000: ICR low at 0x300. The others start in real mode at 0x8000.
    let trampoline = [0xF0, 0xFE, 0x06, 0x00, 0x90, 0xFA, 0xF4]; // lock inc byte [0x9000]; cli; hlt
    let mut code = vec![];
    for (at, byte) in (0x8000_u32..).zip(trampoline) {
        code.extend([0xC6, 0x05]); // mov byte [at], byte
        code.extend(at.to_le_bytes());
        code.push(byte);
    }
    for command in [0x000C_4500_u32, 0x000C_4608] {
        code.extend([0xC7, 0x05, 0x00, 0x03, 0xE0, 0xFE]); // mov dword [0xFEE00300], command
        code.extend(command.to_le_bytes());
    }
    // 1: cmp byte [0x9000], 3; jne 1b
    code.extend([0x80, 0x3D, 0x00, 0x90, 0, 0, 3, 0x75, 0xF7]);
    let ended = Vm::code(&exit_7_after(&code))
        .with(|vm| (vm.vcpus, vm.memory_mib) = (4, 4096))
        .run();
    assert_eq!(ended.outcome, Outcome::exit(7));
}

#[test]
fn an_instruction_that_cannot_be_done_is_named() {
    // popcnt eax, eax, which ring-0 emulation cannot do.
    let ended = Vm::code(&exit_7_after(&[0xF3, 0x0F, 0xB8, 0xC0])).run();
    match ended.outcome.cause {
        Cause::Exit => assert_eq!(ended.outcome.status, 7),
        cause => {
            assert_eq!(cause, Cause::Unsupported);
            let detail = &ended.outcome.detail;
            assert!(
                detail.starts_with("rip 0x100000, ring 0, bytes f3 0f b8 c0 b0 07"),
                "{detail}"
            );
            assert!(detail.contains("ring 0 is emulated"), "{detail}");
        }
    }
}

#[test]
fn instructions_that_emulation_lacks_are_finished() {
    // fwait
    let ended = Vm::code(&exit_7_after(&[0x9B])).run();
    assert_eq!(ended.outcome, Outcome::exit(7));

    // int3, with tables to come to a handler by, which looks whether it comes from behind it.
    let at = |offset: u32| (0x10_0000 + offset).to_le_bytes();
    let mut code = vec![];
    code.extend([&[0x0F, 0x01, 0x15][..], &at(36)].concat()); // lgdt [36]
    code.extend([&[0x0F, 0x01, 0x1D][..], &at(42)].concat()); // lidt [42]
    code.extend([0xBC, 0x00, 0x90, 0, 0]); // mov esp, 0x9000
    code.extend([0xCC, 0xEB, 0xFE]); // int3; 20: jmp $
    code.push(0x58); // 22: pop eax
    code.extend([&[0x3D][..], &at(20)].concat()); // cmp eax, 20
    code.extend([0x75, 0xFE]); // jne $
    code = exit_7_after(&code);
    code.resize(36, 0x90);
    code.extend([&[0x17, 0][..], &at(48)].concat()); // 36: GDT at 48
    code.extend([&[0x1F, 0][..], &at(72)].concat()); // 42: IDT at 72
    for descriptor in [0, 0x00CF_9B00_0000_FFFF_u64, 0x00CF_9300_0000_FFFF] {
        code.extend(descriptor.to_le_bytes());
    }
    code.extend([0; 24]);
    code.extend([22, 0, 8, 0, 0, 0x8E, 0x10, 0]); // #BP: an interrupt gate to 22
    let ended = Vm::code(&code).run();
    assert_eq!(ended.outcome, Outcome::exit(7));
}

#[test]
fn input_reaches_a_guest_that_listens_and_waits_for_it() {
    // Enable received interrupts; then echo until a `!` comes.
    let code = exit_7_after(&[
        0x66, 0xBA, 0xF9, 0x03, 0xB0, 1, 0xEE, // mov dx, 0x3F9; mov al, 1; out dx, al
        0x66, 0xBA, 0xFD, 0x03, 0xEC, 0xA8, 1, 0x74,
        0xF7, // 1: mov dx, 0x3FD; in al, dx; test al, 1; jz 1b
        0x66, 0xBA, 0xF8, 0x03, 0xEC, 0xEE, // mov dx, 0x3F8; in al, dx; out dx, al
        0x3C, b'!', 0x75, 0xED, // cmp al, '!'; jne 1b
    ]);
    let (read, mut write) = std::io::pipe().unwrap();
    let text = format!("{}!", "typed text. ".repeat(100));
    write.write_all(text.as_bytes()).unwrap();
    let ended = Vm::code(&code).input(read).run();
    assert_eq!(ended.outcome, Outcome::exit(7));
    assert_eq!(String::from_utf8_lossy(&ended.log), text);
    assert_eq!(ended.reading.counter(Counter::ConsoleIn), text.len() as u64);
}

fn request(socket: &std::path::Path, method: &str, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_paused_guest_stands_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api");
    let listener = UnixListener::bind(&socket).unwrap();
    // Prints for ever, until a key comes: 1: mov al, '.'; out to serial; in al, 0x64; test al, 1; jz 1b
    let code = exit_7_after(&[
        0x66, 0xBA, 0xF8, 0x03, 0xB0, b'.', 0xEE, 0xE4, 0x64, 0xA8, 1, 0x74, 0xF7,
    ]);
    let mut running = Vm::code(&code).control(listener).launch();
    assert_eq!(running.event(), Some(Event::Running));
    running.wait_for_output(1);
    for _ in 0..3 {
        let answer = request(&socket, "PATCH", "/vm", r#"{"state":"Paused"}"#);
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        assert_eq!(running.read().state, State::Paused);
        let before = (running.output_size(), running.read().vcpus);
        // The API answers while the guest stands; nothing else moves.
        assert!(request(&socket, "GET", "/", "").contains("Paused"));
        assert_eq!((running.output_size(), running.read().vcpus), before);
        let answer = request(&socket, "PATCH", "/vm", r#"{"state":"Resumed"}"#);
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        running.wait_for_output(before.0 + 1);
    }
    let answer = request(
        &socket,
        "PUT",
        "/actions",
        r#"{"action_type":"SendCtrlAltDel"}"#,
    );
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert_eq!(running.wait().outcome, Outcome::exit(7));
}

#[test]
fn a_paused_guest_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut running = Vm::code(&[0xEB, 0xFE])
        .with(|vm| vm.vcpus = 2)
        .control(listener)
        .launch();
    assert_eq!(running.event(), Some(Event::Running));
    request(&socket, "PATCH", "/vm", r#"{"state":"Paused"}"#);
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait().outcome.cause, Cause::Stopped);
}

#[test]
fn the_host_says_what_it_offers() {
    let host = vmm::host::probe().unwrap();
    assert!(host.missing().is_empty(), "{:?}", host.missing());
    assert!(host.max_vcpus >= 32 && host.memory_slots >= 3);
}
