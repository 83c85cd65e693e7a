//! The host's resolvers.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// Most resolvers that are read: those of the C library.
const MAX: usize = 3;

/// The resolvers in a file like `/etc/resolv.conf`; none where it cannot be read.
pub(crate) fn read(file: &Path) -> Vec<IpAddr> {
    parse(&fs::read_to_string(file).unwrap_or_default())
}

fn parse(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        words.next()?.parse().ok()
    });
    lines.take(MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nameservers_are_read() {
        let text = "# nameserver 1.1.1.1\nsearch x\nnameserver 192.0.2.1 \nnameserver fe80::1%eth0\nnameserver\n\tnameserver ::1\n";
        assert_eq!(
            parse(text),
            [
                "192.0.2.1".parse::<IpAddr>().unwrap(),
                "::1".parse().unwrap()
            ]
        );
    }
}
