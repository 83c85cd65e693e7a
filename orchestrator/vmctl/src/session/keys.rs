//! Detach keys: a sequence by which the user leaves a VM and lets it go on.
//!
//! ```text
//! typed ──▶ as far in the sequence as it goes: held back
//!           something else: what was held and it ──▶ guest
//!           the end of the sequence ──▶ detached
//! ```

use std::str::FromStr;

/// A sequence of keys, as their bytes. None of them detaches where it is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys(Vec<u8>);

/// No sequence of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} are no detach keys: single letters and ctrl-LETTER with commas between, as in ctrl-p,ctrl-q; or none"
)]
pub(crate) struct KeysError(String);

impl Default for Keys {
    /// Docker's: ctrl-p, ctrl-q.
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl Keys {
    /// No keys: nothing that is typed detaches.
    pub(crate) const NONE: Self = Self(Vec::new());
}

impl FromStr for Keys {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        text.split(',')
            .map(key)
            .collect::<Option<Vec<u8>>>()
            .map(Self)
            .ok_or_else(|| KeysError(text.chars().take(100).collect()))
    }
}

fn key(text: &str) -> Option<u8> {
    if let Some(with) = text.strip_prefix("ctrl-") {
        return match with.as_bytes() {
            // What Ctrl makes of a key in ASCII.
            [b @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(b & 0x1F),
            _ => None,
        };
    }
    match text.as_bytes() {
        [b] if b.is_ascii_graphic() => Some(*b),
        _ => None,
    }
}

/// Looks for the sequence in what is typed.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: Keys,
    /// How many keys of the sequence were typed, and held back.
    seen: usize,
}

impl Watch {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys, seen: 0 }
    }

    /// Takes what was typed and appends what is the guest's to `out`; says whether the user left.
    pub(crate) fn typed(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        let keys = &self.keys.0;
        if keys.is_empty() {
            out.extend_from_slice(typed);
            return false;
        }
        for byte in typed {
            // The held keys come out from their front until what is left begins the sequence again.
            let mut held = [&keys[..self.seen], &[*byte]].concat();
            while !keys.starts_with(&held) {
                out.push(held.remove(0));
            }
            if held.len() == keys.len() {
                self.seen = 0;
                return true;
            }
            self.seen = held.len();
        }
        false
    }

    /// What is held back, when nothing more is typed.
    pub(crate) fn rest(&mut self) -> &[u8] {
        &self.keys.0[..std::mem::take(&mut self.seen)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn watch(keys: &str, typed: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut watch = Watch::new(keys.parse().unwrap());
        let mut out = Vec::new();
        let left = typed.iter().any(|part| watch.typed(part, &mut out));
        (out, left)
    }

    #[test]
    fn keys_are_read_as_dockers() {
        assert_eq!("ctrl-p,ctrl-q".parse(), Ok(Keys::default()));
        assert_eq!("ctrl-@,a,~".parse(), Ok(Keys(vec![0, b'a', b'~'])));
        assert_eq!("none".parse(), Ok(Keys(vec![])));
        for bad in [
            "",
            "ctrl-",
            "ctrl-P",
            "ctrl-pq",
            "ab",
            "a,",
            "ctrl-p, q",
            "é",
        ] {
            let error = bad.parse::<Keys>().unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn the_sequence_detaches_also_in_pieces() {
        let usual = "ctrl-p,ctrl-q";
        assert_eq!(
            watch(usual, &[b"ls\n\x10\x11more"]),
            (b"ls\n".to_vec(), true)
        );
        assert_eq!(watch(usual, &[b"a\x10", b"\x11"]), (b"a".to_vec(), true));
        assert_eq!(watch(usual, &[b"\x10\x10\x11"]), (vec![0x10], true));
        assert_eq!(watch("a,a,b", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(watch("none", &[b"\x10\x11"]), (b"\x10\x11".to_vec(), false));
    }

    #[test]
    fn a_beginning_that_does_not_go_on_is_the_guests() {
        assert_eq!(
            watch("ctrl-p,ctrl-q", &[b"\x10", b"x"]),
            (b"\x10x".to_vec(), false)
        );
        let mut held = Watch::new(Keys::default());
        let mut out = Vec::new();
        assert!(!held.typed(b"x\x10", &mut out));
        assert_eq!((out.as_slice(), held.rest()), (&b"x"[..], &b"\x10"[..]));
    }

    proptest! {
        #[test]
        fn what_has_no_sequence_in_it_goes_through_whole(
            parts in proptest::collection::vec(proptest::collection::vec(0x0Fu8..0x13, 0..6), 0..6),
        ) {
            let whole = parts.concat();
            let mut watch = Watch::new(Keys::default());
            let mut out = Vec::new();
            let left = parts.iter().any(|part| watch.typed(part, &mut out));
            match whole.windows(2).position(|w| w == [0x10, 0x11]) {
                Some(at) => prop_assert!(left && out == whole[..at]),
                None => {
                    out.extend_from_slice(watch.rest());
                    prop_assert!(!left && out == whole);
                }
            }
        }
    }
}
