//! Linux guests: a VM that boots one, and a first file system for it, made here: a cpio archive with one program, which a test puts
//! together by its system calls.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use vmm::boot::linux;
use vmm::host;

use crate::elf::{Elf, Segment};
use crate::monitor::Vm;

/// Where the program is linked: any place that a process may have.
const CODE: u64 = 0x40_0000;
/// What its text is at.
const DATA: u64 = 0x50_0000;
/// Bytes that [`Init::show`] reads.
const BUFFER: u64 = 4096;
/// Where [`Init::echo`] keeps what it has read, behind all texts.
const ECHO: u64 = DATA + 0x8000;
/// How much that is.
const ECHO_BYTES: u64 = 64 << 10;

const READ: u32 = 0;
const WRITE: u32 = 1;
const OPEN: u32 = 2;
const CLOSE: u32 = 3;
const MMAP: u32 = 9;
const MUNMAP: u32 = 11;
const IOCTL: u32 = 16;
const PWRITE: u32 = 18;
const SOCKET: u32 = 41;
const ACCEPT: u32 = 43;
const BIND: u32 = 49;
const LISTEN: u32 = 50;
const FSYNC: u32 = 74;
const MKDIR: u32 = 83;
const MOUNT: u32 = 165;
const IOPERM: u32 = 173;
const SYNC_FILE_RANGE: u32 = 277;

/// `O_RDWR | O_CREAT`.
const READ_WRITE_CREATE: u64 = 0o102;
/// `SYNC_FILE_RANGE_WRITE`: begins, and does not wait.
const BEGIN_TO_WRITE: u64 = 2;
/// Where [`Init::take_memory`] maps it.
const TAKEN: u64 = 0x1000_0000;
const PAGE: u64 = 4096;
/// `PROT_READ | PROT_WRITE`, `MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED`.
const PROTECTION: u64 = 3;
const MAP_FLAGS: u64 = 0x32;
/// Where ring 0 is emulated a boot takes many seconds, and those of a loaded host are long.
const DEADLINE: Duration = Duration::from_secs(400);

/// A VM of 128 MiB with this kernel and this first file system.
///
/// # Panics
/// When there is no KVM.
#[must_use]
pub fn guest(kernel: &Path, init: &[u8]) -> Vm {
    // A busy host may not get as far as an answer, and it does not change.
    static EMULATED: OnceLock<bool> = OnceLock::new();
    let emulated = *EMULATED.get_or_init(|| host::probe().expect("there is KVM").ring0_emulated);
    Vm::of_file(kernel)
        .memory_mib(128)
        .cmdline(&linux::words(emulated))
        .initrd(init)
        .deadline(DEADLINE)
}

/// A program for PID 1.
#[derive(Clone, Debug)]
pub struct Init {
    code: Vec<u8>,
    data: Vec<u8>,
    /// Where what is written is, once each.
    written: HashMap<Vec<u8>, u64>,
}

impl Default for Init {
    fn default() -> Self {
        Self {
            code: Vec::new(),
            // What is read comes first.
            data: vec![0; BUFFER as usize],
            written: HashMap::new(),
        }
    }
}

impl Init {
    /// Writes `text` to the console.
    #[must_use]
    pub fn say(mut self, text: &str) -> Self {
        let at = self.text(text);
        self.call(WRITE, &[1, at, text.len() as u64]);
        self
    }

    /// Mounts a file system without a device on a new folder.
    #[must_use]
    pub fn mount(mut self, kind: &str, folder: &str) -> Self {
        let (kind, folder) = (self.text(kind), self.text(folder));
        self.call(MKDIR, &[folder, 0o755]);
        self.call(MOUNT, &[kind, folder, kind, 0, 0]);
        self
    }

    /// Mounts a device's file system on a new folder. From here on what fails ends the program, and so the guest.
    #[must_use]
    pub fn mount_disk(mut self, device: &str, kind: &str, folder: &str) -> Self {
        let texts = [device, folder, kind].map(|text| self.text(text));
        self.call(MKDIR, &[texts[1], 0o755]);
        self.call(MOUNT, &[texts[0], texts[1], texts[2], 0, 0]);
        self.or_die();
        self
    }

    /// Opens a file to write, and makes it where there is none.
    #[must_use]
    pub fn open(mut self, path: &str) -> Self {
        let path = self.text(path);
        self.call(OPEN, &[path, READ_WRITE_CREATE, 0o600]);
        self.or_die();
        // mov r12, rax
        self.code.extend([0x49, 0x89, 0xC4]);
        self
    }

    /// Closes the open file.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.of_open();
        self.call_with(CLOSE, &[]);
        self
    }

    /// Writes to the open file.
    #[must_use]
    pub fn write_at(mut self, bytes: &[u8], at: u64) -> Self {
        let end = DATA + self.data.len() as u64;
        let from = *self.written.entry(bytes.to_vec()).or_insert(end);
        if from == end {
            self.data.extend_from_slice(bytes);
        }
        self.of_open();
        self.call_with(
            PWRITE,
            &[None, Some(from), Some(bytes.len() as u64), Some(at)],
        );
        self.or_die();
        self
    }

    /// `fsync` of the open file.
    #[must_use]
    pub fn sync(mut self) -> Self {
        self.of_open();
        self.call_with(FSYNC, &[]);
        self.or_die();
        self
    }

    /// Begins to write the open file to its disk, and does not wait.
    #[must_use]
    pub fn begin_to_sync(mut self) -> Self {
        self.of_open();
        self.call_with(
            SYNC_FILE_RANGE,
            &[None, Some(0), Some(0), Some(BEGIN_TO_WRITE)],
        );
        self.or_die();
        self
    }

    /// Takes memory that nobody else has, and writes to each of its pages.
    #[must_use]
    pub fn take_memory(mut self, bytes: u64) -> Self {
        self.call(MMAP, &[TAKEN, bytes, PROTECTION, MAP_FLAGS]);
        self.or_die();
        // mov ecx, pages; 1: mov [rax], ecx; add rax, PAGE; dec ecx; jnz 1b
        self.code.push(0xB9);
        self.code.extend(((bytes / PAGE) as u32).to_le_bytes());
        self.code.extend([0x89, 0x08, 0x48, 0x05]);
        self.code.extend((PAGE as u32).to_le_bytes());
        self.code.extend([0xFF, 0xC9, 0x75, 0xF4]);
        self
    }

    /// Gives that memory back.
    #[must_use]
    pub fn give_memory(mut self, bytes: u64) -> Self {
        self.call(MUNMAP, &[TAKEN, bytes]);
        self.or_die();
        self
    }

    /// The open file is the next call's first argument.
    fn of_open(&mut self) {
        // mov rdi, r12
        self.code.extend([0x4C, 0x89, 0xE7]);
    }

    /// An invalid instruction, where the last call gave an error.
    fn or_die(&mut self) {
        // test rax, rax; jns past; ud2
        self.code.extend([0x48, 0x85, 0xC0, 0x79, 0x02, 0x0F, 0x0B]);
    }

    /// Writes the first bytes of a file to the console.
    #[must_use]
    pub fn show(mut self, path: &str) -> Self {
        let path = self.text(path);
        self.call(OPEN, &[path, 0]);
        // mov edi, eax
        self.code.extend([0x89, 0xC7]);
        self.call_with(READ, &[None, Some(DATA), Some(BUFFER)]);
        // mov edx, eax
        self.code.extend([0x89, 0xC2]);
        self.call_with(WRITE, &[Some(1), Some(DATA), None]);
        self
    }

    /// Gives a network device its IPv4 address, in a network of 256, and takes it up.
    #[must_use]
    pub fn address(mut self, device: &str, address: [u8; 4]) -> Self {
        const SET_ADDRESS: u64 = 0x8916;
        const SET_MASK: u64 = 0x891C;
        const SET_FLAGS: u64 = 0x8914;
        let internet = |[a, b, c, d]: [u8; 4]| [2, 0, 0, 0, a, b, c, d];
        let up = [0x41, 0, 0, 0, 0, 0, 0, 0];
        self.call(SOCKET, &[2, 2, 0]);
        // mov edi, eax
        self.code.extend([0x89, 0xC7]);
        for (what, value) in [
            (SET_ADDRESS, internet(address)),
            (SET_MASK, internet([255, 255, 255, 0])),
            (SET_FLAGS, up),
        ] {
            let mut request = [0; 40];
            request[..device.len()].copy_from_slice(device.as_bytes());
            request[16..24].copy_from_slice(&value);
            let request = self.bytes(&request);
            self.call_with(IOCTL, &[None, Some(what), Some(request)]);
        }
        self
    }

    /// Listens at a socket's address, says `ready`, and gives one caller back whatever it says, to its end.
    #[must_use]
    pub fn echo(mut self, address: &[u8; 16], ready: &str) -> Self {
        let family = u16::from_le_bytes([address[0], address[1]]);
        let address = self.bytes(address);
        self.call(SOCKET, &[family.into(), 1, 0]);
        // mov r12d, eax; mov edi, eax
        self.code.extend([0x41, 0x89, 0xC4, 0x89, 0xC7]);
        self.call_with(BIND, &[None, Some(address), Some(16)]);
        self.call_with(LISTEN, &[None, Some(1)]);
        self = self.say(ready);
        // mov edi, r12d
        self.code.extend([0x44, 0x89, 0xE7]);
        self.call_with(ACCEPT, &[None, Some(0), Some(0)]);
        // mov edi, eax
        self.code.extend([0x89, 0xC7]);
        let start = self.code.len();
        self.call_with(READ, &[None, Some(ECHO), Some(ECHO_BYTES)]);
        // test eax, eax; jle to the end, which is yet to come
        self.code.extend([0x85, 0xC0, 0x0F, 0x8E, 0, 0, 0, 0]);
        let jump = self.code.len();
        // mov edx, eax
        self.code.extend([0x89, 0xC2]);
        self.call_with(WRITE, &[None, Some(ECHO), None]);
        let back = start as i32 - (self.code.len() as i32 + 5);
        self.code.push(0xE9);
        self.code.extend(back.to_le_bytes());
        let over = (self.code.len() - jump) as u32;
        self.code[jump - 4..jump].copy_from_slice(&over.to_le_bytes());
        self.call_with(CLOSE, &[None]);
        self
    }

    /// Waits until somebody types a line at the console.
    #[must_use]
    pub fn wait(mut self) -> Self {
        self.call(READ, &[0, DATA, BUFFER]);
        self
    }

    /// Ends the VM with `status`, and gives the archive.
    #[must_use]
    pub fn exit(mut self, status: u32) -> Vec<u8> {
        self.call(IOPERM, &[abi::port::EXIT.into(), 4, 1]);
        // mov eax, status; out EXIT, eax; jmp to itself
        self.code.push(0xB8);
        self.code.extend(status.to_le_bytes());
        self.code.extend([0xE7, abi::port::EXIT as u8, 0xEB, 0xFE]);
        self.archive()
    }

    /// Where a text is, with a NUL behind it.
    fn text(&mut self, text: &str) -> u64 {
        let at = self.bytes(text.as_bytes());
        self.data.push(0);
        at
    }

    /// Where some bytes are.
    fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let at = DATA + self.data.len() as u64;
        self.data.extend_from_slice(bytes);
        at
    }

    fn call(&mut self, number: u32, arguments: &[u64]) {
        let arguments: Vec<_> = arguments.iter().copied().map(Some).collect();
        self.call_with(number, &arguments);
    }

    /// A system call; an argument that is not given is what the register holds.
    fn call_with(&mut self, number: u32, arguments: &[Option<u64>]) {
        // mov r64, imm64: rdi, rsi, rdx, r10, r8
        let registers = [
            [0x48, 0xBF],
            [0x48, 0xBE],
            [0x48, 0xBA],
            [0x49, 0xBA],
            [0x49, 0xB8],
        ];
        for (register, argument) in registers.iter().zip(arguments) {
            if let Some(value) = argument {
                self.code.extend(register);
                self.code.extend(value.to_le_bytes());
            }
        }
        // mov eax, number; syscall
        self.code.push(0xB8);
        self.code.extend(number.to_le_bytes());
        self.code.extend([0x0F, 0x05]);
    }

    fn archive(self) -> Vec<u8> {
        let mut elf = Elf::of_code(&self.code);
        elf.note = None;
        (elf.entry, elf.mapped) = (CODE, true);
        elf.segments[0].address = CODE;
        elf.segments.push(Segment {
            address: DATA,
            memory_size: ECHO + ECHO_BYTES - DATA,
            content: self.data,
            flags: 6,
        });
        let mut archive = Vec::new();
        entry(&mut archive, "dev", 0o040_755, (0, 0), &[]);
        // Its standard input and output.
        entry(&mut archive, "dev/console", 0o020_600, (5, 1), &[]);
        entry(&mut archive, "init", 0o100_755, (0, 0), &elf.bytes());
        entry(&mut archive, "TRAILER!!!", 0, (0, 0), &[]);
        archive
    }
}

/// A member of a cpio archive of the "new" kind (`Documentation/driver-api/early-userspace/buffer-format.rst`).
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
    let fields = [
        0,
        mode,
        0,
        0,
        1,
        0,
        content.len() as u32,
        0,
        0,
        device.0,
        device.1,
        name.len() as u32 + 1,
        0,
    ];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
