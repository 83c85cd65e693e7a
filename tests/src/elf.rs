//! ELF files to order: a small guest that boots, and everything that can be wrong with one.

/// What an ELF file is made of; every field may be made wrong.
#[derive(Clone, Debug)]
pub struct Elf {
    /// `e_ident[EI_CLASS]`: 2 is 64-bit.
    pub class: u8,
    /// `e_machine`: 62 is x86-64.
    pub machine: u16,
    /// `e_entry`.
    pub entry: u64,
    /// Whether it is a process's program, not a guest's: such a file is mapped, so that a segment's bytes have in their page of
    /// the file the place that they have in memory.
    pub mapped: bool,
    /// What is loaded.
    pub segments: Vec<Segment>,
    /// The PVH note's content: the entry point.
    pub note: Option<Vec<u8>>,
}

/// A loadable segment.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Guest-physical address.
    pub address: u64,
    /// Bytes in the file.
    pub content: Vec<u8>,
    /// Bytes in memory.
    pub memory_size: u64,
    /// `PF_*`: 1 execute, 2 write, 4 read.
    pub flags: u32,
}

/// Where [`Elf::valid`] is loaded and entered.
pub const ENTRY: u64 = 0x10_0000;

const HEADER: usize = 64;
const PROGRAM: usize = 56;
const PAGE: u64 = 4096;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

impl Elf {
    /// A guest that exits with status 7 by the exit port as soon as it is entered.
    #[must_use]
    pub fn valid() -> Self {
        let port = (abi::port::EXIT as u8).to_le_bytes();
        // mov eax, 7; out PORT, eax; hlt
        let code = [0xB8, 7, 0, 0, 0, 0xE7, port[0], 0xF4];
        Self::of_code(&code)
    }

    /// A guest of 32-bit instructions, entered at the first.
    #[must_use]
    pub fn of_code(code: &[u8]) -> Self {
        Self {
            class: 2,
            machine: 62,
            entry: ENTRY,
            mapped: false,
            segments: vec![Segment {
                address: ENTRY,
                content: code.to_vec(),
                memory_size: code.len() as u64,
                flags: 5,
            }],
            note: Some((ENTRY as u32).to_le_bytes().to_vec()),
        }
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let count = self.segments.len() + usize::from(self.note.is_some());
        let mut file = vec![0x7F, b'E', b'L', b'F', self.class, 1, 1];
        file.resize(16, 0);
        put16(&mut file, 2); // ET_EXEC
        put16(&mut file, self.machine);
        put32(&mut file, 1);
        put64(&mut file, self.entry);
        put64(&mut file, HEADER as u64);
        put64(&mut file, 0);
        put32(&mut file, 0);
        for half in [HEADER, PROGRAM, count, 64, 0, 0] {
            put16(&mut file, half as u16);
        }
        let mut body = Vec::new();
        let at = |body: &Vec<u8>| (HEADER + count * PROGRAM + body.len()) as u64;
        for segment in &self.segments {
            if self.mapped {
                let gap = segment.address.wrapping_sub(at(&body)) % PAGE;
                body.resize(body.len() + gap as usize, 0);
            }
            let offset = at(&body);
            let size = segment.content.len() as u64;
            program(
                &mut file,
                PT_LOAD,
                segment.flags,
                offset,
                segment.address,
                size,
                segment.memory_size,
            );
            body.extend_from_slice(&segment.content);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        if let Some(note) = &self.note {
            let offset = at(&body);
            let mut bytes = Vec::new();
            put32(&mut bytes, abi::pvh::NOTE_OWNER.len() as u32);
            put32(&mut bytes, note.len() as u32);
            put32(&mut bytes, abi::pvh::NOTE_TYPE);
            bytes.extend_from_slice(abi::pvh::NOTE_OWNER);
            bytes.extend_from_slice(note);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            let size = bytes.len() as u64;
            program(&mut file, PT_NOTE, 4, offset, 0, size, size);
            body.extend_from_slice(&bytes);
        }
        file.extend_from_slice(&body);
        file
    }
}

fn program(
    file: &mut Vec<u8>,
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    size: u64,
    memory: u64,
) {
    put32(file, kind);
    put32(file, flags);
    for word in [offset, address, address, size, memory, 4] {
        put64(file, word);
    }
}

fn put16(file: &mut Vec<u8>, value: u16) {
    file.extend_from_slice(&value.to_le_bytes());
}

fn put32(file: &mut Vec<u8>, value: u32) {
    file.extend_from_slice(&value.to_le_bytes());
}

fn put64(file: &mut Vec<u8>, value: u64) {
    file.extend_from_slice(&value.to_le_bytes());
}
