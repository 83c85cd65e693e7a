//! What VMs are called: ids that are never used again, and names for people.

use std::fs::File;
use std::io::{self, Read};

/// Most bytes of a name.
pub const NAME_MAX: usize = 63;
/// Hexadecimal digits of an id.
pub const ID_DIGITS: usize = 12;

/// Not a name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a VM's name: 1 to {NAME_MAX} lower-case letters, digits and hyphens, not beginning with a hyphen"
)]
pub struct NameError(String);

/// Checks a name: `[a-z0-9][a-z0-9-]{0,62}`.
///
/// # Errors
/// [`NameError`], with what identifies a stranger's text and no more of it.
pub fn check(name: &str) -> Result<(), NameError> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-') {
        Ok(())
    } else {
        Err(NameError(name.chars().take(NAME_MAX + 1).collect()))
    }
}

/// A new id.
///
/// # Errors
/// The operating system's, where it gives no random bytes.
pub fn new_id() -> io::Result<String> {
    let bytes: [u8; ID_DIGITS / 2] = random()?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Whether `text` may be an id.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A name for a VM that was given none; with the id's first digits where `taken` has the two words alone.
///
/// # Errors
/// The operating system's, where it gives no random bytes.
pub fn new_name(id: &str, taken: impl Fn(&str) -> bool) -> io::Result<String> {
    let [first, second]: [u8; 2] = random()?;
    let how = HOW[usize::from(first) % HOW.len()];
    let who = WHO[usize::from(second) % WHO.len()];
    let words = format!("{how}-{who}");
    if taken(&words) {
        // The whole id: no other VM has it, so no other VM has this name.
        return Ok(format!("{words}-{id}"));
    }
    Ok(words)
}

pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

const HOW: [&str; 32] = [
    "brave", "brisk", "calm", "clever", "coral", "deep", "eager", "fair", "fleet", "gentle",
    "glad", "golden", "happy", "keen", "kind", "lively", "lucky", "mellow", "merry", "nimble",
    "patient", "proud", "quick", "quiet", "shy", "silver", "sleek", "sunny", "swift", "tidal",
    "wise", "witty",
];

const WHO: [&str; 32] = [
    "anchovy", "barbel", "bass", "bream", "carp", "char", "cod", "dab", "dace", "eel", "goby",
    "grayling", "gurnard", "hake", "herring", "ide", "ling", "loach", "mackerel", "minnow",
    "mullet", "perch", "pike", "pollack", "roach", "salmon", "smelt", "sole", "sprat", "tench",
    "trout", "wrasse",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_made_is_valid() {
        for _ in 0..100 {
            let id = new_id().unwrap();
            assert!(is_id(&id));
            check(&new_name(&id, |_| false).unwrap()).unwrap();
            let name = new_name(&id, |_| true).unwrap();
            check(&name).unwrap();
            assert!(name.ends_with(&id));
        }
    }

    #[test]
    fn odd_names_are_refused_with_the_name() {
        for bad in [
            "",
            "-a",
            "A",
            "a_b",
            "a b",
            "é",
            "a/b",
            "..",
            &"x".repeat(64),
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(check("A b").unwrap_err().to_string().contains("\"A b\""));
        check(&"x".repeat(63)).unwrap();
    }

    proptest! {
        #[test]
        fn a_valid_name_is_one_step_of_a_path(name in "\\PC{0,70}") {
            if check(&name).is_ok() {
                prop_assert!(!name.contains(['/', '.', '\0']) && name.len() <= 63);
            }
        }
    }
}
