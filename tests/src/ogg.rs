//! Ogg streams as a listener gets them: pages, numbered in order (RFC 3533).

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// What a listener heard.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// How many pages came, each with the number after the last one's.
    pub pages: usize,
}

/// How long nothing may come: a player has that much of the stream in hand.
const SILENCE: Duration = Duration::from_secs(4);

/// Listens for so many `seconds` of a stream.
///
/// # Errors
/// Where a page is missing or is none, where nothing came for longer than a player can bridge, or the stream ends.
pub fn listen(mut stream: impl Read, seconds: f64) -> io::Result<Heard> {
    let begun = Instant::now();
    let mut last: Option<(u32, u32)> = None;
    let mut pages = 0;
    let mut jumps = 0;
    while begun.elapsed().as_secs_f64() < seconds {
        let waited = Instant::now();
        let page = Page::read(&mut stream)?;
        if waited.elapsed() > SILENCE {
            let silence = waited.elapsed();
            return Err(io::Error::other(format!("nothing came for {silence:?}")));
        }
        pages += 1;
        // A listener gets the headers first and joins the stream where it is; from there on no number is left out.
        let Some((serial, number)) = last.replace((page.serial, page.number)) else {
            continue;
        };
        let follows = serial != page.serial || page.number == number.wrapping_add(1);
        jumps += usize::from(!follows);
        if jumps > 1 {
            let said = format!("page {} follows page {number}", page.number);
            return Err(io::Error::other(said));
        }
    }
    Ok(Heard { pages })
}

struct Page {
    serial: u32,
    number: u32,
}

impl Page {
    /// Reads one page: header, lengths of its segments, and those.
    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; 27];
        from.read_exact(&mut header)?;
        if !header.starts_with(b"OggS\0") {
            let said = format!("no page begins with {:?}", header[..5].escape_ascii());
            return Err(io::Error::other(said));
        }
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| header[at + n]));
        let mut lengths = [0; 255];
        let lengths = &mut lengths[..usize::from(header[26])];
        from.read_exact(lengths)?;
        let size: usize = lengths.iter().map(|length| usize::from(*length)).sum();
        let mut body = vec![0; size];
        from.read_exact(&mut body)?;
        Ok(Self {
            serial: word(14),
            number: word(18),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u32) -> Vec<u8> {
        let mut page = b"OggS\0\0".to_vec();
        page.extend([0; 8]);
        page.extend(7_u32.to_le_bytes());
        page.extend(number.to_le_bytes());
        page.extend([0; 4]);
        page.extend([2, 3, 1, 9, 9, 9, 9]);
        page
    }

    #[test]
    fn a_missing_page_is_noticed_after_the_one_where_a_listener_joins() {
        let stream = |numbers: &[u32]| numbers.iter().flat_map(|n| page(*n)).collect::<Vec<u8>>();
        let ended = |numbers: &[u32]| listen(&stream(numbers)[..], 60.0).unwrap_err().kind();
        // All is heard until the end, which is no gap.
        assert_eq!(ended(&[0, 1, 40, 41, 42]), io::ErrorKind::UnexpectedEof);
        assert_eq!(ended(&[0, 1, 40, 42]), io::ErrorKind::Other);
    }
}
