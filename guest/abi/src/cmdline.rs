//! The command line, in Linux's form: words parted by spaces, `"` for a word with spaces in it.
//!
//! ```text
//! libos.timing=1 HOME=/ virtio_mmio.device=4K@0xd0000000:5 -- serve "two words"
//! '-- for the OS -'  env  '--------- a device ----------'    '-- arguments --'
//! ```
//!
//! What precedes `--` is for the operating system: words it knows are options, other `KEY=value` words are
//! the program's environment. What follows is the program's arguments. `virtio_mmio.device=` words
//! are devices wherever they stand, because some monitors append them at the very end; an argument that looks like
//! one is quoted.
//!
//! A word in quotes may hold anything but `"` and NUL; inside quotes a backslash before `"` or `\` makes it literal.

use core::fmt;

/// Opens a device word.
pub const DEVICE_KEY: &str = "virtio_mmio.device=";
/// Parts the operating system's words from the program's arguments.
pub const ARGUMENTS: &str = "--";

/// Where a virtio-mmio device is: `virtio_mmio.device=<size>@<base>:<gsi>`, as Linux reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Guest-physical address of its registers.
    pub base: u64,
    /// Bytes of its registers.
    pub size: u64,
    /// Interrupt line.
    pub gsi: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DEVICE_KEY}{}@{:#x}:{}", self.size, self.base, self.gsi)
    }
}

impl Device {
    /// Reads one word of a command line; `None` where it is no device or a malformed one.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let (size, rest) = word.strip_prefix(DEVICE_KEY)?.split_once('@')?;
        // Linux allows a fourth field, the device's id: it means nothing here.
        let mut fields = rest.split(':');
        let (base, gsi) = (fields.next()?, fields.next()?);
        Some(Self {
            base: number(base)?,
            size: number(size)?,
            gsi: u32::try_from(number(gsi)?).ok()?,
        })
    }
}

/// A number as Linux's `memparse` reads it: decimal or `0x`, with an optional `K`, `M` or `G`.
fn number(text: &str) -> Option<u64> {
    let (digits, scale) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let value = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    value.checked_mul(1 << scale)
}

/// A word written so that [`words`] gives it back: in quotes where it needs them.
///
/// The word must hold no NUL: that ends the whole command line.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let plain = |c: char| !c.is_ascii_whitespace() && c != '"' && c != '\\';
        let special = self.0.is_empty() || self.0 == ARGUMENTS || self.0.starts_with(DEVICE_KEY);
        if !special && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        f.write_char('"')
    }
}

/// One word as it stands in the command line, quotes and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a>(&'a str);

impl<'a> Word<'a> {
    /// The word as written.
    #[must_use]
    pub fn raw(self) -> &'a str {
        self.0
    }

    /// The characters that the word stands for.
    pub fn chars(self) -> impl Iterator<Item = char> + 'a {
        let mut quoted = false;
        let mut rest = self.0.chars();
        core::iter::from_fn(move || {
            loop {
                match rest.next()? {
                    '"' => quoted = !quoted,
                    '\\' if quoted => return rest.next(),
                    c => return Some(c),
                }
            }
        })
    }
}

/// The words of a command line, in order. An unclosed quote runs to the end.
pub fn words(line: &str) -> impl Iterator<Item = Word<'_>> {
    let mut rest = line;
    core::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
        if rest.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = rest
            .find(|c: char| {
                if escaped {
                    escaped = false;
                } else {
                    match c {
                        '"' => quoted = !quoted,
                        '\\' if quoted => escaped = true,
                        c => return !quoted && c.is_ascii_whitespace(),
                    }
                }
                false
            })
            .unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        rest = tail;
        Some(Word(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{format, string::String, vec::Vec};

    #[test]
    fn a_device_is_read_as_linux_reads_it() {
        let device = Device {
            base: 0xD000_0000,
            size: 4096,
            gsi: 5,
        };
        assert_eq!(
            Device::parse("virtio_mmio.device=4K@0xd0000000:5"),
            Some(device)
        );
        assert_eq!(
            Device::parse("virtio_mmio.device=4096@0xd0000000:5:7"),
            Some(device)
        );
        assert_eq!(Device::parse(&format!("{device}")), Some(device));
        for bad in [
            "",
            "4K@0xd0000000:5",
            "virtio_mmio.device=@:",
            "virtio_mmio.device=99999999999G@0:1",
        ] {
            assert_eq!(Device::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_unclosed_quote_runs_to_the_end() {
        let got: Vec<String> = words("a \"b c").map(|w| w.chars().collect()).collect();
        assert_eq!(got, ["a", "b c"]);
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(list in proptest::collection::vec("[^\0]*", 0..8)) {
            let line = list.iter().map(|w| format!("{}", Quoted(w))).collect::<Vec<_>>().join(" ");
            let back: Vec<String> = words(&line).map(|w| w.chars().collect()).collect();
            prop_assert_eq!(back, list);
        }

        #[test]
        fn a_quoted_argument_is_never_the_separator_or_a_device(word in "[^\0]*") {
            let line = format!("{}", Quoted(&word));
            let first = words(&line).next().unwrap();
            prop_assert_ne!(first.raw(), ARGUMENTS);
            prop_assert!(Device::parse(first.raw()).is_none());
        }

        #[test]
        fn any_line_is_read_to_its_end(line in ".*") {
            for word in words(&line) {
                let _ = Device::parse(word.raw());
                word.chars().for_each(drop);
            }
        }
    }
}
