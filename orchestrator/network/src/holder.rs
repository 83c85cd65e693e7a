//! Who has a port of this host, for the error that says so.

use std::fs;
use std::path::Path;

use crate::port::{Protocol, Published};

/// The program that has a port, as well as can be told.
pub(crate) fn of(port: &Published) -> String {
    let tables = match port.protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
    };
    let inode = tables.iter().find_map(|table| {
        // Of this thread's network namespace, which need not be its process's.
        let text = fs::read_to_string(Path::new("/proc/thread-self/net").join(table)).ok()?;
        inode(&text, port.host.get())
    });
    let program = inode.and_then(program);
    program.unwrap_or_else(|| "a program that cannot be named".to_owned())
}

/// The inode of the socket that is bound to a port, in the text of `/proc/net/tcp` and its like.
fn inode(text: &str, port: u16) -> Option<u64> {
    text.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (_, local) = words.nth(1)?.rsplit_once(':')?;
        let same = u16::from_str_radix(local, 16).ok()? == port;
        let inode = words.nth(7)?.parse().ok()?;
        (same && inode != 0).then_some(inode)
    })
}

/// The program that holds a socket, and its process.
fn program(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .bytes()
                .all(|b| b.is_ascii_digit())
        })
        .find_map(|entry| {
            let mut files = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
            files.find(|file| {
                fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str())
            })?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            Some(format!(
                "{} (process {})",
                name.trim_end(),
                entry.file_name().to_string_lossy()
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_its_port() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                    0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100\n";
        assert_eq!(inode(text, 8080), Some(4242));
        assert_eq!(inode(text, 8081), None);
        assert_eq!(inode("", 1), None);
        assert_eq!(inode("x\ny z\n", 1), None);
    }
}
