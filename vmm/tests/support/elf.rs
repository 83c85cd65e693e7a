//! ELF files to order, and to spoil.

/// Where code is put, and entered.
pub(crate) const CODE: u64 = 0x10_0000;

/// A program header.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) file_size: u64,
    pub(crate) memory_size: u64,
}

/// A file with a header, program headers, a PVH note and code.
#[derive(Clone)]
pub(crate) struct Elf {
    pub(crate) header: [u8; 64],
    pub(crate) programs: Vec<Program>,
    pub(crate) note: Vec<u8>,
    pub(crate) code: Vec<u8>,
}

/// Where the note and then the code are in the file.
pub(crate) const NOTE_OFFSET: u64 = 0x400;
pub(crate) const CODE_OFFSET: u64 = 0x1000;

impl Elf {
    pub(crate) fn of_code(code: &[u8]) -> Self {
        let mut header = [0; 64];
        header[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        header[16..18].copy_from_slice(&2_u16.to_le_bytes()); // ET_EXEC
        header[18..20].copy_from_slice(&62_u16.to_le_bytes()); // EM_X86_64
        header[20..24].copy_from_slice(&1_u32.to_le_bytes());
        header[32..40].copy_from_slice(&64_u64.to_le_bytes()); // e_phoff
        header[52..54].copy_from_slice(&64_u16.to_le_bytes()); // e_ehsize
        header[54..56].copy_from_slice(&56_u16.to_le_bytes()); // e_phentsize
        let note = [
            &4_u32.to_le_bytes()[..],
            &4_u32.to_le_bytes(),
            &18_u32.to_le_bytes(),
            b"Xen\0",
            &(CODE as u32).to_le_bytes(),
        ]
        .concat();
        Self {
            header,
            programs: vec![
                Program {
                    kind: 1,
                    flags: 7,
                    offset: CODE_OFFSET,
                    address: CODE,
                    file_size: code.len() as u64,
                    memory_size: code.len() as u64 + 0x1000,
                },
                Program {
                    kind: 4,
                    flags: 4,
                    offset: NOTE_OFFSET,
                    address: 0,
                    file_size: note.len() as u64,
                    memory_size: note.len() as u64,
                },
            ],
            note,
            code: code.to_vec(),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_vec();
        bytes[56..58].copy_from_slice(&(self.programs.len() as u16).to_le_bytes());
        for program in &self.programs {
            bytes.extend(program.kind.to_le_bytes());
            bytes.extend(program.flags.to_le_bytes());
            for word in [
                program.offset,
                program.address,
                program.address,
                program.file_size,
                program.memory_size,
                0,
            ] {
                bytes.extend(word.to_le_bytes());
            }
        }
        bytes.resize(NOTE_OFFSET as usize, 0);
        bytes.extend(&self.note);
        bytes.resize(CODE_OFFSET as usize, 0);
        bytes.extend(&self.code);
        bytes
    }
}
