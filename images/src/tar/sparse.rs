//! Files with holes: where the data goes that lies together in the archive.

use super::{TarError, pax};

/// Most pieces of one file.
const MAX_SEGMENTS: usize = 1 << 16;
/// Most bytes of a line in a map that is text: a number of 64 bits has twenty digits.
const MAX_LINE: usize = 20;

/// What is at a place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Data,
    Hole,
}

/// Where in a file its data is, and how far it was read.
#[derive(Debug, Default)]
pub(super) struct Map {
    /// Offset and length, ascending, not touching one another, within the size.
    data: Vec<(u64, u64)>,
    size: u64,
    at: u64,
    /// The first of `data` that does not end before `at`.
    next: usize,
    plain: bool,
}

impl Map {
    /// A file without holes.
    pub(super) fn plain(size: u64) -> Self {
        Self {
            data: vec![(0, size)],
            size,
            plain: true,
            ..Self::default()
        }
    }

    /// A file with holes, `stored` bytes of which are in the archive.
    pub(super) fn sparse(data: Vec<(u64, u64)>, size: u64, stored: u64) -> Result<Self, TarError> {
        let mut end = 0;
        let mut sum = 0_u64;
        for &(offset, length) in &data {
            let after = offset.checked_add(length).ok_or(TarError::Sparse)?;
            if offset < end || after > size {
                return Err(TarError::Sparse);
            }
            end = after;
            sum += length;
        }
        if sum != stored || size > i64::MAX as u64 / 2 {
            return Err(TarError::Sparse);
        }
        Ok(Self {
            data,
            size,
            ..Self::default()
        })
    }

    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Bytes of the file, holes among them.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// What comes next, and how much of it; none at the end.
    pub(super) fn here(&mut self) -> Option<(Segment, u64)> {
        while let Some(&(offset, length)) = self.data.get(self.next) {
            if self.at < offset {
                return Some((Segment::Hole, offset - self.at));
            }
            if self.at < offset + length {
                return Some((Segment::Data, offset + length - self.at));
            }
            self.next += 1;
        }
        (self.at < self.size).then(|| (Segment::Hole, self.size - self.at))
    }

    pub(super) fn advance(&mut self, by: u64) {
        self.at += by;
    }
}

/// Adds the pieces of one GNU header; says whether another header follows.
pub(super) fn gnu_segments(
    segments: &mut Vec<(u64, u64)>,
    headers: &[tar::GnuSparseHeader],
    more: bool,
) -> Result<bool, TarError> {
    for header in headers.iter().filter(|h| !h.is_empty()) {
        let offset = header.offset().map_err(TarError::Number)?;
        let length = header.length().map_err(TarError::Number)?;
        segments.push((offset, length));
    }
    if segments.len() > MAX_SEGMENTS {
        return Err(TarError::Sparse);
    }
    Ok(more)
}

/// Offsets and lengths, one after the other.
pub(super) fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, TarError> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > MAX_SEGMENTS {
        return Err(TarError::Sparse);
    }
    Ok(pairs
        .iter()
        .map(|&[offset, length]| (offset, length))
        .collect())
}

/// A map that is text: how many pieces, then the offset and the length of each, a number a line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn is_whole(&self) -> Result<bool, TarError> {
        match self.numbers.first() {
            None => Ok(false),
            Some(&count) if count > MAX_SEGMENTS as u64 => Err(TarError::Sparse),
            Some(&count) => Ok(self.numbers.len() as u64 > 2 * count),
        }
    }

    /// Takes a block; what is in it after the map is padding.
    pub(super) fn feed(&mut self, block: &[u8]) -> Result<(), TarError> {
        for &byte in block {
            if self.is_whole()? {
                break;
            }
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.numbers
                    .push(pax::number(&line).map_err(|_| TarError::Sparse)?);
            } else if self.line.len() < MAX_LINE {
                self.line.push(byte);
            } else {
                return Err(TarError::Sparse);
            }
        }
        Ok(())
    }

    pub(super) fn segments(self) -> Result<Vec<(u64, u64)>, TarError> {
        let count = self.numbers.first().map_or(0, |&count| count as usize);
        pairs(&self.numbers[1..=2 * count])
    }
}
