//! A network of a test's own: what it starts has no other devices, addresses, packet filters or connections than its own.

use std::io;
use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Runs `body` in a new network namespace, with a loopback device. Its threads and programs are there too.
///
/// # Panics
/// When this is not root, or `body` panics.
pub fn own<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: this thread is new and has no sockets; of what threads share, only the network is another.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("root has networks of its own");
            ip("link set lo up");
            body()
        });
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Runs the program `ip`, which must succeed, and gives what it printed.
///
/// # Panics
/// When it fails.
pub fn ip(words: &str) -> String {
    said(Command::new("ip").args(words.split(' ')).output(), words)
}

/// What stands in this thread's network: devices, addresses, rules, packet filters, and settings that are not as they were in
/// a new one. Not its connections, which come and go by themselves.
///
/// # Panics
/// When it cannot be told.
#[must_use]
pub fn stands() -> String {
    let filters = Command::new("nft").args(["list", "ruleset"]).output();
    let forwarding = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]
        .map(|name| std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap_or_default());
    [
        ip("-brief link"),
        ip("-brief address"),
        ip("route show table all"),
        said(filters, "nft list ruleset"),
        forwarding.concat(),
    ]
    .join("--\n")
}

/// The connections that this thread's network remembers, one a line.
///
/// # Panics
/// When it cannot be told.
#[must_use]
pub fn connections() -> String {
    // `/proc/net` would be that of the process's first thread.
    std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").expect("connections are tracked")
}

fn said(output: io::Result<std::process::Output>, what: &str) -> String {
    let output = output.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(
        output.status.success(),
        "{what}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
