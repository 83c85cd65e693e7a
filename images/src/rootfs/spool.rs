//! Where files' contents wait until the tree is whole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// What contents are aligned to, and what a hole is a multiple of.
const BLOCK: usize = 4096;

/// Where a file's content lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) at: u64,
    pub(crate) size: u64,
}

/// Keeps bytes, and gives them back.
pub trait Spool {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// Whatever it is made of failed.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Fills `buffer` from what was appended, `at` bytes after the beginning.
    ///
    /// # Errors
    /// As above, or there is less.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
}

/// A spool in a file, which takes no room for blocks of zeroes.
#[derive(Debug)]
pub struct FileSpool(File);

/// A spool in memory.
#[derive(Debug, Default)]
pub struct MemorySpool(Vec<u8>);

impl FileSpool {
    /// An empty file to keep bytes in.
    #[must_use]
    pub fn new(file: File) -> Self {
        Self(file)
    }
}

impl Spool for FileSpool {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        const ZEROES: [u8; BLOCK] = [0; BLOCK];
        if bytes
            .chunks(BLOCK)
            .all(|chunk| chunk == &ZEROES[..chunk.len()])
        {
            // What was never written reads as zeroes, and past the end as well: see below.
            return self
                .0
                .seek(SeekFrom::Current(bytes.len() as i64))
                .map(|_| ());
        }
        self.0.write_all(bytes)
    }

    fn read_at(&self, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.0.read_at(buffer, at) {
                // A hole at the end.
                Ok(0) => {
                    buffer.fill(0);
                    break;
                }
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    at += read as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Spool for MemorySpool {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.0.get(at..));
        from.ok_or(io::ErrorKind::UnexpectedEof)?.read_exact(buffer)
    }
}
