//! Reading a VM's console log while its monitor writes it.
//!
//! The log only grows at its end, and its beginning becomes a hole once there is more than is kept. A reader that the hole
//! overtakes goes on behind it: it loses what is lost, and never holds up the monitor.
//!
//! ```text
//! 0          first byte that is left      position of a reader          end
//! |~~~~hole~~~~|==============================|========================|--> grows
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::SeekFrom;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// A place in a console's log.
#[derive(Debug)]
pub struct ConsoleReader {
    file: File,
    at: u64,
}

impl ConsoleReader {
    /// Begins at the first byte that is left, or so that `tail` lines follow.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(path: &Path, tail: Option<u64>) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut reader = Self { file, at: 0 };
        if let Some(lines) = tail {
            reader.at = reader.tail(lines)?;
        }
        Ok(reader)
    }

    /// The next bytes; empty at the end, for now.
    ///
    /// # Errors
    /// The operating system's.
    pub fn read_on(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; CHUNK];
        loop {
            let Some(from) = self.kept(self.at)? else {
                return Ok(Vec::new());
            };
            let read = self.file.read_at(&mut bytes, from)?;
            // The hole may have come while this read: then some of it are zeros that nobody wrote.
            if self.kept(from)? == Some(from) {
                bytes.truncate(read);
                self.at = from + read as u64;
                return Ok(bytes);
            }
            self.at = from;
        }
    }

    /// The first byte at or after `at` that is left; `None` at the end.
    fn kept(&self, at: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
            Ok(from) => Ok(Some(from)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Where the last `lines` lines begin.
    fn tail(&self, lines: u64) -> io::Result<u64> {
        let end = self.file.metadata()?.len();
        if lines == 0 {
            return Ok(end);
        }
        let first = self.kept(0)?.unwrap_or(0);
        let mut left = lines;
        let mut block = vec![0; CHUNK];
        let mut to = end;
        while to > first {
            let from = to.saturating_sub(CHUNK as u64).max(first);
            let part = &mut block[..usize::try_from(to - from).unwrap_or(CHUNK)];
            self.file.read_exact_at(part, from)?;
            for (index, byte) in part.iter().enumerate().rev() {
                let after = from + index as u64 + 1;
                // The end of the last line opens no line.
                if *byte == b'\n' && after != end {
                    left -= 1;
                    if left == 0 {
                        return Ok(after);
                    }
                }
            }
            to = from;
        }
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::fs::{FallocateFlags, fallocate};
    use std::io::Write;

    fn log(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn all(reader: &mut ConsoleReader) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            match reader.read_on().unwrap() {
                next if next.is_empty() => return bytes,
                next => bytes.extend(next),
            }
        }
    }

    fn punch(file: &tempfile::NamedTempFile, to: u64) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(file.as_file(), flags, 0, to).unwrap();
    }

    #[test]
    fn what_is_added_is_read_on() {
        let mut file = log(b"one\n");
        let mut reader = ConsoleReader::open(file.path(), None).unwrap();
        assert_eq!(all(&mut reader), b"one\n");
        file.write_all(b"two\n").unwrap();
        assert_eq!(all(&mut reader), b"two\n");
        assert_eq!(all(&mut reader), b"");
    }

    #[test]
    fn a_hole_is_stepped_over_also_when_it_overtakes() {
        let content: Vec<u8> = (0..40_000)
            .flat_map(|n| format!("{n:7}\n").into_bytes())
            .collect();
        let file = log(&content);
        let mut late = ConsoleReader::open(file.path(), None).unwrap();
        assert_eq!(late.read_on().unwrap(), content[..CHUNK]);
        punch(&file, 128 << 10);
        let fresh = all(&mut ConsoleReader::open(file.path(), None).unwrap());
        assert_eq!(fresh, content[128 << 10..]);
        assert_eq!(all(&mut late), content[128 << 10..]);
        let mut tail = ConsoleReader::open(file.path(), Some(1_000_000)).unwrap();
        assert_eq!(all(&mut tail), content[128 << 10..]);
    }

    proptest! {
        #[test]
        fn a_tail_is_the_last_lines(text in "([a-c]{0,3}\n){0,9}[a-c]{0,3}", lines in 0..12_u64) {
            let file = log(text.as_bytes());
            let read = all(&mut ConsoleReader::open(file.path(), Some(lines)).unwrap());
            let list: Vec<&str> = text.split_inclusive('\n').collect();
            let from = list.len().saturating_sub(usize::try_from(lines).unwrap());
            prop_assert_eq!(String::from_utf8(read).unwrap(), list[from..].concat());
        }
    }
}
