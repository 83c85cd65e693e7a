//! What links and tables are called in the kernel: names from which a daemon knows its own, and only its own.
//!
//! ```text
//! bridge  sb IIIII NNNN        I: instance, N: network's index, S: VM's slot in it, all hexadecimal
//! tap     st IIIII NNNN SSSS   15 characters, which is all that the kernel takes
//! table   shoal-IIIII
//! ```

use std::fmt;
use std::path::Path;

/// Hexadecimal digits of an instance in a name.
const INSTANCE_DIGITS: usize = 5;

/// Which daemon of this host: two with different directories have different names for all they make.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance(String);

impl Instance {
    /// The instance whose directory is `directory` (an absolute one, without links, so that it is the same each time).
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        let hash = blake3::hash(directory.as_os_str().as_encoded_bytes());
        Self(hash.to_hex()[..INSTANCE_DIGITS].to_owned())
    }

    /// A number that differs between instances: where each begins to look for what is free.
    pub(crate) fn number(&self) -> u32 {
        u32::from_str_radix(&self.0, 16).unwrap_or_default()
    }

    /// The five bytes of this instance's unique local IPv6 prefix, after `fd`.
    pub(crate) fn global_id(&self) -> [u8; 5] {
        let hash = blake3::hash(self.0.as_bytes());
        let bytes = hash.as_bytes();
        [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]]
    }

    /// Its nf_tables tables.
    pub(crate) fn table(&self) -> String {
        format!("{TABLE_PREFIX}{}", self.0)
    }

    /// The bridge of a network.
    pub(crate) fn bridge(&self, network: u16) -> String {
        format!("sb{}{network:04x}", self.0)
    }

    /// The tap of a VM.
    pub(crate) fn tap(&self, network: u16, slot: u16) -> String {
        format!("st{}{network:04x}{slot:04x}", self.0)
    }

    /// Whether a link of this name can only be this instance's: a bridge of its own, or a tap.
    pub(crate) fn owns(&self, link: &str) -> bool {
        let rest = |prefix| {
            let rest: Option<&str> = link.strip_prefix(prefix);
            rest?.strip_prefix(self.0.as_str())
        };
        let digits = |text: &str, n| text.len() == n && text.bytes().all(is_digit);
        rest("sb").is_some_and(|rest| digits(rest, 4))
            || rest("st").is_some_and(|rest| digits(rest, 8))
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the tables of all instances begin with.
const TABLE_PREFIX: &str = "shoal-";

/// Whether a table of this name belongs to some instance.
pub(crate) fn is_table(name: &str) -> bool {
    name.strip_prefix(TABLE_PREFIX)
        .is_some_and(|rest| rest.len() == INSTANCE_DIGITS && rest.bytes().all(is_digit))
}

fn is_digit(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_are_known_again() {
        let one = Instance::of(Path::new("/var/lib/one"));
        let two = Instance::of(Path::new("/var/lib/two"));
        for name in [
            one.bridge(u16::MAX),
            one.tap(u16::MAX, u16::MAX),
            one.bridge(0),
            one.tap(0, 0),
        ] {
            assert!(name.len() < 16, "{name}");
            assert!(one.owns(&name), "{name}");
            assert!(!two.owns(&name), "{name}");
            assert!(!one.owns(&format!("{name}0")) && !one.owns(&name[1..]));
        }
        assert!(is_table(&one.table()) && is_table(&two.table()));
        assert!(!is_table("shoal-host") && !is_table("filter"));
    }
}
